//! A FaultPolicy on live traffic: whom it befalls, and that nobody takes it for a real failure.

use serde_json::Value;

use crate::support::{Mesh, text};

const HELLO: &str = include_str!("../../../../examples/hello/hello.yaml");

const POLICY: &str = "\
apiVersion: tacit.dev/v1alpha1
kind: FaultPolicy
metadata: {name: chaos, namespace: shop}
spec:
  targetRefs: [{group: '', kind: Service, name: hello}]
  from: [{serviceAccounts: [web]}]
  until: 2099-01-31T00:00:00Z
  abort: {status: 503, sharePercent: 40}
";

/// So many requests, one after the other: how many were answered 200 and 503.
fn requests(mesh: &Mesh, identity: &str, count: usize) -> (usize, usize) {
    let url = format!("http://hello.shop/?[1-{count}]");
    let curl = [
        "curl",
        "-s",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}\n",
        &url,
    ];
    let said = text(&mesh.call(identity, &curl).stdout);
    let of = |status: &str| said.lines().filter(|line| *line == status).count();
    assert_eq!(said.lines().count(), count, "{said}");
    (of("200"), of("503"))
}

/// The metrics that count what was done on purpose.
fn counted(mesh: &Mesh) -> (usize, usize) {
    let found = mesh.metrics();
    let sum = |start: &str, part: &str| {
        let lines = found.lines();
        let lines = lines.filter(|line| line.starts_with(start) && line.contains(part));
        let counts = lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<usize>().ok());
        counts.sum()
    };
    (
        sum("tacit_faults_injected_total{fault=\"abort\"}", ""),
        sum(
            "istio_requests_total{",
            "response_code=\"503\",response_flags=\"INJECTED\"",
        ),
    )
}

#[test]
fn a_share_of_some_callers_fails_on_purpose_and_all_of_it_says_so() {
    let mesh = Mesh::up(&[("hello.yaml", HELLO)]);
    mesh.machine.write("www/index.html", "hello\n").unwrap();
    let server = ["--as", "shop/hello", "--port", "http:8080", "--"];
    let python = ["python3", "-m", "http.server", "8080", "--directory", "www"];
    let _server = mesh.start(&[&server[..], &python].concat());
    let _web = mesh.start(&["--as", "shop/web", "--name", "web", "--", "sleep", "300"]);
    mesh.wait_for_url("http://hello.shop/");
    // The control: without the policy nobody fails.
    assert_eq!(requests(&mesh, "shop/web", 100), (100, 0));
    assert_eq!(counted(&mesh), (0, 0));

    mesh.put("fault.yaml", POLICY, ("FaultPolicy", "shop/chaos"));
    let (served, failed) = requests(&mesh, "shop/web", 300);
    assert!((80..160).contains(&failed), "{failed} of 300");
    assert_eq!(served + failed, 300);
    // Another caller is not meant.
    assert_eq!(requests(&mesh, "shop/batch", 100), (100, 0));
    assert_eq!(counted(&mesh), (failed, failed));
    let log = mesh
        .machine
        .command("cat", &["/run/tacit/default/access.log"]);
    let log = text(&{ log }.output().unwrap().stdout);
    let lines = log.lines().map(|line| serde_json::from_str(line).unwrap());
    let on_purpose = lines.filter(|line: &Value| line["ending"] == "injected");
    let on_purpose: Vec<Value> = on_purpose.collect();
    assert_eq!(on_purpose.len(), failed);
    assert_eq!(
        on_purpose[0]["injected"]["by"][0],
        "FaultPolicy/shop/chaos spec.abort"
    );

    // All of them, and what a person sees of one.
    let always = POLICY.replace("sharePercent: 40", "sharePercent: 100");
    mesh.machine.write("mesh/fault.yaml", &always).unwrap();
    let all_fail = || requests(&mesh, "shop/web", 20) == (0, 20);
    mesh.machine.wait_for("the change", all_fail).unwrap();
    let answer = mesh.call("shop/web", &["curl", "-si", "http://hello.shop/"]);
    let answer = text(&answer.stdout);
    let told = "answered 503 on purpose (FaultPolicy/shop/chaos spec.abort)";
    assert!(
        answer.contains(&format!("x-tacit-fault: {told}")),
        "{answer}"
    );
    let why = text(&mesh.run(&["why", "shop/web", "http://hello.shop/"]).stdout);
    assert!(
        why.contains("100 % of requests are answered 503, on purpose")
            && why.contains("fault.yaml:8:"),
        "{why}"
    );
    let why = text(
        &mesh
            .run(&["why", "shop/hello", "http://hello.shop/"])
            .stdout,
    );
    assert!(!why.contains("on purpose"), "{why}");

    // One that is over does nothing, whatever its share.
    let over = always.replace("2099-", "2001-");
    mesh.machine.write("mesh/fault.yaml", &over).unwrap();
    let none_fails = || requests(&mesh, "shop/web", 20) == (20, 0);
    mesh.machine.wait_for("its end", none_fails).unwrap();
}

//! A RateLimitPolicy on live traffic: how many requests pass, and what the others are told.

use crate::support::{Mesh, text};

const HELLO: &str = include_str!("../../../../examples/hello/hello.yaml");

const POLICY: &str = "\
apiVersion: tacit.dev/v1alpha1
kind: RateLimitPolicy
metadata: {name: calm, namespace: shop}
spec:
  targetRefs: [{group: '', kind: Service, name: hello}]
  limits: [{requests: 5, per: 1h, key: [{type: Identity}]}]
";

/// Twelve requests, one after the other: how many were answered 200 and 429.
fn twelve(mesh: &Mesh, identity: &str) -> (usize, usize) {
    let form = ["-s", "-o", "/dev/null", "-w", "%{http_code}\n"];
    let curl = [&["curl"], &form[..], &["http://hello.shop/?[1-12]"]].concat();
    let said = text(&mesh.call(identity, &curl).stdout);
    let count = |status: &str| said.lines().filter(|line| *line == status).count();
    assert_eq!(said.lines().count(), 12, "{said}");
    (count("200"), count("429"))
}

/// The sum of a metric of one reporter.
fn counted(mesh: &Mesh, reporter: &str) -> u32 {
    let start = format!("tacit_rate_limited_total{{reporter=\"{reporter}\"}} ");
    let found = mesh.metrics();
    let mut lines = found.lines().filter_map(|line| line.strip_prefix(&start));
    lines.next().map_or(0, |count| count.parse().unwrap())
}

#[test]
fn what_is_above_the_rate_gets_429_and_what_is_below_gets_200() {
    let mesh = Mesh::up(&[("hello.yaml", HELLO)]);
    mesh.machine.write("www/index.html", "hello\n").unwrap();
    let server = ["--as", "shop/hello", "--port", "http:8080", "--"];
    let python = ["python3", "-m", "http.server", "8080", "--directory", "www"];
    let _server = mesh.start(&[&server[..], &python].concat());
    let _web = mesh.start(&["--as", "shop/web", "--name", "web", "--", "sleep", "300"]);
    mesh.wait_for_url("http://hello.shop/");
    // The control: without the policy all pass.
    assert_eq!(twelve(&mesh, "shop/web"), (12, 0));
    assert_eq!(counted(&mesh, "destination"), 0);

    mesh.put("rate.yaml", POLICY, ("RateLimitPolicy", "shop/calm"));
    assert_eq!(twelve(&mesh, "shop/web"), (5, 7));
    // Another caller has a bucket of its own, however many of its workloads call.
    assert_eq!(twelve(&mesh, "shop/batch"), (5, 7));
    assert_eq!(twelve(&mesh, "shop/web"), (0, 12));
    assert_eq!(counted(&mesh, "destination"), 26);
    assert_eq!(counted(&mesh, "source"), 26);

    let answer = mesh.call("shop/web", &["curl", "-si", "http://hello.shop/"]);
    let told = text(&answer.stdout);
    for part in [
        "retry-after: ",
        "x-tacit-refusal: ",
        "takes at most 5 requests per 3600s, 5 at once, for each caller",
        "RateLimitPolicy/shop/calm spec.limits[0]",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let why = mesh.run(&["why", "shop/web", "http://hello.shop/"]);
    let why = text(&why.stdout);
    assert!(
        why.contains("at most 5 requests per 3600s") && why.contains("rate.yaml:6:"),
        "{why}"
    );

    // Without the policy, all pass again.
    mesh.machine.write("mesh/rate.yaml", "").unwrap();
    let all_pass = || twelve(&mesh, "shop/web") == (12, 0);
    mesh.machine.wait_for("the policy to go", all_pass).unwrap();
}

//! The three commands of the README, and that nothing is left behind.

use crate::support::{Mesh, text};

const HELLO: &str = include_str!("../../../../examples/hello/hello.yaml");

#[test]
fn a_stock_client_calls_a_stock_server_by_name() {
    let mesh = Mesh::up(&[("hello.yaml", HELLO)]);
    mesh.machine
        .write("www/index.html", "hello from the mesh\n")
        .unwrap();
    let server = [
        "--as",
        "shop/hello",
        "--port",
        "http:8080",
        "--",
        "python3",
        "-m",
    ];
    let server = [&server[..], &["http.server", "8080", "--directory", "www"]].concat();
    let _server = mesh.start(&server);
    mesh.wait_for_url("http://hello.shop/");
    for url in ["http://hello.shop/", "http://hello.shop.svc.cluster.local/"] {
        let answer = mesh.call("shop/web", &["curl", "-s", "-m", "5", url]);
        assert_eq!(
            text(&answer.stdout),
            "hello from the mesh\n",
            "{url}: {answer:?}"
        );
    }
    // A short name is of the caller's namespace.
    let answer = mesh.call("shop/web", &["curl", "-s", "-m", "5", "http://hello/"]);
    assert_eq!(text(&answer.stdout), "hello from the mesh\n", "{answer:?}");
    let absent = mesh.call(
        "shop/web",
        &["curl", "-s", "-m", "5", "http://nobody.shop/"],
    );
    assert_eq!(
        absent.status.code(),
        Some(6),
        "curl: could not resolve host; {absent:?}"
    );
}

#[test]
fn down_leaves_no_link_no_rule_and_no_process() {
    let mut mesh = Mesh::up(&[("hello.yaml", HELLO)]);
    let server = mesh.start(&[
        "--as",
        "shop/hello",
        "--port",
        "http:8080",
        "--",
        "sleep",
        "60",
    ]);
    let links = || {
        text(
            &mesh
                .machine
                .command("ip", &["-o", "link"])
                .output()
                .unwrap()
                .stdout,
        )
    };
    mesh.machine
        .wait_for("the workload's link", || links().lines().count() > 1)
        .unwrap();
    let down = mesh.run(&["down"]);
    assert!(down.status.success(), "{down:?}");
    assert_eq!(links().lines().count(), 1, "only loopback: {}", links());
    let rules = mesh
        .machine
        .command("nft", &["list", "tables"])
        .output()
        .unwrap();
    assert_eq!(text(&rules.stdout), "", "no table is left");
    let processes = mesh
        .machine
        .command("ps", &["-eo", "comm="])
        .output()
        .unwrap();
    let left = text(&processes.stdout);
    // Nothing on this machine reaps what a process leaves behind.
    let ours = |name: &str| name.starts_with("tacit") || name.starts_with("nft");
    assert!(!left.lines().any(ours), "{left}");
    let (up_ended_well, _) = mesh.up.take().unwrap().finish().unwrap();
    assert!(up_ended_well);
    drop(server);
}

#[test]
fn a_second_up_says_who_holds_the_mesh() {
    let mesh = Mesh::up(&[]);
    let second = mesh.run(&["up", "-f", "mesh"]);
    assert_eq!(second.status.code(), Some(1));
    let said = text(&second.stderr);
    assert!(said.contains("held up already by process"), "{said}");
    assert!(mesh.run(&["status"]).status.success(), "the first goes on");
}

#[test]
fn programs_that_follow_each_other_all_have_their_certificate() {
    let mesh = Mesh::up(&[("hello.yaml", HELLO)]);
    let server = ["--as", "shop/hello", "--port", "http:8080", "--"];
    let _server = mesh.start(&[&server[..], &["python3", "-m", "http.server", "8080"]].concat());
    mesh.wait_for_url("http://hello.shop/");
    // Each one begins while others of the same identity end.
    let script = format!(
        "calls() {{ for i in $(seq 40); do
             {} run --as shop/web -- curl -s -o /dev/null -w '%{{http_code}} ' http://hello.shop/
         done; }}
         calls & calls; wait",
        mesh.machine.binary().display()
    );
    let script = ["-c", &script];
    let done = mesh.machine.command("sh", &script).output().unwrap();
    assert_eq!(text(&done.stdout), "200 ".repeat(80), "{done:?}");
}

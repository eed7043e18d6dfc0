//! What people see of a call: metrics in Istio's names, and an access log line at both ends.

use serde_json::Value;

use crate::support::{Mesh, text};

const HELLO: &str = include_str!("../../../../examples/hello/hello.yaml");

/// A mesh with a server that was called once by `shop/web`.
fn called_once() -> (Mesh, tacit_lab::Running) {
    let mesh = Mesh::up(&[("hello.yaml", HELLO)]);
    mesh.machine.write("www/index.html", "hello\n").unwrap();
    let server = ["--as", "shop/hello", "--port", "http:8080", "--"];
    let python = ["python3", "-m", "http.server", "8080", "--directory", "www"];
    let server = mesh.start(&[&server[..], &python].concat());
    mesh.wait_for_url("http://hello.shop/");
    let answer = mesh.call("shop/web", &["curl", "-s", "http://hello.shop/once"]);
    assert!(text(&answer.stdout).contains("404"), "{answer:?}");
    (mesh, server)
}

#[test]
fn both_ends_count_with_istios_labels() {
    let (mesh, _server) = called_once();
    let labels = [
        "source_workload_namespace=\"shop\"",
        "source_principal=\"spiffe://cluster.local/ns/shop/sa/web\"",
        "destination_canonical_service=\"hello\"",
        "destination_service=\"hello.shop.svc.cluster.local\"",
        "destination_service_name=\"hello\"",
        "connection_security_policy=\"mutual_tls\"",
        "request_protocol=\"http\"",
        "response_code=\"404\"",
        "response_flags=\"-\"",
    ];
    for reporter in ["source", "destination"] {
        let reporter = format!("reporter=\"{reporter}\"");
        for name in [
            "istio_requests_total",
            "istio_request_duration_milliseconds_count",
        ] {
            let text = mesh.metrics();
            let mut lines = text.lines().filter(|line| {
                line.starts_with(name)
                    && line.contains(&reporter)
                    && labels.iter().all(|label| line.contains(label))
            });
            let line = lines.next().unwrap_or_default();
            assert!(line.ends_with(" 1"), "{name} {reporter}: {line}\n{text}");
        }
    }
}

#[test]
fn both_ends_log_one_line_with_one_id() {
    let (mesh, _server) = called_once();
    let lines = || -> Vec<Value> {
        let log = mesh
            .machine
            .command("cat", &["/run/tacit/default/access.log"])
            .output()
            .unwrap();
        let log = text(&log.stdout);
        let values = log.lines().map(|line| serde_json::from_str(line).unwrap());
        values
            .filter(|line: &Value| line["path"] == "/once")
            .collect()
    };
    mesh.machine
        .wait_for("both lines", || lines().len() == 2)
        .unwrap();
    let found = lines();
    assert_eq!(found[0]["id"], found[1]["id"]);
    assert_ne!(found[0]["reporter"], found[1]["reporter"]);
    for line in &found {
        assert_eq!(line["status"], 404, "{line}");
        assert_eq!(line["service"], "hello.shop", "{line}");
    }
}

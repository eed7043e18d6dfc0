//! Health probes that access refuses: they say nothing.

use crate::support::{Mesh, text};

/// Only `web` may call: not the identity that the node probes with.
const SHOP: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: hello, namespace: shop}
spec: {selector: {app: hello}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: tacit.dev/v1alpha1
kind: AccessPolicy
metadata: {name: hello, namespace: shop}
spec:
  targetRefs: [{group: "", kind: Service, name: hello}]
  action: Allow
  rules: [{from: [{serviceAccounts: [web]}]}]
---
apiVersion: tacit.dev/v1alpha1
kind: FailoverPolicy
metadata: {name: hello, namespace: shop}
spec:
  targetRefs: [{group: "", kind: Service, name: hello}]
  health: {probe: {path: /, interval: 1s}}
"#;

#[test]
fn a_refused_probe_takes_nothing_out() {
    let mesh = Mesh::up(&[("shop.yaml", SHOP)]);
    mesh.machine.write("www/index.html", "well\n").unwrap();
    let serve = [
        "--as",
        "shop/hello",
        "--port",
        "http:8080",
        "--",
        "python3",
        "-m",
    ];
    let serve = [&serve[..], &["http.server", "8080", "--directory", "www"]].concat();
    let _server = mesh.start(&serve);
    let metrics = || {
        let get = ["-s", "http://127.0.0.1:15020/metrics"];
        text(&mesh.machine.command("curl", &get).output().unwrap().stdout)
    };
    let refused = || {
        let text = metrics();
        let mut lines = text.lines();
        let line = lines.find(|line| line.starts_with("tacit_probes_refused_total"));
        line.is_some_and(|line| !line.ends_with(" 0"))
    };
    mesh.machine.wait_for("a refused probe", refused).unwrap();
    let get = || mesh.call("shop/web", &["curl", "-s", "-m", "5", "http://hello.shop/"]);
    let answers = || text(&get().stdout) == "well\n";
    mesh.machine.wait_for("an answer", answers).unwrap();
    // Many probes later it still answers, and who is refused is refused.
    for _ in 0..5 {
        std::thread::sleep(std::time::Duration::from_millis(500));
        assert_eq!(text(&get().stdout), "well\n");
    }
    let other = mesh.call(
        "shop/other",
        &["curl", "-s", "-m", "5", "http://hello.shop/"],
    );
    assert!(!text(&other.stdout).contains("well"), "{other:?}");
}

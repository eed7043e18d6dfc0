//! How many requests of a live mesh each difference concerns, from its decision log.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::support::{Mesh, binary, text};

const MESH: &str = "\
apiVersion: v1
kind: Service
metadata: {name: api, namespace: shop}
spec: {selector: {app: api}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: routed, namespace: shop}
spec: {selector: {app: api}, ports: [{name: http, port: 81, targetPort: 8080}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: routed, namespace: shop}
spec:
  parentRefs: [{group: '', kind: Service, name: routed}]
  rules:
  - matches: [{path: {value: /old}}]
    filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /private}}}]
    backendRefs: [{name: routed, port: 81}]
  - backendRefs: [{name: routed, port: 81}]
";

fn deny(account: &str, path: &str) -> String {
    format!(
        "---\napiVersion: tacit.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {{name: deny, \
         namespace: shop}}\nspec:\n  targetRefs: [{{group: '', kind: Service, name: api}}]\n  \
         action: Deny\n  rules: [{{from: [{{serviceAccounts: [{account}]}}], to: [{{paths: \
         ['{path}']}}]}}]\n"
    )
}

/// Calls of a live mesh: account, requests, URL.
const CALLS: [(&str, u32, &str); 5] = [
    ("web", 40, "http://api.shop/private/1"),
    ("web", 25, "http://api.shop/public"),
    ("batch", 7, "http://api.shop/private/1"),
    ("web", 11, "http://routed.shop:81/old/2"),
    ("batch", 5, "http://routed.shop:81/new"),
];

/// Makes the calls and leaves their log.
fn observe() -> Mesh {
    let mut mesh = Mesh::up_told(&[("mesh.yaml", MESH)], |directory| {
        let log = directory.join("decisions").display().to_string();
        vec!["--decision-log".to_owned(), log]
    });
    let program = binary().display().to_string();
    let sample = ["--", &program, "sample", "--port", "8080"];
    let run = ["--as", "shop/api", "--port", "http:8080"];
    let _server = mesh.start(&[&run[..], &sample].concat());
    mesh.wait_for_url("http://api.shop/");
    mesh.wait_for_url("http://routed.shop:81/");
    for (account, requests, url) in CALLS {
        let (identity, requests) = (format!("shop/{account}"), requests.to_string());
        let load = [
            &program,
            "load",
            "--url",
            url,
            "--rate",
            "100",
            "--requests",
            &requests,
        ];
        let answer = mesh.call(&identity, &load);
        assert!(answer.status.success(), "{answer:?}");
    }
    assert!(mesh.run(&["down"]).status.success());
    let (well, _) = mesh.up.take().unwrap().finish().unwrap();
    assert!(well);
    mesh
}

fn diff(mesh: &Mesh, new: &str, log: &Path, format: &str) -> (Value, String) {
    mesh.machine.write("new.yaml", new).unwrap();
    let log = log.display().to_string();
    let output = mesh.run(&[
        "diff",
        "-f",
        "new.yaml",
        "--against",
        "mesh",
        "--log",
        &log,
        "-o",
        format,
    ]);
    let said = text(&output.stderr);
    assert!(output.status.code().is_some_and(|code| code < 2), "{said}");
    let json = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (json, text(&output.stdout) + &said)
}

/// The observed requests of all differences of a destination and kind.
fn counts(json: &Value) -> BTreeMap<(&str, &str), u64> {
    let mut counts = BTreeMap::new();
    for one in json["changes"].as_array().unwrap() {
        let word = |name: &str| one[name].as_str().unwrap();
        let count = one["observed"].as_u64().unwrap();
        *counts
            .entry((word("destination"), word("change")))
            .or_default() += count;
    }
    counts
}

#[test]
fn each_difference_says_how_many_observed_requests_it_concerns() {
    let mesh = observe();
    let log = mesh.machine.directory().join("decisions");
    let all = |json: &Value, what: &str| json["observed"][what].as_u64().unwrap();

    // Both services have the same workloads; of the routed one, the path counts as it arrives.
    let (json, _) = diff(
        &mesh,
        &(MESH.to_owned() + &deny("web", "/private/*")),
        &log,
        "json",
    );
    let denied = |api: u64, routed: u64| {
        let keys = ["api.shop:80", "routed.shop:81"].map(|name| (name, "NewlyDenied"));
        BTreeMap::from([(keys[0], api), (keys[1], routed)])
    };
    let wanted = denied(40, 11);
    assert_eq!(counts(&json), wanted, "{json}");
    assert_eq!(all(&json, "concerned"), 51);
    assert_eq!(all(&json, "unnamed") + all(&json, "notCovered"), 0);
    // More than the calls above: others waited for the server. Those that came before it are in
    // the log without their paths.
    let requests = all(&json, "requests");
    assert!((90..120).contains(&requests), "{json}");
    let unclear = all(&json, "unclear");
    assert!(unclear <= requests - 90, "{json}");

    // The controls: a caller that did not call, and a path that nobody asked for.
    for new in [deny("probe", "/private/*"), deny("web", "/nothing")] {
        let (json, _) = diff(&mesh, &(MESH.to_owned() + &new), &log, "json");
        let zeros = denied(0, 0);
        assert_eq!(counts(&json), zeros, "{json}");
        assert_eq!(
            (all(&json, "concerned"), all(&json, "requests")),
            (0, requests)
        );
    }

    // Rules of routes: other timeouts of one, and another service for the other.
    let new = MESH
        .replace("/old}}]\n", "/old}}]\n    timeouts: {request: 3s}\n")
        .replace(
            "  - backendRefs: [{name: routed, port: 81}]\n",
            "  - matches: [{path: {value: /new}}]\n    backendRefs: [{name: api, port: 80}]\n  \
         - backendRefs: [{name: routed, port: 81}]\n",
        );
    let (json, _) = diff(&mesh, &new, &log, "json");
    let changed = |what, count| (("routed.shop:81", what), count);
    assert_eq!(
        counts(&json),
        [changed("Rerouted", 5), changed("Limits", 11)].into(),
        "{json}"
    );

    let (_, said) = diff(
        &mesh,
        &(MESH.to_owned() + &deny("web", "/private/*")),
        &log,
        "table",
    );
    let sums = format!("51 of {requests} observed requests concerned");
    for words in ["observed: 40 requests", "observed: 11 requests", &sums] {
        assert!(said.contains(words), "{words:?} is not in\n{said}");
    }
    what_cannot_be_read_is_said(&mesh, &log, unclear);
}

fn what_cannot_be_read_is_said(mesh: &Mesh, log: &Path, unclear: u64) {
    let lines = std::fs::read_to_string(log).unwrap();
    let mut lines: Vec<&str> = lines.lines().collect();
    let at = |lines: &[&str], what: &str| lines.iter().position(|line| line.contains(what));
    // A decision to serve is lost, and the line of another one is torn.
    let asked = at(&lines, "\"path\":\"/public\"").unwrap();
    lines[asked] = "{\"decided\":";
    std::fs::write(log, lines.join("\n") + "\n").unwrap();
    let new = MESH.to_owned() + &deny("web", "/public");
    let (json, said) = diff(mesh, &new, log, "json");
    assert_eq!(counts(&json)[&("api.shop:80", "NewlyDenied")], 24, "{json}");
    assert_eq!(json["observed"]["unclear"], unclear + 1, "{json}");
    for words in [
        "1 lines cannot be read and 1 decisions are missing",
        &format!("line {}: EOF", asked + 1),
    ] {
        assert!(said.contains(words), "{words:?} is not in\n{said}");
    }
}

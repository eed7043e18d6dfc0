//! HTTPRoutes on live traffic: which service answers, what it sees, and what the caller gets.

use crate::support::{Mesh, text};

const MESH: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: api, namespace: shop}
spec: {selector: {app: v1}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: v2, namespace: shop}
spec: {selector: {app: v2}, ports: [{name: http, port: 8000, targetPort: 8080}]}
"#;

const ROUTE: &str = r#"
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: api, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: api}]
  rules:
  - matches: [{headers: [{name: X-Canary, value: "yes"}]}]
    filters:
    - type: RequestHeaderModifier
      requestHeaderModifier: {set: [{name: x-stage, value: canary}], remove: [x-debug]}
    - type: ResponseHeaderModifier
      responseHeaderModifier: {set: [{name: x-served-by, value: second}], remove: [server]}
    backendRefs: [{name: v2, port: 8000}]
  - matches: [{path: {value: /old}}]
    filters:
    - type: RequestRedirect
      requestRedirect: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}, statusCode: 301}
  - matches: [{path: {value: /legacy}}]
    filters:
    - type: URLRewrite
      urlRewrite: {hostname: legacy.example.com, path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}
    backendRefs: [{name: api, port: 80}]
  - matches: [{path: {value: /half}}]
    backendRefs: [{name: api, port: 80}, {name: v2, port: 8000}]
  - matches: [{path: {value: /gone}}]
    backendRefs: [{name: gone, port: 80}]
  - matches: [{path: {value: /slow}}]
    backendRefs: [{name: api, port: 80}]
    timeouts: {request: 300ms}
  - matches: [{path: {type: Exact, value: /}}]
    backendRefs: [{name: api, port: 80}]
"#;

/// Answers with its name and what it saw; `/slow` takes two seconds.
const SERVER: &str = "\
import http.server, sys, time
class H(http.server.BaseHTTPRequestHandler):
  protocol_version = 'HTTP/1.1'
  def do_GET(s):
    if s.path.startswith('/slow'): time.sleep(2)
    h = s.headers
    seen = ' '.join([sys.argv[1], s.path, h['host'], str(h['x-stage']), str(h['x-debug'])])
    s.send_response(200); s.send_header('content-length', str(len(seen))); s.end_headers()
    s.wfile.write(seen.encode())
  def log_message(s, *a): pass
http.server.ThreadingHTTPServer(('', 8080), H).serve_forever()
";

fn mesh() -> (Mesh, Vec<tacit_lab::Running>) {
    let mesh = Mesh::up(&[("mesh.yaml", MESH)]);
    let server = |name: &str| {
        let identity = format!("shop/{name}");
        mesh.start(&[
            "--as",
            &identity,
            "--port",
            "http:8080",
            "--",
            "python3",
            "-c",
            SERVER,
            name,
        ])
    };
    let mut running = vec![server("v1"), server("v2")];
    running.push(mesh.start(&["--as", "shop/web", "--name", "web", "--", "sleep", "300"]));
    mesh.wait_for_url("http://api.shop/");
    mesh.wait_for_url("http://v2.shop:8000/");
    (mesh, running)
}

impl Mesh {
    /// The answer and, after a line feed, what `-w` wants of it.
    fn ask(&self, identity: &str, arguments: &[&str]) -> String {
        let mut all = vec!["curl", "-s", "-m", "5"];
        all.extend(arguments);
        text(&self.call(identity, &all).stdout)
    }
}

#[test]
fn a_route_decides_who_answers_and_what_they_see() {
    let (mesh, _running) = mesh();
    let host = "http://api.shop";
    let get = |path: &str| mesh.ask("shop/web", &[&format!("{host}{path}")]);
    // The control: without a route everything is the service's own.
    assert_eq!(get("/old"), "v1 /old api.shop None None");
    let canary = [
        "-H",
        "x-canary: yes",
        "-H",
        "x-debug: 1",
        "http://api.shop/any",
    ];
    assert_eq!(mesh.ask("shop/web", &canary), "v1 /any api.shop None 1");

    mesh.put("route.yaml", ROUTE, ("HTTPRoute", "shop/api"));
    assert_eq!(get("/"), "v1 / api.shop None None");
    assert_eq!(
        mesh.ask("shop/web", &canary),
        "v2 /any api.shop canary None"
    );
    let with_headers = [&canary[..], &["-D", "-", "-o", "/dev/null"]].concat();
    let headers = mesh.ask("shop/web", &with_headers).to_lowercase();
    assert!(headers.contains("x-served-by: second"), "{headers}");
    assert!(!headers.contains("server:"), "{headers}");

    assert_eq!(
        get("/legacy/a?b=c"),
        "v1 /a?b=c legacy.example.com None None"
    );
    let redirect = [
        "-w",
        "%{http_code} %{redirect_url}",
        "-o",
        "/dev/null",
        "http://api.shop/old/a?b=c",
    ];
    assert_eq!(
        mesh.ask("shop/web", &redirect),
        "301 http://api.shop/new/a?b=c"
    );

    let status = |path: &str| {
        let url = format!("{host}{path}");
        mesh.ask("shop/web", &["-w", "\n%{http_code}", &url])
    };
    let (nowhere, gone, slow) = (status("/nowhere"), status("/gone"), status("/slow"));
    assert!(
        nowhere.ends_with("\n404") && nowhere.contains("no rule"),
        "{nowhere}"
    );
    assert!(gone.ends_with("\n500"), "{gone}");
    assert!(gone.contains("HTTPRoute/shop/api spec.rules[4]"), "{gone}");
    assert!(slow.ends_with("\n504"), "{slow}");

    let halves: Vec<String> = (0..40).map(|_| get("/half")).collect();
    for name in ["v1 ", "v2 "] {
        let count = halves
            .iter()
            .filter(|answer| answer.starts_with(name))
            .count();
        assert!(count >= 5, "{name}: {count} of 40");
    }
}

#[test]
fn the_callers_own_route_comes_first_and_why_says_so() {
    let (mesh, _running) = mesh();
    mesh.put("route.yaml", ROUTE, ("HTTPRoute", "shop/api"));
    let consumer = r#"
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: mine, namespace: edge}
spec:
  parentRefs: [{group: "", kind: Service, name: api, namespace: shop}]
  rules: [{backendRefs: [{name: v2, namespace: shop, port: 8000}]}]
"#;
    mesh.put("consumer.yaml", consumer, ("HTTPRoute", "edge/mine"));
    let url = "http://api.shop/nowhere";
    assert_eq!(
        mesh.ask("edge/web", &[url]),
        "v2 /nowhere api.shop None None"
    );
    assert!(mesh.ask("shop/web", &[url]).contains("no rule"));

    let why = mesh.run(&["why", "shop/web", url]);
    assert_eq!(why.status.code(), Some(4), "{why:?}");
    assert!(
        text(&why.stdout).contains("no rule of the routes of api.shop"),
        "{why:?}"
    );
    let canary = [
        "why",
        "shop/web",
        "http://api.shop/any",
        "--header",
        "X-Canary: yes",
    ];
    let why = mesh.run(&canary);
    let told = text(&why.stdout);
    assert!(
        told.contains("leads to service v2.shop") && told.contains("route.yaml:8:"),
        "{told}"
    );

    // A route that cannot be read keeps its last good version in force.
    mesh.machine
        .write("mesh/consumer.yaml", &consumer.replace("rules", "rulez"))
        .unwrap();
    let is_refused = || {
        let status = mesh.run(&["get", "HTTPRoute", "edge/mine", "-o", "json"]);
        text(&status.stdout).contains("\"lastGoodInForce\": true")
    };
    mesh.machine.wait_for("the refusal", is_refused).unwrap();
    assert_eq!(
        mesh.ask("edge/web", &[url]),
        "v2 /nowhere api.shop None None"
    );
}

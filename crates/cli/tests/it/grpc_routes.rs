//! GRPCRoutes on live traffic: which service answers a call, and how a call is refused.

use crate::support::{Mesh, text};

const MESH: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: api, namespace: shop}
spec: {selector: {app: v1}, ports: [{name: grpc, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: v2, namespace: shop}
spec: {selector: {app: v2}, ports: [{name: grpc, port: 8000, targetPort: 8080}]}
"#;

const ROUTE: &str = r#"
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: api, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: api}]
  rules:
  - matches: [{method: {service: shop.Payments, method: Refund}}]
    filters:
    - type: RequestHeaderModifier
      requestHeaderModifier: {set: [{name: x-stage, value: second}]}
    backendRefs: [{name: v2, port: 8000}]
  - matches: [{method: {service: shop.Payments, method: Lost}}]
    backendRefs: [{name: gone, port: 80}]
  - name: payments
    matches: [{method: {service: shop.Payments}}]
    backendRefs: [{name: api, port: 80}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: pages, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: api}]
  rules: [{backendRefs: [{name: v2, port: 8000}]}]
"#;

const PAGES: &str = r#"
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: pages, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: api}]
  rules: [{matches: [{path: {value: /pages}}], backendRefs: [{name: v2, port: 8000}]}]
"#;

/// A server of HTTP/2 without a library: each call is answered with the name of the server, an
/// empty message, and trailers that say it went well. It reads no header: a call ends its stream.
const SERVER: &str = r"
import socketserver, struct, sys
def frame(kind, flags, stream, body=b''):
  return struct.pack('>I', len(body))[1:] + bytes([kind, flags]) + struct.pack('>I', stream) + body
def literal(name, value):
  return b'\0' + bytes([len(name)]) + name + bytes([len(value)]) + value
NAME = sys.argv[1].encode()
HEAD = b'\x88' + literal(b'content-type', b'application/grpc') + literal(b'served-by', NAME)
class H(socketserver.StreamRequestHandler):
  def handle(s):
    if s.rfile.read(24)[:3] != b'PRI': return
    s.wfile.write(frame(4, 0, 0))
    while head := s.rfile.read(9):
      size, kind, flags = int.from_bytes(head[:3], 'big'), head[3], head[4]
      stream = int.from_bytes(head[5:], 'big')
      body = s.rfile.read(size)
      if kind == 4 and not flags & 1: s.wfile.write(frame(4, 1, 0))
      if kind == 6 and not flags & 1: s.wfile.write(frame(6, 1, 0, body))
      if kind in (0, 1) and flags & 1:
        s.wfile.write(frame(1, 4, stream, HEAD) + frame(0, 0, stream, bytes(5))
          + frame(1, 5, stream, literal(b'grpc-status', b'0')))
class S(socketserver.ThreadingTCPServer):
  allow_reuse_address = daemon_threads = True
S(('', 8080), H).serve_forever()
";

fn mesh() -> (Mesh, Vec<tacit_lab::Running>) {
    let mesh = Mesh::up(&[("mesh.yaml", MESH)]);
    let server = |name: &str| {
        let identity = format!("shop/{name}");
        let command = ["--as", &identity, "--port", "http:8080", "--"];
        let python = ["python3", "-c", SERVER, name];
        mesh.start(&[&command[..], &python].concat())
    };
    let mut running = vec![server("v1"), server("v2")];
    running.push(mesh.start(&["--as", "shop/web", "--name", "web", "--", "sleep", "300"]));
    for (host, name) in [("api.shop", "v1"), ("v2.shop:8000", "v2")] {
        let serves = || mesh.called(host, "/any.Service/Any", GRPC).contains(name);
        mesh.machine.wait_for(name, serves).unwrap();
    }
    (mesh, running)
}

const GRPC: &str = "application/grpc";

impl Mesh {
    /// Everything that a call of gRPC without a message gets: status line, headers, trailers,
    /// body. With one, curl 7 may fail to read an answer that comes before all of it is sent.
    fn called(&self, host: &str, path: &str, media: &str) -> String {
        let media = format!("content-type: {media}");
        let url = format!("http://{host}{path}");
        let curl = [
            "curl",
            "-s",
            "-m",
            "5",
            "-i",
            "--http2-prior-knowledge",
            "-H",
            &media,
            "-H",
            "te: trailers",
            "--data-binary",
            "",
            &url,
        ];
        text(&self.call("shop/web", &curl).stdout)
    }
}

#[test]
fn a_route_decides_which_service_a_method_is_of() {
    let (mesh, _running) = mesh();
    let call = |path: &str| mesh.called("api.shop", path, GRPC);
    // The control: without a route every method is the service's own.
    for path in ["/shop.Payments/Refund", "/shop.Orders/List"] {
        let answer = call(path);
        assert!(answer.contains("served-by: v1"), "{path}: {answer}");
    }

    mesh.machine.write("mesh/route.yaml", ROUTE).unwrap();
    let wait = ["wait", "GRPCRoute", "shop/api", "--for", "Programmed"];
    let programmed = || mesh.run(&[&wait[..], &["--timeout", "20s"]].concat());
    let in_force = || programmed().status.success();
    mesh.machine.wait_for("the route", in_force).unwrap();

    let (refund, charge) = (call("/shop.Payments/Refund"), call("/shop.Payments/Charge"));
    assert!(refund.contains("served-by: v2"), "{refund}");
    assert!(refund.contains("grpc-status: 0"), "{refund}");
    assert!(charge.contains("served-by: v1"), "{charge}");

    // No rule matches: gRPC's own answer, which is no failure of HTTP.
    let list = call("/shop.Orders/List");
    assert!(list.starts_with("HTTP/2 200"), "{list}");
    assert!(list.contains("content-type: application/grpc"), "{list}");
    assert!(list.contains("grpc-status: 12"), "{list}");
    assert!(list.contains("grpc-message: no rule"), "{list}");
    assert!(!list.contains("served-by"), "{list}");
    // A backend that does not exist.
    let lost = call("/shop.Payments/Lost");
    assert!(lost.starts_with("HTTP/2 200"), "{lost}");
    assert!(lost.contains("grpc-status: 14"), "{lost}");
    assert!(lost.contains("spec.rules[1]"), "{lost}");

    // The same request in another media type follows no GRPCRoute, and no HTTPRoute either.
    for media in ["application/json", "application/grpc-web"] {
        let plain = mesh.called("api.shop", "/shop.Payments/Refund", media);
        assert!(plain.starts_with("HTTP/2 404"), "{media}: {plain}");
        assert!(!plain.contains("served-by"), "{media}: {plain}");
    }
    let pages = mesh.run(&["get", "HTTPRoute", "shop/pages", "-o", "json"]);
    assert!(text(&pages.stdout).contains("Conflicted"), "{pages:?}");

    let url = "http://api.shop/shop.Payments/Refund";
    let why = ["why", "shop/web", url, "--method", "POST", "--header"];
    let why = mesh.run(&[&why[..], &["content-type: application/grpc"]].concat());
    let told = text(&why.stdout);
    assert!(told.contains("leads to service v2.shop"), "{told}");

    // An HTTPRoute refuses in HTTP's words, which clients of gRPC translate.
    mesh.machine.write("mesh/route.yaml", PAGES).unwrap();
    let in_http = || call("/shop.Payments/Charge").starts_with("HTTP/2 404");
    mesh.machine.wait_for("the other route", in_http).unwrap();
    let charge = call("/shop.Payments/Charge");
    assert!(!charge.contains("grpc-status"), "{charge}");
    assert!(charge.contains("no rule"), "{charge}");
}

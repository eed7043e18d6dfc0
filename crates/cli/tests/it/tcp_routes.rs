//! TCPRoutes on live traffic: which service a connection reaches, and how it is refused.

use crate::support::{Mesh, text};

const MESH: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {selector: {app: v1}, ports: [{name: raw, port: 5432, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: v2, namespace: shop}
spec: {selector: {app: v2}, ports: [{name: raw, port: 5433, targetPort: 8080}]}
"#;

/// `BACKENDS` of a route at `shop/db`.
fn route(backends: &str) -> String {
    format!(
        r#"
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: TCPRoute
metadata: {{name: db, namespace: shop}}
spec:
  parentRefs: [{{group: "", kind: Service, name: db}}]
  rules: [{{backendRefs: [{backends}]}}]
"#
    )
}

/// Says its name to who connects, then gives back what comes.
const SERVER: &str = "\
import socketserver, sys
class H(socketserver.StreamRequestHandler):
  def handle(s):
    s.wfile.write(sys.argv[1].encode() + b' ')
    s.wfile.write(s.rfile.readline())
class S(socketserver.ThreadingTCPServer):
  allow_reuse_address = daemon_threads = True
S(('', 8080), H).serve_forever()
";

const CLIENT: &str = "\
import socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)
s.sendall(b'hello\\n')
while data := s.recv(99): sys.stdout.write(data.decode())
";

impl Mesh {
    /// What a connection from `web` to `shop/db` gets.
    fn spoken(&self) -> String {
        let python = ["python3", "-c", CLIENT, "db.shop", "5432"];
        text(&self.call("shop/web", &python).stdout)
    }

    /// Writes the route, and waits for a connection that gets this.
    fn lead(&self, backends: &str, wanted: &str) {
        self.put("route.yaml", &route(backends), ("TCPRoute", "shop/db"));
        let is_led = || self.spoken() == wanted;
        self.machine.wait_for(wanted, is_led).unwrap();
    }
}

#[test]
fn a_route_decides_which_service_a_connection_reaches() {
    let mesh = Mesh::up(&[("mesh.yaml", MESH)]);
    let server = |name: &str| {
        let identity = format!("shop/{name}");
        let command = ["--as", &identity, "--port", "raw:8080", "--"];
        mesh.start(&[&command[..], &["python3", "-c", SERVER, name]].concat())
    };
    let mut running = vec![server("v1"), server("v2")];
    running.push(mesh.start(&["--as", "shop/web", "--name", "web", "--", "sleep", "300"]));
    // The control: without a route a connection reaches the service itself.
    let serves = || mesh.spoken() == "v1 hello\n";
    mesh.machine.wait_for("the service", serves).unwrap();

    mesh.lead("{name: v2, port: 5433}", "v2 hello\n");
    let why = mesh.run(&["why", "shop/web", "tcp://db.shop:5432"]);
    let told = text(&why.stdout);
    assert!(told.contains("leads to service v2.shop"), "{told}");

    mesh.lead(
        "{name: db, port: 5432}, {name: v2, port: 5433}",
        "v1 hello\n",
    );
    let all: Vec<String> = (0..24).map(|_| mesh.spoken()).collect();
    let of = |name: &str| all.iter().filter(|one| one.starts_with(name)).count();
    assert_eq!(of("v1 hello") + of("v2 hello"), 24, "{all:?}");
    // Of 24 tosses of a coin, all or none are the same once in 8 million runs.
    assert!((1..24).contains(&of("v1")), "{all:?}");

    // A backend that does not exist: closed, and said why.
    mesh.lead("{name: gone, port: 5432}", "");
    let why = mesh.run(&["why", "shop/web", "tcp://db.shop:5432"]);
    let told = text(&why.stdout);
    assert!(told.contains("shop/gone does not exist"), "{told}");

    let only = "{name: v2, port: 5433, weight: 0}, {name: db, port: 5432}";
    mesh.lead(only, "v1 hello\n");
}

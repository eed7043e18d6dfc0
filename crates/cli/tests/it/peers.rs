//! Peers that are not of the mesh: counted, said once, and nobody else notices.

use crate::support::{Mesh, text};

const HELLO: &str = include_str!("../../../../examples/hello/hello.yaml");

/// Garbage, plain HTTP, half a greeting and nothing at all, to HOST PORT; each several times.
const RUDE: &str = "
import socket, sys
host, port = sys.argv[1], int(sys.argv[2])
for _ in range(5):
    for data in (bytes(range(256)) * 2, b'GET / HTTP/1.1\\r\\n\\r\\n', b'\\x16\\x03\\x01\\x02', b''):
        with socket.create_connection((host, port), 3) as peer:
            peer.sendall(data)
";

/// A certificate of nobody, shown to HOST:PORT.
const STRANGER: &str = "
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout key.pem \\
    -out crt.pem -days 1 -subj /CN=stranger 2>/dev/null
echo | timeout 3 openssl s_client -connect $1 -cert crt.pem -key key.pem -quiet 2>&1
true
";

#[test]
fn rude_peers_are_counted_and_change_nothing() {
    let mesh = Mesh::up(&[("hello.yaml", HELLO)]);
    mesh.machine.write("www/index.html", "hello\n").unwrap();
    let server = ["--as", "shop/hello", "--port", "http:8080", "--"];
    let python = ["python3", "-m", "http.server", "8080", "--directory", "www"];
    let _server = mesh.start(&[&server[..], &python].concat());
    mesh.wait_for_url("http://hello.shop/");
    let bad_peers = |how: &str| {
        let url = "http://127.0.0.1:15020/metrics";
        let scraped = mesh.machine.command("curl", &["-s", url]).output().unwrap();
        let wanted = format!("tacit_bad_peers_total{{how=\"{how}\"}} ");
        let scraped = text(&scraped.stdout);
        let count = scraped.lines().find_map(|line| line.strip_prefix(&wanted));
        count.map_or(0, |count| count.parse::<u32>().unwrap())
    };
    assert_eq!(
        (bad_peers("tls"), bad_peers("closed")),
        (0, 0),
        "control run"
    );
    let status = text(&mesh.run(&["status", "-o", "json"]).stdout);
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let workload = status["workloads"][0]["address"]
        .as_str()
        .unwrap()
        .to_owned();
    for (host, port) in [
        ("127.0.0.1", "15012"),
        ("127.0.0.1", "15017"),
        (workload.as_str(), "15008"),
    ] {
        let rude = ["-c", RUDE, host, port];
        let sent = mesh.machine.command("python3", &rude).output().unwrap();
        assert!(sent.status.success(), "{port}: {sent:?}");
        let at = format!("{host}:{port}");
        let stranger = ["-c", STRANGER, "sh", &at];
        let shown = mesh.machine.command("sh", &stranger).output().unwrap();
        let said = text(&shown.stdout);
        assert!(said.contains("alert certificate unknown"), "{port}: {said}");
    }
    let counted = || bad_peers("tls") >= 11 && bad_peers("closed") >= 5;
    mesh.machine.wait_for("the counts", counted).unwrap();
    let answer = mesh.call("shop/web", &["curl", "-s", "http://hello.shop/"]);
    assert_eq!(text(&answer.stdout), "hello\n");
    assert!(mesh.run(&["status"]).status.success());
}

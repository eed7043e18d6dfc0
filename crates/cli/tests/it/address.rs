//! Calls by address: inside the mesh, outside it, and to addresses of the mesh that nobody has.

use tacit_lab::Machine;

use crate::support::{Mesh, binary, text};

const MESH: &str = "\
apiVersion: tacit.dev/v1alpha1
kind: Mesh
metadata: {name: default}
spec:
  workloadAddresses: {ipv4: 10.96.0.0/12}
";
const SAID: &str = "hello from somewhere\n";

/// A machine with a workload `shop/hello` that answers on port 8080 and an unmeshed server on
/// port 9000, which also has two addresses of the mesh: what leaves in clear is answered.
fn machine() -> (Mesh, Vec<tacit_lab::Running>) {
    let mesh = Mesh::up(&[("mesh.yaml", MESH)]);
    mesh.machine.write("www/index.html", SAID).unwrap();
    for address in ["192.0.2.1/32", "10.96.0.200/32", "240.96.9.9/32"] {
        let add = ["addr", "add", address, "dev", "lo"];
        assert!(mesh.machine.command("ip", &add).status().unwrap().success());
    }
    let serve = ["-m", "http.server", "9000", "--directory", "www"];
    let outside = mesh.machine.command("python3", &serve);
    let outside = mesh.machine.start_command(outside).unwrap();
    let inside = "ip -4 -o addr show scope global | tr ' /' '\\n\\n' | grep ^10[.] > address; \
                  exec python3 -m http.server 8080 --directory www";
    let inside = mesh.start(&[
        "--as",
        "shop/hello",
        "--port",
        "http:8080",
        "--",
        "sh",
        "-c",
        inside,
    ]);
    let caller = mesh.start(&["--as", "shop/web", "--name", "web", "--", "sleep", "300"]);
    (mesh, vec![outside, inside, caller])
}

impl Mesh {
    fn get(&self, url: &str) -> String {
        let answer = self.call("shop/web", &["curl", "-s", "-m", "5", url]);
        text(&answer.stdout)
    }

    /// A counter of the node, all labels together.
    fn counter(&self, name: &str) -> u64 {
        let get = ["-s", "http://127.0.0.1:15020/metrics"];
        let metrics = self.machine.command("curl", &get).output().unwrap();
        let metrics = text(&metrics.stdout);
        let lines = metrics.lines().filter(|line| line.starts_with(name));
        let value = |line: &str| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap();
        lines.map(value).sum()
    }
}

#[test]
fn a_call_to_an_address_of_the_mesh_never_leaves_in_clear() {
    let (mesh, mut running) = machine();
    let address = mesh.machine.directory().join("address");
    let address = || std::fs::read_to_string(&address).unwrap_or_default();
    let known = || format!("http://{}:8080/", address().trim());
    let answers = || !address().is_empty() && mesh.get(&known()) == SAID;
    mesh.machine
        .wait_for("the workload's answer", answers)
        .unwrap();

    let up = ["-s", "http://192.0.2.1:9000/"];
    let up = || text(&mesh.machine.command("curl", &up).output().unwrap().stdout) == SAID;
    mesh.machine.wait_for("the server outside", up).unwrap();

    // The controls: outside is outside and counted, and the workload was not.
    let before = mesh.counter("tacit_outside_connections_total");
    assert_eq!(mesh.get("http://192.0.2.1:9000/"), SAID);
    assert_eq!(mesh.counter("tacit_outside_connections_total"), before + 1);
    assert_eq!(mesh.get(&known()), SAID);
    assert_eq!(mesh.counter("tacit_outside_connections_total"), before + 1);

    for (url, range) in [
        ("http://10.96.0.200:9000/", "10.96.0.0/12 for workloads"),
        ("http://240.96.9.9:9000/", "240.96.0.0/12 for services"),
    ] {
        let denied = mesh.counter("tacit_denied_total");
        assert_eq!(mesh.get(url), "", "{url}");
        assert_eq!(mesh.counter("tacit_denied_total"), denied + 1, "{url}");
        let why = mesh.run(&["why", "shop/web", url]);
        assert_eq!(why.status.code(), Some(4), "{why:?}");
        assert!(text(&why.stdout).contains(range), "{why:?}");
    }
    let why = mesh.run(&["why", "shop/web", "http://10.96.0.200:9000/"]);
    let why = text(&why.stdout);
    assert!(why.contains("mesh/mesh.yaml:5"), "the line of Mesh: {why}");

    // One that has just gone: its address is answered by somebody else, in clear, if asked.
    let gone = address();
    drop(running.remove(1));
    let add = ["addr", "add", gone.trim(), "dev", "lo"];
    assert!(mesh.machine.command("ip", &add).status().unwrap().success());
    let url = format!("http://{}:9000/", gone.trim());
    let is_gone = || {
        let why = mesh.run(&["why", "shop/web", &url]);
        text(&why.stdout).contains("no workload has the address")
    };
    mesh.machine
        .wait_for("the workload to be gone", is_gone)
        .unwrap();
    assert_eq!(mesh.get(&url), "");
    assert_eq!(mesh.counter("tacit_outside_connections_total"), before + 1);
}

#[test]
fn a_call_to_a_published_port_of_a_machine_never_leaves_in_clear() {
    let machine = Machine::start(binary()).unwrap();
    machine.write("www/index.html", SAID).unwrap();
    let add = ["addr", "add", "192.0.2.1/32", "dev", "lo"];
    assert!(machine.command("ip", &add).status().unwrap().success());
    let options = ["--address", "192.0.2.1"].map(str::to_owned);
    let mesh = Mesh::up_on(machine, &[("mesh.yaml", MESH)], options.to_vec());
    let serve = "exec python3 -m http.server 8080 --directory www";
    let publish = ["--as", "shop/hello", "--publish", "8085:8080", "--"];
    let _hello = mesh.start(&[&publish[..], &["sh", "-c", serve]].concat());
    let _web = mesh.start(&["--as", "shop/web", "--name", "web", "--", "sleep", "300"]);
    let url = "http://192.0.2.1:8085/";

    // Only somebody with an identity is answered.
    let outside = mesh.counter("tacit_outside_connections_total");
    let is_up = || mesh.get(url) == SAID;
    mesh.machine.wait_for("the published port", is_up).unwrap();
    assert_eq!(mesh.counter("tacit_outside_connections_total"), outside);
    let why = mesh.run(&["why", "shop/web", url]);
    assert!(text(&why.stdout).contains("shop/hello"), "{why:?}");

    // The control: a program of the machine comes in clear, and is refused for that.
    let denied = mesh.counter("tacit_denied_total");
    let mut plain = mesh.machine.command("curl", &["-s", "-m", "5", url]);
    assert_eq!(text(&plain.output().unwrap().stdout), "");
    assert_eq!(mesh.counter("tacit_denied_total"), denied + 1);
}

//! Several meshes on one machine, by name.

use crate::support::{Mesh, text};

const HELLO: &str = include_str!("../../../../examples/hello/hello.yaml");

#[test]
fn two_meshes_live_beside_each_other() {
    let mesh = Mesh::up(&[("hello.yaml", HELLO)]);
    let machine = &mesh.machine;
    let clash = mesh.run(&["--mesh", "second", "up", "-f", "mesh"]);
    assert_eq!(clash.status.code(), Some(1), "{clash:?}");
    assert!(text(&clash.stderr).contains("--port-base"), "{clash:?}");
    let up = [
        "--mesh",
        "second",
        "up",
        "-f",
        "mesh",
        "--port-base",
        "16000",
    ];
    let _second = machine.start_command(machine.tacit(&up)).unwrap();
    machine
        .wait_for("the second mesh", || {
            let socket = ["-S", "/run/tacit/second/node.sock"];
            let found = machine.command("test", &socket).status();
            found.is_ok_and(|status| status.success())
        })
        .unwrap();
    let mut servers = Vec::new();
    for name in ["default", "second"] {
        machine
            .write(&format!("{name}/index.html"), &format!("of {name}\n"))
            .unwrap();
        let server = [
            "--mesh",
            name,
            "--as",
            "shop/hello",
            "--port",
            "http:8080",
            "--",
        ];
        let python = ["python3", "-m", "http.server", "8080", "--directory", name];
        servers.push(mesh.start(&[&server[..], &python].concat()));
    }
    let call = |name: &str| {
        let client = ["run", "--mesh", name, "--as", "shop/web", "--"];
        let curl = ["curl", "-s", "-m", "3", "http://hello.shop/"];
        text(&mesh.run(&[&client[..], &curl].concat()).stdout)
    };
    for name in ["default", "second"] {
        let expected = format!("of {name}\n");
        machine.wait_for(name, || call(name) == expected).unwrap();
    }
    let down = mesh.run(&["--mesh", "second", "down"]);
    assert!(down.status.success(), "{down:?}");
    assert_eq!(call("default"), "of default\n", "the other goes on");
}

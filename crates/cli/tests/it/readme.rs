//! The README's commands, word for word, and by a person who is not root.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use tacit_lab::Machine;

use crate::support::{binary, text};

const README: &str = include_str!("../../../../README.md");
const HELLO: &str = include_str!("../../../../examples/hello/hello.yaml");

/// The commands of the section about a mesh of one's own, as words.
fn commands() -> Vec<Vec<&'static str>> {
    let section = README.split("## A mesh of your own").nth(1).unwrap();
    let block = section.split("```sh").nth(1).unwrap();
    let block = block.split("```").next().unwrap();
    let lines = block.lines().filter(|line| line.contains("tacit "));
    let lines = lines.filter(|line| !line.starts_with('#'));
    lines
        .map(|line| line.split_whitespace().collect())
        .collect()
}

/// True if the test runs as root: then it can become another user.
fn may_become_nobody(machine: &Machine) -> bool {
    let setpriv = ["--reuid=65534", "--regid=65534", "--clear-groups", "true"];
    let became = machine.command("setpriv", &setpriv).output().unwrap();
    became.status.success()
}

/// The command of a person who is not root, where the test may become one.
fn as_nobody(machine: &Machine, arguments: &[&str]) -> Command {
    if !may_become_nobody(machine) {
        return machine.tacit(arguments);
    }
    let tacit = binary().display().to_string();
    let mut all = vec!["--reuid=65534", "--regid=65534", "--clear-groups", &tacit];
    all.extend(arguments);
    machine.command("setpriv", &all)
}

#[test]
fn the_three_commands_of_the_readme_work() {
    let commands = commands();
    let [up, server, client] = commands.as_slice() else {
        panic!("the README has three commands: {commands:?}");
    };
    assert_eq!(up[..2], ["sudo", "tacit"], "only `up` is for root");
    assert_eq!((server[0], client[0]), ("tacit", "tacit"));
    let machine = Machine::start(binary()).unwrap();
    machine.write("examples/hello/hello.yaml", HELLO).unwrap();
    machine.write("index.html", "hello, reader\n").unwrap();
    // Of a person's home, not of a test.
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(machine.directory(), open).unwrap();
    let _up = machine.start_command(machine.tacit(&up[2..])).unwrap();
    machine
        .wait_for("the mesh", || {
            machine
                .command("test", &["-S", "/run/tacit/default/node.sock"])
                .status()
                .is_ok_and(|status| status.success())
        })
        .unwrap();
    let _server = machine
        .start_command(as_nobody(&machine, &server[1..]))
        .unwrap();
    let call = || as_nobody(&machine, &client[1..]).output().unwrap();
    let answered = || text(&call().stdout) == "hello, reader\n";
    machine.wait_for("the answer", answered).unwrap();
    // Control: what the example does not grant is refused.
    let elsewhere = ["run", "--as", "bank/web", "--", "true"];
    let refused = as_nobody(&machine, &elsewhere).output().unwrap();
    if may_become_nobody(&machine) {
        assert_eq!(refused.status.code(), Some(4), "{refused:?}");
        assert!(
            text(&refused.stderr).contains("verbs: [Run]"),
            "{refused:?}"
        );
    }
}

#[test]
fn every_example_is_without_findings() {
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples");
    let mut checked = 0;
    for entry in std::fs::read_dir(examples).unwrap() {
        let directory = entry.unwrap().path();
        let output = Command::new(binary())
            .args(["check", "-f"])
            .arg(&directory)
            .output()
            .unwrap();
        assert!(output.status.success(), "{directory:?}: {output:?}");
        assert_eq!(text(&output.stdout), "", "{directory:?}");
        checked += 1;
    }
    assert!(checked > 0, "there are examples");
}

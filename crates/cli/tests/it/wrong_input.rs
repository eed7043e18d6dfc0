//! Wrong input: a position, a cause and a fix, exit code 1, and what was good stays in force.

use std::process::Command;

use tacit_lab::Machine;

use crate::support::{Mesh, binary, text};

const GOOD: &str = "\
apiVersion: v1
kind: Service
metadata: {name: hello, namespace: shop}
spec: {selector: {app: hello}, ports: [{name: http, port: 80, targetPort: 8080}]}
";

/// Name, text, and what the message must say.
const BAD: [(&str, &str, &[&str]); 14] = [
    (
        "malformed",
        "kind: Service\n  metadata: [\n",
        &["bad.yaml:"],
    ),
    (
        "unknown field",
        "apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: b}\nspec:\n  selectr: {app: x}\n",
        &["bad.yaml:5:3", "selectr", "selector"],
    ),
    (
        "unknown kind",
        "apiVersion: v1\nkind: Servic\nmetadata: {name: a}\n",
        &["bad.yaml:2", "Service"],
    ),
    ("garbage", "\u{1}\u{2}\u{3}", &["bad.yaml"]),
    (
        "empty targets",
        "apiVersion: tacit.dev/v1alpha1\nkind: RetryTimeoutPolicy\nmetadata: {name: a, namespace: b}\nspec: {targetRefs: []}\n",
        &["bad.yaml:4", "targetRefs"],
    ),
    (
        "contradiction",
        "apiVersion: tacit.dev/v1alpha1\nkind: RetryTimeoutPolicy\nmetadata: {name: a, namespace: b}\nspec:\n  targetAll: {}\n  timeout: {request: 1s, perTry: 2s}\n",
        &["bad.yaml:6", "perTry"],
    ),
    (
        "a network that nothing reads",
        "apiVersion: tacit.dev/v1alpha1\nkind: Mesh\nmetadata: {name: a}\nspec:\n  network: n1\n",
        &["bad.yaml:5:12", "not supported"],
    ),
    (
        "host names that nothing guards",
        "apiVersion: tacit.dev/v1alpha1\nkind: Workspace\nmetadata: {name: a}\nspec:\n  hostnames: [a.example]\n",
        &["bad.yaml:5:3", "not supported"],
    ),
    (
        "a capacity that nothing reads",
        "apiVersion: tacit.dev/v1alpha1\nkind: Workload\nmetadata: {name: a, namespace: b}\nspec:\n  {serviceAccount: a, node: n, capacity: {requestsPerSecond: 5}}\n",
        &["bad.yaml:5", "not supported"],
    ),
    (
        "a port of the mesh",
        "apiVersion: tacit.dev/v1alpha1\nkind: Workload\nmetadata: {name: a, namespace: b}\nspec:\n  {serviceAccount: a, node: n, ports: [{port: 15008}]}\n",
        &["bad.yaml:5", "15008", "own"],
    ),
    (
        "a group of the mesh",
        "apiVersion: tacit.dev/v1alpha1\nkind: Mesh\nmetadata: {name: a}\nspec:\n  subjects: [{uid: 1, groups: ['system:local']}]\n",
        &["bad.yaml:5", "system:local"],
    ),
    (
        "a target that is not there",
        "apiVersion: tacit.dev/v1alpha1\nkind: RetryTimeoutPolicy\nmetadata: {name: a, namespace: b}\nspec:\n  targetRefs: [{group: '', kind: Service, name: gone}]\n  timeout: {request: 1s}\n",
        &["bad.yaml:5", "b/gone", "does not exist"],
    ),
    (
        "a label that is none",
        "apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: b, labels: {'x y': z}}\nspec: {selector: {app: x}, ports: [{port: 80}]}\n",
        &["bad.yaml:3", "x y", "no key of a label"],
    ),
    (
        "a name twice",
        "apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: b}\nspec: {selector: {app: x}, ports: [{port: 80}]}\n---\napiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: b}\nspec: {selector: {app: y}, ports: [{port: 80}]}\n",
        &["bad.yaml:3:18", "bad.yaml:8:18", "also written"],
    ),
];

#[test]
fn check_points_at_each_mistake() {
    for (name, bad, wanted) in BAD {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("bad.yaml"), bad).unwrap();
        let output = Command::new(binary())
            .args(["check", "-f", "bad.yaml"])
            .current_dir(directory.path())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{name}");
        let said = text(&output.stdout);
        for word in wanted {
            assert!(said.contains(word), "{name}: {word:?} is not in\n{said}");
        }
        assert!(said.contains("fix:"), "{name}: {said}");
    }
}

#[test]
fn a_file_of_50_mb_is_refused_in_words() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("big.yaml"), vec![b'a'; 50 << 20]).unwrap();
    let output = Command::new(binary())
        .args(["check", "-f"])
        .arg(directory.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stdout).contains("split it"),
        "{}",
        text(&output.stdout)
    );
}

#[test]
fn apply_says_the_same_and_changes_nothing() {
    let mesh = Mesh::up(&[("hello.yaml", GOOD)]);
    let objects = || text(&mesh.run(&["get", "all", "-o", "yaml"]).stdout);
    let before = objects();
    assert!(before.contains("hello"), "{before}");
    for (name, bad, wanted) in BAD {
        mesh.machine.write("bad.yaml", bad).unwrap();
        let output = mesh.run(&["apply", "-f", "bad.yaml"]);
        assert_eq!(output.status.code(), Some(1), "{name}: {output:?}");
        let said = text(&output.stderr);
        for word in wanted {
            assert!(said.contains(word), "{name}: {word:?} is not in\n{said}");
        }
        if name == "a target that is not there" {
            // It may come: the policy waits for it.
            mesh.run(&["delete", "retrytimeoutpolicy", "b/a"]);
        }
        assert_eq!(objects(), before, "{name}");
    }
    std::fs::write(mesh.machine.directory().join("bad.yaml"), b"kind: \xff").unwrap();
    let output = mesh.run(&["apply", "-f", "bad.yaml"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stderr).contains("bad.yaml:1:7"), "{output:?}");
}

#[test]
fn the_watched_directory_says_the_same() {
    let mesh = Mesh::up(&[("hello.yaml", GOOD)]);
    let status = || text(&mesh.run(&["status"]).stdout);
    assert!(!status().contains("FINDINGS"), "control run: {}", status());
    for (name, bad, wanted) in BAD {
        mesh.machine.write("mesh/bad.yaml", bad).unwrap();
        let said = || wanted.iter().all(|word| status().contains(word));
        mesh.machine.wait_for(name, said).unwrap();
        assert!(status().contains("fix:"), "{name}: {}", status());
        std::fs::remove_file(mesh.machine.directory().join("mesh/bad.yaml")).unwrap();
        let gone = || !status().contains("FINDINGS");
        mesh.machine.wait_for("no finding", gone).unwrap();
    }
}

#[test]
fn the_last_good_state_stays_in_force() {
    let mesh = Mesh::up(&[("hello.yaml", GOOD)]);
    let address = || {
        let status = text(&mesh.run(&["status"]).stdout);
        status
            .lines()
            .find(|line| line.starts_with("hello.shop"))
            .map(str::to_owned)
    };
    let before = address();
    assert!(before.is_some(), "{}", text(&mesh.run(&["status"]).stdout));
    mesh.machine
        .write("mesh/hello.yaml", "kind: [broken")
        .unwrap();
    let said = || text(&mesh.run(&["status"]).stdout);
    mesh.machine
        .wait_for("the finding", || said().contains("error"))
        .unwrap();
    assert_eq!(address(), before);
}

#[test]
fn without_a_mesh_a_client_says_so() {
    let machine = Machine::start(binary()).unwrap();
    let output = machine.run(&["status"]).unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(
        text(&output.stderr).contains("is the mesh up?"),
        "{output:?}"
    );
}

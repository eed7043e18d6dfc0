//! Questions over files: the answers of the command line, and its exit codes.

use std::process::{Command, Output};

use tempfile::TempDir;

use crate::support::{Mesh, binary, text};

const MESH: &str = include_str!("analysis/mesh.yaml");
const TESTS: &str = include_str!("analysis/tests.yaml");

/// A directory with these files below `mesh/`.
fn directory(files: &[(&str, &str)]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("mesh")).unwrap();
    for (name, text) in files {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    directory
}

fn run(directory: &TempDir, arguments: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.args(arguments).current_dir(directory.path());
    command.output().unwrap()
}

#[test]
fn tests_that_hold() {
    let directory = directory(&[("mesh/mesh.yaml", MESH), ("mesh/tests.yaml", TESTS)]);
    let output = run(&directory, &["test", "-f", "mesh"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let said = text(&output.stdout);
    assert_eq!(said.matches("ok  ").count(), 2, "{said}");
    let output = run(&directory, &["test", "-f", "mesh", "-o", "json"]);
    assert!(
        text(&output.stdout).contains("\"failures\": []"),
        "{output:?}"
    );
    // The same files are still a mesh.
    let output = run(&directory, &["check", "-f", "mesh"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn a_test_that_fails_says_which_line_decides() {
    let wrong = TESTS.replace("timeout: 2s", "timeout: 3s");
    let directory = directory(&[("mesh/mesh.yaml", MESH), ("wrong.yaml", &wrong)]);
    let output = run(&directory, &["test", "-f", "mesh", "wrong.yaml"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = text(&output.stdout);
    for words in [
        "wrong.yaml:8:67",
        "expected: 3s",
        "got:      2s",
        "mesh/mesh.yaml:28:22",
    ] {
        assert!(said.contains(words), "{words} is not in\n{said}");
    }
}

#[test]
fn files_that_cannot_be_used_are_no_base_for_answers() {
    let unknown = TESTS.replace("timeout: 2s", "timeuot: 2s");
    let nowhere = TESTS.replace("us-east-1a", "us-east-1q");
    let cases = [
        (unknown.as_str(), "did you mean `timeout`?"),
        (nowhere.as_str(), "nothing is at zone us-east-1q"),
        (MESH, "has objects of the mesh"),
    ];
    for (tests, says) in cases {
        let directory = directory(&[("mesh/mesh.yaml", MESH), ("tests.yaml", tests)]);
        let output = run(&directory, &["test", "-f", "mesh", "tests.yaml"]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let said = text(&output.stderr);
        assert!(said.contains(says), "{says} is not in\n{said}");
    }
    let directory = directory(&[("mesh/mesh.yaml", MESH)]);
    let output = run(&directory, &["test", "-f", "mesh"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[test]
fn what_would_fail_is_said() {
    let directory = directory(&[("mesh/mesh.yaml", MESH)]);
    let simulate = |down: &str| run(&directory, &["simulate", "-f", "mesh", "--down", down]);
    let output = simulate("zone=us-east-1a");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = text(&output.stdout);
    let why = "db.shop:5432 from east/us-east/us-east-1b would fail: no endpoint of service";
    assert!(said.contains(why), "{said}");
    let output = simulate("workload=shop/payments-a");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    for bad in [
        "zone=us-east-1q",
        "zoen=us-east-1a",
        "zone",
        "workload=payments",
    ] {
        assert_eq!(simulate(bad).status.code(), Some(2), "{bad}");
    }
}

#[test]
fn what_differs_is_said() {
    let new = MESH
        .replace("request: 2s", "request: 3s")
        .replace("methods: [GET]", "methods: [GET, PUT]");
    let directory = directory(&[("mesh/mesh.yaml", MESH), ("new.yaml", &new)]);
    let output = run(&directory, &["diff", "-f", "new.yaml", "--against", "mesh"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = text(&output.stdout);
    let wanted = [
        "ledger.shop:80\n  newly allowed: denied -> allowed\n    for shop/frontend\n    PUT /accounts/*",
        "timeout.request 2s -> timeout.request 3s",
        "at new.yaml:28:22",
    ];
    for words in wanted {
        assert!(said.contains(words), "{words} is not in\n{said}");
    }
    let output = run(&directory, &["diff", "-f", "mesh", "--against", "mesh"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let output = run(&directory, &["diff", "-f", "mesh", "--against", "nothing"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

#[test]
fn a_mesh_passes_over_tests() {
    let mesh = Mesh::up(&[("mesh.yaml", MESH), ("tests.yaml", TESTS)]);
    let status = text(&mesh.run(&["status"]).stdout);
    assert!(!status.contains("error["), "{status}");
    mesh.machine.write("tests.yaml", TESTS).unwrap();
    let output = mesh.run(&["apply", "-f", "tests.yaml"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

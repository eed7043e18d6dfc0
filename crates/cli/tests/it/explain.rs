//! `tacit explain`: what a finding means, without a mesh.

use std::process::{Command, Output};

use tacit_compiler::findings::{CODES, example};

use crate::support::{binary, text};

fn explain(arguments: &[&str]) -> Output {
    Command::new(binary())
        .arg("explain")
        .args(arguments)
        .output()
        .unwrap()
}

#[test]
fn a_code_is_explained_with_an_example() {
    let output = explain(&["tct1104"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let said = text(&output.stdout);
    for words in [
        "TCT1104: Target not found",
        "Error:",
        "Cause: ",
        "Fix: ",
        "Wrong:\n",
        "# <-- here",
        "Right:\n",
    ] {
        assert!(said.contains(words), "{words:?} is not in\n{said}");
    }
    assert!(!said.contains("#!"), "{said}");
}

#[test]
fn without_a_code_all_are_listed() {
    let output = explain(&[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let said = text(&output.stdout);
    for code in CODES {
        assert!(said.contains(code.code) && said.contains(code.title));
    }
    assert!(said.contains("Targets: what a policy applies to\n  TCT1101"));
}

#[test]
fn data_can_be_read_by_programs() {
    for arguments in [&["-o", "json"][..], &["TCT1001", "-o", "json"]] {
        let said = text(&explain(arguments).stdout);
        let value: Result<serde_json::Value, _> = serde_json::from_str(&said);
        assert!(value.is_ok(), "{arguments:?}: {said}");
    }
    let said = text(&explain(&["TCT1104", "-o", "yaml"]).stdout);
    assert!(said.contains("code: TCT1104"), "{said}");
}

#[test]
fn what_is_no_code_is_refused_with_the_nearest_ones() {
    let output = explain(&["TCT1108"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(text(&output.stderr).contains("TCT1107"), "{output:?}");
}

#[test]
fn a_finding_of_check_is_the_one_that_is_explained() {
    // One that needs no fact about a running mesh.
    let code = CODES.iter().find(|code| code.code == "TCT1104").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("wrong.yaml");
    std::fs::write(&file, example(code).unwrap().shown_wrong()).unwrap();
    let output = Command::new(binary())
        .args(["check", "-f"])
        .arg(&file)
        .output()
        .unwrap();
    assert!(text(&output.stdout).contains("[TCT1104]"), "{output:?}");
    let hint = "tacit explain";
    assert!(text(&output.stderr).contains(hint), "{output:?}");
}

//! Each kind of finding has an example: the wrong half has it where it says, the other does not.
//!
//! A half without facts (the `#!` lines of `golden.rs`) is checked as `tacit check` does.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use tacit_compiler::check_files;
use tacit_compiler::findings::{CODES, Code, Shown, example};
use tacit_model::finding::{Finding, Severity};

use crate::golden::moments;
use crate::mesh::Mesh;

/// At the end of each line that a finding of the wrong half points at.
const HERE: &str = "# <-- here";

fn findings(half: &str) -> Vec<Finding> {
    if !half.contains("#!") {
        let file = ("a.yaml".into(), tacit_api::parse("a.yaml", half));
        return check_files([file], 0).findings;
    }
    let mut mesh = Mesh::default();
    for moment in moments(half) {
        mesh.go(&moment);
    }
    mesh.compiler.findings_and_advice()
}

/// Lines that the example marks, facts not counted.
fn marked(half: &str) -> BTreeSet<u32> {
    let shown = half.lines().filter(|line| !line.starts_with("#!"));
    let marked = (1..)
        .zip(shown)
        .filter(|(_, line)| line.trim_end().ends_with(HERE));
    marked.map(|(number, _)| number).collect()
}

fn problems(code: &Code) -> Vec<String> {
    let mut problems = Vec::new();
    let mut say = |what: &str, found: &[Finding]| {
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        let (number, found) = (code.code, found.join("\n"));
        problems.push(format!("{number}: {what}:\n{found}"));
    };
    let Some(example) = example(code) else {
        say("there is no line `# ---- fixed`", &[]);
        return problems;
    };
    let wrong = findings(example.wrong);
    let own = wrong
        .iter()
        .filter(|found| *found.code == *code.code && found.severity == code.severity);
    let lines: BTreeSet<u32> = own
        .filter_map(|found| found.position.as_ref())
        .map(|position| position.line)
        .collect();
    let expected = marked(example.wrong);
    if lines.is_empty() || lines != expected {
        let what = format!("it points at {lines:?}, and {HERE:?} stands in {expected:?}");
        say(&what, &wrong);
    }
    // An AccessPolicy that is refused denies, which is a finding of its own.
    let may_be_there = [code.code, "TCT1404"];
    let other = |found: &&Finding| {
        found.severity == Severity::Error && !may_be_there.contains(&&*found.code)
    };
    if code.code != "TCT1404" && wrong.iter().any(|found| other(&found)) {
        say("the wrong half has another error", &wrong);
    }
    let fixed = findings(example.fixed);
    if !fixed.is_empty() {
        say("the fixed half still has findings", &fixed);
    }
    problems
}

#[test]
fn examples_have_their_findings_and_no_others() {
    let examples = CODES
        .iter()
        .filter(|code| matches!(code.shown, Shown::Example(_)));
    let problems: Vec<String> = examples.flat_map(problems).collect();
    assert!(problems.is_empty(), "{}", problems.join("\n\n"));
}

#[test]
fn each_file_is_the_example_of_a_code() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("findings");
    for entry in fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let shown = CODES.iter().any(|code| {
            matches!(code.shown, Shown::Example(_)) && name == format!("{}.yaml", code.code)
        });
        assert!(shown, "{name}");
    }
}

/// Nearly everything can be written down. A new code that cannot needs a reason as good as these.
#[test]
fn few_codes_have_no_example() {
    let without = CODES
        .iter()
        .filter(|code| matches!(code.shown, Shown::Circumstance(_)));
    let without: Vec<&str> = without.map(|code| code.code).collect();
    assert_eq!(
        without,
        [
            "TCT1001", "TCT1503", "TCT1901", "TCT2001", "TCT2002", "TCT2003", "TCT2004", "TCT2005"
        ]
    );
}

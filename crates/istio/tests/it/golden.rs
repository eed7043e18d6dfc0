//! Golden files: `<topic>/<case>.in.yaml` is what is written, `.out.yaml` the objects,
//! `.findings.txt` what the compiler and the translation say. `BLESS=1` rewrites the latter two.

use std::fs;
use std::path::{Path, PathBuf};

use tacit_model::finding::Finding;

use crate::translated;

/// All inputs, by name.
pub(crate) fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut found = Vec::new();
    for topic in fs::read_dir(folder).unwrap() {
        for file in fs::read_dir(topic.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            if path.to_string_lossy().ends_with(".in.yaml") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn shown(findings: &[Finding]) -> String {
    findings
        .iter()
        .map(|finding| format!("{finding}\n"))
        .collect()
}

#[test]
fn goldens() {
    let cases = cases();
    assert!(cases.len() >= 20, "only {} cases were found", cases.len());
    let bless = std::env::var_os("BLESS").is_some();
    let mut wrong = Vec::new();
    for case in cases {
        let text = fs::read_to_string(&case).unwrap();
        let (_, checked, translation) = translated(&text);
        let documents = translation.objects.iter().map(tacit_api::print::yaml);
        let objects = documents.collect::<Vec<_>>().join("---\n");
        let findings = shown(&checked.findings) + &shown(&translation.findings);
        for (extension, out) in [("out.yaml", objects), ("findings.txt", findings)] {
            let path = case.to_string_lossy().replace("in.yaml", extension);
            if bless {
                fs::write(&path, &out).unwrap();
            }
            if fs::read_to_string(&path).unwrap_or_default() != out {
                wrong.push(format!("{path}:\n{out}"));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "BLESS=1 rewrites what differs:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn every_finding_is_in_the_table_and_has_a_place() {
    for case in cases() {
        let text = fs::read_to_string(&case).unwrap();
        for finding in translated(&text).2.findings {
            let code = tacit_compiler::findings::code(&finding.code).unwrap();
            assert_eq!(code.severity, finding.severity);
            assert!(finding.position.is_some(), "{}: {finding}", case.display());
        }
    }
}

#[test]
fn the_guide_shows_what_comes_out() {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/user/istio.md");
    let guide = fs::read_to_string(guide).unwrap();
    let blocks: Vec<&str> = guide
        .split("```yaml\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap())
        .collect();
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: ledger, namespace: shop}\n\
                   spec: {selector: {app: ledger}, \
                   ports: [{name: http, port: 80, targetPort: 8080}]}\n---\n";
    let objects = translated(&(service.to_owned() + blocks[0])).2.objects;
    let policies = objects
        .iter()
        .filter(|object| object["kind"] == "AuthorizationPolicy");
    let documents: Vec<String> = policies.map(tacit_api::print::yaml).collect();
    assert_eq!(documents.join("---\n"), blocks[1]);
}

//! `tacit translate`: objects on standard output, what is not expressed on standard error.

use std::process::{Command, Output};

use crate::support::{binary, text};

const FILE: &str = "\
apiVersion: v1
kind: Service
metadata: {name: hello, namespace: shop}
spec: {selector: {app: hello}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: tacit.dev/v1alpha1
kind: RetryTimeoutPolicy
metadata: {name: hello, namespace: shop}
spec:
  targetRefs: [{group: '', kind: Service, name: hello}]
  timeout: {request: 2s}
";

/// Translates a file with `more` at its end.
fn translate(more: &str, options: &[&str]) -> Output {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("a.yaml"), FILE.to_owned() + more).unwrap();
    let mut command = Command::new(binary());
    command
        .args(["translate", "--to", "istio", "-f", "a.yaml"])
        .args(options);
    command.current_dir(directory.path()).output().unwrap()
}

#[test]
fn objects_come_out() {
    let done = translate("", &["--strict"]);
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    let objects = text(&done.stdout);
    assert_eq!(objects.matches("apiVersion: ").count(), 3, "{objects}");
    assert!(objects.contains("    timeout: 2s\n"), "{objects}");
    let origin = "spec.http[0].timeout: RetryTimeoutPolicy/shop/hello spec.timeout.request\n";
    assert!(objects.contains(origin), "{objects}");
    assert_eq!(text(&done.stderr), "3 objects, 0 errors, 0 differences\n");
}

#[test]
fn what_is_not_expressed_is_said() {
    let more = "  retry: {attempts: 2, budget: {retryPercent: 10}}\n";
    let done = translate(more, &["-o", "json", "--istio-root", "mesh-root"]);
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    let objects = text(&done.stdout);
    assert!(
        objects.contains("\"kind\": \"List\"") && objects.contains("mesh-root"),
        "{objects}"
    );
    let said = text(&done.stderr);
    assert!(
        said.contains("warning[TCT2001]") && said.contains("a.yaml:12:24"),
        "{said}"
    );
    assert_eq!(translate(more, &["--strict"]).status.code(), Some(1));
}

#[test]
fn errors_exit_with_one() {
    let done = translate("  hedge: {max: 1}\n", &[]);
    assert_eq!(done.status.code(), Some(1), "{done:?}");
    assert!(text(&done.stderr).contains("error[TCT1201]"), "{done:?}");
}

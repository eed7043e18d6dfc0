//! Words of the command line: refused in words, with the exit code that `--help` promises.

use std::process::Command;

use tacit_lab::Machine;

use crate::support::{Mesh, binary, text};

/// Arguments, exit code, what standard error says.
const REFUSED: [(&[&str], i32, &str); 12] = [
    (
        &["run", "--as", "shop/web", "--label", "a b=c", "--", "true"],
        2,
        "no key of a label",
    ),
    (
        &["run", "--as", "shop/web", "--label", "a=b c", "--", "true"],
        2,
        "no value of a label",
    ),
    (
        &["run", "--as", "shop/web", "--port", ":80", "--", "true"],
        2,
        "NAME:PORT",
    ),
    (
        &[
            "run", "--as", "shop/web", "--port", "a:80", "--port", "b:80", "--", "true",
        ],
        2,
        "listed twice",
    ),
    (
        &["run", "--as", "shop/web", "--port", "a:15008", "--", "true"],
        2,
        "the mesh's own",
    ),
    (
        &[
            "run",
            "--as",
            "shop/web",
            "--publish",
            "15012",
            "--",
            "true",
        ],
        1,
        "in use",
    ),
    (
        &["run", "--as", "shop/web", "--", "/no/such/program"],
        127,
        "cannot start /no/such/program",
    ),
    (
        &["run", "--as", "shop/web", "--", "/etc/passwd"],
        126,
        "cannot start /etc/passwd",
    ),
    (&["why", "shop/web", "hello.shop"], 2, "HOST:PORT"),
    (
        &["why", "shop/web", "http://hello.shop/", "--zone", "nowhere"],
        2,
        "no zone \"nowhere\"",
    ),
    (
        &["why", "shop/web", "http://hello.shop/", "--method", "G T"],
        2,
        "no HTTP method",
    ),
    (
        &["wait", "--for", "Ready", "service", "shop/hello"],
        2,
        "Programmed",
    ),
];

#[test]
fn what_makes_no_sense_is_refused_in_words() {
    let hello = include_str!("../../../../examples/hello/hello.yaml");
    let mesh = Mesh::up(&[("hello.yaml", hello)]);
    for (arguments, code, says) in REFUSED {
        let output = mesh.run(arguments);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{arguments:?}: {output:?}"
        );
        let said = text(&output.stderr);
        assert!(said.contains(says), "{arguments:?}: {said}");
    }
    // Control: the same words in order.
    for arguments in [
        &[
            "run", "--as", "shop/web", "--label", "a=b", "--port", "a:80", "--", "true",
        ][..],
        &["wait", "--for", "programmed", "service", "shop/hello"],
        &["why", "shop/web", "http://hello.shop/", "--method", "get"],
    ] {
        let output = mesh.run(arguments);
        let fine = output.status.success() || arguments[0] == "why";
        assert!(fine, "{arguments:?}: {output:?}");
    }
}

#[test]
fn data_has_three_formats() {
    let hello = include_str!("../../../../examples/hello/hello.yaml");
    let mesh = Mesh::up(&[("hello.yaml", hello)]);
    mesh.machine
        .write("more.yaml", &hello.replace("name: hello,", "name: more,"))
        .unwrap();
    for arguments in [
        &["status"][..],
        &["get", "all"],
        &["why", "shop/web", "http://nobody.shop/"],
        &["wait", "--for", "Accepted", "service", "shop/hello"],
        &["check", "-f", "mesh"],
    ] {
        let format = |format: &str| {
            let output = mesh.run(&[arguments, &["-o", format]].concat());
            text(&output.stdout)
        };
        let json = format("json");
        assert!(
            serde_json::from_str::<serde_json::Value>(&json).is_ok(),
            "{arguments:?}: {json}"
        );
        let yaml = format("yaml");
        assert!(!yaml.starts_with(['{', '"']), "{arguments:?}: {yaml}");
        assert_ne!(format("table"), json, "{arguments:?}");
    }
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    for shell in ["bash", "zsh", "fish"] {
        let script = format!("{} completions {shell} | head -n 1", binary().display());
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        assert_eq!(text(&output.stderr), "", "{shell}");
        assert!(!output.stdout.is_empty(), "{shell}");
    }
}

#[test]
fn exit_codes_are_in_the_help() {
    let help = Command::new(binary()).arg("--help").output().unwrap();
    let help = text(&help.stdout);
    for line in [
        "0  done",
        "3  the mesh cannot be reached",
        "127 if there is no such program",
    ] {
        assert!(help.contains(line), "{line:?} is not in\n{help}");
    }
}

#[test]
fn a_directory_that_is_none_is_said_before_anything_starts() {
    let machine = Machine::start(binary()).unwrap();
    machine.write("file.yaml", "").unwrap();
    for path in ["nowhere", "file.yaml"] {
        for command in ["up", "control"] {
            let output = machine.run(&[command, "-f", path]).unwrap();
            assert_eq!(
                output.status.code(),
                Some(2),
                "{command} {path}: {output:?}"
            );
            assert!(text(&output.stderr).contains(path), "{output:?}");
        }
    }
}

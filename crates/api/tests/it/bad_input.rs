//! Bad input: each case of a golden file with its position, its message and its fix.

use std::fmt::Write;

use expect_test::{ExpectFile, expect, expect_file};
use tacit_api::parse::{DOCUMENT_MAX, DOCUMENTS_MAX, FILE_MAX};
use tacit_api::{Parsed, parse, parse_bytes};

/// Compares the errors of every case with a golden file; `UPDATE_EXPECT=1` rewrites it.
fn check<T: AsRef<[u8]>>(cases: impl IntoIterator<Item = T>, expected: &ExpectFile) {
    let mut out = String::new();
    for case in cases {
        let bytes = case.as_ref();
        let shown: String = String::from_utf8_lossy(bytes).chars().take(400).collect();
        out += "=== input\n";
        for line in shown.lines() {
            // Controls are shown as escapes, so that the golden file is text.
            let escaped: String = line.chars().flat_map(show).collect();
            out += &format!("    {escaped}\n");
        }
        let rendered = render(&parse_bytes("a", bytes));
        assert!(!rendered.is_empty(), "no error in {shown}");
        out += &rendered;
    }
    expected.assert_eq(&out);
}

fn show(c: char) -> impl Iterator<Item = char> {
    let escaped = if c.is_control() {
        c.escape_default().to_string()
    } else {
        c.to_string()
    };
    escaped.chars().collect::<Vec<char>>().into_iter()
}

/// `line:column problem [field] (object)`, the message and the fix of each error.
fn render(parsed: &Parsed) -> String {
    let mut out = String::new();
    for error in &parsed.errors {
        let (line, column) = (error.position.line, error.position.column);
        let object = error
            .object
            .as_ref()
            .map_or_else(|| "-".to_owned(), ToString::to_string);
        let (problem, field) = (error.problem, &error.field);
        let head = format!("{line}:{column} {problem:?} [{field}] ({object})");
        let written = writeln!(out, "{head}\n  {}\n  fix: {}", error.message, error.fix);
        assert!(written.is_ok());
    }
    out
}

/// A RetryTimeoutPolicy whose spec begins on line 5.
fn policy(spec: &str) -> String {
    format!(
        "apiVersion: tacit.dev/v1alpha1\nkind: RetryTimeoutPolicy\nmetadata: {{name: p}}\n\
         spec:\n{spec}\n"
    )
}

fn metadata(metadata: &str) -> String {
    format!("apiVersion: v1\nkind: Service\nmetadata: {metadata}\nspec: {{}}\n")
}

#[test]
fn not_yaml() {
    let cases = [
        "a: [1, 2",
        "a: 'b",
        "a: b: c",
        "a:\n\t- b",
        "{a: b}}",
        "- a\nb: c",
        "a: \"\\q\"",
        "%YAML 1.2\n---\na: b",
        "a: *b",
        "a: &b [*b]",
        "a: !!str 1",
        "? [a]\n: b",
        "a: 1\na: 2",
        "a: {b: 1, c: 2, b: 3}",
        "<<<<<<< HEAD\na: b\n=======\n",
    ];
    check(cases, &expect_file!["bad_input/not_yaml.txt"]);
}

#[test]
fn not_text() {
    let utf16: Vec<u8> = "a: b".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let cases: [&[u8]; 6] = [
        b"a: b\nc: \xff\xfe",
        b"a: b\r\nc: d\re: f",
        b"\x7fELF\x02\x01\x01\0\0",
        b"\x1f\x8b\x08\0\0\0",
        &utf16,
        b"\0",
    ];
    check(cases, &expect_file!["bad_input/not_text.txt"]);
}

#[test]
fn not_an_object() {
    let cases = [
        "just text",
        "- a\n- b",
        "42",
        "{}",
        "a: b",
        "kind: [Service]",
        "kind: Service",
        "apiVersion: v1\nkind: Servce\nmetadata: {name: a}\nspec: {}",
        "apiVersion: v1\nkind: Deployment\nmetadata: {name: a}\nspec: {}",
        "apiVersion: v2\nkind: Service\nmetadata: {name: a}\nspec: {}",
        "apiVersion: v1\nkind: Mesh\nmetadata: {name: a}\nspec: {}\nspecs: {}",
        "apiVersion: v1\nkind: List\nitems: {}",
    ];
    check(cases, &expect_file!["bad_input/not_an_object.txt"]);
}

#[test]
fn bad_metadata() {
    let labels: Vec<String> = (0..65).map(|n| format!("l{n}: v")).collect();
    let labels = format!("{{name: a, labels: {{{}}}}}", labels.join(", "));
    let mesh = "apiVersion: tacit.dev/v1alpha1\nkind: Mesh\n";
    let cases = [
        metadata("{}"),
        metadata("a"),
        metadata(""),
        metadata("{name: 8080}"),
        metadata("{name: a, label: {}}"),
        metadata("{name: a, labels: {a: 1}}"),
        metadata("{name: a, labels: [a]}"),
        metadata("{name: a, namespace: null}"),
        metadata(&labels),
        format!("{mesh}metadata: {{name: a, namespace: b}}\nspec: {{}}"),
    ];
    check(cases, &expect_file!["bad_input/bad_metadata.txt"]);
}

#[test]
fn bad_fields() {
    let cases = [
        "  retry:\n    atempts: 3",
        "  retry: {attempts: three}",
        "  retry: {attempts: \"3\"}",
        "  retry: {attempts: -1}",
        "  retry: {attempts: 4294967296}",
        "  retry: {attempts: 1.5}",
        "  retry: {attempts: 99999999999999999999999999999999999999999999}",
        "  retry:",
        "  retry: [1]",
        "  retry: {on: Reset}",
        "  retry: {on: [Reset, Rest, GatwayError, Nothing, 5]}",
        "  retry: {codes: [503, 70000, x]}",
        "  retry: {nonIdempotent: yes}",
        "  retry: {nonIdempotent: 1}",
        "  retry: {maxBody: 64kb}",
        "  timeout: {request: 2}",
        "  timeout: {request: 2 s, perTry: 1.5s}",
        "  timeout: 2s",
        "  enforcement: override",
        "  priority: high",
        "  targetRefs: [{kind: Service}]",
        "  targetAll: {all: true}",
        "  from: [{cidr: 10.0.0.0/8}]",
    ];
    check(cases.map(policy), &expect_file!["bad_input/bad_fields.txt"]);
}

#[test]
fn bad_fields_of_other_kinds() {
    let object = |kind: &str, spec: &str| {
        let version = if kind == "Service" {
            "v1"
        } else {
            "tacit.dev/v1alpha1"
        };
        format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{name: a}}\nspec: {spec}\n")
    };
    let cases = [
        object("AccessPolicy", "{}"),
        object(
            "AccessPolicy",
            "{action: allow, rules: [{to: [{ports: [http]}]}]}",
        ),
        object(
            "FailoverPolicy",
            "{order: [{places: {zone: same}}], whenNoneHealthy: All}",
        ),
        object(
            "Workload",
            "{serviceAccount: a, node: b, ports: [8080], command: [sleep, 5]}",
        ),
        object(
            "Workspace",
            "{grants: [{to: [], verbs: [Write], until: tomorrow}]}",
        ),
        object(
            "Mesh",
            "{maxOffline: 1d, subjects: [{uid: root}], egress: deny}",
        ),
        object(
            "Service",
            "{ports: [{port: 0x50, targetPort: 1.5}, {targetPort: web}]}",
        ),
    ];
    check(
        cases,
        &expect_file!["bad_input/bad_fields_of_other_kinds.txt"],
    );
}

#[test]
fn bad_policy_tests() {
    let test = |rest: &str| {
        let head = "apiVersion: tacit.dev/v1alpha1\nkind: PolicyTest\nmetadata: {name: a}";
        format!("{head}\n{rest}\n")
    };
    let case = |case: &str| test(&format!("cases:\n- {case}"));
    let cases = [
        test(""),
        test("spec: {}"),
        test("given: {down: [{zoen: a}, {workload: a}]}\ncases: []"),
        "apiVersion: v1\nkind: PolicyTest\nmetadata: {name: a, namespace: b}\ncases: []".to_owned(),
        "apiVersion: v1\nkind: PolicyTests\nmetadata: {name: a}\ncases: []".to_owned(),
        case("{from: {serviceAccount: frontend}, request: GET, then: {verdict: allowed}}"),
        case(
            "{from: {serviceAccount: a/b}, request: get http://a/, then: {tries: -1, timeout: 2}}",
        ),
        case("{from: {}, request: GET http://a/}"),
    ];
    check(cases, &expect_file!["bad_input/bad_policy_tests.txt"]);
}

#[test]
fn one_bad_document_does_not_hide_the_others() {
    let good = |name: &str| metadata(&format!("{{name: {name}}}"));
    let text = format!(
        "{}---\na: [\n---\n{}--- {{kind: Nothing}}\n---\nb: \"\n...\n{}",
        good("one"),
        good("two"),
        good("three")
    );
    let parsed = parse("a", &text);
    let names: Vec<&str> = parsed
        .objects
        .iter()
        .map(|o| o.value.metadata().name.as_str())
        .collect();
    assert_eq!(names, ["one", "two", "three"]);
    check([text], &expect_file!["bad_input/one_bad_document.txt"]);
    let mut bytes = good("one").into_bytes();
    bytes.extend(b"---\n\xff\xff\n---\n");
    bytes.extend(good("two").into_bytes());
    let parsed = parse_bytes("a", &bytes);
    assert_eq!((parsed.objects.len(), parsed.errors.len()), (2, 1));
    assert_eq!(parsed.errors[0].position.line, 6);
}

#[test]
fn limits() {
    let long = format!(
        "{}---\na: {}",
        metadata("{name: a}"),
        "b".repeat(DOCUMENT_MAX)
    );
    assert_eq!(parse("a", &long).objects.len(), 1);
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..30 {
        let items = vec![format!("*a{}", n - 1); 10].join(", ");
        bomb += &format!("a{n}: &a{n} [{items}]\n");
    }
    let cases = [
        "a".repeat(FILE_MAX + 1),
        long,
        "[".repeat(100_000),
        "- ".repeat(100_000),
        format!("[{}]", "1,".repeat(200_000)),
        bomb,
    ];
    check(cases, &expect_file!["bad_input/limits.txt"]);
    let many = "a\n---\n".repeat(DOCUMENTS_MAX + 5);
    let errors = parse("a", &many).errors;
    assert_eq!(errors.len(), DOCUMENTS_MAX + 1);
    expect!["more than 10000 documents in one file"].assert_eq(&errors[DOCUMENTS_MAX].message);
    let unknown: String = (0..500).map(|n| format!("  f{n}: 1\n")).collect();
    let errors = parse("a", &policy(&unknown)).errors;
    assert_eq!(errors.len(), 101);
    expect!["400 more problems in this document"].assert_eq(&errors[100].message);
}

//! Properties: no bytes make a panic, and what is printed reads back.

use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::Value;
use tacit_api::print::json;
use tacit_api::{Located, Object, parse, parse_bytes, to_json, to_yaml};

use crate::samples;

/// Pieces of which broken documents are made: more of the reader is reached than by random bytes.
const PIECES: &[&str] = &[
    "apiVersion: tacit.dev/v1alpha1\n",
    "apiVersion: v1\n",
    "kind: Mesh\n",
    "kind: Service\n",
    "kind: RetryTimeoutPolicy\n",
    "metadata: {name: a}\n",
    "metadata:\n",
    "  name: a\n",
    "spec:\n",
    "  retry: {attempts: 50}\n",
    "  timeout: {request: 2s}\n",
    "  targetAll: {}\n",
    "spec: {}\n",
    "---\n",
    "--- ",
    "...\n",
    "- ",
    ": ",
    "? ",
    "& ",
    "&a ",
    "*a ",
    "!!str ",
    "%YAML 1.2\n",
    "[",
    "]",
    "{",
    "}",
    ",",
    "\"",
    "'",
    "|\n",
    ">-\n",
    "\t",
    "\r\n",
    "\n",
    "  ",
    "\\x",
    "\\ud800",
    "\u{feff}",
    "\u{2028}",
    "\0",
    "~",
    "0x",
    ".inf",
    "1e999",
    "<<: *a\n",
    "#",
    "é",
    "\u{1f980}",
];

fn broken() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(PIECES), 0..40).prop_map(|parts| parts.concat())
}

/// Everything that is promised of any bytes.
fn is_sound(bytes: &[u8]) -> Result<(), TestCaseError> {
    let parsed = parse_bytes("a.yaml", bytes);
    let lines = bytes.split(|b| *b == b'\n').count();
    for error in &parsed.errors {
        prop_assert!(
            (1..=lines).contains(&usize::try_from(error.position.line)?),
            "{error}"
        );
        prop_assert!(error.position.column >= 1, "{error}");
        // A number that somebody wrote, such as `0.`, may end in one.
        let before = error.message.strip_suffix('.').unwrap_or("0");
        prop_assert!(
            !error.message.is_empty() && before.ends_with(|c: char| c.is_ascii_digit()),
            "{error}"
        );
        prop_assert!(!error.fix.is_empty(), "{error}");
    }
    for object in parsed.objects {
        reads_back(&object.value)?;
    }
    Ok(())
}

fn reads_back(object: &Object) -> Result<(), TestCaseError> {
    for text in [to_yaml(object)?, json(&to_json(object)?)] {
        let parsed = parse("b", &text);
        prop_assert_eq!(parsed.errors, [], "{}", text);
        let again: Vec<Object> = parsed.objects.into_iter().map(|o| o.value).collect();
        prop_assert_eq!(&again, std::slice::from_ref(object), "{}", text);
    }
    Ok(())
}

/// Fields that must be written, or whose value has a notation.
const KEEP: &[&str] = &[
    "apiVersion",
    "kind",
    "metadata",
    "spec",
    "name",
    "group",
    "matchLabels",
    "clients",
    "order",
    "provider",
    "path",
    "action",
    "region",
    "zones",
    "issuer",
    "jwks",
    "url",
    "commonName",
    "serviceAccount",
    "node",
    "port",
    "namespaces",
    "workspace",
    "services",
    "to",
    "verbs",
    "rule",
    "message",
    "limits",
    "requests",
    "type",
    "per",
    "time",
    "sharePercent",
    "status",
    "until",
];

/// Texts without a notation.
const FREE: &[&str] = &[
    "name",
    "namespace",
    "group",
    "provider",
    "path",
    "issuer",
    "url",
    "commonName",
    "node",
    "message",
    "rule",
    "trustDomain",
    "cluster",
    "home",
    "serviceAccount",
    "user",
    "targetPort",
];

/// Drops fields that may be absent, and puts other texts where any text may be.
fn vary(key: &str, value: &mut Value, choices: &mut impl Iterator<Item = (u8, String)>) {
    match value {
        Value::Object(map) => {
            let keys: Vec<String> = map.keys().cloned().collect();
            for key in keys {
                let drop = choices.next().is_some_and(|(choice, _)| choice < 64);
                if drop && !KEEP.contains(&key.as_str()) {
                    map.remove(&key);
                } else if let Some(inner) = map.get_mut(&key) {
                    vary(&key, inner, choices);
                }
            }
        }
        Value::Array(items) => {
            if choices.next().is_some_and(|(choice, _)| choice < 32) {
                items.clear();
            }
            for item in items {
                vary(key, item, choices);
            }
        }
        Value::String(text) if FREE.contains(&key) => {
            if let Some((_, other)) = choices.next().filter(|(choice, _)| *choice < 128) {
                *text = other;
            }
        }
        Value::Bool(_) | Value::Null | Value::Number(_) | Value::String(_) => {}
    }
}

/// Texts that a YAML reader might take for something else.
const TRICKY: &[&str] = &[
    "",
    "null",
    "~",
    "yes",
    "on",
    "1",
    "0x1f",
    "1e3",
    "-",
    "- a",
    "a: b",
    "a #b",
    "#",
    "---",
    "2026-01-01",
    "1:30",
    " a ",
    "\u{85}\u{2028}\u{feff}\u{fffe}",
    "\u{10ffff}",
    "\\",
    "@",
    "`",
    "%",
    "*a",
    "&a",
    "!a",
    "|",
    ">",
    "? a",
    "=",
    "<<",
    ".inf",
    "true",
    "é",
    "a\r\nb",
    "\0",
    "a\u{1}b",
    "\u{7f}",
    "'",
    "\"",
    "\t",
    "two\nlines",
    "a: b\n# no comment\n- item\n---\n...",
    "a\n\nb",
    "a\n b",
    "\n",
];

fn text() -> impl Strategy<Value = String> {
    let tricky = prop::sample::select(TRICKY).prop_map(str::to_owned);
    prop_oneof![any::<String>(), tricky]
}

/// Read once: each case takes one of them.
static SAMPLES: LazyLock<Vec<Located<Object>>> = LazyLock::new(samples::all);

/// Random inputs in a plain `cargo test`; `TACIT_CASES` asks for more.
const CASES: u64 = 50_000;

/// Four properties, each with a quarter of the cases, are about inputs of any kind.
fn cases() -> u32 {
    let asked = std::env::var("TACIT_CASES").ok();
    let cases = asked.and_then(|text| text.parse().ok()).unwrap_or(CASES);
    u32::try_from(cases / 4).unwrap_or(u32::MAX)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        is_sound(&bytes)?;
    }

    #[test]
    fn any_text_is_survived(text in any::<String>()) {
        is_sound(text.as_bytes())?;
    }

    #[test]
    fn broken_documents_are_survived(text in broken()) {
        is_sound(text.as_bytes())?;
    }

    #[test]
    fn samples_with_a_wound_are_survived(
        which in 0..13_usize, at in any::<prop::sample::Index>(),
        wound in prop::sample::select(PIECES),
        removed in 0..20_usize,
    ) {
        let text = &SAMPLES[which].source.text;
        let chars: Vec<char> = text.chars().collect();
        let at = at.index(chars.len());
        let rest: String = chars.iter().skip(at + removed).collect();
        let start: String = chars[..at].iter().collect();
        is_sound(format!("{start}{wound}{rest}").as_bytes())?;
    }

}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn what_is_printed_reads_back(
        which in 0..10_usize,
        choices in prop::collection::vec((any::<u8>(), text()), 0..200),
    ) {
        let mut json = to_json(&SAMPLES[which].value).unwrap();
        vary("", &mut json, &mut choices.into_iter());
        let parsed = parse("a", &tacit_api::print::yaml(&json));
        prop_assert_eq!(&parsed.errors, &[], "{}", json);
        reads_back(&parsed.objects[0].value)?;
    }
}

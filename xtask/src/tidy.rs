//! Rules that the compiler does not know: crate direction, purity, sizes, first lines, words.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Which of our crates each crate may use. A new edge is an architectural change: write an ADR.
const MAY_USE: &[(&str, &[&str])] = &[
    ("analysis", &["api", "model", "compiler", "decide"]),
    ("api", &[]),
    (
        "cli",
        &[
            "analysis",
            "api",
            "model",
            "compiler",
            "decide",
            "wire",
            "sys",
            "transport",
            "http",
            "proxy",
            "control",
            "demo",
            "istio",
        ],
    ),
    ("compiler", &["api", "model"]),
    (
        "control",
        &["api", "model", "compiler", "decide", "wire", "transport"],
    ),
    ("decide", &["model"]),
    ("demo", &["sys"]),
    ("http", &["model", "decide", "transport"]),
    ("istio", &["api", "model", "compiler"]),
    ("lab", &["sys"]),
    ("model", &[]),
    (
        "proxy",
        &["model", "decide", "wire", "sys", "transport", "http"],
    ),
    // Read by tests only, so it shares nothing with what it is compared with.
    ("reference", &[]),
    ("sys", &[]),
    ("transport", &["model", "decide", "sys"]),
    ("wire", &["model"]),
];

/// Which of our crates the tests of a crate may use besides those.
const TESTS_MAY_USE: &[(&str, &str)] = &[
    // Another back end must decide as our own does.
    ("istio", "decide"),
    // The comparison goes from documents to decisions.
    ("reference", "api"),
    ("reference", "compiler"),
    ("reference", "decide"),
    ("reference", "model"),
];

/// What pure crates may use from outside: data formats, never IO, clocks or chance.
const PURE: &[(&str, &[&str])] = &[
    ("analysis", &["serde"]),
    ("api", &["granit-parser", "serde", "serde_json", "time"]),
    ("compiler", &["cel", "imbl", "serde", "serde_json", "time"]),
    ("decide", &["serde"]),
    ("istio", &["serde_json"]),
    ("model", &["imbl", "serde"]),
    ("reference", &["serde_json"]),
];

/// What a pure crate's own code must not name. `clippy.toml` cannot say it for some crates only.
const IMPURE: &[&str] = &[
    "Instant::now",
    "SystemTime",
    "std::env",
    "std::fs",
    "std::net::Tcp",
    "std::process",
    "std::thread",
    "thread_rng",
    "tokio",
    "rand::",
];

/// Crates whose types `transport` must not show.
const HIDDEN_IN_TRANSPORT: &[&str] = &["h2::", "hyper::", "rustls::", "tokio_rustls::"];

/// Non-test lines of a file, at most.
const FILE_LINES: usize = 600;
/// Characters of a line, at most.
const LINE_WIDTH: usize = 100;

/// Checks everything; the error is one line for each broken rule.
pub(crate) fn run() -> Result<String, Vec<String>> {
    let mut problems = Vec::new();
    let metadata = metadata().map_err(|e| vec![e])?;
    check_crates(&metadata, &mut problems);
    let reasons = fs::read_to_string("deny.toml").map_err(|e| vec![format!("deny.toml: {e}")])?;
    check_reasons(&metadata, &reasons, &mut problems);
    let files = tracked_files().map_err(|e| vec![e])?;
    let mut rust_files = 0;
    for path in &files {
        let Ok(text) = fs::read_to_string(path) else {
            continue;
        };
        check_words(path, &text, &mut problems);
        if path.extension().is_some_and(|e| e == "rs") && !generated(path) {
            rust_files += 1;
            check_rust(path, &text, &mut problems);
        }
    }
    if problems.is_empty() {
        Ok(format!(
            "tidy: {rust_files} Rust files, {} files in all",
            files.len()
        ))
    } else {
        Err(problems)
    }
}

fn metadata() -> Result<Value, String> {
    let output = Command::new("cargo")
        .args(["metadata", "--format-version", "1", "--no-deps"])
        .output()
        .map_err(|e| format!("cargo metadata: {e}"))?;
    serde_json::from_slice(&output.stdout).map_err(|e| format!("cargo metadata: {e}"))
}

fn tracked_files() -> Result<Vec<PathBuf>, String> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .output()
        .map_err(|e| format!("git ls-files: {e}"))?;
    let names = String::from_utf8_lossy(&output.stdout);
    Ok(names
        .lines()
        .map(PathBuf::from)
        .filter(|path| path.is_file())
        .collect())
}

fn generated(path: &Path) -> bool {
    path.components()
        .any(|part| part.as_os_str() == "generated")
}

fn check_crates(metadata: &Value, problems: &mut Vec<String>) {
    let may_use: BTreeMap<_, BTreeSet<_>> = MAY_USE
        .iter()
        .map(|(name, uses)| (*name, uses.iter().copied().collect()))
        .collect();
    let pure: BTreeMap<_, _> = PURE.iter().copied().collect();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let Some(name) = package["name"]
            .as_str()
            .and_then(|n| n.strip_prefix("tacit-"))
        else {
            continue;
        };
        let Some(allowed) = may_use.get(name) else {
            problems.push(format!(
                "tidy: crate {name} has no row in the table of directions"
            ));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let dev = dependency["kind"].as_str() == Some("dev");
            let used = dependency["name"].as_str().unwrap_or_default();
            if let Some(ours) = used.strip_prefix("tacit-") {
                let lab = dev && (ours == "lab" || TESTS_MAY_USE.contains(&(name, ours)));
                if !(lab || allowed.contains(ours)) {
                    problems.push(format!("tidy: {name} must not use {ours}"));
                }
            } else if let Some(external) = pure.get(name)
                && !dev
                && !external.contains(&used)
            {
                problems.push(format!("tidy: {name} is pure and must not use {used}"));
            }
        }
    }
}

/// Each crate of others that we use has a line in the comment at the top of `deny.toml`.
fn check_reasons(metadata: &Value, reasons: &str, problems: &mut Vec<String>) {
    let known: BTreeSet<&str> = reasons
        .lines()
        .filter(|line| line.starts_with('#'))
        .flat_map(|line| line.split(|c: char| !(c.is_alphanumeric() || c == '-' || c == '_')))
        .collect();
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let used: BTreeSet<&str> = packages
        .flat_map(|package| package["dependencies"].as_array().into_iter().flatten())
        .filter_map(|dependency| dependency["name"].as_str())
        .filter(|name| !name.starts_with("tacit-"))
        .collect();
    for name in used.difference(&known) {
        problems.push(format!("deny.toml: no reason is given for {name}"));
    }
}

fn check_rust(path: &Path, text: &str, problems: &mut Vec<String>) {
    let shown = path.display();
    let mut say = |problem: String| problems.push(format!("{shown}: {problem}"));
    if !text.starts_with("//! ") {
        say("the first line must say what the file is for (//! ...)".into());
    }
    if path.file_name().is_some_and(|name| name == "mod.rs") {
        say("use name.rs beside a folder, not mod.rs".into());
    }
    let in_tests = path.components().any(|part| part.as_os_str() == "tests")
        || path.file_name().is_some_and(|name| name == "tests.rs");
    let code = text.split("\n#[cfg(test)]\nmod ").next().unwrap_or(text);
    let lines = code.lines().count();
    if lines > FILE_LINES && !in_tests {
        say(format!("{lines} lines without tests, at most {FILE_LINES}"));
    }
    for (index, line) in code.lines().enumerate() {
        if line.chars().count() > LINE_WIDTH && !in_tests {
            say(format!("line {} is wider than {LINE_WIDTH}", index + 1));
        }
    }
    let in_crate = |name: &str| path.starts_with(format!("crates/{name}/src"));
    for (name, _) in PURE.iter().filter(|(name, _)| in_crate(name)) {
        for word in IMPURE
            .iter()
            .filter(|word| without_comments(code).contains(**word))
        {
            say(format!("{name} is pure and must not name `{word}`"));
        }
    }
    if code.contains("unsafe ")
        && without_comments(code).contains(&["unsafe", " {"].concat())
        && !in_crate("sys")
    {
        say("only `sys` may contain unsafe code".into());
    }
    if in_crate("transport") {
        for line in code
            .lines()
            .filter(|line| line.trim_start().starts_with("pub "))
        {
            if let Some(word) = HIDDEN_IN_TRANSPORT
                .iter()
                .find(|word| line.contains(**word))
            {
                say(format!(
                    "transport must not show a type of `{word}`: {}",
                    line.trim()
                ));
            }
        }
    }
}

fn without_comments(code: &str) -> String {
    code.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Words that say where a text was written instead of what it is about, and words left behind.
fn check_words(path: &Path, text: &str, problems: &mut Vec<String>) {
    if path.starts_with("xtask/src/tidy.rs") || path.extension().is_some_and(|e| e == "lock") {
        return;
    }
    for word in ["FIXME", "XXX", "dbg!(", "/home/", "/root/", "#[ignore]"] {
        if text.contains(word) {
            problems.push(format!("{}: contains `{word}`", path.display()));
        }
    }
}

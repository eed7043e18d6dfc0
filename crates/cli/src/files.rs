//! Files without a mesh: what would be refused, and where.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use tacit_api::Parsed;
use tacit_model::finding::{Finding, Severity};

use crate::args::{CheckArgs, Format};
use crate::failure::Failure;
use crate::output;

/// Reads files as the control plane would, and prints what it would find.
pub(crate) fn check(args: &CheckArgs) -> Result<ExitCode, Failure> {
    let parsed = parse_all(&args.file)?;
    let objects: usize = parsed.iter().map(|(_, parsed)| parsed.objects.len()).sum();
    let tests: usize = parsed.iter().map(|(_, parsed)| parsed.tests.len()).sum();
    let files = parsed.len();
    let now = now();
    let checked = tacit_compiler::check_files(parsed, now);
    let text = || shown(&checked.findings);
    if args.output != Format::Table || !checked.findings.is_empty() {
        output::data(&output::formatted(args.output, &checked.findings, text)?);
    }
    let errors = count(&checked.findings, Severity::Error);
    let warnings = count(&checked.findings, Severity::Warning);
    let tests = match tests {
        0 => String::new(),
        tests => format!("{tests} tests (not run), "),
    };
    output::note(&format!(
        "{files} files, {objects} objects, {tests}{errors} errors, {warnings} warnings"
    ));
    if let Some(first) = checked.findings.first() {
        output::note(&format!("`tacit explain {}` says more", first.code));
    }
    Ok(if errors == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Reads all files that are named, or that named directories have.
pub(crate) fn parse_all(paths: &[PathBuf]) -> Result<Vec<(Arc<str>, Parsed)>, Failure> {
    let mut files = Vec::new();
    for path in paths {
        files.extend(yaml_files(path)?);
    }
    files.iter().map(|file| parse(file)).collect()
}

/// Unix seconds, for grants that end.
pub(crate) fn now() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}

/// Findings for people, with a line between them.
pub(crate) fn shown(findings: &[Finding]) -> String {
    let findings = findings.iter().map(|finding| format!("{finding}\n"));
    findings.collect::<Vec<_>>().join("\n")
}

pub(crate) fn count(findings: &[Finding], severity: Severity) -> usize {
    findings
        .iter()
        .filter(|finding| finding.severity == severity)
        .count()
}

pub(crate) fn parse(file: &Path) -> Result<(Arc<str>, Parsed), Failure> {
    let (name, bytes) = read(file)?;
    let parsed = tacit_api::parse_bytes(&name, &bytes);
    Ok((name.into(), parsed))
}

/// Says in time that a directory to watch is none.
pub(crate) fn directory(path: &Path) -> Result<(), Failure> {
    match std::fs::read_dir(path) {
        Ok(_) => Ok(()),
        Err(e) => Err(Failure::Usage(format!(
            "--file {}: {e}; check the path, and that this user may read it",
            path.display()
        ))),
    }
}

/// A file's name and content; `-` is standard input.
pub(crate) fn read(file: &Path) -> Result<(String, Vec<u8>), Failure> {
    let told = |e: std::io::Error| Failure::Failed(format!("{}: {e}", file.display()));
    if file.as_os_str() == "-" {
        let mut bytes = Vec::new();
        std::io::stdin()
            .lock()
            .read_to_end(&mut bytes)
            .map_err(told)?;
        return Ok(("<stdin>".to_owned(), bytes));
    }
    Ok((
        file.display().to_string(),
        std::fs::read(file).map_err(told)?,
    ))
}

/// The YAML and JSON files of a directory, by name, or the one file that is named.
pub(crate) fn yaml_files(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    let told = |e: std::io::Error| Failure::Failed(format!("{}: {e}", path.display()));
    if path.as_os_str() == "-" || !path.metadata().map_err(told)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(told)? {
        let file = entry.map_err(told)?.path();
        let wanted = file
            .extension()
            .is_some_and(|e| e == "yaml" || e == "yml" || e == "json");
        if wanted && file.is_file() {
            files.push(file);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(Failure::Failed(format!(
            "{} has no .yaml file",
            path.display()
        )));
    }
    Ok(files)
}

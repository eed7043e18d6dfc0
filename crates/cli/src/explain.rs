//! What a kind of finding is, without a mesh: cause, fix and an example.

use std::process::ExitCode;

use serde::Serialize;
use tacit_compiler::findings::{CODES, Code, GROUPS, Shown, code, example, meaning};
use tacit_model::finding::Severity;

use crate::args::ExplainArgs;
use crate::failure::Failure;
use crate::output;

/// Codes that are offered instead of one that does not exist.
const NEAREST: usize = 3;

/// Prints one kind of finding, or a list of all.
pub(crate) fn explain(args: &ExplainArgs) -> Result<ExitCode, Failure> {
    let text = match &args.code {
        Some(word) => {
            let found = find(word)?;
            output::formatted(args.output, &Page::of(found), || page(found))?
        }
        None => {
            let all: Vec<Line> = CODES.iter().map(Line::of).collect();
            output::formatted(args.output, &all, list)?
        }
    };
    output::data(&text);
    Ok(ExitCode::SUCCESS)
}

/// The code that a word names, in any case, with or without `TCT`.
fn find(word: &str) -> Result<&'static Code, Failure> {
    let upper = word.to_ascii_uppercase();
    let digits = upper.strip_prefix("TCT").unwrap_or(&upper);
    code(&format!("TCT{digits}")).ok_or_else(|| {
        let hint = match digits.parse() {
            Ok(number) => format!("the nearest are {}", nearest(number).join(", ")),
            Err(_) => "codes are such as TCT1104".to_owned(),
        };
        Failure::Usage(format!(
            "{word:?} is no code; {hint}; `tacit explain` lists all"
        ))
    })
}

/// The codes whose numbers are nearest, by number.
fn nearest(number: u32) -> Vec<&'static str> {
    let value = |code: &Code| -> u32 { code.code.trim_start_matches("TCT").parse().unwrap_or(0) };
    let mut codes: Vec<&Code> = CODES.iter().collect();
    codes.sort_by_key(|code| value(code).abs_diff(number));
    codes.truncate(NEAREST);
    codes.sort_by_key(|code| value(code));
    codes.into_iter().map(|code| code.code).collect()
}

fn page(code: &Code) -> String {
    let mut parts = vec![
        format!("{}: {}", code.code, code.title),
        meaning(code.severity).to_owned(),
        format!("Cause: {}", code.cause),
        format!("Fix: {}", code.fix),
    ];
    if let Some(example) = example(code) {
        let (wrong, fixed) = (example.shown_wrong(), example.shown_fixed());
        parts.push(format!("Wrong:\n\n{}", indented(&wrong)));
        parts.push(format!("Right:\n\n{}", indented(&fixed)));
    }
    if let Shown::Circumstance(why) = code.shown {
        parts.push(format!("Example: none, since {why}"));
    }
    parts.join("\n\n")
}

fn indented(text: &str) -> String {
    let line = |line: &str| format!("    {line}").trim_end().to_owned();
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

fn list() -> String {
    let group = |group: &tacit_compiler::findings::Group| {
        let line = |code: &Code| {
            let (number, severity) = (code.code, word(code.severity));
            format!("  {number}  {severity:<7}  {}", code.title)
        };
        let lines: Vec<String> = group.codes().map(line).collect();
        format!("{}\n{}", group.title, lines.join("\n"))
    };
    GROUPS.iter().map(group).collect::<Vec<_>>().join("\n\n")
}

/// As findings themselves say it.
fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Info => "info",
    }
}

/// One code of the list.
#[derive(Serialize)]
struct Line {
    code: &'static str,
    severity: &'static str,
    title: &'static str,
}

impl Line {
    fn of(code: &Code) -> Self {
        Self {
            code: code.code,
            severity: word(code.severity),
            title: code.title,
        }
    }
}

/// One code with all that is known of it.
#[derive(Serialize)]
struct Page {
    #[serde(flatten)]
    line: Line,
    cause: &'static str,
    fix: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    wrong: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    right: Option<String>,
    /// Why there is no example.
    #[serde(skip_serializing_if = "Option::is_none")]
    circumstance: Option<&'static str>,
}

impl Page {
    fn of(code: &Code) -> Self {
        let example = example(code);
        Self {
            line: Line::of(code),
            cause: code.cause,
            fix: code.fix,
            wrong: example.map(|example| example.shown_wrong()),
            right: example.map(|example| example.shown_fixed()),
            circumstance: match code.shown {
                Shown::Circumstance(why) => Some(why),
                Shown::Example(_) => None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_found_as_people_write_them() {
        for word in ["TCT1104", "tct1104", "Tct1104", "1104"] {
            assert_eq!(find(word).unwrap().code, "TCT1104", "{word}");
        }
    }

    #[test]
    fn what_is_no_code_is_told_its_neighbours() {
        let said = |word| find(word).unwrap_err().to_string();
        let near = said("TCT1108");
        assert!(near.contains("TCT1105, TCT1106, TCT1107"), "{near}");
        for word in ["", "TCT", "E1104", "TCT-1", "99999999999"] {
            assert!(said(word).contains("codes are such as"), "{word}");
        }
    }

    #[test]
    fn the_list_has_every_code() {
        let list = list();
        assert!(CODES.iter().all(|code| list.contains(code.code)), "{list}");
    }
}

//! A coded message about what somebody wrote.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::provenance::ObjectRef;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Severity {
    /// The object or a part of it is not in force.
    Error,
    /// In force, but probably not as meant.
    Warning,
    /// Worth knowing.
    Info,
}

/// Where in the source it is. Lines and columns count from 1, columns in characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// A path as the user gave it, or `<api>` for an object that came over the API.
    pub file: Arc<str>,
    /// The line.
    pub line: u32,
    /// The column.
    pub column: u32,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// A coded message about an object: what happened, where, and the fix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// `TCT1xxx`; each code has a page in `docs/findings.md`.
    pub code: Arc<str>,
    /// How bad it is.
    pub severity: Severity,
    /// The object it is about; absent when the text could not be read as one.
    pub object: Option<ObjectRef>,
    /// The field, for example `spec.retry.attempts`; empty if it is about the whole object.
    pub field: Arc<str>,
    /// Where in the source, if there is one.
    pub position: Option<Position>,
    /// What is wrong, in one sentence without a full stop.
    pub message: String,
    /// What to do about it.
    pub fix: String,
    /// The source line the position points at, for the caret.
    pub snippet: Option<String>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Info => "info",
        };
        writeln!(f, "{severity}[{}]: {}", self.code, self.message)?;
        if let Some(position) = &self.position {
            writeln!(f, "  --> {position}")?;
            if let Some(snippet) = &self.snippet {
                let number = position.line.to_string();
                let margin = " ".repeat(number.len());
                let column = usize::try_from(position.column).unwrap_or(1).max(1);
                writeln!(f, "{margin} |")?;
                writeln!(f, "{number} | {snippet}")?;
                writeln!(f, "{margin} | {}^", " ".repeat(column - 1))?;
            }
        }
        if let Some(object) = &self.object {
            writeln!(f, "  object: {object}")?;
        }
        write!(f, "  fix: {}", self.fix)
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn a_finding_points_at_its_cause() {
        let finding = Finding {
            code: "TCT1004".into(),
            severity: Severity::Error,
            object: None,
            field: "spec.retry.atempts".into(),
            position: Some(Position {
                file: "a.yaml".into(),
                line: 12,
                column: 5,
            }),
            message: "unknown field `atempts`".into(),
            fix: "did you mean `attempts`?".into(),
            snippet: Some("    atempts: 3".into()),
        };
        expect![[r"
            error[TCT1004]: unknown field `atempts`
              --> a.yaml:12:5
               |
            12 |     atempts: 3
               |     ^
              fix: did you mean `attempts`?"]]
        .assert_eq(&finding.to_string());
    }
}

//! Says findings as they come up: whoever edits the watched directory sees them where `up` runs.

use std::collections::BTreeSet;
use std::sync::Arc;

use tacit_model::finding::{Finding, Severity};

use crate::error::ControlError;
use crate::shared::Shared;

/// Findings that are said at once; a directory of another kind has thousands.
const MOST: usize = 20;

/// Says each new finding once, and that none is left.
pub(crate) async fn findings(shared: Arc<Shared>) -> ControlError {
    let mut published = shared.watch();
    let mut said = BTreeSet::new();
    loop {
        let current = published.borrow_and_update().clone().findings();
        for line in news(&mut said, &current) {
            shared.log(&line);
        }
        if published.changed().await.is_err() {
            return ControlError::Stopped {
                part: "the engine",
                why: "see above".into(),
            };
        }
    }
}

/// What is new since `said`, which then is what holds now.
fn news(said: &mut BTreeSet<String>, findings: &[Finding]) -> Vec<String> {
    let worth = |finding: &&Finding| finding.severity != Severity::Info;
    let now: BTreeSet<String> = findings
        .iter()
        .filter(worth)
        .map(ToString::to_string)
        .collect();
    let mut lines: Vec<String> = now.difference(said).cloned().collect();
    if lines.len() > MOST {
        let more = lines.len() - MOST;
        lines.truncate(MOST);
        lines.push(format!(
            "and {more} more findings; `tacit check -f` shows all"
        ));
    }
    if now.is_empty() && !said.is_empty() {
        lines.push("no finding is left".to_owned());
    }
    *said = now;
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(number: usize, severity: Severity) -> Finding {
        Finding {
            code: "TCT1004".into(),
            severity,
            object: None,
            field: "".into(),
            position: None,
            message: format!("problem {number}"),
            fix: "repair it".into(),
            snippet: None,
        }
    }

    #[test]
    fn each_finding_is_said_once() {
        let mut said = BTreeSet::new();
        let one = [finding(1, Severity::Error), finding(9, Severity::Info)];
        let both = [finding(1, Severity::Error), finding(2, Severity::Warning)];
        let first = news(&mut said, &one);
        assert_eq!(first.len(), 1);
        assert!(first[0].contains("problem 1"), "{first:?}");
        let second = news(&mut said, &both);
        assert_eq!(second.len(), 1);
        assert!(second[0].contains("problem 2"), "{second:?}");
        assert!(news(&mut said, &both).is_empty());
        assert_eq!(news(&mut said, &[]), ["no finding is left"]);
        assert!(news(&mut said, &[]).is_empty());
    }

    #[test]
    fn a_flood_is_cut() {
        let many: Vec<Finding> = (0..100).map(|n| finding(n, Severity::Error)).collect();
        let lines = news(&mut BTreeSet::new(), &many);
        assert_eq!(lines.len(), MOST + 1);
        assert!(lines[MOST].contains("80 more"), "{lines:?}");
    }
}

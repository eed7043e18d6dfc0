//! Reads a decision log and makes each of its decisions again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::Path;

use serde_json::Value;
use tacit_decide::record::{Decision, Record};
use tacit_decide::replay::again;
use tacit_model::Generation;

use crate::decision_log::Line;
use crate::log_lines::{Generations, LogLines, Numbers};

/// Differences that are shown; the others are counted.
const SHOWN: usize = 10;
/// Fields that are shown of one difference.
const FIELDS: usize = 10;

/// What came of a replay.
#[derive(Debug, Default)]
pub struct Report {
    kinds: BTreeMap<&'static str, Count>,
    generations: BTreeSet<Generation>,
    /// Processes that wrote to the log.
    runs: u64,
    /// Those that ended in good order.
    ended: u64,
    missing: u64,
    unreadable: u64,
    shown: Vec<String>,
}

/// Decisions of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// All of them.
    pub decisions: u64,
    /// Those that come out differently now, or cannot be made at all.
    pub differ: u64,
}

/// Replays a log. The error says why it cannot be read at all.
pub fn replay(log: &Path) -> io::Result<Report> {
    let mut lines = LogLines::open(log)?;
    let mut replay = Replay {
        generations: Generations::of(log),
        numbers: Numbers::default(),
        report: Report::default(),
    };
    while let Some(line) = lines.next()? {
        replay.line(line);
    }
    Ok(replay.end())
}

struct Replay {
    generations: Generations,
    numbers: Numbers,
    report: Report,
}

impl Replay {
    fn line(&mut self, line: Result<Line, String>) {
        match line {
            Ok(Line::Begin { .. }) => {
                self.close_run(None);
                self.report.runs += 1;
            }
            Ok(Line::Decided {
                number,
                generation,
                record,
                which_try: _,
            }) => {
                if !self.numbers.add(number) {
                    self.report
                        .unreadable(format!("decision {number} is there twice"));
                }
                self.decided(number, generation, &record);
            }
            Ok(Line::End { decisions, lost: _ }) => {
                self.close_run(Some(decisions));
                self.report.ended += 1;
            }
            Err(why) => self.report.unreadable(why),
        }
    }

    fn close_run(&mut self, decisions: Option<u64>) {
        self.report.missing += std::mem::take(&mut self.numbers).missing(decisions);
    }

    fn decided(&mut self, number: u64, generation: Generation, record: &Record) {
        let report = &mut self.report;
        report.generations.insert(generation);
        let made = match self.generations.get(generation) {
            Ok(snapshot) => again(&snapshot, record).map_err(|unfit| unfit.to_string()),
            Err(why) => Err(why),
        };
        let count = report.kinds.entry(record.decision.kind()).or_default();
        count.decisions += 1;
        if made.as_ref() == Ok(record) {
            return;
        }
        count.differ += 1;
        if report.shown.len() < SHOWN {
            let (kind, id) = (record.decision.kind(), &record.id);
            let head = format!("decision {number} of {id} in generation {generation}: {kind}");
            let what = made.map_or_else(
                |why| format!("  {why}"),
                |made| differences(&record.decision, &made.decision),
            );
            report.shown.push(format!("{head}\n{what}"));
        }
    }

    fn end(mut self) -> Report {
        self.close_run(None);
        self.report
    }
}

/// Field by field, what was logged and what comes out now.
fn differences(logged: &Decision, now: &Decision) -> String {
    let (Ok(logged), Ok(now)) = (serde_json::to_value(logged), serde_json::to_value(now)) else {
        return "  it cannot be shown as JSON".into();
    };
    let mut fields = Vec::new();
    compare("", &logged, &now, &mut fields);
    let more = fields.len().saturating_sub(FIELDS);
    fields.truncate(FIELDS);
    if more > 0 {
        fields.push(format!("  and {more} more fields"));
    }
    fields.join("\n")
}

fn compare(path: &str, logged: &Value, now: &Value, fields: &mut Vec<String>) {
    match (logged, now) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                let path = format!("{path}.{key}");
                let of = |object: &serde_json::Map<String, Value>| {
                    object.get(key).cloned().unwrap_or(Value::Null)
                };
                compare(&path, &of(a), &of(b), fields);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                compare(&format!("{path}[{index}]"), a, b, fields);
            }
        }
        _ if logged == now => {}
        _ => {
            let path = path.trim_start_matches('.');
            fields.push(format!("  {path}: logged {logged}, now {now}"));
        }
    }
}

impl Report {
    /// True if every decision was there, could be read and comes out the same.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.differ() == 0 && self.missing == 0 && self.unreadable == 0
    }

    /// Counts by kind; only kinds that were there.
    #[must_use]
    pub fn kinds(&self) -> &BTreeMap<&'static str, Count> {
        &self.kinds
    }

    /// All decisions.
    #[must_use]
    pub fn decisions(&self) -> u64 {
        self.kinds.values().map(|count| count.decisions).sum()
    }

    /// Decisions that differ.
    #[must_use]
    pub fn differ(&self) -> u64 {
        self.kinds.values().map(|count| count.differ).sum()
    }

    /// Decisions whose line is missing.
    #[must_use]
    pub fn missing(&self) -> u64 {
        self.missing
    }

    /// Processes that ended in good order; of others the last lines may be missing unnoticed.
    #[must_use]
    pub fn ended(&self) -> u64 {
        self.ended
    }

    fn unreadable(&mut self, why: String) {
        self.unreadable += 1;
        if self.shown.len() < SHOWN {
            self.shown.push(why);
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for text in &self.shown {
            writeln!(f, "{text}")?;
        }
        writeln!(f, "{:<22}{:>10}{:>8}", "KIND", "DECISIONS", "DIFFER")?;
        for kind in Decision::KINDS {
            let count = self.kinds.get(kind).copied().unwrap_or_default();
            writeln!(f, "{kind:<22}{:>10}{:>8}", count.decisions, count.differ)?;
        }
        if self.runs > self.ended {
            let open = self.runs - self.ended;
            writeln!(
                f,
                "{open} of {} runs have no end: their node still runs or was killed, and what it \
                 decided last may be missing",
                self.runs
            )?;
        }
        let (decisions, differ) = (self.decisions(), self.differ());
        write!(
            f,
            "{decisions} decisions in {} generations, {differ} differ, {} lines missing, {} not \
             readable",
            self.generations.len(),
            self.missing,
            self.unreadable
        )
    }
}

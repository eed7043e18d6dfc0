//! Reads a decision log and makes each of its decisions again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use tacit_decide::record::{Decision, Record};
use tacit_decide::replay::again;
use tacit_model::{Generation, Snapshot};

use crate::decision_log::{Line, generations_of};
use crate::generation;

/// Differences that are shown; the others are counted.
const SHOWN: usize = 10;
/// Fields that are shown of one difference.
const FIELDS: usize = 10;
/// Longest line: a decision over 10,000 endpoints is about 4 MB.
const MAX_LINE: u64 = 16 << 20;
/// A generation of 100,000 workloads is about 40 MB; anything larger is not one.
const MAX_GENERATION: u64 = 256 << 20;
/// Generations that are held at once: neighbours in the log overlap while workers change over.
const HELD: usize = 8;

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
    let mut lines = BufReader::new(File::open(log)?);
    let mut replay = Replay {
        generations: Generations {
            directory: generations_of(log),
            held: VecDeque::new(),
        },
        numbers: Numbers::default(),
        report: Report::default(),
    };
    let mut line = Vec::new();
    let mut number = 0_u64;
    loop {
        line.clear();
        number += 1;
        (&mut lines)
            .take(MAX_LINE)
            .read_until(b'\n', &mut line)
            .map_err(|e| io::Error::new(e.kind(), format!("line {number}: {e}")))?;
        // A line without its end is still being written.
        if line.pop() != Some(b'\n') {
            break;
        }
        replay.line(number, &line);
    }
    Ok(replay.end())
}

struct Replay {
    generations: Generations,
    numbers: Numbers,
    report: Report,
}

impl Replay {
    fn line(&mut self, number: u64, line: &[u8]) {
        match serde_json::from_slice(line) {
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
            Err(error) => self.report.unreadable(format!("line {number}: {error}")),
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

/// Which numbers of a run were there; they come nearly in order.
#[derive(Debug, Default)]
struct Numbers {
    /// All below it were there.
    next: u64,
    above: BTreeSet<u64>,
}

impl Numbers {
    /// False if it was there already.
    fn add(&mut self, number: u64) -> bool {
        if number < self.next || !self.above.insert(number) {
            return false;
        }
        while self.above.remove(&self.next) {
            self.next += 1;
        }
        true
    }

    /// How many are missing of this many, or of all up to the highest that was there.
    fn missing(&self, decisions: Option<u64>) -> u64 {
        let highest = self.above.last().map_or(self.next, |last| last + 1);
        let there = self.next + u64::try_from(self.above.len()).unwrap_or(u64::MAX);
        highest.max(decisions.unwrap_or(0)) - there
    }
}

/// The generations beside a log.
struct Generations {
    directory: PathBuf,
    /// The latest last.
    held: VecDeque<(Generation, Result<Arc<Snapshot>, String>)>,
}

impl Generations {
    fn get(&mut self, generation: Generation) -> Result<Arc<Snapshot>, String> {
        if let Some((_, found)) = self.held.iter().find(|(held, _)| *held == generation) {
            return found.clone();
        }
        let loaded = self.load(generation);
        self.held.push_back((generation, loaded.clone()));
        if self.held.len() > HELD {
            self.held.pop_front();
        }
        loaded
    }

    fn load(&self, generation: Generation) -> Result<Arc<Snapshot>, String> {
        let path = self.directory.join(generation.to_string());
        let told = |why: &dyn fmt::Display| format!("{}: {why}", path.display());
        let file = File::open(&path).map_err(|e| told(&e))?;
        let mut content = Vec::new();
        let mut limited = file.take(MAX_GENERATION);
        limited.read_to_end(&mut content).map_err(|e| told(&e))?;
        let snapshot = generation::open(&content).map_err(|e| told(&e))?.snapshot;
        if snapshot.generation != generation {
            let other = snapshot.generation;
            return Err(told(&format!("it holds generation {other}")));
        }
        Ok(Arc::new(snapshot))
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

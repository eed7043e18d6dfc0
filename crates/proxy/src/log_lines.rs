//! A decision log as it is read again: its lines, their numbers, and the generations beside it.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tacit_model::{Generation, Snapshot};

use crate::decision_log::{Line, generations_of};
use crate::generation;

/// Longest line: a decision over 10,000 endpoints is about 4 MB.
const MAX_LINE: u64 = 16 << 20;
/// A generation of 100,000 workloads is about 40 MB; anything larger is not one.
const MAX_GENERATION: u64 = 256 << 20;
/// Generations that are held at once: neighbours in the log overlap while workers change over.
const HELD: usize = 8;

/// The lines of a log, one after the other.
pub(crate) struct LogLines<R> {
    input: R,
    longest: u64,
    /// Of the line that was read last, from 1.
    pub(crate) number: u64,
    line: Vec<u8>,
}

impl LogLines<BufReader<File>> {
    pub(crate) fn open(log: &Path) -> io::Result<Self> {
        Ok(Self::new(BufReader::new(File::open(log)?), MAX_LINE))
    }
}

impl<R: BufRead> LogLines<R> {
    fn new(input: R, longest: u64) -> Self {
        Self {
            input,
            longest,
            number: 0,
            line: Vec::new(),
        }
    }

    /// The next line, or why it is none; nothing at the end. A last line without its end is still
    /// being written.
    pub(crate) fn next(&mut self) -> io::Result<Option<Result<Line, String>>> {
        self.number += 1;
        let number = self.number;
        let told = |e: io::Error| io::Error::new(e.kind(), format!("line {number}: {e}"));
        self.line.clear();
        (&mut self.input)
            .take(self.longest)
            .read_until(b'\n', &mut self.line)
            .map_err(told)?;
        let is_whole = self.line.pop() == Some(b'\n');
        if !is_whole && (self.line.len() as u64) < self.longest - 1 {
            return Ok(None);
        }
        if !is_whole {
            self.input.skip_until(b'\n').map_err(told)?;
            let why = format!("line {number}: longer than {} bytes", self.longest);
            return Ok(Some(Err(why)));
        }
        let line = serde_json::from_slice(&self.line);
        Ok(Some(
            line.map_err(|error| format!("line {number}: {error}")),
        ))
    }
}

/// Which numbers of a run were there; they come nearly in order.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    /// All below it were there.
    next: u64,
    above: BTreeSet<u64>,
}

impl Numbers {
    /// False if it was there already.
    pub(crate) fn add(&mut self, number: u64) -> bool {
        if number < self.next || !self.above.insert(number) {
            return false;
        }
        while self.above.remove(&self.next) {
            self.next += 1;
        }
        true
    }

    /// How many are missing of this many, or of all up to the highest that was there.
    pub(crate) fn missing(&self, decisions: Option<u64>) -> u64 {
        let highest = self.above.last().map_or(self.next, |last| last + 1);
        let there = self.next + u64::try_from(self.above.len()).unwrap_or(u64::MAX);
        highest.max(decisions.unwrap_or(0)) - there
    }
}

/// The generations beside a log.
pub(crate) struct Generations {
    directory: PathBuf,
    /// The latest last.
    held: VecDeque<(Generation, Result<Arc<Snapshot>, String>)>,
}

impl Generations {
    pub(crate) fn of(log: &Path) -> Self {
        Self {
            directory: generations_of(log),
            held: VecDeque::new(),
        }
    }

    pub(crate) fn get(&mut self, generation: Generation) -> Result<Arc<Snapshot>, String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_too_long_hides_none_behind_it() {
        let end = r#"{"end":{"decisions":1,"lost":0}}"#;
        let text = format!("{}\n{end}\n{end}", "x".repeat(100));
        let mut lines = LogLines::new(text.as_bytes(), 40);
        let why = lines.next().unwrap().unwrap().unwrap_err();
        assert_eq!(why, "line 1: longer than 40 bytes");
        let line = lines.next().unwrap().unwrap().unwrap();
        assert!(matches!(line, Line::End { decisions: 1, .. }));
        // The last one has no end yet.
        assert!(lines.next().unwrap().is_none());
    }
}

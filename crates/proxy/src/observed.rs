//! The requests of a decision log, read in a stream.
//!
//! Held at once are one line, some generations and the requests under way: a log may be longer
//! than the memory.

use std::io;
use std::path::Path;

use tacit_decide::observed::{Observed, Observer};

use crate::decision_log::Line;
use crate::log_lines::{Generations, LogLines, Numbers};

/// Lines that cannot be read of which it is said why; the others are counted.
const SHOWN: usize = 5;

/// What came of reading a log.
#[derive(Debug, Default)]
pub struct Reading {
    /// Lines that cannot be read, or whose generation cannot.
    pub unreadable: u64,
    /// Decisions of which the line is missing.
    pub missing: u64,
    /// Why, of the first lines that cannot be read.
    pub shown: Vec<String>,
}

/// Tells each request of a log. The error says why it cannot be read at all.
pub fn read(log: &Path, mut tell: impl FnMut(Observed)) -> io::Result<Reading> {
    let mut lines = LogLines::open(log)?;
    let mut generations = Generations::of(log);
    let (mut observer, mut numbers) = (Observer::default(), Numbers::default());
    let mut reading = Reading::default();
    while let Some(line) = lines.next()? {
        match line {
            Ok(Line::Begin { .. }) => {
                reading.missing += std::mem::take(&mut numbers).missing(None);
                observer.end(&mut tell);
            }
            Ok(Line::Decided {
                number,
                generation,
                record,
                which_try: _,
            }) => match generations.get(generation) {
                _ if !numbers.add(number) => {
                    reading.unreadable(format!("decision {number} is there twice"));
                }
                Ok(snapshot) => observer.add(&snapshot, &record, &mut tell),
                Err(why) => reading.unreadable(format!("line {}: {why}", lines.number)),
            },
            Ok(Line::End { decisions, lost: _ }) => {
                reading.missing += std::mem::take(&mut numbers).missing(Some(decisions));
                observer.end(&mut tell);
            }
            Err(why) => reading.unreadable(why),
        }
    }
    reading.missing += numbers.missing(None);
    observer.end(&mut tell);
    Ok(reading)
}

impl Reading {
    fn unreadable(&mut self, why: String) {
        self.unreadable += 1;
        if self.shown.len() < SHOWN {
            self.shown.push(why);
        }
    }
}

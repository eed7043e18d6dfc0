//! What the demo says: every command before it runs, and live figures.

use std::io::{self, IsTerminal, Write};
use std::time::Instant;

use crate::load::report::Live;

/// The voice of the demo on standard output.
#[derive(Debug)]
pub(crate) struct Narrator {
    started: Instant,
    colour: bool,
}

impl Narrator {
    pub(crate) fn new() -> Self {
        Self {
            started: Instant::now(),
            colour: io::stdout().is_terminal(),
        }
    }

    /// Seconds since the demo began.
    pub(crate) fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    pub(crate) fn title(&self, text: &str) -> io::Result<()> {
        let rule = "─".repeat(text.chars().count());
        self.line(&format!("\n{}\n{rule}", self.bold(text)))
    }

    pub(crate) fn say(&self, text: &str) -> io::Result<()> {
        self.line(text)
    }

    /// A command, before it runs.
    pub(crate) fn command(&self, host: &str, command: &str) -> io::Result<()> {
        self.line(&self.bold(&format!("{host}$ {command}")))
    }

    /// What a command printed, indented; at most `lines` lines of it.
    pub(crate) fn quote(&self, text: &str, lines: usize) -> io::Result<()> {
        let all: Vec<&str> = text.trim_end().lines().collect();
        for line in all.iter().take(lines) {
            self.line(&format!("    {line}"))?;
        }
        match all.len().checked_sub(lines) {
            Some(more) if more > 0 => self.line(&format!("    ({more} more lines)")),
            _ => Ok(()),
        }
    }

    /// A measured figure.
    pub(crate) fn figure(&self, text: &str) -> io::Result<()> {
        self.line(&format!("  [{:5.1} s] {text}", self.seconds()))
    }

    /// One window of a running load.
    pub(crate) fn live(&self, host: &str, live: &Live) -> io::Result<()> {
        let zones: Vec<String> = live
            .zones
            .iter()
            .map(|(zone, count)| format!("{zone} {count}"))
            .collect();
        let Live {
            ok,
            failed,
            cut,
            slowest_ms,
            ..
        } = live;
        let zones = zones.join(" · ");
        self.figure(&format!(
            "{host}: ok {ok} · failed {failed} · cut {cut} · {zones} · {slowest_ms} ms"
        ))
    }

    fn bold(&self, text: &str) -> String {
        if self.colour {
            format!("\x1b[1m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    #[expect(clippy::unused_self, reason = "one voice: nothing prints without it")]
    fn line(&self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "{text}")?;
        out.flush()
    }
}

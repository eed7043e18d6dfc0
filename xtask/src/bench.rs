//! `cargo xtask bench`: what Tacit costs beside other meshes, for the same work on this machine.

use std::collections::BTreeMap;
use std::path::Path;

mod accounts;
mod application;
mod certificates;
mod cipher;
mod contender;
mod envoy;
mod haproxy;
mod hosts;
mod job;
mod load;
mod machine;
mod options;
mod report;
mod rows;
mod sample;
mod schedule;
mod statistics;
mod tacit;
mod ztunnel;

use contender::{Absent, Contender, Found};
use machine::{Gate, Machine};
use options::Options;
use report::Report;
use rows::Series;
use schedule::Runs;

/// Where everything of a run is kept, below the workspace; emptied when a run begins.
const WORK: &str = "target/bench";

/// Measures every row and prints it; the error is what is missing, or the rows that were missed.
pub(crate) fn run(arguments: &[&str]) -> Result<String, Vec<String>> {
    let one = |problem: String| vec![problem];
    let options = Options::read(arguments).map_err(one)?;
    let machine = Machine::look().map_err(one)?;
    let _lock = machine::only_one().map_err(one)?;
    let found = Found::look(&options).map_err(one)?;
    crate::say(&machine.to_string());
    for absent in &found.absent {
        crate::say(&format!("NOT MEASURED: {absent}"));
    }
    let gate = if options.busy {
        Gate::Open
    } else {
        machine::wait_until_idle().map_err(one)?
    };
    let work = std::env::current_dir()
        .map_err(|e| vec![e.to_string()])?
        .join(WORK);
    empty(&work).map_err(one)?;
    let mut report = Report::new(machine, gate, options.clone());
    for series in options.series() {
        let runs = measure(series, &options, &found, &work, gate).map_err(one)?;
        report.add(series, runs, &found.absent);
    }
    if let Some(file) = &options.report {
        let text = report.json().to_string();
        std::fs::write(file, text).map_err(|e| one(format!("{}: {e}", file.display())))?;
    }
    let text = report.to_string();
    if report.any_missed() {
        Err(vec![text])
    } else {
        Ok(text)
    }
}

/// Runs the contenders of a series that are there; an empty result if Tacit would be alone.
fn measure(
    series: Series,
    options: &Options,
    found: &Found,
    work: &Path,
    gate: Gate,
) -> Result<BTreeMap<Contender, Runs>, String> {
    let there = |contender: &Contender| found.programs.contains_key(contender);
    let contenders: Vec<Contender> = series.contenders().into_iter().filter(there).collect();
    if contenders.len() < 2 {
        return Ok(BTreeMap::new());
    }
    let plan = options.plan(series);
    crate::say(&format!(
        "\n{}: {}",
        series.title(),
        plan.describe(&contenders)
    ));
    schedule::run(&plan, &contenders, gate, |contender, seconds| {
        let program = found
            .programs
            .get(&contender)
            .ok_or("a contender without a program")?;
        sample::take(&sample::Order {
            series,
            contender,
            program,
            seconds,
            work,
        })
    })
}

fn empty(work: &Path) -> Result<(), String> {
    let told = |e: std::io::Error| format!("{}: {e}", work.display());
    if work.exists() {
        std::fs::remove_dir_all(work).map_err(told)?;
    }
    std::fs::create_dir_all(work).map_err(told)
}

impl Absent {
    /// True when a row against this contender cannot be measured.
    fn concerns(&self, contender: Contender) -> bool {
        self.contender == contender
    }
}

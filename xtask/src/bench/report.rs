//! The result: each row with its figures, its ratio and its verdict, for people and as JSON.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Value, json};

use super::cipher;
use super::contender::{Absent, Contender};
use super::load::Latency;
use super::machine::{Gate, Machine};
use super::options::Options;
use super::rows::{ROWS, Row, Series, Work};
use super::sample::Measured;
use super::schedule::Runs;
use super::statistics::{Interval, bootstrap, median};

/// How far the control may be from one before a series counts for nothing.
const CONTROL_LIMIT: f64 = 0.04;

/// Everything that was measured.
pub(crate) struct Report {
    machine: Machine,
    gate: Gate,
    options: Options,
    series: Vec<(Series, BTreeMap<Contender, Runs>)>,
    rows: Vec<Line>,
}

/// A row with what came of it.
struct Line {
    row: &'static Row,
    ratio: Option<Interval>,
    control: Option<Interval>,
    verdict: Verdict,
}

#[derive(Clone, Debug, PartialEq)]
enum Verdict {
    /// The upper bound of the interval is at most the target.
    Met,
    Missed,
    /// The row has no target.
    Information,
    NotMeasured(String),
}

/// What one contender costs in one row: medians over its samples.
struct Figure {
    /// Nanoseconds of both proxies' CPU per unit.
    cost: f64,
    /// The same of the whole machine.
    machine: f64,
    control: f64,
    per_second: f64,
    latency: Option<Latency>,
}

impl Report {
    pub(crate) fn new(machine: Machine, gate: Gate, options: Options) -> Self {
        Self {
            machine,
            gate,
            options,
            series: Vec::new(),
            rows: Vec::new(),
        }
    }

    /// Judges the rows of a series.
    pub(crate) fn add(
        &mut self,
        series: Series,
        runs: BTreeMap<Contender, Runs>,
        absent: &[Absent],
    ) {
        for row in ROWS.iter().filter(|row| row.series == series) {
            self.rows.push(judge(row, &runs, absent));
        }
        self.series.push((series, runs));
    }

    pub(crate) fn any_missed(&self) -> bool {
        self.rows.iter().any(|line| line.verdict == Verdict::Missed)
    }

    /// Every sample, for other tools.
    pub(crate) fn json(&self) -> Value {
        let samples = self.series.iter().flat_map(|(series, runs)| {
            runs.iter().flat_map(move |(contender, runs)| {
                runs.samples.iter().enumerate().map(move |(index, sample)| {
                    json!({
                        "series": series.title(),
                        "contender": contender.name(),
                        "index": index,
                        "cipher": cipher::name(sample.cipher),
                        "loads": sample.measured.iter().map(load_json).collect::<Vec<_>>(),
                    })
                })
            })
        });
        json!({
            "machine": self.machine.to_string(),
            "idle": self.gate == Gate::Idle,
            "options": format!("{:?}", self.options),
            "rows": self.rows.iter().map(Line::json).collect::<Vec<_>>(),
            "samples": samples.collect::<Vec<_>>(),
        })
    }
}

fn judge(row: &'static Row, runs: &BTreeMap<Contender, Runs>, absent: &[Absent]) -> Line {
    let not = |why: String| Line {
        row,
        ratio: None,
        control: None,
        verdict: Verdict::NotMeasured(why),
    };
    if let Some(absent) = absent.iter().find(|absent| absent.concerns(row.against)) {
        return not(absent.to_string());
    }
    let (Some(own), Some(other)) = (runs.get(&Contender::Tacit), runs.get(&row.against)) else {
        return not(format!("no runs against {}", row.against.name()));
    };
    let (ours, theirs) = (own.costs(row.work), other.costs(row.work));
    let ratios: Vec<f64> = ours.iter().zip(&theirs).map(|(a, b)| a / b).collect();
    let same = [own.control(row.work), other.control(row.work)].concat();
    let (Some(ratio), Some(control)) = (bootstrap(&ratios), bootstrap(&same)) else {
        return not("no pairs".to_owned());
    };
    let verdict = ciphers_differ(own, other, row.against)
        .or_else(|| unsteady(control))
        .map_or_else(|| compare(ratio, row.target), Verdict::NotMeasured);
    Line {
        row,
        ratio: Some(ratio),
        control: Some(control),
        verdict,
    }
}

fn compare(ratio: Interval, target: Option<f64>) -> Verdict {
    match target {
        None => Verdict::Information,
        Some(target) if ratio.high <= target => Verdict::Met,
        Some(_) => Verdict::Missed,
    }
}

/// Why a series counts for nothing: the same thing measured twice did not give the same.
fn unsteady(control: Interval) -> Option<String> {
    let steady = 1.0 - CONTROL_LIMIT..=1.0 + CONTROL_LIMIT;
    let is_steady = steady.contains(&control.low) && steady.contains(&control.high);
    (!is_steady)
        .then(|| format!("the machine was not steady: control off by more than {CONTROL_LIMIT}"))
}

fn ciphers_differ(own: &Runs, other: &Runs, against: Contender) -> Option<String> {
    let suites = |runs: &Runs| {
        let mut suites: Vec<Option<u16>> = runs.samples.iter().map(|s| s.cipher).collect();
        suites.dedup();
        suites
    };
    let (ours, theirs) = (suites(own), suites(other));
    let same = ours == theirs && ours.len() == 1 && ours.iter().all(Option::is_some);
    let names = |suites: &[Option<u16>]| {
        suites
            .iter()
            .map(|suite| cipher::name(*suite))
            .collect::<Vec<_>>()
            .join(" and ")
    };
    (!same).then(|| {
        let (ours, theirs) = (names(&ours), names(&theirs));
        format!(
            "not the same cipher: Tacit {ours}, {} {theirs}",
            against.name()
        )
    })
}

impl Figure {
    fn of(runs: &Runs, work: Work) -> Option<Self> {
        let of = |value: &dyn Fn(&Measured) -> f64| {
            median(&runs.measured(work).map(value).collect::<Vec<_>>())
        };
        let per_unit =
            |time: std::time::Duration, m: &Measured| time.as_nanos() as f64 / m.done.amount;
        let latency = |pick: fn(Latency) -> std::time::Duration| {
            of(&|m| {
                m.done
                    .latency
                    .map_or(f64::NAN, |latency| pick(latency).as_secs_f64())
            })
            .and_then(|seconds| std::time::Duration::try_from_secs_f64(seconds).ok())
        };
        Some(Self {
            cost: of(&Measured::cost)?,
            machine: of(&|m| per_unit(m.machine, m))?,
            control: of(&|m| per_unit(m.control, m))?,
            per_second: of(&|m| m.done.amount / m.elapsed.as_secs_f64())?,
            latency: latency(|l| l.p50)
                .zip(latency(|l| l.p99))
                .map(|(p50, p99)| Latency { p50, p99 }),
        })
    }

    fn text(&self, work: Work) -> String {
        let Self {
            cost,
            machine,
            control,
            per_second,
            latency,
        } = self;
        match work {
            Work::Bulk => format!(
                "{cost:6.2} ns/B   whole machine {machine:6.2}   {:6.2} Gbit/s",
                per_second * 8e-9
            ),
            Work::Requests => {
                let micro = |ns: &f64| ns / 1000.0;
                let latency = latency.map_or_else(String::new, |Latency { p50, p99 }| {
                    format!("   p50 {p50:.2?}   p99 {p99:.2?}")
                });
                format!(
                    "{:6.1} µs/req   whole machine {:6.1}   control {:.2}   \
                     {per_second:7.0}/s{latency}",
                    micro(cost),
                    micro(machine),
                    micro(control),
                )
            }
        }
    }
}

impl Line {
    fn json(&self) -> Value {
        let interval = |i: Interval| json!({"low": i.low, "median": i.median, "high": i.high});
        json!({
            "row": self.row.title,
            "against": self.row.against.name(),
            "target": self.row.target,
            "ratio": self.ratio.map(interval),
            "control": self.control.map(interval),
            "verdict": self.verdict.to_string(),
        })
    }
}

fn load_json(measured: &Measured) -> Value {
    let Measured {
        work,
        done,
        proxies,
        control,
        machine,
        foreign,
        elapsed,
    } = measured;
    json!({
        "work": format!("{work:?}"),
        "amount": done.amount,
        "proxiesSeconds": proxies.as_secs_f64(),
        "controlSeconds": control.as_secs_f64(),
        "machineSeconds": machine.as_secs_f64(),
        "foreignShare": foreign,
        "elapsedSeconds": elapsed.as_secs_f64(),
        "p50Seconds": done.latency.map(|latency| latency.p50.as_secs_f64()),
        "p99Seconds": done.latency.map(|latency| latency.p99.as_secs_f64()),
    })
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Met => f.write_str("met"),
            Self::Missed => f.write_str("missed"),
            Self::Information => f.write_str("for information"),
            Self::NotMeasured(why) => write!(f, "not measured ({why})"),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\nCPU time of both proxies, one worker each, medians. {}",
            self.machine
        )?;
        for (series, runs) in &self.series {
            for &work in series.work() {
                let what = match work {
                    Work::Bulk => "iperf3, 1 stream",
                    Work::Requests => "wrk, 32 keep-alive connections, 12 bytes",
                };
                writeln!(f, "\n{}: {what}", series.title())?;
                for (contender, runs) in runs {
                    let Some(figure) = Figure::of(runs, work) else {
                        continue;
                    };
                    let suite = runs.samples.first().and_then(|sample| sample.cipher);
                    let (name, suite) = (contender.name(), cipher::name(suite));
                    writeln!(f, "  {name:8} {}   {suite}", figure.text(work))?;
                }
            }
        }
        writeln!(f)?;
        for line in &self.rows {
            writeln!(f, "{line}")?;
        }
        if self.gate == Gate::Open {
            writeln!(
                f,
                "\nMeasured although the machine may not have been idle: for a look only."
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let title = format!("{}, Tacit / {}", self.row.title, self.row.against.name());
        write!(f, "{title:40}")?;
        if let Some(ratio) = self.ratio {
            write!(
                f,
                " {:.2} ({:.2} to {:.2})",
                ratio.median, ratio.low, ratio.high
            )?;
        }
        if let Some(target) = self.row.target {
            write!(f, ", at most {target:.2}")?;
        }
        write!(f, ": {}", self.verdict)?;
        match self.control {
            Some(Interval { low, median, high }) => {
                write!(f, " · control {median:.2} ({low:.2} to {high:.2})")
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(low: f64, median: f64, high: f64) -> Interval {
        Interval { low, median, high }
    }

    #[test]
    fn a_target_is_met_by_the_bound_and_not_by_the_median() {
        assert_eq!(compare(interval(0.8, 0.9, 1.0), Some(1.0)), Verdict::Met);
        assert_eq!(
            compare(interval(0.8, 0.9, 1.01), Some(1.0)),
            Verdict::Missed
        );
        assert_eq!(
            compare(interval(0.8, 0.9, 1.01), None),
            Verdict::Information
        );
    }

    #[test]
    fn a_series_whose_control_is_off_counts_for_nothing() {
        assert_eq!(unsteady(interval(0.97, 1.0, 1.03)), None);
        assert!(unsteady(interval(0.95, 1.0, 1.0)).is_some());
        assert!(unsteady(interval(1.0, 1.0, 1.05)).is_some());
    }
}

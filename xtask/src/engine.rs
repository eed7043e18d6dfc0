//! `cargo xtask bench-engine`: what compiling and deciding cost in a mesh of a promised size, in
//! processor time.

use std::fmt::Write as _;
use std::time::Duration;

use tacit_compiler::{Compiler, InputDelta};

mod access;
mod files;
mod world;

use world::World;

/// Changes of one sort that are measured.
const CHANGES: usize = 500;

/// One promise beside its figure.
struct Line {
    what: String,
    figure: String,
    promise: &'static str,
    met: bool,
}

/// Measures every row; the error is the same text if one is missed.
pub(crate) fn run(arguments: &[&str]) -> Result<String, Vec<String>> {
    let (part, of) = match arguments {
        [] => (1, "the promised size"),
        ["--tenth"] => (10, "a tenth of the promised size"),
        ["--hundredth"] => (100, "a hundredth of the promised size"),
        _ => {
            return Err(vec![
                "usage: cargo xtask bench-engine [--tenth | --hundredth]".into(),
            ]);
        }
    };
    let world = World::of(part);
    let mut lines = compiling(&world, part);
    lines.push(access::decision());
    lines.push(files::check());
    let mut text = format!("{} ({of}), {}\n", world.size(), machine());
    for Line {
        what,
        figure,
        promise,
        met,
    } in &lines
    {
        let verdict = if *met { "met" } else { "missed" };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{what:<46} {figure:<28} {promise:<34} {verdict}");
    }
    match lines.iter().all(|line| line.met) {
        true => Ok(text),
        false => Err(vec![text]),
    }
}

fn machine() -> String {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    let model = model.map_or("unknown processor", |text| {
        text.trim_start_matches([' ', '\t', ':'])
    });
    let busy = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    format!(
        "{model}, load {}",
        busy.split(' ').next().unwrap_or_default()
    )
}

fn compiling(world: &World, part: u32) -> Vec<Line> {
    let all = world.everything();
    let memory = resident();
    let begin = now();
    let mut compiler = Compiler::default();
    let output = compiler.apply(all);
    let full = now() - begin;
    let used = resident().saturating_sub(memory);
    let rows = output.tables.upserts.len();
    drop(output);
    let mut lines = vec![
        Line {
            what: format!("full compile, {rows} rows"),
            figure: seconds(full),
            promise: "3 s, in proportion to the size",
            met: full <= Duration::from_secs(3) / part,
        },
        Line {
            what: "state and first output".into(),
            figure: format!("{} MB", used / 1_000_000),
            promise: "1 GB, in proportion to the size",
            met: used <= 1_000_000_000 / usize::try_from(part).unwrap_or(1),
        },
    ];
    for (what, changes) in world.changes(CHANGES) {
        lines.push(one_sort(&mut compiler, what, changes));
    }
    for (what, change) in world.wide() {
        let (took, rows) = timed(&mut compiler, change);
        lines.push(Line {
            what: format!("{what}, {rows} rows"),
            figure: seconds(took),
            promise: "a tenth of a full compile",
            met: took <= full / 10,
        });
    }
    lines
}

fn one_sort(compiler: &mut Compiler, what: &str, changes: Vec<InputDelta>) -> Line {
    let (mut times, mut most) = (Vec::new(), 0);
    for change in changes {
        let (took, rows) = timed(compiler, change);
        times.push(took);
        most = most.max(rows);
    }
    times.sort();
    let at = |percent: usize| {
        times
            .get(times.len() * percent / 100)
            .copied()
            .unwrap_or_default()
    };
    let (half, slow) = (at(50), at(99));
    Line {
        what: format!("{what}, at most {most} rows"),
        figure: format!("p50 {} p99 {}", seconds(half), seconds(slow)),
        promise: "p99 1 ms",
        met: slow <= Duration::from_millis(1),
    }
}

/// What a change costs, as it is tried: on a copy. And how many rows it touches.
fn timed(compiler: &mut Compiler, change: InputDelta) -> (Duration, usize) {
    let begin = now();
    let mut trial = compiler.clone();
    let output = trial.apply(change);
    let took = now() - begin;
    *compiler = trial;
    (
        took,
        output.tables.upserts.len() + output.tables.removes.len(),
    )
}

/// Processor time of this thread, so that other work on the machine does not count.
fn now() -> Duration {
    // Every Linux has this clock.
    tacit_sys::cpu::thread_time().unwrap_or_else(|e| panic!("no clock of processor time: {e}"))
}

fn seconds(time: Duration) -> String {
    let micros = time.as_secs_f64() * 1e6;
    match micros {
        ..1_000.0 => format!("{micros:.1} µs"),
        ..1_000_000.0 => format!("{:.2} ms", micros / 1e3),
        _ => format!("{:.2} s", micros / 1e6),
    }
}

/// Bytes of memory that this process has.
fn resident() -> usize {
    const PAGE: usize = 4096;
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text.split(' ').nth(1).and_then(|pages| pages.parse().ok());
    pages.unwrap_or(0_usize) * PAGE
}

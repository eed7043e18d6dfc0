//! The machine: what it is, whether it is idle, and that only one benchmark runs on it.

use std::fmt;
use std::fs;
use std::thread::sleep;
use std::time::Duration;

use tacit_sys::lock::{LockFile, Locked, try_lock};
use tacit_sys::userns;

/// The largest share of the CPUs that others may use: foreign work makes ratios worthless.
pub(crate) const FOREIGN_LIMIT: f64 = 0.03;
/// The largest share of time that the hypervisor may take away.
const STEAL_LIMIT: f64 = 0.01;
/// For how long the machine is watched before it counts as idle.
const WATCH: Duration = Duration::from_secs(3);
/// How often it is watched before giving up: a build that has just ended may still write.
const WATCHES: usize = 10;

/// What the figures belong to.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    processor: String,
    cpus: usize,
    kernel: String,
}

/// Whether blocks in which others used the CPUs are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    /// The machine was idle, and blocks in which it is not are thrown away.
    Idle,
    /// Everything is kept; verdicts say so.
    Open,
}

/// CPU time of the whole machine since it started, in ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Ticks {
    busy: u64,
    idle: u64,
    steal: u64,
}

impl Machine {
    /// Fails if this user may not do what a benchmark needs.
    pub(crate) fn look() -> Result<Self, String> {
        if !userns::is_root() {
            return Err("the benchmark makes namespaces and control groups: run it as root".into());
        }
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").map_err(|e| e.to_string())?;
        let processor = cpuinfo
            .lines()
            .find_map(|line| line.strip_prefix("model name"))
            .map_or("unknown", |line| line.trim_start_matches([' ', '\t', ':']));
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").map_err(|e| e.to_string())?;
        let cpus = std::thread::available_parallelism()
            .map_err(|e| e.to_string())?
            .get();
        Ok(Self {
            processor: processor.to_owned(),
            cpus,
            kernel: kernel.trim().to_owned(),
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "machine: {}, {} CPUs, Linux {}",
            self.processor, self.cpus, self.kernel
        )
    }
}

/// Holds off a second benchmark for as long as the result lives.
pub(crate) fn only_one() -> Result<LockFile, String> {
    let path = std::env::temp_dir().join("tacit-bench.lock");
    match try_lock(&path).map_err(|e| e.to_string())? {
        Locked::Held(lock) => Ok(lock),
        Locked::ByAnother { pid } => {
            let by = pid
                .map(|pid| format!(" (process {pid})"))
                .unwrap_or_default();
            Err(format!(
                "another benchmark runs{by}: two at once would measure each other"
            ))
        }
    }
}

/// Waits a while for others to be quiet; the error says what is going on.
pub(crate) fn wait_until_idle() -> Result<Gate, String> {
    let mut last = String::new();
    for _ in 0..WATCHES {
        let before = Ticks::now()?;
        sleep(WATCH);
        let (busy, steal) = Ticks::now()?.shares_since(before);
        if busy < FOREIGN_LIMIT && steal < STEAL_LIMIT {
            return Ok(Gate::Idle);
        }
        last = format!("{:.0} % busy, {:.0} % stolen", busy * 100.0, steal * 100.0);
        crate::say(&format!("waiting for an idle machine: {last}"));
    }
    Err(format!(
        "the machine is not idle ({last}); --busy measures anyway, for a look only"
    ))
}

impl Ticks {
    pub(crate) fn now() -> Result<Self, String> {
        let text = fs::read_to_string("/proc/stat").map_err(|e| e.to_string())?;
        Self::read(&text).ok_or_else(|| "/proc/stat has no line of the whole machine".to_owned())
    }

    fn read(stat: &str) -> Option<Self> {
        let line = stat.lines().next()?.strip_prefix("cpu ")?;
        let numbers: Vec<u64> = line
            .split_whitespace()
            .map_while(|n| n.parse().ok())
            .collect();
        let &[user, nice, system, idle, io, irq, softirq, steal, ..] = numbers.as_slice() else {
            return None;
        };
        Some(Self {
            busy: user + nice + system + irq + softirq,
            idle: idle + io,
            steal,
        })
    }

    /// The shares of the CPUs that were busy and that were stolen.
    fn shares_since(self, before: Self) -> (f64, f64) {
        let part = |now: u64, then: u64| now.saturating_sub(then) as f64;
        let (busy, steal) = (part(self.busy, before.busy), part(self.steal, before.steal));
        let all = (busy + steal + part(self.idle, before.idle)).max(1.0);
        (busy / all, steal / all)
    }

    /// The CPU time that was used; the kernel counts it in hundredths of a second.
    pub(crate) fn busy_since(self, before: Self) -> Duration {
        Duration::from_millis(self.busy.saturating_sub(before.busy) * 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_whole_machine() {
        let before = Ticks::read("cpu  10 0 10 100 0 0 0 0 0 0\ncpu0 1 1\n").unwrap();
        let after = Ticks::read("cpu  30 0 30 150 5 5 0 5 0 0\n").unwrap();
        let (busy, steal) = after.shares_since(before);
        assert!((busy - 45.0 / 105.0).abs() < 1e-9 && (steal - 5.0 / 105.0).abs() < 1e-9);
        assert_eq!(after.busy_since(before), Duration::from_millis(450));
        assert_eq!(Ticks::read("cpu0 1 2 3 4 5 6 7 8\n"), None);
    }
}

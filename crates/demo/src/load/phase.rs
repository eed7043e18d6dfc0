//! The book of one phase: every request that started in it, and how it ended.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

use super::report::{Failed, How, Latency, Live, MAX_FAILURES, Report};

/// Latencies that are kept per phase: 8 MB, hours at a usual rate; later ones are not measured.
const MAX_LATENCIES: usize = 2_000_000;
/// A request that starts later than this after its time is counted as late.
pub(super) const LATE: Duration = Duration::from_millis(100);
/// How much longer than the client's patience the end of a phase waits for its last requests.
const SETTLE_SPARE: Duration = Duration::from_secs(1);

pub(super) struct Phase {
    name: String,
    started: Instant,
    started_unix_ms: u64,
    state: Mutex<State>,
    under_way: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    report: Report,
    live: Live,
    latencies_us: Vec<u32>,
}

/// A request that has started.
pub(super) struct Begun {
    pub(super) id: String,
    pub(super) method: http::Method,
    pub(super) started: Instant,
}

impl Phase {
    pub(super) fn start(name: &str) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_owned(),
            started: Instant::now(),
            started_unix_ms: unix_ms(),
            state: Mutex::default(),
            under_way: watch::Sender::new(0),
        })
    }

    /// Counts a request in; `late` is how long after its time it starts.
    pub(super) fn begin(&self, late: Duration) {
        self.under_way.send_modify(|count| *count += 1);
        if late > LATE {
            self.state().report.late += 1;
        }
    }

    /// Counts a request's end.
    pub(super) fn end(&self, begun: &Begun, how: How) {
        let took = begun.started.elapsed();
        let mut state = self.state();
        state.count(begun, &how, took);
        state.live(&how, took);
        drop(state);
        self.under_way.send_modify(|count| *count -= 1);
    }

    /// Waits until all requests of the phase have ended, a little longer than they may take.
    pub(super) async fn settle(&self, patience: Duration) {
        let mut under_way = self.under_way.subscribe();
        let none = under_way.wait_for(|count| *count == 0);
        // Those still under way then are reported as unfinished.
        drop(tokio::time::timeout(patience + SETTLE_SPARE, none).await);
    }

    pub(super) fn live(&self) -> Live {
        let mut live = std::mem::take(&mut self.state().live);
        live.phase.clone_from(&self.name);
        live
    }

    pub(super) fn report(&self) -> Report {
        let mut state = self.state();
        let latency = state.latency();
        Report {
            phase: self.name.clone(),
            started_unix_ms: self.started_unix_ms,
            seconds: self.started.elapsed().as_secs_f64(),
            latency,
            unfinished: *self.under_way.borrow(),
            ..state.report.clone()
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn count(&mut self, begun: &Begun, how: &How, took: Duration) {
        let tally = self
            .report
            .methods
            .entry(begun.method.to_string())
            .or_default();
        tally.sent += 1;
        match how {
            How::Good { .. } => tally.ok += 1,
            How::Status(status) => *tally.status.entry(*status).or_default() += 1,
            How::Connect => tally.connect += 1,
            How::Timeout => tally.timeout += 1,
            How::Reset => tally.reset += 1,
            How::Cut => tally.cut += 1,
            How::Mismatched => tally.mismatched += 1,
        }
        let now = unix_ms();
        let How::Good { zone } = how else {
            if self.report.failures.len() < MAX_FAILURES {
                self.report.failures.push(failed(begun, how, took, now));
            }
            return;
        };
        *tally.status.entry(200).or_default() += 1;
        if self.latencies_us.len() < MAX_LATENCIES {
            self.latencies_us
                .push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
        }
        if let Some(zone) = zone {
            let share = self.report.zones.entry(zone.clone()).or_default();
            share.ok += 1;
            share.last_unix_ms = now;
            if share.first_unix_ms == 0 {
                share.first_unix_ms = now;
            }
        }
    }

    fn live(&mut self, how: &How, took: Duration) {
        match how {
            How::Good { zone } => {
                self.live.ok += 1;
                if let Some(zone) = zone {
                    *self.live.zones.entry(zone.clone()).or_default() += 1;
                }
            }
            How::Cut => self.live.cut += 1,
            How::Status(_) | How::Connect | How::Timeout | How::Reset | How::Mismatched => {
                self.live.failed += 1;
            }
        }
        self.live.slowest_ms = self.live.slowest_ms.max(millis(took));
    }

    fn latency(&mut self) -> Latency {
        self.latencies_us.sort_unstable();
        let at = |permille: usize| {
            let last = self.latencies_us.len().checked_sub(1)?;
            let value = self.latencies_us.get(last * permille / 1000)?;
            Some(f64::from(*value) / 1000.0)
        };
        Latency {
            p50: at(500).unwrap_or(0.0),
            p90: at(900).unwrap_or(0.0),
            p99: at(990).unwrap_or(0.0),
            max: at(1000).unwrap_or(0.0),
        }
    }
}

fn failed(begun: &Begun, how: &How, took: Duration, now: u64) -> Failed {
    Failed {
        id: begun.id.clone(),
        method: begun.method.to_string(),
        started_unix_ms: now.saturating_sub(millis(took)),
        after_ms: millis(took),
        how: how.clone(),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, millis)
}

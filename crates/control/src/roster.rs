//! What is known of nodes while this process lives: connections, acknowledgements, reports.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tacit_model::{Generation, NodeName, ServiceName};
use tokio::sync::watch;

use crate::admin::types::CertificateStatus;

/// Live rates are over the reports of this time: short enough to be live, long enough that one
/// report more or less does not show.
const RATE_WINDOW: Duration = Duration::from_secs(5);
/// Pairs of caller and service that a node may report: bounds memory against a broken node.
const MAX_PAIRS: usize = 10_000;

/// All nodes that were heard of.
pub(crate) struct Roster {
    nodes: Mutex<BTreeMap<NodeName, Live>>,
    changed: watch::Sender<u64>,
}

/// One node, as far as it was heard of.
#[derive(Clone, Debug, Default)]
pub(crate) struct Live {
    /// The number of its current discovery stream; absent: not connected.
    stream: Option<u64>,
    /// Since 1970, by our clock.
    pub(crate) heard: Option<Duration>,
    pub(crate) acknowledged: Option<Generation>,
    pub(crate) refused: Option<String>,
    pub(crate) certificates: Vec<CertificateStatus>,
    started: u64,
    traffic: BTreeMap<Pair, VecDeque<Sample>>,
}

/// A caller (`namespace/service-account`) and the service that it calls.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Pair {
    pub(crate) source: String,
    pub(crate) service: ServiceName,
}

/// Counters at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    pub(crate) at: Duration,
    pub(crate) requests: u64,
    pub(crate) failures: u64,
}

/// Requests and failures per second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Rate {
    pub(crate) requests: f64,
    pub(crate) failures: f64,
}

/// What a node reports about itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    pub(crate) started: u64,
    pub(crate) certificates: Vec<CertificateStatus>,
    pub(crate) traffic: Vec<(Pair, u64, u64)>,
}

impl Live {
    /// True while it has a discovery stream.
    pub(crate) fn connected(&self) -> bool {
        self.stream.is_some()
    }
}

impl Roster {
    /// Nobody was heard of yet.
    pub(crate) fn new() -> Self {
        Self {
            nodes: Mutex::default(),
            changed: watch::Sender::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeName, Live>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, node: &NodeName, change: impl FnOnce(&mut Live)) {
        change(self.lock().entry(node.clone()).or_default());
        self.changed.send_modify(|count| *count += 1);
    }

    /// Wakes up at each change.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// What is known of a node.
    pub(crate) fn node(&self, node: &NodeName) -> Live {
        self.lock().get(node).cloned().unwrap_or_default()
    }

    /// A discovery stream begins; it replaces an earlier one of the node.
    pub(crate) fn connected(&self, node: &NodeName, stream: u64, now: Duration) {
        self.change(node, |live| {
            live.stream = Some(stream);
            live.heard = Some(now);
        });
    }

    /// A discovery stream ended.
    pub(crate) fn disconnected(&self, node: &NodeName, stream: u64) {
        self.change(node, |live| {
            live.stream.take_if(|current| *current == stream);
        });
    }

    /// What a node has in force, and what it refused.
    pub(crate) fn answered(
        &self,
        node: &NodeName,
        stream: u64,
        acknowledged: Option<Generation>,
        refused: Option<String>,
        now: Duration,
    ) {
        let same = {
            let nodes = self.lock();
            nodes
                .get(node)
                .is_some_and(|live| live.acknowledged == acknowledged && live.refused == refused)
        };
        if !same {
            self.change(node, |live| {
                if live.stream == Some(stream) {
                    live.acknowledged = acknowledged.or(live.acknowledged);
                    live.refused = refused;
                    live.heard = Some(now);
                }
            });
        }
    }

    /// Takes a report in.
    pub(crate) fn reported(&self, node: &NodeName, report: Report, now: Duration) {
        self.change(node, |live| {
            live.heard = Some(now);
            live.certificates = report.certificates;
            if live.started != report.started {
                live.started = report.started;
                live.traffic.clear();
            }
            for (pair, requests, failures) in report.traffic.into_iter().take(MAX_PAIRS) {
                let samples = live.traffic.entry(pair).or_default();
                samples.push_back(Sample {
                    at: now,
                    requests,
                    failures,
                });
                while samples.len() > 2 && samples.get(1).is_some_and(|s| s.at + RATE_WINDOW < now)
                {
                    samples.pop_front();
                }
            }
        });
    }

    /// Forgets a node that was removed.
    pub(crate) fn forget(&self, node: &NodeName) {
        self.lock().remove(node);
        self.changed.send_modify(|count| *count += 1);
    }

    /// Live rates of all nodes together.
    pub(crate) fn rates(&self, now: Duration) -> BTreeMap<Pair, Rate> {
        let mut rates: BTreeMap<Pair, Rate> = BTreeMap::new();
        for live in self.lock().values() {
            for (pair, samples) in &live.traffic {
                if let Some(rate) = rate(samples, now) {
                    let sum = rates.entry(pair.clone()).or_default();
                    sum.requests += rate.requests;
                    sum.failures += rate.failures;
                }
            }
        }
        rates
    }

    /// How many of `nodes` have this generation or a newer one in force.
    pub(crate) fn have(&self, nodes: &BTreeSet<NodeName>, generation: Generation) -> usize {
        let live = self.lock();
        let has = |node: &&NodeName| {
            live.get(*node)
                .and_then(|live| live.acknowledged)
                .is_some_and(|a| a >= generation)
        };
        nodes.iter().filter(has).count()
    }
}

/// The rate between the oldest and the newest sample; nothing if the newest is old.
fn rate(samples: &VecDeque<Sample>, now: Duration) -> Option<Rate> {
    let (first, last) = (samples.front()?, samples.back()?);
    let seconds = last.at.checked_sub(first.at)?.as_secs_f64();
    if seconds <= 0.0 || last.at + RATE_WINDOW < now {
        return None;
    }
    #[expect(
        clippy::cast_precision_loss,
        reason = "a rate for people; 2^53 requests are enough"
    )]
    let per_second = |from: u64, to: u64| to.saturating_sub(from) as f64 / seconds;
    Some(Rate {
        requests: per_second(first.requests, last.requests),
        failures: per_second(first.failures, last.failures),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(started: u64, requests: u64, failures: u64) -> Report {
        let pair = Pair {
            source: "shop/web".into(),
            service: ServiceName::parse("shop", "payments").unwrap(),
        };
        Report {
            started,
            certificates: Vec::new(),
            traffic: vec![(pair, requests, failures)],
        }
    }

    #[test]
    fn rates_are_differences_of_one_life_of_a_node() {
        let roster = Roster::new();
        let node: NodeName = "a".try_into().unwrap();
        let at = Duration::from_secs;
        roster.reported(&node, report(1, 100, 0), at(10));
        assert!(roster.rates(at(10)).is_empty());
        roster.reported(&node, report(1, 300, 20), at(12));
        let rates = roster.rates(at(12));
        let rate = rates.values().next().unwrap();
        assert_eq!(
            *rate,
            Rate {
                requests: 100.0,
                failures: 10.0
            }
        );
        // A new life begins to count anew.
        roster.reported(&node, report(2, 5, 0), at(13));
        assert!(roster.rates(at(13)).is_empty());
        // Old news is no live rate.
        roster.reported(&node, report(2, 10, 0), at(14));
        assert_eq!(roster.rates(at(14)).len(), 1);
        assert!(roster.rates(at(60)).is_empty());
    }

    #[test]
    fn the_stream_before_the_last_does_not_speak_for_the_node() {
        let roster = Roster::new();
        let node: NodeName = "a".try_into().unwrap();
        let generation = |number| Some(Generation { epoch: 1, number });
        let now = Duration::ZERO;
        roster.connected(&node, 1, now);
        roster.connected(&node, 2, now);
        roster.disconnected(&node, 1);
        assert!(roster.node(&node).connected());
        roster.answered(&node, 1, generation(9), None, now);
        assert_eq!(roster.node(&node).acknowledged, None);
        roster.answered(&node, 2, generation(3), None, now);
        let nodes = [node.clone(), "b".try_into().unwrap()].into();
        assert_eq!(
            roster.have(
                &nodes,
                Generation {
                    epoch: 1,
                    number: 3
                }
            ),
            1
        );
        assert_eq!(
            roster.have(
                &nodes,
                Generation {
                    epoch: 1,
                    number: 4
                }
            ),
            0
        );
        roster.disconnected(&node, 2);
        assert!(!roster.node(&node).connected());
        assert_eq!(roster.node(&node).acknowledged, generation(3));
    }
}

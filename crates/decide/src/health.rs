//! Which endpoints are well: ejection for application errors, and what is unreachable.
//!
//! Two things take an endpoint out of rotation. Application errors (`Timeout`, `GatewayError`,
//! `ServerError`) eject it for a while, bounded by `maxPercent`. A failed connection or a lost
//! session makes its address unreachable: always out, until a new session or a probe succeeds.

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tacit_model::failover::{Eject, Health, Probe, Signal};
use tacit_model::tables::{Protocol, ServiceRow, WorkloadRow};
use tacit_model::{NodeName, Now, ServiceName, Snapshot};

use crate::destination::dial_permit;
use crate::permit::DialPermit;
use crate::retry::{Sent, TryOutcome};
use crate::state::{Reachability, ServiceState, State, reached};
use crate::view::{Seen, StateView};

/// First pause before an unreachable address is probed again; doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// Longest pause between probes: what a place that returns waits at most to be noticed.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Pause between probes of an address that answers while its node has one that does not.
const SUSPECT_PAUSE: Duration = Duration::from_secs(1);
/// How long a node is in doubt after it lost an address: time for a probe of all others.
const DOUBT: Duration = Duration::from_secs(2);
/// How long a probe may be under way before it is asked for again: longer than any connect limit.
const PROBE_UNDER_WAY: Duration = Duration::from_secs(5);
/// Probes that are asked for at once; the rest is due at the next call. Bounds a burst when a
/// whole region dies.
const MOST_PROBES: usize = 256;
/// Application that does not accept connections: pause before it is offered a try again.
const FIRST_REFUSED: Duration = Duration::from_secs(1);
/// At most this factor of the first pause, for refusals and for ejections.
const MOST_FACTOR: u32 = 10;

/// What happened to a session with an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionSign {
    /// It broke or went silent. A session that was closed in good order is no sign.
    Lost,
    /// A new one stands: the peer proved its identity.
    Up,
}

/// A check that somebody should make now, once; the answer goes to [`State::on_probe`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeAsk {
    /// Whom to ask.
    pub workload: Arc<WorkloadRow>,
    /// The address of the workload and the port of its application; port 0 for a session.
    pub endpoint: SocketAddr,
    /// What to do.
    pub kind: ProbeKind,
}

/// What a probe does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeKind {
    /// `GET path`; well if the answer is 2xx.
    Http {
        /// Whose FailoverPolicy asks for it.
        service: ServiceName,
        /// The path.
        path: Arc<str>,
    },
    /// Make a new session; well if it stands.
    Session,
}

impl ProbeAsk {
    /// Leave to make this probe with the identity of `source`.
    pub fn permit(&self, s: &Snapshot, source: &WorkloadRow) -> DialPermit {
        dial_permit(s, source, &self.workload, self.endpoint.port())
    }
}

/// An address that is not simply reachable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reach {
    /// False: another address of its node is unreachable, so this one is asked, but still used.
    pub(crate) is_lost: bool,
    /// When it was lost last.
    lost_at: Now,
    failed_probes: u32,
    next_probe: Now,
}

/// An application that did not accept a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refused {
    pub(crate) until: Now,
    times: u32,
}

/// What is known of one endpoint of one service.
#[derive(Debug, Default)]
pub(crate) struct EndpointHealth {
    /// Holders beyond this one are tries under way.
    pub(crate) load: Arc<()>,
    /// When the latest failures in a row happened, oldest first, at most `consecutive`.
    failures: VecDeque<Now>,
    ejected_until: Option<Now>,
    /// Ejections without a good result between them.
    ejections: u32,
    probe: ProbeState,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct ProbeState {
    next: Now,
    has_failed: bool,
    /// The callee's access policies refuse the probe: it tells nothing of the application.
    is_refused: bool,
}

/// Whether an endpoint takes part, from what this process has learnt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fitness {
    Fit,
    /// For application errors.
    Ejected,
    /// No session, no connection, or its active check failed.
    Unreachable,
}

/// What is known of one endpoint, as plain data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HealthView {
    outstanding: usize,
    failures: Vec<Now>,
    ejected_until: Option<Now>,
    ejections: u32,
    probe: ProbeState,
}

impl HealthView {
    pub(crate) fn outstanding(&self) -> usize {
        self.outstanding
    }
}

impl EndpointHealth {
    /// A copy; `outstanding` is given, because it changes without a lock and is read once.
    pub(crate) fn view(&self, outstanding: usize) -> HealthView {
        HealthView {
            outstanding,
            failures: self.failures.iter().copied().collect(),
            ejected_until: self.ejected_until,
            ejections: self.ejections,
            probe: self.probe,
        }
    }

    /// The same again, without tries under way.
    pub(crate) fn of(view: &HealthView) -> Self {
        Self {
            load: Arc::default(),
            failures: view.failures.iter().copied().collect(),
            ejected_until: view.ejected_until,
            ejections: view.ejections,
            probe: view.probe,
        }
    }

    pub(crate) fn outstanding(&self) -> usize {
        Arc::strong_count(&self.load) - 1
    }

    pub(crate) fn is_ejected(&self, now: Now) -> bool {
        self.ejected_until.is_some_and(|until| !reached(until, now))
    }

    fn good(&mut self, now: Now) {
        self.failures.clear();
        // A late answer of before the ejection does not end it.
        if !self.is_ejected(now) {
            self.ejections = 0;
        }
    }

    /// Counts a failure; true if there are enough of them to eject.
    fn bad(&mut self, eject: &Eject, now: Now) -> bool {
        let most = usize::try_from(eject.consecutive.max(1)).unwrap_or(usize::MAX);
        self.failures.push_back(now);
        while self.failures.len() > most {
            self.failures.pop_front();
        }
        let oldest = self.failures.front().copied().unwrap_or(now);
        self.failures.len() == most && now.since(oldest) <= eject.within
    }

    fn eject(&mut self, eject: &Eject, now: Now) {
        let factor = growth(self.ejections);
        self.ejections = self.ejections.saturating_add(1);
        self.ejected_until = Some(now.plus(eject.duration * factor));
        self.failures.clear();
    }
}

/// 1, 2, 4, 8, 10, 10, …
fn growth(times: u32) -> u32 {
    1u32.checked_shl(times)
        .unwrap_or(MOST_FACTOR)
        .min(MOST_FACTOR)
}

impl Reachability {
    fn lose(&mut self, address: IpAddr, now: Now) {
        let reach = self.addresses.entry(address).or_insert(Reach {
            is_lost: true,
            lost_at: now,
            failed_probes: 0,
            next_probe: now,
        });
        if !reach.is_lost {
            reach.is_lost = true;
            reach.lost_at = now;
            reach.next_probe = now;
        }
    }

    /// The address answers. The entry stays until its whole node is well, to pace probes.
    fn find(&mut self, address: IpAddr, now: Now) {
        if let Some(reach) = self.addresses.get_mut(&address) {
            *reach = Reach {
                is_lost: false,
                lost_at: reach.lost_at,
                failed_probes: 0,
                next_probe: now.plus(SUSPECT_PAUSE),
            };
        }
    }

    /// Nodes that lost an address a moment ago: probably all of the node is gone, and what is
    /// tried again had better go elsewhere until probes have found out.
    pub(crate) fn doubtful_nodes<'a>(&self, s: &'a Snapshot, now: Now) -> Vec<&'a NodeName> {
        let recent = |reach: &Reach| reach.is_lost && now.since(reach.lost_at) < DOUBT;
        let lost = self.addresses.iter().filter(|(_, reach)| recent(reach));
        lost.filter_map(|(address, _)| s.workload_at(*address))
            .map(|workload| &workload.node)
            .collect()
    }

    pub(crate) fn fitness(
        &self,
        endpoint: SocketAddr,
        health: Option<&EndpointHealth>,
        now: Now,
    ) -> Fitness {
        let lost = |reach: &Reach| reach.is_lost;
        let refused = |refused: &Refused| !reached(refused.until, now);
        if self.addresses.get(&endpoint.ip()).is_some_and(lost)
            || self.refused.get(&endpoint).is_some_and(refused)
            || health.is_some_and(|health| health.probe.has_failed)
        {
            return Fitness::Unreachable;
        }
        if health.is_some_and(|health| health.is_ejected(now)) {
            return Fitness::Ejected;
        }
        Fitness::Fit
    }
}

impl State {
    /// Learns from the end of a try at `endpoint`, chosen for `service`; also from a connection
    /// of bytes, whose good end is `TryOutcome::Status(200)`.
    pub fn on_result(
        &self,
        s: &Snapshot,
        service: &ServiceRow,
        endpoint: SocketAddr,
        outcome: &TryOutcome,
        now: Now,
    ) {
        self.on_result_seen(s, service, endpoint, outcome, now, None);
    }

    /// Like [`State::on_result`], and tells what it read and wrote to `seen`.
    pub(crate) fn on_result_seen(
        &self,
        s: &Snapshot,
        service: &ServiceRow,
        endpoint: SocketAddr,
        outcome: &TryOutcome,
        now: Now,
        mut seen: Option<&mut Seen>,
    ) {
        match outcome {
            TryOutcome::ConnectFailed
            | TryOutcome::Reset {
                session_lost: true, ..
            } => {
                let lose = |reach: &mut Reachability| reach.lose(endpoint.ip(), now);
                return self.with_reach_mut(|reach| change(reach, endpoint, seen, lose));
            }
            TryOutcome::ApplicationRefused => {
                let refuse = |reach: &mut Reachability| refuse(reach, endpoint, now);
                return self.with_reach_mut(|reach| change(reach, endpoint, seen, refuse));
            }
            TryOutcome::OwnFault | TryOutcome::RefusedByTacit | TryOutcome::RefusedStream => {
                return;
            }
            TryOutcome::BrokenAfterHeaders
            | TryOutcome::PerTryTimeout { .. }
            | TryOutcome::RequestTimeout { .. }
            | TryOutcome::Reset { .. }
            | TryOutcome::Status(_) => {}
        }
        self.accepted(endpoint, outcome, seen.as_deref_mut());
        let default = Health::default();
        let health = service
            .failover
            .as_ref()
            .map_or(&default, |f| &f.health.value);
        let is_bad = signals_of(outcome)
            .iter()
            .any(|s| health.signals.contains(s));
        let Some(eject) = &health.eject else {
            return;
        };
        let total = s.endpoints(&service.name).len();
        self.with_service(&service.name, |state| {
            if let Some(seen) = seen.as_deref_mut() {
                view_endpoints(state, &service.name, endpoint.port(), &mut seen.before);
            }
            let ejected = state.endpoints.iter().filter(|(other, health)| {
                other.port() == endpoint.port() && **other != endpoint && health.is_ejected(now)
            });
            let has_room = has_room(eject, ejected.count(), total);
            let health = state.endpoints.entry(endpoint).or_default();
            if !is_bad {
                health.good(now);
            } else if health.bad(eject, now) && has_room && !health.is_ejected(now) {
                health.eject(eject, now);
            }
            if let Some(seen) = seen {
                view_endpoints(state, &service.name, endpoint.port(), &mut seen.after);
            }
        });
    }

    /// An answer proves that the application accepts connections.
    fn accepted(&self, endpoint: SocketAddr, outcome: &TryOutcome, seen: Option<&mut Seen>) {
        let answered = matches!(
            outcome,
            TryOutcome::Status(_) | TryOutcome::BrokenAfterHeaders
        );
        if !answered || !self.with_reach(|reach| reach.refused.contains_key(&endpoint)) {
            return;
        }
        self.with_reach_mut(|reach| {
            // Another answer may have come first.
            if reach.refused.contains_key(&endpoint) {
                change(reach, endpoint, seen, |reach| {
                    reach.refused.remove(&endpoint);
                });
            }
        });
    }

    /// Learns from a session with a workload's address.
    pub fn on_session(&self, address: IpAddr, sign: SessionSign, now: Now) {
        match sign {
            SessionSign::Lost => self.with_reach_mut(|reach| reach.lose(address, now)),
            SessionSign::Up => {
                if self.with_reach(|reach| reach.addresses.contains_key(&address)) {
                    self.with_reach_mut(|reach| reach.find(address, now));
                }
            }
        }
    }

    /// True if nothing is sent to this address until a new session stands.
    #[must_use]
    pub fn is_unreachable(&self, address: IpAddr) -> bool {
        self.with_reach(|reach| reach.addresses.get(&address).is_some_and(|r| r.is_lost))
    }

    /// Learns from a probe that was asked for.
    pub fn on_probe(&self, ask: &ProbeAsk, is_well: bool, now: Now) {
        match &ask.kind {
            ProbeKind::Session => self.with_reach_mut(|reach| {
                let address = ask.endpoint.ip();
                if is_well {
                    reach.find(address, now);
                } else if let Some(entry) = reach.addresses.get_mut(&address) {
                    let pause = FIRST_PAUSE * growth(entry.failed_probes);
                    if !entry.is_lost {
                        entry.is_lost = true;
                        entry.lost_at = now;
                    }
                    entry.failed_probes = entry.failed_probes.saturating_add(1);
                    entry.next_probe = now.plus(pause.min(LONGEST_PAUSE));
                }
            }),
            ProbeKind::Http { service, .. } => self.with_service(service, |state| {
                let health = state.endpoints.entry(ask.endpoint).or_default();
                health.probe.has_failed = !is_well;
                health.probe.is_refused = false;
            }),
        }
    }

    /// Learns that Tacit itself refused an HTTP probe, which says nothing of the application. What
    /// an earlier probe said cannot be confirmed any more, so it does not keep the endpoint out;
    /// the other signals go on. True for the first endpoint of a service: that should be told.
    pub fn on_probe_refused(&self, ask: &ProbeAsk) -> bool {
        let ProbeKind::Http { service, .. } = &ask.kind else {
            return false;
        };
        self.with_service(service, |state| {
            let known = state.endpoints.values().any(|e| e.probe.is_refused);
            let probe = &mut state.endpoints.entry(ask.endpoint).or_default().probe;
            probe.has_failed = false;
            probe.is_refused = true;
            !known
        })
    }

    /// The checks that somebody should make now. Each is asked for once; call this about every
    /// 100 ms.
    #[must_use]
    pub fn due_probes(&self, s: &Snapshot, now: Now) -> Vec<ProbeAsk> {
        let mut asks = self.due_sessions(s, now);
        for service in s.services.values() {
            let probe = service
                .failover
                .as_ref()
                .and_then(|f| f.health.value.probe.as_ref());
            if let Some(probe) = probe {
                self.due_http(s, service, probe, now, &mut asks);
            }
        }
        asks
    }

    /// Lost addresses whose pause is over, and the other addresses of their nodes.
    fn due_sessions(&self, s: &Snapshot, now: Now) -> Vec<ProbeAsk> {
        if self.with_reach(|reach| reach.addresses.is_empty()) {
            return Vec::new();
        }
        self.with_reach_mut(|reach| {
            let lost = reach.addresses.iter().filter(|(_, entry)| entry.is_lost);
            let nodes: BTreeSet<NodeName> = lost
                .filter_map(|(address, _)| s.workload_at(*address))
                .map(|workload| workload.node.clone())
                .collect();
            let node_of = |address: &IpAddr| s.workload_at(*address).map(|w| &w.node);
            reach.addresses.retain(|address, entry| {
                entry.is_lost || node_of(address).is_some_and(|node| nodes.contains(node))
            });
            // A workload that its node reports nothing of is not suspected: it may not run yet.
            let on_them = s
                .workloads
                .values()
                .filter(|workload| nodes.contains(&workload.node) && !workload.ready.is_empty());
            for workload in on_them {
                let suspect = || Reach {
                    is_lost: false,
                    lost_at: Now::default(),
                    failed_probes: 0,
                    next_probe: now,
                };
                reach
                    .addresses
                    .entry(workload.address)
                    .or_insert_with(suspect);
            }
            let due = reach
                .addresses
                .iter_mut()
                .filter(|(_, r)| reached(r.next_probe, now));
            let mut asks = Vec::new();
            for (address, entry) in due.take(MOST_PROBES) {
                let Some(workload) = s.workload_at(*address) else {
                    continue;
                };
                entry.next_probe = now.plus(PROBE_UNDER_WAY);
                asks.push(ProbeAsk {
                    workload: workload.clone(),
                    endpoint: SocketAddr::new(*address, 0),
                    kind: ProbeKind::Session,
                });
            }
            asks
        })
    }

    fn due_http(
        &self,
        s: &Snapshot,
        service: &ServiceRow,
        probe: &Probe,
        now: Now,
        asks: &mut Vec<ProbeAsk>,
    ) {
        let Some(port) = service.ports.iter().find(|p| p.protocol == Protocol::Http) else {
            return;
        };
        self.with_service(&service.name, |state| {
            for workload in s.endpoints(&service.name) {
                let Some(target) = port.target_on(workload) else {
                    continue;
                };
                let endpoint = SocketAddr::new(workload.address, target);
                let health = state.endpoints.entry(endpoint).or_default();
                if !reached(health.probe.next, now) || asks.len() >= MOST_PROBES {
                    continue;
                }
                health.probe.next = now.plus(probe.interval);
                asks.push(ProbeAsk {
                    workload: workload.clone(),
                    endpoint,
                    kind: ProbeKind::Http {
                        service: service.name.clone(),
                        path: probe.path.clone(),
                    },
                });
            }
        });
    }
}

/// Copies what is known of the endpoints of one port. How many tries are under way plays no part
/// in what is learnt.
fn view_endpoints(state: &ServiceState, service: &ServiceName, port: u16, view: &mut StateView) {
    let of_port = state.endpoints.iter().filter(|(at, _)| at.port() == port);
    for (endpoint, health) in of_port {
        view.endpoint(service, *endpoint, health.view(0));
    }
}

/// Acts on what is known of an endpoint's address; copies what was read and written.
fn change(
    reach: &mut Reachability,
    endpoint: SocketAddr,
    seen: Option<&mut Seen>,
    act: impl FnOnce(&mut Reachability),
) {
    let Some(seen) = seen else {
        return act(reach);
    };
    seen.before.reach_of(reach, endpoint);
    act(reach);
    seen.after.reach_of(reach, endpoint);
}

fn refuse(reach: &mut Reachability, endpoint: SocketAddr, now: Now) {
    let entry = reach.refused.entry(endpoint).or_insert(Refused {
        until: now,
        times: 0,
    });
    entry.until = now.plus(FIRST_REFUSED * growth(entry.times));
    entry.times = entry.times.saturating_add(1);
}

/// True if one more of `total` may be ejected when `ejected` are already.
fn has_room(eject: &Eject, ejected: usize, total: usize) -> bool {
    let most = usize::try_from(eject.max_percent).unwrap_or(100);
    (ejected + 1).saturating_mul(100) <= total.saturating_mul(most)
}

/// Which signals of ill health of the application an outcome is.
fn signals_of(outcome: &TryOutcome) -> &'static [Signal] {
    match outcome {
        TryOutcome::Status(502..=504) => &[Signal::GatewayError, Signal::ServerError],
        TryOutcome::Status(500..=599) => &[Signal::ServerError],
        TryOutcome::BrokenAfterHeaders | TryOutcome::Reset { .. } => &[Signal::GatewayError],
        TryOutcome::PerTryTimeout { sent } | TryOutcome::RequestTimeout { sent } => match sent {
            Sent::Nothing => &[],
            Sent::Something => &[Signal::Timeout],
        },
        TryOutcome::ApplicationRefused
        | TryOutcome::ConnectFailed
        | TryOutcome::OwnFault
        | TryOutcome::RefusedByTacit
        | TryOutcome::RefusedStream
        | TryOutcome::Status(_) => &[],
    }
}

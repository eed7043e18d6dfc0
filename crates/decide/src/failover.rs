//! The order of places for one client, and how the shares of its steps move over time.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tacit_model::failover::{Failback, Failover, Spill, Step, WeightedPlace};
use tacit_model::tables::{ServicePort, ServiceRow, WorkloadRow};
use tacit_model::{Locality, Now, Provenance, Snapshot};

use crate::health::Fitness;
use crate::state::reached;

/// All of a share, in parts per million.
pub(crate) const FULL: u32 = 1_000_000;

/// One step of the order for one client, with its endpoints.
pub(crate) struct StepView<'a> {
    /// Whose endpoints: the service itself, or its fallback.
    pub(crate) service: &'a Arc<ServiceRow>,
    /// Absent: the own cluster, equal.
    places: Option<&'a [WeightedPlace]>,
    pub(crate) endpoints: Vec<Endpoint<'a>>,
}

/// One endpoint of a step.
pub(crate) struct Endpoint<'a> {
    pub(crate) workload: &'a Arc<WorkloadRow>,
    pub(crate) address: SocketAddr,
    /// Which place of the step it lies in, and the weight of that place.
    pub(crate) place: usize,
    pub(crate) weight: u32,
    /// The port accepts connections, as its node reports.
    pub(crate) is_ready: bool,
    pub(crate) fitness: Fitness,
    /// Its node lost another address a moment ago.
    pub(crate) is_doubtful: bool,
    pub(crate) outstanding: usize,
}

impl Endpoint<'_> {
    pub(crate) fn is_usable(&self) -> bool {
        self.is_ready && self.fitness == Fitness::Fit
    }
}

/// The order that holds for clients at `client`, and where it is written.
fn order_for<'a>(failover: &'a Failover, client: &Locality) -> (&'a [Step], &'a Provenance) {
    let fitting = failover
        .orders
        .iter()
        .filter(|order| order.clients.contains(client, client));
    // The first of the most specific ones: the order in which they are written decides.
    let mut best: Option<&tacit_model::failover::ClientOrder> = None;
    for order in fitting {
        if best.is_none_or(|b| order.clients.specificity() > b.clients.specificity()) {
            best = Some(order);
        }
    }
    let steps = best.map_or(failover.order.value.as_slice(), |order| {
        order.steps.as_slice()
    });
    (steps, &failover.order.from)
}

/// Where the order for `client` is written; `None` without a FailoverPolicy.
pub(crate) fn order_provenance<'a>(
    service: &'a ServiceRow,
    client: &Locality,
) -> Option<&'a Provenance> {
    service.failover.as_ref().map(|f| order_for(f, client).1)
}

/// The steps for calls of `client` to a port of a service, top down, each endpoint in the first
/// step that names it. Health is not filled in yet.
pub(crate) fn steps<'a>(
    s: &'a Snapshot,
    service: &'a Arc<ServiceRow>,
    port: &ServicePort,
    client: &Locality,
) -> Vec<StepView<'a>> {
    let mut seen = BTreeSet::new();
    let mut views = Vec::new();
    let order = service.failover.as_ref().map(|f| order_for(f, client).0);
    let Some(order) = order.filter(|order| !order.is_empty()) else {
        push_step(s, &mut views, &mut seen, (service, port), None, client);
        return views;
    };
    for step in order {
        match step {
            Step::Places(places) => {
                let to = (service, port);
                push_step(s, &mut views, &mut seen, to, Some(places), client);
            }
            Step::Service(name) => {
                let Some(fallback) = s.services.get(name) else {
                    continue;
                };
                let Some(same) = fallback_port(fallback, port) else {
                    continue;
                };
                push_fallback(s, &mut views, &mut seen, (fallback, same), client);
            }
        }
    }
    views
}

/// The port of the fallback with the same number, else with the same name.
fn fallback_port<'a>(fallback: &'a ServiceRow, port: &ServicePort) -> Option<&'a ServicePort> {
    let named = |p: &&ServicePort| !port.name.is_empty() && p.name == port.name;
    let mut ports = fallback.ports.iter();
    ports
        .find(|p| p.port == port.port)
        .or_else(|| fallback.ports.iter().find(named))
}

/// A fallback keeps to its own order of places; its own fallbacks are not followed.
fn push_fallback<'a>(
    s: &'a Snapshot,
    views: &mut Vec<StepView<'a>>,
    seen: &mut BTreeSet<SocketAddr>,
    to: (&'a Arc<ServiceRow>, &ServicePort),
    client: &Locality,
) {
    let own = to.0.failover.as_ref().map(|f| order_for(f, client).0);
    let Some(own) = own.filter(|order| !order.is_empty()) else {
        push_step(s, views, seen, to, None, client);
        return;
    };
    for step in own {
        if let Step::Places(places) = step {
            push_step(s, views, seen, to, Some(places), client);
        }
    }
}

fn push_step<'a>(
    s: &'a Snapshot,
    views: &mut Vec<StepView<'a>>,
    seen: &mut BTreeSet<SocketAddr>,
    (service, port): (&'a Arc<ServiceRow>, &ServicePort),
    places: Option<&'a [WeightedPlace]>,
    client: &Locality,
) {
    let mut endpoints = Vec::new();
    for workload in s.endpoints(&service.name) {
        let Some(target) = port.target_on(workload) else {
            continue;
        };
        let Some((place, weight)) = place_of(s, places, client, workload) else {
            continue;
        };
        let address = SocketAddr::new(workload.address, target);
        if seen.insert(address) {
            endpoints.push(Endpoint {
                workload,
                address,
                place,
                weight,
                is_ready: workload.ready.contains(&target),
                fitness: Fitness::Fit,
                is_doubtful: false,
                outstanding: 0,
            });
        }
    }
    views.push(StepView {
        service,
        places,
        endpoints,
    });
}

/// Which place of a step a workload lies in, with the weight of that place.
fn place_of(
    s: &Snapshot,
    places: Option<&[WeightedPlace]>,
    client: &Locality,
    workload: &WorkloadRow,
) -> Option<(usize, u32)> {
    let Some(places) = places else {
        let cluster = &workload.locality.cluster;
        let own = cluster.is_empty() || *cluster == s.mesh.cluster;
        return own.then_some((0, 1));
    };
    let mut numbered = places.iter().enumerate();
    let found = numbered.find(|(_, p)| p.place.contains(client, &workload.locality));
    found.map(|(index, place)| (index, place.weight))
}

/// How the share of one step moves: down as spill says, up as failback says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ramp {
    /// The share at `since`.
    share: u32,
    since: Now,
    motion: Motion,
    target: u32,
    /// Until a step was whole for the first time nothing has failed, so nothing must be calm.
    was_full: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Motion {
    Falling,
    Rising,
    Still,
    /// Well again, but not yet for long enough.
    Waiting,
}

/// How much of a step can be used now, in parts per million of all traffic that it may get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fit {
    /// What it should get.
    target: u32,
    /// More than this it may not get, not even while its share falls: the rest is unreachable.
    at_most: u32,
}

impl Fit {
    pub(crate) fn of(step: &StepView<'_>, spill: &Spill) -> Self {
        let total = step.endpoints.len();
        let usable = step.endpoints.iter().filter(|e| e.is_usable()).count();
        let gone = |e: &&Endpoint<'_>| e.fitness == Fitness::Unreachable;
        let reachable = total - step.endpoints.iter().filter(gone).count();
        let share = |count: usize| share_of(count, total, spill.below_percent);
        Self {
            target: share(usable),
            at_most: if usable == 0 { 0 } else { share(reachable) },
        }
    }
}

/// The share that fits on `count` of `total` endpoints when up to `below` percent carry all.
fn share_of(count: usize, total: usize, below: u32) -> u32 {
    let (count, total) = (to_u64(count), to_u64(total));
    let needed = total * u64::from(below.clamp(1, 100));
    if needed == 0 {
        return 0;
    }
    let share = count * 100 * u64::from(FULL) / needed;
    u32::try_from(share.min(u64::from(FULL))).unwrap_or(FULL)
}

fn to_u64(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

impl Ramp {
    pub(crate) fn new(fit: Fit, now: Now) -> Self {
        Self {
            share: fit.target,
            since: now,
            motion: Motion::Still,
            target: fit.target,
            was_full: fit.target == FULL,
        }
    }

    /// Moves to `now` and returns the share.
    pub(crate) fn advance(
        &mut self,
        fit: Fit,
        spill: &Spill,
        failback: &Failback,
        now: Now,
    ) -> u32 {
        if !self.was_full {
            *self = Self::new(fit, now);
            return self.share;
        }
        let share = self.share_at(spill, failback, now);
        let eased = fit.target < self.target;
        let changed = fit.target != self.target;
        let is_calm = reached(self.since.plus(failback.after), now);
        let next = match self.motion {
            _ if fit.target < share => Motion::Falling,
            _ if fit.target == share => Motion::Still,
            _ if eased => Motion::Waiting,
            Motion::Rising => Motion::Rising,
            Motion::Waiting if is_calm => Motion::Rising,
            Motion::Falling | Motion::Still | Motion::Waiting => Motion::Waiting,
        };
        self.since = match (self.motion, next) {
            (Motion::Waiting, Motion::Waiting) if !eased => self.since,
            // Calm was over then, even if nobody asked at that moment.
            (Motion::Waiting, Motion::Rising) => self.since.plus(failback.after),
            (before, after) if before == after && !changed => self.since,
            _ => {
                self.share = share;
                now
            }
        };
        self.motion = next;
        self.target = fit.target;
        if next == Motion::Falling && share > fit.at_most {
            self.share = fit.at_most;
            self.since = now;
        }
        self.share_at(spill, failback, now)
    }

    /// Falling and rising are straight lines from `share` to `target`.
    fn share_at(&self, spill: &Spill, failback: &Failback, now: Now) -> u32 {
        let (from, to) = (i64::from(self.share), i64::from(self.target));
        let ramp = match self.motion {
            Motion::Still | Motion::Waiting => return self.share,
            Motion::Falling => spill.ramp,
            Motion::Rising => failback.ramp,
        };
        let part = now.since(self.since).as_nanos() * u128::from(FULL);
        let part = part
            .checked_div(ramp.as_nanos())
            .unwrap_or_else(|| FULL.into());
        let part = i64::try_from(part).unwrap_or(i64::MAX).min(i64::from(FULL));
        let share = from + (to - from) * part / i64::from(FULL);
        u32::try_from(share).unwrap_or(0)
    }
}

impl StepView<'_> {
    /// The step, for people.
    pub(crate) fn describe(&self, called: &ServiceRow) -> String {
        let places = match self.places {
            None => "own cluster".to_owned(),
            Some(places) => {
                let each = places.iter().map(|p| {
                    if places.len() > 1 {
                        format!("{} (weight {})", p.place, p.weight)
                    } else {
                        p.place.to_string()
                    }
                });
                each.collect::<Vec<_>>().join(" | ")
            }
        };
        if self.service.name == called.name {
            places
        } else {
            format!("service {} in {places}", self.service.name)
        }
    }
}

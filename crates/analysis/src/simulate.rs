//! Where traffic goes when places are down: for every port of a service and every place of clients.
//!
//! The shares are those of first tries, with all endpoints equally busy, after everything has
//! settled: what was lost is known to be lost, and shares that move over time have moved.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;
use tacit_decide::route::target;
use tacit_decide::why::{Source, caller};
use tacit_decide::{Ask, Odds, ServiceTarget, State, odds};
use tacit_model::route::{Action, Candidate};
use tacit_model::status::ConditionKind;
use tacit_model::tables::{ServicePort, ServiceRow, WorkloadRow};
use tacit_model::{Locality, ServiceAccount, ServiceName, Snapshot, SpiffeId};

use crate::compiled::{Compiled, has_no_workload};
use crate::down::{Down, settled, shown};

/// What becomes of the traffic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Simulation {
    /// The places that are down.
    pub down: Vec<String>,
    /// One for each port of a service and place of clients.
    pub flows: Vec<Flow>,
    /// Whether each FailoverPolicy has somewhere to go, as its status says while nothing is down.
    pub armed: Vec<Armed>,
    /// Services of which the files have no workload: nothing can be said of where they go.
    pub without_workloads: Vec<String>,
}

/// The calls from one place to one port of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Flow {
    /// The service.
    pub service: String,
    /// The port.
    pub port: u16,
    /// The rule of a route that sends requests there, and to which of its backends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub through: Option<Through>,
    /// Where the clients are.
    pub clients: String,
    /// Where it goes while nothing is down.
    pub now: Traffic,
    /// Where it goes then.
    pub then: Traffic,
}

/// The way to one backend of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Through {
    /// The route and the field of its rule.
    pub rule: String,
    /// The backend.
    pub backend: String,
    /// Of the requests that follow the rule, so many in `of` go there.
    pub weight: u32,
    /// All weights of the rule.
    pub of: u64,
}

/// Where traffic goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Traffic {
    /// The clients are down themselves.
    ClientsDown,
    /// Nobody serves it, and why.
    Fails(String),
    /// To these places, in the order of steps.
    Served(Vec<Share>),
}

/// What one place gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Share {
    /// The place.
    pub place: String,
    /// The service there, if it is not the one that was called or the backend.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback: Option<String>,
    /// Of a million first tries.
    pub per_million: u64,
    /// How many endpoints share it.
    pub endpoints: usize,
}

/// Whether a FailoverPolicy has somewhere to go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Armed {
    /// The policy.
    pub policy: String,
    /// True if it has.
    pub armed: bool,
    /// Why, as its status says.
    pub message: String,
}

impl Flow {
    /// True if it works now and would fail then.
    #[must_use]
    pub fn breaks(&self) -> bool {
        matches!(self.now, Traffic::Served(_)) && matches!(self.then, Traffic::Fails(_))
    }
}

impl Simulation {
    /// True if something that works now would fail.
    #[must_use]
    pub fn breaks(&self) -> bool {
        self.flows.iter().any(Flow::breaks)
    }
}

/// Takes places down and looks where traffic goes.
#[must_use]
pub fn simulate(compiled: &Compiled, down: &Down) -> Simulation {
    let s = &compiled.snapshot;
    let asked = Asked {
        s,
        up: State::new(),
        down: down.state(s),
        gone: gone(compiled, down),
    };
    let clients = compiled.localities();
    let ports = s.services.values().flat_map(|service| {
        let ports = service.ports.iter();
        ports.flat_map(|port| legs(s, service, port))
    });
    let flows = ports.flat_map(|leg| clients.iter().map(move |client| (leg.clone(), client)));
    let bare = s.services.keys().filter(|name| has_no_workload(s, name));
    Simulation {
        down: down.places().iter().map(shown).collect(),
        flows: flows
            .filter_map(|(leg, client)| asked.flow(&leg, client))
            .collect(),
        armed: armed(compiled),
        without_workloads: bare.map(ToString::to_string).collect(),
    }
}

/// What is called, and which service is to serve it.
#[derive(Clone)]
struct Leg {
    called: (ServiceName, u16),
    through: Option<Through>,
    service: Arc<ServiceRow>,
    port: ServicePort,
}

/// The services that serve calls to a port: itself, if not every caller follows a route, and each
/// backend of its rules. Of those without workloads in the files nothing can be said.
fn legs(s: &Snapshot, service: &Arc<ServiceRow>, port: &ServicePort) -> Vec<Leg> {
    let parent = ServiceTarget {
        service: service.clone(),
        port: port.clone(),
    };
    let leg = |through, service: &Arc<ServiceRow>, to: &ServicePort| Leg {
        called: (parent.service.name.clone(), parent.port.port),
        through,
        service: service.clone(),
        port: to.clone(),
    };
    let mut legs = Vec::new();
    let routes = s.routes_at(&service.name).into_iter();
    let candidates: Vec<&Candidate> = routes
        .flat_map(|all| all.holding(port.port, port.protocol))
        .collect();
    let home = &service.name.namespace;
    if !candidates
        .iter()
        .any(|found| found.route.namespace == *home)
    {
        legs.push(leg(None, service, port));
    }
    let mut told = BTreeSet::new();
    for found in candidates {
        let Some(rule) = found.rule() else { continue };
        let Action::Forward(backends) = &rule.action else {
            continue;
        };
        if !told.insert((found.route.key.clone(), found.rule)) {
            continue;
        }
        let of = backends
            .iter()
            .map(|backend| u64::from(backend.weight))
            .sum();
        for backend in backends.iter().filter(|backend| backend.weight > 0) {
            let Ok(to) = target(s, &backend.to) else {
                continue;
            };
            let through = Through {
                rule: rule.from.to_string(),
                backend: format!("{}:{}", to.service.name, to.port.port),
                weight: backend.weight,
                of,
            };
            legs.push(leg(Some(through), &to.service, &to.port));
        }
    }
    legs.retain(|leg| !has_no_workload(s, &leg.service.name));
    legs
}

/// Places of clients of which nobody is left.
fn gone(compiled: &Compiled, down: &Down) -> BTreeSet<Locality> {
    let mut by_place: BTreeMap<&Locality, Vec<&Arc<WorkloadRow>>> = BTreeMap::new();
    for row in compiled.snapshot.workloads.values() {
        by_place.entry(&row.locality).or_default().push(row);
    }
    let all = compiled.localities();
    let is_gone = |at: &Locality| {
        let there = by_place.get(at);
        down.takes_all_of(at) || there.is_some_and(|rows| rows.iter().all(|row| down.takes(row)))
    };
    all.into_iter().filter(is_gone).collect()
}

struct Asked<'a> {
    s: &'a Snapshot,
    up: State,
    down: State,
    gone: BTreeSet<Locality>,
}

impl Asked<'_> {
    /// `None` if the names of the service make no caller, which valid rows do not do.
    fn flow(&self, leg: &Leg, client: &Locality) -> Option<Flow> {
        let Leg { service, port, .. } = leg;
        let source = source(self.s, &leg.called.0, client)?;
        let traffic = |state: &State| {
            let ask = Ask {
                source: &source,
                service,
                port,
                tried: &[],
                control_stale: false,
            };
            match odds(self.s, state, &ask, settled()) {
                Ok(all) => Traffic::Served(shares(&service.name, &all)),
                Err(denial) => Traffic::Fails(denial.reason),
            }
        };
        Some(Flow {
            service: leg.called.0.to_string(),
            port: leg.called.1,
            through: leg.through.clone(),
            clients: client.to_string(),
            now: traffic(&self.up),
            then: if self.gone.contains(client) {
                Traffic::ClientsDown
            } else {
                traffic(&self.down)
            },
        })
    }
}

/// A caller at a place. Who it is does not matter to where its calls go.
fn source(s: &Snapshot, service: &ServiceName, at: &Locality) -> Option<Arc<WorkloadRow>> {
    let identity = SpiffeId {
        trust_domain: s.mesh.trust_domain.clone(),
        namespace: service.namespace.clone(),
        service_account: ServiceAccount::try_from("default").ok()?,
    };
    let (row, _) = caller(s, &Source::Identity(identity, at.clone())).ok()?;
    Some(row)
}

/// What each place gets, in the order in which the places come.
fn shares(called: &ServiceName, all: &[Odds]) -> Vec<Share> {
    let mut shares: Vec<Share> = Vec::new();
    for Odds {
        workload,
        service,
        per_million,
        ..
    } in all
    {
        let place = workload.locality.to_string();
        let fallback = (service.name != *called).then(|| service.name.to_string());
        let known = shares
            .iter_mut()
            .find(|share| share.place == place && share.fallback == fallback);
        match known {
            Some(share) => {
                share.per_million += per_million;
                share.endpoints += 1;
            }
            None => shares.push(Share {
                place,
                fallback,
                per_million: *per_million,
                endpoints: 1,
            }),
        }
    }
    shares
}

fn armed(compiled: &Compiled) -> Vec<Armed> {
    let conditions = compiled.statuses.iter().flat_map(|status| {
        let conditions = status.conditions.iter();
        conditions.map(move |condition| (status.object.to_string(), condition))
    });
    let armed = conditions.filter(|(_, condition)| condition.kind == ConditionKind::Armed);
    let line = |(policy, condition): (String, &tacit_model::status::Condition)| Armed {
        policy,
        armed: condition.status,
        message: condition.message.clone(),
    };
    armed.map(line).collect()
}

#[cfg(test)]
mod tests;

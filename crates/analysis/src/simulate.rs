//! Where traffic goes when places are down: for every port of a service and every place of clients.
//!
//! The shares are those of first tries, with all endpoints equally busy, after everything has
//! settled: what was lost is known to be lost, and shares that move over time have moved.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;
use tacit_decide::why::{Source, caller};
use tacit_decide::{Ask, Odds, State, odds};
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
    /// Services whose requests follow routes: the flows are those of requests that no rule sends
    /// to another service.
    pub with_routes: Vec<String>,
}

/// The calls from one place to one port of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Flow {
    /// The service.
    pub service: String,
    /// The port.
    pub port: u16,
    /// Where the clients are.
    pub clients: String,
    /// Where it goes while nothing is down.
    pub now: Traffic,
    /// Where it goes then.
    pub then: Traffic,
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
    /// The service there, if it is not the one that was called.
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
    let (bare, served): (Vec<&Arc<ServiceRow>>, Vec<_>) = s
        .services
        .values()
        .partition(|service| has_no_workload(s, &service.name));
    let ports = served
        .iter()
        .flat_map(|service| service.ports.iter().map(move |port| (*service, port)));
    let flows = ports.flat_map(|to| clients.iter().map(move |client| (to, client)));
    Simulation {
        down: down.places().iter().map(shown).collect(),
        flows: flows
            .filter_map(|(to, client)| asked.flow(to, client))
            .collect(),
        armed: armed(compiled),
        with_routes: s
            .services
            .keys()
            .filter(|name| !s.route_candidates(name).is_empty())
            .map(ToString::to_string)
            .collect(),
        without_workloads: bare
            .iter()
            .map(|service| service.name.to_string())
            .collect(),
    }
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
    fn flow(&self, to: (&Arc<ServiceRow>, &ServicePort), client: &Locality) -> Option<Flow> {
        let (service, port) = to;
        let source = source(self.s, &service.name, client)?;
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
            service: service.name.to_string(),
            port: port.port,
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

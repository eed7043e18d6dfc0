//! What a decision read of a [`State`], as plain data: to be logged, and to make a state of again.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};
use tacit_model::{Locality, ObjectRef, ServiceName, Snapshot, WorkloadName};

use crate::failover::{Ramp, StepView};
use crate::health::{EndpointHealth, HealthView, Reach, Refused};
use crate::retry::BudgetWindow;
use crate::state::{InFlight, Reachability, State};

/// Tries under way at one endpoint, at most: a process has no more descriptors than this. A view
/// that says more was not made by us.
const MOST_OUTSTANDING: usize = 1 << 20;

/// What was read of a [`State`], and nothing else of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StateView {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    addresses: Vec<(IpAddr, Reach)>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    refused: Vec<(SocketAddr, Refused)>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    endpoints: Vec<EndpointView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ramps: Option<RampsView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    budget: Option<BudgetView>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) rates: Vec<RateView>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct EndpointView {
    service: ServiceName,
    endpoint: SocketAddr,
    health: HealthView,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct RampsView {
    service: ServiceName,
    port: u16,
    client: Locality,
    ramps: Vec<Ramp>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct BudgetView {
    source: WorkloadName,
    service: ServiceName,
    window: BudgetWindow,
}

/// The bucket of one limit that a request met.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RateView {
    pub(crate) workload: WorkloadName,
    pub(crate) policy: ObjectRef,
    pub(crate) index: usize,
    pub(crate) key: String,
    /// False: there was no room for the key.
    pub(crate) own: bool,
    /// The monotonic nanosecond at which it is full again; absent: it never lost a token.
    pub(crate) full_at: Option<u64>,
}

/// A state as one decision found it and as it left it, copied under the locks of the decision.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) before: StateView,
    pub(crate) after: StateView,
}

/// A state made of a view.
#[derive(Debug)]
pub struct Restored {
    /// The state.
    pub state: State,
    /// Tries that were under way.
    _in_flight: Vec<InFlight>,
}

/// Why no state can be made of a view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotRestored {
    endpoint: SocketAddr,
    outstanding: usize,
}

impl fmt::Display for NotRestored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            endpoint,
            outstanding,
        } = self;
        write!(
            f,
            "{outstanding} tries under way at {endpoint} are more than a process has"
        )
    }
}

impl std::error::Error for NotRestored {}

impl StateView {
    /// A state in which just this was learnt.
    pub fn restore(&self) -> Result<Restored, NotRestored> {
        let state = State::new();
        state.with_reach_mut(|reach| {
            reach.addresses.extend(self.addresses.iter().copied());
            reach.refused.extend(self.refused.iter().copied());
        });
        let mut in_flight = Vec::new();
        for view in &self.endpoints {
            let (endpoint, outstanding) = (view.endpoint, view.health.outstanding());
            if outstanding > MOST_OUTSTANDING {
                return Err(NotRestored {
                    endpoint,
                    outstanding,
                });
            }
            let health = EndpointHealth::of(&view.health);
            in_flight.extend((0..outstanding).map(|_| InFlight(health.load.clone())));
            state.with_service(&view.service, |known| {
                known.endpoints.insert(endpoint, health);
            });
        }
        if let Some(view) = &self.ramps {
            let key = (view.port, view.client.clone());
            state.with_service(&view.service, |known| {
                known.ramps.insert(key, view.ramps.clone());
            });
        }
        if let Some(view) = &self.budget {
            let key = (view.source.clone(), view.service.clone());
            state.with_budget(&key, |window| *window = view.window.clone());
        }
        for view in &self.rates {
            state.with_rates(&view.workload, |rates| rates.restore(view));
        }
        Ok(Restored {
            state,
            _in_flight: in_flight,
        })
    }

    pub(crate) fn endpoint(
        &mut self,
        service: &ServiceName,
        endpoint: SocketAddr,
        health: HealthView,
    ) {
        self.endpoints.push(EndpointView {
            service: service.clone(),
            endpoint,
            health,
        });
    }

    /// What is known of the nodes of these endpoints: their other addresses put them in doubt.
    pub(crate) fn reach(&mut self, reach: &Reachability, s: &Snapshot, steps: &[StepView<'_>]) {
        let endpoints = || steps.iter().flat_map(|step| &step.endpoints);
        let matters = |address: &IpAddr| {
            s.workload_at(*address)
                .is_some_and(|row| endpoints().any(|e| e.workload.node == row.node))
        };
        let addresses = reach.addresses.iter().filter(|(at, _)| matters(at));
        self.addresses.extend(addresses.map(|(at, r)| (*at, *r)));
        let refused =
            endpoints().filter_map(|e| Some((e.address, *reach.refused.get(&e.address)?)));
        self.refused.extend(refused);
    }

    /// What is known of one endpoint's address and application.
    pub(crate) fn reach_of(&mut self, reach: &Reachability, endpoint: SocketAddr) {
        let address = endpoint.ip();
        let known = reach.addresses.get(&address).map(|r| (address, *r));
        self.addresses = known.into_iter().collect();
        let refused = reach.refused.get(&endpoint).map(|r| (endpoint, *r));
        self.refused = refused.into_iter().collect();
    }

    pub(crate) fn ramps(
        &mut self,
        service: &ServiceName,
        (port, client): &(u16, Locality),
        ramps: &[Ramp],
    ) {
        self.ramps = Some(RampsView {
            service: service.clone(),
            port: *port,
            client: client.clone(),
            ramps: ramps.to_vec(),
        });
    }

    pub(crate) fn budget(
        &mut self,
        (source, service): &(WorkloadName, ServiceName),
        window: &BudgetWindow,
    ) {
        self.budget = Some(BudgetView {
            source: source.clone(),
            service: service.clone(),
            window: window.clone(),
        });
    }
}

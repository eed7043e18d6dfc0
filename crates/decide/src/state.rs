//! What this process has learnt: health of endpoints, retry budgets, ramps, rates of requests.
//!
//! One [`State`] is shared by all workers of a process. Nothing in it is a decision; the modules
//! that decide read and write it. Its size is bounded by the rows of the snapshots seen since the
//! last [`State::retain`].

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use tacit_model::{Locality, Now, ServiceName, Snapshot, WorkloadName};

use crate::failover::Ramp;
use crate::health::{EndpointHealth, Reach, Refused};
use crate::rate::Rates;
use crate::retry::BudgetWindow;

/// What this process has learnt. Made empty; shared by reference.
///
/// Who needs two locks takes `reach` before that of a service; nobody takes a third.
#[derive(Debug, Default)]
pub struct State {
    reach: RwLock<Reachability>,
    services: RwLock<BTreeMap<ServiceName, Arc<Mutex<ServiceState>>>>,
    budgets: Mutex<BTreeMap<(WorkloadName, ServiceName), BudgetWindow>>,
    /// By the workload that receives: its requests wait for each other only.
    rates: RwLock<BTreeMap<WorkloadName, Arc<Mutex<Rates>>>>,
}

/// Where nothing can be delivered to, or may not be.
#[derive(Debug, Default)]
pub(crate) struct Reachability {
    /// Addresses to which no session could be made, or that may be next.
    pub(crate) addresses: BTreeMap<IpAddr, Reach>,
    /// Applications that did not accept a connection, though their node is reachable.
    pub(crate) refused: BTreeMap<SocketAddr, Refused>,
}

/// What was learnt about one service.
#[derive(Debug, Default)]
pub(crate) struct ServiceState {
    /// By address and port of the workload.
    pub(crate) endpoints: BTreeMap<SocketAddr, EndpointHealth>,
    /// By service port and client locality: one ramp for each step of the order.
    pub(crate) ramps: BTreeMap<(u16, Locality), Vec<Ramp>>,
}

/// Keeps one try counted as under way at its endpoint, for as long as it is held.
#[must_use]
#[derive(Clone, Debug)]
pub struct InFlight(#[expect(dead_code, reason = "holding it is its use")] pub(crate) Arc<()>);

impl State {
    /// Nothing learnt yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets what is about workloads and services that are no longer there.
    pub fn retain(&self, s: &Snapshot) {
        let known = |address: &IpAddr| s.workload_at(*address).is_some();
        self.with_reach_mut(|reach| {
            reach.addresses.retain(|address, _| known(address));
            reach.refused.retain(|endpoint, _| known(&endpoint.ip()));
        });
        let mut services = self
            .services
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        services.retain(|name, _| s.services.contains_key(name));
        for (name, state) in services.iter() {
            let mut state = lock(state);
            let behind = |address: IpAddr| {
                let endpoints = s.endpoints(name);
                endpoints.iter().any(|workload| workload.address == address)
            };
            state.endpoints.retain(|endpoint, _| behind(endpoint.ip()));
            // Localities of callers: forgotten together when they are more than any node has.
            if state.ramps.len() > MOST_RAMPS {
                state.ramps.clear();
            }
        }
        lock(&self.budgets).retain(|(workload, service), _| {
            s.workloads.contains_key(workload) && s.services.contains_key(service)
        });
        let limited = s.services.values().filter_map(|row| row.rate.as_ref());
        let policies = limited.map(|rate| &rate.policy).collect();
        let mut rates = self.rates.write().unwrap_or_else(PoisonError::into_inner);
        rates.retain(|workload, _| s.workloads.contains_key(workload));
        for found in rates.values() {
            lock(found).retain(&policies);
        }
    }

    pub(crate) fn with_reach<T>(&self, read: impl FnOnce(&Reachability) -> T) -> T {
        read(&self.reach.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn with_reach_mut<T>(&self, write: impl FnOnce(&mut Reachability) -> T) -> T {
        write(&mut self.reach.write().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn with_service<T>(
        &self,
        name: &ServiceName,
        act: impl FnOnce(&mut ServiceState) -> T,
    ) -> T {
        let found = {
            let services = self.services.read().unwrap_or_else(PoisonError::into_inner);
            services.get(name).cloned()
        };
        let state = found.unwrap_or_else(|| {
            let mut services = self
                .services
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            services.entry(name.clone()).or_default().clone()
        });
        act(&mut lock(&state))
    }

    pub(crate) fn with_rates<T>(
        &self,
        workload: &WorkloadName,
        act: impl FnOnce(&mut Rates) -> T,
    ) -> T {
        let found = {
            let rates = self.rates.read().unwrap_or_else(PoisonError::into_inner);
            rates.get(workload).cloned()
        };
        let rates = found.unwrap_or_else(|| {
            let mut rates = self.rates.write().unwrap_or_else(PoisonError::into_inner);
            rates.entry(workload.clone()).or_default().clone()
        });
        act(&mut lock(&rates))
    }

    pub(crate) fn with_budget<T>(
        &self,
        key: &(WorkloadName, ServiceName),
        act: impl FnOnce(&mut BudgetWindow) -> T,
    ) -> T {
        let mut budgets = lock(&self.budgets);
        if let Some(window) = budgets.get_mut(key) {
            return act(window);
        }
        act(budgets.entry(key.clone()).or_default())
    }
}

/// Ports of a service times localities of the workloads of one node: far more than is sensible.
const MOST_RAMPS: usize = 256;

/// A panic elsewhere leaves counters, not invariants, half written: what is there is used.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// True if the moment `until` has come, by the monotonic clock: a wall clock may be set.
pub(crate) fn reached(until: Now, now: Now) -> bool {
    now.monotonic_ns >= until.monotonic_ns
}

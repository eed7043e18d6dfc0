//! Whether a FailoverPolicy has somewhere to go.

use std::collections::BTreeSet;

use crate::failover::Step;
use crate::mesh::{Object, Reference};
use crate::world::{Caller, Proof};

/// The condition `Armed` of a FailoverPolicy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Armed {
    /// Some clients have no second place to go to.
    NoAlternative,
    /// Nothing would tell that a place is unwell.
    NoHealthSignal,
    /// Every client has a second place to go to.
    Yes,
}

impl<'w> Reference<'w> {
    /// The condition of each FailoverPolicy in force, by `namespace/name`.
    #[must_use]
    pub fn armed(&self) -> Vec<(String, Armed)> {
        let policies = self.of_kind("FailoverPolicy");
        policies
            .map(|policy| (policy.key(), self.is_armed(policy)))
            .collect()
    }

    fn is_armed(&self, policy: &Object<'w>) -> Armed {
        let hit: Vec<&Object<'w>> = self
            .of_kind("Service")
            .filter(|service| self.closeness(policy, service).is_some())
            .collect();
        if hit.iter().any(|service| self.is_deaf(service)) {
            return Armed::NoHealthSignal;
        }
        let clients: Vec<Caller> = self
            .of_kind("Workload")
            .map(|one| self.client(one))
            .collect();
        let everywhere = hit.iter().all(|service| {
            let mut each = clients.iter();
            each.all(|client| self.places(service, client).len() > 1)
        });
        if hit.is_empty() || clients.is_empty() || !everywhere {
            Armed::NoAlternative
        } else {
            Armed::Yes
        }
    }

    /// No signal is listened to, and nothing is probed.
    fn is_deaf(&self, service: &Object<'w>) -> bool {
        let sources = self.sources("FailoverPolicy", service, None);
        let mut health = sources.iter().map(|source| source.values.at("health"));
        health
            .find(|health| health.is_there())
            .is_some_and(|health| {
                let signals = health.at("signals");
                let none = signals.is_there() && signals.texts().next().is_none();
                none && !health.at("probe").is_there()
            })
    }

    /// A client where a workload is.
    fn client(&self, workload: &Object<'w>) -> Caller {
        let at = self.locality(workload);
        Caller {
            namespace: String::new(),
            account: String::new(),
            proof: Proof::None,
            address: [0, 0, 0, 0].into(),
            region: at.region.to_owned(),
            zone: at.zone.to_owned(),
        }
    }

    /// The places with ready endpoints that the order of a service leads a client to.
    fn places(&self, service: &Object<'w>, client: &Caller) -> BTreeSet<(String, String, String)> {
        let mut places = BTreeSet::new();
        for step in self.order(service, client) {
            let Step::Service(fallback) = step else {
                places.extend(self.ready_places(service, &step, client));
                continue;
            };
            for step in self.order(fallback, client) {
                if !matches!(step, Step::Service(_)) {
                    places.extend(self.ready_places(fallback, &step, client));
                }
            }
        }
        places
    }

    fn ready_places(
        &self,
        service: &Object<'w>,
        step: &Step<'_, 'w>,
        client: &Caller,
    ) -> Vec<(String, String, String)> {
        let inside = |workload: &&Object<'w>| self.place(step, client, workload).is_some();
        let ready = |workload: &&Object<'w>| {
            let ports = self.world.ready.get(&workload.key());
            let ports = ports.into_iter().flatten();
            let mut ports = ports.map(|port| i64::from(*port));
            ports.any(|port| self.leads_to(service, workload, port))
        };
        let found = self.behind(service).filter(inside).filter(ready);
        found
            .map(|workload| {
                let at = self.locality(workload);
                (service.key(), at.region.to_owned(), at.zone.to_owned())
            })
            .collect()
    }
}

//! RateLimitPolicy: which limits hold for the requests that an endpoint receives.

use crate::mesh::{Object, Reference};
use crate::mutation::Mutation;
use crate::node::Node;

impl<'w> Reference<'w> {
    /// The limits at `namespace/name:port` of a workload, each with where it is written. A policy
    /// that stands at several services counts once.
    pub(crate) fn rates(&self, endpoint: &str) -> Vec<String> {
        let Some((key, port)) = endpoint.rsplit_once(':') else {
            return Vec::new();
        };
        let workload = self.of_kind("Workload").find(|one| one.key() == key);
        let (Some(workload), Ok(port)) = (workload, port.parse()) else {
            return Vec::new();
        };
        let leading = self.of_kind("Service").filter(|service| {
            self.selects(service, workload)
                && (self.is_wrong(Mutation::RateOnEveryPort)
                    || self.leads_to(service, workload, port))
        });
        let most = if self.is_wrong(Mutation::FirstServiceLimits) {
            1
        } else {
            usize::MAX
        };
        let mut found: Vec<String> = leading
            .take(most)
            .flat_map(|service| self.rates_of(service))
            .collect();
        found.sort();
        found.dedup();
        found
    }

    /// The limits of one service: those of the policy that comes first, all of them.
    fn rates_of(&self, service: &Object<'w>) -> Vec<String> {
        let sources = self.sources("RateLimitPolicy", service, None);
        let policies = sources
            .iter()
            .filter(|source| source.object.kind == "RateLimitPolicy");
        let most = if self.is_wrong(Mutation::RatesAddUp) {
            usize::MAX
        } else {
            1
        };
        let limits = policies.take(most).flat_map(|source| {
            let limits = source.values.at("limits").items().enumerate();
            limits.map(|(index, limit)| {
                let origin = source.origin(&format!("limits[{index}]"));
                format!("{} <- {origin}", shown(limit))
            })
        });
        limits.collect()
    }
}

/// A limit in words.
fn shown(limit: Node<'_>) -> String {
    let requests = limit.at("requests").number().unwrap_or_default();
    let per = limit.at("per").milliseconds().unwrap_or_default();
    let burst = limit.at("burst").number().unwrap_or(requests);
    let key: Vec<String> = limit
        .at("key")
        .items()
        .map(|part| match part.at("header").text() {
            Some(name) => name.to_lowercase(),
            None => "IDENTITY".to_owned(),
        })
        .collect();
    format!(
        "{requests} in {per} ms, {burst} at once, by [{}]",
        key.join(" ")
    )
}

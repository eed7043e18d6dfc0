//! FaultPolicy: what may befall the requests of one caller.

use std::collections::BTreeMap;

use crate::answer::{Request, Set};
use crate::mesh::{Object, Reference};
use crate::mutation::Mutation;
use crate::node::Node;

/// The year in which the questions are asked: a policy that ends before is over.
const YEAR: &str = "2027";

impl<'w> Reference<'w> {
    /// The faults of a call to `parent`, each with where it is written.
    pub(crate) fn fault_values(
        &self,
        values: &mut BTreeMap<&'static str, Set>,
        parent: &Object<'w>,
        request: &Request,
    ) {
        let sources = self.sources("FaultPolicy", parent, None);
        let mut holding: Vec<_> = sources
            .iter()
            .filter(|source| source.object.kind == "FaultPolicy")
            .filter(|source| self.is_for(source, request))
            .filter(|source| {
                let until = source.values.at("until").text().unwrap_or_default();
                until > YEAR || self.is_wrong(Mutation::EndedFaults)
            })
            .collect();
        if self.is_wrong(Mutation::WholeFaultPolicy) {
            holding.truncate(1);
        }
        for (name, field, value) in [
            ("fault.delay", "delay", delay as fn(Node<'_>) -> String),
            ("fault.abort", "abort", abort),
        ] {
            let mut found = holding
                .iter()
                .map(|source| (source, source.values.at(field)));
            if let Some((source, written)) = found.find(|(_, written)| written.is_there()) {
                let set = Set {
                    value: value(written),
                    from: source.origin(field),
                };
                values.insert(name, set);
            }
        }
    }
}

fn delay(written: Node<'_>) -> String {
    let time = written.at("time").milliseconds().unwrap_or_default();
    let share = written.at("sharePercent").number().unwrap_or_default();
    format!("{share} of 100 wait {time} ms")
}

fn abort(written: Node<'_>) -> String {
    let status = written.at("status").number().unwrap_or_default();
    let share = written.at("sharePercent").number().unwrap_or_default();
    format!("{share} of 100 get {status}")
}

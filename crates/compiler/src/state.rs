//! What was written and observed so far: the whole input of a compilation.

use std::collections::{BTreeMap, BTreeSet};

use tacit_api::{Kind, Located, Object, ObjectKey, SyntaxError};
use tacit_model::tables::PublishedPort;
use tacit_model::{NodeName, WorkloadName};

use crate::delta::{Addresses, InputDelta, NodeFact, Owner, Upsert, Written};

/// One object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) written: Written,
    pub(crate) last_good: Option<Box<Located<Object>>>,
    pub(crate) owner: Owner,
}

/// Everything that the tables are a function of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Inputs {
    pub(crate) objects: BTreeMap<ObjectKey, Entry>,
    pub(crate) file_errors: Vec<SyntaxError>,
    pub(crate) nodes: BTreeMap<NodeName, NodeFact>,
    pub(crate) ready: BTreeMap<WorkloadName, BTreeSet<u16>>,
    pub(crate) published: BTreeMap<WorkloadName, Vec<PublishedPort>>,
    pub(crate) addresses: Addresses,
    /// Unix seconds.
    pub(crate) now: i64,
}

impl Inputs {
    /// Takes a change in.
    pub(crate) fn take(&mut self, change: InputDelta) {
        let InputDelta {
            upserts,
            removes,
            file_errors,
            nodes,
            removed_nodes,
            ready,
            published,
            addresses,
            now,
        } = change;
        for key in removes {
            self.objects.remove(&key);
            if let Some(name) = workload_name(&key) {
                self.ready.remove(&name);
                self.published.remove(&name);
            }
        }
        for Upsert {
            key,
            written,
            last_good,
            owner,
        } in upserts
        {
            self.objects.insert(
                key,
                Entry {
                    written,
                    last_good,
                    owner,
                },
            );
        }
        if let Some(errors) = file_errors {
            self.file_errors = errors;
        }
        for name in removed_nodes {
            self.nodes.remove(&name);
        }
        for node in nodes {
            self.nodes.insert(node.name.clone(), node);
        }
        let known: BTreeSet<WorkloadName> = self.objects.keys().filter_map(workload_name).collect();
        // A report about what is gone already would stay for ever.
        self.ready
            .extend(ready.into_iter().filter(|(name, _)| known.contains(name)));
        self.published.extend(
            published
                .into_iter()
                .filter(|(name, _)| known.contains(name)),
        );
        if let Some(addresses) = addresses {
            self.addresses = addresses;
        }
        // Time that goes back would bring expired grants back.
        self.now = now.map_or(self.now, |now| now.max(self.now));
    }
}

/// The workload that a key means, if it is one with a valid name.
fn workload_name(key: &ObjectKey) -> Option<WorkloadName> {
    let namespace = key
        .namespace
        .as_deref()
        .filter(|_| key.kind == Kind::Workload)?;
    WorkloadName::parse(namespace, &key.name).ok()
}

//! The state as the compiler takes it: only what changed since the last compilation.

use std::collections::BTreeMap;
use std::sync::Arc;

use tacit_api::{Located, Object, ObjectKey, SyntaxError};
use tacit_compiler::{Compiler, InputDelta, NodeFact, OutputDelta};
use tacit_model::finding::Finding;
use tacit_model::tables::PublishedPort;
use tacit_model::{NodeName, WorkloadName};

use super::objects::{Held, effective};
use super::state::State;
use crate::store::records::Ready;

/// What the compiler was given so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inputs {
    pub(crate) objects: BTreeMap<ObjectKey, Held>,
    file_errors: Arc<Vec<SyntaxError>>,
    nodes: BTreeMap<NodeName, NodeFact>,
    ready: Ready,
    published: BTreeMap<WorkloadName, Vec<PublishedPort>>,
}

/// A compiler after a change, with what the change led to.
#[derive(Clone, Debug)]
pub(crate) struct Compiled {
    pub(crate) compiler: Compiler,
    pub(crate) inputs: Inputs,
    pub(crate) output: OutputDelta,
    /// Of objects that never reached the compiler, because another owner has them.
    pub(crate) conflicts: Arc<Vec<Finding>>,
}

impl Compiled {
    /// A compiler that was given nothing.
    pub(crate) fn nothing() -> Self {
        Self {
            compiler: Compiler::default(),
            inputs: Inputs::default(),
            output: OutputDelta::default(),
            conflicts: Arc::default(),
        }
    }

    /// What would follow if `state` were the state. Changes nothing here.
    pub(crate) fn with(&self, state: &State, now: i64) -> Self {
        let (objects, conflicts) = effective(state);
        let next = Inputs {
            objects,
            file_errors: state.file_errors.clone(),
            nodes: facts(state),
            ready: state.ready.clone(),
            published: published(state),
        };
        let delta = self.inputs.delta(&next, state, now);
        let mut compiler = self.compiler.clone();
        let output = compiler.apply(delta);
        Self {
            compiler,
            inputs: next,
            output,
            conflicts: Arc::new(conflicts),
        }
    }

    /// All findings that hold, with advice: its cost grows with the mesh.
    pub(crate) fn findings(&self) -> Vec<Finding> {
        findings(&self.compiler, &self.conflicts)
    }
}

/// All findings that hold and advice, and those of objects that another owner has.
pub(crate) fn findings(compiler: &Compiler, conflicts: &[Finding]) -> Vec<Finding> {
    let mut findings = compiler.findings_and_advice();
    findings.extend(conflicts.iter().cloned());
    findings.sort_by_key(|finding| finding.severity);
    findings
}

impl Inputs {
    fn delta(&self, next: &Self, state: &State, now: i64) -> InputDelta {
        let good = |key: &ObjectKey| -> Option<&Located<Object>> {
            state.last_good.get(key).map(|object| &**object)
        };
        let changed = next
            .objects
            .iter()
            .filter(|(key, held)| !self.objects.get(*key).is_some_and(|was| was.same(held)));
        let gone = self
            .objects
            .keys()
            .filter(|key| !next.objects.contains_key(key));
        let ready = next
            .ready
            .iter()
            .filter(|(name, ports)| self.ready.get(*name) != Some(ports));
        let unready = self
            .ready
            .keys()
            .filter(|name| !next.ready.contains_key(name));
        let published = next
            .published
            .iter()
            .filter(|(name, ports)| self.published.get(*name) != Some(ports));
        let nodes = next
            .nodes
            .values()
            .filter(|fact| self.nodes.get(&fact.name) != Some(fact));
        let left = self
            .nodes
            .keys()
            .filter(|name| !next.nodes.contains_key(*name));
        // An empty compiler learns which addresses an earlier process gave away.
        let first = self.objects.is_empty() && self.nodes.is_empty();
        InputDelta {
            upserts: changed
                .map(|(key, held)| held.upsert(key, good(key)))
                .collect(),
            removes: gone.cloned().collect(),
            file_errors: (!Arc::ptr_eq(&self.file_errors, &next.file_errors))
                .then(|| next.file_errors.to_vec()),
            nodes: nodes.cloned().collect(),
            removed_nodes: left.cloned().collect(),
            ready: ready
                .map(|(name, ports)| (name.clone(), ports.clone()))
                .chain(unready.map(|name| (name.clone(), Default::default())))
                .collect(),
            published: published
                .map(|(name, ports)| (name.clone(), ports.clone()))
                .collect(),
            addresses: first.then(|| state.addresses.as_ref().clone()),
            now: Some(now),
        }
    }
}

fn published(state: &State) -> BTreeMap<WorkloadName, Vec<PublishedPort>> {
    let runs = state.runs.iter();
    runs.map(|(name, run)| (name.clone(), run.record.published.clone()))
        .collect()
}

fn facts(state: &State) -> BTreeMap<NodeName, NodeFact> {
    let fact = |(name, record): (&NodeName, &crate::store::records::NodeRecord)| {
        let fact = NodeFact {
            name: name.clone(),
            region: record.locality.region.clone(),
            zone: record.locality.zone.clone(),
            subnet: state.subnets.get(name).map(|range| range.cidr()),
            identities: record.identities.clone(),
        };
        (name.clone(), fact)
    };
    state.nodes.iter().map(fact).collect()
}

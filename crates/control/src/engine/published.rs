//! What everybody else sees: one closed state with its findings and statuses, never changed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use tacit_api::ObjectKey;
use tacit_compiler::Compiler;
use tacit_model::finding::Finding;
use tacit_model::snapshot::NotClosed;
use tacit_model::status::ObjectStatus;
use tacit_model::{Generation, NodeName, ObjectRef, Snapshot, TableDelta, Tables};
use tacit_wire::server::View;

use super::compile::{Compiled, findings};
use super::objects::{Held, object_ref};
use super::state::State;
use crate::store::records::{NodeRecord, Ready};
use crate::workloads::Range;

/// Cheap to clone: everything large is shared.
#[derive(Clone, Debug)]
pub(crate) struct Published {
    pub(crate) generation: Generation,
    pub(crate) tables: Arc<Tables>,
    /// Absent before the first generation.
    pub(crate) snapshot: Option<Arc<Snapshot>>,
    pub(crate) view: Arc<View>,
    pub(crate) statuses: Arc<BTreeMap<ObjectRef, ObjectStatus>>,
    /// Said on request: nobody waits for advice.
    findings: Arc<Said>,
    pub(crate) objects: Arc<BTreeMap<ObjectKey, Held>>,
    /// The generation in which each object changed last.
    pub(crate) since: Arc<BTreeMap<ObjectRef, Generation>>,
    pub(crate) nodes: Arc<BTreeMap<NodeName, NodeRecord>>,
    pub(crate) subnets: Arc<BTreeMap<NodeName, Range>>,
    /// Ports that accept connections, as nodes said last.
    pub(crate) ready: Arc<Ready>,
    /// Unix seconds at which something expires.
    pub(crate) wake_at: Option<i64>,
    /// Why nothing can be changed now.
    pub(crate) read_only: Option<String>,
}

/// What findings are made of, and the findings once somebody has asked.
#[derive(Debug, Default)]
struct Said {
    compiler: Compiler,
    conflicts: Arc<Vec<Finding>>,
    said: OnceLock<Arc<Vec<Finding>>>,
}

impl Published {
    /// Nothing yet.
    pub(crate) fn empty(generation: Generation) -> Self {
        Self {
            generation,
            tables: Arc::default(),
            snapshot: None,
            view: Arc::default(),
            statuses: Arc::default(),
            findings: Arc::default(),
            objects: Arc::default(),
            since: Arc::default(),
            nodes: Arc::default(),
            subnets: Arc::default(),
            ready: Arc::default(),
            wake_at: None,
            read_only: None,
        }
    }

    /// What follows it.
    pub(crate) fn next(
        &self,
        generation: Generation,
        delta: &TableDelta,
        compiled: &Compiled,
        state: &State,
    ) -> Result<Self, NotClosed> {
        let (mut tables, mut view) = (Tables::clone(&self.tables), View::clone(&self.view));
        tables.apply(delta.clone());
        view.apply(generation, delta);
        let snapshot = if generation == self.generation && delta.is_empty() {
            self.snapshot.clone()
        } else {
            Some(Arc::new(Snapshot::build(generation, &tables)?))
        };
        let statuses = self.statuses(compiled);
        Ok(Self {
            generation,
            tables: Arc::new(tables),
            snapshot,
            view: Arc::new(view),
            statuses,
            findings: Arc::new(Said {
                compiler: compiled.compiler.clone(),
                conflicts: compiled.conflicts.clone(),
                said: OnceLock::new(),
            }),
            objects: Arc::new(compiled.inputs.objects.clone()),
            since: Arc::new(self.changed(generation, &compiled.inputs.objects)),
            nodes: Arc::new(state.nodes.clone()),
            subnets: Arc::new(state.subnets.clone()),
            ready: Arc::new(state.ready.clone()),
            wake_at: compiled.output.wake_at,
            read_only: None,
        })
    }

    /// All findings that hold, and advice. Who asks first waits while it is made.
    pub(crate) fn findings(&self) -> Arc<Vec<Finding>> {
        let Said {
            compiler,
            conflicts,
            said,
        } = &*self.findings;
        said.get_or_init(|| Arc::new(findings(compiler, conflicts)))
            .clone()
    }

    /// The statuses after a change.
    fn statuses(&self, compiled: &Compiled) -> Arc<BTreeMap<ObjectRef, ObjectStatus>> {
        let changes = &compiled.output.statuses;
        if changes.is_empty() {
            return self.statuses.clone();
        }
        let mut statuses = BTreeMap::clone(&self.statuses);
        for (object, status) in changes {
            match status {
                Some(status) => drop(statuses.insert(object.clone(), status.clone())),
                None => drop(statuses.remove(object)),
            }
        }
        Arc::new(statuses)
    }

    fn changed(
        &self,
        generation: Generation,
        objects: &BTreeMap<ObjectKey, Held>,
    ) -> BTreeMap<ObjectRef, Generation> {
        let since = |(key, held): (&ObjectKey, &Held)| {
            let object = object_ref(key)?;
            let same = self
                .objects
                .get(key)
                .is_some_and(|before| before.same(held));
            let before = self.since.get(&object).filter(|_| same);
            Some((object, before.copied().unwrap_or(generation)))
        };
        objects.iter().filter_map(since).collect()
    }

    /// The names of the enrolled nodes.
    pub(crate) fn enrolled(&self) -> BTreeSet<NodeName> {
        self.nodes.keys().cloned().collect()
    }
}

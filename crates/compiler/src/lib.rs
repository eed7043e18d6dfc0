//! Turns changes of what people write into changes of the compiled mesh.
//!
//! [`Compiler::apply`] is a pure function of the compiler's state and the change: no clock, no
//! chance, no IO. It never fails: problems are findings and conditions in its output.

mod access;
mod addresses;
mod armed;
pub mod attach;
pub mod check;
mod compile;
pub mod delta;
mod endpoints;
mod failover;
mod fault;
pub mod findings;
pub mod grants;
mod groups;
mod index;
mod judge;
mod kept;
mod lint;
mod mesh;
mod narrow;
mod offline;
mod packed;
mod policies;
mod rate_limit;
mod retry_timeout;
mod routes;
mod services;
mod state;
mod status;
mod supported;
mod targets;
mod values;
mod watch;
pub mod workspace;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use imbl::OrdMap;
use imbl::ordmap::DiffItem;
use tacit_api::{Located, Object, ObjectKey};
use tacit_model::access::Cidr;
use tacit_model::finding::Finding;
use tacit_model::status::ObjectStatus;
use tacit_model::{Namespace, ObjectRef, PolicyName, Tables, WorkspaceName};

use crate::compile::{Compiled, compile, sort};
use crate::findings::{object_key, object_ref};
use crate::narrow::narrow;
use crate::state::{Inputs, Touched};

pub use delta::{
    Addresses, Checked, Files, Good, InputDelta, NodeFact, OutputDelta, Owner, Upsert, Written,
};
pub use judge::problems;
pub use offline::{Offline, check_files, compile_files};
pub use targets::{Closeness, Hit};

/// What was written and observed so far, and the tables that it compiles to.
///
/// A copy is some pointers, so a change can be tried on a copy.
#[derive(Clone, Debug, Default)]
pub struct Compiler {
    inputs: Inputs,
    compiled: Compiled,
}

/// Address ranges of the mesh, from `Mesh` or by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ranges {
    /// Virtual addresses of services.
    pub services: Cidr,
    /// Addresses of workloads, from which each node gets a subnet.
    pub workloads: Cidr,
}

impl Compiler {
    /// Takes a change in and gives the change that follows from it.
    ///
    /// A change of workloads costs what it touches; any other one is a full compilation, of which
    /// only the difference comes out.
    pub fn apply(&mut self, change: InputDelta) -> OutputDelta {
        let touched = self.inputs.take(change);
        let before = std::mem::take(&mut self.compiled);
        self.compiled = self.after(&before, &touched);
        self.inputs.addresses.clone_from(&self.compiled.addresses);
        output(&before, &self.compiled, &self.inputs, &touched)
    }

    fn after(&self, before: &Compiled, touched: &Touched) -> Compiled {
        let expired = before.wake_at.is_some_and(|at| at <= self.inputs.now);
        let narrow = match touched.all || expired {
            true => None,
            false => narrow(&self.inputs, before, &touched.objects),
        };
        narrow.unwrap_or_else(|| compile(&self.inputs))
    }

    /// The same inputs, compiled anew as a whole. It must be equal to this in everything.
    #[must_use]
    pub fn anew(&self) -> Self {
        Self {
            inputs: self.inputs.clone(),
            compiled: compile(&self.inputs),
        }
    }

    /// All findings that hold, errors first, then by place. Without advice.
    #[must_use]
    pub fn findings(&self) -> Vec<Finding> {
        let all = self.compiled.findings.values();
        let mut all: Vec<Finding> = all.flat_map(|found| found.iter().cloned()).collect();
        sort(&mut all);
        all
    }

    /// Advice about all that is written, in the same order. It refuses nothing, and looks at the
    /// whole mesh: its cost grows with it.
    #[must_use]
    pub fn advice(&self) -> Vec<Finding> {
        compile::advice(&self.inputs)
    }

    /// Findings and advice in one list.
    #[must_use]
    pub fn findings_and_advice(&self) -> Vec<Finding> {
        let mut all = self.findings();
        all.extend(self.advice());
        sort(&mut all);
        all
    }

    /// The statuses of all objects with valid names, by object.
    pub fn statuses(&self) -> impl Iterator<Item = ObjectStatus> {
        let objects = self.inputs.objects.keys().filter_map(object_ref);
        objects.map(|object| match self.compiled.statuses.get(&object) {
            Some(status) => ObjectStatus::clone(status),
            None => ObjectStatus::accepted(object),
        })
    }

    /// The status of an object.
    #[must_use]
    pub fn status(&self, object: &ObjectRef) -> Option<ObjectStatus> {
        if let Some(status) = self.compiled.statuses.get(object) {
            return Some(ObjectStatus::clone(status));
        }
        let known = self.inputs.objects.contains_key(&object_key(object)?);
        known.then(|| ObjectStatus::accepted(object.clone()))
    }

    /// Objects whose written version is valid now, by key.
    pub fn good(&self) -> impl Iterator<Item = &ObjectKey> {
        let keys = self.inputs.objects.keys();
        keys.filter(|key| !self.compiled.instead.contains_key(*key))
    }

    /// All addresses given away.
    #[must_use]
    pub fn addresses(&self) -> &Addresses {
        &self.compiled.addresses
    }

    /// Unix seconds at which something expires.
    #[must_use]
    pub fn wake_at(&self) -> Option<i64> {
        self.compiled.wake_at
    }

    /// The compiled rows after the last change.
    #[must_use]
    pub fn tables(&self) -> &Tables {
        &self.compiled.tables
    }

    /// The version of each object that is in force: what is written if that is valid, else the
    /// last good one. In the order of keys.
    pub fn in_force(&self) -> impl Iterator<Item = &Located<Object>> {
        let objects = self.inputs.objects.iter();
        objects.filter_map(|(key, entry)| self.compiled.in_force(key, entry))
    }

    /// What each AccessPolicy applies to, whether or not workloads are there now; also those
    /// that deny because they have no valid version.
    #[must_use]
    pub fn access_targets(&self) -> &OrdMap<PolicyName, Arc<Vec<Hit>>> {
        &self.compiled.access_targets
    }

    /// The namespaces of each workspace: those with an object, and those that it names in full.
    #[must_use]
    pub fn workspace_members(&self) -> &BTreeMap<WorkspaceName, BTreeSet<Namespace>> {
        &self.compiled.members
    }

    /// The address ranges in force; nothing before the first change.
    #[must_use]
    pub fn ranges(&self) -> Option<Ranges> {
        self.compiled.ranges
    }
}

fn moved(before: &Addresses, after: &Addresses) -> bool {
    let mut services = before.services.diff(&after.services);
    let mut workloads = before.workloads.diff(&after.workloads);
    services.next().is_some() || workloads.next().is_some()
}

/// What has changed. Parts that two states share are not looked at.
fn output(before: &Compiled, after: &Compiled, inputs: &Inputs, touched: &Touched) -> OutputDelta {
    let mut output = OutputDelta {
        tables: before.tables.diff(&after.tables),
        addresses_moved: moved(&before.addresses, &after.addresses),
        wake_at: after.wake_at,
        ..OutputDelta::default()
    };
    for change in before.findings.diff(&after.findings) {
        let (object, found) = match change {
            DiffItem::Add(object, found)
            | DiffItem::Update {
                new: (object, found),
                ..
            } => (object, found.to_vec()),
            DiffItem::Remove(object, _) => (object, Vec::new()),
        };
        output.findings.insert(object.clone(), found);
    }
    for change in before.statuses.diff(&after.statuses) {
        let (object, status) = match change {
            DiffItem::Add(object, status)
            | DiffItem::Update {
                new: (object, status),
                ..
            } => (object, Some(status.as_ref().clone())),
            DiffItem::Remove(object, _) => (object, None),
        };
        output.statuses.insert(object.clone(), status);
    }
    if touched.first {
        output.good = Good::All;
        return output;
    }
    let touched = touched.objects.iter().map(|(key, _)| key);
    let mended = before.instead.diff(&after.instead);
    let mended = mended.filter_map(|change| match change {
        DiffItem::Remove(key, _) => Some(key),
        DiffItem::Add(..) | DiffItem::Update { .. } => None,
    });
    let is_good =
        |key: &&ObjectKey| inputs.objects.contains_key(*key) && !after.instead.contains_key(*key);
    let mut good: Vec<ObjectKey> = touched.chain(mended).filter(is_good).cloned().collect();
    good.sort();
    good.dedup();
    output.good = Good::These(good);
    output
}

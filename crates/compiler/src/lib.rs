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
pub mod findings;
pub mod grants;
mod index;
mod judge;
mod lint;
mod mesh;
mod offline;
mod policies;
mod retry_timeout;
mod routes;
mod services;
mod state;
mod status;
mod supported;
mod targets;
mod values;
pub mod workspace;

use std::collections::{BTreeMap, BTreeSet};

use tacit_api::{Located, Object};
use tacit_model::access::Cidr;
use tacit_model::{Namespace, PolicyName, Tables, WorkspaceName};

use crate::compile::{Compiled, Version, compile};
use crate::state::Inputs;

pub use delta::{
    Addresses, Checked, Files, InputDelta, NodeFact, OutputDelta, Owner, Upsert, Written,
};
pub use judge::problems;
pub use offline::{Offline, check_files, compile_files};
pub use targets::{Closeness, Hit};

/// What was written and observed so far, and the tables that it compiles to.
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
    /// Everything is compiled anew and compared: the shape is incremental, the work is not yet.
    pub fn apply(&mut self, change: InputDelta) -> OutputDelta {
        self.inputs.take(change);
        let compiled = compile(&self.inputs);
        self.inputs.addresses.clone_from(&compiled.addresses);
        let output = OutputDelta {
            tables: self.compiled.tables.diff(&compiled.tables),
            findings: compiled.findings.clone(),
            statuses: compiled.statuses.clone(),
            good: compiled.good.clone(),
            addresses: compiled.addresses.clone(),
            wake_at: compiled.wake_at,
        };
        self.compiled = compiled;
        output
    }

    /// The compiled rows after the last change.
    #[must_use]
    pub fn tables(&self) -> &Tables {
        &self.compiled.tables
    }

    /// The version of each object that is in force: what is written if that is valid, else the
    /// last good one. In the order of keys.
    pub fn in_force(&self) -> impl Iterator<Item = &Located<Object>> {
        self.compiled.in_force.iter().filter_map(|(key, version)| {
            let entry = self.inputs.objects.get(key)?;
            match (version, &entry.written) {
                (Version::LastGood, _) => entry.last_good.as_deref(),
                (Version::Written, Written::Ok(object)) => Some(object),
                (Version::Written, Written::Duplicate(_) | Written::Unparsable(_)) => None,
            }
        })
    }

    /// What each AccessPolicy applies to, whether or not workloads are there now; also those
    /// that deny because they have no valid version.
    #[must_use]
    pub fn access_targets(&self) -> &BTreeMap<PolicyName, Vec<Hit>> {
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

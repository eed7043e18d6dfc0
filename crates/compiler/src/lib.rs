//! Turns changes of what people write into changes of the compiled mesh.
//!
//! [`Compiler::apply`] is a pure function of the compiler's state and the change: no clock, no
//! chance, no IO. It never fails: problems are findings and conditions in its output.

pub mod delta;
pub mod grants;
pub mod workspace;

use std::sync::Arc;

use tacit_api::{Located, Object};
use tacit_model::Tables;
use tacit_model::access::Cidr;

pub use delta::{
    Addresses, Checked, Files, InputDelta, NodeFact, OutputDelta, Owner, Upsert, Written,
};

/// What was written and observed so far, and the tables that it compiles to.
#[derive(Clone, Debug, Default)]
pub struct Compiler {
    tables: Tables,
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
    pub fn apply(&mut self, _change: InputDelta) -> OutputDelta {
        todo!()
    }

    /// The compiled rows after the last change.
    #[must_use]
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// The version of each object that is in force: what is written if that is valid, else the
    /// last good one. In the order of keys.
    pub fn in_force(&self) -> impl Iterator<Item = &Located<Object>> {
        [].into_iter()
    }

    /// The address ranges in force.
    #[must_use]
    pub fn ranges(&self) -> Ranges {
        todo!()
    }
}

/// Checks files by themselves, as `tacit check` does offline: nothing is observed and nothing
/// was good before. `now` is in unix seconds.
#[must_use]
pub fn check_files(
    files: impl IntoIterator<Item = (Arc<str>, tacit_api::Parsed)>,
    now: i64,
) -> Checked {
    let _ = (files.into_iter().count(), now);
    todo!()
}

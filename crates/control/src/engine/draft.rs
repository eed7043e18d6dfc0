//! A batch in the making: the next state, what to write of it, and how it compiles.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use tacit_model::WorkloadName;

use super::compile::Compiled;
use super::state::{State, ready_key};
use crate::store::records;
use crate::store::{Change, StoreError, Table};

/// The next state. Dropped as a whole when anything fails.
#[derive(Clone)]
pub(super) struct Draft {
    pub(super) state: State,
    pub(super) changes: Vec<Change>,
    /// What need not survive a restart, by its key in the store.
    pub(super) readiness: BTreeMap<String, Change>,
    /// Set if the state was compiled already and has not changed since.
    pub(super) compiled: Option<Compiled>,
}

impl Draft {
    pub(super) fn new(state: State) -> Self {
        Self {
            state,
            changes: Vec::new(),
            readiness: BTreeMap::new(),
            compiled: None,
        }
    }

    /// Notes a value to be written.
    pub(super) fn put<T: Serialize>(
        &mut self,
        table: Table,
        key: impl Into<String>,
        value: &T,
    ) -> Result<(), StoreError> {
        self.changes.push(records::put(table, key, value)?);
        self.compiled = None;
        Ok(())
    }

    /// Notes which ports of a workload accept connections.
    pub(super) fn ready(
        &mut self,
        name: WorkloadName,
        ports: BTreeSet<u16>,
    ) -> Result<(), StoreError> {
        let key = ready_key(&name);
        let change = records::put(Table::Workloads, key.clone(), &ports)?;
        self.readiness.insert(key, change);
        self.state.ready.insert(name, ports);
        self.compiled = None;
        Ok(())
    }

    /// Notes that a workload is gone, of whose ports something is known.
    pub(super) fn forget_ready(&mut self, name: &WorkloadName) {
        if self.state.ready.remove(name).is_some() {
            let (table, key) = (Table::Workloads, ready_key(name));
            let change = Change::Delete {
                table,
                key: key.clone(),
            };
            self.readiness.insert(key, change);
            self.compiled = None;
        }
    }

    /// Notes an entry to be removed.
    pub(super) fn delete(&mut self, table: Table, key: impl Into<String>) {
        self.changes.push(Change::Delete {
            table,
            key: key.into(),
        });
        self.compiled = None;
    }
}

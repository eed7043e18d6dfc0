//! A batch in the making: the next state, what to write of it, and how it compiles.

use serde::Serialize;

use super::compile::Compiled;
use super::state::State;
use crate::store::records;
use crate::store::{Change, StoreError, Table};

/// The next state. Dropped as a whole when anything fails.
#[derive(Clone)]
pub(super) struct Draft {
    pub(super) state: State,
    pub(super) changes: Vec<Change>,
    /// Set if the state was compiled already and has not changed since.
    pub(super) compiled: Option<Compiled>,
}

impl Draft {
    pub(super) fn new(state: State) -> Self {
        Self {
            state,
            changes: Vec::new(),
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

    /// Notes an entry to be removed.
    pub(super) fn delete(&mut self, table: Table, key: impl Into<String>) {
        self.changes.push(Change::Delete {
            table,
            key: key.into(),
        });
        self.compiled = None;
    }
}

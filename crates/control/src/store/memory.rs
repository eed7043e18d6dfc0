//! A store that forgets: for tests.

use super::{Change, Contents, Fault, Store, StoreError};

/// Keeps everything in memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory {
    contents: Contents,
    /// As if the disk were full.
    pub(crate) full: bool,
}

impl Store for Memory {
    fn read(&self) -> Result<Contents, StoreError> {
        Ok(self.contents.clone())
    }

    fn write(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        if self.full {
            return Err(StoreError {
                at: "memory".into(),
                fault: Fault::Full,
            });
        }
        for change in changes {
            match change.clone() {
                Change::Delete { table, key } => drop(self.contents.0.remove(&(table, key))),
                Change::Put { table, key, value } => {
                    self.contents.0.insert((table, key), value);
                }
            }
        }
        Ok(())
    }
}

//! The store in one file of the state directory.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use redb::backends::FileBackend;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use super::{Change, Contents, Fault, Store, StoreError, Table};

/// An embedded database; only its owner may read the file, because the CA key is in it.
pub(crate) struct Redb {
    database: Database,
    at: String,
}

fn definition(table: Table) -> TableDefinition<'static, &'static str, &'static [u8]> {
    TableDefinition::new(match table {
        Table::Addresses => "addresses",
        Table::Authority => "authority",
        Table::LastGood => "last-good",
        Table::Meta => "meta",
        Table::Nodes => "nodes",
        Table::Objects => "objects",
        Table::Subnets => "subnets",
        Table::Tokens => "tokens",
        Table::Workloads => "workloads",
    })
}

impl Redb {
    /// Opens the file, and makes it (mode 0600) if it is not there.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let at = path.display().to_string();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(|error| io_fault(&at, &error))?;
        let backend = FileBackend::new(file).map_err(|error| fault(&at, error.into()))?;
        let database = redb::Builder::new()
            .create_with_backend(backend)
            .map_err(|error| fault(&at, error.into()))?;
        let mut store = Self { database, at };
        // Makes the tables, so that reading finds all of them.
        store.write(&[])?;
        Ok(store)
    }

    fn try_read(&self) -> Result<Contents, redb::Error> {
        let transaction = self.database.begin_read()?;
        let mut contents = Contents::default();
        for table in Table::ALL {
            for entry in transaction.open_table(definition(table))?.iter()? {
                let (key, value) = entry?;
                contents
                    .0
                    .insert((table, key.value().to_owned()), value.value().to_vec());
            }
        }
        Ok(contents)
    }

    fn try_write(&self, changes: &[Change]) -> Result<(), redb::Error> {
        let transaction = self.database.begin_write()?;
        for table in Table::ALL {
            let mut open = transaction.open_table(definition(table))?;
            for change in changes {
                match change {
                    Change::Delete { table: of, key } if *of == table => {
                        open.remove(key.as_str())?;
                    }
                    Change::Put {
                        table: of,
                        key,
                        value,
                    } if *of == table => {
                        open.insert(key.as_str(), value.as_slice())?;
                    }
                    Change::Delete { .. } | Change::Put { .. } => {}
                }
            }
        }
        transaction.commit()?;
        Ok(())
    }
}

impl Store for Redb {
    fn read(&self) -> Result<Contents, StoreError> {
        self.try_read().map_err(|error| fault(&self.at, error))
    }

    fn write(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        self.try_write(changes)
            .map_err(|error| fault(&self.at, error))
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the library's errors may grow; what is not known is told as it is"
)]
fn fault(at: &str, error: redb::Error) -> StoreError {
    match error {
        redb::Error::DatabaseAlreadyOpen => StoreError {
            at: at.to_owned(),
            fault: Fault::Busy,
        },
        redb::Error::Io(error) => io_fault(at, &error),
        redb::Error::Corrupted(why) => StoreError {
            at: at.to_owned(),
            fault: Fault::Corrupt(why),
        },
        other => StoreError {
            at: at.to_owned(),
            fault: Fault::Io(other.to_string()),
        },
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "any other kind has its own words"
)]
fn io_fault(at: &str, error: &io::Error) -> StoreError {
    let fault = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Fault::Full,
        io::ErrorKind::InvalidData => Fault::Corrupt(error.to_string()),
        _ => Fault::Io(error.to_string()),
    };
    StoreError {
        at: at.to_owned(),
        fault,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(table: Table, key: &str, value: &str) -> Change {
        Change::Put {
            table,
            key: key.into(),
            value: value.into(),
        }
    }

    #[test]
    fn what_was_written_is_there_after_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.redb");
        let mut store = Redb::open(&path).unwrap();
        store
            .write(&[put(Table::Meta, "a", "1"), put(Table::Nodes, "a", "2")])
            .unwrap();
        store
            .write(&[
                Change::Delete {
                    table: Table::Meta,
                    key: "a".into(),
                },
                put(Table::Meta, "b", "3"),
            ])
            .unwrap();
        let written = store.read().unwrap();
        drop(store);
        let reopened = Redb::open(&path).unwrap().read().unwrap();
        assert_eq!(written, reopened);
        assert_eq!(reopened.value(Table::Meta, "b"), Some(b"3".as_slice()));
        assert_eq!(reopened.value(Table::Meta, "a"), None);
        assert_eq!(reopened.table(Table::Nodes).count(), 1);
    }

    #[test]
    fn a_copy_taken_while_it_is_open_is_the_last_committed_state() {
        // As a crash would leave it: nothing is flushed or closed in order.
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.redb");
        let mut store = Redb::open(&path).unwrap();
        store.write(&[put(Table::Objects, "a", "1")]).unwrap();
        let copy = dir.path().join("copy.redb");
        std::fs::copy(&path, &copy).unwrap();
        store.write(&[put(Table::Objects, "a", "2")]).unwrap();
        let restored = Redb::open(&copy).unwrap().read().unwrap();
        assert_eq!(restored.value(Table::Objects, "a"), Some(b"1".as_slice()));
    }

    #[test]
    fn a_second_process_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.redb");
        let _held = Redb::open(&path).unwrap();
        let error = Redb::open(&path).map(|_| ()).unwrap_err();
        assert_eq!(error.fault, Fault::Busy, "{error}");
    }

    #[test]
    fn garbage_is_no_store() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.redb");
        std::fs::write(&path, [0x5a; 10_000]).unwrap();
        assert!(Redb::open(&path).is_err());
    }

    #[test]
    fn only_its_owner_reads_it() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.redb");
        let _store = Redb::open(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

//! What must survive a restart: one trait, so that tests and later homes of it are alike.

#[cfg(test)]
pub(crate) mod memory;
pub(crate) mod records;
pub(crate) mod redb;

use std::collections::BTreeMap;
use std::fmt;

/// The tables of the store. Keys are text, values are JSON unless said otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Table {
    /// Assigned addresses: what → address.
    Addresses,
    /// Keys and certificates of the authority, PEM.
    Authority,
    /// Objects as they were last good, YAML.
    LastGood,
    /// Epoch and generation.
    Meta,
    /// Enrolled nodes.
    Nodes,
    /// Objects that the API owns, YAML.
    Objects,
    /// Subnets by node name.
    Subnets,
    /// Join tokens, by the hash of their secret.
    Tokens,
    /// Workloads of `tacit run`.
    Workloads,
}

impl Table {
    /// All of them.
    pub(crate) const ALL: [Self; 9] = [
        Self::Addresses,
        Self::Authority,
        Self::LastGood,
        Self::Meta,
        Self::Nodes,
        Self::Objects,
        Self::Subnets,
        Self::Tokens,
        Self::Workloads,
    ];
}

/// One write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Delete {
        table: Table,
        key: String,
    },
    Put {
        table: Table,
        key: String,
        value: Vec<u8>,
    },
}

/// Everything that is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Contents(pub(crate) BTreeMap<(Table, String), Vec<u8>>);

impl Contents {
    /// The entries of one table.
    pub(crate) fn table(&self, table: Table) -> impl Iterator<Item = (&str, &[u8])> {
        let entries = self.0.iter().filter(move |((of, _), _)| *of == table);
        entries.map(|((_, key), value)| (key.as_str(), value.as_slice()))
    }

    /// One entry.
    pub(crate) fn value(&self, table: Table, key: &str) -> Option<&[u8]> {
        self.0.get(&(table, key.to_owned())).map(Vec::as_slice)
    }
}

/// Where the control plane keeps what must survive it.
pub(crate) trait Store: Send {
    /// Reads everything; at the start only.
    fn read(&self) -> Result<Contents, StoreError>;

    /// Writes all changes or none; when it returns, they survive a crash.
    fn write(&mut self, changes: &[Change]) -> Result<(), StoreError>;
}

/// Why the store cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Another process has it open.
    Busy,
    /// What it contains cannot be understood.
    Corrupt(String),
    /// No space is left.
    Full,
    /// Anything else.
    Io(String),
}

/// A fault of the store at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreError {
    pub(crate) at: String,
    pub(crate) fault: Fault,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = &self.at;
        match &self.fault {
            Fault::Busy => write!(
                f,
                "{at} is open in another process; is this mesh up already?"
            ),
            Fault::Corrupt(why) => write!(
                f,
                "{at} cannot be understood: {why}; restore it from a backup, or move it away \
                 (all nodes must then join anew)"
            ),
            Fault::Full => write!(
                f,
                "no space is left for {at}; nothing was changed and traffic goes on: free some \
                 space and try again"
            ),
            Fault::Io(why) => write!(f, "{at} cannot be used: {why}"),
        }
    }
}

impl std::error::Error for StoreError {}

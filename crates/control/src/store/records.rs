//! The shapes of what is stored, and reading them back.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tacit_model::hosting::MayHost;
use tacit_model::labels::Labels;
use tacit_model::tables::PublishedPort;
use tacit_model::{Generation, Locality, NodeName, ServiceAccount, WorkloadName};

use super::{Change, Contents, Fault, StoreError, Table};

/// The key of the newest generation in [`Table::Meta`].
pub(crate) const GENERATION: &str = "generation";

/// A node that has joined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NodeRecord {
    pub(crate) locality: Locality,
    pub(crate) host_addresses: Vec<IpAddr>,
    pub(crate) joined_unix: u64,
    /// As its join token said.
    pub(crate) identities: MayHost,
}

/// A join token that was not used yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TokenRecord {
    pub(crate) node: NodeName,
    pub(crate) expires_unix: u64,
    /// What the node may host.
    pub(crate) identities: MayHost,
}

/// A workload that `tacit run` started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunRecord {
    pub(crate) name: WorkloadName,
    pub(crate) service_account: ServiceAccount,
    pub(crate) labels: Labels,
    pub(crate) node: NodeName,
    /// Empty parts are those of the node.
    pub(crate) region: String,
    pub(crate) zone: String,
    pub(crate) ports: Vec<RunPort>,
    pub(crate) address: IpAddr,
    /// Ports of its machine that lead to ports of it.
    #[serde(default)]
    pub(crate) published: Vec<PublishedPort>,
    pub(crate) uid: u32,
}

/// A port that it declared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunPort {
    pub(crate) name: String,
    pub(crate) port: u16,
    pub(crate) http: bool,
}

/// Ports that accept connections, as a node said last: a workload's entry of
/// [`Table::Workloads`] with the prefix `ready/`.
pub(crate) type Ready = BTreeMap<WorkloadName, BTreeSet<u16>>;

/// A value as it is stored.
pub(crate) fn put<T: Serialize>(
    table: Table,
    key: impl Into<String>,
    value: &T,
) -> Result<Change, StoreError> {
    let key = key.into();
    match serde_json::to_vec(value) {
        Ok(value) => Ok(Change::Put { table, key, value }),
        Err(error) => Err(corrupt(table, &key, &error)),
    }
}

/// Every value of a table.
pub(crate) fn all<T: DeserializeOwned>(
    contents: &Contents,
    table: Table,
) -> Result<Vec<(String, T)>, StoreError> {
    let read = |(key, value): (&str, &[u8])| match serde_json::from_slice(value) {
        Ok(value) => Ok((key.to_owned(), value)),
        Err(error) => Err(corrupt(table, key, &error)),
    };
    contents.table(table).map(read).collect()
}

/// The newest generation that was accepted, if any was.
pub(crate) fn generation(contents: &Contents) -> Result<Option<Generation>, StoreError> {
    let value = contents.value(Table::Meta, GENERATION);
    let read = |value: &[u8]| {
        serde_json::from_slice(value).map_err(|error| corrupt(Table::Meta, GENERATION, &error))
    };
    value.map(read).transpose()
}

fn corrupt(table: Table, key: &str, error: &serde_json::Error) -> StoreError {
    StoreError {
        at: format!("the entry {key:?} of {table:?} in the store"),
        fault: Fault::Corrupt(error.to_string()),
    }
}

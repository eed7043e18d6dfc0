//! Everything that the control plane knows and keeps, as a value.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tacit_api::mesh::MeshSpec;
use tacit_api::{Kind, Located, Object, ObjectKey, Parsed, SyntaxError};
use tacit_compiler::grants::Subject;
use tacit_compiler::{Addresses, Written};
use tacit_model::{NodeName, ServiceName, WorkloadName};

use super::objects::{Applied, Held, Run, run_object};
use crate::store::records::{self, NodeRecord, Ready, RunRecord, TokenRecord};
use crate::store::{Change, Contents, Fault, StoreError, Table};
use crate::workloads::Range;

/// Keys of [`Table::Addresses`] begin with what the address is for.
const SERVICE: &str = "service/";
const WORKLOAD: &str = "workload/";
/// Keys of [`Table::Workloads`] likewise.
const RUN: &str = "run/";
const READY: &str = "ready/";

/// Cheap to clone: values are shared.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    /// Files of the watched directory as they were read last.
    pub(crate) files: BTreeMap<Arc<str>, Arc<Parsed>>,
    /// What they say, object by object.
    pub(crate) directory: BTreeMap<ObjectKey, Arc<Written>>,
    /// Their errors that belong to no object.
    pub(crate) file_errors: Arc<Vec<SyntaxError>>,
    /// Objects of the API.
    pub(crate) api: BTreeMap<ObjectKey, Arc<Applied>>,
    /// Workloads of `tacit run`.
    pub(crate) runs: BTreeMap<WorkloadName, Arc<Run>>,
    /// Ports that accept connections.
    pub(crate) ready: Ready,
    /// Enrolled nodes.
    pub(crate) nodes: BTreeMap<NodeName, NodeRecord>,
    pub(crate) subnets: BTreeMap<NodeName, Range>,
    /// By the hash of the secret.
    pub(crate) tokens: BTreeMap<String, TokenRecord>,
    /// Addresses that the compiler gave away.
    pub(crate) addresses: Arc<Addresses>,
    /// The last valid version of each object.
    pub(crate) last_good: BTreeMap<ObjectKey, Arc<Located<Object>>>,
}

/// An object as it is stored: its document, and where that was written.
#[derive(Serialize, Deserialize)]
struct StoredObject {
    file: String,
    first_line: u32,
    text: String,
    author: Option<Author>,
}

/// Who wrote it.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Author {
    administrator: bool,
    known_as: String,
    user: Option<String>,
    groups: BTreeSet<String>,
}

impl State {
    /// Reads what was stored. Files of the directory are read anew, not stored.
    pub(crate) fn read(contents: &Contents) -> Result<Self, StoreError> {
        let mut state = Self::default();
        for (key, stored) in records::all::<StoredObject>(contents, Table::LastGood)? {
            let (key, object) = reread(Table::LastGood, &key, &stored)?;
            state.last_good.insert(key, Arc::new(object));
        }
        for (key, stored) in records::all::<StoredObject>(contents, Table::Objects)? {
            let (key, object) = reread(Table::Objects, &key, &stored)?;
            let author = subject(stored.author);
            state.api.insert(key, Arc::new(Applied { object, author }));
        }
        state.read_workloads(contents)?;
        for (key, node) in records::all(contents, Table::Nodes)? {
            state.nodes.insert(name(Table::Nodes, &key)?, node);
        }
        for (key, range) in records::all::<String>(contents, Table::Subnets)? {
            let range = Range::parse(&range).ok_or_else(|| corrupt(Table::Subnets, &key))?;
            state.subnets.insert(name(Table::Subnets, &key)?, range);
        }
        state.tokens = records::all(contents, Table::Tokens)?.into_iter().collect();
        state.addresses = Arc::new(read_addresses(contents)?);
        Ok(state)
    }

    fn read_workloads(&mut self, contents: &Contents) -> Result<(), StoreError> {
        for (key, value) in contents.table(Table::Workloads) {
            let bad = || corrupt(Table::Workloads, key);
            if key.starts_with(RUN) {
                let record: RunRecord = serde_json::from_slice(value).map_err(|_| bad())?;
                self.runs.insert(record.name.clone(), new_run(record));
            } else if let Some(of) = key.strip_prefix(READY) {
                let ports: BTreeSet<u16> = serde_json::from_slice(value).map_err(|_| bad())?;
                self.ready.insert(workload_name(of).ok_or_else(bad)?, ports);
            }
        }
        Ok(())
    }

    /// Takes over which versions are good now; gives what to write of it.
    pub(crate) fn keep_good(
        &mut self,
        objects: &BTreeMap<ObjectKey, Held>,
        good: &[&ObjectKey],
    ) -> Result<Vec<Change>, StoreError> {
        let mut changes = Vec::new();
        for key in good {
            let Some(held) = objects.get(key) else {
                continue;
            };
            // Workloads of `tacit run` are kept as such.
            let (Some(object), Held::Api(_) | Held::Directory(_)) = (held.object(), held) else {
                continue;
            };
            if self
                .last_good
                .get(key)
                .is_some_and(|before| **before == *object)
            {
                continue;
            }
            let stored = StoredObject::new(object, None);
            changes.push(records::put(Table::LastGood, key.to_string(), &stored)?);
            self.last_good
                .insert((*key).clone(), Arc::new(object.clone()));
        }
        let gone: Vec<ObjectKey> = self
            .last_good
            .keys()
            .filter(|key| !objects.contains_key(key))
            .cloned()
            .collect();
        for key in gone {
            self.last_good.remove(&key);
            changes.push(Change::Delete {
                table: Table::LastGood,
                key: key.to_string(),
            });
        }
        Ok(changes)
    }

    /// Takes over which addresses are given away now; gives what to write of it.
    pub(crate) fn keep_addresses(&mut self, now: Addresses) -> Result<Vec<Change>, StoreError> {
        if *self.addresses == now {
            return Ok(Vec::new());
        }
        let (before, after) = (texts(&self.addresses), texts(&now));
        let mut changes = Vec::new();
        for (key, address) in after
            .iter()
            .filter(|(key, now)| before.get(*key) != Some(now))
        {
            changes.push(records::put(Table::Addresses, key, address)?);
        }
        for key in before.into_keys().filter(|key| !after.contains_key(key)) {
            changes.push(Change::Delete {
                table: Table::Addresses,
                key,
            });
        }
        self.addresses = Arc::new(now);
        Ok(changes)
    }
}

impl StoredObject {
    fn new(object: &Located<Object>, author: Option<&Subject>) -> Self {
        let author = author.map(|subject| {
            let Subject {
                administrator,
                known_as,
                user,
                groups,
            } = subject.clone();
            Author {
                administrator,
                known_as,
                user,
                groups,
            }
        });
        Self {
            file: object.source.file.to_string(),
            first_line: object.source.first_line,
            text: object.source.text.to_string(),
            author,
        }
    }
}

/// An applied object as it is stored.
pub(crate) fn stored(applied: &Applied) -> impl Serialize {
    StoredObject::new(&applied.object, Some(&applied.author))
}

/// A workload of `tacit run`.
pub(crate) fn new_run(record: RunRecord) -> Arc<Run> {
    let object = run_object(&record);
    Arc::new(Run { record, object })
}

/// Where a workload of `tacit run` is stored.
pub(crate) fn run_key(name: &WorkloadName) -> String {
    format!("{RUN}{name}")
}

/// Where its ready ports are stored.
pub(crate) fn ready_key(name: &WorkloadName) -> String {
    format!("{READY}{name}")
}

/// The Mesh, if there is one that can be read.
pub(crate) fn mesh_spec(objects: &BTreeMap<ObjectKey, Held>) -> Option<&MeshSpec> {
    let meshes = objects.iter().filter(|(key, _)| key.kind == Kind::Mesh);
    meshes
        .filter_map(|(_, held)| held.object())
        .find_map(|object| match &object.value {
            Object::Mesh(mesh) => Some(&mesh.spec),
            Object::AccessPolicy(_)
            | Object::FailoverPolicy(_)
            | Object::FaultPolicy(_)
            | Object::GRPCRoute(_)
            | Object::HTTPRoute(_)
            | Object::RateLimitPolicy(_)
            | Object::RetryTimeoutPolicy(_)
            | Object::Service(_)
            | Object::TCPRoute(_)
            | Object::Workload(_)
            | Object::Workspace(_) => None,
        })
}

fn subject(author: Option<Author>) -> Subject {
    author.map_or_else(Subject::default, |author| {
        let Author {
            administrator,
            known_as,
            user,
            groups,
        } = author;
        Subject {
            administrator,
            known_as,
            user,
            groups,
        }
    })
}

/// Parses a stored document so that its positions are those of the file it came from.
fn reread(
    table: Table,
    key: &str,
    stored: &StoredObject,
) -> Result<(ObjectKey, Located<Object>), StoreError> {
    let lines = usize::try_from(stored.first_line.saturating_sub(1)).unwrap_or(0);
    let text = format!("{}{}", "\n".repeat(lines), stored.text);
    let parsed = tacit_api::parse(&stored.file, &text);
    let own = |object: &Located<Object>| object.value.key().to_string() == key;
    let mut object = parsed
        .objects
        .into_iter()
        .find(own)
        .ok_or_else(|| corrupt(table, key))?;
    object.source.first_line = stored.first_line;
    object.source.text = stored.text.as_str().into();
    Ok((object.value.key(), object))
}

fn read_addresses(contents: &Contents) -> Result<Addresses, StoreError> {
    let mut addresses = Addresses::default();
    for (key, address) in records::all::<IpAddr>(contents, Table::Addresses)? {
        let bad = || corrupt(Table::Addresses, &key);
        if let Some(of) = key.strip_prefix(SERVICE) {
            let name = of
                .split_once('/')
                .and_then(|(ns, name)| ServiceName::parse(ns, name).ok());
            addresses.services.insert(name.ok_or_else(bad)?, address);
        } else if let Some(of) = key.strip_prefix(WORKLOAD) {
            addresses
                .workloads
                .insert(workload_name(of).ok_or_else(bad)?, address);
        }
    }
    Ok(addresses)
}

fn texts(addresses: &Addresses) -> BTreeMap<String, IpAddr> {
    let Addresses {
        services,
        workloads,
    } = addresses;
    let service = |(name, address): (&ServiceName, &IpAddr)| {
        (
            format!("{SERVICE}{}/{}", name.namespace, name.name),
            *address,
        )
    };
    let workload =
        |(name, address): (&WorkloadName, &IpAddr)| (format!("{WORKLOAD}{name}"), *address);
    services
        .iter()
        .map(service)
        .chain(workloads.iter().map(workload))
        .collect()
}

fn workload_name(text: &str) -> Option<WorkloadName> {
    let (namespace, name) = text.split_once('/')?;
    WorkloadName::parse(namespace, name).ok()
}

fn name<T>(table: Table, text: &str) -> Result<T, StoreError>
where
    T: for<'a> TryFrom<&'a str, Error = tacit_model::names::InvalidName>,
{
    T::try_from(text).map_err(|_| corrupt(table, text))
}

fn corrupt(table: Table, key: &str) -> StoreError {
    StoreError {
        at: format!("the entry {key:?} of {table:?} in the store"),
        fault: Fault::Corrupt("it is not what this version wrote".into()),
    }
}

//! What goes into the compiler and what comes out of it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use imbl::OrdMap;
use tacit_api::{Located, Object, ObjectKey, SyntaxError};
use tacit_model::access::Cidr;
use tacit_model::finding::Finding;
use tacit_model::hosting::MayHost;
use tacit_model::status::ObjectStatus;
use tacit_model::tables::PublishedPort;
use tacit_model::{NodeName, ObjectRef, ServiceName, TableDelta, WorkloadName};

use crate::Compiler;
use crate::grants::Subject;

/// What is written under one key now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// More than one object has this key, in two files or twice in one: none of them counts.
    /// At least two, in the order of files and lines.
    Duplicate(Vec<Located<Object>>),
    /// It could be read.
    Ok(Box<Located<Object>>),
    /// It could not be read. The errors may be about the whole file it was last read from.
    Unparsable(Vec<SyntaxError>),
}

/// Who an object belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The admin API, written by this subject.
    Api(Subject),
    /// The watched directory, which acts as administrator.
    Directory,
}

/// One object, new or changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upsert {
    /// Which object.
    pub key: ObjectKey,
    /// What is written now.
    pub written: Written,
    /// The last version that was valid, from the store; absent if there never was one.
    pub last_good: Option<Box<Located<Object>>>,
    /// Whose it is.
    pub owner: Owner,
}

/// An enrolled node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFact {
    /// Its name.
    pub name: NodeName,
    /// Its region; empty if not known.
    pub region: Arc<str>,
    /// Its zone; empty if not known.
    pub zone: Arc<str>,
    /// Addresses of the workloads that it runs.
    pub subnet: Option<Cidr>,
    /// What it may run, as its join token said.
    pub identities: MayHost,
}

/// Addresses that were given away; kept so that they do not move.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// Virtual addresses of services.
    pub services: OrdMap<ServiceName, IpAddr>,
    /// Addresses of declared workloads that name none themselves.
    pub workloads: OrdMap<WorkloadName, IpAddr>,
}

/// A change of what people wrote and of what was observed. Absent and empty mean "no change".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InputDelta {
    /// New and changed objects. A later one of the same key replaces an earlier one.
    pub upserts: Vec<Upsert>,
    /// Objects that are gone. Applied before `upserts`.
    pub removes: Vec<ObjectKey>,
    /// Every error that belongs to no object, of all files. `Some` replaces what was there.
    pub file_errors: Option<Vec<SyntaxError>>,
    /// Nodes that enrolled or changed.
    pub nodes: Vec<NodeFact>,
    /// Nodes that are no longer enrolled.
    pub removed_nodes: Vec<NodeName>,
    /// Ports of a workload that accept connections now, as its node reports. Replaces the last
    /// report of that workload; an empty set means that no port does.
    pub ready: Vec<(WorkloadName, BTreeSet<u16>)>,
    /// Ports of its machine that lead to a workload. Replaces what was said before of that
    /// workload.
    pub published: Vec<(WorkloadName, Vec<PublishedPort>)>,
    /// Addresses given away by an earlier process, from the store. `Some` replaces what the
    /// compiler remembers; only the first delta needs it.
    pub addresses: Option<Addresses>,
    /// Unix seconds; absent: not later than before.
    pub now: Option<i64>,
}

/// What a change leads to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutputDelta {
    /// What changes in the tables.
    pub tables: TableDelta,
    /// Objects whose findings changed, each with all that hold now; none: no finding is left.
    /// Without an object: what could not be read as one.
    pub findings: BTreeMap<Option<ObjectRef>, Vec<Finding>>,
    /// Objects whose status changed, with what it is now; absent: the object is gone, or there is
    /// no more to say than that it is accepted ([`ObjectStatus::accepted`]).
    pub statuses: BTreeMap<ObjectRef, Option<ObjectStatus>>,
    /// Persist these as last good before the generation is published.
    pub good: Good,
    /// True if addresses were given away or taken back: persist [`crate::Compiler::addresses`].
    pub addresses_moved: bool,
    /// Unix seconds at which something expires: apply an empty delta with `now` then.
    pub wake_at: Option<i64>,
}

/// Objects whose written version is valid now, and was not known to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Good {
    /// There was no object before: all that [`Compiler::good`] names.
    All,
    /// Those of the change, and others that have become valid, by key.
    These(Vec<ObjectKey>),
}

impl Good {
    /// Their keys; `compiler` is the one that said so.
    #[must_use]
    pub fn keys<'k>(&'k self, compiler: &'k Compiler) -> Vec<&'k ObjectKey> {
        match self {
            Self::All => compiler.good().collect(),
            Self::These(keys) => keys.iter().collect(),
        }
    }
}

impl Default for Good {
    fn default() -> Self {
        Self::These(Vec::new())
    }
}

/// What a set of files says, object by object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// What is written under each key.
    pub written: BTreeMap<ObjectKey, Written>,
    /// Errors that belong to no object.
    pub errors: Vec<SyntaxError>,
}

impl Files {
    /// Groups what was parsed from files by object. `before` says from which file each object
    /// was last read: if that file now has an error that belongs to no object, the object is
    /// unparsable rather than gone.
    #[must_use]
    pub fn group(
        parsed: impl IntoIterator<Item = (Arc<str>, tacit_api::Parsed)>,
        before: &BTreeMap<ObjectKey, Arc<str>>,
    ) -> Self {
        let mut objects: BTreeMap<ObjectKey, Vec<Located<Object>>> = BTreeMap::new();
        let mut errors: BTreeMap<ObjectKey, Vec<SyntaxError>> = BTreeMap::new();
        let mut files = Self::default();
        let mut unread: BTreeMap<Arc<str>, Vec<SyntaxError>> = BTreeMap::new();
        for (file, parsed) in parsed {
            for object in parsed.objects {
                objects.entry(object.value.key()).or_default().push(object);
            }
            for error in parsed.errors {
                if let Some(key) = error.object.clone() {
                    errors.entry(key).or_default().push(error);
                } else {
                    unread.entry(file.clone()).or_default().push(error.clone());
                    files.errors.push(error);
                }
            }
        }
        for (key, mut found) in objects {
            // An unreadable second object of the same key leaves no doubt only if there is none.
            if errors.contains_key(&key) {
                continue;
            }
            let written = match found.pop() {
                Some(only) if found.is_empty() => Written::Ok(Box::new(only)),
                Some(last) => {
                    found.push(last);
                    Written::Duplicate(found)
                }
                None => continue,
            };
            files.written.insert(key, written);
        }
        for (key, found) in errors {
            files.written.insert(key, Written::Unparsable(found));
        }
        for (key, file) in before {
            if let Some(found) = unread.get(file) {
                let lost = || Written::Unparsable(found.clone());
                files.written.entry(key.clone()).or_insert_with(lost);
            }
        }
        files
    }
}

/// The findings of one check, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// All findings.
    pub findings: Vec<Finding>,
    /// The statuses of all objects.
    pub statuses: Vec<ObjectStatus>,
}

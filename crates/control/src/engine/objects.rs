//! Which objects count: those of the directory, of the API and of `tacit run`, each with one owner.

use std::collections::BTreeMap;
use std::sync::Arc;

use tacit_api::{
    Kind, Located, Metadata, Object, ObjectKey, Parsed, Positions, Source, Workload, WorkloadSpec,
    workload,
};
use tacit_compiler::grants::Subject;
use tacit_compiler::{Files, Owner as CompilerOwner, Upsert, Written};
use tacit_model::ObjectRef;
use tacit_model::finding::{Finding, Position, Severity};

use super::draft::Draft;
use super::state::State;
use crate::admin::types::Owner;
use crate::store::records::RunRecord;

/// An object of one owner that another owner has too.
const OTHER_OWNER: &str = "TCT1901";

/// What was read of the directory.
#[derive(Clone, Debug, Default)]
pub(crate) struct DirectoryRead {
    /// True: files that are not in `files` are gone.
    pub(crate) complete: bool,
    /// By path; `None` is a file that is gone.
    pub(crate) files: BTreeMap<Arc<str>, Option<Parsed>>,
}

/// An object that somebody applied.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Applied {
    pub(crate) object: Located<Object>,
    pub(crate) author: Subject,
}

/// A workload of `tacit run`, as it is stored and as the object that somebody could have written.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) record: RunRecord,
    pub(crate) object: Located<Object>,
}

/// What is written under a key, by its owner. Cheap to copy and to compare.
#[derive(Clone, Debug)]
pub(crate) enum Held {
    Api(Arc<Applied>),
    Directory(Arc<Written>),
    Run(Arc<Run>),
}

impl Held {
    /// True if it is the same value, not only an equal one.
    pub(crate) fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Api(one), Self::Api(two)) => Arc::ptr_eq(one, two),
            (Self::Directory(one), Self::Directory(two)) => Arc::ptr_eq(one, two),
            (Self::Run(one), Self::Run(two)) => Arc::ptr_eq(one, two),
            (Self::Api(_) | Self::Directory(_) | Self::Run(_), _) => false,
        }
    }

    /// The object, if there is exactly one that can be read.
    pub(crate) fn object(&self) -> Option<&Located<Object>> {
        match self {
            Self::Api(applied) => Some(&applied.object),
            Self::Directory(written) => match &**written {
                Written::Ok(object) => Some(object),
                Written::Duplicate(_) | Written::Unparsable(_) => None,
            },
            Self::Run(run) => Some(&run.object),
        }
    }

    /// Who may change it.
    pub(crate) fn owner(&self) -> Owner {
        match self {
            Self::Api(_) => Owner::Api,
            Self::Directory(_) => Owner::Directory,
            Self::Run(_) => Owner::Run,
        }
    }

    /// As the compiler takes it.
    pub(crate) fn upsert(&self, key: &ObjectKey, last_good: Option<&Located<Object>>) -> Upsert {
        let (written, owner) = match self {
            Self::Api(applied) => (
                Written::Ok(Box::new(applied.object.clone())),
                CompilerOwner::Api(applied.author.clone()),
            ),
            Self::Directory(written) => (Written::clone(written), CompilerOwner::Directory),
            // Whether somebody may run it was decided when it began.
            Self::Run(run) => (
                Written::Ok(Box::new(run.object.clone())),
                CompilerOwner::Directory,
            ),
        };
        Upsert {
            key: key.clone(),
            written,
            last_good: last_good.cloned().map(Box::new),
            owner,
        }
    }
}

impl Draft {
    /// Takes changed files in.
    pub(super) fn directory(&mut self, read: DirectoryRead) {
        let DirectoryRead { complete, files } = read;
        let state = &mut self.state;
        if complete {
            state.files.retain(|path, _| files.contains_key(path));
        }
        for (path, parsed) in files {
            match parsed {
                Some(parsed) => state.files.insert(path, Arc::new(parsed)),
                None => state.files.remove(&path),
            };
        }
        // An object counts as read from a file as long as its last good version is of it.
        let good = state
            .last_good
            .iter()
            .filter(|(key, _)| !state.api.contains_key(*key));
        let before = good
            .map(|(key, object)| (key.clone(), object.source.file.clone()))
            .collect();
        let parsed = state
            .files
            .iter()
            .map(|(path, file)| (path.clone(), Parsed::clone(file)));
        let Files { written, errors } = Files::group(parsed, &before);
        let mut old = std::mem::take(&mut state.directory);
        let keep = |(key, written): (ObjectKey, Written)| {
            let same = old.remove(&key).filter(|before| **before == written);
            (key, same.unwrap_or_else(|| Arc::new(written)))
        };
        state.directory = written.into_iter().map(keep).collect();
        state.file_errors = Arc::new(errors);
        self.compiled = None;
    }
}

/// All objects that count, and findings about those that do not.
pub(crate) fn effective(state: &State) -> (BTreeMap<ObjectKey, Held>, Vec<Finding>) {
    let mut objects: BTreeMap<ObjectKey, Held> = BTreeMap::new();
    let mut findings = Vec::new();
    for (key, applied) in &state.api {
        objects.insert(key.clone(), Held::Api(applied.clone()));
    }
    for (key, written) in &state.directory {
        match objects.get(key) {
            None => drop(objects.insert(key.clone(), Held::Directory(written.clone()))),
            Some(_) => findings.push(other_owner(
                key,
                written,
                "it was made with `tacit apply`, and that version counts".into(),
                format!("remove it from the file, or the other one: `tacit delete {key}`"),
            )),
        }
    }
    for run in state.runs.values() {
        let key = run.object.value.key();
        match objects.get(&key) {
            None => drop(objects.insert(key, Held::Run(run.clone()))),
            Some(Held::Directory(written)) => findings.push(other_owner(
                &key,
                written,
                "a workload of `tacit run` with this name lives, and waits for another".into(),
                "end that one, or choose another name".into(),
            )),
            Some(Held::Api(_) | Held::Run(_)) => {}
        }
    }
    (objects, findings)
}

fn other_owner(key: &ObjectKey, written: &Written, message: String, fix: String) -> Finding {
    let found = match written {
        Written::Ok(object) => Some(object.find("")),
        Written::Duplicate(objects) => objects.first().map(|object| object.find("")),
        Written::Unparsable(errors) => errors
            .first()
            .map(|error| (error.position.clone(), error.snippet.clone())),
    };
    let (position, snippet) = found.unzip();
    Finding {
        code: OTHER_OWNER.into(),
        severity: Severity::Error,
        object: object_ref(key),
        field: "".into(),
        position: position.map(|found| Position {
            file: found.file,
            line: found.line,
            column: found.column,
        }),
        message: format!("{key} has another owner: {message}"),
        fix,
        snippet: snippet.flatten(),
    }
}

/// The reference of a key, if its names are valid.
pub(crate) fn object_ref(key: &ObjectKey) -> Option<ObjectRef> {
    let namespace = key
        .namespace
        .as_deref()
        .map(TryInto::try_into)
        .transpose()
        .ok()?;
    let name = key.name.as_str().try_into().ok()?;
    Some(ObjectRef {
        kind: key.kind.as_str().into(),
        namespace,
        name,
    })
}

/// The kind with this name in any case, also in the plural.
pub(crate) fn kind_named(name: &str) -> Option<Kind> {
    let matches = |kind: &&Kind| {
        let own = kind.as_str().to_ascii_lowercase();
        let name = name.to_ascii_lowercase();
        let plural = match own.strip_suffix('y') {
            Some(stem) => format!("{stem}ies"),
            None if own.ends_with("sh") => format!("{own}es"),
            None => format!("{own}s"),
        };
        name == own || name == plural
    };
    Kind::ALL.iter().find(matches).copied()
}

/// A workload of `tacit run` as an object.
pub(crate) fn run_object(run: &RunRecord) -> Located<Object> {
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let ports = run.ports.iter().map(|port| workload::WorkloadPort {
        name: given(&port.name),
        port: port.port,
        app_protocol: Some(if port.http { "http" } else { "tcp" }.to_owned()),
    });
    let labels = run
        .labels
        .0
        .iter()
        .map(|(key, value)| (key.to_string(), value.to_string()));
    let value = Object::Workload(Workload {
        metadata: Metadata {
            name: run.name.name.to_string(),
            namespace: Some(run.name.namespace.to_string()),
            labels: labels.collect(),
            annotations: BTreeMap::new(),
        },
        spec: WorkloadSpec {
            service_account: run.service_account.to_string(),
            node: run.node.to_string(),
            locality: Some(workload::Place {
                region: given(&run.region),
                zone: given(&run.zone),
            }),
            address: Some(run.address.to_string()),
            ports: Some(ports.collect()),
            capacity: None,
            command: None,
        },
    });
    let source = Source {
        file: "<run>".into(),
        first_line: 1,
        text: "".into(),
    };
    Located {
        value,
        positions: Arc::new(Positions::default()),
        source,
    }
}

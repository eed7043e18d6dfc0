//! What was written and observed so far: the whole input of a compilation.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use imbl::OrdMap;
use tacit_api::{Kind, Located, Object, ObjectKey, SyntaxError};
use tacit_model::tables::PublishedPort;
use tacit_model::{NodeName, WorkloadName};

use crate::delta::{Addresses, InputDelta, NodeFact, Owner, Upsert, Written};
use crate::packed;

/// One object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) written: Written,
    pub(crate) last_good: Option<Box<Located<Object>>>,
    pub(crate) owner: Owner,
}

/// Everything that the tables are a function of. A copy is some pointers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Inputs {
    pub(crate) objects: OrdMap<ObjectKey, Arc<Entry>>,
    pub(crate) file_errors: Arc<Vec<SyntaxError>>,
    pub(crate) nodes: OrdMap<NodeName, NodeFact>,
    pub(crate) ready: OrdMap<WorkloadName, BTreeSet<u16>>,
    pub(crate) published: OrdMap<WorkloadName, Vec<PublishedPort>>,
    pub(crate) addresses: Addresses,
    /// Unix seconds.
    pub(crate) now: i64,
}

impl Inputs {
    /// Takes a change in; says what it touches.
    pub(crate) fn take(&mut self, change: InputDelta) -> Touched {
        let InputDelta {
            upserts,
            removes,
            file_errors,
            nodes,
            removed_nodes,
            ready,
            published,
            addresses,
            now,
        } = change;
        let first = self.objects.is_empty();
        let mut touched = Touched {
            first,
            all: first
                || file_errors.is_some()
                || !(nodes.is_empty() && removed_nodes.is_empty())
                || addresses.is_some(),
            objects: Vec::new(),
        };
        for key in removes {
            let was = self.objects.remove(&key).is_some();
            if let Some(name) = workload_name(&key) {
                self.ready.remove(&name);
                self.published.remove(&name);
            }
            touched.objects.push((key, was));
        }
        let upserts = match first {
            true => {
                self.objects = all(upserts);
                Vec::new()
            }
            false => upserts,
        };
        for upsert in upserts {
            let (key, entry) = entry(upsert);
            let was = self.objects.insert(key.clone(), entry).is_some();
            touched.objects.push((key, was));
        }
        if let Some(errors) = file_errors {
            self.file_errors = Arc::new(errors);
        }
        for name in removed_nodes {
            self.nodes.remove(&name);
        }
        for node in nodes {
            self.nodes.insert(node.name.clone(), node);
        }
        // A report about what is gone already would stay for ever.
        for (name, ports) in ready {
            if let Some(key) = self.known(&name) {
                touched.objects.push((key, true));
                self.ready.insert(name, ports);
            }
        }
        for (name, ports) in published {
            if let Some(key) = self.known(&name) {
                touched.objects.push((key, true));
                self.published.insert(name, ports);
            }
        }
        if let Some(addresses) = addresses {
            self.addresses = addresses;
        }
        // Time that goes back would bring expired grants back.
        self.now = now.map_or(self.now, |now| now.max(self.now));
        // Of an object that is touched twice, the first says what was there before.
        touched.objects.sort_by(|(a, _), (b, _)| a.cmp(b));
        touched
            .objects
            .dedup_by(|(later, _), (first, _)| later == first);
        touched
    }

    /// The key of a workload's object, if there is one.
    fn known(&self, name: &WorkloadName) -> Option<ObjectKey> {
        let key = workload_key(name);
        self.objects.contains_key(&key).then_some(key)
    }
}

/// The first objects of a mesh. Those of a namespace come together, mostly: sorting them by name
/// alone is less work than finding the place of each among all.
fn all(upserts: Vec<Upsert>) -> OrdMap<ObjectKey, Arc<Entry>> {
    type Group = Vec<(ObjectKey, Arc<Entry>)>;
    let mut groups: BTreeMap<(Kind, Option<String>), Group> = BTreeMap::new();
    let mut run: Group = Vec::new();
    let place = |key: &ObjectKey| (key.kind, key.namespace.clone());
    for upsert in upserts {
        let (key, entry) = entry(upsert);
        let other =
            |(last, _): &(ObjectKey, _)| last.kind != key.kind || last.namespace != key.namespace;
        if let Some((last, _)) = run.last().filter(|last| other(last)) {
            groups.entry(place(last)).or_default().append(&mut run);
        }
        run.push((key, entry));
    }
    if let Some((last, _)) = run.last() {
        groups.entry(place(last)).or_default().append(&mut run);
    }
    let sorted = groups.into_values().flat_map(|mut group| {
        // Of several with one name, which keep their order, the last one counts.
        group.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
        group.dedup_by(|later, earlier| {
            let same = later.0 == earlier.0;
            if same {
                std::mem::swap(later, earlier);
            }
            same
        });
        group
    });
    packed::map(sorted)
}

fn entry(upsert: Upsert) -> (ObjectKey, Arc<Entry>) {
    let Upsert {
        key,
        written,
        last_good,
        owner,
    } = upsert;
    let entry = Entry {
        written,
        last_good,
        owner,
    };
    (key, Arc::new(entry))
}

/// What a change touches.
#[derive(Clone, Debug)]
pub(crate) struct Touched {
    /// There was no object before: all are touched, and none of them is listed.
    pub(crate) first: bool,
    /// More than what is listed: nodes, files that cannot be read, addresses from the store.
    pub(crate) all: bool,
    /// Objects that are written anew or observed anew, and whether each was there before. In the
    /// order of keys, each once.
    pub(crate) objects: Vec<(ObjectKey, bool)>,
}

/// The key of the object of a workload.
pub(crate) fn workload_key(name: &WorkloadName) -> ObjectKey {
    ObjectKey {
        kind: Kind::Workload,
        namespace: Some(name.namespace.as_str().to_owned()),
        name: name.name.as_str().to_owned(),
    }
}

/// The workload that a key means, if it is one with a valid name.
pub(crate) fn workload_name(key: &ObjectKey) -> Option<WorkloadName> {
    let namespace = key
        .namespace
        .as_deref()
        .filter(|_| key.kind == Kind::Workload)?;
    WorkloadName::parse(namespace, &key.name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str, port: u16) -> Upsert {
        let text = format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\n\
             spec: {{ports: [{{port: {port}}}]}}\n"
        );
        let object = tacit_api::parse("a.yaml", &text).objects.remove(0);
        Upsert {
            key: object.value.key(),
            written: Written::Ok(Box::new(object)),
            last_good: None,
            owner: Owner::Directory,
        }
    }

    fn change(upserts: Vec<Upsert>) -> InputDelta {
        InputDelta {
            upserts,
            ..InputDelta::default()
        }
    }

    #[test]
    fn the_first_objects_are_taken_in_like_all_others() {
        let versions = || {
            vec![
                service("b", 1),
                service("a", 2),
                service("b", 3),
                service("c", 4),
                service("b", 5),
            ]
        };
        let mut first = Inputs::default();
        assert!(first.take(change(versions())).first);
        let mut later = Inputs::default();
        for upsert in versions() {
            later.take(change(vec![upsert]));
        }
        assert_eq!(first, later);
        assert_eq!(first.objects.len(), 3);
        let last = service("b", 5);
        assert_eq!(first.objects[&last.key].written, last.written);
    }
}

//! The objects in force by what they are, and the classes of workloads that selectors can tell
//! apart.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use tacit_api::{Located, Object, Service, Workload};
use tacit_model::labels::Labels;
use tacit_model::tables::{ClassKey, ClassRow};
use tacit_model::{Name, Namespace, ObjectRef, ServiceAccount, ServiceName, WorkloadName};

use crate::findings::object_ref;

/// A Service in force.
#[derive(Clone, Debug)]
pub(crate) struct ServiceEntry<'a> {
    pub(crate) object: &'a Located<Object>,
    pub(crate) service: &'a Service,
    pub(crate) labels: Labels,
    pub(crate) selector: Labels,
}

/// A Workload in force.
#[derive(Clone, Debug)]
pub(crate) struct WorkloadEntry<'a> {
    pub(crate) object: &'a Located<Object>,
    pub(crate) workload: &'a Workload,
    pub(crate) labels: Labels,
    pub(crate) service_account: ServiceAccount,
}

/// What is there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Index<'a> {
    pub(crate) services: BTreeMap<ServiceName, ServiceEntry<'a>>,
    pub(crate) workloads: BTreeMap<WorkloadName, WorkloadEntry<'a>>,
    pub(crate) routes: BTreeMap<ObjectRef, &'a Located<Object>>,
    /// Every namespace with an object in force.
    pub(crate) namespaces: BTreeSet<Namespace>,
    /// How many each of them has.
    pub(crate) spaces: BTreeMap<Namespace, usize>,
    /// Services by one pair of their selector: only workloads with that pair can be behind them.
    by_pair: BTreeMap<Namespace, BTreeMap<Pair, Vec<ServiceName>>>,
}

impl<'a> Index<'a> {
    /// Sorts objects in force.
    pub(crate) fn new(objects: impl IntoIterator<Item = &'a Located<Object>>) -> Self {
        let mut index = Self::default();
        for object in objects {
            let metadata = object.value.metadata();
            let written = metadata.namespace.as_deref().map(Namespace::try_from);
            if let Some(Ok(namespace)) = written {
                index.add(object, &namespace, &metadata.name);
                *index.spaces.entry(namespace.clone()).or_default() += 1;
                index.namespaces.insert(namespace);
            }
        }
        index
    }

    fn add(&mut self, object: &'a Located<Object>, namespace: &Namespace, name: &str) {
        match &object.value {
            Object::Service(service) => {
                if let Ok(name) = name.try_into() {
                    let selector = service.spec.selector.as_ref().map(labels);
                    let selector = selector.unwrap_or_default();
                    let name = ServiceName::new(namespace.clone(), name);
                    if let Some((key, value)) = selector.0.first_key_value() {
                        let of = self.by_pair.entry(namespace.clone()).or_default();
                        let there = of.entry((key.clone(), value.clone())).or_default();
                        there.push(name.clone());
                    }
                    let entry = ServiceEntry {
                        object,
                        service,
                        labels: labels(&service.metadata.labels),
                        selector,
                    };
                    self.services.insert(name, entry);
                }
            }
            Object::Workload(_) => {
                if let (Ok(name), Some(entry)) = (name.try_into(), workload(object)) {
                    self.workloads
                        .insert(WorkloadName::new(namespace.clone(), name), entry);
                }
            }
            Object::HTTPRoute(_) => {
                if let Some(name) = object_ref(&object.value.key()) {
                    self.routes.insert(name, object);
                }
            }
            Object::AccessPolicy(_)
            | Object::FailoverPolicy(_)
            | Object::Mesh(_)
            | Object::RetryTimeoutPolicy(_)
            | Object::Workspace(_) => {}
        }
    }

    /// The services of a namespace, which stand together.
    pub(crate) fn services_in<'s>(
        &'s self,
        namespace: &'s Namespace,
    ) -> impl Iterator<Item = (&'s ServiceName, &'s ServiceEntry<'a>)> {
        let first = ServiceName::new(namespace.clone(), Name::least());
        let there = self.services.range(first..);
        there.take_while(move |(name, _)| name.namespace == *namespace)
    }

    /// The workloads of a namespace, likewise.
    pub(crate) fn workloads_in<'s>(
        &'s self,
        namespace: &'s Namespace,
    ) -> impl Iterator<Item = (&'s WorkloadName, &'s WorkloadEntry<'a>)> {
        let first = WorkloadName::new(namespace.clone(), Name::least());
        let there = self.workloads.range(first..);
        there.take_while(move |(name, _)| name.namespace == *namespace)
    }

    /// Services of a namespace that select these labels, in the order of names.
    pub(crate) fn services_of<'s>(
        &'s self,
        namespace: &Namespace,
        labels: &Labels,
    ) -> Vec<(&'s ServiceName, &'s ServiceEntry<'a>)> {
        let Some(of) = self.by_pair.get(namespace) else {
            return Vec::new();
        };
        let pairs = labels.0.iter();
        let near = pairs.filter_map(|(key, value)| of.get(&(key.clone(), value.clone())));
        let found = near
            .flatten()
            .filter_map(|name| self.services.get_key_value(name));
        let mut found: Vec<_> = found
            .filter(|(_, entry)| labels.contain(&entry.selector))
            .collect();
        found.sort_by_key(|(name, _)| *name);
        found
    }
}

/// Which labels selectors mention: only those can tell workloads apart.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mentioned(pub(crate) OrdMap<Namespace, Pairs>);

/// Labels that selectors of one namespace mention.
pub(crate) type Pairs = OrdSet<Pair>;

/// Key and value of a label.
pub(crate) type Pair = (Arc<str>, Arc<str>);

impl Mentioned {
    /// What services and the given selectors of policies mention.
    pub(crate) fn new<'s>(
        index: &Index<'_>,
        selectors: impl IntoIterator<Item = (&'s BTreeSet<Namespace>, &'s Labels)>,
    ) -> Self {
        let mut mentioned = Self::default();
        for (name, entry) in &index.services {
            mentioned.add(&name.namespace, &entry.selector);
        }
        for (namespaces, labels) in selectors {
            for namespace in namespaces {
                mentioned.add(namespace, labels);
            }
        }
        mentioned
    }

    fn add(&mut self, namespace: &Namespace, labels: &Labels) {
        let pairs = labels.0.iter();
        let pairs = pairs.map(|(key, value)| (key.clone(), value.clone()));
        self.0.entry(namespace.clone()).or_default().extend(pairs);
    }

    /// The class of a workload.
    pub(crate) fn class(&self, name: &WorkloadName, entry: &WorkloadEntry<'_>) -> ClassKey {
        let pairs = self.0.get(&name.namespace);
        let kept = entry.labels.0.iter().filter(|(key, value)| {
            let pair = ((*key).clone(), (*value).clone());
            pairs.is_some_and(|pairs| pairs.contains(&pair))
        });
        ClassKey {
            namespace: name.namespace.clone(),
            labels: Labels(kept.map(|(k, v)| (k.clone(), v.clone())).collect()),
            service_account: entry.service_account.clone(),
        }
    }
}

/// A Workload in force.
pub(crate) fn workload(object: &Located<Object>) -> Option<WorkloadEntry<'_>> {
    let Object::Workload(workload) = &object.value else {
        return None;
    };
    Some(WorkloadEntry {
        object,
        workload,
        labels: labels(&workload.metadata.labels),
        service_account: workload.spec.service_account.as_str().try_into().ok()?,
    })
}

/// The row of a class, without access policies.
pub(crate) fn class_row(key: ClassKey, index: &Index<'_>) -> ClassRow {
    let selected = index.services_of(&key.namespace, &key.labels);
    ClassRow {
        services: selected.into_iter().map(|(name, _)| name.clone()).collect(),
        access: Vec::new(),
        key,
    }
}

/// Labels as the model has them.
pub(crate) fn labels(written: &BTreeMap<String, String>) -> Labels {
    Labels::from_pairs(
        written
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str())),
    )
}

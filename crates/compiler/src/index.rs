//! The objects in force by what they are, and the classes of workloads that selectors can tell
//! apart.

use std::collections::{BTreeMap, BTreeSet};

use tacit_api::{Located, Object, Service, Workload};
use tacit_model::labels::Labels;
use tacit_model::tables::{ClassKey, ClassRow};
use tacit_model::{Namespace, ObjectRef, ServiceAccount, ServiceName, WorkloadName};

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
                index.namespaces.insert(namespace);
            }
        }
        index
    }

    fn add(&mut self, object: &'a Located<Object>, namespace: &Namespace, name: &str) {
        let labels = labels(&object.value.metadata().labels);
        match &object.value {
            Object::Service(service) => {
                if let Ok(name) = name.try_into() {
                    let selector = service.spec.selector.as_ref().map(self::labels);
                    let selector = selector.unwrap_or_default();
                    let entry = ServiceEntry {
                        object,
                        service,
                        labels,
                        selector,
                    };
                    self.services
                        .insert(ServiceName::new(namespace.clone(), name), entry);
                }
            }
            Object::Workload(workload) => {
                let account = workload.spec.service_account.as_str().try_into();
                if let (Ok(name), Ok(service_account)) = (name.try_into(), account) {
                    let entry = WorkloadEntry {
                        object,
                        workload,
                        labels,
                        service_account,
                    };
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

    /// Services that select a workload.
    pub(crate) fn services_of<'s>(
        &'s self,
        name: &'s WorkloadName,
        labels: &'s Labels,
    ) -> impl Iterator<Item = (&'s ServiceName, &'s ServiceEntry<'a>)> {
        // Services of a namespace stand together; only those are looked at.
        let mine = |service: &&ServiceName| service.namespace == name.namespace;
        self.services
            .iter()
            .filter(move |(service, _)| mine(service))
            .filter(move |(_, entry)| labels.contain(&entry.selector))
    }
}

/// Which labels selectors mention: only those can tell workloads apart.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mentioned(BTreeMap<Namespace, BTreeSet<(String, String)>>);

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
        let pairs = labels
            .0
            .iter()
            .map(|(k, v)| (k.as_ref().to_owned(), v.as_ref().to_owned()));
        self.0.entry(namespace.clone()).or_default().extend(pairs);
    }

    /// The class of a workload.
    pub(crate) fn class(&self, name: &WorkloadName, entry: &WorkloadEntry<'_>) -> ClassKey {
        let pairs = self.0.get(&name.namespace);
        let kept = entry.labels.0.iter().filter(|(key, value)| {
            let pair = (key.as_ref().to_owned(), value.as_ref().to_owned());
            pairs.is_some_and(|pairs| pairs.contains(&pair))
        });
        ClassKey {
            namespace: name.namespace.clone(),
            labels: Labels(kept.map(|(k, v)| (k.clone(), v.clone())).collect()),
            service_account: entry.service_account.clone(),
        }
    }
}

/// The row of a class, without access policies.
pub(crate) fn class_row(key: ClassKey, index: &Index<'_>) -> ClassRow {
    let mine = index
        .services
        .iter()
        .filter(|(name, _)| name.namespace == key.namespace);
    let selected = mine.filter(|(_, entry)| key.labels.contain(&entry.selector));
    ClassRow {
        services: selected.map(|(name, _)| name.clone()).collect(),
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

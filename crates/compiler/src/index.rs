//! The objects in force by what they are, and the classes of workloads that selectors can tell
//! apart.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use imbl::OrdMap;
use tacit_api::{Located, Object, Service, Workload};
use tacit_model::labels::Labels;
use tacit_model::tables::{ClassKey, ClassRow};
use tacit_model::{
    Name, Namespace, NodeName, ObjectRef, ServiceAccount, ServiceName, WorkloadName,
};

use crate::delta::NodeFact;
use crate::endpoints::written_address;
use crate::findings::object_ref;

/// A Service in force.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ServiceEntry<'a> {
    pub(crate) object: &'a Located<Object>,
    pub(crate) service: &'a Service,
}

/// Labels as people write them.
pub(crate) type WrittenLabels = BTreeMap<String, String>;

impl<'a> ServiceEntry<'a> {
    /// What workloads need to be behind it; no pair: none is.
    pub(crate) fn selector(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let pairs = self.service.spec.selector.iter().flatten();
        pairs.map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// The value that workloads need under a key.
    pub(crate) fn selects(&self, key: &str) -> Option<&'a str> {
        let selector = self.service.spec.selector.as_ref()?;
        selector.get(key).map(String::as_str)
    }

    /// True if each of `wanted` is there, as with [`Labels::contain`].
    pub(crate) fn has(&self, wanted: &Labels) -> bool {
        contains(&self.service.metadata.labels, wanted)
    }
}

fn contains(labels: &WrittenLabels, wanted: &Labels) -> bool {
    let has = |(key, value): (&Arc<str>, &Arc<str>)| {
        labels.get(&**key).is_some_and(|found| **found == **value)
    };
    !wanted.0.is_empty() && wanted.0.iter().all(has)
}

/// A Workload in force.
#[derive(Clone, Debug)]
pub(crate) struct WorkloadEntry<'a> {
    pub(crate) object: &'a Located<Object>,
    pub(crate) workload: &'a Workload,
    pub(crate) service_account: ServiceAccount,
    /// The address that is written.
    pub(crate) address: Option<IpAddr>,
    /// Its node, if that has joined.
    pub(crate) node: Option<&'a NodeFact>,
}

impl WorkloadEntry<'_> {
    /// True if each of `wanted` is there, as with [`Labels::contain`].
    pub(crate) fn has(&self, wanted: &Labels) -> bool {
        contains(&self.workload.metadata.labels, wanted)
    }
}

/// What is there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Index<'a> {
    pub(crate) services: BTreeMap<ServiceName, ServiceEntry<'a>>,
    /// In the order of names.
    pub(crate) workloads: Vec<(WorkloadName, WorkloadEntry<'a>)>,
    pub(crate) routes: BTreeMap<ObjectRef, &'a Located<Object>>,
    /// Every namespace with an object in force.
    pub(crate) namespaces: BTreeSet<Namespace>,
    /// How many each of them has.
    pub(crate) spaces: BTreeMap<Namespace, usize>,
    /// Services by one pair of their selector: only workloads with that pair can be behind them.
    by_pair: BTreeMap<Namespace, ByPair<'a>>,
}

/// Services by key and value of a label.
type ByPair<'a> = BTreeMap<&'a str, BTreeMap<&'a str, Vec<(ServiceName, ServiceEntry<'a>)>>>;

impl<'a> Index<'a> {
    /// Sorts objects in force.
    pub(crate) fn new(
        objects: impl IntoIterator<Item = &'a Located<Object>>,
        nodes: &'a OrdMap<NodeName, NodeFact>,
    ) -> Self {
        let mut index = Self::default();
        let mut words = Words::new(nodes);
        // Objects of a namespace stand together, by kind.
        let mut run: Option<(Namespace, usize)> = None;
        for object in objects {
            let metadata = object.value.metadata();
            let written = metadata.namespace.as_deref();
            let Some(namespace) = written.and_then(|text| words.namespace(text)) else {
                continue;
            };
            index.add(object, &namespace, &metadata.name, &mut words);
            match &mut run {
                Some((last, count)) if *last == namespace => *count += 1,
                Some(_) | None => index.count(run.replace((namespace, 1))),
            }
        }
        index.count(run);
        index.workloads.sort_by(|(a, _), (b, _)| a.cmp(b));
        index
    }

    fn count(&mut self, run: Option<(Namespace, usize)>) {
        if let Some((namespace, count)) = run {
            *self.spaces.entry(namespace.clone()).or_default() += count;
            self.namespaces.insert(namespace);
        }
    }

    fn add(
        &mut self,
        object: &'a Located<Object>,
        namespace: &Namespace,
        name: &str,
        words: &mut Words<'a>,
    ) {
        match &object.value {
            Object::Service(service) => {
                if let Ok(name) = name.try_into() {
                    let name = ServiceName::new(namespace.clone(), name);
                    let entry = ServiceEntry { object, service };
                    if let Some((key, value)) = entry.selector().next() {
                        let of = self.by_pair.entry(namespace.clone()).or_default();
                        let there = of.entry(key).or_default().entry(value).or_default();
                        there.push((name.clone(), entry));
                    }
                    self.services.insert(name, entry);
                }
            }
            Object::Workload(_) => {
                if let (Ok(name), Some(entry)) = (name.try_into(), words.workload(object)) {
                    let name = WorkloadName::new(namespace.clone(), name);
                    self.workloads.push((name, entry));
                }
            }
            Object::GRPCRoute(_) | Object::HTTPRoute(_) | Object::TCPRoute(_) => {
                if let Some(name) = object_ref(&object.value.key()) {
                    self.routes.insert(name, object);
                }
            }
            Object::AccessPolicy(_)
            | Object::FailoverPolicy(_)
            | Object::FaultPolicy(_)
            | Object::Mesh(_)
            | Object::RateLimitPolicy(_)
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
    ) -> impl Iterator<Item = &'s (WorkloadName, WorkloadEntry<'a>)> {
        let before = |(name, _): &(WorkloadName, _)| name.namespace < *namespace;
        let first = self.workloads.partition_point(before);
        let there = self.workloads.get(first..).unwrap_or_default().iter();
        there.take_while(move |(name, _)| name.namespace == *namespace)
    }

    /// A workload in force.
    pub(crate) fn workload(&self, name: &WorkloadName) -> Option<&WorkloadEntry<'a>> {
        let at = self
            .workloads
            .binary_search_by(|(other, _)| other.cmp(name));
        self.workloads.get(at.ok()?).map(|(_, entry)| entry)
    }

    /// Services of a namespace that select labels with these values, in the order of names.
    pub(crate) fn services_of<'s, 'v>(
        &'s self,
        namespace: &Namespace,
        value_of: impl Fn(&str) -> Option<&'v str>,
    ) -> Vec<(&'s ServiceName, &'s ServiceEntry<'a>)> {
        let Some(of) = self.by_pair.get(namespace) else {
            return Vec::new();
        };
        let keys = of.iter();
        let near = keys.filter_map(|(key, services)| services.get(value_of(key)?));
        let selects = |(_, entry): &&(ServiceName, ServiceEntry<'_>)| {
            let mut pairs = entry.selector();
            pairs.all(|(key, value)| value_of(key) == Some(value))
        };
        let found = near.flatten().filter(selects);
        let mut found: Vec<_> = found.map(|(name, entry)| (name, entry)).collect();
        found.sort_by_key(|(name, _)| *name);
        found
    }
}

/// What many objects name, made or found once.
#[derive(Debug)]
struct Words<'a> {
    /// The last one: objects of a namespace stand together.
    namespace: Option<Namespace>,
    accounts: HashMap<&'a str, ServiceAccount>,
    joined: &'a OrdMap<NodeName, NodeFact>,
    nodes: HashMap<&'a str, Option<&'a NodeFact>>,
}

impl<'a> Words<'a> {
    fn new(joined: &'a OrdMap<NodeName, NodeFact>) -> Self {
        Self {
            namespace: None,
            accounts: HashMap::new(),
            joined,
            nodes: HashMap::new(),
        }
    }

    fn namespace(&mut self, text: &str) -> Option<Namespace> {
        let same = |last: &&Namespace| last.as_str() == text;
        if let Some(last) = self.namespace.as_ref().filter(same) {
            return Some(last.clone());
        }
        self.namespace = text.try_into().ok();
        self.namespace.clone()
    }

    fn workload(&mut self, object: &'a Located<Object>) -> Option<WorkloadEntry<'a>> {
        let Object::Workload(workload) = &object.value else {
            return None;
        };
        let account = workload.spec.service_account.as_str();
        let service_account = match self.accounts.get(account) {
            Some(known) => known.clone(),
            None => {
                let made = ServiceAccount::try_from(account).ok()?;
                self.accounts.insert(account, made.clone());
                made
            }
        };
        let node = workload.spec.node.as_str();
        let find = || self.joined.get(node);
        Some(WorkloadEntry {
            object,
            workload,
            service_account,
            address: written_address(workload.spec.address.as_deref()),
            node: *self.nodes.entry(node).or_insert_with(find),
        })
    }
}

/// Which labels selectors mention: only those can tell workloads apart.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mentioned(pub(crate) OrdMap<Namespace, Pairs>);

/// Labels that selectors of one namespace mention: values by key.
pub(crate) type Pairs = OrdMap<Arc<str>, OrdMap<Arc<str>, ()>>;

/// Key and value of a label.
type Pair = (Arc<str>, Arc<str>);

impl Mentioned {
    /// What services and the given selectors of policies mention.
    pub(crate) fn new<'s>(
        index: &Index<'_>,
        selectors: impl IntoIterator<Item = (&'s BTreeSet<Namespace>, &'s Labels)>,
    ) -> Self {
        let mut mentioned = Self::default();
        for (name, entry) in &index.services {
            mentioned.add(&name.namespace, entry.selector());
        }
        for (namespaces, labels) in selectors {
            for namespace in namespaces {
                let pairs = labels.0.iter();
                mentioned.add(namespace, pairs.map(|(key, value)| (&**key, &**value)));
            }
        }
        mentioned
    }

    fn add<'l>(&mut self, namespace: &Namespace, pairs: impl Iterator<Item = (&'l str, &'l str)>) {
        let known = self.0.entry(namespace.clone()).or_default();
        for (key, value) in pairs {
            if !known.contains_key(key) {
                known.insert(key.into(), OrdMap::new());
            }
            let values = known.get_mut(key);
            if let Some(values) = values.filter(|values| !values.contains_key(value)) {
                values.insert(value.into(), ());
            }
        }
    }
}

/// Puts workloads into classes. One key serves all workloads of a class.
#[derive(Debug)]
pub(crate) struct Classifier<'m> {
    mentioned: &'m Mentioned,
    /// The last one: workloads of a namespace stand together.
    namespace: Option<(Namespace, Option<&'m Pairs>)>,
    known: HashMap<(Vec<Pair>, ServiceAccount), Arc<ClassKey>>,
}

impl<'m> Classifier<'m> {
    pub(crate) fn new(mentioned: &'m Mentioned) -> Self {
        Self {
            mentioned,
            namespace: None,
            known: HashMap::new(),
        }
    }

    /// The class of a workload.
    pub(crate) fn class(
        &mut self,
        name: &WorkloadName,
        entry: &WorkloadEntry<'_>,
    ) -> Arc<ClassKey> {
        let namespace = &name.namespace;
        let pairs = match &self.namespace {
            Some((last, pairs)) if last == namespace => *pairs,
            Some(_) | None => {
                self.known.clear();
                let pairs = self.mentioned.0.get(namespace);
                self.namespace = Some((namespace.clone(), pairs));
                pairs
            }
        };
        let mut kept = Vec::new();
        for (key, value) in &entry.workload.metadata.labels {
            let found = pairs.and_then(|pairs| {
                let (key, values) = pairs.get_key_value(key.as_str())?;
                let (value, ()) = values.get_key_value(value.as_str())?;
                Some((key.clone(), value.clone()))
            });
            kept.extend(found);
        }
        let account = entry.service_account.clone();
        let class = self.known.entry((kept, account));
        let class = class.or_insert_with_key(|(kept, service_account)| {
            Arc::new(ClassKey {
                namespace: namespace.clone(),
                labels: Labels(kept.iter().cloned().collect()),
                service_account: service_account.clone(),
            })
        });
        class.clone()
    }
}

/// A Workload in force.
pub(crate) fn workload<'a>(
    object: &'a Located<Object>,
    nodes: &'a OrdMap<NodeName, NodeFact>,
) -> Option<WorkloadEntry<'a>> {
    Words::new(nodes).workload(object)
}

/// The row of a class, without access policies.
pub(crate) fn class_row(key: Arc<ClassKey>, index: &Index<'_>) -> ClassRow {
    let selected = index.services_of(&key.namespace, |label| key.labels.value(label));
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

//! What is kept of a compilation so that a change of workloads need not look at everything.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use tacit_api::{Object, ObjectKey};
use tacit_model::labels::Labels;
use tacit_model::tables::{ClassKey, WorkloadRow};
use tacit_model::{Locality, Namespace, ServiceAccount, ServiceName, WorkloadName};

use crate::compile::Mesh;
use crate::endpoints::Given;
use crate::findings::{ADDRESS_TAKEN, RANGE_FULL};
use crate::index::{Mentioned, Pairs};
use crate::policies::Placed;
use crate::status::Facts;
use crate::targets::Hit;
use crate::{access, failover};

/// Indexes over what was compiled. A copy is some pointers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kept {
    /// The Mesh in force.
    pub(crate) mesh: Option<ObjectKey>,
    /// How many objects in force each namespace has.
    pub(crate) spaces: OrdMap<Namespace, usize>,
    /// Labels that selectors mention: only those make classes.
    pub(crate) mentioned: OrdMap<Namespace, Pairs>,
    /// Who has an address, of workloads.
    pub(crate) holders: OrdMap<IpAddr, WorkloadName>,
    /// True if somebody waits for an address that another one has.
    pub(crate) disputed: bool,
    /// The workloads of each class.
    pub(crate) classes: OrdMap<Arc<ClassKey>, OrdSet<WorkloadName>>,
    /// How many workloads are at each place.
    pub(crate) places: OrdMap<Locality, usize>,
    /// Workloads whose ports disagree with a Service.
    pub(crate) troubled: OrdSet<WorkloadName>,
    /// What policies select workloads by, in each namespace.
    pub(crate) selectors: OrdMap<Namespace, Arc<Vec<Labels>>>,
    /// Targets of access policies that a port which is not HTTP concerns.
    pub(crate) opaque: Arc<Vec<Vec<Hit>>>,
    /// FailoverPolicies whose status counts the endpoints of a service.
    pub(crate) watchers: OrdMap<ServiceName, Arc<BTreeSet<ObjectKey>>>,
    /// The services that each of them applies to.
    pub(crate) watched: OrdMap<ObjectKey, Arc<BTreeSet<ServiceName>>>,
}

impl Kept {
    pub(crate) fn new(
        mesh: &Mesh<'_>,
        facts: &Facts<'_, '_>,
        mentioned: Mentioned,
        given: &Given,
        troubled: OrdSet<WorkloadName>,
    ) -> Self {
        let disputes = [ADDRESS_TAKEN.code, RANGE_FULL.code];
        let mut findings = given.findings.iter();
        let mut kept = Self {
            mesh: mesh.settings.object.map(|object| object.value.key()),
            spaces: mesh
                .index
                .spaces
                .iter()
                .map(|(k, v)| (k.clone(), *v))
                .collect(),
            mentioned: mentioned.0,
            disputed: findings.any(|finding| disputes.contains(&&*finding.code)),
            troubled,
            selectors: selectors(facts.placed),
            opaque: Arc::new(opaque(facts.placed)),
            ..Self::default()
        };
        kept.watch(facts);
        let mut places: BTreeMap<&Locality, usize> = BTreeMap::new();
        // The workloads of a class share its key: comparing addresses is enough.
        let mut classes: HashMap<*const ClassKey, (_, Vec<_>)> = HashMap::new();
        for row in facts.workloads {
            kept.holders.insert(row.address, row.name.clone());
            *places.entry(&row.locality).or_default() += 1;
            let class = classes.entry(Arc::as_ptr(&row.class));
            let (_, members) = class.or_insert_with(|| (&row.class, Vec::new()));
            members.push(row.name.clone());
        }
        let places = places.into_iter();
        kept.places = places.map(|(at, count)| (at.clone(), count)).collect();
        let classes = classes.into_values();
        let class = |(key, members): (&Arc<ClassKey>, Vec<WorkloadName>)| {
            let members: OrdSet<WorkloadName> = members.into_iter().collect();
            (key.clone(), members)
        };
        kept.classes = classes.map(class).collect();
        kept
    }

    /// Notes which policies count the endpoints of which services.
    fn watch(&mut self, facts: &Facts<'_, '_>) {
        let mut watchers: BTreeMap<ServiceName, BTreeSet<ObjectKey>> = BTreeMap::new();
        for policy in facts.placed {
            let Some(version) = policy.in_force else {
                continue;
            };
            let Object::FailoverPolicy(_) = &version.value else {
                continue;
            };
            let (key, hit) = (version.value.key(), facts.services.hit.get(&policy.object));
            let hit = hit.cloned().unwrap_or_default();
            for name in &hit {
                let row = facts.services.rows.get(name);
                let failover = row.and_then(|row| row.failover.as_ref());
                let fallbacks = failover.into_iter().flat_map(failover::fallbacks_of);
                for name in fallbacks.chain([name]) {
                    watchers
                        .entry(name.clone())
                        .or_default()
                        .insert(key.clone());
                }
            }
            self.watched.insert(key, Arc::new(hit));
        }
        let watchers = watchers.into_iter();
        self.watchers = watchers.map(|(name, of)| (name, Arc::new(of))).collect();
    }

    /// The classes of one namespace, which stand together.
    pub(crate) fn classes_in<'k>(
        &'k self,
        namespace: &'k Namespace,
    ) -> impl Iterator<Item = (&'k Arc<ClassKey>, &'k OrdSet<WorkloadName>)> {
        let first = ClassKey {
            namespace: namespace.clone(),
            labels: Labels::default(),
            service_account: ServiceAccount::least(),
        };
        let there = self.classes.range(first..);
        there.take_while(move |(key, _)| key.namespace == *namespace)
    }

    /// A workload is there.
    pub(crate) fn add(&mut self, row: &WorkloadRow) {
        self.holders.insert(row.address, row.name.clone());
        *self.places.entry(row.locality.clone()).or_default() += 1;
        let members = self.classes.entry(row.class.clone()).or_default();
        members.insert(row.name.clone());
    }

    /// A workload is gone, or no longer so.
    pub(crate) fn remove(&mut self, row: &WorkloadRow) {
        if self.holders.get(&row.address) == Some(&row.name) {
            self.holders.remove(&row.address);
        }
        if let Some(count) = self.places.get_mut(&row.locality) {
            *count -= 1;
            if *count == 0 {
                self.places.remove(&row.locality);
            }
        }
        if let Some(members) = self.classes.get_mut(&*row.class) {
            members.remove(&row.name);
            if members.is_empty() {
                self.classes.remove(&*row.class);
            }
        }
    }
}

fn selectors(placed: &[Placed<'_>]) -> OrdMap<Namespace, Arc<Vec<Labels>>> {
    let mut found: BTreeMap<Namespace, Vec<Labels>> = BTreeMap::new();
    for hit in placed.iter().flat_map(|policy| &policy.hits) {
        if let Hit::Workloads { namespaces, labels } = hit {
            for namespace in namespaces {
                let there = found.entry(namespace.clone()).or_default();
                there.push(labels.clone());
            }
        }
    }
    let found = found.into_iter();
    found
        .map(|(name, labels)| (name, Arc::new(labels)))
        .collect()
}

/// The targets of policies whose conditions a port that is not HTTP hides.
fn opaque(placed: &[Placed<'_>]) -> Vec<Vec<Hit>> {
    let hides = |policy: &&Placed<'_>| match policy.in_force.map(|version| &version.value) {
        Some(Object::AccessPolicy(found)) => access::needs_http(&found.spec).next().is_some(),
        Some(_) | None => false,
    };
    let policies = placed.iter().filter(hides);
    policies.map(|policy| policy.hits.clone()).collect()
}

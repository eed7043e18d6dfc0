//! What is kept of a compilation so that a change of workloads need not look at everything.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use tacit_api::{Kind, Object, ObjectKey};
use tacit_model::labels::Labels;
use tacit_model::route::{RouteKey, RouteRow};
use tacit_model::tables::{ClassKey, WorkloadRow};
use tacit_model::{
    Locality, Namespace, PolicyName, ServiceAccount, ServiceName, Tables, WorkloadName,
};

use crate::compile::{Made, Mesh, is_access};
use crate::findings::{ADDRESS_TAKEN, RANGE_FULL};
use crate::groups::Groups;
use crate::index::Pairs;
use crate::policies::Placed;
use crate::status::Facts;
use crate::targets::Hit;
use crate::{access, failover, packed};

/// Indexes over what was compiled. A copy is some pointers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kept {
    /// The Mesh in force.
    pub(crate) mesh: Option<ObjectKey>,
    /// How many objects in force each namespace has.
    pub(crate) spaces: OrdMap<Namespace, usize>,
    /// Labels that selectors mention: only those make classes.
    pub(crate) mentioned: OrdMap<Namespace, Pairs>,
    /// Addresses that workloads have.
    pub(crate) holders: OrdSet<IpAddr>,
    /// True if somebody waits for an address that another one has.
    pub(crate) disputed: bool,
    /// The workloads of each class.
    pub(crate) classes: OrdMap<Arc<ClassKey>, OrdSet<WorkloadName>>,
    /// How many workloads are at each place.
    pub(crate) places: OrdMap<Locality, usize>,
    /// Workloads whose ports disagree with a Service.
    pub(crate) troubled: OrdSet<WorkloadName>,
    /// What policies select workloads by, in each namespace, in the order of their names.
    pub(crate) selectors: OrdMap<Namespace, Arc<Vec<(PolicyName, Labels)>>>,
    /// Targets of access policies that a port which is not HTTP concerns.
    pub(crate) opaque: OrdMap<PolicyName, Arc<Vec<Hit>>>,
    /// Namespaces whose policies reach others: the root namespace and the homes.
    pub(crate) wide: Arc<BTreeSet<Namespace>>,
    /// True if a policy that gives services values reaches beyond its namespace.
    pub(crate) wide_values: bool,
    /// Namespaces with a route, or with a parent of one.
    pub(crate) routed: Arc<BTreeSet<Namespace>>,
    /// FailoverPolicies whose status counts the endpoints of a service.
    pub(crate) watchers: OrdMap<ServiceName, Arc<BTreeSet<ObjectKey>>>,
    /// The services that each policy which gives values applies to.
    pub(crate) hit: OrdMap<ObjectKey, Arc<BTreeSet<ServiceName>>>,
}

impl Kept {
    pub(crate) fn new(
        mesh: &Mesh<'_>,
        facts: &Facts<'_, '_>,
        groups: &Groups<'_>,
        made: &Made<'_>,
    ) -> Self {
        let disputes = [ADDRESS_TAKEN.code, RANGE_FULL.code];
        let mut findings = made.findings.iter();
        let mut kept = Self {
            mesh: mesh.settings.object.map(|object| object.value.key()),
            spaces: mesh
                .index
                .spaces
                .iter()
                .map(|(k, v)| (k.clone(), *v))
                .collect(),
            mentioned: made.mentioned.0.clone(),
            disputed: findings.any(|finding| disputes.contains(&&*finding.code)),
            troubled: made.troubled.clone(),
            selectors: selectors(facts.placed),
            opaque: opaque(facts.placed),
            routed: Arc::new(routed(&made.routes)),
            ..Self::default()
        };
        let wide = wide(mesh);
        let gives =
            |policy: &Placed<'_>| !is_access(policy) && wide.contains(&policy.name.namespace);
        kept.wide_values = facts.placed.iter().any(gives);
        kept.wide = Arc::new(wide);
        kept.watch(facts);
        let mut addresses: Vec<IpAddr> = facts.workloads.iter().map(|row| row.address).collect();
        addresses.sort_unstable();
        kept.holders = packed::set(addresses);
        let places = groups.places.iter();
        kept.places = places.map(|(at, count)| ((*at).clone(), *count)).collect();
        let class = |(key, rows): &(&Arc<ClassKey>, Vec<&Arc<WorkloadRow>>)| {
            let members = packed::set(rows.iter().map(|row| row.name.clone()));
            ((*key).clone(), members)
        };
        kept.classes = packed::map(groups.classes.iter().map(class));
        kept
    }

    /// Notes what policies apply to, and which of them count the endpoints of which services.
    pub(crate) fn watch(&mut self, facts: &Facts<'_, '_>) {
        for policy in facts.placed {
            let Some(version) = policy.in_force else {
                continue;
            };
            let Some(hit) = facts.services.hit.get(&policy.object) else {
                continue;
            };
            let key = version.value.key();
            self.hit.insert(key.clone(), Arc::new(hit.clone()));
            if policy.kind != Kind::FailoverPolicy {
                continue;
            }
            for name in hit {
                let row = facts.services.rows.get(name);
                let failover = row.and_then(|row| row.failover.as_ref());
                let fallbacks = failover.into_iter().flat_map(failover::fallbacks_of);
                for name in fallbacks.chain([name]) {
                    let watchers = self.watchers.entry(name.clone()).or_default();
                    Arc::make_mut(watchers).insert(key.clone());
                }
            }
        }
    }

    /// Forgets what a policy applied to and counted, as the tables were.
    pub(crate) fn forget(&mut self, policy: &ObjectKey, tables: &Tables) {
        let hit = self.hit.remove(policy);
        for name in hit.iter().flat_map(|hit| hit.iter()) {
            let failover = tables.service(name).and_then(|row| row.failover.as_ref());
            let fallbacks = failover.into_iter().flat_map(failover::fallbacks_of);
            for name in fallbacks.chain([name]) {
                let Some(watchers) = self.watchers.get_mut(name) else {
                    continue;
                };
                let watchers = Arc::make_mut(watchers);
                watchers.remove(policy);
                if watchers.is_empty() {
                    self.watchers.remove(name);
                }
            }
        }
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
        self.holders.insert(row.address);
        *self.places.entry(row.locality.clone()).or_default() += 1;
        let members = self.classes.entry(row.class.clone()).or_default();
        members.insert(row.name.clone());
    }

    /// A workload is gone, or no longer so.
    pub(crate) fn remove(&mut self, row: &WorkloadRow) {
        self.holders.remove(&row.address);
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

fn selectors(placed: &[Placed<'_>]) -> OrdMap<Namespace, Arc<Vec<(PolicyName, Labels)>>> {
    let mut found: BTreeMap<Namespace, Vec<(PolicyName, Labels)>> = BTreeMap::new();
    for policy in placed.iter().filter(|policy| is_access(policy)) {
        for hit in policy.hits.iter() {
            if let Hit::Workloads { namespaces, labels } = hit {
                for namespace in namespaces {
                    let there = found.entry(namespace.clone()).or_default();
                    there.push((policy.name.clone(), labels.clone()));
                }
            }
        }
    }
    let found = found.into_iter();
    found
        .map(|(name, labels)| (name, Arc::new(labels)))
        .collect()
}

/// The targets of policies whose conditions a port that is not HTTP hides.
fn opaque(placed: &[Placed<'_>]) -> OrdMap<PolicyName, Arc<Vec<Hit>>> {
    let policies = placed.iter().filter(|policy| looks_at_requests(policy));
    policies
        .map(|policy| (policy.name.clone(), policy.hits.clone()))
        .collect()
}

/// True for an AccessPolicy with conditions that a port which is not HTTP hides.
pub(crate) fn looks_at_requests(policy: &Placed<'_>) -> bool {
    match policy.in_force.map(|version| &version.value) {
        Some(Object::AccessPolicy(found)) => access::needs_http(&found.spec).next().is_some(),
        Some(_) | None => false,
    }
}

fn routed(routes: &BTreeMap<RouteKey, RouteRow>) -> BTreeSet<Namespace> {
    let rows = routes.iter();
    rows.flat_map(|(key, row)| [&key.parent.namespace, &row.namespace])
        .cloned()
        .collect()
}

fn wide(mesh: &Mesh<'_>) -> BTreeSet<Namespace> {
    let tenants = mesh.world.tenants();
    let homes = tenants.all().iter();
    let homes = homes.filter_map(|tenant| tenant.spec.home.as_deref());
    homes
        .chain([tenants.root_namespace()])
        .filter_map(|name| name.try_into().ok())
        .collect()
}

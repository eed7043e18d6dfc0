//! Turns all inputs into all tables, findings and statuses, topic by topic.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use tacit_api::{Located, Object, ObjectKey, Service};
use tacit_model::access::Mode;
use tacit_model::finding::{Finding, Severity};
use tacit_model::route::{RouteKey, RouteRow};
use tacit_model::status::ObjectStatus;
use tacit_model::tables::{AccessRow, ClassKey, ClassRow, NamespaceRow, RunGrantRow, WorkloadRow};
use tacit_model::{
    Name, Namespace, NodeName, ObjectRef, PolicyName, Row, ServiceName, Tables, WorkloadName,
    WorkspaceName,
};

use crate::access::{self, Classes, ServicePorts};
use crate::armed::{Map, counted};
use crate::attach::Loss;
use crate::delta::{Addresses, NodeFact, Written};
use crate::endpoints;
use crate::findings::{OVERRIDDEN, at, of_syntax};
use crate::grants::World;
use crate::groups::Groups;
use crate::index::{Index, Mentioned, class_row};
use crate::judge::{Judged, judge};
use crate::kept::Kept;
use crate::lint::{self, Tenancies};
use crate::mesh::Settings;
use crate::policies::{Placed, place};
use crate::services::{self, Services};
use crate::state::{Entry, Inputs};
use crate::status::{Facts, statuses};
use crate::targets::{Hit, Resolver};
use crate::{Ranges, failover, fault, packed, rate_limit, routes};

/// What inputs compile to. A copy is some pointers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Compiled {
    pub(crate) tables: Tables,
    /// By the object that they are about, sorted.
    pub(crate) findings: OrdMap<Option<ObjectRef>, Arc<Vec<Finding>>>,
    /// Of objects of which there is more to say than that they are accepted.
    pub(crate) statuses: OrdMap<ObjectRef, Arc<ObjectStatus>>,
    /// Objects whose written version is not in force.
    pub(crate) instead: OrdMap<ObjectKey, Instead>,
    pub(crate) addresses: Addresses,
    pub(crate) wake_at: Option<i64>,
    pub(crate) ranges: Option<Ranges>,
    /// What each AccessPolicy applies to.
    pub(crate) access_targets: OrdMap<PolicyName, Arc<Vec<Hit>>>,
    /// The namespaces of each workspace.
    pub(crate) members: Arc<BTreeMap<WorkspaceName, BTreeSet<Namespace>>>,
    /// What a change of workloads looks up.
    pub(crate) kept: Kept,
}

/// What is in force of an object instead of what is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Instead {
    LastGood,
    Nothing,
    /// Nothing, for what its targets are. By itself it is valid, so its namespace is known.
    Rejected,
}

impl Compiled {
    /// The version of an object in force.
    pub(crate) fn in_force<'i>(
        &self,
        key: &ObjectKey,
        entry: &'i Entry,
    ) -> Option<&'i Located<Object>> {
        match (self.instead.get(key), &entry.written) {
            (Some(Instead::LastGood), _) => entry.last_good.as_deref(),
            (Some(Instead::Nothing | Instead::Rejected), _) => None,
            (None, Written::Ok(object)) => Some(object),
            (None, Written::Duplicate(_) | Written::Unparsable(_)) => None,
        }
    }
}

impl Compiled {
    /// What AccessPolicies apply to that may reach a namespace: its own, and those of namespaces
    /// that reach others. In the order of their names.
    pub(crate) fn access_over(&self, namespace: &Namespace) -> Vec<(&PolicyName, &Arc<Vec<Hit>>)> {
        let mut homes = BTreeSet::clone(&self.kept.wide);
        homes.insert(namespace.clone());
        let of = |home: Namespace| {
            let first = PolicyName::new(home.clone(), Name::least());
            let there = self.access_targets.range(first..);
            there.take_while(move |(name, _)| name.namespace == home)
        };
        homes.into_iter().flat_map(of).collect()
    }
}

/// What the topics share: the objects in force, sorted out.
pub(crate) struct Mesh<'a> {
    pub(crate) settings: Settings<'a>,
    pub(crate) index: Index<'a>,
    pub(crate) world: World<'a>,
    pub(crate) ports: ServicePorts,
}

impl<'a> Mesh<'a> {
    /// Sorts out objects in force.
    pub(crate) fn new(
        in_force: &[&'a Located<Object>],
        settings: Settings<'a>,
        nodes: &'a OrdMap<NodeName, NodeFact>,
    ) -> Self {
        let index = Index::new(in_force.iter().copied(), nodes);
        let ports = index.services.iter();
        let ports =
            ports.map(|(name, entry)| (name.clone(), endpoints::ports_of(&entry.service.spec)));
        Self {
            settings,
            ports: ports.collect(),
            index,
            world: World::new(in_force.iter().copied()),
        }
    }

    /// The Services in force, in the order of names.
    pub(crate) fn services(&self) -> Vec<&'a Service> {
        self.index
            .services
            .values()
            .map(|entry| entry.service)
            .collect()
    }
}

/// Compiles everything.
pub(crate) fn compile(inputs: &Inputs) -> Compiled {
    everything(inputs, None).0
}

/// Advice about everything, sorted.
pub(crate) fn advice(inputs: &Inputs) -> Vec<Finding> {
    let mut findings = everything(inputs, Some(lint::findings)).1;
    sort(&mut findings);
    findings
}

/// Compiles everything, and lets `advise` look at all of it.
fn everything(
    inputs: &Inputs,
    advise: Option<fn(&lint::World<'_, '_>) -> Vec<Finding>>,
) -> (Compiled, Vec<Finding>) {
    let (mut judged, settings) = judge(inputs);
    let Some(settings) = settings else {
        // A Mesh in force has valid names, and so do the defaults: there are always settings.
        return Default::default();
    };
    let mesh = Mesh::new(&in_force(&judged), settings, &inputs.nodes);
    let made = make(inputs, &mut judged, &mesh);
    let Made {
        placed, services, ..
    } = &made;
    let groups = Groups::new(&made.workloads);
    let classes = classes(&mesh.index, &groups, services, placed);
    let counted = counted(placed, services);
    let wanted = |name: &ServiceName| advise.is_some() || counted.contains(name);
    let map = Map::new(&groups, &classes, &wanted, &inputs.ready);
    let facts = Facts {
        judged: &judged,
        placed,
        services,
        workloads: &made.workloads,
        map: &map,
        exists: &|name| services.rows.contains_key(name),
    };
    let mut findings = of_objects(&mesh, &facts);
    findings.extend(inputs.file_errors.iter().map(of_syntax));
    findings.extend(made.findings.iter().cloned());
    sort(&mut findings);
    let statuses = statuses(&facts, &findings);
    let tenancies = tenancies(&mesh);
    let advice = advise.map(|advise| {
        let (classes, tenancies) = (&classes, &tenancies);
        advise(&lint::World::new(
            &mesh, &facts, classes, tenancies, inputs.now,
        ))
    });
    let (grants, wake_at) = run_grants(&mesh, inputs.now, services.fault_ends);
    let kept = Kept::new(&mesh, &facts, &groups, &made);
    let compiled = Compiled {
        findings: by_object(findings),
        statuses: by_name(statuses),
        instead: instead(&judged),
        wake_at,
        ranges: Some(mesh.settings.ranges),
        access_targets: access_targets(placed),
        members: Arc::new(mesh.world.tenants().all_members(&mesh.index.namespaces)),
        kept,
        addresses: made.addresses.clone(),
        tables: tables(&mesh, made, classes, grants, tenancies),
    };
    (compiled, advice.unwrap_or_default())
}

/// What is made of the objects, in this order.
pub(crate) struct Made<'a> {
    pub(crate) placed: Vec<Placed<'a>>,
    pub(crate) addresses: Addresses,
    pub(crate) mentioned: Mentioned,
    /// In the order of names.
    pub(crate) workloads: Vec<Arc<WorkloadRow>>,
    /// Workloads whose ports disagree with a Service.
    pub(crate) troubled: OrdSet<WorkloadName>,
    pub(crate) services: Services,
    pub(crate) routes: BTreeMap<RouteKey, RouteRow>,
    /// About addresses, ports and routes.
    pub(crate) findings: Vec<Finding>,
}

fn make<'a>(inputs: &Inputs, judged: &mut Vec<Judged<'a>>, mesh: &Mesh<'a>) -> Made<'a> {
    let resolver = Resolver {
        index: &mesh.index,
        tenants: mesh.world.tenants(),
    };
    routes::withdraw(judged, &mesh.world);
    let placed = place(judged, &resolver, &mesh.world, &mesh.ports);
    let given = endpoints::addresses(&mesh.index, &mesh.settings, inputs);
    let hits = placed.iter().flat_map(|policy| policy.hits.iter());
    let mentioned = Mentioned::new(&mesh.index, hits.filter_map(selector));
    let (workloads, of_ports, troubled) =
        endpoints::workload_rows(&mesh.index, &mentioned, &given, &mesh.settings, inputs);
    let services = services::all(mesh, &placed, &resolver, &given.services, inputs.now);
    let routes = routes::build(judged, &placed, &resolver, &services);
    let mut findings = given.findings;
    findings.extend(of_ports.into_iter().chain(routes.findings));
    Made {
        placed,
        addresses: given.addresses,
        mentioned,
        workloads,
        troubled,
        services,
        routes: routes.rows,
        findings,
    }
}

/// The versions in force.
fn in_force<'a>(judged: &[Judged<'a>]) -> Vec<&'a Located<Object>> {
    judged.iter().filter_map(|found| found.in_force).collect()
}

fn by_name(statuses: Vec<ObjectStatus>) -> OrdMap<ObjectRef, Arc<ObjectStatus>> {
    let named = |status: ObjectStatus| (status.object.clone(), Arc::new(status));
    statuses.into_iter().map(named).collect()
}

/// Groups findings that are sorted.
fn by_object(findings: Vec<Finding>) -> OrdMap<Option<ObjectRef>, Arc<Vec<Finding>>> {
    let mut groups: BTreeMap<Option<ObjectRef>, Vec<Finding>> = BTreeMap::new();
    for finding in findings {
        let of = groups.entry(finding.object.clone()).or_default();
        of.push(finding);
    }
    let groups = groups.into_iter();
    groups.map(|(of, found)| (of, Arc::new(found))).collect()
}

/// What a target selects workloads by, and where.
pub(crate) fn selector(hit: &Hit) -> Option<(&BTreeSet<Namespace>, &tacit_model::labels::Labels)> {
    match hit {
        Hit::Workloads { namespaces, labels } => Some((namespaces, labels)),
        Hit::All { .. } | Hit::Route { .. } | Hit::Service { .. } => None,
    }
}

/// The classes of the workloads, with their services and access policies.
fn classes(
    index: &Index<'_>,
    groups: &Groups<'_>,
    services: &Services,
    placed: &[Placed<'_>],
) -> BTreeMap<Arc<ClassKey>, ClassRow> {
    let mut classes = Classes::new();
    for (key, _) in &groups.classes {
        let mut class = class_row((*key).clone(), index);
        let is_there = |service: &ServiceName| services.rows.contains_key(service);
        class.services.retain(is_there);
        let there = classes.entry(key.namespace.clone()).or_default();
        there.insert((*key).clone(), class);
    }
    // In the order of names, so that attachments are sorted by policy.
    for policy in placed.iter().filter(|policy| is_access(policy)) {
        access::attach(&policy.name, &policy.hits, &mut classes);
    }
    classes.into_values().flatten().collect()
}

fn access_targets(placed: &[Placed<'_>]) -> OrdMap<PolicyName, Arc<Vec<Hit>>> {
    let policies = placed.iter().filter(|policy| is_access(policy));
    policies
        .map(|policy| (policy.name.clone(), policy.hits.clone()))
        .collect()
}

pub(crate) fn is_access(policy: &Placed<'_>) -> bool {
    policy.kind == tacit_api::Kind::AccessPolicy
}

/// Findings about objects: by themselves, about their targets, and between Workspaces.
fn of_objects(mesh: &Mesh<'_>, facts: &Facts<'_, '_>) -> Vec<Finding> {
    let tenants = mesh.world.tenants();
    let mut findings = tenants.findings(&mesh.index.namespaces, &mesh.services());
    findings.extend(
        facts
            .judged
            .iter()
            .flat_map(|found| found.findings.iter().cloned()),
    );
    findings.extend(
        facts
            .placed
            .iter()
            .flat_map(|policy| policy.findings.iter().cloned()),
    );
    findings.extend(of_policies(mesh, facts));
    findings
}

/// Findings about policies that need the rows.
fn of_policies(mesh: &Mesh<'_>, facts: &Facts<'_, '_>) -> Vec<Finding> {
    let found = facts
        .placed
        .iter()
        .map(|policy| of_policy(mesh, facts, policy));
    found.flatten().collect()
}

/// Findings about one policy that need the rows.
pub(crate) fn of_policy(
    mesh: &Mesh<'_>,
    facts: &Facts<'_, '_>,
    policy: &Placed<'_>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let Some(version) = policy.in_force else {
        return findings;
    };
    match &version.value {
        Object::AccessPolicy(found) => {
            let (spec, hits, ports) = (&found.spec, &policy.hits, &mesh.ports);
            let opaque = access::opaque_in_scope(version, spec, hits, ports, facts.workloads);
            findings.extend(opaque);
            findings.extend(access::ports_of_services(version, spec, hits, ports));
            let tenants = mesh.world.tenants();
            findings.extend(access::unknown_workspaces(version, spec, tenants));
        }
        Object::FailoverPolicy(found) => {
            let none = BTreeSet::new();
            let hit = facts.services.hit.get(&policy.object).unwrap_or(&none);
            let endpoints = hit.iter().flat_map(|name| facts.map.endpoints(name));
            let endpoints: Vec<_> = endpoints.map(|row| &row.locality).collect();
            let (parts, home) = (failover::Parts::of(&found.spec), &policy.name.namespace);
            let exists = facts.exists;
            let dangling = failover::dangling(version, &parts, home, hit, exists, &endpoints);
            findings.extend(dangling);
        }
        Object::FaultPolicy(_) => {
            let none = BTreeSet::new();
            let hit = facts.services.hit.get(&policy.object).unwrap_or(&none);
            findings.extend(fault::opaque(version, hit, &mesh.ports));
        }
        Object::RateLimitPolicy(_) => {
            let none = BTreeSet::new();
            let hit = facts.services.hit.get(&policy.object).unwrap_or(&none);
            findings.extend(rate_limit::opaque(version, hit, &mesh.ports));
        }
        Object::GRPCRoute(_)
        | Object::HTTPRoute(_)
        | Object::Mesh(_)
        | Object::RetryTimeoutPolicy(_)
        | Object::Service(_)
        | Object::TCPRoute(_)
        | Object::Workload(_)
        | Object::Workspace(_) => {}
    }
    findings.extend(overridden(policy, version, facts.services));
    findings
}

/// Says so if a policy loses every field at every service that it applies to.
fn overridden(
    policy: &Placed<'_>,
    version: &Located<Object>,
    services: &Services,
) -> Option<Finding> {
    let hit = services
        .hit
        .get(&policy.object)
        .filter(|hit| !hit.is_empty())?;
    let own = |name: &ServiceName| -> Option<&Loss> {
        services
            .losses
            .get(name)?
            .iter()
            .find(|loss| loss.object == policy.object)
    };
    let mut winners = BTreeSet::new();
    for name in hit {
        let loss = own(name).filter(|loss| loss.all)?;
        winners.extend(loss.winners.keys().map(ToString::to_string));
    }
    let names: Vec<String> = winners.into_iter().collect();
    let message = format!("every field is decided by {}", names.join(", "));
    Some(at(version, OVERRIDDEN, "", message, None))
}

/// The run grants that hold now, and when the next of them ends, or something else does before.
fn run_grants(mesh: &Mesh<'_>, now: i64, other: Option<i64>) -> (Vec<RunGrantRow>, Option<i64>) {
    let subjects = mesh.settings.spec.and_then(|spec| spec.subjects.as_deref());
    let tenants = mesh.world.tenants();
    let now = u64::try_from(now).unwrap_or(0);
    let mut rows = tenants.run_grants(subjects.unwrap_or_default(), &mesh.index.namespaces);
    rows.retain(|row| row.until.is_none_or(|until| until > now));
    let next = rows.iter().filter_map(|row| row.until).min();
    let next = next.and_then(|until| i64::try_from(until).ok());
    (rows, next.into_iter().chain(other).min())
}

fn instead(judged: &[Judged<'_>]) -> OrdMap<ObjectKey, Instead> {
    let of = |found: &Judged<'_>| Some((found.key.clone(), found.instead()?));
    judged.iter().filter_map(of).collect()
}

/// Errors first, then by place. Of warnings about one field only the first is kept: a Service
/// with a thousand workloads does not need a thousand of them.
pub(crate) fn sort(findings: &mut Vec<Finding>) {
    findings.sort_by(|a, b| {
        let key = |f: &Finding| {
            (
                f.severity,
                f.position.clone(),
                f.code.clone(),
                f.message.clone(),
            )
        };
        key(a).cmp(&key(b))
    });
    let mut seen = BTreeSet::new();
    findings.retain(|f| {
        let message = (f.severity == Severity::Error).then(|| f.message.clone());
        let field = (f.object.clone(), f.position.clone(), f.field.clone());
        seen.insert((f.code.clone(), field, message))
    });
}

/// What each known namespace belongs to.
fn tenancies(mesh: &Mesh<'_>) -> Tenancies {
    let services = mesh.services();
    let tenants = mesh.world.tenants();
    let namespaces = mesh.index.namespaces.iter();
    namespaces
        .map(|namespace| (namespace.clone(), tenants.tenancy(namespace, &services)))
        .collect()
}

/// The rows in the order of their keys.
fn tables(
    mesh: &Mesh<'_>,
    made: Made<'_>,
    classes: BTreeMap<Arc<ClassKey>, ClassRow>,
    grants: Vec<RunGrantRow>,
    tenancies: Tenancies,
) -> Tables {
    let access = made.placed.iter().filter(|policy| is_access(policy));
    let access = access.map(|policy| Row::Access(Arc::new(access_row(policy))));
    let classes = classes.into_values();
    let classes = classes.map(|row| Row::Class(Arc::new(row)));
    let of_mesh = Row::Mesh(Arc::new(mesh.settings.row.clone()));
    let namespaces = tenancies
        .into_iter()
        .map(|(namespace, tenancy)| Row::Namespace(Arc::new(NamespaceRow { namespace, tenancy })));
    let routes = made.routes.into_values();
    let routes = routes.map(|row| Row::Route(Arc::new(row)));
    let grants = grants.into_iter();
    let grants = grants.map(|row| Row::RunGrant(Arc::new(row)));
    let services = made.services.rows.into_values();
    let services = services.map(|row| Row::Service(Arc::new(row)));
    let workloads = made.workloads.into_iter().map(Row::Workload);
    let all = access.chain(classes).chain([of_mesh]).chain(namespaces);
    let all = all
        .chain(routes)
        .chain(grants)
        .chain(services)
        .chain(workloads);
    Tables(packed::map(all.map(|row| (row.key(), row))))
}

pub(crate) fn access_row(policy: &Placed<'_>) -> AccessRow {
    let name = policy.name.clone();
    match (
        policy.in_force.map(|version| &version.value),
        &policy.broken,
    ) {
        (Some(Object::AccessPolicy(found)), _) => access::row(name, &found.spec),
        (_, Some(broken)) => access::broken(name, broken.mode, &broken.reason),
        (_, None) => access::broken(name, Mode::Enforce, "it has no version"),
    }
}

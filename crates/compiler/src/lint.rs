//! Advice: what is valid, and in force, but can hardly be meant. It never keeps an object out.
//!
//! Each check is a function over one object and what it meets. It says nothing unless it is sure
//! that a field changes nothing, or not what its name promises.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tacit_api::mesh::Defaults;
use tacit_api::{Located, Object, Policy};
use tacit_model::finding::Finding;
use tacit_model::tables::{ClassKey, ClassRow, Tenancy, WorkloadRow};
use tacit_model::{Locality, Namespace, ObjectRef, ServiceAccount};

use crate::compile::Mesh;
use crate::findings::{LISTED_TWICE, Report, object_ref};
use crate::policies::Placed;
use crate::routes::{grpc, tcp};
use crate::status::Facts;
use crate::{fault, retry_timeout};

mod access;
mod callers;
mod cover;
mod failover;
mod open;
mod resilience;
mod routes;
mod rules;
mod services;
mod workspaces;

/// Which namespace belongs to whom.
pub(crate) type Tenancies = BTreeMap<Namespace, Tenancy>;

/// What the checks may look at. What they ask of all workloads is counted once.
pub(crate) struct World<'f, 'a> {
    mesh: &'f Mesh<'a>,
    facts: &'f Facts<'f, 'a>,
    classes: &'f BTreeMap<Arc<ClassKey>, ClassRow>,
    tenancies: &'f Tenancies,
    /// Unix seconds.
    now: i64,
    /// The policies that take part.
    placed: BTreeMap<&'f ObjectRef, &'f Placed<'a>>,
    /// As whom workloads run.
    accounts: BTreeMap<&'f Namespace, BTreeSet<&'f ServiceAccount>>,
    /// Where workloads are; nothing if that is not known of all.
    places: Option<BTreeSet<&'f Locality>>,
}

impl<'f, 'a> World<'f, 'a> {
    pub(crate) fn new(
        mesh: &'f Mesh<'a>,
        facts: &'f Facts<'f, 'a>,
        classes: &'f BTreeMap<Arc<ClassKey>, ClassRow>,
        tenancies: &'f Tenancies,
        now: i64,
    ) -> Self {
        let placed = facts.placed.iter().map(|policy| (&policy.object, policy));
        let mut accounts: BTreeMap<&Namespace, BTreeSet<&ServiceAccount>> = BTreeMap::new();
        for (name, entry) in &mesh.index.workloads {
            let there = accounts.entry(&name.namespace).or_default();
            there.insert(&entry.service_account);
        }
        let place = |row: &'f Arc<WorkloadRow>| {
            let place = &row.locality;
            (!place.region.is_empty() && !place.zone.is_empty()).then_some(place)
        };
        Self {
            mesh,
            facts,
            classes,
            tenancies,
            now,
            placed: placed.collect(),
            accounts,
            places: facts.workloads.iter().map(place).collect(),
        }
    }

    /// True if an object in force is in the namespace.
    fn knows(&self, namespace: &Namespace) -> bool {
        self.mesh.index.namespaces.contains(namespace)
    }
}

/// Advice about all objects whose written version is in force.
pub(crate) fn findings(world: &World<'_, '_>) -> Vec<Finding> {
    let good = world.facts.judged.iter().filter(|found| found.is_good());
    let mut findings: Vec<Finding> = good
        .filter_map(|found| found.in_force)
        .flat_map(|object| of_object(world, object))
        .collect();
    findings.extend(services::orphans(world));
    findings.extend(rules::taken_back(world));
    findings.extend(open::services(world));
    findings
}

fn of_object(world: &World<'_, '_>, object: &Located<Object>) -> Vec<Finding> {
    let mut report = Report::new(object);
    let reference = object_ref(&object.value.key());
    let placed = reference.and_then(|reference| world.placed.get(&reference).copied());
    match &object.value {
        Object::AccessPolicy(policy) => {
            targets(&mut report, &policy.spec);
            access::check(&mut report, world, placed, &policy.spec);
        }
        Object::FailoverPolicy(policy) => {
            targets(&mut report, &policy.spec);
            let parts = crate::failover::Parts::of(&policy.spec);
            failover::check(&mut report, world, &parts);
        }
        Object::GRPCRoute(route) => {
            routes::check(&mut report, &grpc::as_http(&route.spec), routes::IN_GRPC);
        }
        Object::HTTPRoute(route) => routes::check(&mut report, &route.spec, routes::IN_HTTP),
        Object::Mesh(mesh) => defaults(&mut report, world, mesh.spec.defaults.as_ref()),
        Object::FaultPolicy(policy) => {
            targets(&mut report, &policy.spec);
            fault::ended(&mut report, &policy.spec, world.now);
        }
        Object::RateLimitPolicy(policy) => targets(&mut report, &policy.spec),
        Object::RetryTimeoutPolicy(policy) => {
            targets(&mut report, &policy.spec);
            resilience::policy(&mut report, world, placed, &policy.spec);
        }
        Object::Service(service) => services::check(&mut report, world, service),
        Object::TCPRoute(route) => {
            routes::check(&mut report, &tcp::as_http(&route.spec), routes::IN_TCP);
        }
        Object::Workload(workload) => services::workload(&mut report, workload),
        Object::Workspace(workspace) => {
            defaults(&mut report, world, workspace.spec.defaults.as_ref());
            workspaces::check(&mut report, world, &workspace.spec);
        }
    }
    report.findings
}

fn defaults(report: &mut Report<'_>, world: &World<'_, '_>, defaults: Option<&Defaults>) {
    if let Some(defaults) = defaults {
        resilience::check(report, &retry_timeout::Parts::of_defaults(defaults));
        let parts = crate::failover::Parts::of_defaults(defaults);
        failover::check(report, world, &parts);
    }
}

fn targets(report: &mut Report<'_>, policy: &impl Policy) {
    let targeting = policy.targeting();
    listed_twice(report, "spec.targetRefs", targeting.refs);
    listed_twice(report, "spec.targetSelectors", targeting.selectors);
}

/// Says which entries of a list stand in it before.
fn listed_twice<T: PartialEq>(report: &mut Report<'_>, field: &str, list: Option<&[T]>) {
    let list = list.unwrap_or_default();
    for (index, entry) in list.iter().enumerate() {
        if let Some(first) = list[..index].iter().position(|other| other == entry) {
            let message = format!("the entry is the same as the one at [{first}]");
            report.say(LISTED_TWICE, &format!("{field}[{index}]"), message);
        }
    }
}

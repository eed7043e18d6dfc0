//! Advice about `defaultAccess`: who writes down who may call, and leaves the rest open.

use std::collections::BTreeMap;

use tacit_api::Object;
use tacit_api::access::{Action, Mode};
use tacit_model::ServiceName;
use tacit_model::finding::Finding;

use super::World;
use crate::findings::{OPEN_BY_DEFAULT, Report};
use crate::index::ServiceEntry;
use crate::policies::Placed;
use crate::targets::Hit;

/// Names that a message has room for.
const SHOWN: usize = 3;

/// Services that no Allow applies to, where others have one and nobody said that this is meant.
/// A mesh without any Allow has just begun: there everybody may call everybody, so that a first
/// request works.
pub(super) fn services(world: &World<'_, '_>) -> Option<Finding> {
    let settings = &world.mesh.settings;
    if settings
        .spec
        .is_some_and(|spec| spec.default_access.is_some())
    {
        return None;
    }
    let allows: Vec<&Placed<'_>> = world.facts.placed.iter().filter(|p| allows(p)).collect();
    let first = allows.first()?.in_force?;
    let services = &world.mesh.index.services;
    let is_open = |name: &&ServiceName| !allows.iter().any(|p| may_reach(services, p, name));
    let open: Vec<&ServiceName> = services.keys().filter(is_open).collect();
    if open.is_empty() {
        return None;
    }
    let mut shown: Vec<String> = open.iter().take(SHOWN).map(ToString::to_string).collect();
    if open.len() > SHOWN {
        shown.push(format!("{} more", open.len() - SHOWN));
    }
    // Without a Mesh object, the policy that shows that access matters is the place to look at.
    let (object, field) = match settings.object {
        Some(mesh) => (mesh, "spec"),
        None => (first, "spec.action"),
    };
    let mut report = Report::new(object);
    let message = format!(
        "no Allow applies to {}, so every caller with a certificate may call there",
        shown.join(", ")
    );
    report.say(OPEN_BY_DEFAULT, field, message);
    report.findings.pop()
}

fn allows(placed: &Placed<'_>) -> bool {
    let object = placed.in_force.map(|object| &object.value);
    matches!(object, Some(Object::AccessPolicy(policy))
        if policy.spec.action == Action::Allow && policy.spec.mode != Some(Mode::Audit))
}

/// True if the policy may apply to workloads of the service: of labels, it is not sure.
fn may_reach(
    services: &BTreeMap<ServiceName, ServiceEntry<'_>>,
    placed: &Placed<'_>,
    service: &ServiceName,
) -> bool {
    placed.hits.iter().any(|hit| match hit {
        Hit::All { namespaces, .. } | Hit::Workloads { namespaces, .. } => {
            namespaces.contains(&service.namespace)
        }
        Hit::Service { name, .. } => {
            let of = |name| services.get(name);
            let may_share = || {
                of(name)
                    .zip(of(service))
                    .is_some_and(|(a, b)| !contradict(a, b))
            };
            name.namespace == service.namespace && (name == service || may_share())
        }
        // Not for AccessPolicies.
        Hit::Route { .. } => false,
    })
}

/// True if no workload has the labels of both.
fn contradict(a: &ServiceEntry<'_>, b: &ServiceEntry<'_>) -> bool {
    let mut pairs = a.selector();
    pairs.any(|(key, value)| b.selects(key).is_some_and(|other| other != value))
}

//! Advice about access rules beside each other: one that adds nothing, one that is taken back.

use std::collections::{BTreeMap, BTreeSet};

use tacit_api::Object;
use tacit_api::access::AccessPolicySpec;
use tacit_model::access::{Action, Mode};
use tacit_model::finding::Finding;
use tacit_model::tables::{AccessRow, ClassKey};
use tacit_model::{PolicyName, ServiceName};

use super::World;
use super::cover::covers;
use crate::access::row;
use crate::findings::{RULE_COVERED, Report, TAKEN_BACK, at};
use crate::policies::Placed;

/// Rules of one policy that match only what another of its rules matches.
pub(super) fn covered(report: &mut Report<'_>, placed: &Placed<'_>, spec: &AccessPolicySpec) {
    let row = row(placed.name.clone(), spec);
    for (index, small) in row.rules.iter().enumerate() {
        let mut others = row.rules.iter().enumerate();
        let larger = others.find(|(other, large)| {
            let within = covers((large, row.action), (small, row.action));
            // Of two that are equal, the second is one too many.
            let equal = within && covers((small, row.action), (large, row.action));
            *other != index && within && (!equal || *other < index)
        });
        if let Some((_, large)) = larger {
            let message = format!("every call that it matches is matched by {}", large.path);
            report.say(RULE_COVERED, &small.path, message);
        }
    }
}

/// Where a policy is attached: a class of workloads, and the service whose ports it covers.
type Places<'w> = BTreeSet<(&'w ClassKey, Option<&'w ServiceName>)>;

/// Rules of enforced Allows all of whose calls an enforced Deny denies, wherever they apply.
pub(super) fn taken_back(world: &World<'_, '_>) -> Vec<Finding> {
    let rows: Vec<(&Placed<'_>, AccessRow)> = world
        .facts
        .placed
        .iter()
        .filter_map(|placed| Some((placed, enforced(placed)?)))
        .collect();
    let (allows, denies): (Vec<_>, Vec<_>) = rows
        .iter()
        .partition(|(_, row)| row.action == Action::Allow);
    if denies.is_empty() {
        return Vec::new();
    }
    let places = places(world);
    let none = Places::new();
    let of = |row: &AccessRow| places.get(&row.name).unwrap_or(&none);
    let mut findings = Vec::new();
    for (placed, allow) in allows {
        for rule in &allow.rules {
            let denied_by = |(class, through): &(&ClassKey, Option<&ServiceName>)| {
                denies.iter().find(|(_, deny)| {
                    let there = of(deny);
                    let reaches =
                        there.contains(&(*class, None)) || there.contains(&(*class, *through));
                    let takes = |other| covers((other, Action::Deny), (rule, Action::Allow));
                    reaches && deny.rules.iter().any(takes)
                })
            };
            let denied: Option<Vec<_>> = of(allow).iter().map(denied_by).collect();
            if let Some((other, _)) = denied.and_then(|found| found.into_iter().next()) {
                let message = format!("{} denies every call that it allows", other.object);
                let version = placed.in_force;
                findings.extend(
                    version.map(|object| at(object, TAKEN_BACK, &rule.path, message, None)),
                );
            }
        }
    }
    findings
}

fn enforced(placed: &Placed<'_>) -> Option<AccessRow> {
    match &placed.in_force?.value {
        Object::AccessPolicy(policy) => {
            let row = row(placed.name.clone(), &policy.spec);
            (row.mode == Mode::Enforce).then_some(row)
        }
        Object::FailoverPolicy(_)
        | Object::FaultPolicy(_)
        | Object::GRPCRoute(_)
        | Object::HTTPRoute(_)
        | Object::Mesh(_)
        | Object::RateLimitPolicy(_)
        | Object::RetryTimeoutPolicy(_)
        | Object::Service(_)
        | Object::TCPRoute(_)
        | Object::Workload(_)
        | Object::Workspace(_) => None,
    }
}

fn places<'w>(world: &World<'w, '_>) -> BTreeMap<&'w PolicyName, Places<'w>> {
    let mut places: BTreeMap<&PolicyName, Places<'_>> = BTreeMap::new();
    for (key, class) in world.classes {
        for attachment in &class.access {
            let through = attachment.through.as_ref();
            let of_policy = places.entry(&attachment.policy).or_default();
            of_policy.insert((key, through));
        }
    }
    places
}

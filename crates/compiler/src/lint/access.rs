//! Advice about one AccessPolicy: a Deny of everything, callers that isolation does not let in.

use std::collections::BTreeSet;

use tacit_api::access::{AccessPolicySpec, Action, Mode};
use tacit_api::policy::Callers;
use tacit_model::tables::{Isolation, Tenancy};
use tacit_model::{Namespace, WorkspaceName};

use super::{World, callers, listed_twice, rules};
use crate::findings::{DENIES_ALL, ISOLATION_DENIES, Report};
use crate::policies::Placed;
use crate::targets::Hit;
use crate::workspace::Owner;

/// Checks a policy with its callers, its rules beside each other, and its targets.
pub(super) fn check(
    report: &mut Report<'_>,
    world: &World<'_, '_>,
    placed: Option<&Placed<'_>>,
    spec: &AccessPolicySpec,
) {
    for (index, rule) in spec.rules.iter().flatten().enumerate() {
        let field = format!("spec.rules[{index}].from");
        callers::check(report, world, &field, rule.from.as_deref());
        for (position, to) in rule.to.iter().flatten().enumerate() {
            let field = |name: &str| format!("spec.rules[{index}].to[{position}].{name}");
            listed_twice(report, &field("ports"), to.ports.as_deref());
            listed_twice(report, &field("methods"), to.methods.as_deref());
            listed_twice(report, &field("paths"), to.paths.as_deref());
            listed_twice(report, &field("hosts"), to.hosts.as_deref());
            listed_twice(report, &field("grpc"), to.grpc.as_deref());
        }
    }
    denies_all(report, spec);
    if let Some(placed) = placed {
        rules::covered(report, placed, spec);
        isolated(report, world, placed, spec);
    }
}

/// A Deny in whose rules nobody and nothing is named.
fn denies_all(report: &mut Report<'_>, spec: &AccessPolicySpec) {
    if spec.action != Action::Deny || spec.mode == Some(Mode::Audit) {
        return;
    }
    let message = "it denies every call to its targets, from everybody";
    let Some(rules) = &spec.rules else {
        return report.say(DENIES_ALL, "spec.action", message);
    };
    for (index, rule) in rules.iter().enumerate() {
        if rule.from.is_none() && rule.to.is_none() {
            report.say(DENIES_ALL, &format!("spec.rules[{index}]"), message);
        }
    }
}

/// Callers that an Allow names, and that the isolation of all its targets keeps out before any
/// rule is asked.
fn isolated(
    report: &mut Report<'_>,
    world: &World<'_, '_>,
    placed: &Placed<'_>,
    spec: &AccessPolicySpec,
) {
    let borders = borders(world, placed);
    if spec.action != Action::Allow || borders.is_empty() {
        return;
    }
    for (index, rule) in spec.rules.iter().flatten().enumerate() {
        for (position, entry) in rule.from.iter().flatten().enumerate() {
            let at = format!("spec.rules[{index}].from[{position}]");
            for (field, who) in kept_out(world, &borders, entry) {
                let names: Vec<&str> = borders.iter().map(|border| border.own.as_str()).collect();
                let message = format!(
                    "the Strict isolation of Workspace {} keeps out {who}, which is not in it and \
                     imports nothing from it",
                    names.join(", ")
                );
                report.say(ISOLATION_DENIES, &format!("{at}.{field}"), message);
            }
        }
    }
}

/// The border of an isolated workspace.
struct Border<'w> {
    own: &'w WorkspaceName,
    isolation: &'w Isolation,
}

impl Border<'_> {
    fn passes(&self, caller: &WorkspaceName) -> bool {
        caller == self.own || self.isolation.importers.contains_key(caller)
    }
}

/// The borders around the targets of a policy; none if one of the targets has none.
fn borders<'w>(world: &World<'w, '_>, placed: &Placed<'_>) -> Vec<Border<'w>> {
    let mut namespaces: BTreeSet<&Namespace> = BTreeSet::new();
    for hit in placed.hits.iter() {
        match hit {
            Hit::All {
                namespaces: hit, ..
            }
            | Hit::Workloads {
                namespaces: hit, ..
            } => namespaces.extend(hit),
            Hit::Service { name, .. } => drop(namespaces.insert(&name.namespace)),
            // Not for AccessPolicies.
            Hit::Route { .. } => {}
        }
    }
    let tenancies = namespaces
        .into_iter()
        .filter_map(|name| world.tenancies.get(name));
    let border = |tenancy: &'w Tenancy| match tenancy {
        Tenancy::Member {
            workspace: own,
            isolation: Some(isolation),
        } => Some(Border { own, isolation }),
        Tenancy::Contested(_) | Tenancy::Member { .. } | Tenancy::Unclaimed => None,
    };
    let borders: Option<Vec<Border<'_>>> = tenancies.map(border).collect();
    let mut borders = borders.unwrap_or_default();
    borders.sort_by(|a, b| a.own.cmp(b.own));
    borders.dedup_by(|a, b| a.own == b.own);
    borders
}

/// Fields of an entry whose callers pass no border, with what they are.
fn kept_out(
    world: &World<'_, '_>,
    borders: &[Border<'_>],
    entry: &Callers,
) -> Vec<(String, String)> {
    let passes = |caller: &WorkspaceName| borders.iter().any(|to| to.passes(caller));
    if entry.unauthenticated == Some(true) {
        let who = "a caller without a certificate".to_owned();
        return vec![("unauthenticated".to_owned(), who)];
    }
    let tenants = world.mesh.world.tenants();
    let namespace = |text: &str| match tenants.owner(text) {
        Owner::Member(tenant) => passes(&tenant.name),
        Owner::Contested(_) | Owner::Unclaimed => false,
    };
    let mut found = Vec::new();
    for (index, text) in entry.namespaces.iter().flatten().enumerate() {
        if !namespace(text) {
            let who = format!("namespace {text}");
            found.push((format!("namespaces[{index}]"), who));
        }
    }
    for (index, text) in entry.service_accounts.iter().flatten().enumerate() {
        if let Some((home, _)) = text.split_once('/')
            && !namespace(home)
        {
            let who = format!("namespace {home}");
            found.push((format!("serviceAccounts[{index}]"), who));
        }
    }
    for (index, text) in entry.workspaces.iter().flatten().enumerate() {
        // One that does not exist is another finding.
        if let Some(tenant) = tenants.named(text)
            && !passes(&tenant.name)
        {
            let who = format!("Workspace {text}");
            found.push((format!("workspaces[{index}]"), who));
        }
    }
    found
}

//! Advice about who a policy says may call: names that nobody has, entries that match nobody.

use std::collections::BTreeSet;

use tacit_api::policy::Callers;
use tacit_model::access::Cidr;
use tacit_model::{Namespace, ServiceAccount};

use super::{World, listed_twice};
use crate::findings::{
    EXCEPT_OUTSIDE, MATCHES_NOBODY, NOBODY_RUNS_AS, NOTHING_IN_NAMESPACE, Report,
};
use crate::values;

/// Checks a list of callers of the policy that `report` is about.
pub(super) fn check(
    report: &mut Report<'_>,
    world: &World<'_, '_>,
    field: &str,
    list: Option<&[Callers]>,
) {
    listed_twice(report, field, list);
    for (index, entry) in list.unwrap_or_default().iter().enumerate() {
        let at = format!("{field}[{index}]");
        let name = |name: &str| format!("{at}.{name}");
        listed_twice(report, &name("namespaces"), entry.namespaces.as_deref());
        let accounts = entry.service_accounts.as_deref();
        listed_twice(report, &name("serviceAccounts"), accounts);
        listed_twice(report, &name("workspaces"), entry.workspaces.as_deref());
        listed_twice(report, &name("cidrs"), entry.cidrs.as_deref());
        ranges(report, &at, entry);
        elsewhere(report, &at, entry);
        // Who is in another trust domain is not known here.
        if entry.trust_domain.is_none() {
            unknown_namespaces(report, world, &at, entry);
            unknown_accounts(report, world, &at, entry);
        }
    }
}

/// Files alone need not have everything that a mesh has. So a name that is unlike any other is
/// only said where workloads are known.
fn unknown_namespaces(report: &mut Report<'_>, world: &World<'_, '_>, at: &str, entry: &Callers) {
    let index = &world.mesh.index;
    for (position, text) in entry.namespaces.iter().flatten().enumerate() {
        let Ok(namespace) = Namespace::try_from(text.as_str()) else {
            continue;
        };
        if world.knows(&namespace) {
            continue;
        }
        let known = index.namespaces.iter().map(Namespace::as_str);
        let near = tacit_api::suggest::nearest(text, known);
        if near.is_none() && index.workloads.is_empty() {
            continue;
        }
        let message = format!("no object is in the namespace {namespace} now");
        let field = format!("{at}.namespaces[{position}]");
        report.add(NOTHING_IN_NAMESPACE, &field, message, near.map(if_meant));
    }
}

fn if_meant(near: &str) -> String {
    format!("write {near}, if that is meant")
}

fn unknown_accounts(report: &mut Report<'_>, world: &World<'_, '_>, at: &str, entry: &Callers) {
    let Some(own) = report.namespace() else {
        return;
    };
    for (position, text) in entry.service_accounts.iter().flatten().enumerate() {
        let alone = Callers {
            namespaces: entry.namespaces.clone(),
            service_accounts: Some(vec![text.clone()]),
            ..Callers::default()
        };
        let meant = values::from(&alone, &own).service_accounts;
        let meant: BTreeSet<(Namespace, ServiceAccount)> = meant.unwrap_or_default();
        // Where nothing runs, nothing is known of who will.
        let known = meant.iter().filter_map(|(home, account)| {
            let there = world.accounts.get(home)?;
            Some((home, account, there))
        });
        let known: Vec<_> = known.collect();
        let Some((home, account, there)) = known.first() else {
            continue;
        };
        if !known
            .iter()
            .any(|(_, account, there)| there.contains(account))
        {
            let message = format!("no workload runs as {home}/{account} now");
            let there = there.iter().map(|own| own.as_str());
            let near = tacit_api::suggest::nearest(account.as_str(), there);
            let field = format!("{at}.serviceAccounts[{position}]");
            report.add(NOBODY_RUNS_AS, &field, message, near.map(if_meant));
        }
    }
}

/// Service accounts with a namespace that `namespaces` of the same entry does not have.
fn elsewhere(report: &mut Report<'_>, at: &str, entry: &Callers) {
    let (Some(namespaces), Some(accounts)) = (&entry.namespaces, &entry.service_accounts) else {
        return;
    };
    for (index, text) in accounts.iter().enumerate() {
        if let Some((namespace, _)) = text.split_once('/')
            && !namespaces.iter().any(|listed| listed == namespace)
        {
            let message = format!(
                "nobody is {text} and in {}: the fields of one entry all apply",
                namespaces.join(" or ")
            );
            let field = format!("{at}.serviceAccounts[{index}]");
            report.say(MATCHES_NOBODY, &field, message);
        }
    }
}

/// Exceptions that are in none of the ranges, and ranges that are all excepted.
fn ranges(report: &mut Report<'_>, at: &str, entry: &Callers) {
    let read = |list: &[String]| -> Vec<Cidr> {
        let read = list.iter().filter_map(|text| values::cidr(text).ok());
        read.collect()
    };
    let (Some(cidrs), Some(except)) = (&entry.cidrs, &entry.except) else {
        return;
    };
    let (cidrs, excepted) = (read(cidrs), read(except));
    if cidrs
        .iter()
        .all(|range| excepted.iter().any(|outer| within(outer, range)))
    {
        let message = "`except` takes away all of `cidrs`";
        return report.say(MATCHES_NOBODY, &format!("{at}.except"), message);
    }
    for (index, (text, range)) in except.iter().zip(&excepted).enumerate() {
        let meets = |other: &Cidr| within(other, range) || within(range, other);
        if !cidrs.iter().any(meets) {
            let message = format!("{text} is in none of `cidrs`, so nothing is excepted");
            report.say(EXCEPT_OUTSIDE, &format!("{at}.except[{index}]"), message);
        }
    }
}

/// True if all addresses of `inner` are in `outer`.
pub(super) fn within(outer: &Cidr, inner: &Cidr) -> bool {
    outer.prefix <= inner.prefix && outer.contains(inner.network)
}

//! Policies that give services values: the rows of the services of their namespace.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use tacit_api::{Kind, ObjectKey};
use tacit_model::tables::ServiceRow;
use tacit_model::{Row, ServiceName};

use crate::armed::{Map, counted};
use crate::attach::services_hit;
use crate::compile::Compiled;
use crate::failover::fallbacks_of;
use crate::findings::object_ref;
use crate::judge::Judged;
use crate::narrow::policies::Change;
use crate::narrow::{entries_in, note, put, said};
use crate::policies::{Placed, is_policy};
use crate::services::{self, Services};
use crate::status::Facts;
use crate::watch::{self, endpoints as endpoints_of};

/// Compiles `next` on, where only these policies have changed. All of the namespace are looked
/// at, since each may lose to another.
pub(super) fn narrow(change: &Change<'_>, before: &Compiled, next: &mut Compiled) -> Option<()> {
    let gives = |key: &&ObjectKey| gives_values(key.kind);
    if !change.keys.iter().copied().any(|key| gives(&key)) {
        return Some(());
    }
    // When the next one ends is said of all of them together.
    if change.keys.iter().any(|key| key.kind == Kind::FaultPolicy) {
        return None;
    }
    let kept = &next.kept;
    // What reaches the namespace from outside may lose here, too; routes take over its values.
    if change.wide || kept.wide_values || kept.routed.contains(&change.namespace) {
        return None;
    }
    let (judged, placed) = policies(change);
    let mut services = rows(change, before, &placed);
    let names: Vec<ServiceName> = services.rows.keys().cloned().collect();
    let fallbacks = services.rows.values().flat_map(|row| &row.failover);
    let fallbacks = fallbacks.flat_map(fallbacks_of);
    let abroad: Vec<&Arc<ServiceRow>> = fallbacks
        .filter(|name| !services.rows.contains_key(*name))
        .filter_map(|name| before.tables.service(name))
        .collect();
    for row in abroad {
        services
            .rows
            .insert(row.name.clone(), ServiceRow::clone(row));
    }
    tell(change, before, next, (&judged, &placed), &services)?;
    let mut changed = Vec::new();
    for name in names {
        let row = services.rows.remove(&name)?;
        if before.tables.service(&name).map(Arc::as_ref) != Some(&row) {
            put(&mut next.tables, Row::Service(Arc::new(row)));
            changed.push(name);
        }
    }
    others(change, before, next, &changed)
}

fn gives_values(kind: Kind) -> bool {
    is_policy(kind) && kind != Kind::AccessPolicy
}

/// All policies of the namespace that give values, and those that take part.
fn policies<'i>(change: &Change<'i>) -> (Vec<Judged<'i>>, Vec<Placed<'i>>) {
    let (mut all, mut placed) = (Vec::new(), Vec::new());
    for kind in Kind::ALL.iter().copied().filter(|kind| gives_values(*kind)) {
        let space = Some(change.namespace.as_str());
        let there: Vec<&ObjectKey> = entries_in(change.inputs, kind, space)
            .map(|(key, _)| key)
            .collect();
        for key in there {
            let (judged, place) = change.judged(key);
            all.extend(judged);
            placed.extend(place);
        }
    }
    (all, placed)
}

/// The rows of the services of the namespace to which a policy applies, or did before.
fn rows(change: &Change<'_>, before: &Compiled, placed: &[Placed<'_>]) -> Services {
    let all = change.mesh.index.services.keys();
    let mut all: BTreeSet<ServiceName> = all.cloned().collect();
    all.retain(|name| before.tables.service(name).is_some());
    let hit = placed
        .iter()
        .flat_map(|policy| services_hit(&policy.hits, &all).into_keys());
    let mut names: BTreeSet<ServiceName> = hit.collect();
    for kind in Kind::ALL.iter().filter(|kind| gives_values(**kind)) {
        names.extend(was_hit(change, before, *kind).cloned());
    }
    names.retain(|name| all.contains(name));
    let address_of = |name: &ServiceName| -> Option<IpAddr> {
        before.tables.service(name).map(|row| row.address)
    };
    let now = change.inputs.now;
    services::build(
        &change.mesh,
        placed,
        &change.resolver(),
        names,
        &address_of,
        now,
    )
}

/// The services that policies of a kind applied to.
fn was_hit<'b>(
    change: &Change<'_>,
    before: &'b Compiled,
    kind: Kind,
) -> impl Iterator<Item = &'b ServiceName> {
    let namespace = Some(change.namespace.to_string());
    let first = ObjectKey {
        kind,
        namespace: namespace.clone(),
        name: String::new(),
    };
    let there = before.kept.hit.range(first..);
    let there = there.take_while(move |(key, _)| key.kind == kind && key.namespace == namespace);
    there.flat_map(|(_, hit)| hit.iter())
}

/// Says of each policy what follows from the rows, and notes what FailoverPolicies count.
fn tell(
    change: &Change<'_>,
    before: &Compiled,
    next: &mut Compiled,
    (judged, placed): (&[Judged<'_>], &[Placed<'_>]),
    services: &Services,
) -> Option<()> {
    let endpoints = counted(placed, services).into_iter();
    let endpoints = endpoints.map(|name| (name, endpoints_of(before, name)));
    let clients = before.kept.places.keys().collect();
    let facts = Facts {
        judged,
        placed,
        services,
        workloads: &[],
        map: &Map::of(endpoints.collect(), clients, &change.inputs.ready),
        exists: &|name| before.tables.service(name).is_some(),
    };
    let gone = change.keys.iter().copied();
    let gone =
        gone.filter(|key| gives_values(key.kind) && !change.inputs.objects.contains_key(*key));
    for key in gone.clone().chain(judged.iter().map(|judged| judged.key)) {
        next.kept.forget(key, &before.tables);
    }
    next.kept.watch(&facts);
    for key in gone {
        note(next, key, None);
        said(next, object_ref(key)?, None);
    }
    let placed: BTreeMap<_, _> = placed
        .iter()
        .map(|policy| (&policy.object, policy))
        .collect();
    for judged in judged {
        let object = object_ref(judged.key)?;
        note(next, judged.key, Some(judged));
        let policy = placed.get(&object).copied();
        let about = change.said(&facts, judged, object.clone(), policy);
        said(next, object, Some(about));
    }
    Some(())
}

/// Counts anew for policies of other namespaces that fall back to services which have changed.
fn others(
    change: &Change<'_>,
    before: &Compiled,
    next: &mut Compiled,
    changed: &[ServiceName],
) -> Option<()> {
    let watchers = changed
        .iter()
        .filter_map(|name| next.kept.watchers.get(name));
    let watchers = watchers.flat_map(|of| of.iter().cloned());
    let own = Some(change.namespace.as_str());
    let watchers: BTreeSet<ObjectKey> = watchers
        .filter(|key| key.namespace.as_deref() != own)
        .collect();
    for policy in watchers {
        watch::one(change.inputs, before, next, &policy)?;
    }
    Some(())
}

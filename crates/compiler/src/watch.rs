//! FailoverPolicies count endpoints: their statuses after workloads have moved.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tacit_api::ObjectKey;
use tacit_model::status::ConditionKind;
use tacit_model::tables::{ServiceRow, WorkloadRow};
use tacit_model::{Locality, Row, RowKey, ServiceName};

use crate::armed::{Map, armed};
use crate::compile::Compiled;
use crate::failover::fallbacks_of;
use crate::findings::object_ref;
use crate::state::Inputs;

/// Counts anew for the policies that look at services of these rows, as they were or as they are.
/// Nothing if more than counts may change.
pub(crate) fn count(
    inputs: &Inputs,
    before: &Compiled,
    next: &mut Compiled,
    moved: &[Arc<WorkloadRow>],
) -> Option<()> {
    if next.kept.watchers.is_empty() {
        return Some(());
    }
    // Each policy has a line for each place that has clients.
    let same = |row: &Arc<WorkloadRow>| {
        let has = |state: &Compiled| state.kept.places.contains_key(&row.locality);
        has(before) == has(next)
    };
    if !moved.iter().all(same) {
        return None;
    }
    let mut policies: BTreeSet<ObjectKey> = BTreeSet::new();
    for row in moved {
        let key = RowKey::Class(row.class.clone());
        let class = next
            .tables
            .0
            .get(&key)
            .or_else(|| before.tables.0.get(&key));
        let Some(Row::Class(class)) = class else {
            continue;
        };
        for service in &class.services {
            let of = next.kept.watchers.get(service);
            policies.extend(of.into_iter().flat_map(|of| of.iter().cloned()));
        }
    }
    for policy in policies {
        one(inputs, before, next, &policy)?;
    }
    Some(())
}

/// Counts anew for one policy.
pub(crate) fn one(
    inputs: &Inputs,
    before: &Compiled,
    next: &mut Compiled,
    policy: &ObjectKey,
) -> Option<()> {
    let hit = next.kept.hit.get(policy)?.clone();
    let of_hit = |state: &Compiled| -> BTreeSet<Locality> {
        let rows = hit.iter().flat_map(|name| endpoints(state, name));
        rows.map(|row| row.locality.clone()).collect()
    };
    // Which places are empty is a finding.
    if of_hit(before) != of_hit(next) {
        return None;
    }
    let mut services: BTreeMap<ServiceName, ServiceRow> = BTreeMap::new();
    for name in hit.iter() {
        let Some(row) = next.tables.service(name) else {
            continue;
        };
        let fallbacks = row.failover.iter().flat_map(fallbacks_of);
        for name in fallbacks {
            if let Some(row) = next.tables.service(name) {
                services.insert(name.clone(), ServiceRow::clone(row));
            }
        }
        services.insert(name.clone(), ServiceRow::clone(row));
    }
    let rows = services.keys().map(|name| (name, endpoints(next, name)));
    let clients = next.kept.places.keys().collect();
    let map = Map::of(rows.collect(), clients, &inputs.ready);
    let (condition, order) = armed(&services, &hit, &map);
    let object = object_ref(policy)?;
    let mut status = next.statuses.get(&object)?.as_ref().clone();
    for found in &mut status.conditions {
        if found.kind == ConditionKind::Armed {
            found.clone_from(&condition);
        }
    }
    status.order = order;
    next.statuses.insert(object, Arc::new(status));
    Some(())
}

/// The workloads behind a service.
pub(crate) fn endpoints<'s>(state: &'s Compiled, name: &ServiceName) -> Vec<&'s WorkloadRow> {
    let mut rows = Vec::new();
    for (key, members) in state.kept.classes_in(&name.namespace) {
        let class = state.tables.0.get(&RowKey::Class(key.clone()));
        let Some(Row::Class(class)) = class else {
            continue;
        };
        if !class.services.contains(name) {
            continue;
        }
        for member in members {
            if let Some(Row::Workload(row)) = state.tables.0.get(&RowKey::Workload(member.clone()))
            {
                rows.push(&**row);
            }
        }
    }
    rows
}

//! What is in force where: conditions with their acknowledgements, and the mesh at a glance.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tacit_model::status::{Condition, ConditionKind, ObjectStatus, Reason};
use tacit_model::tables::{ServiceRow, WorkloadRow};
use tacit_model::{Generation, NodeName, ObjectRef, ServiceName};

use crate::admin::types::{CallerRate, MeshStatus, NodeStatus, ServiceStatus, WorkloadStatus};
use crate::clock;
use crate::engine::Published;
use crate::roster::{Rate, Roster};
use crate::shared::Shared;
use crate::workloads::Range;

/// The status of an object, with `Programmed`: counted now, over all enrolled nodes.
pub(crate) fn of_object(
    published: &Published,
    roster: &Roster,
    object: &ObjectRef,
) -> Option<ObjectStatus> {
    let known = published.since.get(object).copied();
    let mut status = match published.statuses.get(object) {
        Some(status) => status.clone(),
        // Of most objects there is no more to say.
        None => ObjectStatus::accepted(known.map(|_| object.clone())?),
    };
    let accepted = status
        .conditions
        .iter()
        .find(|condition| condition.kind == ConditionKind::Accepted)
        .is_none_or(|condition| condition.status);
    let since = known.unwrap_or(published.generation);
    let nodes = published.enrolled();
    let has = roster.have(&nodes, since);
    let absent = || -> Vec<NodeName> {
        let behind = |node: &&NodeName| {
            roster
                .node(node)
                .acknowledged
                .is_none_or(|generation| generation < since)
        };
        nodes.iter().filter(behind).cloned().collect()
    };
    status
        .conditions
        .retain(|condition| condition.kind != ConditionKind::Programmed);
    status
        .conditions
        .push(programmed(accepted, has, &nodes, since, absent));
    status.conditions.sort_by_key(|condition| condition.kind);
    Some(status)
}

fn programmed(
    accepted: bool,
    has: usize,
    nodes: &BTreeSet<NodeName>,
    since: Generation,
    absent: impl Fn() -> Vec<NodeName>,
) -> Condition {
    let all = nodes.len();
    let (status, reason, message) = if !accepted {
        (
            false,
            Reason::Invalid,
            "not accepted, so nothing of this version is in force".to_owned(),
        )
    } else if has == all {
        (
            true,
            Reason::Programmed,
            format!("{has}/{all} nodes have generation {since} in force"),
        )
    } else {
        let reason = if has == 0 {
            Reason::Reconciling
        } else {
            Reason::PartiallyProgrammed
        };
        let absent: Vec<String> = absent().iter().map(ToString::to_string).collect();
        let names = absent.join(", ");
        (
            false,
            reason,
            format!("{has}/{all} nodes; without generation {since}: {names}"),
        )
    };
    Condition {
        kind: ConditionKind::Programmed,
        status,
        reason,
        message,
    }
}

/// Findings that are shown in full; the worst come first.
const PROBLEMS: usize = 100;

/// The mesh at a glance.
pub(crate) fn of_mesh(shared: &Shared) -> MeshStatus {
    let published = shared.published();
    let now = clock::unix();
    let mut findings: BTreeMap<String, u64> = BTreeMap::new();
    for finding in published.findings().iter() {
        *findings
            .entry(format!("{:?}", finding.severity).to_lowercase())
            .or_default() += 1;
    }
    let snapshot = published.snapshot.as_ref();
    let rates = by_service(shared.roster.rates(now));
    MeshStatus {
        mesh: shared.settings.mesh.to_string(),
        trust_domain: snapshot
            .map(|s| s.mesh.trust_domain.to_string())
            .unwrap_or_default(),
        generation: published.generation,
        nodes: published
            .nodes
            .iter()
            .map(|(name, record)| {
                let subnet = published.subnets.get(name).map(Range::to_string);
                node(
                    name,
                    record,
                    subnet.unwrap_or_default(),
                    &shared.roster,
                    now,
                )
            })
            .collect(),
        services: snapshot
            .iter()
            .flat_map(|s| {
                s.services
                    .values()
                    .map(|row| service(row, s.endpoints(&row.name)))
            })
            .map(|mut status| {
                status.callers = rates.get(&status.service).cloned().unwrap_or_default();
                status
            })
            .collect(),
        workloads: snapshot
            .iter()
            .flat_map(|s| s.workloads.values())
            .map(|w| workload(w))
            .collect(),
        findings,
        problems: published
            .findings()
            .iter()
            .take(PROBLEMS)
            .cloned()
            .collect(),
        read_only: published.read_only.clone(),
    }
}

fn node(
    name: &NodeName,
    record: &crate::store::records::NodeRecord,
    subnet: String,
    roster: &Roster,
    now: Duration,
) -> NodeStatus {
    let live = roster.node(name);
    NodeStatus {
        name: name.clone(),
        region: record.locality.region.to_string(),
        zone: record.locality.zone.to_string(),
        subnet,
        connected: live.connected(),
        silent_seconds: live.heard.map(|heard| now.saturating_sub(heard).as_secs()),
        acknowledged: live.acknowledged,
        refused: live.refused,
        certificates: live.certificates,
    }
}

fn service(row: &ServiceRow, endpoints: &[std::sync::Arc<WorkloadRow>]) -> ServiceStatus {
    let ready = endpoints.iter().filter(|workload| {
        row.ports.iter().any(|port| {
            port.target_on(workload)
                .is_some_and(|target| workload.ready.contains(&target))
        })
    });
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    ServiceStatus {
        service: row.name.clone(),
        address: row.address.to_string(),
        endpoints: count(endpoints.len()),
        ready: count(ready.count()),
        callers: Vec::new(),
    }
}

fn by_service(
    rates: BTreeMap<crate::roster::Pair, Rate>,
) -> BTreeMap<ServiceName, Vec<CallerRate>> {
    let mut by: BTreeMap<ServiceName, Vec<CallerRate>> = BTreeMap::new();
    for (pair, rate) in rates {
        by.entry(pair.service).or_default().push(CallerRate {
            source: pair.source,
            requests_per_second: rate.requests,
            failures_per_second: rate.failures,
        });
    }
    by
}

fn workload(row: &WorkloadRow) -> WorkloadStatus {
    WorkloadStatus {
        namespace: row.name.namespace.to_string(),
        name: row.name.name.to_string(),
        service_account: row.class.service_account.to_string(),
        node: row.node.clone(),
        region: row.locality.region.to_string(),
        zone: row.locality.zone.to_string(),
        address: row.address.to_string(),
        ready: row.ready.iter().copied().collect(),
    }
}

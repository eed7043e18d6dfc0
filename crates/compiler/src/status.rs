//! The conditions of each object, for the people who wrote it.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use tacit_api::Kind;
use tacit_model::finding::{Finding, Severity};
use tacit_model::status::{Condition, ConditionKind, ObjectStatus, Reason};
use tacit_model::tables::WorkloadRow;
use tacit_model::{Namespace, ObjectRef, ServiceName, WorkloadName};

use crate::armed::{Map, armed};
use crate::findings::{
    ADDRESS_TAKEN, CONTESTED, FALLBACK, NOT_HOSTED, NOT_SUPPORTED, ROUTE_BACKEND, ROUTE_CONFLICT,
    ROUTE_PARENT, TARGET_NOT_FOUND, TARGET_NOT_PERMITTED, object_ref,
};
use crate::judge::Judged;
use crate::policies::Placed;
use crate::routes::is_route;
use crate::services::Services;
use crate::targets::Hit;

/// Most targets that a status lists.
const MOST_TARGETS: usize = 1000;
/// Most partial losses that a message names.
const MOST_LOSSES: usize = 5;

/// What statuses are made of.
pub(crate) struct Facts<'f, 'a> {
    pub(crate) judged: &'f [Judged<'a>],
    pub(crate) placed: &'f [Placed<'a>],
    pub(crate) services: &'f Services,
    pub(crate) workloads: &'f [Arc<WorkloadRow>],
    pub(crate) map: &'f Map<'f>,
    /// True for each service of the mesh that has a row.
    pub(crate) exists: &'f dyn Fn(&ServiceName) -> bool,
}

/// The statuses of the objects with valid names of which there is more to say than that they are
/// accepted, in their order. `findings` are sorted.
pub(crate) fn statuses(facts: &Facts<'_, '_>, findings: &[Finding]) -> Vec<ObjectStatus> {
    let (mut errors, mut unresolved) = (BTreeMap::new(), BTreeMap::new());
    for finding in findings
        .iter()
        .filter(|found| found.severity == Severity::Error)
    {
        if let Some(object) = &finding.object {
            let is_backend = *finding.code == *ROUTE_BACKEND.code;
            let of = if is_backend {
                &mut unresolved
            } else {
                &mut errors
            };
            of.entry(object).or_insert(finding);
        }
    }
    let placed: BTreeMap<&ObjectRef, &Placed<'_>> = facts
        .placed
        .iter()
        .map(|policy| (&policy.object, policy))
        .collect();
    let mut statuses: Vec<ObjectStatus> = Vec::new();
    let said: HashSet<_> = errors.keys().map(|object| parts(object)).collect();
    for judged in facts.judged {
        let key = judged.key;
        let simple = matches!(key.kind, Kind::Service | Kind::Workload) && judged.is_good();
        // Nearly all are so: they cost nothing more.
        if simple
            && !said.contains(&(
                key.kind.as_str(),
                key.namespace.as_deref(),
                key.name.as_str(),
            ))
        {
            continue;
        }
        if let Some(object) = object_ref(judged.key) {
            let error = errors.get(&object).copied();
            let policy = placed.get(&object).copied();
            let backends = unresolved.get(&object).copied();
            let mut status = one(facts, judged, object, error, policy);
            let is_route = is_route(judged.key.kind);
            if is_route && judged.in_force.is_some() {
                status.conditions.push(resolved_refs(backends));
            }
            if !status.is_plain() {
                statuses.push(status);
            }
        }
    }
    statuses.sort_by(|a, b| a.object.cmp(&b.object));
    statuses
}

fn parts(object: &ObjectRef) -> (&str, Option<&str>, &str) {
    let namespace = object.namespace.as_ref().map(Namespace::as_str);
    (&object.kind, namespace, object.name.as_str())
}

/// The status of one object.
pub(crate) fn one(
    facts: &Facts<'_, '_>,
    judged: &Judged<'_>,
    object: ObjectRef,
    error: Option<&Finding>,
    policy: Option<&Placed<'_>>,
) -> ObjectStatus {
    let (lost, all_lost) = losses(facts, &object);
    let mut conditions = vec![accepted(judged, error, &lost)];
    let mut order = Vec::new();
    if judged.key.kind == Kind::FailoverPolicy && policy.is_some() {
        let none = BTreeSet::new();
        let hit = facts.services.hit.get(&object).unwrap_or(&none);
        let (condition, lines) = armed(&facts.services.rows, hit, facts.map);
        conditions.push(condition);
        order = lines;
    }
    if let Some(message) = all_lost {
        conditions.push(Condition {
            kind: ConditionKind::Programmed,
            status: false,
            reason: Reason::Overridden,
            message,
        });
    }
    ObjectStatus {
        object,
        conditions,
        targets: policy
            .map(|policy| targets(facts, policy))
            .unwrap_or_default(),
        last_good_in_force: judged.last_good_in_force(),
        order,
    }
}

fn accepted(judged: &Judged<'_>, error: Option<&Finding>, lost: &str) -> Condition {
    let (reason, message) = match (&judged.problem, error) {
        (Some((reason, message)), _) => {
            let instead = if judged.last_good_in_force() {
                "the last good version is in force"
            } else if judged.key.kind == Kind::AccessPolicy {
                "there is no earlier version, so it denies its targets"
            } else {
                "there is no earlier version, so nothing of it is in force"
            };
            (*reason, format!("{message}; {instead}"))
        }
        (None, Some(error)) => (reason_of(error), error.message.clone()),
        (None, None) => (Reason::Accepted, lost.to_owned()),
    };
    let status = reason == Reason::Accepted;
    Condition {
        kind: ConditionKind::Accepted,
        status,
        reason,
        message,
    }
}

/// Whether all backends of a route can be used.
fn resolved_refs(unresolved: Option<&Finding>) -> Condition {
    let (reason, message) = match unresolved {
        Some(finding) => (Reason::BackendNotFound, finding.message.clone()),
        None => (Reason::ResolvedRefs, String::new()),
    };
    Condition {
        kind: ConditionKind::ResolvedRefs,
        status: unresolved.is_none(),
        reason,
        message,
    }
}

/// The reason that an error stands for, when it is not about the object alone.
fn reason_of(error: &Finding) -> Reason {
    let code = &*error.code;
    if [TARGET_NOT_FOUND.code, FALLBACK.code, ROUTE_PARENT.code].contains(&code) {
        Reason::TargetNotFound
    } else if [TARGET_NOT_PERMITTED.code, NOT_HOSTED.code].contains(&code)
        || code.starts_with("TCT160")
    {
        Reason::NotPermitted
    } else if [ADDRESS_TAKEN.code, CONTESTED.code, ROUTE_CONFLICT.code].contains(&code) {
        Reason::Conflicted
    } else if code == NOT_SUPPORTED.code {
        Reason::NotSupported
    } else {
        Reason::Invalid
    }
}

/// What a policy loses to others, for people, and the message if it loses everything.
fn losses(facts: &Facts<'_, '_>, object: &ObjectRef) -> (String, Option<String>) {
    let Some(hit) = facts.services.hit.get(object) else {
        return (String::new(), None);
    };
    let mut winners: BTreeSet<&ObjectRef> = BTreeSet::new();
    let mut lines = Vec::new();
    let mut all = !hit.is_empty();
    for service in hit {
        let losses = facts
            .services
            .losses
            .get(service)
            .map_or(&[][..], Vec::as_slice);
        let own = losses.iter().find(|loss| loss.object == *object);
        all &= own.is_some_and(|loss| loss.all);
        for (winner, fields) in own.iter().flat_map(|loss| &loss.winners) {
            winners.insert(winner);
            let fields: Vec<&str> = fields.iter().copied().collect();
            lines.push(format!("{} of {service} by {winner}", fields.join(", ")));
        }
    }
    let more = lines.len().saturating_sub(MOST_LOSSES);
    lines.truncate(MOST_LOSSES);
    let mut text = String::new();
    if !lines.is_empty() {
        text = format!("decided elsewhere: {}", lines.join("; "));
    }
    if more > 0 {
        text = format!("{text}; and {more} more");
    }
    let names: Vec<String> = winners.into_iter().map(ToString::to_string).collect();
    let message = format!("every field is decided by {}", names.join(", "));
    (text, all.then_some(message))
}

fn targets(facts: &Facts<'_, '_>, policy: &Placed<'_>) -> Vec<ObjectRef> {
    let mut found: BTreeSet<ObjectRef> = BTreeSet::new();
    for hit in policy.hits.iter() {
        match hit {
            Hit::All { object, .. } => {
                found.insert(object.clone());
            }
            Hit::Route { route, .. } => {
                found.insert(route.clone());
            }
            Hit::Service { name, .. } => {
                found.insert(ObjectRef {
                    kind: Kind::Service.as_str().into(),
                    namespace: Some(name.namespace.clone()),
                    name: name.name.clone(),
                });
            }
            Hit::Workloads { namespaces, labels } => {
                let rows = namespaces
                    .iter()
                    .flat_map(|namespace| rows_in(facts.workloads, namespace));
                let hit = rows.filter(|row| row.class.labels.contain(labels));
                found.extend(hit.map(|row| workload_ref(&row.name)));
            }
        }
    }
    found.into_iter().take(MOST_TARGETS).collect()
}

/// The rows of one namespace, which stand together.
fn rows_in<'r>(rows: &'r [Arc<WorkloadRow>], namespace: &Namespace) -> &'r [Arc<WorkloadRow>] {
    let first = rows.partition_point(|row| row.name.namespace < *namespace);
    let rest = rows.get(first..).unwrap_or_default();
    let count = rest.partition_point(|row| row.name.namespace == *namespace);
    rest.get(..count).unwrap_or_default()
}

/// The status of an object that is no policy and no route.
pub(crate) fn plain(
    judged: &Judged<'_>,
    object: ObjectRef,
    error: Option<&Finding>,
) -> ObjectStatus {
    ObjectStatus {
        object,
        conditions: vec![accepted(judged, error, "")],
        targets: Vec::new(),
        last_good_in_force: judged.last_good_in_force(),
        order: Vec::new(),
    }
}

fn workload_ref(name: &WorkloadName) -> ObjectRef {
    ObjectRef {
        kind: Kind::Workload.as_str().into(),
        namespace: Some(name.namespace.clone()),
        name: name.name.clone(),
    }
}

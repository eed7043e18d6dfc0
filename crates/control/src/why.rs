//! `why`: asks the caller's node, which decides with what it observed; else decides here.

use std::collections::{BTreeMap, BTreeSet};

use tacit_decide::offline::Freshness;
use tacit_decide::why::{Answer, Question, Source, Verdict, explain, parse_target};
use tacit_model::provenance::Provenance;
use tacit_model::tables::WorkloadRow;
use tacit_model::trace::Trace;
use tacit_model::{Dice, Locality, Now, Snapshot, SpiffeId, WorkloadName};

use crate::admin::types::{Problem, ProblemKind, SourceLine, WhyRequest, WhyResponse};
use crate::attend::NoAnswer;
use crate::clock;
use crate::engine::{Held, Published, problem};
use crate::shared::Shared;

/// Answers a question about a call.
pub(crate) async fn answer(shared: &Shared, ask: &WhyRequest) -> Result<WhyResponse, Problem> {
    let published = shared.published();
    let snapshot = published.snapshot.as_ref();
    let snapshot =
        snapshot.ok_or_else(|| problem(ProblemKind::Unavailable, "there is no generation yet"))?;
    let (host, port, path) = parse_target(&ask.url)
        .map_err(|error| problem(ProblemKind::BadRequest, error.to_string()))?;
    let (from, workload) = source(snapshot, ask)?;
    zone_is_known(&published, ask)?;
    let method = ask.method.to_ascii_uppercase();
    if method.parse::<http::Method>().is_err() {
        let message = format!("{:?} is no HTTP method", ask.method);
        return Err(problem(ProblemKind::BadRequest, message));
    }
    let question = Question {
        from,
        host,
        port,
        method,
        path,
        headers: lower_case(&ask.headers),
    };
    let live = match workload {
        None => None,
        Some(workload) => by_node(shared, workload, &question).await?,
    };
    let answered_by = live
        .is_some()
        .then(|| workload.map(|row| row.node.clone()))
        .flatten();
    let answer = live.unwrap_or_else(|| {
        let unix_ns = u64::try_from(clock::unix().as_nanos()).unwrap_or(u64::MAX);
        let now = Now {
            unix_ns,
            monotonic_ns: 0,
        };
        explain(snapshot, None, Freshness::Fresh, &question, now, Dice(0))
    });
    let (allowed, verdict) = told(&answer.verdict);
    Ok(WhyResponse {
        allowed,
        verdict,
        lines: lines(&published, &answer.trace),
        trace: answer.trace,
        generation: published.generation,
        answered_by,
    })
}

/// Names of headers have no case; values of one name are joined as a proxy joins them.
fn lower_case(headers: &[(String, String)]) -> BTreeMap<String, String> {
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in headers {
        let name = name.to_ascii_lowercase();
        let before = found.remove(&name);
        let value = before.map_or_else(|| value.clone(), |before| format!("{before},{value}"));
        found.insert(name, value);
    }
    found
}

/// A zone in which nothing runs is a slip of the pen more often than a question.
fn zone_is_known(published: &Published, ask: &WhyRequest) -> Result<(), Problem> {
    let Some(wanted) = ask.zone.as_deref() else {
        return Ok(());
    };
    let rows = published.snapshot.iter().flat_map(|s| s.workloads.values());
    let nodes = published.nodes.values().map(|node| &node.locality.zone);
    let zones: BTreeSet<&str> = rows
        .map(|row| &*row.locality.zone)
        .chain(nodes.map(|zone| &**zone))
        .filter(|zone| !zone.is_empty())
        .collect();
    if zones.contains(wanted) {
        return Ok(());
    }
    let known = if zones.is_empty() {
        "no node or workload says its zone".to_owned()
    } else {
        let zones: Vec<&str> = zones.into_iter().collect();
        format!("zones are {}", zones.join(", "))
    };
    let message = format!("there is no zone {wanted:?}; {known}");
    Err(problem(ProblemKind::BadRequest, message))
}

/// A workload of that name; else a workload of that service account (in the zone, if one is
/// given); else the bare identity there.
fn source<'a>(
    snapshot: &'a Snapshot,
    ask: &WhyRequest,
) -> Result<(Source, Option<&'a WorkloadRow>), Problem> {
    let bad = |why: String| problem(ProblemKind::BadRequest, why);
    let (namespace, name) = ask.source.split_once('/').ok_or_else(|| {
        bad(format!(
            "{:?} is no caller; write NAMESPACE/SERVICE-ACCOUNT",
            ask.source
        ))
    })?;
    let in_zone = |row: &WorkloadRow| ask.zone.as_deref().is_none_or(|z| *row.locality.zone == *z);
    let by_name = WorkloadName::parse(namespace, name).ok();
    let by_name = by_name.and_then(|name| snapshot.workloads.get(&name));
    let identity = SpiffeId {
        trust_domain: snapshot.mesh.trust_domain.clone(),
        namespace: namespace
            .try_into()
            .map_err(|error| bad(format!("{error}")))?,
        service_account: name.try_into().map_err(|error| bad(format!("{error}")))?,
    };
    let by_account = || {
        snapshot
            .workloads
            .values()
            .find(|row| row.identity(&snapshot.mesh.trust_domain) == identity && in_zone(row))
    };
    Ok(match by_name.or_else(by_account) {
        Some(row) => (Source::Workload(row.name.clone()), Some(row)),
        None => {
            let zone = ask.zone.clone().unwrap_or_default();
            let cluster = snapshot.mesh.cluster.clone();
            // The region of a zone is known where a workload runs in it.
            let same = snapshot
                .workloads
                .values()
                .find(|row| *row.locality.zone == *zone);
            let region = same
                .map(|row| row.locality.region.clone())
                .unwrap_or_default();
            let locality = Locality {
                cluster,
                region,
                zone: zone.into(),
            };
            (Source::Identity(identity, locality), None)
        }
    })
}

/// The node's answer; none if it does not attend.
async fn by_node(
    shared: &Shared,
    workload: &WorkloadRow,
    question: &Question,
) -> Result<Option<Answer>, Problem> {
    let garbled = |error: serde_json::Error| {
        let message = format!("node {}: {error}", workload.node);
        problem(ProblemKind::Unavailable, message)
    };
    let json = serde_json::to_vec(question).map_err(garbled)?;
    match shared.attendance.why(&workload.node, json).await {
        Ok(json) => serde_json::from_slice(&json).map(Some).map_err(garbled),
        Err(NoAnswer::Absent) => Ok(None),
        Err(NoAnswer::Failed(why)) => {
            shared.log(&format!("node {} could not answer: {why}", workload.node));
            Ok(None)
        }
    }
}

fn told(verdict: &Verdict) -> (bool, String) {
    match verdict {
        Verdict::Allowed {
            served_by: Some(workload),
            locality,
        } => {
            let at = locality
                .as_ref()
                .map(|at| format!(" in {at}"))
                .unwrap_or_default();
            (true, format!("allowed, served by {workload}{at}"))
        }
        Verdict::Allowed {
            served_by: None, ..
        } => (true, "allowed, and leaves the mesh".to_owned()),
        Verdict::Denied(denial) => (false, format!("denied: {}", denial.reason)),
    }
}

/// Where the deciding fields are written.
fn lines(published: &Published, trace: &Trace) -> BTreeMap<usize, SourceLine> {
    let find = |from: &Provenance| {
        let Provenance::Field { object, path } = from else {
            return None;
        };
        let held = published.objects.iter().find(|(key, _)| {
            crate::engine::object_ref(key).is_some_and(|reference| reference == *object)
        });
        let (position, text) = held.and_then(|(_, held)| Held::object(held))?.find(path);
        Some(SourceLine {
            position: position.to_string(),
            text,
        })
    };
    let steps = trace.0.iter().enumerate();
    steps
        .filter_map(|(index, step)| Some((index, find(step.from.as_ref()?)?)))
        .collect()
}

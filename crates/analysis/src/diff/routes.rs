//! Where calls go in two states: now, and when one place after the other is lost.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use tacit_decide::health::SessionSign;
use tacit_decide::why::{Source, caller};
use tacit_decide::{Ask, Odds, State, odds};
use tacit_model::failover::Failover;
use tacit_model::tables::{ServicePort, ServiceRow, WorkloadRow};
use tacit_model::{Locality, Now, Provenance, ServiceAccount, Snapshot, SpiffeId};

use super::{Both, Change, Diff, Kind, plain};
use crate::call::percent;
use crate::compiled::{Compiled, has_no_workload};
use crate::down::settled;

/// A port of a service in both states.
pub(super) struct Pair<'a> {
    pub(super) destination: &'a str,
    pub(super) old: &'a To,
    pub(super) new: &'a To,
}

/// A port of a service.
pub(super) type To = (Arc<ServiceRow>, ServicePort);

/// Places that serve together, with their shares in hundredths of a percent.
type Rung = Vec<(String, u64)>;

/// Compares the places for every place of clients.
pub(super) fn compare(both: Both<'_>, to: &Pair<'_>, found: &mut Diff) {
    let mut changes: Vec<(String, String, Vec<String>)> = Vec::new();
    for client in clients(both) {
        let old = ladder(&both.before.snapshot, to.old, &client);
        let new = ladder(&both.after.snapshot, to.new, &client);
        if old == new {
            continue;
        }
        let (old, new, at) = (shown(&old), shown(&new), client.to_string());
        match changes.iter_mut().find(|(o, n, _)| *o == old && *n == new) {
            Some((_, _, clients)) => clients.push(at),
            None => changes.push((old, new, vec![at])),
        }
    }
    let failover = to.new.0.failover.as_ref();
    let by = failover.map(|failover| failover.order.from.clone());
    let change = |(before, after, places)| Change {
        places,
        before,
        after,
        line: by.as_ref().and_then(|by| both.after.line(by)),
        by: by.clone(),
        ..plain(to.destination.to_owned(), Kind::Routes)
    };
    found.changes.extend(changes.into_iter().map(change));
    settings(both.after, to, found);
}

/// Every place of clients that either state knows, and one of which nothing is known.
pub(super) fn clients(both: Both<'_>) -> Vec<Locality> {
    let mut all = both.before.localities();
    all.extend(both.after.localities());
    all.insert(Locality {
        cluster: both.after.snapshot.mesh.cluster.clone(),
        ..Locality::default()
    });
    all.into_iter().collect()
}

/// A caller at a place.
pub(super) fn source(s: &Snapshot, to: &To, at: &Locality) -> Option<Arc<WorkloadRow>> {
    let identity = SpiffeId {
        trust_domain: s.mesh.trust_domain.clone(),
        namespace: to.0.name.namespace.clone(),
        service_account: ServiceAccount::try_from("default").ok()?,
    };
    Some(caller(s, &Source::Identity(identity, at.clone())).ok()?.0)
}

/// Everyone who may serve the calls of a place.
pub(super) fn serving(s: &Snapshot, state: &State, to: &To, at: &Locality) -> Vec<Odds> {
    let Some(source) = source(s, to, at) else {
        return Vec::new();
    };
    let ask = Ask {
        source: &source,
        service: &to.0,
        port: &to.1,
        tried: &[],
        control_stale: false,
    };
    odds(s, state, &ask, settled()).unwrap_or_default()
}

/// Who serves, then who serves when those are lost, and so on.
fn ladder(s: &Snapshot, to: &To, at: &Locality) -> Vec<Rung> {
    if has_no_workload(s, &to.0.name) {
        return vec![vec![("workloads that are not in the files".to_owned(), 0)]];
    }
    let mut lost: Vec<IpAddr> = Vec::new();
    let mut ladder = Vec::new();
    loop {
        // A state of its own for each rung: shares must not move from what was before.
        let state = State::new();
        for address in &lost {
            state.on_session(*address, SessionSign::Lost, Now::default());
        }
        let all = serving(s, &state, to, at);
        if all.is_empty() {
            return ladder;
        }
        lost.extend(all.iter().map(|one| one.workload.address));
        ladder.push(rung(to, &all));
    }
}

fn rung(to: &To, all: &[Odds]) -> Rung {
    let mut places: BTreeMap<String, u64> = BTreeMap::new();
    for one in all {
        let place = match one.service.name == to.0.name {
            true => one.workload.locality.to_string(),
            false => format!("{} in {}", one.service.name, one.workload.locality),
        };
        *places.entry(place).or_default() += one.per_million;
    }
    // Each share was rounded down: a place with more endpoints must not look like less.
    let rounded = |(place, share): (String, u64)| (place, (share + 50) / 100);
    places.into_iter().map(rounded).collect()
}

fn shown(ladder: &[Rung]) -> String {
    let rung = |rung: &Rung| {
        let shares = rung.iter().map(|(place, share)| match rung.len() {
            1 => place.clone(),
            _ => format!("{} {place}", percent(share * 100)),
        });
        shares.collect::<Vec<_>>().join(" + ")
    };
    match ladder {
        [] => "nobody".to_owned(),
        _ => ladder.iter().map(rung).collect::<Vec<_>>().join(", then "),
    }
}

/// A part of a FailoverPolicy, in words, with where it is written.
type Part = (String, Provenance);

/// What a FailoverPolicy says besides the order.
fn parts(failover: Option<&Failover>) -> [(&'static str, Option<Part>); 4] {
    let part = |of: fn(&Failover) -> (String, &Provenance)| {
        let (text, from) = of(failover?);
        Some((text, from.clone()))
    };
    [
        (
            "health",
            part(|f| (format!("{:?}", f.health.value), &f.health.from)),
        ),
        (
            "spill",
            part(|f| (format!("{:?}", f.spill.value), &f.spill.from)),
        ),
        (
            "failback",
            part(|f| (format!("{:?}", f.failback.value), &f.failback.from)),
        ),
        (
            "whenNoneHealthy",
            part(|f| {
                let last = &f.when_none_healthy;
                (format!("{:?}", last.value), &last.from)
            }),
        ),
    ]
}

fn settings(after: &Compiled, to: &Pair<'_>, found: &mut Diff) {
    let old = parts(to.old.0.failover.as_ref());
    let new = parts(to.new.0.failover.as_ref());
    for ((name, old), (_, new)) in old.into_iter().zip(new) {
        let text = |part: &Option<Part>| {
            let text = part.as_ref().map(|(text, _)| text.as_str());
            format!("{name}: {}", text.unwrap_or("no policy"))
        };
        let (before, now) = (text(&old), text(&new));
        if before != now {
            let by = new.map(|(_, from)| from);
            found.changes.push(Change {
                before,
                after: now,
                line: by.as_ref().and_then(|by| after.line(by)),
                by,
                ..plain(to.destination.to_owned(), Kind::Settings)
            });
        }
    }
}

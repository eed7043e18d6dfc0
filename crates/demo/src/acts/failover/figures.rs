//! What a death cost: counts from the clients, and from the access logs of their nodes.

use std::collections::BTreeMap;
use std::io;

use super::{ACT, Blow, Death, Measured};
use crate::acts::{CALLEE, complete};
use crate::calls::{self, Call};
use crate::figures::{Bound, count};
use crate::hosts::ZONES;
use crate::load::report::Report;
use crate::stage::Stage;

/// Ways to fail that are said, of each client.
const SHOWN_REASONS: usize = 5;

/// What the node of one client did.
struct Node {
    host: &'static str,
    /// When its first rescued request ended: by then it had left the dead place. In milliseconds
    /// since 1970.
    ejected: Option<f64>,
    /// Requests that it sent to the dead place between the blow and the ejection, and after it.
    tries_until: u64,
    tries_after: u64,
}

pub(super) fn report(stage: &mut Stage, death: &Death, measured: &Measured) -> io::Result<()> {
    let name = death.name;
    let all: Vec<&Report> = [&measured.before, &measured.after, &measured.back]
        .into_iter()
        .flatten()
        .collect();
    complete(stage, ACT, &all)?;
    let before = served(&measured.before, death.doomed);
    let what = format!("{name}: requests served by the place before its death");
    stage.figure(ACT, &what, count(before), Bound::AtLeast(1000.0))?;
    let of = |method: &str| {
        let tallies = all.iter().map(|report| report.method(method));
        tallies.fold((0, 0, 0), |(sent, failed, cut), tally| {
            (sent + tally.sent, failed + tally.failed(), cut + tally.cut)
        })
    };
    let (sent, failed, cut) = of("GET");
    stage.figure(ACT, &format!("{name}: GETs"), count(sent), Bound::None)?;
    let what = format!("{name}: GETs failed before their response began");
    stage.figure(ACT, &what, count(failed), Bound::Exactly(0.0))?;
    stage.figure(
        ACT,
        &format!("{name}: GETs cut midway"),
        count(cut),
        Bound::None,
    )?;
    let (sent, failed, _) = of("POST");
    stage.figure(ACT, &format!("{name}: POSTs"), count(sent), Bound::None)?;
    stage.figure(
        ACT,
        &format!("{name}: POSTs failed"),
        count(failed),
        Bound::None,
    )?;
    let nodes = nodes(stage, death, measured)?;
    late_posts(stage, death, measured, &nodes)?;
    tries(stage, death, measured, &nodes)?;
    shares(stage, death, measured)
}

/// Reads what the clients' nodes did, from their access logs.
fn nodes(stage: &Stage, death: &Death, measured: &Measured) -> io::Result<Vec<Node>> {
    let mut nodes = Vec::new();
    for &client in death.clients {
        let log = stage.hosts.get(client)?.dir.join("run/access.log");
        // A request that the blow hit may have started before it.
        let mut calls = calls::read(&log, CALLEE, measured.struck - 5000.0)?;
        calls.retain(|call| {
            call.at_source && call.ended >= measured.struck && call.started < measured.revived
        });
        say_failures(stage, client, &calls)?;
        nodes.push(judge(client, death, measured, &calls));
    }
    Ok(nodes)
}

/// Says how requests failed, most frequent first, if any did.
fn say_failures(stage: &Stage, client: &str, calls: &[Call]) -> io::Result<()> {
    let mut reasons: BTreeMap<String, u64> = BTreeMap::new();
    for call in calls.iter().filter(|call| !call.is_complete()) {
        // Identifiers differ from request to request.
        let ending = call.ending.split(" (request").next().unwrap_or_default();
        let reason = format!("{} after {} tries: {ending}", call.method, call.tries);
        *reasons.entry(reason).or_default() += 1;
    }
    let mut reasons: Vec<_> = reasons.into_iter().collect();
    reasons.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    for (reason, count) in reasons.iter().take(SHOWN_REASONS) {
        stage
            .voice
            .figure(&format!("{client}: {count} × {reason}"))?;
    }
    Ok(())
}

fn judge(host: &'static str, death: &Death, measured: &Measured, calls: &[Call]) -> Node {
    let dead = |call: &Call| {
        call.zone
            .as_deref()
            .is_some_and(|zone| death.doomed.contains(&zone))
    };
    let rescued = |call: &&Call| call.tries > 1 && call.is_complete() && !dead(call);
    let ends = calls.iter().filter(rescued).map(|call| call.ended);
    let ejected = ends.min_by(f64::total_cmp);
    let left = ejected.map_or(measured.dead, |ejected| ejected.max(measured.dead));
    // A request that needed a further try, or was tried there last, had a try there.
    let there: Vec<&Call> = calls
        .iter()
        .filter(|call| call.started >= measured.struck && (call.tries > 1 || dead(call)))
        .collect();
    let tries_after = there.iter().filter(|call| call.started > left).count() as u64;
    Node {
        host,
        ejected,
        tries_until: there.len() as u64 - tries_after,
        tries_after,
    }
}

/// POSTs that failed although their node had left the dead place before they started.
fn late_posts(
    stage: &mut Stage,
    death: &Death,
    measured: &Measured,
    nodes: &[Node],
) -> io::Result<()> {
    let clients = nodes
        .iter()
        .zip(measured.before.iter().zip(&measured.after));
    let late = clients
        .flat_map(|(node, (before, after))| {
            let left = node
                .ejected
                .map_or(measured.dead, |ejected| ejected.max(measured.dead));
            let all = before.failures.iter().chain(&after.failures);
            all.filter(move |failed| failed.method == "POST" && started(failed) > left)
        })
        .count() as u64;
    let what = format!(
        "{}: POSTs failed that started after the ejection",
        death.name
    );
    stage.figure(ACT, &what, count(late), Bound::Exactly(0.0))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "milliseconds since 1970 fit 2^52"
)]
fn started(failed: &crate::load::report::Failed) -> f64 {
    failed.started_unix_ms as f64
}

fn tries(stage: &mut Stage, death: &Death, measured: &Measured, nodes: &[Node]) -> io::Result<()> {
    let (name, signal) = match death.blow {
        Blow::Silence => (death.name, "Session"),
        Blow::Kill => (death.name, "Connect"),
    };
    for node in nodes {
        let Some(ejected) = node.ejected else {
            continue;
        };
        let what = format!(
            "{name}: from the blow to the ejection ({signal}), {}",
            node.host
        );
        stage.figure(
            ACT,
            &what,
            ((ejected - measured.struck).round(), "ms"),
            Bound::None,
        )?;
    }
    // Silence is noticed by waiting, so requests go there meanwhile: the count does count.
    let until = nodes.iter().map(|node| node.tries_until).sum();
    let bound = match death.blow {
        Blow::Silence => Bound::AtLeast(1.0),
        Blow::Kill => Bound::None,
    };
    let what = format!("{name}: tries to the dead place until the ejection");
    stage.figure(ACT, &what, count(until), bound)?;
    let after = nodes.iter().map(|node| node.tries_after).sum();
    let what = format!("{name}: tries to the dead place after the ejection");
    stage.figure(ACT, &what, count(after), Bound::Exactly(0.0))?;
    let what = format!("{name}: from the revival to traffic there again");
    let took = ((measured.returned - measured.revived).round(), "ms");
    stage.figure(ACT, &what, took, Bound::None)
}

/// Where the traffic went: what the order adds to plain survival.
fn shares(stage: &mut Stage, death: &Death, measured: &Measured) -> io::Result<()> {
    for (when, reports) in [("before", &measured.before), ("after", &measured.after)] {
        let served = ZONES.map(|(zone, _)| format!("{zone} {}", served(reports, &[zone])));
        stage.voice.figure(&format!(
            "{}: served {when}: {}",
            death.name,
            served.join(" · ")
        ))?;
    }
    if !death.preferred {
        return Ok(());
    }
    let own = served(&measured.before, death.doomed);
    let all = served(&measured.before, &ZONES.map(|(zone, _)| zone));
    let what = format!(
        "{}: requests that the order sent elsewhere before the blow",
        death.name
    );
    stage.figure(ACT, &what, count(all - own), Bound::None)
}

fn served(reports: &[Report], zones: &[&str]) -> u64 {
    reports
        .iter()
        .flat_map(|report| zones.iter().map(|zone| report.zone(zone)))
        .sum()
}

//! What the minute without a control plane cost: counts of the clients, and of their nodes.

use std::io;

use crate::acts::outage::declared::access_log;
use crate::acts::outage::{ACT, CLIENTS, KILLED, Minute};
use crate::acts::{CALLEE, complete};
use crate::calls::{self, Call};
use crate::figures::{Bound, count};
use crate::load::report::{Report, Tally};
use crate::stage::Stage;

/// The service of the standby, as access logs name it.
const STANDBY: &str = "standby.shop";

pub(super) fn report(stage: &mut Stage, minute: &Minute) -> io::Result<()> {
    let all = |of: fn(&[Report]) -> &[Report]| -> Vec<&Report> {
        [&minute.gone, &minute.standby_again, &minute.back]
            .into_iter()
            .flat_map(|reports| of(reports))
            .collect()
    };
    let payments = all(|reports| &reports[..CLIENTS.len()]);
    complete(stage, ACT, &all(|reports| reports))?;
    let get = sum(&payments, "GET");
    let post = sum(&payments, "POST");
    let what = "requests while the control plane was away, and 5 s more";
    let sent = count(get.sent + post.sent);
    stage.figure(ACT, what, sent, Bound::AtLeast(10_000.0))?;
    let failed = count(get.failed() + get.cut);
    stage.figure(ACT, "GETs that failed", failed, Bound::Exactly(0.0))?;
    killed_node(stage, minute, &post)?;
    standby(stage, minute)
}

/// What the node's death cost, and how it came back.
fn killed_node(stage: &mut Stage, minute: &Minute, post: &Tally) -> io::Result<()> {
    let mut calls = Vec::new();
    for client in CLIENTS {
        calls.extend(calls::read(
            &access_log(stage, client)?,
            CALLEE,
            // A request that the kill hit may have started before it.
            minute.killed - 5000.0,
        )?);
    }
    calls.retain(|call| call.at_source && call.zone.as_deref() == Some(KILLED));
    let again = first_good(&calls, minute.killed);
    let until = again.unwrap_or(f64::INFINITY);
    let there = |call: &&Call| {
        let while_away = call.ended >= minute.killed && call.started <= until;
        call.method == "POST" && !call.is_complete() && while_away
    };
    let there = calls.iter().filter(there).count() as u64;
    let failed = post.failed() + post.cut;
    let what = "POSTs that failed at the killed node until it served again";
    stage.figure(ACT, what, count(there), Bound::None)?;
    let what = "other POSTs that failed";
    let other = count(failed.saturating_sub(there));
    stage.figure(ACT, what, other, Bound::Exactly(0.0))?;
    let served = count(again.is_some().into());
    let what = "the killed node serves again while the control plane is away";
    stage.figure(ACT, what, served, Bound::Exactly(1.0))?;
    let gap = ((until - minute.killed).round(), "ms");
    let what = "from its death to its first answer";
    stage.figure(ACT, what, gap, Bound::None)?;
    let log = std::fs::read_to_string(stage.hosts.get(KILLED)?.dir.join("up.log"))?;
    let booted = log.matches("is in force, from disk").count() as u64;
    let what = "times that it booted from disk";
    stage.figure(ACT, what, count(booted), Bound::Exactly(1.0))
}

/// The declared workload whose process was killed is started, found and called.
fn standby(stage: &mut Stage, minute: &Minute) -> io::Result<()> {
    let again: Vec<&Report> = minute.standby_again.iter().skip(CLIENTS.len()).collect();
    let get = sum(&again, "GET");
    let what = "requests to the declared workload that was started meanwhile";
    stage.figure(ACT, what, count(get.sent), Bound::AtLeast(100.0))?;
    let failed = count(get.sent - get.ok);
    stage.figure(ACT, "of these failed", failed, Bound::Exactly(0.0))?;
    let log = access_log(stage, CLIENTS[1])?;
    let mut calls = calls::read(&log, STANDBY, minute.struck)?;
    calls.retain(|call| call.at_source);
    let again = first_good(&calls, minute.standby_killed).unwrap_or(f64::INFINITY);
    let gap = ((again - minute.standby_killed).round(), "ms");
    let what = "from the end of its process to its first answer";
    stage.figure(ACT, what, gap, Bound::None)
}

/// When the first good answer came to a request that started after `moment`.
fn first_good(calls: &[Call], moment: f64) -> Option<f64> {
    let good = calls
        .iter()
        .filter(|call| call.started > moment && call.is_complete());
    good.map(|call| call.ended).min_by(f64::total_cmp)
}

fn sum(reports: &[&Report], method: &str) -> Tally {
    let mut all = Tally::default();
    for tally in reports.iter().map(|report| report.method(method)) {
        all.sent += tally.sent;
        all.ok += tally.ok;
        all.cut += tally.cut;
    }
    all
}

//! The control run of act (c): the same silence and load without a mesh, all addresses in DNS.

use std::fs;
use std::io;
use std::time::Duration;

use tacit_sys::spawn::Bind;

use super::{ACT, Blow, Death, ONLY_RETRIES, RATE, TRIES_BEFORE, begin, reports};
use super::{revive, strike, wait_for_tries, watch};
use crate::acts::{Plan, complete};
use crate::figures::{Bound, count};
use crate::hosts::ZONES;
use crate::load::report::Report;
use crate::process::Running;
use crate::stage::{Loader, Stage, shell_words};

const URL: &str = "http://payments.plain:9080/charge";
const PORT: &str = "9080";
/// How long the load goes on after the blow: longer than the client's patience.
const AFTER: Duration = Duration::from_secs(5);

pub(in crate::acts) async fn play(stage: &mut Stage) -> io::Result<()> {
    stage
        .voice
        .say("The control run: the same silence without a mesh, all addresses in DNS.")?;
    let mut apps = Vec::new();
    for (zone, _) in ZONES {
        apps.push(start_sample(stage, zone)?);
    }
    let death = Death {
        blow: Blow::Silence,
        ..ONLY_RETRIES
    };
    let started: io::Result<Vec<Loader>> = death
        .clients
        .iter()
        .map(|host| start_load(stage, host))
        .collect();
    let mut loads = started?;
    wait_for_tries(stage, &mut loads, death.doomed, TRIES_BEFORE).await?;
    begin(&mut loads, "after").await?;
    strike(stage, &death).await?;
    let mut all = reports(stage, &mut loads).await?;
    watch(stage, &mut loads, AFTER).await?;
    for load in loads {
        all.push(load.stop(&stage.voice).await?);
    }
    revive(stage, &death).await?;
    for mut app in apps {
        app.stop().await?;
    }
    let all: Vec<&Report> = all.iter().collect();
    complete(stage, ACT, &all)?;
    let failed = all.iter().map(|report| report.method("GET").failed()).sum();
    let what = "control run without a mesh, silence: GETs failed";
    stage.figure(ACT, what, count(failed), Bound::AtLeast(1.0))
}

fn start_sample(stage: &Stage, zone: &str) -> io::Result<Running> {
    let host = stage.hosts.get(zone)?;
    let args = [
        "sample", "--name", "payments", "--zone", zone, "--port", PORT,
    ];
    stage
        .voice
        .command(zone, &format!("tacit {}", shell_words(&args)))?;
    stage.start_job(host, "plain-sample", host.job("tacit", &args))
}

/// A load whose resolver knows all four addresses, as a DNS server would tell them.
fn start_load(stage: &Stage, host: &str) -> io::Result<Loader> {
    let host = stage.hosts.get(host)?;
    let mut names = "127.0.0.1 localhost\n".to_owned();
    for (zone, _) in ZONES {
        let address = stage.hosts.get(zone)?.address;
        names.push_str(&format!("{address} payments.plain\n"));
    }
    let file = host.dir.join("hosts");
    fs::write(&file, names)?;
    let plan = Plan {
        rate: RATE,
        post_every: 10,
        url: URL,
        ..Plan::new(host.name, "plain")
    };
    let command = plan.command();
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    stage
        .voice
        .command(host.name, &format!("tacit {}", shell_words(&words)))?;
    let mut job = host.job("tacit", &words);
    job.binds = vec![Bind {
        source: file,
        target: "/etc/hosts".into(),
    }];
    Ok(Loader::new(
        host.name,
        stage.start_job(host, "plain-load", job)?,
    ))
}

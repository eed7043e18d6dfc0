//! The control run: the control plane is away for longer than `maxOffline`.

use std::io;
use std::time::{Duration, Instant};

use crate::acts::failover::{begin, reports, wait_for_tries, watch};
use crate::acts::outage::{ACT, CLIENTS, lose_control, regain_control};
use crate::calls::unix_ms;
use crate::figures::{Bound, count};
use crate::hosts::{CONTROL, ZONES};
use crate::load::report::Report;
use crate::mesh::{COMMAND_PATIENCE, until, write_settings};
use crate::process::finish;
use crate::stage::{Loader, Stage};

/// Certificates keep their lives, so that only `maxOffline` can deny.
const SETTINGS: &str = "  certificates: {lifetime: 4m}\n  maxOffline: 8s\n";
/// Longest wait until everything is denied.
const PATIENCE: Duration = Duration::from_secs(20);
/// Requests that must be served after the control plane's return.
const TRIES_AFTER: u64 = 200;
/// The host whose node is watched.
const WATCHED: &str = CLIENTS[0];

/// What the watched node showed, in milliseconds since 1970.
#[derive(Default)]
struct Shown {
    stale: Option<f64>,
    stale_in_metrics: bool,
    expired: bool,
}

pub(super) async fn play(stage: &mut Stage, loads: &mut [Loader]) -> io::Result<()> {
    stage
        .voice
        .say("\nThe control run: maxOffline is 8 s, and the control plane is away for longer.")?;
    settle(stage).await?;
    begin(loads, "too long").await?;
    reports(stage, loads).await?;
    let struck = unix_ms();
    lose_control(stage).await?;
    let shown = watch_status(stage, loads).await?;
    watch(stage, loads, Duration::from_secs(2)).await?;
    begin(loads, "served again").await?;
    let past = reports(stage, loads).await?;
    report(stage, struck, &shown, &past)?;
    regain_control(stage).await?;
    let zones = ZONES.map(|(zone, _)| zone);
    wait_for_tries(stage, loads, &zones, TRIES_AFTER).await
}

/// Puts the settings in force everywhere.
async fn settle(stage: &Stage) -> io::Result<()> {
    write_settings(&stage.hosts, SETTINGS)?;
    let control = stage.hosts.control()?;
    until("the settings to be read", COMMAND_PATIENCE, async || {
        let job = control.job("tacit", &["get", "Mesh", "default", "-o", "yaml"]);
        let done = finish(job, "", COMMAND_PATIENCE).await?;
        Ok(done.stdout.contains("maxOffline: 8s"))
    })
    .await?;
    let wait = ["wait", "--for=Programmed", "Mesh", "default"];
    stage.must(CONTROL, &wait, "").await.map(drop)
}

/// Looks at the node until it says that everything is denied.
async fn watch_status(stage: &Stage, loads: &mut [Loader]) -> io::Result<Shown> {
    let host = stage.hosts.get(WATCHED)?;
    let mut shown = Shown::default();
    let end = Instant::now() + PATIENCE;
    while !shown.expired && Instant::now() < end {
        let done = finish(host.job("tacit", &["status"]), "", COMMAND_PATIENCE).await?;
        if shown.stale.is_none() && done.stdout.contains("configuration Stale") {
            shown.stale = Some(unix_ms());
            stage.voice.command(WATCHED, "tacit status")?;
            stage.voice.quote(&done.text(), 4)?;
            shown.stale_in_metrics = metrics(stage).await?.contains("\ntacit_stale 1\n");
        }
        shown.expired = done.stdout.contains("configuration Expired");
        watch(stage, loads, Duration::from_millis(200)).await?;
    }
    Ok(shown)
}

async fn metrics(stage: &Stage) -> io::Result<String> {
    let args = ["-s", "http://127.0.0.1:15020/metrics"];
    let job = stage.hosts.get(WATCHED)?.job("curl", &args);
    Ok(finish(job, "", COMMAND_PATIENCE).await?.stdout)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "milliseconds since 1970 fit 2^52"
)]
fn report(stage: &mut Stage, struck: f64, shown: &Shown, past: &[Report]) -> io::Result<()> {
    let stale = count(shown.stale.is_some().into());
    let what = "control run: `tacit status` on the node shows Stale";
    stage.figure(ACT, what, stale, Bound::Exactly(1.0))?;
    let what = "control run: its metrics show it, too";
    let metrics = count(shown.stale_in_metrics.into());
    stage.figure(ACT, what, metrics, Bound::Exactly(1.0))?;
    let tallies = || past.iter().flat_map(|report| report.methods.values());
    let denied = tallies().map(|tally| tally.sent - tally.ok).sum();
    let what = "control run: requests denied past maxOffline";
    stage.figure(ACT, what, count(denied), Bound::AtLeast(1.0))?;
    let failures = past.iter().flat_map(|report| &report.failures);
    let first = failures
        .map(|failed| (failed.started_unix_ms + failed.after_ms) as f64)
        .min_by(f64::total_cmp)
        .unwrap_or(f64::INFINITY);
    let before = u64::from(shown.stale.is_none_or(|stale| first < stale));
    let what = "control run: denied before Stale was shown";
    stage.figure(ACT, what, count(before), Bound::Exactly(0.0))?;
    for (what, moment) in [
        ("control run: from the loss to Stale", shown.stale),
        (
            "control run: from the loss to the first denial",
            Some(first),
        ),
    ] {
        let took = moment.map_or(f64::INFINITY, |moment| (moment - struck) / 1000.0);
        stage.figure(ACT, what, (took, "s"), Bound::None)?;
    }
    Ok(())
}

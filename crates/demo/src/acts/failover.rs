//! Act (c): a zone dies, silently and with a bang; then a region.

use std::io;
use std::time::{Duration, Instant};

use crate::acts::{Plan, apply, start_payment, start_payments};
use crate::calls::unix_ms;
use crate::hosts::{CONTROL, ZONES, kill_trees};
use crate::load::report::Report;
use crate::stage::{App, Loader, Stage};

mod figures;
mod plain;
pub(super) use plain::play as without_mesh;

const ACT: &str = "c";
pub(super) const SURVIVE: &str = include_str!("../../policies/survive.yaml");
const FAILOVER: &str = include_str!("../../policies/failover.yaml");
pub(super) const SERVICE: &str = "shop/payments";
pub(super) const RETRY: &str = "RetryTimeoutPolicy";
const ORDER: &str = "FailoverPolicy";

/// Requests per second of each client.
const RATE: u32 = 300;
/// Tries into the doomed place before the blow.
const TRIES_BEFORE: u64 = 1000;
/// Requests that it serves again, as a sign that traffic came back.
const TRIES_BACK: u64 = 50;
/// How long the load goes on after the blow: longer than the client's patience of 3 s and any
/// detection.
const AFTER: Duration = Duration::from_secs(8);
/// Longest wait for traffic to arrive somewhere.
const PATIENCE: Duration = Duration::from_secs(40);

/// How a place dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blow {
    /// Its links are cut: nothing answers any more, nothing says so.
    Silence,
    /// All its processes are killed, the supervisor first: connections are reset.
    Kill,
}

/// One death to play.
struct Death {
    name: &'static str,
    blow: Blow,
    doomed: &'static [&'static str],
    clients: &'static [&'static str],
    /// Whether the FailoverPolicy prefers the doomed place, so that it must be left and come back.
    preferred: bool,
}

const ONLY_RETRIES: Death = Death {
    name: "silence, only the RetryTimeoutPolicy",
    blow: Blow::Silence,
    doomed: &["us-east-1a"],
    clients: &["us-east-1b", "eu-west-1a"],
    preferred: false,
};

const DEATHS: [Death; 3] = [
    Death {
        name: "zone, silence",
        preferred: true,
        ..ONLY_RETRIES
    },
    Death {
        name: "zone, killed",
        blow: Blow::Kill,
        preferred: true,
        ..ONLY_RETRIES
    },
    Death {
        name: "region, silence",
        blow: Blow::Silence,
        doomed: &["us-east-1a", "us-east-1b"],
        clients: &["eu-west-1a", "eu-west-1b"],
        preferred: true,
    },
];

/// What the clients of a death measured; times are in milliseconds since 1970.
struct Measured {
    /// When the blow began, and when it had fallen: it takes some milliseconds.
    struck: f64,
    dead: f64,
    revived: f64,
    returned: f64,
    /// Of each client: the requests that started before the blow, after it, and after the revival.
    before: Vec<Report>,
    after: Vec<Report>,
    back: Vec<Report>,
}

pub(crate) async fn play(stage: &mut Stage) -> io::Result<()> {
    stage
        .voice
        .title("(c) A zone dies without a lost request; then a region")?;
    without_mesh(stage).await?;
    start_payments(stage, &[]).await?;
    apply(stage, SURVIVE, RETRY, SERVICE).await?;
    one(stage, &ONLY_RETRIES).await?;
    apply(stage, FAILOVER, ORDER, SERVICE).await?;
    for death in &DEATHS {
        one(stage, death).await?;
    }
    stage.must(CONTROL, &["delete", ORDER, SERVICE], "").await?;
    stage.must(CONTROL, &["delete", RETRY, SERVICE], "").await?;
    stage.stop_apps().await
}

async fn one(stage: &mut Stage, death: &Death) -> io::Result<()> {
    let doomed = death.doomed.join(", ");
    stage
        .voice
        .say(&format!("\nDeath of {doomed}: {}.", death.name))?;
    let plan = |host| Plan {
        rate: RATE,
        post_every: 10,
        ..Plan::new(host, "failover")
    };
    let started: io::Result<Vec<Loader>> = death
        .clients
        .iter()
        .map(|&host| plan(host).start(stage))
        .collect();
    let mut loads = started?;
    wait_for_tries(stage, &mut loads, death.doomed, TRIES_BEFORE).await?;

    begin(&mut loads, "after").await?;
    let struck = unix_ms();
    strike(stage, death).await?;
    let dead = unix_ms();
    let before = reports(stage, &mut loads).await?;
    watch(stage, &mut loads, AFTER).await?;

    begin(&mut loads, "back").await?;
    let revived = unix_ms();
    let after = reports(stage, &mut loads).await?;
    revive(stage, death).await?;
    wait_for_tries(stage, &mut loads, death.doomed, TRIES_BACK).await?;
    let returned = unix_ms();
    let mut back = Vec::new();
    for load in loads {
        back.push(load.stop(&stage.voice).await?);
    }
    let measured = Measured {
        struck,
        dead,
        revived,
        returned,
        before,
        after,
        back,
    };
    figures::report(stage, death, &measured)
}

/// Waits until the places have served that many further requests of these loads.
pub(super) async fn wait_for_tries(
    stage: &Stage,
    loads: &mut [Loader],
    places: &[&str],
    wanted: u64,
) -> io::Result<()> {
    let mut served = 0;
    let wait = async {
        while served < wanted {
            for load in &mut *loads {
                let live = load.live(&stage.voice).await?;
                served += places
                    .iter()
                    .filter_map(|zone| live.zones.get(*zone))
                    .sum::<u64>();
            }
        }
        Ok(())
    };
    let done = tokio::time::timeout(PATIENCE, wait).await;
    done.unwrap_or_else(|_| {
        let text = format!("{places:?} served {served} of {wanted} requests in {PATIENCE:?}");
        Err(io::Error::new(io::ErrorKind::TimedOut, text))
    })
}

/// Begins a phase on all loads at once.
pub(super) async fn begin(loads: &mut [Loader], name: &str) -> io::Result<()> {
    for load in loads {
        load.begin(name).await?;
    }
    Ok(())
}

/// The reports of the phase that ended last; each waits for the phase's slowest request.
pub(super) async fn reports(stage: &Stage, loads: &mut [Loader]) -> io::Result<Vec<Report>> {
    let mut reports = Vec::new();
    for load in loads {
        reports.push(load.report(&stage.voice).await?);
    }
    Ok(reports)
}

pub(super) async fn watch(stage: &Stage, loads: &mut [Loader], time: Duration) -> io::Result<()> {
    let end = Instant::now() + time;
    while Instant::now() < end {
        for load in &mut *loads {
            load.live(&stage.voice).await?;
        }
    }
    Ok(())
}

async fn strike(stage: &mut Stage, death: &Death) -> io::Result<()> {
    for &zone in death.doomed {
        let host = stage.hosts.get(zone)?;
        match death.blow {
            Blow::Silence => {
                stage
                    .voice
                    .command("the bridge", &format!("ip link set {zone} down"))?;
                stage.hosts.cut(host)?;
            }
            Blow::Kill => kill_all(stage, zone).await?,
        }
    }
    Ok(())
}

/// Kills every process of a host: `tacit up` first, so that it starts nothing again.
async fn kill_all(stage: &mut Stage, zone: &str) -> io::Result<()> {
    let host = stage.hosts.get(zone)?;
    let here = stage
        .apps
        .iter()
        .filter(|app| app.host == zone)
        .map(|app| app.running.pid());
    let roots: Vec<u32> = stage.ups.pid(host).into_iter().chain(here).collect();
    let killed = kill_trees(&roots)?;
    stage
        .voice
        .command(zone, &format!("kill -9 ...   # all {killed} processes"))?;
    stage.ups.forget(host).await?;
    let (dead, alive) = std::mem::take(&mut stage.apps)
        .into_iter()
        .partition(|a| a.host == zone);
    stage.apps = alive;
    let dead: Vec<App> = dead;
    for mut app in dead {
        app.running.ended().await?;
    }
    Ok(())
}

async fn revive(stage: &mut Stage, death: &Death) -> io::Result<()> {
    for &zone in death.doomed {
        let host = stage.hosts.get(zone)?;
        match death.blow {
            Blow::Silence => {
                stage
                    .voice
                    .command("the bridge", &format!("ip link set {zone} up"))?;
                stage.hosts.mend(host)?;
            }
            Blow::Kill => {
                stage
                    .ups
                    .start_node(&stage.voice, &stage.hosts, host)
                    .await?;
                stage.ups.answers(host, "node.sock").await?;
                start_payment(stage, zone, ZONES.len(), &[]).await?;
            }
        }
    }
    Ok(())
}

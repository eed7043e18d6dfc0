//! Act (g): the control plane is gone for a minute, and a node dies meanwhile; then it is gone for
//! too long.

use std::io;
use std::time::{Duration, Instant};

use crate::acts::failover::{RETRY, SERVICE, SURVIVE, begin, reports, wait_for_tries, watch};
use crate::acts::{Plan, apply};
use crate::calls::unix_ms;
use crate::figures::{Bound, count};
use crate::hosts::{CONTROL, children_with, kill_one, kill_trees};
use crate::load::report::Report;
use crate::mesh::{COMMAND_PATIENCE, until};
use crate::stage::{Loader, Stage};
use certificates::Certificates;

mod certificates;
mod declared;
mod figures;
mod too_long;

const ACT: &str = "g";
/// Short lives, so that certificates are renewed while the act is played.
pub(super) const SETTINGS: &str = "  certificates: {lifetime: 4m}\n  maxOffline: 2m\n";
/// How long the control plane is gone.
const OUTAGE: Duration = Duration::from_secs(60);
/// From then until the node is killed.
const UNTIL_NODE: Duration = Duration::from_secs(10);
/// From then until the standby's process is killed.
const UNTIL_STANDBY: Duration = Duration::from_secs(15);
/// Far longer than a program that ended stays away.
const RESTART: Duration = Duration::from_secs(3);
/// How long the load goes on after the control plane's return.
const AFTER: Duration = Duration::from_secs(5);
/// The node that is killed meanwhile.
const KILLED: &str = "us-east-1a";
/// The hosts of the clients; the last one calls the standby, too.
const CLIENTS: [&str; 2] = ["us-east-1b", "eu-west-1a"];
/// Requests per second of each client of payments.
const RATE: u32 = 150;
/// Requests that the node serves before anything happens.
const TRIES_BEFORE: u64 = 300;

/// When what happened, in milliseconds since 1970, and what the clients' loads say.
struct Minute {
    struck: f64,
    killed: f64,
    standby_killed: f64,
    /// Of each load: from the loss of control, from the standby's return, from control's return.
    gone: Vec<Report>,
    standby_again: Vec<Report>,
    back: Vec<Report>,
}

pub(crate) async fn play(stage: &mut Stage) -> io::Result<()> {
    stage
        .voice
        .title("(g) The control plane is gone for a minute; then for too long")?;
    declared::declare(stage).await?;
    apply(stage, SURVIVE, RETRY, SERVICE).await?;
    let mut certificates = Certificates::default();
    let mut loads = start(stage)?;
    wait_for_tries(stage, &mut loads, &[KILLED], TRIES_BEFORE).await?;
    certificates.look(stage).await?;
    let minute = minute(stage, &mut loads).await?;
    figures::report(stage, &minute)?;
    enforced_again(stage).await?;
    certificates.all_renewed(stage, &mut loads).await?;
    too_long::play(stage, &mut loads).await?;
    for load in loads {
        load.stop(&stage.voice).await?;
    }
    stage.must(CONTROL, &["delete", RETRY, SERVICE], "").await?;
    declared::withdraw(stage).await
}

/// The loads on payments, and one on the standby.
fn start(stage: &Stage) -> io::Result<Vec<Loader>> {
    let payments = CLIENTS.map(|host| Plan {
        rate: RATE,
        post_every: 10,
        ..Plan::new(host, "outage")
    });
    let standby = Plan {
        rate: 10,
        url: "http://standby.shop/",
        ..Plan::new(CLIENTS[1], "standby")
    };
    let plans = payments.into_iter().chain([standby]);
    plans.map(|plan| plan.start(stage)).collect()
}

async fn minute(stage: &mut Stage, loads: &mut [Loader]) -> io::Result<Minute> {
    begin(loads, "gone").await?;
    let struck = unix_ms();
    let end = Instant::now() + OUTAGE;
    lose_control(stage).await?;
    reports(stage, loads).await?;
    watch(stage, loads, UNTIL_NODE).await?;
    let killed = kill_node(stage)?;
    watch(stage, loads, UNTIL_STANDBY).await?;
    let standby_killed = declared::kill_standby(stage)?;
    watch(stage, loads, RESTART).await?;

    begin(loads, "standby again").await?;
    let gone = reports(stage, loads).await?;
    let left = end.saturating_duration_since(Instant::now());
    watch(stage, loads, left).await?;
    let answers = stage.tell(CONTROL, &["status"]).await?.status.success();
    let what = "control plane that answers at the end of its minute away";
    stage.figure(ACT, what, count(answers.into()), Bound::Exactly(0.0))?;

    begin(loads, "back").await?;
    let standby_again = reports(stage, loads).await?;
    let took = ((unix_ms() - struck) / 1000.0).round();
    let what = "the control plane was away for";
    stage.figure(ACT, what, (took, "s"), Bound::AtLeast(60.0))?;
    regain_control(stage).await?;
    watch(stage, loads, AFTER).await?;
    begin(loads, "after").await?;
    let back = reports(stage, loads).await?;
    Ok(Minute {
        struck,
        killed,
        standby_killed,
        gone,
        standby_again,
        back,
    })
}

/// Kills `tacit up` of the control host and what it started, so that nothing brings it back.
async fn lose_control(stage: &mut Stage) -> io::Result<()> {
    let control = stage.hosts.control()?;
    let up = stage.ups.pid(control).into_iter().collect::<Vec<u32>>();
    let killed = kill_trees(&up)?;
    let line = format!("kill -9 ...   # the control plane: {killed} processes");
    stage.voice.command(CONTROL, &line)?;
    stage.ups.forget(control).await
}

async fn regain_control(stage: &mut Stage) -> io::Result<()> {
    stage.ups.start_control(&stage.voice, &stage.hosts).await
}

/// Kills the node proxy only; its `tacit up` starts it again. Returns the moment.
fn kill_node(stage: &Stage) -> io::Result<f64> {
    let node = node_process(stage, KILLED)?;
    let line = format!("kill -9 {node}   # the node proxy");
    stage.voice.command(KILLED, &line)?;
    let killed = unix_ms();
    kill_one(node)?;
    Ok(killed)
}

/// The process id of the node proxy of a host.
fn node_process(stage: &Stage, host: &str) -> io::Result<u32> {
    let up = stage.ups.pid(stage.hosts.get(host)?);
    let nodes = match up {
        Some(up) => children_with(up, "node")?,
        None => Vec::new(),
    };
    let absent = || io::Error::other(format!("{host}: no node proxy runs"));
    nodes.first().copied().ok_or_else(absent)
}

/// A change after the return is enforced by all nodes, the killed one among them.
async fn enforced_again(stage: &mut Stage) -> io::Result<()> {
    let mut all = false;
    let connected = until("all nodes to be back", COMMAND_PATIENCE, async || {
        let wait = ["wait", "--for=Programmed", RETRY, SERVICE];
        all = stage.tell(CONTROL, &wait).await?.status.success();
        Ok(all)
    });
    connected.await?;
    let what = "after its return all nodes acknowledge";
    stage.figure(ACT, what, count(all.into()), Bound::Exactly(1.0))
}

//! The acts, and what several of them need: the payments service and loads on it.

use std::io;
use std::path::Path;
use std::time::Duration;

use crate::figures::{Bound, count};
use crate::hosts::{CONTROL, ZONES};
use crate::load::report::Report;
use crate::mesh::{COMMAND_PATIENCE, connectable, until};
use crate::process::finish;
use crate::sample::seen::SeenReport;
use crate::stage::{Loader, Stage};

mod access;
mod changes;
mod failover;
mod grants;
mod outage;
mod retries;
mod wire;

/// An act of the demo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Act {
    /// (a) Calls are authenticated, and nothing readable crosses the wire.
    Wire,
    /// (b) A flaky service, and a ten-line policy that ends the errors.
    Retries,
    /// (c) A zone dies, silently and with a bang; then a region.
    Failover,
    /// (d) An unauthorised caller is refused, by a line that can be named.
    Access,
    /// (e) A developer asks for too much and is told so.
    Grants,
    /// (f) How long a change of policy takes until every node decides by it.
    Changes,
    /// (g) The control plane is gone for a minute; then for too long.
    Outage,
}

/// All acts in their order.
const ALL: [Act; 7] = [
    Act::Wire,
    Act::Retries,
    Act::Failover,
    Act::Access,
    Act::Grants,
    Act::Changes,
    Act::Outage,
];

/// What is played: the acts that were asked for, else those that show what Tacit is for.
pub(crate) fn program(asked: &[Act]) -> Vec<Act> {
    let played = |act: &Act| match asked {
        [] => !matches!(act, Act::Changes | Act::Outage),
        asked => asked.contains(act),
    };
    ALL.into_iter().filter(played).collect()
}

/// Settings of the mesh that the acts need, as further lines of its spec.
pub(crate) fn settings(program: &[Act]) -> &'static str {
    if program.contains(&Act::Outage) {
        outage::SETTINGS
    } else {
        ""
    }
}

/// What calls payments in every act.
pub(crate) const CALLER: &str = "shop/web";
/// The service that the acts call, as access logs name it.
pub(crate) const CALLEE: &str = "payments.shop";
/// What the acts call.
pub(crate) const PAYMENTS: &str = "http://payments.shop/charge";
/// Longest wait until new workloads are served everywhere.
pub(crate) const READY_PATIENCE: Duration = Duration::from_secs(20);

pub(crate) async fn play(stage: &mut Stage, act: Act) -> io::Result<()> {
    match act {
        Act::Wire => wire::play(stage).await,
        Act::Retries => retries::play(stage).await,
        Act::Failover => failover::play(stage).await,
        Act::Access => access::play(stage).await,
        Act::Grants => grants::play(stage).await,
        Act::Changes => changes::play(stage).await,
        Act::Outage => outage::play(stage).await,
    }
}

/// The runs that show what happens without a mesh, on the same hosts.
pub(crate) async fn without_mesh(stage: &mut Stage) -> io::Result<()> {
    stage.voice.title("Without a mesh")?;
    wire::without_mesh(stage).await?;
    failover::without_mesh(stage).await
}

/// Something to call for people who stay after the acts.
pub(crate) async fn furnish(stage: &mut Stage) -> io::Result<()> {
    if stage.apps.is_empty() {
        start_payments(stage, &[]).await?;
    }
    Ok(())
}

/// Starts one payments instance in each zone, with further options of the sample application,
/// and waits until callers reach all of them.
pub(crate) async fn start_payments(stage: &mut Stage, options: &[&str]) -> io::Result<()> {
    for (number, (zone, _)) in ZONES.into_iter().enumerate() {
        start_payment(stage, zone, number, options).await?;
    }
    reached_in(stage, "eu-west-1b", &ZONES.map(|(zone, _)| zone)).await
}

/// Starts the payments instance of one zone.
pub(crate) async fn start_payment(
    stage: &mut Stage,
    zone: &'static str,
    number: usize,
    options: &[&str],
) -> io::Result<()> {
    let observe = stage
        .dir
        .join(zone)
        .join(format!("payments-{}.sock", stage.apps.len()));
    // A socket of an instance that was killed may still be there.
    drop(std::fs::remove_file(&observe));
    let (path, seed) = (observe.display().to_string(), (number + 1).to_string());
    let instance = format!("payments-{zone}");
    let mut command = vec![
        "tacit",
        "sample",
        "--name",
        "payments",
        "--instance",
        &instance,
    ];
    command.extend(["--zone", zone, "--seed", &seed, "--observe", &path]);
    command.extend_from_slice(options);
    let run = [
        "--as",
        "shop/payments",
        "--name",
        &instance,
        "--port",
        "http:8080",
    ];
    stage.start_app(zone, &run, &command, Some(observe.clone()))?;
    let listening = tokio::time::timeout(READY_PATIENCE, connectable(&observe)).await;
    listening.map_err(|_| {
        let log = stage.dir.join(zone).join("shop-payments");
        let text = format!("payments in {zone} does not start (see {})", log.display());
        io::Error::new(io::ErrorKind::TimedOut, text)
    })
}

/// Waits until a caller on `host` is served by every one of `zones`.
pub(crate) async fn reached_in(stage: &Stage, host: &str, zones: &[&str]) -> io::Result<()> {
    until("every zone to serve", READY_PATIENCE, async || {
        let plan = Plan {
            requests: Some(60),
            rate: 0,
            ..Plan::new(host, "probe")
        };
        let report = plan.start_quietly(stage)?.finish(&stage.voice).await?;
        Ok(zones.iter().all(|zone| report.zone(zone) > 0))
    })
    .await
}

/// What the sample application of every running app has seen.
pub(crate) async fn seen(stage: &Stage) -> io::Result<Vec<SeenReport>> {
    let mut all = Vec::new();
    for path in stage.apps.iter().filter_map(|app| app.observe.as_ref()) {
        all.push(seen_by(stage, path).await?);
    }
    Ok(all)
}

async fn seen_by(stage: &Stage, path: &Path) -> io::Result<SeenReport> {
    let path = path.display().to_string();
    let args = ["-s", "--unix-socket", &path, "http://sample/_seen"];
    let job = stage.hosts.control()?.job("curl", &args);
    let done = finish(job, "", COMMAND_PATIENCE).await?;
    serde_json::from_str(&done.stdout)
        .map_err(|e| io::Error::other(format!("{path} says {:?}: {e}", done.text())))
}

/// A load to start.
#[derive(Clone, Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) host: &'a str,
    pub(crate) name: &'a str,
    pub(crate) url: &'a str,
    /// Per second; 0: as many as the connections carry.
    pub(crate) rate: u32,
    pub(crate) requests: Option<u64>,
    pub(crate) post_every: u64,
    pub(crate) body: &'a str,
}

impl<'a> Plan<'a> {
    pub(crate) fn new(host: &'a str, name: &'a str) -> Self {
        Self {
            host,
            name,
            url: PAYMENTS,
            rate: 100,
            requests: None,
            post_every: 0,
            body: "{}",
        }
    }

    /// The command line of the load generator.
    pub(crate) fn command(&self) -> Vec<String> {
        let mut words: Vec<String> = ["load", "--name", self.name, "--url", self.url, "--commands"]
            .map(str::to_owned)
            .into();
        let mut option = |name: &str, value: String| words.extend([name.to_owned(), value]);
        option("--rate", self.rate.to_string());
        if self.post_every > 0 {
            option("--post-every", self.post_every.to_string());
            option("--body", self.body.to_owned());
        }
        match self.requests {
            Some(requests) => {
                option("--requests", requests.to_string());
                option("--concurrency", "16".to_owned());
            }
            None => {
                option("--live-ms", "1000".to_owned());
                option("--concurrency", "2000".to_owned());
            }
        }
        words
    }

    /// Starts it as a workload of the mesh, saying so.
    pub(crate) fn start(&self, stage: &Stage) -> io::Result<Loader> {
        let command = self.command();
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        let line = format!(
            "tacit run --as {CALLER} -- tacit {}",
            crate::stage::shell_words(&words)
        );
        stage.voice.command(self.host, &line)?;
        self.start_quietly(stage)
    }

    pub(crate) fn start_quietly(&self, stage: &Stage) -> io::Result<Loader> {
        let command = self.command();
        let mut words = vec!["run", "--as", CALLER, "--", "tacit"];
        words.extend(command.iter().map(String::as_str));
        let host = stage.hosts.get(self.host)?;
        let running = stage.start_job(host, self.name, host.job("tacit", &words))?;
        Ok(Loader::new(host.name, running))
    }
}

/// Applies a policy and waits until it is in force everywhere.
pub(crate) async fn apply(stage: &Stage, policy: &str, kind: &str, name: &str) -> io::Result<()> {
    stage.must(CONTROL, &["apply", "-f", "-"], policy).await?;
    stage
        .must(CONTROL, &["wait", "--for=Programmed", kind, name], "")
        .await?;
    Ok(())
}

/// Every request that was sent has exactly one ending: without this, no zero means anything.
pub(crate) fn complete(
    stage: &mut Stage,
    act: &'static str,
    reports: &[&Report],
) -> io::Result<()> {
    let unfinished = reports.iter().map(|report| report.unfinished).sum();
    let what = "requests without a known ending";
    stage.figure(act, what, count(unfinished), Bound::Exactly(0.0))
}

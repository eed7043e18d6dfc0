//! Act (a): calls are mutually authenticated, and nothing readable crosses the wire.

use std::fs;
use std::io;

use crate::acts::{CALLEE, CALLER, Plan, complete, seen, start_payments};
use crate::calls::{self, Call, unix_ms};
use crate::capture::Captured;
use crate::figures::{Bound, count};
use crate::hosts::{Host, ZONES};
use crate::load::report::Report;
use crate::mesh::{COMMAND_PATIENCE, until};
use crate::process::finish;
use crate::stage::{Loader, Stage};

const ACT: &str = "a";
/// A secret that requests and answers contain.
const SECRET: &str = "card-4242-4242-4242-4242";
/// Requests of the run with the mesh and of the run without it.
const REQUESTS: u64 = 500;
/// A port outside the mesh, for the control run.
const PLAIN_PORT: &str = "9080";

pub(crate) async fn play(stage: &mut Stage) -> io::Result<()> {
    stage
        .voice
        .title("(a) Every call is authenticated, and nothing readable crosses the wire")?;
    start_payments(stage, &["--text", SECRET]).await?;
    first_figure(stage).await?;

    let capture = stage.capture().await?;
    let plan = Plan {
        requests: Some(REQUESTS),
        rate: 0,
        post_every: 5,
        body: SECRET,
        ..Plan::new("eu-west-1b", "wire")
    };
    let before: u64 = seen(stage).await?.iter().map(|seen| seen.started).sum();
    let since = unix_ms();
    let report = plan.start(stage)?.finish(&stage.voice).await?;
    nginx(stage).await?;
    let captured = capture.finish(SECRET).await?;
    let arrived: u64 = seen(stage).await?.iter().map(|seen| seen.started).sum();
    meshed(stage, &report, captured, arrived - before)?;
    authenticated(stage, since)?;
    plain_call_is_refused(stage).await?;

    without_mesh(stage).await?;
    stage.stop_apps().await
}

async fn first_figure(stage: &mut Stage) -> io::Result<()> {
    let url = "http://payments.shop/charge/17";
    let args = [
        "run",
        "--as",
        CALLER,
        "--",
        "curl",
        "-sS",
        "--max-time",
        "5",
        url,
    ];
    let done = stage.must("us-east-1b", &args, "").await?;
    stage.voice.quote(&done.stdout, 3)?;
    let seconds = stage.voice.seconds();
    let what = "from the start of `tacit demo` to the first answered call";
    stage.figure(ACT, what, (seconds, "s"), Bound::None)
}

fn meshed(stage: &mut Stage, report: &Report, captured: Captured, arrived: u64) -> io::Result<()> {
    let answered: u64 = report.methods.values().map(|tally| tally.ok).sum();
    complete(stage, ACT, &[report])?;
    let all = Bound::Exactly(count(REQUESTS).0);
    stage.figure(ACT, "calls answered", count(answered), all)?;
    stage.figure(ACT, "calls that the applications saw", count(arrived), all)?;
    stage.figure(
        ACT,
        "packets on the wire",
        count(captured.packets),
        Bound::None,
    )?;
    let what = "packets of encrypted traffic between proxies";
    stage.figure(
        ACT,
        what,
        count(captured.encrypted),
        Bound::AtLeast(count(100).0),
    )?;
    let what = "packets that the capture lost";
    stage.figure(ACT, what, count(captured.lost), Bound::Exactly(0.0))?;
    let what = "the secret found in clear";
    stage.figure(ACT, what, count(captured.found), Bound::Exactly(0.0))
}

/// What the callees' nodes say of their callers, by the certificates that these showed.
fn authenticated(stage: &mut Stage, since: f64) -> io::Result<()> {
    let mut calls = Vec::new();
    for (zone, _) in ZONES {
        let log = stage.hosts.get(zone)?.dir.join("run/access.log");
        calls.extend(calls::read(&log, CALLEE, since)?);
    }
    calls.retain(|call| !call.at_source);
    let known = |call: &&Call| {
        call.identity
            .as_deref()
            .is_some_and(|identity| identity.ends_with("/ns/shop/sa/web"))
    };
    let verified = calls.iter().filter(known).count() as u64;
    let what = "calls whose caller the callee's node knew by certificate";
    stage.figure(
        ACT,
        what,
        count(verified),
        Bound::Exactly(count(REQUESTS).0),
    )?;
    let what = "calls whose caller it did not know";
    stage.figure(
        ACT,
        what,
        count(calls.len() as u64 - verified),
        Bound::Exactly(0.0),
    )
}

/// Stock nginx as a workload, called by stock curl.
async fn nginx(stage: &mut Stage) -> io::Result<()> {
    if !["/usr/sbin/nginx", "/usr/bin/nginx"]
        .iter()
        .any(|path| fs::exists(path).unwrap_or(false))
    {
        stage
            .figures
            .skipped
            .push("(a) stock nginx: not installed".to_owned());
        return stage.voice.say("stock nginx is not installed: left out");
    }
    let host = stage.hosts.get("us-east-1a")?;
    let dir = host.dir.join("nginx");
    fs::create_dir_all(dir.join("www"))?;
    fs::write(
        dir.join("www/index.html"),
        format!("stock nginx: {SECRET}\n"),
    )?;
    let config = dir.join("nginx.conf");
    fs::write(&config, nginx_config(&dir.display().to_string()))?;
    let config = config.display().to_string();
    let run = [
        "--as",
        "shop/static",
        "--name",
        "nginx",
        "--port",
        "http:8080",
    ];
    let command = ["nginx", "-c", &config, "-g", "daemon off;"];
    stage.start_app("us-east-1a", &run, &command, None)?;
    let call = [
        "run",
        "--as",
        CALLER,
        "--",
        "curl",
        "-sS",
        "--max-time",
        "5",
        "http://static.shop/",
    ];
    until("nginx to serve", COMMAND_PATIENCE, async || {
        let job = stage.hosts.get("eu-west-1a")?.job("tacit", &call);
        Ok(finish(job, "", COMMAND_PATIENCE)
            .await?
            .stdout
            .contains(SECRET))
    })
    .await?;
    let done = stage.must("eu-west-1a", &call, "").await?;
    stage.voice.quote(&done.stdout, 3)?;
    let whole = u64::from(done.stdout.contains(SECRET));
    stage.figure(
        ACT,
        "stock curl answered by stock nginx",
        count(whole),
        Bound::Exactly(1.0),
    )
}

fn nginx_config(dir: &str) -> String {
    format!(
        "user root;
worker_processes 1;
pid {dir}/nginx.pid;
error_log stderr;
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_body_temp_path {dir}/body;
  proxy_temp_path {dir}/proxy;
  fastcgi_temp_path {dir}/fastcgi;
  uwsgi_temp_path {dir}/uwsgi;
  scgi_temp_path {dir}/scgi;
  server {{ listen 8080; root {dir}/www; }}
}}
"
    )
}

/// A call from a host itself, not from a workload: it has no identity.
async fn plain_call_is_refused(stage: &mut Stage) -> io::Result<()> {
    let host = stage.hosts.get("us-east-1a")?;
    let port = "http://payments.shop.svc.cluster.local:8080/";
    let done = stage
        .must("control", &["get", "workload", "-o", "json"], "")
        .await?;
    let Some(address) = address_of(&done.stdout, "payments-us-east-1a") else {
        let text = "`tacit get workload -o json` has no address of payments-us-east-1a";
        return Err(io::Error::other(text));
    };
    let resolve = format!("payments.shop.svc.cluster.local:8080:{address}");
    let args = ["-sS", "--max-time", "3", "--resolve", &resolve, port];
    stage.voice.command(
        host.name,
        &format!("curl {}", crate::stage::shell_words(&args)),
    )?;
    let done = finish(host.job("curl", &args), "", COMMAND_PATIENCE).await?;
    stage.voice.quote(&done.text(), 3)?;
    let answered = u64::from(done.stdout.contains(SECRET));
    let what = "a call without an identity, straight to the workload: answered";
    stage.figure(ACT, what, count(answered), Bound::Exactly(0.0))
}

/// Finds a workload's address in the JSON of `tacit get`, wherever it stands in the object.
fn address_of(json: &str, name: &str) -> Option<String> {
    fn find<'a>(value: &'a serde_json::Value, key: &str) -> Option<&'a str> {
        match value {
            serde_json::Value::Object(map) => map
                .get(key)
                .and_then(|value| value.as_str())
                .or_else(|| map.values().find_map(|value| find(value, key))),
            serde_json::Value::Array(all) => all.iter().find_map(|value| find(value, key)),
            serde_json::Value::Null
            | serde_json::Value::Bool(_)
            | serde_json::Value::Number(_)
            | serde_json::Value::String(_) => None,
        }
    }
    let all: serde_json::Value = serde_json::from_str(json).ok()?;
    let items = all.get("items").unwrap_or(&all).as_array()?;
    let item = items.iter().find(|item| find(item, "name") == Some(name))?;
    find(item, "address").map(str::to_owned)
}

/// The same application, load and wire without a mesh: the capture must find the secret.
pub(super) async fn without_mesh(stage: &mut Stage) -> io::Result<()> {
    stage
        .voice
        .say("The control run: the same, on the same hosts, without the mesh.")?;
    let server = stage.hosts.get("us-east-1a")?;
    let client = stage.hosts.get("eu-west-1b")?;
    let mut app = plain_sample(stage, server)?;
    let url = format!("http://{}:{PLAIN_PORT}/charge", server.address);
    wait_for_plain(stage, client, &url).await?;
    let capture = stage.capture().await?;
    let plan = Plan {
        requests: Some(REQUESTS),
        rate: 0,
        post_every: 5,
        body: SECRET,
        url: &url,
        ..Plan::new("eu-west-1b", "plain")
    };
    let command = plan.command();
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    let line = crate::stage::shell_words(&words);
    stage.voice.command(client.name, &format!("tacit {line}"))?;
    let load = stage.start_job(client, "plain-load", client.job("tacit", &words))?;
    Loader::new(client.name, load).finish(&stage.voice).await?;
    let captured = capture.finish(SECRET).await?;
    app.stop().await?;
    let what = "control run without the mesh: the secret found in clear";
    stage.figure(ACT, what, count(captured.found), Bound::AtLeast(1.0))
}

fn plain_sample(stage: &Stage, host: &Host) -> io::Result<crate::process::Running> {
    let args = [
        "sample", "--name", "payments", "--port", PLAIN_PORT, "--text", SECRET,
    ];
    stage.voice.command(
        host.name,
        &format!("tacit {}", crate::stage::shell_words(&args)),
    )?;
    stage.start_job(host, "plain-sample", host.job("tacit", &args))
}

async fn wait_for_plain(stage: &Stage, host: &Host, url: &str) -> io::Result<()> {
    until("the plain application", COMMAND_PATIENCE, async || {
        let done = finish(
            host.job("curl", &["-s", "-m", "1", url]),
            "",
            COMMAND_PATIENCE,
        )
        .await?;
        Ok(done.status.success())
    })
    .await?;
    stage.voice.figure("the plain application answers")
}

#[cfg(test)]
mod tests {
    use super::address_of;

    #[test]
    fn addresses_in_objects() {
        let json = r#"{"items": [
            {"metadata": {"name": "a"}, "spec": {"address": "10.96.0.1"}},
            {"metadata": {"name": "b"}, "status": {"address": "10.96.0.2"}}]}"#;
        assert_eq!(address_of(json, "b").as_deref(), Some("10.96.0.2"));
        assert_eq!(address_of(json, "c"), None);
    }
}

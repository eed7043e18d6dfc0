//! Act (d): an unauthorised caller is refused, and `tacit why` names the line.

use std::io;

use crate::acts::apply;
use crate::figures::{Bound, count};
use crate::hosts::CONTROL;
use crate::mesh::{COMMAND_PATIENCE, until};
use crate::process::finish;
use crate::stage::{Stage, shell_words};

const ACT: &str = "d";
const POLICY: &str = include_str!("../../policies/access.yaml");
const URL: &str = "http://ledger.shop/accounts/1";
/// Where the refused and the allowed caller run; the ledger runs elsewhere.
const HOST: &str = "us-east-1b";

pub(crate) async fn play(stage: &mut Stage) -> io::Result<()> {
    stage
        .voice
        .title("(d) An unauthorised caller is refused, by a line that can be named")?;
    let run = [
        "--as",
        "shop/ledger",
        "--name",
        "ledger",
        "--port",
        "http:8080",
    ];
    stage.start_app(
        "eu-west-1a",
        &run,
        &["tacit", "sample", "--name", "ledger"],
        None,
    )?;
    until("the ledger to serve", COMMAND_PATIENCE, async || {
        Ok(call(stage, "shop/web", &[]).await? == "200")
    })
    .await?;
    let before = call(stage, "shop/web", &[]).await?;
    let before = u64::from(before == "200");
    let what = "control run without a policy: web may read the ledger";
    stage.figure(ACT, what, count(before), Bound::Exactly(1.0))?;

    apply(stage, POLICY, "AccessPolicy", "shop/ledger").await?;
    let cases: [(&str, &str, &[&str], &str); 4] = [
        (
            "web reads the ledger: refused with 403",
            "shop/web",
            &[],
            "403",
        ),
        (
            "payments reads the ledger: allowed",
            "shop/payments",
            &[],
            "200",
        ),
        (
            "payments writes the ledger: refused with 403",
            "shop/payments",
            &["-X", "POST"],
            "403",
        ),
        (
            "payments reads past the path, encoded: refused with 403",
            "shop/payments",
            &["--path-as-is", "http://ledger.shop/accounts/../secrets"],
            "403",
        ),
    ];
    for (what, identity, options, wanted) in cases {
        let status = call(stage, identity, options).await?;
        let as_wanted = u64::from(status == wanted);
        stage.voice.figure(&format!("{identity}: {status}"))?;
        stage.figure(ACT, what, count(as_wanted), Bound::Exactly(1.0))?;
    }
    why(stage).await?;
    stage
        .must(CONTROL, &["delete", "AccessPolicy", "shop/ledger"], "")
        .await?;
    stage.stop_apps().await
}

/// Says and makes a call to the ledger; the status that it got.
async fn call(stage: &Stage, identity: &str, options: &[&str]) -> io::Result<String> {
    let args = words(identity, options);
    stage
        .voice
        .command(HOST, &format!("tacit {}", shell_words(&args)))?;
    status(stage, &args).await
}

/// A call with stock curl. Options may contain another URL than the usual one.
fn words<'a>(identity: &'a str, options: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec![
        "run",
        "--as",
        identity,
        "--",
        "curl",
        "-s",
        "-o",
        "/dev/null",
    ];
    args.extend(["-w", "%{http_code}", "--max-time", "5"]);
    args.extend_from_slice(options);
    if !options.iter().any(|option| option.starts_with("http")) {
        args.push(URL);
    }
    args
}

async fn status(stage: &Stage, args: &[&str]) -> io::Result<String> {
    let done = finish(
        stage.hosts.get(HOST)?.job("tacit", args),
        "",
        COMMAND_PATIENCE,
    )
    .await?;
    Ok(done.stdout.trim().to_owned())
}

async fn why(stage: &mut Stage) -> io::Result<()> {
    let refused = stage
        .tell(CONTROL, &["why", "shop/web", URL, "--zone", HOST])
        .await?;
    stage.voice.quote(&refused.text(), 30)?;
    let named = u64::from(refused.text().contains("AccessPolicy/shop/ledger"));
    let what = "`tacit why` names the policy that refuses";
    stage.figure(ACT, what, count(named), Bound::Exactly(1.0))?;
    let args = ["why", "shop/payments", URL, "--zone", HOST];
    let allowed = stage.tell(CONTROL, &args).await?;
    stage.voice.quote(&allowed.text(), 30)?;
    let differs = u64::from(allowed.stdout != refused.stdout);
    let what = "control run: it says something else of the allowed caller";
    stage.figure(ACT, what, count(differs), Bound::Exactly(1.0))
}

//! After the acts: commands that people type are run on the hosts.

use std::io;
use std::thread;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::hosts::CONTROL;
use crate::process::finish;
use crate::stage::Stage;

/// How long a typed command may run.
const PATIENCE: Duration = Duration::from_secs(60);
/// Lines that may wait while a command runs.
const WAITING_LINES: usize = 64;
/// Lines of a command's output that are printed.
const SHOWN_LINES: usize = 200;

const HELP: &str = "
The mesh stays up. Type a command; it runs on the control host, or on a zone's host with @ZONE:

  tacit status
  tacit get all
  tacit why shop/web http://ledger.shop/accounts/1
  @eu-west-1a tacit run --as shop/web -- curl -s http://payments.shop/charge

cut ZONE and mend ZONE cut a host's link and join it again. Ctrl-C ends everything.";

/// Runs what is typed until the input ends.
pub(crate) async fn serve(stage: &mut Stage) -> io::Result<()> {
    crate::acts::furnish(stage).await?;
    stage.voice.say(HELP)?;
    let (send, mut lines) = mpsc::channel(WAITING_LINES);
    // Standard input blocks, so it has a thread of its own, which ends with the process.
    thread::Builder::new().spawn(move || {
        for line in io::stdin().lines().map_while(Result::ok) {
            if send.blocking_send(line).is_err() {
                return;
            }
        }
    })?;
    while let Some(line) = lines.recv().await {
        if let Err(error) = one(stage, line.trim()).await {
            stage.voice.say(&error.to_string())?;
        }
    }
    // Without a terminal there is nothing to type: stay up until a signal comes.
    std::future::pending().await
}

async fn one(stage: &Stage, line: &str) -> io::Result<()> {
    let (host, command) = match line.strip_prefix('@').and_then(|line| line.split_once(' ')) {
        Some((host, command)) => (host, command),
        None => (CONTROL, line),
    };
    let host = stage.hosts.get(host)?;
    match command.split_once(' ') {
        None if command.is_empty() => Ok(()),
        Some(("cut", zone)) => stage.hosts.cut(stage.hosts.get(zone.trim())?),
        Some(("mend", zone)) => stage.hosts.mend(stage.hosts.get(zone.trim())?),
        _ => {
            let done = finish(host.job("sh", &["-c", command]), "", PATIENCE).await?;
            stage.voice.quote(&done.text(), SHOWN_LINES)
        }
    }
}

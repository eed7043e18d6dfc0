//! Waits for a started process, and ends it in good order.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use tacit_sys::SysError;
use tacit_sys::signals::{Signal, send_to_group};
use tacit_sys::spawn::Started;
use tokio::sync::watch;

use crate::log;
use crate::run_protocol::RunStatus;

/// How long a program may take to end after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(10);
/// The thread that waits does nothing else.
const STACK: usize = 64 * 1024;

/// A process of a workload that runs. It leads a process group of its own.
pub(crate) struct Running {
    pid: u32,
    ended: watch::Receiver<Option<RunStatus>>,
}

impl Running {
    /// Watches the process, on a thread of its own: waiting for a process blocks.
    pub(crate) fn new(mut started: Started) -> io::Result<Self> {
        let pid = started.pid();
        let (tell, ended) = watch::channel(None);
        std::thread::Builder::new()
            .name(format!("wait-{pid}"))
            .stack_size(STACK)
            .spawn(move || tell.send_replace(Some(status(started.wait()))))?;
        Ok(Self { pid, ended })
    }

    /// Waits until it has ended. Cancel-safe.
    pub(crate) async fn ended(&mut self) -> RunStatus {
        match self.ended.wait_for(Option::is_some).await {
            Ok(status) => status.unwrap_or(LOST),
            // The thread panicked.
            Err(_) => LOST,
        }
    }

    /// Sends a signal to it and its children.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Err(error) = send_to_group(self.pid, signal) {
            log::warn("workloads", error);
        }
    }

    /// Ends it: SIGTERM, then SIGKILL after 10 s.
    pub(crate) async fn end(&mut self) -> RunStatus {
        self.signal(Signal::SIGTERM);
        let ended = tokio::time::timeout(PATIENCE, self.ended()).await;
        // Also what it left behind in its group, which would keep the namespace alive.
        self.signal(Signal::SIGKILL);
        match ended {
            Ok(status) => status,
            Err(_) => self.ended().await,
        }
    }
}

/// Said when the system does not tell how it ended.
const LOST: RunStatus = RunStatus::Exited(1);

fn status(ended: Result<ExitStatus, SysError>) -> RunStatus {
    match ended {
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => RunStatus::Exited(code),
            (None, Some(number)) => RunStatus::Signalled(number),
            (None, None) => LOST,
        },
        Err(error) => {
            log::warn("workloads", error);
            LOST
        }
    }
}

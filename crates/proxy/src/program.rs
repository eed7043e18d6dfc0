//! Waits for a started process, and ends it in good order.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use tacit_sys::signals::Signal;
use tacit_sys::spawn::Started;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::log;
use crate::run_protocol::RunStatus;

/// How long a program may take to end after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(10);

/// A process of a workload that runs.
pub(crate) struct Running(AsyncFd<Started>);

impl Running {
    /// Watches the process. Must be called inside a runtime.
    pub(crate) fn new(started: Started) -> std::io::Result<Self> {
        AsyncFd::with_interest(started, Interest::READABLE).map(Self)
    }

    /// Waits until it has ended. Cancel-safe.
    pub(crate) async fn ended(&mut self) -> RunStatus {
        loop {
            let ready = self.0.readable_mut().await;
            let Ok(mut ready) = ready else { return LOST };
            match ready.get_inner_mut().try_wait() {
                Ok(Some(status)) => {
                    return match (status.code(), status.signal()) {
                        (Some(code), _) => RunStatus::Exited(code),
                        (None, Some(number)) => RunStatus::Signalled(number),
                        (None, None) => LOST,
                    };
                }
                Ok(None) => ready.clear_ready(),
                Err(error) => {
                    log::warn("workloads", error);
                    return LOST;
                }
            }
        }
    }

    /// Sends a signal to it and its children.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Err(error) = self.0.get_ref().signal_group(signal) {
            log::warn("workloads", error);
        }
    }

    /// Ends it: SIGTERM, then SIGKILL after 10 s.
    pub(crate) async fn end(&mut self) -> RunStatus {
        self.signal(Signal::SIGTERM);
        if let Ok(status) = tokio::time::timeout(PATIENCE, self.ended()).await {
            // What it left behind in its group must not keep the namespace alive.
            self.signal(Signal::SIGKILL);
            return status;
        }
        self.signal(Signal::SIGKILL);
        self.ended().await
    }
}

/// Said when the system does not tell how it ended.
const LOST: RunStatus = RunStatus::Exited(1);

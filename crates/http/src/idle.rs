//! Ends a body on which nothing moves, or that goes on past its deadline.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// Watches one body. Makes no timer before the body first has to wait.
#[derive(Debug)]
pub(crate) struct Idle {
    /// Longest time without progress; zero: no limit.
    limit: Duration,
    /// When the body must have ended.
    deadline: Option<Instant>,
    moved: bool,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Idle {
    pub(crate) fn new(limit: Duration, deadline: Option<Instant>) -> Self {
        Self {
            limit,
            deadline,
            moved: true,
            sleep: None,
        }
    }

    /// To be called when something arrived.
    pub(crate) fn progress(&mut self) {
        self.moved = true;
    }

    /// To be called when nothing is there: ready when that has lasted too long.
    pub(crate) fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if std::mem::take(&mut self.moved) {
            let silent = (!self.limit.is_zero()).then(|| Instant::now() + self.limit);
            let until = match (silent, self.deadline) {
                (Some(a), Some(b)) => a.min(b),
                (Some(only), None) | (None, Some(only)) => only,
                (None, None) => return Poll::Pending,
            };
            match &mut self.sleep {
                Some(sleep) => sleep.as_mut().reset(until),
                None => self.sleep = Some(Box::pin(sleep_until(until))),
            }
        }
        match &mut self.sleep {
            Some(sleep) => sleep.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn expired(idle: &mut Idle) -> bool {
        let waited = std::future::poll_fn(|cx| idle.poll_expired(cx));
        tokio::time::timeout(Duration::from_secs(3), waited)
            .await
            .is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn silence_and_deadline() {
        assert!(!expired(&mut Idle::new(Duration::ZERO, None)).await);
        assert!(expired(&mut Idle::new(Duration::from_secs(1), None)).await);
        assert!(!expired(&mut Idle::new(Duration::from_secs(10), None)).await);
        let soon = Instant::now() + Duration::from_secs(1);
        assert!(expired(&mut Idle::new(Duration::from_secs(10), Some(soon))).await);
        let mut moving = Idle::new(Duration::from_secs(4), None);
        assert!(!expired(&mut moving).await);
        moving.progress();
        assert!(!expired(&mut moving).await);
        assert!(expired(&mut moving).await);
    }
}

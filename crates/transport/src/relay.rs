//! Carries bytes between two streams, both ways, until both directions end or something stops it.

use std::cell::Cell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::AsyncWrite;
use tokio::sync::watch;

use crate::dormant::Dormant;
use crate::stream::{Segments, Stream};

/// Taken from one side before the other side is asked to take it: more than this would be held
/// for a receiver that does not read.
const BATCH: usize = 256 * 1024;
/// Batches moved before other connections of the worker get their turn.
const TURNS: usize = 8;

/// Limits of a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayLimits {
    /// A relay on which nothing moves for this long ends. 1 h by default: applications keep
    /// quiet connections, but dead ones must not stay forever.
    pub idle: Duration,
}

impl Default for RelayLimits {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(3600),
        }
    }
}

/// Stops a relay, or anything else that waits on its [`Closing`], with a reason.
#[derive(Clone, Debug)]
pub struct Closer(Rc<watch::Sender<Option<Arc<str>>>>);

/// The other end of a [`Closer`].
#[derive(Clone, Debug)]
pub struct Closing(watch::Receiver<Option<Arc<str>>>);

impl Closer {
    /// A closer that has not fired, and what it closes.
    #[must_use]
    pub fn new() -> (Self, Closing) {
        let (sender, receiver) = watch::channel(None);
        (Self(Rc::new(sender)), Closing(receiver))
    }

    /// Closes, now or as soon as somebody waits. The first reason stays.
    pub fn fire(&self, reason: &str) {
        self.0.send_if_modified(|value| {
            let first = value.is_none();
            if first {
                *value = Some(reason.into());
            }
            first
        });
    }
}

impl Closing {
    /// A closing that never comes.
    #[must_use]
    pub fn never() -> Self {
        Closer::new().1
    }

    /// The reason, if it was fired already.
    #[must_use]
    pub fn reason(&self) -> Option<Arc<str>> {
        self.0.borrow().clone()
    }

    /// Waits until it is fired; forever if its closer is gone.
    pub async fn closed(&mut self) -> Arc<str> {
        match self.0.wait_for(Option::is_some).await {
            Ok(value) => {
                if let Some(reason) = value.as_ref() {
                    return Arc::clone(reason);
                }
            }
            Err(_gone) => {}
        }
        std::future::pending().await
    }
}

/// Which of the two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The first argument of [`relay`].
    A,
    /// The second one.
    B,
}

/// How a relay ended.
#[derive(Debug)]
pub enum Ended {
    /// Stopped through its closer; both sides were reset.
    Closed(Arc<str>),
    /// Both directions ended in order.
    Complete,
    /// One side broke; the other one was reset.
    Failed { side: Side, error: io::Error },
    /// Nothing moved for this long; both sides were reset.
    Idle(Duration),
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed(reason) => write!(f, "closed: {reason}"),
            Self::Complete => f.write_str("complete"),
            Self::Failed { side, error } => write!(f, "side {side:?} broke: {error}"),
            Self::Idle(limit) => write!(f, "nothing moved for {limit:?}"),
        }
    }
}

/// What a relay did.
#[derive(Debug)]
pub struct Relayed {
    /// Bytes from A that B took.
    pub a_to_b: u64,
    /// Bytes from B that A took.
    pub b_to_a: u64,
    pub ended: Ended,
}

/// Carries bytes between `a` and `b` both ways, with half-close, until both directions ended.
///
/// That the bytes may pass at all was proven with the permits that opened or accepted the
/// streams.
pub async fn relay(mut a: Stream, mut b: Stream, limits: RelayLimits, closing: Closing) -> Relayed {
    let mut there = Direction::default();
    let mut back = Direction::default();
    let mut closing = closing;
    let ended = {
        let moved = Cell::new(false);
        let mut idle = Dormant::new(idle(limits.idle, &moved));
        let mut closed = Dormant::new(closing.closed());
        poll_fn(|cx| {
            if let Poll::Ready(reason) = Pin::new(&mut closed).poll(cx) {
                return Poll::Ready(Ended::Closed(reason));
            }
            let before = there.moved + back.moved;
            let outcome = poll_both(cx, &mut there, &mut back, &mut a, &mut b);
            if there.moved + back.moved != before {
                moved.set(true);
            }
            if outcome.is_ready() {
                return outcome;
            }
            Pin::new(&mut idle)
                .poll(cx)
                .map(|()| Ended::Idle(limits.idle))
        })
        .await
    };
    if !matches!(ended, Ended::Complete) {
        a.reset();
        b.reset();
    }
    Relayed {
        a_to_b: there.moved,
        b_to_a: back.moved,
        ended,
    }
}

fn poll_both(
    cx: &mut Context<'_>,
    there: &mut Direction,
    back: &mut Direction,
    a: &mut Stream,
    b: &mut Stream,
) -> Poll<Ended> {
    let forward = there.poll(cx, a, b);
    let backward = back.poll(cx, b, a);
    let failed = |broke: Broke, from: Side, to: Side| match broke {
        Broke::Receiving(error) => Ended::Failed { side: from, error },
        Broke::Sending(error) => Ended::Failed { side: to, error },
    };
    match (forward, backward) {
        (Poll::Ready(Err(broke)), _) => Poll::Ready(failed(broke, Side::A, Side::B)),
        (_, Poll::Ready(Err(broke))) => Poll::Ready(failed(broke, Side::B, Side::A)),
        (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(Ended::Complete),
        (Poll::Pending, _) | (_, Poll::Pending) => Poll::Pending,
    }
}

/// Ends when nothing moved for `limit`. The timer is looked at when it fires, not with each byte.
async fn idle(limit: Duration, moved: &Cell<bool>) {
    loop {
        tokio::time::sleep(limit).await;
        if !moved.replace(false) {
            return;
        }
    }
}

enum Broke {
    Receiving(io::Error),
    Sending(io::Error),
}

/// One direction: what was received and not sent yet, and how far it is.
#[derive(Default)]
struct Direction {
    waiting: Segments,
    moved: u64,
    state: State,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Flowing,
    /// The sender ended; the receiver must still hear of it.
    Ending,
    Done,
}

impl Direction {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Stream,
        to: &mut Stream,
    ) -> Poll<Result<(), Broke>> {
        for _ in 0..TURNS {
            if self.state == State::Done {
                return Poll::Ready(Ok(()));
            }
            let starved = self.fill(cx, from).map_err(Broke::Receiving)?;
            while !self.waiting.is_empty() {
                let sent = ready!(to.poll_send(cx, &mut self.waiting)).map_err(Broke::Sending)?;
                self.moved += sent as u64;
            }
            if self.state == State::Ending {
                ready!(Pin::new(&mut *to).poll_shutdown(cx)).map_err(Broke::Sending)?;
                self.state = State::Done;
            } else if starved {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Receives up to a batch; true if there is nothing more for now.
    fn fill(&mut self, cx: &mut Context<'_>, from: &mut Stream) -> io::Result<bool> {
        while self.state == State::Flowing && self.waiting.len() < BATCH {
            match from.poll_recv(cx)? {
                Poll::Pending => return Ok(true),
                Poll::Ready(Some(segment)) => self.waiting.push(segment),
                Poll::Ready(None) => self.state = State::Ending,
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests;

//! Request bodies on their way to the callee: streamed once, with a copy kept for further tries.

use std::cell::RefCell;
use std::fmt;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use crate::flight::Flight;
use crate::idle::Idle;

/// The body of one try.
pub(crate) enum RequestBody {
    /// Nothing to send.
    Empty,
    /// Reads what was kept, then the rest from the caller.
    Shared(Turn),
}

/// Why a request body stopped short. The endpoint is not at fault in any case.
#[derive(Debug)]
pub(crate) enum BodyBroken {
    /// The caller's connection broke.
    Caller(hyper::Error),
    /// Nothing came from the caller for too long.
    Idle,
    /// A later try reads the body now.
    Superseded,
}

impl fmt::Display for BodyBroken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Caller(_) => "the caller's request body broke off",
            Self::Idle => "the caller sent nothing more of its request body",
            Self::Superseded => "the request body is read by a later try",
        })
    }
}

impl std::error::Error for BodyBroken {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Caller(error) => Some(error),
            Self::Idle | Self::Superseded => None,
        }
    }
}

/// The caller's request body, shared by the tries of a request.
pub(crate) struct Upload(Option<Rc<RefCell<Source>>>);

struct Source {
    incoming: Incoming,
    kept: Kept,
    trailers: Option<HeaderMap>,
    /// The caller sent all of it.
    ended: bool,
    /// The caller did not send all of it and never will.
    broken: bool,
    /// Which try may read.
    turn: u32,
    length: SizeHint,
    idle: Idle,
    flight: Weak<Flight>,
}

/// The copy for further tries.
enum Kept {
    /// All that came so far.
    All {
        segments: Vec<Bytes>,
        bytes: u64,
        limit: u64,
    },
    /// It grew too long and was let go.
    TooLong,
}

impl Upload {
    /// Takes the caller's body; at most `limit` bytes are kept for further tries. `flight` is
    /// told of every byte, once.
    pub(crate) fn new(incoming: Incoming, limit: u64, idle: Duration, flight: &Rc<Flight>) -> Self {
        if incoming.is_end_stream() {
            return Self(None);
        }
        Self(Some(Rc::new(RefCell::new(Source {
            length: incoming.size_hint(),
            incoming,
            kept: Kept::All {
                segments: Vec::new(),
                bytes: 0,
                limit,
            },
            trailers: None,
            ended: false,
            broken: false,
            turn: 0,
            idle: Idle::new(idle, None),
            flight: Rc::downgrade(flight),
        }))))
    }

    /// The body for the next try; the one before cannot read any more.
    pub(crate) fn next_try(&self) -> RequestBody {
        let Some(source) = &self.0 else {
            return RequestBody::Empty;
        };
        let mut guard = source.borrow_mut();
        guard.turn += 1;
        RequestBody::Shared(Turn {
            source: Rc::clone(source),
            turn: guard.turn,
            position: 0,
            done: false,
        })
    }

    /// True if a further try can send all of it.
    pub(crate) fn is_replayable(&self) -> bool {
        self.0.as_ref().is_none_or(|source| {
            let source = source.borrow();
            !source.broken && matches!(source.kept, Kept::All { .. })
        })
    }

    /// True if the caller broke off while sending.
    pub(crate) fn is_broken(&self) -> bool {
        self.0.as_ref().is_some_and(|source| source.borrow().broken)
    }
}

/// One try's reading of the body.
pub(crate) struct Turn {
    source: Rc<RefCell<Source>>,
    turn: u32,
    position: usize,
    done: bool,
}

impl Source {
    fn poll_caller(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyBroken>>> {
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Pending => {
                if self.idle.poll_expired(cx).is_ready() {
                    self.broken = true;
                    return Poll::Ready(Some(Err(BodyBroken::Idle)));
                }
                Poll::Pending
            }
            Poll::Ready(None) => {
                self.ended = true;
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => {
                self.broken = true;
                Poll::Ready(Some(Err(BodyBroken::Caller(error))))
            }
            Poll::Ready(Some(Ok(frame))) => {
                self.idle.progress();
                match frame.data_ref() {
                    Some(data) => self.keep(data),
                    None => self.trailers = frame.trailers_ref().cloned(),
                }
                self.ended = self.incoming.is_end_stream();
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    fn keep(&mut self, data: &Bytes) {
        let length = data.len() as u64;
        if let Some(flight) = self.flight.upgrade() {
            flight.sent.set(flight.sent.get() + length);
        }
        if let Kept::All {
            segments,
            bytes,
            limit,
        } = &mut self.kept
        {
            *bytes += length;
            if *bytes > *limit {
                self.kept = Kept::TooLong;
            } else {
                segments.push(data.clone());
            }
        }
    }
}

impl Turn {
    /// What was kept and this try has not sent yet.
    fn next_kept(&mut self) -> Option<Frame<Bytes>> {
        let source = self.source.borrow();
        let Kept::All { segments, .. } = &source.kept else {
            return None;
        };
        let frame = match segments.get(self.position) {
            Some(segment) => Frame::data(segment.clone()),
            None if source.ended && self.position == segments.len() => {
                Frame::trailers(source.trailers.clone()?)
            }
            None => return None,
        };
        drop(source);
        self.position += 1;
        Some(frame)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyBroken;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyBroken>>> {
        let Self::Shared(turn) = self.get_mut() else {
            return Poll::Ready(None);
        };
        if turn.done {
            return Poll::Ready(None);
        }
        if turn.source.borrow().turn != turn.turn {
            turn.done = true;
            return Poll::Ready(Some(Err(BodyBroken::Superseded)));
        }
        if let Some(frame) = turn.next_kept() {
            return Poll::Ready(Some(Ok(frame)));
        }
        let mut source = turn.source.borrow_mut();
        if source.ended {
            turn.done = true;
            return Poll::Ready(None);
        }
        let polled = source.poll_caller(cx);
        match &polled {
            Poll::Ready(Some(Ok(_))) => turn.position += 1,
            Poll::Ready(_) => turn.done = true,
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        let Self::Shared(turn) = self else {
            return true;
        };
        let source = turn.source.borrow();
        let sent_all = match &source.kept {
            Kept::All { segments, .. } => {
                let trailers = usize::from(source.trailers.is_some());
                turn.position >= segments.len() + trailers
            }
            Kept::TooLong => true,
        };
        turn.done || (source.ended && sent_all)
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Shared(turn) => turn.source.borrow().length,
        }
    }
}

//! Response bodies on their way to the caller: counted, watched, and the end of their request.

use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tacit_decide::retry::{Sent, TryOutcome};
use tacit_model::event::{Ending, Fault};

use crate::client_half::Serving;
use crate::connection::BodyTime;
use crate::connections::Lease;
use crate::flight::{Flight, Flights, failed};
use crate::idle::Idle;

/// The body of an answer.
pub(crate) enum ResponseBody {
    /// Tacit's own words, or nothing.
    Own(Option<Bytes>),
    /// The callee's.
    Passed(Box<Passed>),
}

/// Why a response was cut midway.
#[derive(Debug)]
pub(crate) enum Cut {
    /// The callee's connection broke.
    Callee(hyper::Error),
    /// The request's time is up, or nothing came for too long.
    Timeout,
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Callee(_) => "the response broke off midway",
            Self::Timeout => "a timeout ran out while the response was under way",
        })
    }
}

impl std::error::Error for Cut {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Callee(error) => Some(error),
            Self::Timeout => None,
        }
    }
}

/// A response body on its way through.
pub(crate) struct Passed {
    incoming: Incoming,
    /// The connection that it comes from; given back at the end.
    lease: Option<Lease>,
    /// The endpoint, in the client half; it has load until the end.
    serving: Option<Serving>,
    idle: Idle,
    /// The request, and how it ends if nothing breaks.
    end: Option<(Rc<Flights>, Rc<Flight>, Ending)>,
}

impl ResponseBody {
    /// Passes `incoming` on. Its end, or its breaking, ends the request.
    pub(crate) fn passed(
        incoming: Incoming,
        (lease, serving): (Lease, Option<Serving>),
        time: BodyTime,
        (flights, flight): (Rc<Flights>, Rc<Flight>),
        ending: Ending,
    ) -> Self {
        let mut passed = Passed {
            incoming,
            lease: Some(lease),
            serving,
            idle: Idle::new(time.idle, time.deadline),
            end: Some((flights, flight, ending)),
        };
        // A body that is empty may never be polled.
        if passed.incoming.is_end_stream() {
            passed.complete();
        }
        Self::Passed(Box::new(passed))
    }
}

impl Passed {
    fn complete(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.give_back();
        }
        self.serving = None;
        if let Some((flights, flight, ending)) = self.end.take() {
            flights.finish(&flight, ending);
        }
    }

    fn cut(&mut self, cut: Cut) -> Cut {
        // A connection in the middle of a response is of no further use.
        self.lease = None;
        let sent = Sent::Something;
        let (fault, outcome) = match &cut {
            Cut::Callee(_) => (Fault::Reset, TryOutcome::BrokenAfterHeaders),
            Cut::Timeout => (Fault::Timeout, TryOutcome::RequestTimeout { sent }),
        };
        if let Some(serving) = self.serving.take() {
            serving.report(&outcome);
        }
        if let Some((flights, flight, _)) = self.end.take() {
            flights.finish(&flight, failed(fault, cut.to_string()));
        }
        cut
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Pending if self.idle.poll_expired(cx).is_ready() => {
                Poll::Ready(Some(Err(self.cut(Cut::Timeout))))
            }
            Poll::Pending => Poll::Pending,
            Poll::Ready(None) => {
                self.complete();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(self.cut(Cut::Callee(error))))),
            Poll::Ready(Some(Ok(frame))) => {
                self.idle.progress();
                if let (Some(data), Some((_, flight, _))) = (frame.data_ref(), &self.end) {
                    flight
                        .received
                        .set(flight.received.get() + data.len() as u64);
                }
                // Nobody asks for more after the last byte of a body of known length.
                if self.incoming.is_end_stream() {
                    self.complete();
                }
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match self.get_mut() {
            Self::Own(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Self::Passed(passed) => passed.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(text) => text.is_none(),
            Self::Passed(passed) => passed.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(text) => SizeHint::with_exact(text.as_ref().map_or(0, Bytes::len) as u64),
            Self::Passed(passed) => passed.incoming.size_hint(),
        }
    }
}

//! What came of one try, and what it means for the next.

use std::time::Duration;

use http::Response;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tacit_decide::retry::{Sent, TryOutcome};
use tacit_transport::dial::Phase;
use tacit_transport::{DialError, DialFault};

use crate::connections::Lease;
use crate::fault::{Lost, chain};
use crate::headers::{REFUSAL, Reason};

/// What came of one try.
pub(super) enum Tried {
    /// Response headers, from the application or from its node.
    Answered(Response<Incoming>, Lease),
    /// No response.
    Failed(Failure),
}

/// A try without a response.
pub(super) struct Failure {
    pub(super) outcome: TryOutcome,
    /// For people.
    pub(super) why: String,
}

impl Tried {
    pub(super) fn is_failed(&self) -> bool {
        matches!(self, Self::Failed(_))
    }

    pub(super) fn outcome(&self) -> TryOutcome {
        match self {
            Self::Answered(response, _) => of_response(response),
            Self::Failed(failure) => failure.outcome,
        }
    }
}

/// The callee's node says in a header what its answer is; the application cannot.
fn of_response(response: &Response<Incoming>) -> TryOutcome {
    if response.headers().contains_key(REFUSAL) {
        return TryOutcome::RefusedByTacit;
    }
    match Reason::of(response.headers()) {
        Some(Reason::Connect) => TryOutcome::ApplicationRefused,
        Some(Reason::Refused) => TryOutcome::RefusedStream,
        Some(Reason::Reset) => TryOutcome::Reset {
            sent: Sent::Something,
            session_lost: false,
        },
        Some(Reason::NoEndpoint | Reason::Timeout) | None => {
            TryOutcome::Status(response.status().as_u16())
        }
    }
}

impl Failure {
    /// No connection: nothing was sent.
    pub(super) fn of_dial(error: &DialError) -> Self {
        let outcome = match &error.fault {
            DialFault::NoIdentity => TryOutcome::OwnFault,
            DialFault::PeerRefused {
                status: 401 | 403 | 429,
                ..
            } => TryOutcome::RefusedByTacit,
            DialFault::PeerRefused { .. } | DialFault::Timeout(Phase::Answer) => {
                TryOutcome::ApplicationRefused
            }
            DialFault::ConnectFailed
            | DialFault::SessionLost
            | DialFault::Timeout(Phase::Connect | Phase::Handshake)
            | DialFault::Tls => TryOutcome::ConnectFailed,
        };
        Self {
            outcome,
            why: error.to_string(),
        }
    }

    /// The connection broke. `sent` nothing: before a byte of the request was written.
    pub(super) fn of_connection(error: &hyper::Error, sent: Sent) -> Self {
        let reset = |session_lost| TryOutcome::Reset { sent, session_lost };
        let outcome = match Lost::of(error) {
            Lost::NotProcessed => TryOutcome::RefusedStream,
            Lost::Reset => reset(false),
            Lost::Unreachable => reset(true),
        };
        let why = format!("the connection broke before the response: {}", chain(error));
        Self { outcome, why }
    }

    /// The header that tells the caller what went wrong.
    pub(super) fn reason(&self) -> Reason {
        match self.outcome {
            TryOutcome::ApplicationRefused
            | TryOutcome::ConnectFailed
            | TryOutcome::OwnFault
            | TryOutcome::RefusedByTacit => Reason::Connect,
            TryOutcome::PerTryTimeout { .. } | TryOutcome::RequestTimeout { .. } => Reason::Timeout,
            TryOutcome::RefusedStream => Reason::Refused,
            TryOutcome::BrokenAfterHeaders | TryOutcome::Reset { .. } | TryOutcome::Status(_) => {
                Reason::Reset
            }
        }
    }
}

/// Longest body of an answer that is read away to keep its connection.
const MOST_DISCARDED: u64 = 64 * 1024;
/// Longest time for that; a new connection is cheaper than a longer wait.
const DISCARD_TIME: Duration = Duration::from_secs(1);

/// Puts away what came of a try that is followed by another one. A short answer is read to its
/// end, so that its connection can be used again; its failure, if it was one, is returned.
pub(super) fn discard(came: Tried) -> Option<Failure> {
    let (response, lease) = match came {
        Tried::Failed(failure) => return Some(failure),
        Tried::Answered(response, lease) => (response, lease),
    };
    let body = response.into_body();
    if body.is_end_stream() {
        lease.give_back();
    } else if body
        .size_hint()
        .upper()
        .is_none_or(|most| most <= MOST_DISCARDED)
    {
        tokio::task::spawn_local(async move {
            if let Ok(true) = tokio::time::timeout(DISCARD_TIME, read_away(body)).await {
                lease.give_back();
            }
        });
    }
    None
}

/// True if the body ended in good order before it grew too long.
async fn read_away(mut body: Incoming) -> bool {
    let mut read = 0;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return false };
        read += frame.data_ref().map_or(0, |data| data.len() as u64);
        if read > MOST_DISCARDED {
            return false;
        }
    }
    true
}

//! One request with all that its tries share.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::header::HeaderValue;
use http::{Request, Response, request};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use tacit_decide::retry::{Progress, Sent, TryLimit, TryOutcome};
use tacit_decide::{Decider, Denial, DenialKind, DialPermit};
use tacit_model::event::Party;
use tacit_model::resilience::Resilience;
use tacit_model::route::{Candidate, RouteRule};
use tacit_model::tables::WorkloadRow;
use tacit_model::{Now, Snapshot};
use tokio::time::Instant;

use super::routing::change_headers;
use super::tried::{Failure, Tried};
use super::{Caller, DialAsk, Serving};
use crate::connection::BodyTime;
use crate::connections::Lease;
use crate::deadline;
use crate::flight::Flight;
use crate::headers;
use crate::request_body::{RequestBody, Upload};
use crate::response_body::ResponseBody;
use crate::worker::InnerKey;

/// One request.
pub(super) struct Call<'a> {
    pub(super) caller: &'a Caller,
    pub(super) flight: &'a Rc<Flight>,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) source: Arc<WorkloadRow>,
    pub(super) resilience: Rc<Resilience>,
    /// The rule of a route that it follows.
    pub(super) by: Option<Candidate>,
    /// As each try sends it, but for what differs between tries.
    pub(super) head: request::Parts,
    pub(super) upload: Upload,
    /// The caller's side, should the callee switch protocols.
    upgrade: Option<OnUpgrade>,
}

/// Whom one try goes to.
pub(super) struct Aim {
    pub(super) permit: DialPermit,
    pub(super) workload: Arc<WorkloadRow>,
}

/// The limits of one try.
pub(super) struct TryTime {
    /// Until the response headers.
    headers: Option<TryLimit>,
    /// For all tries, response body included unless it is a stream.
    deadline: Option<Instant>,
    /// What is left of it.
    left: Option<Duration>,
}

impl<'a> Call<'a> {
    pub(super) fn new(
        caller: &'a Caller,
        flight: &'a Rc<Flight>,
        (snapshot, source): (Arc<Snapshot>, Arc<WorkloadRow>),
        resilience: Rc<Resilience>,
        (mut head, body): (request::Parts, Incoming),
    ) -> Self {
        let upgrade = head.extensions.remove::<OnUpgrade>();
        let asked = headers::upgrade(&head.headers);
        headers::strip_markers(&mut head.headers);
        headers::end_hop(&mut head.headers, asked);
        headers::retarget(&mut head, &caller.half.to.to_string());
        headers::set_id(&mut head.headers, &flight.id);
        let (limit, idle) = (resilience.max_body.value, resilience.idle.value);
        Self {
            caller,
            flight,
            snapshot,
            source,
            resilience,
            by: None,
            head,
            upload: Upload::new(body, limit, idle, flight),
            upgrade,
        }
    }

    /// The limits of the next try.
    pub(super) fn time(&self, decider: &Decider<'_>, progress: &Progress, now: Now) -> TryTime {
        let left = progress.deadline().map(|deadline| deadline.since(now));
        TryTime {
            headers: decider.try_limit(&self.resilience, progress, now),
            deadline: left.map(|left| Instant::now() + left),
            left,
        }
    }

    /// The limits of an only try, without a policy.
    pub(super) fn caller_time(&self, left: Option<Duration>) -> TryTime {
        TryTime {
            headers: left.map(TryLimit::Request),
            deadline: left.map(|left| Instant::now() + left),
            left,
        }
    }

    /// One try: a connection, the request, and the wait for response headers. A try that is
    /// dropped halfway resets what it had opened.
    pub(super) async fn attempt(&self, aim: Aim, number: u32, time: &TryTime) -> Tried {
        self.flight.destination.replace(self.party(&aim));
        let sent = Cell::new(Sent::Nothing);
        let request = self.request(number, time);
        let sending = self.send(aim, request, &sent);
        let (limit, sent) = match time.headers {
            None => return sending.await,
            Some(TryLimit::PerTry(limit) | TryLimit::Request(limit)) => (limit, &sent),
        };
        if let Ok(came) = tokio::time::timeout(limit, sending).await {
            return came;
        }
        let sent = sent.get();
        let outcome = match time.headers {
            Some(TryLimit::PerTry(_)) => TryOutcome::PerTryTimeout { sent },
            Some(TryLimit::Request(_)) | None => TryOutcome::RequestTimeout { sent },
        };
        let why = format!("no response headers within {limit:?}");
        Tried::Failed(Failure { outcome, why })
    }

    fn party(&self, aim: &Aim) -> Party {
        Party {
            workload: Some(aim.workload.name.clone()),
            identity: Some(aim.permit.expected().clone()),
            locality: Some(aim.workload.locality.clone()),
            address: Some(aim.permit.endpoint()),
        }
    }

    fn request(&self, number: u32, time: &TryTime) -> Request<RequestBody> {
        let mut head = self.head.clone();
        head.headers.insert(headers::TRY, HeaderValue::from(number));
        if let Some(left) = time.left {
            deadline::pass_on(&mut head.headers, left);
        }
        Request::from_parts(head, self.upload.next_try())
    }

    async fn send(&self, aim: Aim, mut request: Request<RequestBody>, sent: &Cell<Sent>) -> Tried {
        let half = &self.caller.half;
        let key = InnerKey {
            source: half.source.clone(),
            endpoint: aim.permit.endpoint(),
            identity: aim.permit.expected().clone(),
        };
        let version = self.head.version;
        let inner = &half.worker.inner;
        while let Some(lease) = inner.reuse(&key, version).await {
            match exchange(lease, request, sent).await {
                Exchanged::Done(came) => return came,
                // It closed before a byte of the request was written: the next one, then.
                Exchanged::Unsent(back, _) => request = back,
            }
        }
        // In a box: what only a new connection needs shall not make every request's task larger.
        Box::pin(self.open(key, aim, request, sent)).await
    }

    /// Opens a connection and sends the request on it.
    async fn open(
        &self,
        key: InnerKey,
        aim: Aim,
        request: Request<RequestBody>,
        sent: &Cell<Sent>,
    ) -> Tried {
        let half = &self.caller.half;
        let ask = DialAsk {
            permit: aim.permit,
            node: aim.workload.node.clone(),
            connect: self.resilience.connect.value,
        };
        let dial = || (half.dial)(ask);
        match half.worker.inner.open(&key, self.head.version, dial).await {
            Err(error) => Tried::Failed(Failure::of_dial(&error)),
            Ok(lease) => match exchange(lease, request, sent).await {
                Exchanged::Done(came) => came,
                Exchanged::Unsent(_, failure) => Tried::Failed(failure),
            },
        }
    }

    /// The answer to the caller: what came of the last try.
    pub(super) fn answer(
        self,
        came: Tried,
        time: &TryTime,
        serving: Option<Serving>,
    ) -> Response<ResponseBody> {
        match came {
            Tried::Failed(failure) => self.fail(failure),
            Tried::Answered(mut response, lease) => {
                if let Some(rule) = self.by.as_ref().and_then(Candidate::rule)
                    && let Err(error) =
                        change_headers(response.headers_mut(), &rule.changes.response)
                {
                    return self.broken_route(rule, &error);
                }
                let is_stream = headers::is_stream(&response);
                let time = BodyTime {
                    idle: self.resilience.idle.value,
                    deadline: time.deadline.filter(|_| !is_stream),
                };
                let connection = &self.caller.connection;
                let source = (lease, serving);
                connection.pass(response, source, self.upgrade, time, self.flight)
            }
        }
    }

    /// No endpoint is left: says what the last one did, if there was one.
    pub(super) fn no_endpoint(
        self,
        last: Option<Failure>,
        denial: Denial,
    ) -> Response<ResponseBody> {
        match last {
            Some(failure) => self.fail(failure),
            None => self.caller.connection.refuse(self.flight, denial),
        }
    }

    /// A rule changes something into what HTTP cannot carry; the compiler takes no such rule.
    pub(super) fn broken_route(
        &self,
        rule: &RouteRule,
        error: &http::Error,
    ) -> Response<ResponseBody> {
        let denial = Denial {
            kind: DenialKind::BrokenRoute,
            reason: format!("the change that the rule makes cannot be made: {error}"),
            by: Some(rule.from.clone()),
        };
        self.caller.connection.refuse(self.flight, denial)
    }

    /// The caller broke off while sending.
    pub(super) fn abandon(self) -> Response<ResponseBody> {
        self.caller.connection.abandon(self.flight)
    }

    fn fail(self, failure: Failure) -> Response<ResponseBody> {
        let connection = &self.caller.connection;
        if failure.outcome == TryOutcome::RefusedByTacit {
            let denial = Denial {
                kind: DenialKind::Policy,
                reason: failure.why,
                by: None,
            };
            return connection.refuse(self.flight, denial);
        }
        connection.fail(self.flight, failure.reason(), &failure.why)
    }
}

enum Exchanged {
    Done(Tried),
    /// Not a byte of the request was written.
    Unsent(Request<RequestBody>, Failure),
}

/// Sends a request on a connection and waits for the response headers.
async fn exchange(mut lease: Lease, request: Request<RequestBody>, sent: &Cell<Sent>) -> Exchanged {
    // From here on a byte may be on its way at any moment.
    sent.set(Sent::Something);
    let mut error = match lease.send(request).await {
        Ok(response) => return Exchanged::Done(Tried::Answered(response, lease)),
        Err(error) => error,
    };
    match error.take_message() {
        None => {
            let failure = Failure::of_connection(error.error(), Sent::Something);
            Exchanged::Done(Tried::Failed(failure))
        }
        Some(request) => {
            sent.set(Sent::Nothing);
            let failure = Failure::of_connection(error.error(), Sent::Nothing);
            Exchanged::Unsent(request, failure)
        }
    }
}

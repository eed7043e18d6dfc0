//! One caller's connection, in either half: its events, and how responses go back on it.

use std::rc::Rc;
use std::time::Duration;

use http::header::{CONNECTION, HeaderMap, HeaderValue};
use http::{Response, StatusCode, Version, request};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use tacit_decide::{Denial, DenialKind};
use tacit_model::event::{Ending, Fault, Party, Reporter};
use tacit_transport::Stream;
use tokio::time::Instant;

use crate::answer;
use crate::client_half::Serving;
use crate::connections::Lease;
use crate::flight::{Flight, Flights, failed};
use crate::headers::{self, Reason};
use crate::response_body::ResponseBody;
use crate::serve::{Served, Stop, Upgrades, serve};
use crate::upgrade;
use crate::worker::Worker;

/// A caller's connection.
pub(crate) struct Connection {
    pub(crate) worker: Rc<Worker>,
    pub(crate) flights: Rc<Flights>,
    upgrades: Upgrades,
}

/// How long a response may take from its headers on.
#[derive(Clone, Copy)]
pub(crate) struct BodyTime {
    /// Longest silence; zero: no limit.
    pub(crate) idle: Duration,
    /// When it must have ended, unless it is a stream.
    pub(crate) deadline: Option<Instant>,
}

impl Connection {
    pub(crate) fn new(worker: Rc<Worker>, reporter: Reporter, source: Party) -> Self {
        let flights = Flights::new(Rc::clone(&worker), reporter, source);
        Self {
            worker,
            flights: Rc::new(flights),
            upgrades: Upgrades::default(),
        }
    }

    /// Serves requests on `stream` with `answer`; what is not HTTP ends in an event, too.
    pub(crate) async fn serve<A, F>(&self, stream: Stream, stop: Stop, callee: Party, answer: A)
    where
        A: Fn(http::Request<Incoming>) -> F,
        F: Future<Output = Response<ResponseBody>> + 'static,
    {
        let until = (self.worker.drain.clone(), stop);
        let served = serve(stream, &self.flights, &self.upgrades, until, answer).await;
        if let Served::NotHttp(reason) = served {
            let flight = self.flights.begin_unreadable(self.worker.new_id(), callee);
            flight.status.set(StatusCode::BAD_REQUEST.as_u16());
            self.flights
                .finish(&flight, failed(Fault::Protocol, reason));
        }
    }

    /// A request begins: its id is the caller's, else a new one.
    pub(crate) fn begin(&self, head: &request::Parts, callee: Party) -> Rc<Flight> {
        let given = headers::given_id(&head.headers);
        let id = given.map_or_else(|| self.worker.new_id(), Into::into);
        self.flights.begin(id, head, callee)
    }

    /// Answers a request that breaks HTTP's rules.
    pub(crate) fn reject(&self, flight: &Rc<Flight>, why: &str) -> Response<ResponseBody> {
        let response = answer::bad_request(why, &flight.id);
        self.end(flight, response, failed(Fault::Protocol, why))
    }

    /// Answers a request that a decision refuses.
    pub(crate) fn refuse(&self, flight: &Rc<Flight>, denial: Denial) -> Response<ResponseBody> {
        let response = answer::refused(&denial, &flight.id);
        let ending = match denial.kind {
            DenialKind::BadRequest => failed(Fault::Protocol, denial.reason),
            DenialKind::NoEndpoint => failed(Fault::NoEndpoint, denial.reason),
            DenialKind::BrokenGrpcRoute
            | DenialKind::BrokenRoute
            | DenialKind::NoGrpcRoute
            | DenialKind::NoRoute
            | DenialKind::Offline
            | DenialKind::OverRate { .. }
            | DenialKind::Policy
            | DenialKind::UnknownDestination => {
                let Denial { reason, by, .. } = denial;
                Ending::Denied { reason, by }
            }
        };
        self.end(flight, response, ending)
    }

    /// Answers a request that a route sends elsewhere.
    pub(crate) fn redirect(
        &self,
        flight: &Rc<Flight>,
        status: u16,
        to: &str,
    ) -> Response<ResponseBody> {
        let response = answer::redirect(status, to, &flight.id);
        self.end(flight, response, Ending::Complete)
    }

    /// Answers a request that a FaultPolicy makes fail.
    pub(crate) fn injected(
        &self,
        flight: &Rc<Flight>,
        status: u16,
        why: &str,
    ) -> Response<ResponseBody> {
        let response = answer::injected(status, why, &flight.id);
        self.end(flight, response, failed(Fault::Injected, why))
    }

    /// Answers a request that went wrong.
    pub(crate) fn fail(
        &self,
        flight: &Rc<Flight>,
        reason: Reason,
        why: &str,
    ) -> Response<ResponseBody> {
        let response = answer::failed(reason, why, &flight.id);
        self.end(flight, response, failed(fault(reason), why))
    }

    /// Ends a request whose caller broke off while sending it; nobody reads the answer.
    pub(crate) fn abandon(&self, flight: &Rc<Flight>) -> Response<ResponseBody> {
        let why = "the caller did not send all of its request";
        let response = answer::bad_request(why, &flight.id);
        self.flights.finish(flight, failed(Fault::ClientGone, why));
        response
    }

    fn end(
        &self,
        flight: &Rc<Flight>,
        mut response: Response<ResponseBody>,
        ending: Ending,
    ) -> Response<ResponseBody> {
        self.say_close(flight, response.headers_mut());
        flight.status.set(response.status().as_u16());
        self.flights.finish(flight, ending);
        response
    }

    /// Passes the callee's response on. A 101 is followed by bytes in both directions once
    /// `caller` has switched, too.
    pub(crate) fn pass(
        &self,
        mut response: Response<Incoming>,
        source: (Lease, Option<Serving>),
        caller: Option<OnUpgrade>,
        time: BodyTime,
        flight: &Rc<Flight>,
    ) -> Response<ResponseBody> {
        let granted = headers::upgrade(response.headers());
        headers::end_hop(response.headers_mut(), granted);
        *response.version_mut() = Version::default();
        flight.status.set(response.status().as_u16());
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let Some(caller) = caller else {
                let why = "the callee switched protocols without being asked";
                return self.fail(flight, Reason::Reset, why);
            };
            let callee = hyper::upgrade::on(&mut response);
            let ends = (Rc::clone(&self.flights), Rc::clone(flight));
            let relayed = upgrade::relay(caller, callee, time.idle, ends.0, ends.1);
            *self.upgrades.borrow_mut() = Some(Box::pin(async move {
                relayed.await;
                drop(source);
            }));
            return response.map(|_| ResponseBody::Own(None));
        }
        self.say_close(flight, response.headers_mut());
        let ending = ending(response.headers());
        let (head, incoming) = response.into_parts();
        let ends = (Rc::clone(&self.flights), Rc::clone(flight));
        Response::from_parts(
            head,
            ResponseBody::passed(incoming, source, time, ends, ending),
        )
    }

    /// While the worker drains, an HTTP/1 caller learns with its answer that it is the last.
    fn say_close(&self, flight: &Flight, headers: &mut HeaderMap) {
        if flight.version != Version::HTTP_2 && *self.worker.drain.borrow() {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }
}

fn fault(reason: Reason) -> Fault {
    match reason {
        Reason::Connect => Fault::Connect,
        Reason::NoEndpoint => Fault::NoEndpoint,
        Reason::Refused | Reason::Reset => Fault::Reset,
        Reason::Timeout => Fault::Timeout,
    }
}

/// How a request ends whose response says itself, by the callee's half, what became of it.
fn ending(response: &HeaderMap) -> Ending {
    if let Some(refusal) = response.get(headers::REFUSAL) {
        return Ending::Denied {
            reason: String::from_utf8_lossy(refusal.as_bytes()).into_owned(),
            by: None,
        };
    }
    match Reason::of(response) {
        Some(reason) => failed(fault(reason), "said by the callee's node"),
        None => Ending::Complete,
    }
}

//! The caller's half: finds an endpoint for each request, sends it, and tries again if it may.

use std::cell::RefCell;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use tacit_decide::retry::{GiveUp, Progress, RetryDecision};
use tacit_decide::{
    Ask, Choice, Decider, Denial, DenialKind, Destination, DialPermit, ServiceTarget,
    WorkloadTarget,
};
use tacit_model::event::{Party, Reporter};
use tacit_model::resilience::Resilience;
use tacit_model::route::Candidate;
use tacit_model::tables::WorkloadRow;
use tacit_model::{NodeName, ServiceName, Snapshot, WorkloadName};
use tacit_transport::{DialError, Stream};

use crate::connection::Connection;
use crate::deadline;
use crate::headers;
use crate::response_body::ResponseBody;
use crate::serve::Stop;
use crate::worker::Worker;

mod call;
mod injected;
mod routing;
mod serving;
mod tried;

use call::{Aim, Call};
use routing::{Stopped, Way};
pub(crate) use serving::Serving;
use tried::discard;

/// One captured connection of a local application to something in the mesh that speaks HTTP.
pub struct ClientHalf {
    /// The worker that serves it.
    pub worker: Rc<Worker>,
    /// The workload that calls.
    pub source: WorkloadName,
    /// The same, for events.
    pub caller: Party,
    /// Where the application connected to. What that is is decided anew for each request.
    pub to: SocketAddr,
    /// Opens connections to endpoints.
    pub dial: Dial,
}

/// Opens an HBONE stream to an endpoint, normally from the worker's pool.
pub type Dial = Rc<dyn Fn(DialAsk) -> Dialling>;

/// A connection that is being opened.
pub type Dialling = Pin<Box<dyn Future<Output = Result<Stream, DialError>>>>;

/// A connection that a request needs.
#[derive(Debug)]
pub struct DialAsk {
    /// Leave to open it, and where to.
    pub permit: DialPermit,
    /// The machine of the endpoint.
    pub node: NodeName,
    /// How long all of it may take.
    pub connect: Duration,
}

struct Caller {
    half: ClientHalf,
    connection: Connection,
    settled: RefCell<Option<Settled>>,
}

/// What applies to the requests of a connection: the same until the snapshot changes.
struct Settled {
    /// Of what it was made; weak, because no connection keeps an old snapshot.
    snapshot: Weak<Snapshot>,
    service: ServiceName,
    /// The rule that requests follow, if they follow one.
    by: Option<Candidate>,
    resilience: Rc<Resilience>,
}

impl Settled {
    fn is_of(&self, snapshot: &Arc<Snapshot>, way: &Way) -> bool {
        let same_rule = |a: &Candidate, b: &Candidate| {
            Arc::ptr_eq(&a.route, &b.route) && a.rule == b.rule && a.matching == b.matching
        };
        self.snapshot.as_ptr() == Arc::as_ptr(snapshot)
            && self.service == way.parent.service.name
            && match (&self.by, &way.by) {
                (None, None) => true,
                (Some(a), Some(b)) => same_rule(a, b),
                (None, Some(_)) | (Some(_), None) => false,
            }
    }
}

impl Caller {
    /// What applies to calls of a service, found once for each snapshot.
    fn resilience(
        &self,
        snapshot: &Arc<Snapshot>,
        decider: &Decider<'_>,
        (way, source): (&Way, &WorkloadRow),
    ) -> Rc<Resilience> {
        let mut settled = self.settled.borrow_mut();
        if let Some(known) = settled.as_ref()
            && known.is_of(snapshot, way)
        {
            return Rc::clone(&known.resilience);
        }
        let service = &way.parent.service;
        let resilience = Rc::new(decider.effective(service, way.by.as_ref(), source));
        *settled = Some(Settled {
            snapshot: Arc::downgrade(snapshot),
            service: service.name.clone(),
            by: way.by.clone(),
            resilience: Rc::clone(&resilience),
        });
        resilience
    }
}

/// Where the requests of a connection go now.
enum Going {
    Service(ServiceTarget),
    Workload(WorkloadTarget),
}

/// Serves HTTP/1.1 or HTTP/2 on `stream` until its peer closes it, the worker drains, or `stop`
/// ends. Each request ends in one event of [`Reporter::Source`].
pub async fn serve_client_half(stream: Stream, half: ClientHalf, stop: Stop) {
    let worker = Rc::clone(&half.worker);
    let connection = Connection::new(worker, Reporter::Source, half.caller.clone());
    let caller = Rc::new(Caller {
        half,
        connection,
        settled: RefCell::default(),
    });
    let callee = Party {
        address: Some(caller.half.to),
        ..Party::default()
    };
    let answered = |request| respond(Rc::clone(&caller), request);
    caller
        .connection
        .serve(stream, stop, callee, answered)
        .await;
}

/// One request, from its head to the head of its answer.
async fn respond(caller: Rc<Caller>, request: Request<Incoming>) -> Response<ResponseBody> {
    let Caller {
        half, connection, ..
    } = &*caller;
    let (head, body) = request.into_parts();
    let flight = connection.begin(&head, Party::default());
    if let Some(why) = headers::malformed(&head) {
        return connection.reject(&flight, why);
    }
    let snapshot = (half.worker.snapshot)();
    let decider = half.worker.decider(&snapshot, &flight.id);
    let (source, going) = match going(half, &decider) {
        Ok(found) => found,
        Err(denial) => return connection.refuse(&flight, denial),
    };
    let limit = deadline::of_caller(&head.headers);
    // In a box: each step that it is handed to would else keep a place for it.
    let call = |source, resilience, parts| {
        let by = (Arc::clone(&snapshot), source);
        Box::new(Call::new(&caller, &flight, by, resilience, parts))
    };
    match going {
        Going::Service(parent) => {
            let called = parent.service.name.clone();
            let way = match routing::follow(&half.worker, &decider, &source, parent, &head) {
                Ok(way) => way,
                Err(stopped) => {
                    flight.service.replace(Some(called));
                    return match stopped {
                        Stopped::Denied(denial) => connection.refuse(&flight, denial),
                        Stopped::Redirected { status, location } => {
                            connection.redirect(&flight, status, &location)
                        }
                    };
                }
            };
            let resilience = caller.resilience(&snapshot, &decider, (&way, &source));
            let mut response = to_service(call(source, resilience, (head, body)), way, limit).await;
            flight.mark(response.headers_mut());
            response
        }
        Going::Workload(target) => {
            to_workload(call(source, Rc::default(), (head, body)), &target, limit).await
        }
    }
}

/// Decides where requests go, by the snapshot of now.
fn going(half: &ClientHalf, decider: &Decider<'_>) -> Result<(Arc<WorkloadRow>, Going), Denial> {
    decider.admit((half.worker.freshness)())?;
    let unknown = |reason: String| Denial {
        kind: DenialKind::UnknownDestination,
        reason,
        by: None,
    };
    let Some(source) = decider.snapshot.workloads.get(&half.source) else {
        return Err(unknown(format!(
            "workload {} is not in the mesh",
            half.source
        )));
    };
    let going = match decider.destination(half.to) {
        Destination::Service(target) => Going::Service(target),
        Destination::Workload(target) => Going::Workload(target),
        Destination::Denied(denial) => return Err(denial),
        Destination::Outside(_) => {
            return Err(unknown(format!("{} is in the mesh no longer", half.to)));
        }
    };
    Ok((Arc::clone(source), going))
}

/// Answers a request to a service: as a FaultPolicy says, else by its endpoints.
async fn to_service(
    mut call: Box<Call<'_>>,
    way: Way,
    limit: Option<Duration>,
) -> Response<ResponseBody> {
    let leg = way.leg(&call.source);
    let Way {
        parent,
        target,
        by,
        path,
    } = way;
    let worker = Rc::clone(&call.caller.half.worker);
    let snapshot = Arc::clone(&call.snapshot);
    let decider = worker.decider(&snapshot, &call.flight.id);
    let injected = injected::decide(&call, &decider, &parent.service);
    // Else it would be kept while the request is under way.
    drop(parent);
    let service = &target.service;
    call.flight.service.replace(Some(service.name.clone()));
    if let Some(rule) = by.as_ref().and_then(Candidate::rule)
        && let Err(error) = routing::rewrite(&mut call.head, rule, path.as_deref())
    {
        return call.broken_route(rule, &error);
    }
    call.by = by;
    let method = call.head.method.as_str();
    let started = call.flight.started;
    let progress = decider.begin(&call.resilience, leg, method, limit, started);
    if let Some(injected) = injected {
        // In a box: what befalls few requests shall not make every request's task larger.
        let befalls = Box::pin(injected::befall(&call, injected, progress.deadline()));
        if let Some(answer) = befalls.await {
            return answer;
        }
    }
    try_endpoints(call, (&worker, &decider), &target, progress).await
}

/// Tries endpoints until one answers, or no further try is allowed.
async fn try_endpoints(
    call: Box<Call<'_>>,
    (worker, decider): (&Rc<Worker>, &Decider<'_>),
    target: &ServiceTarget,
    mut progress: Progress,
) -> Response<ResponseBody> {
    let now = || (worker.clock)();
    let service = &target.service;
    let mut tried = Vec::new();
    let mut last = None;
    loop {
        let ask = Ask {
            source: &call.source,
            service,
            port: &target.port,
            tried: &tried,
            control_stale: (worker.control_stale)(),
        };
        let choice = match decider.choose(&ask, now(), (worker.dice)()) {
            Ok(choice) => choice,
            Err(denial) => return call.no_endpoint(last, denial),
        };
        tried.push(choice.tried());
        call.flight.tries.set(progress.tries());
        let (aim, serving) = aim(&call, choice);
        let time = call.time(decider, &progress, now());
        let came = call.attempt(aim, progress.tries(), &time).await;
        if came.is_failed() && call.upload.is_broken() {
            return call.abandon();
        }
        let outcome = came.outcome();
        serving.report(&outcome);
        let replayable = call.upload.is_replayable();
        let policy = &call.resilience;
        let dice = (worker.dice)();
        let ended = (&outcome, replayable);
        match decider.after_try(policy, &mut progress, ended, now(), dice) {
            RetryDecision::Again { pause, .. } => {
                last = discard(came);
                if !pause.is_zero() {
                    tokio::time::sleep(pause).await;
                }
            }
            RetryDecision::GiveUp(why) => {
                call.flight
                    .over_budget
                    .set(u32::from(why == GiveUp::Budget));
                return call.answer(came, &time, Some(serving));
            }
        }
    }
}

/// What a try needs of its choice, and what must be held while it lasts.
fn aim(call: &Call<'_>, choice: Choice) -> (Aim, Serving) {
    let worker = Rc::clone(&call.caller.half.worker);
    let serving = Serving::new(
        worker,
        (Arc::clone(&call.snapshot), Arc::clone(&call.flight.id)),
        choice.service,
        choice.endpoint,
        choice.in_flight,
    );
    let aim = Aim {
        permit: choice.permit,
        workload: choice.workload,
    };
    (aim, serving)
}

/// One try at a workload that was called by its own address: there is no other to try.
async fn to_workload(
    call: Box<Call<'_>>,
    target: &WorkloadTarget,
    limit: Option<Duration>,
) -> Response<ResponseBody> {
    let worker = &call.caller.half.worker;
    let decider = worker.decider(&call.snapshot, &call.flight.id);
    let permit = decider.permit_workload(&call.source, target);
    let aim = Aim {
        permit,
        workload: Arc::clone(&target.workload),
    };
    call.flight.tries.set(1);
    let time = call.caller_time(limit);
    let came = call.attempt(aim, 1, &time).await;
    if came.is_failed() && call.upload.is_broken() {
        return call.abandon();
    }
    call.answer(came, &time, None)
}

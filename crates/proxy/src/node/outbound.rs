//! The caller's half at L4: where a captured connection goes, and its way there.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tacit_decide::record::Leg;
use tacit_decide::retry::{RetryDecision, TryOutcome};
use tacit_decide::route::follows_routes;
use tacit_decide::state::InFlight;
use tacit_decide::{
    Ask, Choice, Decider, Denial, DenialKind, Destination, DialPermit, RouteHead, Routed,
    ServiceTarget, WorkloadTarget, destination,
};
use tacit_http::{ClientHalf, Dial, DialAsk, serve_client_half};
use tacit_model::Snapshot;
use tacit_model::event::{Ending, Fault, Party, Reporter};
use tacit_model::resilience::Resilience;
use tacit_model::route::Candidate;
use tacit_model::tables::{Protocol, ServiceRow, WorkloadRow};
use tacit_transport::dial::Phase;
use tacit_transport::hbone::OpenRequest;
use tacit_transport::{DialError, DialFault, RelayLimits, Stream, capture, dial, relay};
use tokio::net::TcpStream;

use super::context::{Context, Record, party, row};
use super::ending::{of_dial, of_relay};
use super::inbound::ID_HEADER;
use super::judge;
use super::local::Local;
use super::registry::Live;
use crate::shared::Closed;

/// How long a connection to what is not in the mesh may take to be made: the kernel's own first
/// SYN repetitions (1, 3, 7 s) and a little.
const OUTSIDE_CONNECT: Duration = Duration::from_secs(10);

/// One connection of the application.
pub(crate) async fn serve(context: &Rc<Context>, local: &Arc<Local>, stream: TcpStream) {
    let Ok(to) = capture::original_destination(&stream) else {
        return;
    };
    // Somebody inside connected to our port itself.
    if to.ip().is_loopback() {
        return;
    }
    let stream = Stream::from_tcp(stream);
    let mut record = new_record(context, local, to);
    let snapshot = match context.open(&record.id) {
        Ok(snapshot) => snapshot,
        Err(closed) => {
            let snapshot = context.shared.current();
            if !speaks_http(&snapshot, to) {
                return refuse_closed(context, record, stream, closed);
            }
            snapshot
        }
    };
    let Some(source) = row(&snapshot, local).cloned() else {
        return refuse(context, record, stream, &judge::unknown(local));
    };
    record.source = party(&snapshot, &source, 0);
    record.source.address = Some(stream.remote());
    let out = Outbound {
        context,
        local,
        to,
        snapshot,
        source,
    };
    match out.decider(&record).destination(to) {
        Destination::Denied(denial) => deny(context, record, stream, denial),
        Destination::Outside(permit) => {
            context.shared.events.metrics.outside_connections.inc();
            let dialled = dial::outside(&local.source(), permit, OUTSIDE_CONNECT).await;
            out.pass(record, stream, dialled, RelayLimits::default())
                .await;
        }
        Destination::Service(target) if target.port.protocol == Protocol::Http => {
            out.http(record, stream).await;
        }
        Destination::Workload(target) if target.protocol == Protocol::Http => {
            out.http(record, stream).await;
        }
        Destination::Service(target) => out.to_service(target, record, stream).await,
        Destination::Workload(target) => out.to_workload(&target, record, stream).await,
    }
}

/// True if the HTTP half serves it, which also tells callers why nothing may pass.
fn speaks_http(snapshot: &Snapshot, to: SocketAddr) -> bool {
    let protocol = match destination(snapshot, to) {
        Destination::Service(target) => target.port.protocol,
        Destination::Workload(target) => target.protocol,
        Destination::Denied(_) | Destination::Outside(_) => return false,
    };
    protocol == Protocol::Http
}

fn new_record(context: &Context, local: &Local, to: SocketAddr) -> Record {
    let source = Party {
        workload: Some(local.name.clone()),
        identity: Some(local.identity.clone()),
        locality: None,
        address: None,
    };
    let destination = Party {
        address: Some(to),
        ..Party::default()
    };
    Record::new(
        context,
        context.new_id(),
        Reporter::Source,
        source,
        destination,
    )
}

fn refuse_closed(context: &Context, record: Record, stream: Stream, closed: Closed) {
    match closed {
        Closed::NoGeneration => refuse(context, record, stream, &closed.to_string()),
        Closed::Denied(denial) => deny(context, record, stream, denial),
    }
}

fn refuse(context: &Context, record: Record, stream: Stream, reason: &str) {
    stream.reset();
    record.finish(
        context,
        Ending::Denied {
            reason: reason.to_owned(),
            by: None,
        },
        0,
        0,
    );
}

fn deny(context: &Context, record: Record, stream: Stream, denial: Denial) {
    stream.reset();
    record.finish(
        context,
        Ending::Denied {
            reason: denial.reason,
            by: denial.by,
        },
        0,
        0,
    );
}

/// A captured connection with all that decides where it goes.
struct Outbound<'a> {
    context: &'a Rc<Context>,
    local: &'a Arc<Local>,
    to: SocketAddr,
    snapshot: Arc<Snapshot>,
    source: Arc<WorkloadRow>,
}

/// Where the routes of a service lead a connection.
struct Way {
    /// What was called: timeouts, retries and budget are its own.
    parent: ServiceTarget,
    /// What serves it.
    target: ServiceTarget,
    /// The rule that it follows.
    by: Option<Candidate>,
}

/// What a service has to know of a connection that is open or failed.
struct Chosen {
    service: Arc<ServiceRow>,
    endpoint: SocketAddr,
    /// Held until the connection ends.
    _in_flight: InFlight,
}

impl Outbound<'_> {
    fn decider<'a>(&'a self, record: &'a Record) -> Decider<'a> {
        self.context.decider(&self.snapshot, &record.id)
    }

    /// Requests are routed one by one; each ends in its own event.
    async fn http(&self, record: Record, stream: Stream) {
        let (context, local) = (self.context.clone(), self.local.clone());
        let stop = context.stop_of(&local);
        let half = ClientHalf {
            worker: context.http.clone(),
            source: self.source.name.clone(),
            caller: record.source,
            to: self.to,
            dial: dialler(context, local),
        };
        serve_client_half(stream, half, stop).await;
    }

    /// A connection of bytes to a service, or where its routes lead: a failed connect is tried
    /// again elsewhere, nothing else is.
    async fn to_service(&self, parent: ServiceTarget, mut record: Record, stream: Stream) {
        record.service = Some(parent.service.name.clone());
        let way = match self.follow(parent, &record) {
            Ok(way) => way,
            Err(denial) => return deny(self.context, record, stream, denial),
        };
        record.service = Some(way.target.service.name.clone());
        let parent = &way.parent.service;
        let policy = self
            .decider(&record)
            .effective(parent, way.by.as_ref(), &self.source);
        let limits = RelayLimits {
            idle: idle_of(&policy),
        };
        match self.open(&way, &policy, &mut record).await {
            Ok((opened, chosen)) => {
                self.learn(&record, &chosen, &TryOutcome::Status(200));
                self.pass(record, stream, Ok(opened), limits).await;
                drop(chosen);
            }
            Err(NotOpened::NoEndpoint(denial)) => {
                stream.reset();
                let reason = denial.to_string();
                let ending = Ending::Failed {
                    fault: Fault::NoEndpoint,
                    reason,
                };
                record.finish(self.context, ending, 0, 0);
            }
            Err(NotOpened::Dial(error)) => self.pass(record, stream, Err(error), limits).await,
        }
    }

    /// Asks the routes of a service, if it has some for connections.
    fn follow(&self, parent: ServiceTarget, record: &Record) -> Result<Way, Denial> {
        let direct = |parent: ServiceTarget| Way {
            target: parent.clone(),
            parent,
            by: None,
        };
        if !follows_routes(&self.snapshot, &parent) {
            return Ok(direct(parent));
        }
        let (head, dice) = (RouteHead::connection(), self.context.dice());
        let decider = self.decider(record);
        match decider.route(&self.source, &parent, &head, dice) {
            Routed::Denied(denial) => Err(denial),
            Routed::Direct => Ok(direct(parent)),
            Routed::Forward { to, by, .. } => Ok(Way {
                parent,
                target: to,
                by: Some(by),
            }),
            // The compiler makes no such rule.
            Routed::Redirect { by, .. } => Err(Denial {
                kind: DenialKind::BrokenRoute,
                reason: "a connection cannot be redirected".to_owned(),
                by: by.rule().map(|rule| rule.from.clone()),
            }),
        }
    }

    async fn open(
        &self,
        way: &Way,
        policy: &Resilience,
        record: &mut Record,
    ) -> Result<(Stream, Chosen), NotOpened> {
        let shared = &self.context.shared;
        let id = Arc::clone(&record.id);
        let leg = Leg {
            source: self.source.name.clone(),
            service: way.parent.service.name.clone(),
            rule: way.by.as_ref().map(Into::into),
        };
        let now = shared.now();
        let decider = self.context.decider(&self.snapshot, &id);
        let mut progress = decider.begin(policy, leg, "CONNECT", None, now);
        let mut tried = Vec::new();
        let mut last = None;
        loop {
            let ask = Ask {
                source: &self.source,
                service: &way.target.service,
                port: &way.target.port,
                tried: &tried,
                control_stale: shared.control_is_silent(),
            };
            let dice = self.context.dice();
            let chosen = decider.choose(&ask, shared.now(), dice);
            let choice = match chosen {
                Ok(choice) => choice,
                Err(denial) => {
                    return Err(last.map_or(NotOpened::NoEndpoint(denial), NotOpened::Dial));
                }
            };
            tried.push(choice.tried());
            record.destination = party(&self.snapshot, &choice.workload, choice.endpoint.port());
            let Choice {
                permit,
                workload,
                service,
                endpoint,
                in_flight,
                ..
            } = choice;
            let chosen = Chosen {
                service,
                endpoint,
                _in_flight: in_flight,
            };
            let error = match self.dial(permit, &workload, policy, &id).await {
                Ok(stream) => return Ok((stream, chosen)),
                Err(error) => error,
            };
            let outcome = outcome_of(&error);
            self.learn(record, &chosen, &outcome);
            let dice = self.context.dice();
            let now = shared.now();
            // Not a byte of the application was sent: all of it is still there.
            match decider.after_try(policy, &mut progress, (&outcome, true), now, dice) {
                RetryDecision::Again { pause, .. } => tokio::time::sleep(pause).await,
                RetryDecision::GiveUp(_) => return Err(NotOpened::Dial(error)),
            }
            last = Some(error);
        }
    }

    async fn to_workload(&self, target: &WorkloadTarget, mut record: Record, stream: Stream) {
        let permit = self.decider(&record).permit_workload(&self.source, target);
        record.destination = party(&self.snapshot, &target.workload, target.port);
        let policy = Resilience::default();
        let dialled = self
            .dial(permit, &target.workload, &policy, &record.id)
            .await;
        let limits = RelayLimits {
            idle: idle_of(&policy),
        };
        self.pass(record, stream, dialled, limits).await;
    }

    async fn dial(
        &self,
        permit: DialPermit,
        workload: &WorkloadRow,
        policy: &Resilience,
        id: &str,
    ) -> Result<Stream, DialError> {
        let request = OpenRequest {
            host: Some(workload.node.clone()),
            connect_timeout: policy.connect.value,
            answer_timeout: policy.connect.value,
            headers: vec![(ID_HEADER, id.to_owned())],
        };
        self.context
            .pool
            .open(&self.local.source(), permit, &request)
            .await
    }

    fn learn(&self, record: &Record, chosen: &Chosen, outcome: &TryOutcome) {
        let now = self.context.shared.now();
        self.decider(record)
            .on_result(&chosen.service, chosen.endpoint, outcome, now);
    }

    /// Carries the bytes, if the connection stands; ends in its one event.
    async fn pass(
        &self,
        record: Record,
        stream: Stream,
        dialled: Result<Stream, DialError>,
        limits: RelayLimits,
    ) {
        let context = self.context;
        let callee = match dialled {
            Ok(callee) => callee,
            Err(error) => {
                stream.reset();
                return record.finish(context, of_dial(&error), 0, 0);
            }
        };
        record.opened(context);
        let live = Live::Outbound {
            local: self.local.clone(),
            to: self.to,
        };
        let (entry, closing) = context.registry.enter(live);
        let relayed = relay(stream, callee, limits, closing).await;
        context.registry.leave(entry);
        record.finish(context, of_relay(&relayed), relayed.a_to_b, relayed.b_to_a);
    }
}

/// Why no connection stands.
enum NotOpened {
    Dial(DialError),
    NoEndpoint(Denial),
}

/// Zero means no limit; a year stands for it.
fn idle_of(policy: &Resilience) -> Duration {
    const NO_LIMIT: Duration = Duration::from_secs(365 * 86_400);
    Some(policy.idle.value)
        .filter(|idle| !idle.is_zero())
        .unwrap_or(NO_LIMIT)
}

/// Opens HBONE streams for the HTTP half, from this worker's pool.
fn dialler(context: Rc<Context>, local: Arc<Local>) -> Dial {
    let source = Rc::new(local.source());
    Rc::new(move |ask: DialAsk| {
        let DialAsk {
            permit,
            node,
            connect,
        } = ask;
        let (pool, source) = (context.pool.clone(), source.clone());
        let request = OpenRequest {
            host: Some(node),
            connect_timeout: connect,
            answer_timeout: connect,
            headers: Vec::new(),
        };
        Box::pin(async move { pool.open(&source, permit, &request).await })
    })
}

/// What a failed connect means for the endpoint and for a further try.
fn outcome_of(error: &DialError) -> TryOutcome {
    match &error.fault {
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
    }
}

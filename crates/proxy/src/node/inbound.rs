//! The callee's half at L4: takes HBONE and plaintext in, asks for a verdict, serves or relays.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tacit_decide::{ConnectionPermit, ConnectionVerdict, Denial, InspectPermit, Peer};
use tacit_http::{ServerHalf, serve_server_half};
use tacit_model::Snapshot;
use tacit_model::event::{Audited, Ending, Fault, Party, Reporter};
use tacit_model::tables::WorkloadRow;
use tacit_transport::hbone::{AcceptError, Authority, ConnectRequest, Refusal};
use tacit_transport::{Admission, RelayLimits, Stream, capture, dial, relay};
use tokio::net::TcpStream;

use super::context::{Context, Record, party, row};
use super::ending::{of_dial, of_relay};
use super::judge;
use super::local::{Local, is_proxy_port};
use super::registry::Live;
use crate::log;

/// How long the application may take to accept a connection: it is on this machine.
const CONNECT: Duration = Duration::from_secs(5);
/// Longest id that a peer may give to a connection.
const LONGEST_ID: usize = 64;
/// The header of a CONNECT that carries the id of an opaque connection to both ends' logs.
pub(crate) const ID_HEADER: &str = "x-request-id";

/// One HBONE session: its streams are served each in a task of its own.
pub(crate) async fn serve_session(context: &Rc<Context>, local: &Arc<Local>, stream: TcpStream) {
    let mut session = match context.acceptor.accept(stream, &local.identity).await {
        Ok(session) => session,
        Err(error) => return bad_peer(context, local, &error),
    };
    let drain = session.drain();
    let mut draining = context.draining.subscribe();
    let mut asked = false;
    loop {
        let next = tokio::select! {
            next = session.next() => next,
            () = local.stopped() => return,
            _value = draining.wait_for(|draining| *draining), if !asked => {
                asked = true;
                drain.start();
                continue;
            }
        };
        match next {
            Ok(Some(request)) => {
                let (context, local) = (context.clone(), local.clone());
                tokio::task::spawn_local(async move { connect(&context, &local, request).await });
            }
            Ok(None) => break,
            Err(_broken) => {
                // The peer's streams broke with it and said so in their own events.
                break;
            }
        }
    }
    for _ in 0..session.malformed() {
        context.shared.events.metrics.count_bad_peer("malformed");
    }
}

/// Counted always, said with the workload's name: nothing else is affected.
fn bad_peer(context: &Context, local: &Local, error: &AcceptError) {
    let how = match error {
        AcceptError::Closed => "closed",
        AcceptError::NoIdentity => "no_identity",
        AcceptError::NotHttp2(_) => "not_http2",
        AcceptError::Timeout => "timeout",
        AcceptError::Tls(_) => "tls",
    };
    if context.shared.events.metrics.count_bad_peer(how) {
        let text = format!(
            "{}: {error} (further ones of this kind are only counted)",
            local.name
        );
        log::warn("inbound", text);
    }
}

/// One stream of a session.
async fn connect(context: &Rc<Context>, local: &Arc<Local>, request: ConnectRequest) {
    let port = match request.authority() {
        Authority::Address(to) if to.ip() == local.address() && !is_proxy_port(to.port()) => {
            to.port()
        }
        other @ (Authority::Address(_) | Authority::Host { .. }) => {
            let why = format!("{other} is not a port of workload {}", local.name);
            return request.refuse(Refusal::BadRequest, &why);
        }
    };
    let peer = request.peer().clone();
    let id = request
        .header(ID_HEADER)
        .filter(|id| is_id(id))
        .map(Into::into);
    let call = match Call::new(context, local, port, peer, id) {
        Ok(call) => call,
        Err(why) => return request.refuse(Refusal::Unavailable, &why),
    };
    match call.verdict {
        ConnectionVerdict::Deny(denial) => {
            request.refuse(Refusal::Denied, &denial.to_string());
            call.record.finish(context, denied(denial), 0, 0);
        }
        ConnectionVerdict::InspectRequests(permit) => {
            if let Ok(stream) = request.accept(Admission::Inspected(&permit)) {
                inspect(context, local, permit, call.record, stream).await;
            }
        }
        ConnectionVerdict::Allow(permit) => {
            let application = match dial_application(local, &permit).await {
                Ok(application) => application,
                Err(error) => {
                    request.refuse(Refusal::Unavailable, &error.to_string());
                    return call.record.finish(context, of_dial(&error), 0, 0);
                }
            };
            match request.accept(Admission::Whole(&permit)) {
                Ok(stream) => pass(context, local, permit, call.record, stream, application).await,
                Err(error) => {
                    let reason = error.to_string();
                    let ending = Ending::Failed {
                        fault: Fault::ClientGone,
                        reason,
                    };
                    call.record.finish(context, ending, 0, 0);
                }
            }
        }
    }
}

/// A peer's word that goes into our logs: short, and only digits and letters.
fn is_id(text: &str) -> bool {
    (1..=LONGEST_ID).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// A plaintext connection that was redirected: its caller has no identity.
pub(crate) async fn serve_redirected(context: &Rc<Context>, local: &Arc<Local>, stream: TcpStream) {
    let to = capture::original_destination(&stream);
    let (Ok(to), Ok(from)) = (to, stream.peer_addr()) else {
        return;
    };
    if to.ip() != local.address() || is_proxy_port(to.port()) {
        return;
    }
    serve_plain(context, local, to.port(), from, stream).await;
}

/// A connection to a published port of this machine: its caller has no identity either.
pub(crate) async fn serve_published(
    context: &Rc<Context>,
    local: &Arc<Local>,
    target: u16,
    stream: TcpStream,
) {
    let Ok(from) = stream.peer_addr() else { return };
    serve_plain(context, local, target, from, stream).await;
}

async fn serve_plain(
    context: &Rc<Context>,
    local: &Arc<Local>,
    port: u16,
    from: SocketAddr,
    stream: TcpStream,
) {
    let peer = Peer {
        identity: None,
        address: from,
    };
    let Ok(call) = Call::new(context, local, port, peer, None) else {
        return Stream::from_tcp(stream).reset();
    };
    let stream = Stream::from_tcp(stream);
    match call.verdict {
        ConnectionVerdict::Deny(denial) => {
            stream.reset();
            call.record.finish(context, denied(denial), 0, 0);
        }
        ConnectionVerdict::InspectRequests(permit) => {
            inspect(context, local, permit, call.record, stream).await;
        }
        ConnectionVerdict::Allow(permit) => match dial_application(local, &permit).await {
            Ok(application) => {
                pass(context, local, permit, call.record, stream, application).await;
            }
            Err(error) => {
                stream.reset();
                call.record.finish(context, of_dial(&error), 0, 0);
            }
        },
    }
}

/// A connection with its verdict and the beginning of its event.
struct Call {
    verdict: ConnectionVerdict,
    record: Record,
}

impl Call {
    /// The error is for the peer: nothing can be decided here now.
    fn new(
        context: &Context,
        local: &Arc<Local>,
        port: u16,
        peer: Peer,
        id: Option<Arc<str>>,
    ) -> Result<Self, String> {
        let id = id.unwrap_or_else(|| context.new_id());
        let snapshot = context.open(&id).map_err(|closed| closed.to_string())?;
        let row = row(&snapshot, local).ok_or_else(|| judge::unknown(local))?;
        let decider = context.decider(&snapshot, &id);
        let verdict = decider.authorize_connection(row, port, &peer);
        let (caller, callee) = (caller(&snapshot, &peer), party(&snapshot, row, port));
        let mut record = Record::new(context, id, Reporter::Destination, caller, callee);
        record.service = service_behind(&snapshot, row, port);
        if let ConnectionVerdict::Allow(permit) = &verdict {
            record.audit = permit.audit().map(|denial| Audited {
                reason: denial.reason.clone(),
                by: denial.by.clone(),
            });
        }
        Ok(Self { verdict, record })
    }
}

/// The caller as the server half knows it: the proven identity; the workload by its address only
/// if that has this very identity.
fn caller(snapshot: &Snapshot, peer: &Peer) -> Party {
    let trust_domain = &snapshot.mesh.trust_domain;
    let proven = |row: &&Arc<WorkloadRow>| peer.identity == Some(row.identity(trust_domain));
    let workload = snapshot.workload_at(peer.address.ip()).filter(proven);
    Party {
        workload: workload.map(|row| row.name.clone()),
        identity: peer.identity.clone(),
        locality: workload.map(|row| row.locality.clone()),
        address: Some(peer.address),
    }
}

/// The service that was called, as far as it can be told from the port: the first by name.
fn service_behind(
    snapshot: &Snapshot,
    row: &WorkloadRow,
    port: u16,
) -> Option<tacit_model::ServiceName> {
    let services = snapshot.class_of(row).map(|class| &class.services);
    let rows = services
        .into_iter()
        .flatten()
        .filter_map(|name| snapshot.services.get(name));
    let mut leads =
        rows.filter(|service| service.ports.iter().any(|p| p.target_on(row) == Some(port)));
    leads.next().map(|service| service.name.clone())
}

fn denied(denial: Denial) -> Ending {
    Ending::Denied {
        reason: denial.reason,
        by: denial.by,
    }
}

async fn dial_application(
    local: &Arc<Local>,
    permit: &ConnectionPermit,
) -> Result<Stream, tacit_transport::DialError> {
    let sockets = local.sockets_as(shown(permit.peer().address));
    let to = SocketAddr::new(local.address(), permit.port());
    dial::application(Admission::Whole(permit), &*sockets, to, CONNECT).await
}

/// The address that the application shall see.
fn shown(peer: SocketAddr) -> IpAddr {
    peer.ip().to_canonical()
}

/// Requests are looked at one by one; each ends in its own event.
async fn inspect(
    context: &Rc<Context>,
    local: &Arc<Local>,
    permit: InspectPermit,
    record: Record,
    stream: Stream,
) {
    let caller_address = shown(permit.peer().address);
    let half = ServerHalf {
        worker: context.http.clone(),
        caller: record.source,
        callee: record.destination,
        service: record.service,
        caller_address,
        application: SocketAddr::new(local.address(), permit.port()),
        sockets: local.sockets_as(caller_address),
        permit,
    };
    serve_server_half(stream, half, context.stop_of(local)).await;
}

/// All bytes pass, until the policy changes its mind.
async fn pass(
    context: &Rc<Context>,
    local: &Arc<Local>,
    permit: ConnectionPermit,
    record: Record,
    caller: Stream,
    application: Stream,
) {
    record.opened(context);
    let (entry, closing) = context.registry.enter(Live::Inbound {
        local: local.clone(),
        permit,
    });
    let relayed = relay(caller, application, RelayLimits::default(), closing).await;
    context.registry.leave(entry);
    record.finish(context, of_relay(&relayed), relayed.a_to_b, relayed.b_to_a);
}

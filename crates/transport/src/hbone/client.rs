//! The dialling side of HBONE: one worker's pool of sessions, shared by its connections.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use http::{HeaderValue, Method, Request, Response, StatusCode};
use tacit_decide::DialPermit;
use tacit_model::{NodeName, SpiffeId};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::server::REFUSAL_HEADER;
use super::session::is_tls;
use super::{HANDSHAKE_TIMEOUT, HBONE_PORT};
use crate::dial::{DialError, DialFault, Phase, Source};
use crate::identity::IdentityStore;
use crate::stream::{H2Io, Slot, Stream};

mod connect;
mod heartbeat;
mod held;

use held::Held;

/// A session that ends just when a stream is opened costs one more try; a peer that ends each
/// session at once must not keep us in a loop.
const SESSIONS_PER_OPEN: usize = 3;

/// Sessions of one worker. A session carries many streams of one workload to one peer.
///
/// Must be used inside a `LocalSet`: sessions move in tasks of their own.
#[derive(Clone)]
pub struct Pool {
    inner: Rc<Inner>,
}

/// Limits of a [`Pool`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolSettings {
    /// Where peers listen: 15008.
    pub port: u16,
    /// Streams in one session, unless the peer allows fewer: 100, the custom of HBONE.
    pub streams_per_session: usize,
    /// A session without streams is closed after this: 300 s.
    pub idle_release: Duration,
    /// For TLS, after the TCP connection stands: 10 s.
    pub handshake_timeout: Duration,
    /// How sessions are watched.
    pub heartbeat: Heartbeat,
}

/// How a session is watched, by HTTP/2 PING.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// Between pings while there is traffic: 500 ms.
    pub interval: Duration,
    /// Traffic counts as present for this long after its last byte: 2 s.
    pub busy: Duration,
    /// Between pings while streams are open but quiet: 10 s.
    pub quiet_interval: Duration,
    /// A session is lost when nothing at all came for this long in spite of a ping: 1 s.
    pub lost_after: Duration,
}

impl Default for PoolSettings {
    fn default() -> Self {
        Self {
            port: HBONE_PORT,
            streams_per_session: 100,
            idle_release: Duration::from_secs(300),
            handshake_timeout: HANDSHAKE_TIMEOUT,
            heartbeat: Heartbeat {
                interval: Duration::from_millis(500),
                busy: Duration::from_secs(2),
                quiet_interval: Duration::from_secs(10),
                lost_after: Duration::from_secs(1),
            },
        }
    }
}

/// What a caller says about one connection, besides the permit.
#[derive(Clone, Debug)]
pub struct OpenRequest {
    /// The machine of the endpoint, if known: sessions to it are judged together.
    pub host: Option<NodeName>,
    /// For a session to stand (TCP and TLS), if none does.
    pub connect_timeout: Duration,
    /// For the peer's answer to the CONNECT, which includes its connect to the application.
    pub answer_timeout: Duration,
    /// Headers for the peer's telemetry: `baggage`, `forwarded`, `traceparent`.
    pub headers: Vec<(&'static str, String)>,
}

/// Something happened to a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionEvent {
    /// The peer's address, with the HBONE port.
    pub peer: SocketAddr,
    /// Its machine, if the dialler knew it.
    pub host: Option<NodeName>,
    /// Whom the peer proved to be.
    pub identity: SpiffeId,
    /// What happened.
    pub change: SessionChange,
}

/// What happened to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionChange {
    /// It answered after it had missed a ping.
    Alive,
    /// It ended as it should: idle, or the peer drained it.
    Ended,
    /// It broke (reset, end of file, protocol error); its streams broke with it.
    LostBroken,
    /// It answered no ping and sent nothing; its streams are broken.
    LostSilent,
    /// It stands, and the peer proved who it is.
    New,
}

struct Inner {
    store: IdentityStore,
    settings: PoolSettings,
    on_event: Box<dyn Fn(SessionEvent)>,
    targets: RefCell<HashMap<Key, Target>>,
    /// Wakes the heartbeat.
    wake: Rc<Notify>,
    watching: Cell<bool>,
    draining: Cell<bool>,
}

/// Sessions are shared between connections with the same key only.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    source: SpiffeId,
    address: IpAddr,
    peer: SocketAddr,
    expected: SpiffeId,
}

#[derive(Default)]
struct Target {
    sessions: Vec<Rc<Held>>,
    connecting: bool,
    waiting: Vec<oneshot::Sender<Told>>,
}

/// What who waited for a session is told: a place in it, or to ask again because it is full.
type Told = Result<Option<(Rc<Held>, Slot)>, DialError>;

enum Acquired {
    Session(Rc<Held>, Slot),
    Wait(oneshot::Receiver<Told>),
}

/// How one session took a CONNECT.
enum Tried {
    Failed(DialError),
    Open(Stream),
    /// The session takes no more streams, and did nothing with this one.
    Unusable(DialError),
}

impl Pool {
    /// A pool without sessions; `on_event` is called on this thread, from any task of the pool.
    pub fn new(
        store: IdentityStore,
        settings: PoolSettings,
        on_event: impl Fn(SessionEvent) + 'static,
    ) -> Self {
        let inner = Inner {
            store,
            settings,
            on_event: Box::new(on_event),
            targets: RefCell::default(),
            wake: Rc::default(),
            watching: Cell::new(false),
            draining: Cell::new(false),
        };
        Self {
            inner: Rc::new(inner),
        }
    }

    /// Opens a connection to the endpoint of `permit`, over a session that exists or a new one.
    ///
    /// Callers that need the same new session wait for one handshake. The stream is connected to
    /// the application when this returns.
    pub async fn open(
        &self,
        from: &Source,
        permit: DialPermit,
        request: &OpenRequest,
    ) -> Result<Stream, DialError> {
        let endpoint = permit.endpoint();
        let key = Key {
            source: from.identity.clone(),
            address: from.address,
            peer: SocketAddr::new(endpoint.ip(), self.inner.settings.port),
            expected: permit.expected().clone(),
        };
        let connect = connect_request(endpoint, request)
            .map_err(|why| DialError::new(DialFault::ConnectFailed, key.peer, why))?;
        let mut last = DialError::new(DialFault::SessionLost, key.peer, "no session was tried");
        for _ in 0..SESSIONS_PER_OPEN {
            let (session, slot) = self.session(&key, from, request).await?;
            let answer = try_session(&session, slot, connect.clone());
            match tokio::time::timeout(request.answer_timeout, answer).await {
                Ok(Tried::Open(stream)) => return Ok(stream),
                Ok(Tried::Failed(error)) => return Err(error),
                Ok(Tried::Unusable(error)) => {
                    session.retire();
                    last = error;
                }
                Err(_) => {
                    let why = format!("no answer to CONNECT in {:?}", request.answer_timeout);
                    return Err(DialError::new(
                        DialFault::Timeout(Phase::Answer),
                        key.peer,
                        why,
                    ));
                }
            }
        }
        Err(last)
    }

    /// Takes no new connections; the present ones finish, then their sessions end.
    pub fn drain(&self) {
        self.inner.draining.set(true);
        for target in self.inner.targets.borrow().values() {
            target.sessions.iter().for_each(|session| session.retire());
        }
        self.inner.wake.notify_one();
    }

    /// Breaks all sessions of a source address at once: its workload is gone.
    pub fn close_source(&self, address: IpAddr) {
        let mut targets = self.inner.targets.borrow_mut();
        targets.retain(|key, target| {
            let gone = key.address == address;
            if gone {
                target.sessions.iter().for_each(|session| session.abandon());
            }
            !gone
        });
    }

    /// How many sessions stand.
    #[must_use]
    pub fn sessions(&self) -> usize {
        let targets = self.inner.targets.borrow();
        targets.values().map(|target| target.sessions.len()).sum()
    }

    async fn session(
        &self,
        key: &Key,
        from: &Source,
        request: &OpenRequest,
    ) -> Result<(Rc<Held>, Slot), DialError> {
        let deadline = Instant::now() + request.connect_timeout;
        loop {
            let waiting = match self.inner.acquire(key, from, request) {
                Acquired::Session(session, slot) => return Ok((session, slot)),
                Acquired::Wait(waiting) => waiting,
            };
            match tokio::time::timeout_at(deadline, waiting).await {
                Ok(Ok(Ok(Some(place)))) => return Ok(place),
                Ok(Ok(Ok(None))) => {}
                Ok(Ok(Err(error))) => return Err(error),
                Ok(Err(_)) => {
                    let why = "its source went away";
                    return Err(DialError::new(DialFault::SessionLost, key.peer, why));
                }
                Err(_) => {
                    let why = format!("no session after {:?}", request.connect_timeout);
                    let fault = DialFault::Timeout(Phase::Connect);
                    return Err(DialError::new(fault, key.peer, why));
                }
            }
        }
    }
}

impl Inner {
    /// A session with room, or the wait for the one that is being made.
    fn acquire(self: &Rc<Self>, key: &Key, from: &Source, request: &OpenRequest) -> Acquired {
        let mut targets = self.targets.borrow_mut();
        let target = targets.entry(key.clone()).or_default();
        let most = self.settings.streams_per_session;
        if let Some(session) = target
            .sessions
            .iter()
            .find(|session| session.has_room(most))
        {
            return Acquired::Session(Rc::clone(session), session.take());
        }
        let (tell, waiting) = oneshot::channel();
        target.waiting.push(tell);
        if !target.connecting {
            target.connecting = true;
            connect::start(self, key.clone(), from.clone(), request);
        }
        Acquired::Wait(waiting)
    }

    fn emit(&self, session: &Held, change: SessionChange) {
        (self.on_event)(SessionEvent {
            peer: session.key.peer,
            host: session.host.clone(),
            identity: session.key.expected.clone(),
            change,
        });
    }

    /// Takes a session out of the pool.
    fn remove(&self, session: &Rc<Held>) {
        let mut targets = self.targets.borrow_mut();
        if let Some(target) = targets.get_mut(&session.key) {
            target.sessions.retain(|other| !Rc::ptr_eq(other, session));
            if target.sessions.is_empty() && !target.connecting && target.waiting.is_empty() {
                targets.remove(&session.key);
            }
        }
    }
}

fn connect_request(to: SocketAddr, ask: &OpenRequest) -> Result<Request<()>, String> {
    let mut request = Request::builder()
        .method(Method::CONNECT)
        .uri(to.to_string());
    for (name, value) in &ask.headers {
        let value = HeaderValue::from_str(value).map_err(|_| format!("{name} is no header"))?;
        request = request.header(*name, value);
    }
    request.body(()).map_err(|error| error.to_string())
}

async fn try_session(session: &Rc<Held>, slot: Slot, request: Request<()>) -> Tried {
    let peer = session.key.peer;
    let Some(mut sender) = session.sender() else {
        let why = "the session is ending";
        return Tried::Unusable(DialError::new(DialFault::SessionLost, peer, why));
    };
    if let Err(error) = poll_fn(|cx| sender.poll_ready(cx)).await {
        return not_sent(peer, &error);
    }
    let (answer, send) = match sender.send_request(request, false) {
        Ok(sent) => sent,
        Err(error) => return not_sent(peer, &error),
    };
    // The session must be able to end while this stream lives.
    drop(sender);
    match answer.await {
        Ok(response) if response.status() == StatusCode::OK => {
            let io = H2Io::new(send, response.into_body(), slot);
            Tried::Open(Stream::from_h2(io, peer))
        }
        Ok(response) => Tried::Failed(refused(peer, &response)),
        Err(error) => not_answered(peer, &error),
    }
}

fn refused<T>(peer: SocketAddr, response: &Response<T>) -> DialError {
    let refusal = response.headers().get(REFUSAL_HEADER);
    let refusal = refusal.and_then(|text| text.to_str().ok());
    let refusal = refusal.map(|text| text.chars().take(1024).collect::<String>());
    let status = response.status().as_u16();
    let detail = refusal.clone().unwrap_or_default();
    DialError::new(DialFault::PeerRefused { status, refusal }, peer, detail)
}

/// The session ended before the request was sent.
fn not_sent(peer: SocketAddr, error: &h2::Error) -> Tried {
    match lost(peer, error) {
        // Another session would end the same way.
        error if error.fault == DialFault::Tls => Tried::Failed(error),
        error => Tried::Unusable(error),
    }
}

fn not_answered(peer: SocketAddr, error: &h2::Error) -> Tried {
    let untouched = error.is_remote()
        && (error.is_go_away() || error.reason() == Some(h2::Reason::REFUSED_STREAM));
    if untouched {
        Tried::Unusable(lost(peer, error))
    } else {
        Tried::Failed(lost(peer, error))
    }
}

fn lost(peer: SocketAddr, error: &h2::Error) -> DialError {
    // In TLS 1.3 the peer judges our certificate after our side of the handshake is finished.
    let fault = match error.get_io() {
        Some(inner) if is_tls(inner) => DialFault::Tls,
        _ => DialFault::SessionLost,
    };
    DialError::new(fault, peer, error)
}

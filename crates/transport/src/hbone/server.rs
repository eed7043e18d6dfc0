//! The accepting side of HBONE: a session that yields requests to connect.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::{Connection, SendResponse};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use tacit_decide::Peer;
use tacit_model::SpiffeId;
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::session::{self, TlsFault, TlsIo};
use super::{Admission, HANDSHAKE_TIMEOUT, settings};
use crate::identity::IdentityStore;
use crate::stream::{H2Io, Slot, Stream};

/// A reason for people is cut after this many characters.
const LONGEST_REFUSAL: usize = 1024;
/// The header that carries the reason of a refusal.
pub(super) const REFUSAL_HEADER: &str = "x-tacit-refusal";

/// Takes in HBONE sessions for the identities of a store.
#[derive(Clone)]
pub struct Acceptor {
    store: IdentityStore,
    settings: AcceptorSettings,
}

/// Limits of an [`Acceptor`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcceptorSettings {
    /// For TLS and the HTTP/2 preface together.
    pub handshake_timeout: Duration,
}

impl Default for AcceptorSettings {
    fn default() -> Self {
        Self {
            handshake_timeout: HANDSHAKE_TIMEOUT,
        }
    }
}

/// Why no session came about. Nothing else is affected; the caller counts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AcceptError {
    /// The peer went away before the session stood.
    Closed,
    /// We have no certificate for the workload that was called: our fault.
    NoIdentity,
    /// What came through TLS was not HTTP/2.
    NotHttp2(String),
    /// It took longer than the handshake may.
    Timeout,
    /// Not TLS, or no acceptable certificate.
    Tls(String),
}

impl fmt::Display for AcceptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the peer closed during the handshake"),
            Self::NoIdentity => f.write_str("there is no certificate for the called workload"),
            Self::NotHttp2(why) => write!(f, "the peer does not speak HTTP/2: {why}"),
            Self::Timeout => f.write_str("the peer did not finish the handshake in time"),
            Self::Tls(why) => write!(f, "the peer failed mutual TLS: {why}"),
        }
    }
}

impl std::error::Error for AcceptError {}

impl Acceptor {
    /// Takes in sessions with the identities of `store`.
    #[must_use]
    pub fn new(store: IdentityStore, settings: AcceptorSettings) -> Self {
        Self { store, settings }
    }

    /// Does the handshake on an accepted socket, as the workload `local`.
    pub async fn accept(&self, tcp: TcpStream, local: &SpiffeId) -> Result<Session, AcceptError> {
        let limit = self.settings.handshake_timeout;
        match tokio::time::timeout(limit, self.handshake(tcp, local)).await {
            Ok(result) => result,
            Err(_) => Err(AcceptError::Timeout),
        }
    }

    async fn handshake(&self, tcp: TcpStream, local: &SpiffeId) -> Result<Session, AcceptError> {
        let entry = self.store.entry(local).ok_or(AcceptError::NoIdentity)?;
        let gone = |_: io::Error| AcceptError::Closed;
        session::set_options(&tcp).map_err(gone)?;
        let address = tcp.peer_addr().map_err(gone)?;
        let tls = session::accept(tcp, &entry.configs)
            .await
            .map_err(|fault| match fault {
                TlsFault::Closed(_) => AcceptError::Closed,
                TlsFault::Refused(why) => AcceptError::Tls(why),
            })?;
        let identity = tls.peer.clone();
        let connection = settings::server()
            .handshake(tls.io)
            .await
            .map_err(|error| AcceptError::NotHttp2(error.to_string()))?;
        Ok(Session {
            peer: Peer {
                identity: Some(identity),
                address,
            },
            connection,
            drain: Drain::default(),
            draining: false,
            active: Arc::default(),
            malformed: 0,
        })
    }
}

/// A session with one proven peer. It moves only while [`Session::next`] is awaited; dropping it
/// breaks its streams.
pub struct Session {
    peer: Peer,
    connection: Connection<TlsIo, Bytes>,
    drain: Drain,
    draining: bool,
    active: Arc<AtomicUsize>,
    malformed: u64,
}

/// Asks a session to end: no new streams, the present ones finish.
#[derive(Clone, Default)]
pub struct Drain(Rc<Notify>);

impl Drain {
    /// Says so to the peer (GOAWAY). Can be called at any time, more than once.
    pub fn start(&self) {
        self.0.notify_one();
    }
}

/// How a session broke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionError(String);

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the session broke: {}", self.0)
    }
}

impl std::error::Error for SessionError {}

impl From<h2::Error> for SessionError {
    fn from(error: h2::Error) -> Self {
        Self(error.to_string())
    }
}

impl Session {
    /// Who is at the other end.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// A handle that ends the session gracefully.
    #[must_use]
    pub fn drain(&self) -> Drain {
        self.drain.clone()
    }

    /// How many requests were answered 400 because they were no CONNECT to an address and port.
    #[must_use]
    pub fn malformed(&self) -> u64 {
        self.malformed
    }

    /// Waits for the next request while all streams move; `None` when the session has ended.
    ///
    /// Spawn what handles the request: while `next` is not awaited, nothing moves.
    pub async fn next(&mut self) -> Result<Option<ConnectRequest>, SessionError> {
        loop {
            let accepted = tokio::select! {
                accepted = self.connection.accept() => accepted,
                () = self.drain.0.notified(), if !self.draining => {
                    self.draining = true;
                    self.connection.graceful_shutdown();
                    continue;
                }
            };
            let Some(accepted) = accepted else {
                return Ok(None);
            };
            let (request, respond) = accepted?;
            match self.read(request, respond) {
                Some(request) => return Ok(Some(request)),
                None => self.malformed += 1,
            }
        }
    }

    fn read(
        &self,
        request: Request<RecvStream>,
        respond: SendResponse<Bytes>,
    ) -> Option<ConnectRequest> {
        let authority = request.uri().authority().map(http::uri::Authority::as_str);
        let authority = authority.and_then(Authority::parse);
        let is_connect = request.method() == Method::CONNECT;
        let (parts, body) = request.into_parts();
        let Some(authority) = authority.filter(|_| is_connect) else {
            let why = "HBONE takes CONNECT to ADDRESS:PORT or HOST:PORT only";
            refuse(respond, Refusal::BadRequest, why);
            return None;
        };
        Some(ConnectRequest {
            peer: self.peer.clone(),
            authority,
            headers: parts.headers,
            body,
            respond,
            slot: Slot::take(&self.active),
        })
    }
}

/// Where a CONNECT wants to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authority {
    /// An address of a workload or service.
    Address(SocketAddr),
    /// A name of a service.
    Host { name: String, port: u16 },
}

impl Authority {
    fn parse(text: &str) -> Option<Self> {
        if let Ok(address) = text.parse() {
            return Some(Self::Address(address));
        }
        let (name, port) = text.rsplit_once(':')?;
        let port = port.parse().ok()?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let is_name = (1..=253).contains(&name.len()) && name.chars().all(plain);
        is_name.then(|| Self::Host {
            name: name.to_ascii_lowercase(),
            port,
        })
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Host { name, port } => write!(f, "{name}:{port}"),
        }
    }
}

/// How the server half says no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// 400: the request makes no sense here.
    BadRequest,
    /// 401: the peer may not; never retried.
    Denied,
    /// 403: likewise, in HTTP's other word.
    Forbidden,
    /// 503: the application cannot be reached, or the workload is not here.
    Unavailable,
}

impl Refusal {
    fn status(self) -> StatusCode {
        match self {
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::Denied => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// A peer that asks to be connected. Dropping it unanswered resets the stream.
pub struct ConnectRequest {
    peer: Peer,
    authority: Authority,
    headers: HeaderMap,
    body: RecvStream,
    respond: SendResponse<Bytes>,
    slot: Slot,
}

impl ConnectRequest {
    /// Who asks, as proven by the session.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Where to.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// A header (`baggage`, `forwarded`, `traceparent`) as the peer sent it: never a proof.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Answers 200; call it when the application is connected.
    pub fn accept(mut self, _admission: Admission<'_>) -> Result<Stream, SessionError> {
        let send = self.respond.send_response(Response::new(()), false)?;
        let io = H2Io::new(send, self.body, self.slot);
        Ok(Stream::from_h2(io, self.peer.address))
    }

    /// Answers no, with a reason for people (cut to 1024 characters).
    pub fn refuse(self, refusal: Refusal, reason: &str) {
        refuse(self.respond, refusal, reason);
    }
}

fn refuse(mut respond: SendResponse<Bytes>, refusal: Refusal, reason: &str) {
    let visible = |c: char| if (' '..='~').contains(&c) { c } else { '?' };
    let reason: String = reason.chars().take(LONGEST_REFUSAL).map(visible).collect();
    let mut response = Response::new(());
    *response.status_mut() = refusal.status();
    if let Ok(reason) = HeaderValue::from_str(&reason) {
        response.headers_mut().insert(REFUSAL_HEADER, reason);
    }
    // If the peer is gone already, nobody is left to be told.
    drop(respond.send_response(response, true));
}

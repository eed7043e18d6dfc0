//! Opens plain TCP connections for a workload: to its own application, and out of the mesh.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use tacit_decide::OutsidePermit;
use tacit_model::SpiffeId;
use tokio::net::{TcpSocket, TcpStream};

use crate::hbone::Admission;
use crate::stream::Stream;

/// Makes sockets where a workload's traffic must come from: in its network namespace, with the
/// proxy's mark, bound to the address that the peer shall see.
pub trait SocketFactory {
    /// A TCP socket that is not connected yet, of the address family of `to`.
    fn tcp_socket(&self, to: SocketAddr) -> io::Result<socket2::Socket>;
}

/// On whose behalf a connection is opened.
#[derive(Clone)]
pub struct Source {
    /// Whose key and certificate prove who calls.
    pub identity: SpiffeId,
    /// The workload's address; connections of different addresses share no session.
    pub address: IpAddr,
    /// Makes the sockets.
    pub sockets: Rc<dyn SocketFactory>,
}

/// Why a connection was not opened. No byte of the application has been sent when this is
/// returned, so another try repeats nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DialError {
    /// What went wrong.
    pub fault: DialFault,
    /// The address that was dialled.
    pub peer: SocketAddr,
    /// For people: what happened, as far as it is known.
    pub detail: String,
}

/// What went wrong while opening.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DialFault {
    /// The TCP connection was refused, reset or had no route.
    ConnectFailed,
    /// Our own identity has no certificate in the store: our fault.
    NoIdentity,
    /// The peer answered the CONNECT with this status: 401 is policy, 503 is its application.
    PeerRefused {
        status: u16,
        /// The text of `x-tacit-refusal`, at most 1024 characters.
        refusal: Option<String>,
    },
    /// The session broke or went silent before the peer answered.
    SessionLost,
    /// It took longer than it may.
    Timeout(Phase),
    /// The peer could not prove the expected identity, or did not accept ours.
    Tls,
}

/// What was waited for when time ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The peer's answer to the CONNECT: it, or its application, is slow or gone.
    Answer,
    /// The TCP connection, or the session that others were making.
    Connect,
    /// TLS.
    Handshake,
}

impl DialError {
    pub(crate) fn new(fault: DialFault, peer: SocketAddr, detail: impl fmt::Display) -> Self {
        Self {
            fault,
            peer,
            detail: detail.to_string(),
        }
    }
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { peer, detail, .. } = self;
        match &self.fault {
            DialFault::ConnectFailed => write!(f, "cannot connect to {peer}: {detail}"),
            DialFault::NoIdentity => write!(f, "no certificate to call {peer} with: {detail}"),
            DialFault::PeerRefused { status, refusal } => {
                let refusal = refusal.as_deref().unwrap_or("no reason given");
                write!(f, "{peer} refused with {status}: {refusal}")
            }
            DialFault::SessionLost => write!(f, "lost the session to {peer}: {detail}"),
            DialFault::Timeout(_) => write!(f, "{peer} did not answer in time: {detail}"),
            DialFault::Tls => write!(f, "no mutual TLS with {peer}: {detail}"),
        }
    }
}

impl std::error::Error for DialError {}

/// Connects to the workload's own application, as the server half does after its verdict.
///
/// `sockets` decides the source address, so that the application sees the original caller.
pub async fn application(
    _admission: Admission<'_>,
    sockets: &dyn SocketFactory,
    to: SocketAddr,
    timeout: Duration,
) -> Result<Stream, DialError> {
    connect(sockets, to, timeout).await.map(Stream::from_tcp)
}

/// Connects to what is not in the mesh, in clear.
pub async fn outside(
    source: &Source,
    permit: OutsidePermit,
    timeout: Duration,
) -> Result<Stream, DialError> {
    connect(&*source.sockets, permit.address(), timeout)
        .await
        .map(Stream::from_tcp)
}

/// Connects a socket of `sockets` to `to` within `timeout`.
pub(crate) async fn connect(
    sockets: &dyn SocketFactory,
    to: SocketAddr,
    timeout: Duration,
) -> Result<TcpStream, DialError> {
    let failed = |error: io::Error| DialError::new(DialFault::ConnectFailed, to, error);
    let socket = sockets.tcp_socket(to).map_err(failed)?;
    socket.set_nonblocking(true).map_err(failed)?;
    let socket = TcpSocket::from_std_stream(socket.into());
    match tokio::time::timeout(timeout, socket.connect(to)).await {
        Ok(Ok(stream)) => {
            // Small messages must not wait for the acknowledgement of earlier ones.
            stream.set_nodelay(true).map_err(failed)?;
            Ok(stream)
        }
        Ok(Err(error)) => Err(failed(error)),
        Err(_) => {
            let detail = format!("no TCP connection after {timeout:?}");
            Err(DialError::new(
                DialFault::Timeout(Phase::Connect),
                to,
                detail,
            ))
        }
    }
}

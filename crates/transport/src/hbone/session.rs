//! What both ends of an HBONE session share: socket options, TLS, and when bytes last moved.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tacit_model::SpiffeId;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::certificate::Validity;
use crate::tls::{self, Configs, TlsStream};

/// A peer that acknowledges nothing for this long is gone; the heartbeat of the client is
/// faster, this bounds what a server keeps for a dead client.
const USER_TIMEOUT: Duration = Duration::from_secs(20);
/// An idle peer is asked this often by TCP itself, and three silences end the connection.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// Options of every HBONE socket.
pub(super) fn set_options(tcp: &TcpStream) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    let socket = SockRef::from(tcp);
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE)
        .with_interval(KEEPALIVE);
    socket.set_tcp_keepalive(&keepalive.with_retries(3))
}

/// Why a TLS handshake failed.
pub(super) enum TlsFault {
    /// The connection ended or broke; the text is for people.
    Closed(String),
    /// Certificates or protocol were wrong; the text is for people.
    Refused(String),
}

impl From<io::Error> for TlsFault {
    fn from(error: io::Error) -> Self {
        if is_tls(&error) {
            Self::Refused(error.to_string())
        } else {
            Self::Closed(error.to_string())
        }
    }
}

/// True if an error says that TLS itself went wrong, not the connection below it.
pub(super) fn is_tls(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidData
}

/// A connection after its handshake.
pub(super) struct Secured {
    pub(super) io: TlsIo,
    pub(super) peer: SpiffeId,
    /// When the peer's certificate ends.
    pub(super) validity: Validity,
    pub(super) live: Rc<Liveness>,
}

pub(super) async fn connect(
    tcp: TcpStream,
    configs: &Configs,
    wake: Rc<Notify>,
) -> Result<Secured, TlsFault> {
    secured(tls::connect(tcp, configs).await?, wake)
}

pub(super) async fn accept(tcp: TcpStream, configs: &Configs) -> Result<Secured, TlsFault> {
    secured(tls::accept(tcp, configs).await?, Rc::default())
}

fn secured(stream: TlsStream, wake: Rc<Notify>) -> Result<Secured, TlsFault> {
    let agreed = stream.agreed();
    if agreed.alpn.as_deref() != Some(b"h2") {
        return Err(TlsFault::Refused(
            "the peer did not agree to h2 (ALPN)".to_owned(),
        ));
    }
    let (peer, validity) = tls::peer_identity(&agreed.peer_certificates)
        .map_err(|error| TlsFault::Refused(error.to_string()))?;
    let live = Rc::new(Liveness::new(wake));
    let io = TlsIo {
        stream,
        live: Rc::clone(&live),
    };
    Ok(Secured {
        io,
        peer,
        validity,
        live,
    })
}

/// A PING frame. A read or write of just this says that the peer lives, but is no traffic.
const PING_LENGTH: usize = 17;

/// When bytes last moved on a session.
pub(super) struct Liveness {
    read: Cell<Instant>,
    traffic: Cell<Instant>,
    /// True while nobody looks at this; then the next write wakes the one who does.
    pub(super) asleep: Cell<bool>,
    wake: Rc<Notify>,
}

impl Liveness {
    fn new(wake: Rc<Notify>) -> Self {
        let now = Instant::now();
        Self {
            read: Cell::new(now),
            traffic: Cell::new(now),
            asleep: Cell::new(true),
            wake,
        }
    }

    pub(super) fn last_read(&self) -> Instant {
        self.read.get()
    }

    pub(super) fn last_traffic(&self) -> Instant {
        self.traffic.get()
    }

    fn on_read(&self, count: usize) {
        let now = Instant::now();
        self.read.set(now);
        if count != PING_LENGTH {
            self.traffic.set(now);
        }
    }

    fn on_write(&self, count: usize) {
        if count != PING_LENGTH {
            self.traffic.set(Instant::now());
            if self.asleep.replace(false) {
                self.wake.notify_one();
            }
        }
    }
}

/// The encrypted bytes of a session, watched.
pub(super) struct TlsIo {
    stream: TlsStream,
    live: Rc<Liveness>,
}

impl AsyncRead for TlsIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        this.live.on_read(buf.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for TlsIo {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.live.on_write(data.len());
        Pin::new(&mut this.stream).poll_write(cx, data)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.live
            .on_write(slices.iter().map(|slice| slice.len()).sum());
        Pin::new(&mut this.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

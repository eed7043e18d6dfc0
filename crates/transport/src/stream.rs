//! One application connection as bytes: over TCP, or over one HTTP/2 stream of an HBONE session.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

mod h2_io;
mod tcp_io;

pub(crate) use h2_io::{H2Io, Slot};
use tcp_io::TcpIo;

/// One application connection.
///
/// `AsyncWrite::poll_shutdown` closes our direction only (FIN, or END_STREAM); the peer may go on
/// sending. A stream that is dropped before both directions ended is reset (HBONE) or closed
/// (TCP). Relays use [`Stream::poll_recv`] and [`Stream::poll_send`], which copy nothing for
/// HBONE and own no buffer while idle.
pub struct Stream {
    io: Io,
    remote: SocketAddr,
}

enum Io {
    H2(H2Io),
    Tcp(TcpIo),
}

/// Why a stream broke; inside the `io::Error`s of a [`Stream`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The peer says that it did nothing with this stream; another try repeats nothing.
    NotProcessed,
    /// The peer reset this stream.
    Reset,
    /// The session that carried it closed or went silent.
    SessionLost,
}

impl Broken {
    /// Finds the cause in an error and its sources, through libraries that wrap errors.
    #[must_use]
    pub fn find(error: &(dyn Error + 'static)) -> Option<Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(broken) = error.downcast_ref::<Self>() {
                return Some(*broken);
            }
            let inner = error.downcast_ref::<io::Error>();
            next = match inner.and_then(io::Error::get_ref) {
                Some(inside) => Some(inside),
                None => error.source(),
            };
        }
        None
    }

    pub(crate) fn error(self) -> io::Error {
        let kind = match self {
            Self::NotProcessed | Self::SessionLost => io::ErrorKind::ConnectionAborted,
            Self::Reset => io::ErrorKind::ConnectionReset,
        };
        io::Error::new(kind, self)
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotProcessed => "the peer did not process the stream",
            Self::Reset => "the peer reset the stream",
            Self::SessionLost => "the session to the peer is lost",
        })
    }
}

impl Error for Broken {}

impl Stream {
    /// Takes a connected socket.
    #[must_use]
    pub fn from_tcp(socket: TcpStream) -> Self {
        // A socket that is gone already has no peer; the first read says so better than we can.
        let unknown = || SocketAddr::from(([0, 0, 0, 0], 0));
        let remote = socket.peer_addr().unwrap_or_else(|_| unknown());
        Self {
            io: Io::Tcp(TcpIo::new(socket)),
            remote,
        }
    }

    pub(crate) fn from_h2(io: H2Io, remote: SocketAddr) -> Self {
        Self {
            io: Io::H2(io),
            remote,
        }
    }

    /// The peer's address; for HBONE, of the session that carries the stream.
    #[must_use]
    pub fn remote(&self) -> SocketAddr {
        self.remote
    }

    /// True if the bytes travel inside mutual TLS.
    #[must_use]
    pub fn is_mutual_tls(&self) -> bool {
        matches!(self.io, Io::H2(_))
    }

    /// Breaks both directions at once; the peer sees a reset, not an end.
    pub fn reset(self) {
        match self.io {
            Io::H2(io) => io.reset(),
            Io::Tcp(io) => io.reset(),
        }
    }

    /// Receives the next segment, at most 1 MiB; `None` after the peer ended its direction.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        match &mut self.io {
            Io::H2(io) => io.poll_recv(cx),
            Io::Tcp(io) => io.poll_recv(cx),
        }
    }

    /// Sends from the front of `segments` what the peer has room for, removes it from there and
    /// returns how many bytes that were (more than 0 unless `segments` is empty).
    pub fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        segments: &mut Segments,
    ) -> Poll<io::Result<usize>> {
        match &mut self.io {
            Io::H2(io) => io.poll_send(cx, segments),
            Io::Tcp(io) => io.poll_send(cx, segments),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::H2(io) => io.poll_read(cx, buf),
            Io::Tcp(io) => io.poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().io {
            Io::H2(io) => io.poll_write_vectored(cx, &[io::IoSlice::new(data)]),
            Io::Tcp(io) => Pin::new(&mut io.socket).poll_write(cx, data),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().io {
            Io::H2(io) => io.poll_write_vectored(cx, slices),
            Io::Tcp(io) => Pin::new(&mut io.socket).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // TCP writes are not buffered here, and the session's driver flushes on its own.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::H2(io) => Poll::Ready(io.end()),
            Io::Tcp(io) => Pin::new(&mut io.socket).poll_shutdown(cx),
        }
    }
}

/// Segments on their way from one stream to another, in order.
#[derive(Debug, Default)]
pub struct Segments {
    queue: std::collections::VecDeque<Bytes>,
    bytes: usize,
}

impl Segments {
    /// Adds a segment at the end; an empty one is ignored.
    pub fn push(&mut self, segment: Bytes) {
        self.bytes += segment.len();
        if !segment.is_empty() {
            self.queue.push_back(segment);
        }
    }

    /// How many bytes wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// True if nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Takes at most `limit` bytes of the first segment, without copying.
    fn take(&mut self, limit: usize) -> Option<Bytes> {
        let first = self.queue.front_mut()?;
        let taken = if first.len() <= limit {
            self.queue.pop_front()?
        } else {
            first.split_to(limit)
        };
        self.bytes -= taken.len();
        Some(taken)
    }

    /// Drops `count` bytes from the front.
    fn consume(&mut self, mut count: usize) {
        while count > 0 {
            match self.take(count) {
                Some(taken) => count -= taken.len(),
                None => return,
            }
        }
    }

    /// The first segments as slices for one system call.
    fn slices<'a>(&'a self, into: &mut [io::IoSlice<'a>]) -> usize {
        let mut count = 0;
        for (slot, segment) in into.iter_mut().zip(&self.queue) {
            *slot = io::IoSlice::new(segment);
            count += 1;
        }
        count
    }
}

#[cfg(test)]
mod tests;

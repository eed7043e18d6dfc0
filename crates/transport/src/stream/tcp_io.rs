//! A TCP socket as an application connection that owns no buffer while idle.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::io::poll_read_buf;

use super::Segments;
use crate::buffers::{self, ReadSize};

/// Buffers start small, for the many connections that carry little.
const SMALLEST_READ: usize = 4 * 1024;
/// Reads of 256 KiB cost half of what reads of 16 KiB cost; larger ones fall out of the cache.
const LARGEST_READ: usize = 256 * 1024;
/// Segments in one system call; the kernel takes up to 1024, but few are ever there.
const SLICES: usize = 64;

pub(super) struct TcpIo {
    pub(super) socket: TcpStream,
    /// Has capacity only between reads that follow each other closely.
    buffer: BytesMut,
    read_size: ReadSize,
}

impl TcpIo {
    pub(super) fn new(socket: TcpStream) -> Self {
        Self {
            socket,
            buffer: BytesMut::new(),
            read_size: ReadSize::between(SMALLEST_READ, LARGEST_READ),
        }
    }

    pub(super) fn reset(self) {
        // Linger zero turns the close into a reset. If it cannot be set, closing is all we can do.
        drop(socket2::SockRef::from(&self.socket).set_linger(Some(std::time::Duration::ZERO)));
    }

    pub(super) fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        loop {
            if self.socket.poll_read_ready(cx)?.is_pending() {
                buffers::give_back(&mut self.buffer);
                return Poll::Pending;
            }
            if self.buffer.capacity() == 0 {
                self.buffer = buffers::take();
            }
            self.buffer.reserve(self.read_size.next());
            // Unlike `try_read_buf`, this remembers after a short read that nothing is left, which
            // saves the system call that would say so.
            let read = poll_read_buf(Pin::new(&mut self.socket), cx, &mut self.buffer);
            match read? {
                Poll::Pending => {}
                Poll::Ready(0) => {
                    self.buffer = BytesMut::new();
                    return Poll::Ready(Ok(None));
                }
                Poll::Ready(count) => {
                    self.read_size.adapt(count);
                    return Poll::Ready(Ok(Some(self.buffer.split().freeze())));
                }
            }
        }
    }

    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }

    pub(super) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        segments: &mut Segments,
    ) -> Poll<io::Result<usize>> {
        if segments.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let mut slices = [io::IoSlice::new(&[]); SLICES];
        let count = segments.slices(&mut slices);
        let socket = Pin::new(&mut self.socket);
        let sent = ready!(socket.poll_write_vectored(cx, &slices[..count]))?;
        if sent == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        segments.consume(sent);
        Poll::Ready(Ok(sent))
    }
}

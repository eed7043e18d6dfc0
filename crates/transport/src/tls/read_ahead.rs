//! A socket that is read in large pieces, whatever small ones the TLS library asks for.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::io::poll_read_buf;

use crate::buffers;

/// A record and a little more; what most connections carry at a time is far less.
const SMALLEST_READ: usize = 16 * 1024;
/// More in one system call falls out of the processor's cache before it is decrypted.
const LARGEST_READ: usize = 128 * 1024;

/// The library reads 4 KiB per system call; this makes it 16 to 128 KiB, and owns no buffer
/// while idle.
#[derive(Debug)]
pub(crate) struct ReadAhead {
    tcp: TcpStream,
    buffer: BytesMut,
    next_read: usize,
}

impl ReadAhead {
    pub(super) fn new(tcp: TcpStream) -> Self {
        Self {
            tcp,
            buffer: BytesMut::new(),
            next_read: SMALLEST_READ,
        }
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.tcp.poll_read_ready(cx)?.is_pending() {
                buffers::give_back(&mut self.buffer);
                return Poll::Pending;
            }
            if self.buffer.capacity() == 0 {
                self.buffer = buffers::take();
            }
            self.buffer.reserve(self.next_read);
            // Unlike `try_read_buf`, this remembers after a short read that nothing is left, which
            // saves the system call that would say so.
            let read = poll_read_buf(Pin::new(&mut self.tcp), cx, &mut self.buffer);
            if let Poll::Ready(count) = read? {
                self.adapt(count);
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Grows after a read that filled the buffer, shrinks after one that used a fraction of it.
    fn adapt(&mut self, count: usize) {
        if count >= self.next_read {
            self.next_read = (self.next_read * 4).min(LARGEST_READ);
        } else if count < self.next_read / 8 {
            self.next_read = (self.next_read / 2).max(SMALLEST_READ);
        }
    }
}

impl AsyncRead for ReadAhead {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.buffer.is_empty() {
            ready!(this.poll_fill(cx))?;
        }
        let count = this.buffer.len().min(buf.remaining());
        buf.put_slice(&this.buffer[..count]);
        this.buffer.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ReadAhead {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().tcp).poll_write(cx, data)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().tcp).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_shutdown(cx)
    }
}

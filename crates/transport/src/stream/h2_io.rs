//! One HTTP/2 stream of an HBONE session as an application connection.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use h2::{Reason, RecvStream, SendStream};
use tokio::io::ReadBuf;

use super::{Broken, Segments};

/// Bytes copied into one segment by `AsyncWrite`; the same as the largest read.
const LARGEST_WRITE: usize = 256 * 1024;

/// One stream's place in its session; dropping it gives the place back.
pub(crate) struct Slot(Arc<AtomicUsize>);

impl Slot {
    pub(crate) fn take(active: &Arc<AtomicUsize>) -> Self {
        active.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(active))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(crate) struct H2Io {
    send: SendStream<Bytes>,
    recv: RecvStream,
    /// Received, but too long for the reader's buffer.
    rest: Bytes,
    ended: bool,
    _slot: Slot,
}

impl H2Io {
    pub(crate) fn new(send: SendStream<Bytes>, recv: RecvStream, slot: Slot) -> Self {
        Self {
            send,
            recv,
            rest: Bytes::new(),
            ended: false,
            _slot: slot,
        }
    }

    pub(super) fn reset(mut self) {
        self.send.send_reset(Reason::CANCEL);
    }

    /// Ends our direction after what was sent before.
    pub(super) fn end(&mut self) -> io::Result<()> {
        if self.ended {
            return Ok(());
        }
        self.ended = true;
        self.send.send_data(Bytes::new(), true).map_err(broken)
    }

    pub(super) fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        if self.rest.has_remaining() {
            return Poll::Ready(Ok(Some(std::mem::take(&mut self.rest))));
        }
        loop {
            match ready!(self.recv.poll_data(cx)) {
                None => return Poll::Ready(Ok(None)),
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
                Some(Ok(data)) => {
                    // The receiver of the segment holds at most one batch, so that room is made
                    // for as much as was taken away.
                    let flow = self.recv.flow_control();
                    flow.release_capacity(data.len()).map_err(broken)?;
                    if !data.is_empty() {
                        return Poll::Ready(Ok(Some(data)));
                    }
                }
            }
        }
    }

    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(mut data) = ready!(self.poll_recv(cx))? {
            let count = data.len().min(buf.remaining());
            buf.put_slice(&data[..count]);
            data.advance(count);
            self.rest = data;
        }
        Poll::Ready(Ok(()))
    }

    pub(super) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        segments: &mut Segments,
    ) -> Poll<io::Result<usize>> {
        if segments.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let mut room = ready!(self.poll_room(cx, segments.len()))?;
        let mut sent = 0;
        while room > 0
            && let Some(data) = segments.take(room)
        {
            room -= data.len();
            sent += data.len();
            self.send.send_data(data, false).map_err(broken)?;
        }
        Poll::Ready(Ok(sent))
    }

    pub(super) fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let offered = slices.iter().map(|slice| slice.len()).sum::<usize>();
        if offered == 0 {
            return Poll::Ready(Ok(0));
        }
        let count = ready!(self.poll_room(cx, offered.min(LARGEST_WRITE)))?;
        let mut data = BytesMut::with_capacity(count);
        for slice in slices {
            let part = slice.len().min(count - data.len());
            data.extend_from_slice(&slice[..part]);
        }
        self.send.send_data(data.freeze(), false).map_err(broken)?;
        Poll::Ready(Ok(count))
    }

    /// How many of `wanted` bytes the peer's window and our buffer have room for; at least 1.
    fn poll_room(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<io::Result<usize>> {
        if self.ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        self.send.reserve_capacity(wanted);
        loop {
            let room = self.send.capacity();
            if room > 0 {
                return Poll::Ready(Ok(room.min(wanted)));
            }
            match ready!(self.send.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
                // The stream takes no more data; `poll_reset` knows why.
                None => {
                    let reason = ready!(self.send.poll_reset(cx)).map_err(broken)?;
                    return Poll::Ready(Err(broken_by(reason).error()));
                }
            }
        }
    }
}

fn broken_by(reason: Reason) -> Broken {
    if reason == Reason::REFUSED_STREAM {
        Broken::NotProcessed
    } else {
        Broken::Reset
    }
}

/// What an error of the HTTP/2 layer means for this stream.
fn broken(error: h2::Error) -> io::Error {
    match error.reason() {
        Some(reason) if error.is_reset() => broken_by(reason).error(),
        _ => Broken::SessionLost.error(),
    }
}

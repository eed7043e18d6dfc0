//! A TLS 1.3 connection that reads and writes large pieces and owns no buffer while idle.
//!
//! The handshake is the TLS library's. The records after it are sealed and opened here, because
//! the library reads 4 KiB per system call and copies each record more often than needed.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::handshake::{Finished, Updates};
use super::record::{self, Content, Keys, LARGEST_PLAINTEXT, LARGEST_RECORD};
use crate::buffers;

/// One system call carries at most this much; more falls out of the processor's cache.
const BATCH: usize = 128 * 1024;
/// Post-handshake messages that wait for their rest; a ticket is far smaller.
const LARGEST_MESSAGE: usize = 64 * 1024;
const KEY_UPDATE: u8 = 24;
const NEW_SESSION_TICKET: u8 = 4;
const CLOSE_NOTIFY: [u8; 2] = [1, 0];

pub(crate) struct SecureStream {
    tcp: TcpStream,
    updates: Updates,
    receiving: Receiving,
    sending: Sending,
    peer: Option<Vec<CertificateDer<'static>>>,
    alpn: Option<Vec<u8>>,
}

struct Receiving {
    keys: Keys,
    /// `opened` bytes of plaintext, then what is not opened yet.
    buffer: BytesMut,
    opened: usize,
    /// Behind the plaintext: what is left of its record.
    trailer: usize,
    next_read: usize,
    /// Part of a post-handshake message.
    message: Vec<u8>,
    closed: bool,
    /// To be told after the plaintext that came before it.
    failed: Option<io::Error>,
}

struct Sending {
    keys: Keys,
    /// Sealed records, then perhaps one that is still being filled.
    buffer: BytesMut,
    /// Where the record that is being filled begins.
    open: Option<usize>,
    closed: bool,
}

fn invalid(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

fn tls_error(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl SecureStream {
    pub(super) fn new(finished: Finished) -> Result<Self, rustls::Error> {
        let unusable = |error: record::RecordError| rustls::Error::General(error.to_string());
        let Finished {
            tcp,
            secrets,
            updates,
            incoming,
            early,
            peer,
            alpn,
        } = finished;
        let opened = early.len();
        let mut buffer = early;
        buffer.extend_from_slice(&incoming);
        Ok(Self {
            tcp,
            updates,
            receiving: Receiving {
                keys: Keys::new(secrets.rx).map_err(unusable)?,
                buffer,
                opened,
                trailer: 0,
                next_read: LARGEST_RECORD,
                message: Vec::new(),
                closed: false,
                failed: None,
            },
            sending: Sending {
                keys: Keys::new(secrets.tx).map_err(unusable)?,
                buffer: BytesMut::new(),
                open: None,
                closed: false,
            },
            peer,
            alpn,
        })
    }

    pub(crate) fn peer_certificates(&self) -> Option<&[CertificateDer<'static>]> {
        self.peer.as_deref()
    }

    pub(crate) fn alpn(&self) -> Option<&[u8]> {
        self.alpn.as_deref()
    }

    /// Opens the next whole record, if there is one. False: more bytes are needed.
    fn open_next(&mut self) -> io::Result<bool> {
        let receiving = &mut self.receiving;
        let Some(length) = record::record_length(&receiving.buffer)? else {
            return Ok(false);
        };
        if receiving.buffer.len() < length {
            return Ok(false);
        }
        let (content, count) = receiving.keys.open(&mut receiving.buffer[..length])?;
        receiving.buffer.advance(record::HEADER);
        let trailer = length - record::HEADER - count;
        match content {
            Content::ApplicationData => {
                receiving.opened = count;
                receiving.trailer = trailer;
                receiving.skip_empty();
            }
            Content::Alert => {
                let alert = receiving.buffer.split_to(count + trailer);
                match alert[..count] {
                    [_, 0] => receiving.closed = true,
                    [_, code] => {
                        let alert = rustls::AlertDescription::from(code);
                        return Err(tls_error(rustls::Error::AlertReceived(alert)));
                    }
                    _ => return Err(invalid("a malformed TLS alert")),
                }
            }
            Content::Handshake => {
                let part = receiving.buffer.split_to(count + trailer);
                receiving.message.extend_from_slice(&part[..count]);
                self.on_messages()?;
            }
        }
        Ok(true)
    }

    /// Handles the post-handshake messages that are complete.
    fn on_messages(&mut self) -> io::Result<()> {
        loop {
            let message = &self.receiving.message;
            let Some(&[kind, a, b, c]) = message.first_chunk::<4>() else {
                return Ok(());
            };
            let length =
                4 + usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap_or(usize::MAX);
            if length > LARGEST_MESSAGE {
                return Err(invalid("a TLS message is too long"));
            }
            if message.len() < length {
                return Ok(());
            }
            let body: Vec<u8> = self.receiving.message.drain(..length).skip(4).collect();
            match (kind, &body[..]) {
                // We do not resume.
                (NEW_SESSION_TICKET, _) => {}
                (KEY_UPDATE, [wanted @ 0..=1]) => self.on_key_update(*wanted == 1)?,
                _ => return Err(invalid("an unexpected TLS message")),
            }
        }
    }

    fn on_key_update(&mut self, ours_too: bool) -> io::Result<()> {
        if !self.receiving.message.is_empty() {
            return Err(invalid("a TLS message across a change of keys"));
        }
        let next = self.updates.next_receive().map_err(tls_error)?;
        self.receiving.keys = Keys::new(next)?;
        if ours_too && !self.sending.closed {
            self.change_keys()?;
        }
        Ok(())
    }

    /// Tells the peer that our key changes, and changes it.
    fn change_keys(&mut self) -> io::Result<()> {
        self.sending.seal_open()?;
        self.sending
            .add(Content::Handshake, &[KEY_UPDATE, 0, 0, 1, 0])?;
        let next = self.updates.next_send().map_err(tls_error)?;
        self.sending.keys = Keys::new(next)?;
        Ok(())
    }

    /// Reads from the socket into the buffer; false at the end of the file.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let Self { tcp, receiving, .. } = self;
        loop {
            if tcp.poll_read_ready(cx)?.is_pending() {
                if receiving.buffer.is_empty() {
                    buffers::give_back(&mut receiving.buffer);
                }
                return Poll::Pending;
            }
            if receiving.buffer.capacity() == 0 {
                receiving.buffer = buffers::take();
            }
            receiving.buffer.reserve(receiving.next_read);
            match tcp.try_read_buf(&mut receiving.buffer) {
                Ok(count) => {
                    receiving.adapt(count);
                    return Poll::Ready(Ok(count > 0));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Writes all sealed records to the socket.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { tcp, sending, .. } = self;
        while !sending.buffer.is_empty() {
            let sent = ready!(Pin::new(&mut *tcp).poll_write(cx, &sending.buffer))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            sending.buffer.advance(sent);
        }
        buffers::give_back(&mut sending.buffer);
        Poll::Ready(Ok(()))
    }
}

impl Receiving {
    /// Grows after a read that filled the buffer, shrinks after one that used a fraction of it.
    fn adapt(&mut self, count: usize) {
        if count >= self.next_read {
            self.next_read = (self.next_read * 4).min(BATCH);
        } else if count < self.next_read / 8 {
            self.next_read = (self.next_read / 2).max(LARGEST_RECORD);
        }
    }

    /// Moves plaintext into `buf`.
    fn take(&mut self, buf: &mut ReadBuf<'_>) {
        let count = self.opened.min(buf.remaining());
        buf.put_slice(&self.buffer[..count]);
        self.buffer.advance(count);
        self.opened -= count;
        self.skip_empty();
    }

    /// Drops the tag and padding behind plaintext that is used up.
    fn skip_empty(&mut self) {
        if self.opened == 0 {
            self.buffer.advance(std::mem::take(&mut self.trailer));
        }
    }
}

impl Sending {
    /// Copies `data` into records; a record that is not full stays open.
    fn fill(&mut self, mut data: &[u8]) -> io::Result<()> {
        while !data.is_empty() {
            let start = match self.open {
                Some(start) => start,
                None => record::begin(&mut self.buffer),
            };
            self.open = Some(start);
            let room = LARGEST_PLAINTEXT - (self.buffer.len() - start - record::HEADER);
            let (now, later) = data.split_at(room.min(data.len()));
            self.buffer.extend_from_slice(now);
            data = later;
            if now.len() == room {
                self.seal_open()?;
            }
        }
        Ok(())
    }

    /// Makes room for `plaintext` bytes at once, with what sealing adds.
    fn reserve(&mut self, plaintext: usize) {
        let plaintext = plaintext.min(BATCH);
        let records = plaintext / LARGEST_PLAINTEXT + 2;
        if self.buffer.capacity() == 0 {
            self.buffer = buffers::take();
        }
        self.buffer.reserve(plaintext + records * record::OVERHEAD);
    }

    fn seal_open(&mut self) -> io::Result<()> {
        if let Some(start) = self.open.take() {
            self.keys
                .seal(Content::ApplicationData, &mut self.buffer, start)?;
        }
        Ok(())
    }

    /// Adds a whole small record.
    fn add(&mut self, content: Content, data: &[u8]) -> io::Result<()> {
        let start = record::begin(&mut self.buffer);
        self.buffer.extend_from_slice(data);
        Ok(self.keys.seal(content, &mut self.buffer, start)?)
    }

    fn is_full(&self) -> bool {
        self.buffer.len() >= BATCH
    }
}

impl AsyncRead for SecureStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        loop {
            this.receiving.take(buf);
            let got = buf.filled().len() > before;
            if buf.remaining() == 0 || this.receiving.closed {
                return Poll::Ready(Ok(()));
            }
            let opened = match this.receiving.failed.take() {
                Some(error) => Err(error),
                None => this.open_next(),
            };
            match opened {
                Ok(true) => continue,
                Err(error) if !got => return Poll::Ready(Err(error)),
                Err(error) => this.receiving.failed = Some(error),
                Ok(false) => {}
            }
            if got {
                return Poll::Ready(Ok(()));
            }
            if !ready!(this.poll_fill(cx))? {
                // Without a close_notify, somebody may have cut the stream.
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }
}

impl AsyncWrite for SecureStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(data)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.sending.closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if this.sending.is_full() {
            this.sending.seal_open()?;
            ready!(this.poll_drain(cx))?;
        }
        if this.sending.keys.is_worn() {
            this.change_keys()?;
        }
        this.sending
            .reserve(slices.iter().map(|slice| slice.len()).sum());
        let mut taken = 0;
        for slice in slices {
            let room = (2 * BATCH).saturating_sub(this.sending.buffer.len());
            let part = slice.len().min(room);
            this.sending.fill(&slice[..part])?;
            taken += part;
        }
        Poll::Ready(Ok(taken))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.sending.seal_open()?;
        this.poll_drain(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.sending.closed {
            this.sending.seal_open()?;
            this.sending.add(Content::Alert, &CLOSE_NOTIFY)?;
            this.sending.closed = true;
        }
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.tcp).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;

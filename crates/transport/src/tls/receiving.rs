//! What a peer sends: records are opened into the reader's memory, or where they lie.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use rustls::{AlertDescription, ContentType, Error, InvalidMessage, PeerMisbehaved};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;

use super::record::{self, CONTENT, Opener};
use super::stream::Secrets;
use super::window::Window;
use crate::buffers::ReadSize;

/// A record and a little more; what most connections carry at a time is far less.
const SMALLEST_READ: usize = 16 * 1024;
/// More in one system call falls out of the processor's cache before it is decrypted.
const LARGEST_READ: usize = 128 * 1024;
/// Records in a row that carry no data: a peer that sends more keeps us busy for nothing.
const IDLE_RECORDS: u8 = 32;

/// One direction: from the socket to the reader.
pub(super) struct Receiving {
    pub(super) opener: Opener,
    pub(super) window: Window,
    read_size: ReadSize,
    plain: Plain,
    /// The beginning of a message that goes on in the next record.
    pub(super) message: Vec<u8>,
    idle_records: u8,
    pub(super) state: State,
}

/// Decrypted, but not taken by the reader yet.
enum Plain {
    None,
    /// Came with the handshake.
    Early(Bytes),
    /// Lies in the window: `left` bytes from `at`, in a record of that length.
    InPlace {
        at: usize,
        left: usize,
        record: usize,
    },
}

/// How far the peer's direction is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Flowing,
    /// The peer said that nothing more comes.
    Ended,
    /// What came made no sense; nothing more is read.
    Broken,
}

/// What was in the next record.
pub(super) enum Opened {
    /// Perhaps none.
    Data,
    Message(ContentType, Vec<u8>),
    /// No whole record was there.
    Nothing,
}

impl Receiving {
    /// `received` and `early` are what came with the handshake: records that the library did not
    /// look at, and data that it has decrypted.
    pub(super) fn new(secrets: Secrets, received: Window, early: Vec<u8>) -> Result<Self, Error> {
        let plain = if early.is_empty() {
            Plain::None
        } else {
            Plain::Early(early.into())
        };
        Ok(Self {
            opener: Opener::new(secrets)?,
            window: received,
            read_size: ReadSize::between(SMALLEST_READ, LARGEST_READ),
            plain,
            message: Vec::new(),
            idle_records: 0,
            state: State::Flowing,
        })
    }

    /// True if it gave the reader something.
    pub(super) fn deliver_plain(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        match &mut self.plain {
            Plain::None => return false,
            Plain::Early(bytes) => {
                let count = bytes.len().min(buf.remaining());
                buf.put_slice(&bytes[..count]);
                bytes.advance(count);
                if bytes.is_empty() {
                    self.plain = Plain::None;
                }
            }
            Plain::InPlace { at, left, record } => {
                let count = (*left).min(buf.remaining());
                buf.put_slice(&self.window.filled()[*at..*at + count]);
                *at += count;
                *left -= count;
                if *left == 0 {
                    self.window.consume(*record);
                    self.plain = Plain::None;
                }
            }
        }
        true
    }

    /// Opens the next record: into the reader's memory if it has room for all of it, else in place.
    pub(super) fn open_next(&mut self, buf: &mut ReadBuf<'_>) -> Result<Opened, Error> {
        let Some(sealed) = record::first(self.window.filled())? else {
            return Ok(Opened::Nothing);
        };
        let has_room = buf.remaining() >= sealed.plain;
        let record = &mut self.window.filled_mut()[..sealed.record];
        let (kind, length) = if has_room {
            let plain = buf.initialize_unfilled_to(sealed.plain);
            self.opener.open(record, plain)?
        } else {
            self.opener.open_in_place(record)?
        };
        self.count_idle(kind == ContentType::ApplicationData && length > 0)?;
        if kind != ContentType::ApplicationData {
            let content = if has_room {
                buf.initialize_unfilled_to(length).to_vec()
            } else {
                self.window.filled()[CONTENT..CONTENT + length].to_vec()
            };
            self.window.consume(sealed.record);
            return Ok(Opened::Message(kind, content));
        }
        if !self.message.is_empty() {
            return Err(PeerMisbehaved::MessageInterleavedWithHandshakeMessage.into());
        }
        if has_room || length == 0 {
            buf.advance(length);
            self.window.consume(sealed.record);
        } else {
            self.plain = Plain::InPlace {
                at: CONTENT,
                left: length,
                record: sealed.record,
            };
        }
        Ok(Opened::Data)
    }

    fn count_idle(&mut self, has_data: bool) -> Result<(), Error> {
        self.idle_records = if has_data { 0 } else { self.idle_records + 1 };
        if self.idle_records > IDLE_RECORDS {
            return Err(PeerMisbehaved::TooManyEmptyFragments.into());
        }
        Ok(())
    }

    /// Level and description (RFC 8446 section 6). All are fatal but the two that end things.
    pub(super) fn on_alert(&mut self, message: &[u8]) -> Result<(), Error> {
        let &[_, description] = message else {
            return Err(InvalidMessage::InvalidContentType.into());
        };
        let description = AlertDescription::from(description);
        if description == AlertDescription::CloseNotify {
            self.state = State::Ended;
        } else if description != AlertDescription::UserCanceled {
            return Err(Error::AlertReceived(description));
        }
        Ok(())
    }

    /// Takes more from the socket; the end of the socket before the end of TLS is an error.
    pub(super) fn poll_fill(
        &mut self,
        tcp: &mut TcpStream,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if tcp.poll_read_ready(cx)?.is_pending() {
                self.window.rest();
                return Poll::Pending;
            }
            let mut room = ReadBuf::new(self.window.room(self.read_size.next()));
            // Unlike `try_read`, this remembers after a short read that nothing is left, which
            // saves the system call that would say so.
            if Pin::new(&mut *tcp).poll_read(cx, &mut room)?.is_pending() {
                continue;
            }
            let count = room.filled().len();
            if count == 0 {
                return Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the peer closed the connection without a TLS close_notify",
                )));
            }
            self.window.fill(count);
            self.read_size.adapt(count);
            return Poll::Ready(Ok(()));
        }
    }
}

//! What a writer sends: sealed into one buffer, which goes out when it is flushed.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustls::{ContentType, Error, HandshakeType};
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;

use super::record::{self, LARGEST_CONTENT, OVERHEAD, Sealer};
use super::stream::{KeyUpdates, Secrets};
use super::window::Window;

/// Encrypted bytes that wait for the socket. The largest HBONE frame fits in: what does not goes
/// out in a system call of its own.
const SEND_BUFFER: usize = 384 * 1024;
/// AES-GCM may seal 2^24.5 records with one key (RFC 8446 section 5.5).
const RECORDS_PER_KEY: u64 = 1 << 24;

/// One direction: from the writer to the socket.
pub(super) struct Sending {
    pub(super) sealer: Sealer,
    pub(super) window: Window,
    pub(super) records_per_key: u64,
    /// The peer asked for our next key. Several such wishes are met at once.
    pub(super) update_owed: bool,
    pub(super) ended: bool,
}

impl Sending {
    pub(super) fn new(secrets: Secrets) -> Result<Self, Error> {
        Ok(Self {
            sealer: Sealer::new(secrets)?,
            window: Window::default(),
            records_per_key: RECORDS_PER_KEY,
            update_owed: false,
            ended: false,
        })
    }

    /// True if what waits must be sent before more is sealed.
    pub(super) fn is_full(&self) -> bool {
        self.window.len() >= SEND_BUFFER
    }

    /// Seals as much as fits into one record.
    pub(super) fn seal_data(&mut self, offered: &mut Offered<'_>) -> Result<(), Error> {
        let length = offered.left.min(LARGEST_CONTENT);
        let record = self.window.room(length + OVERHEAD);
        let kind = ContentType::ApplicationData;
        match offered.in_one_piece(length) {
            Some(content) => self.sealer.seal(kind, content, record)?,
            None => {
                offered.copy_to(record::content_of(record));
                self.sealer.seal_in_place(kind, record)?;
            }
        }
        self.window.fill(length + OVERHEAD);
        offered.take(length);
        Ok(())
    }

    pub(super) fn seal_message(&mut self, kind: ContentType, message: &[u8]) -> Result<(), Error> {
        let length = message.len() + OVERHEAD;
        self.sealer.seal(kind, message, self.window.room(length))?;
        self.window.fill(length);
        Ok(())
    }

    pub(super) fn is_update_due(&self) -> bool {
        self.update_owed || self.sealer.sealed() + 1 >= self.records_per_key
    }

    /// Says that what follows is sealed with the next key, and goes on with that.
    pub(super) fn update_key(&mut self, keys: &mut dyn KeyUpdates) -> Result<(), Error> {
        self.update_owed = false;
        let not_yours = [HandshakeType::KeyUpdate.into(), 0, 0, 1, 0];
        self.seal_message(ContentType::Handshake, &not_yours)?;
        self.sealer = Sealer::new(keys.next_sending()?)?;
        Ok(())
    }

    /// Sends all that waits.
    pub(super) fn poll_drain(
        &mut self,
        tcp: &mut TcpStream,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.window.is_empty() {
            let sent = ready!(Pin::new(&mut *tcp).poll_write(cx, self.window.filled()))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.window.consume(sent);
        }
        self.window.rest();
        Poll::Ready(Ok(()))
    }
}

/// What a writer offers, and how much of it was taken.
pub(super) struct Offered<'a> {
    slices: &'a [IoSlice<'a>],
    /// Taken of the first slice.
    offset: usize,
    pub(super) left: usize,
    pub(super) taken: usize,
}

impl<'a> Offered<'a> {
    pub(super) fn new(slices: &'a [IoSlice<'a>]) -> Self {
        Self {
            slices,
            offset: 0,
            left: slices.iter().map(|slice| slice.len()).sum(),
            taken: 0,
        }
    }

    /// The next `length` bytes, if one slice has them all.
    fn in_one_piece(&self, length: usize) -> Option<&'a [u8]> {
        self.slices.first()?.get(self.offset..self.offset + length)
    }

    /// Copies the next bytes, as many as `content` has room for.
    fn copy_to(&self, mut content: &mut [u8]) {
        let mut offset = self.offset;
        for slice in self.slices {
            let piece = &slice[offset..];
            offset = 0;
            let count = piece.len().min(content.len());
            let (now, later) = content.split_at_mut(count);
            now.copy_from_slice(&piece[..count]);
            content = later;
        }
    }

    fn take(&mut self, count: usize) {
        self.left -= count;
        self.taken += count;
        self.offset += count;
        while let Some((first, rest)) = self.slices.split_first()
            && self.offset >= first.len()
        {
            self.offset -= first.len();
            self.slices = rest;
        }
    }
}

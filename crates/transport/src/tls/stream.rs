//! A TLS 1.3 connection after its handshake: the bytes, key updates, alerts, the end.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustls::pki_types::CertificateDer;
use rustls::{
    AlertDescription, ConnectionTrafficSecrets, ContentType, Error, ExtractedSecrets,
    HandshakeType, InvalidMessage, PeerMisbehaved,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::handshake::broken;
use super::receiving::{Opened, Receiving, State};
use super::record::Opener;
use super::sending::{Offered, Sending};
use super::window::Window;

/// A message behind the handshake: the largest ticket of a stock peer fits in many times.
const LARGEST_MESSAGE: usize = 16 * 1024;

/// A sequence number and the key from which it counts.
pub(super) type Secrets = (u64, ConnectionTrafficSecrets);

/// What the library still does after the handshake.
pub(super) trait KeyUpdates {
    fn next_sending(&mut self) -> Result<Secrets, Error>;
    fn next_receiving(&mut self) -> Result<Secrets, Error>;
}

/// What the handshake found out.
#[derive(Debug)]
pub(crate) struct Agreed {
    /// Verified, the peer's own first.
    pub(crate) peer_certificates: Vec<CertificateDer<'static>>,
    pub(crate) alpn: Option<Vec<u8>>,
    /// True for a client.
    pub(super) takes_tickets: bool,
}

/// A TLS connection between proxies. It owns no buffer while it is idle.
pub(crate) struct TlsStream {
    tcp: TcpStream,
    agreed: Agreed,
    keys: Box<dyn KeyUpdates>,
    receiving: Receiving,
    sending: Sending,
}

impl TlsStream {
    pub(super) fn new(
        tcp: TcpStream,
        agreed: Agreed,
        secrets: ExtractedSecrets,
        keys: Box<dyn KeyUpdates>,
        received: Window,
        early: Vec<u8>,
    ) -> Result<Self, Error> {
        Ok(Self {
            tcp,
            agreed,
            keys,
            receiving: Receiving::new(secrets.rx, received, early)?,
            sending: Sending::new(secrets.tx)?,
        })
    }

    pub(crate) fn agreed(&self) -> &Agreed {
        &self.agreed
    }

    /// Gives the reader what was received whole, as far as it has room.
    fn deliver(&mut self, buf: &mut ReadBuf<'_>) -> Result<(), Error> {
        while buf.remaining() > 0 {
            if self.receiving.deliver_plain(buf) {
                continue;
            }
            if self.receiving.state != State::Flowing {
                return Ok(());
            }
            match self.receiving.open_next(buf)? {
                Opened::Data => {}
                Opened::Message(kind, message) => self.on_message(kind, &message)?,
                Opened::Nothing => return Ok(()),
            }
        }
        Ok(())
    }

    fn on_message(&mut self, kind: ContentType, message: &[u8]) -> Result<(), Error> {
        if kind == ContentType::Alert {
            return self.receiving.on_alert(message);
        }
        if kind != ContentType::Handshake {
            return Err(InvalidMessage::InvalidContentType.into());
        }
        self.receiving.message.extend_from_slice(message);
        self.on_handshake()
    }

    /// Messages behind the handshake (RFC 8446 section 4.6).
    fn on_handshake(&mut self) -> Result<(), Error> {
        loop {
            let received = &self.receiving.message;
            let Some(&[kind, high, mid, low]) = received.first_chunk::<4>() else {
                return Ok(());
            };
            let length = u32::from_be_bytes([0, high, mid, low]) as usize;
            if length > LARGEST_MESSAGE {
                return Err(InvalidMessage::HandshakePayloadTooLarge.into());
            }
            let Some(body) = received.get(4..4 + length) else {
                return Ok(());
            };
            match (HandshakeType::from(kind), body) {
                (HandshakeType::NewSessionTicket, _) if self.agreed.takes_tickets => {}
                (HandshakeType::KeyUpdate, &[wish @ (0 | 1)]) => {
                    // Nothing may follow in a record that was sealed with the old key.
                    if received.len() > 4 + length {
                        return Err(PeerMisbehaved::KeyEpochWithPendingFragment.into());
                    }
                    self.update_keys(wish == 1)?;
                }
                (HandshakeType::KeyUpdate, _) => {
                    return Err(InvalidMessage::InvalidKeyUpdate.into());
                }
                _ => return Err(InvalidMessage::InvalidContentType.into()),
            }
            self.receiving.message.drain(..4 + length);
        }
    }

    /// The peer goes on with its next key, and may want us to do the same.
    fn update_keys(&mut self, ours_too: bool) -> Result<(), Error> {
        self.receiving.opener = Opener::new(self.keys.next_receiving()?)?;
        self.sending.update_owed |= ours_too;
        Ok(())
    }

    /// Tells the peer what it did wrong, if the socket takes it at once, and reads no more.
    fn fail(&mut self, cx: &mut Context<'_>, error: Error) -> io::Error {
        self.receiving.state = State::Broken;
        if !matches!(error, Error::AlertReceived(_)) {
            let alert = [2, alert_for(&error).into()];
            let said = self.sending.seal_message(ContentType::Alert, &alert);
            if said.is_ok() {
                drop(self.sending.poll_drain(&mut self.tcp, cx));
            }
        }
        self.sending.ended = true;
        broken(error)
    }

    fn poll_read_some(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        loop {
            if let Err(error) = self.deliver(buf) {
                return Poll::Ready(Err(self.fail(cx, error)));
            }
            match self.receiving.state {
                _ if buf.filled().len() > before => return Poll::Ready(Ok(())),
                State::Flowing if buf.remaining() > 0 => {}
                State::Flowing | State::Ended => return Poll::Ready(Ok(())),
                State::Broken => return Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
            }
            ready!(self.receiving.poll_fill(&mut self.tcp, cx))?;
        }
    }
}

/// What to tell the peer (RFC 8446 section 6.2).
fn alert_for(error: &Error) -> AlertDescription {
    let too_long = Error::InvalidMessage(InvalidMessage::MessageTooLarge);
    let key_update = Error::InvalidMessage(InvalidMessage::InvalidKeyUpdate);
    if *error == Error::DecryptError {
        AlertDescription::BadRecordMac
    } else if *error == Error::PeerSentOversizedRecord || *error == too_long {
        AlertDescription::RecordOverflow
    } else if *error == key_update {
        AlertDescription::IllegalParameter
    } else if matches!(error, Error::EncryptError | Error::General(_)) {
        AlertDescription::InternalError
    } else {
        AlertDescription::UnexpectedMessage
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = this.poll_read_some(cx, buf);
        // A writer who is about to send meets the peer's wish itself.
        if this.sending.update_owed && this.sending.window.is_empty() && !this.sending.ended {
            this.sending.update_key(&mut *this.keys).map_err(broken)?;
            // What the socket does not take now goes out with the next flush.
            let _later: Poll<()> = this.sending.poll_drain(&mut this.tcp, cx)?;
        }
        polled
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(data)])
    }

    /// Seals what there is room for; [`AsyncWrite::poll_flush`] sends it.
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.sending.ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if this.sending.is_full() {
            ready!(this.sending.poll_drain(&mut this.tcp, cx))?;
        }
        let mut offered = Offered::new(slices);
        while offered.left > 0 && !this.sending.is_full() {
            if this.sending.is_update_due() {
                this.sending.update_key(&mut *this.keys).map_err(broken)?;
            }
            this.sending.seal_data(&mut offered).map_err(broken)?;
        }
        Poll::Ready(Ok(offered.taken))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.sending.poll_drain(&mut this.tcp, cx)
    }

    /// Says that nothing more comes, and ends our direction.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.sending.ended {
            this.sending.ended = true;
            let alert = [1, AlertDescription::CloseNotify.into()];
            this.sending
                .seal_message(ContentType::Alert, &alert)
                .map_err(broken)?;
        }
        ready!(this.sending.poll_drain(&mut this.tcp, cx))?;
        Pin::new(&mut this.tcp).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;

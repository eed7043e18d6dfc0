//! The TLS handshake; what follows it is [`TlsStream`]'s.

use std::io;
use std::ops::Deref;
use std::sync::Arc;

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::kernel::KernelConnection;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, UnbufferedConnectionCommon, UnbufferedStatus,
};
use rustls::{CommonState, Error, ExtractedSecrets};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::stream::{Agreed, KeyUpdates, Secrets, TlsStream};
use super::window::Window;
use super::{Configs, no_name};

/// Taken from the socket at once: most flights are smaller.
const READ: usize = 8 * 1024;
/// Received and not understood yet: the largest message that the TLS library takes (64 KiB),
/// with the headers of its records.
const LARGEST_FLIGHT: usize = 80 * 1024;

/// The dialling side of a handshake.
pub(crate) async fn connect(tcp: TcpStream, configs: &Configs) -> io::Result<TlsStream> {
    let config = Arc::clone(&configs.client);
    let client = UnbufferedClientConnection::new(config, no_name()).map_err(broken)?;
    shake(client, tcp).await
}

/// The accepting side of a handshake.
pub(crate) async fn accept(tcp: TcpStream, configs: &Configs) -> io::Result<TlsStream> {
    let config = Arc::clone(&configs.server);
    let server = UnbufferedServerConnection::new(config).map_err(broken)?;
    shake(server, tcp).await
}

pub(super) fn broken(error: Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// What the library does alike for both sides, but under two types.
trait Side: Deref<Target = UnbufferedConnectionCommon<Self::Data>> {
    type Data;
    /// A client is offered tickets, which it does not keep: they outlive certificates.
    const TAKES_TICKETS: bool;

    fn process<'c, 'i>(
        &'c mut self,
        received: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data>;

    fn finish(self) -> Result<(ExtractedSecrets, Box<dyn KeyUpdates>), Error>;
}

impl Side for UnbufferedClientConnection {
    type Data = ClientConnectionData;
    const TAKES_TICKETS: bool = true;

    fn process<'c, 'i>(
        &'c mut self,
        received: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(received)
    }

    fn finish(self) -> Result<(ExtractedSecrets, Box<dyn KeyUpdates>), Error> {
        let (secrets, keys) = self.dangerous_into_kernel_connection()?;
        Ok((secrets, Box::new(keys)))
    }
}

impl Side for UnbufferedServerConnection {
    type Data = ServerConnectionData;
    const TAKES_TICKETS: bool = false;

    fn process<'c, 'i>(
        &'c mut self,
        received: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(received)
    }

    fn finish(self) -> Result<(ExtractedSecrets, Box<dyn KeyUpdates>), Error> {
        let (secrets, keys) = self.dangerous_into_kernel_connection()?;
        Ok((secrets, Box::new(keys)))
    }
}

impl<Data> KeyUpdates for KernelConnection<Data> {
    fn next_sending(&mut self) -> Result<Secrets, Error> {
        self.update_tx_secret()
    }

    fn next_receiving(&mut self) -> Result<Secrets, Error> {
        self.update_rx_secret()
    }
}

/// What the library wants next.
enum Step {
    Again,
    Done,
    Receive,
}

/// A handshake under way.
struct Shaking<S> {
    side: S,
    tcp: TcpStream,
    received: Window,
    /// Encoded, but not sent.
    flight: Vec<u8>,
    /// What the peer sent right behind its part of the handshake.
    early: Vec<u8>,
}

async fn shake<S: Side>(side: S, tcp: TcpStream) -> io::Result<TlsStream> {
    let mut shaking = Shaking {
        side,
        tcp,
        received: Window::default(),
        flight: Vec::new(),
        early: Vec::new(),
    };
    loop {
        match shaking.step().await? {
            Step::Again => {}
            Step::Done => return shaking.finish(),
            Step::Receive => shaking.receive().await?,
        }
    }
}

impl<S: Side> Shaking<S> {
    async fn step(&mut self) -> io::Result<Step> {
        let UnbufferedStatus { discard, state } = self.side.process(self.received.filled_mut());
        let step = match state {
            Ok(ConnectionState::EncodeTlsData(data)) => {
                encode(data, &mut self.flight)?;
                Step::Again
            }
            Ok(ConnectionState::TransmitTlsData(data)) => {
                self.tcp.write_all(&self.flight).await?;
                self.flight.clear();
                data.done();
                Step::Again
            }
            Ok(ConnectionState::BlockedHandshake) => Step::Receive,
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while let Some(record) = traffic.next_record() {
                    self.early
                        .extend_from_slice(record.map_err(broken)?.payload);
                }
                Step::Again
            }
            Ok(ConnectionState::WriteTraffic(_)) => Step::Done,
            Ok(_closed) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) => {
                self.received.consume(discard);
                self.say_why().await;
                return Err(broken(error));
            }
        };
        self.received.consume(discard);
        Ok(step)
    }

    async fn receive(&mut self) -> io::Result<()> {
        if self.received.len() >= LARGEST_FLIGHT {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the peer's handshake is longer than 80 KiB",
            ));
        }
        let count = self.tcp.read(self.received.room(READ)).await?;
        if count == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the peer closed the connection during the TLS handshake",
            ));
        }
        self.received.fill(count);
        Ok(())
    }

    /// Sends the alert for the error that ended the handshake; the peer can do without it.
    async fn say_why(&mut self) {
        let again = self.side.process(self.received.filled_mut()).state;
        if let Ok(ConnectionState::EncodeTlsData(data)) = again
            && encode(data, &mut self.flight).is_ok()
        {
            drop(self.tcp.write_all(&self.flight).await);
        }
    }

    fn finish(self) -> io::Result<TlsStream> {
        let common: &CommonState = &self.side;
        let chain = common.peer_certificates().unwrap_or_default();
        let agreed = Agreed {
            peer_certificates: chain
                .iter()
                .map(|certificate| certificate.clone().into_owned())
                .collect(),
            alpn: common.alpn_protocol().map(<[u8]>::to_vec),
            takes_tickets: S::TAKES_TICKETS,
        };
        let (secrets, keys) = self.side.finish().map_err(broken)?;
        TlsStream::new(self.tcp, agreed, secrets, keys, self.received, self.early).map_err(broken)
    }
}

fn encode<Data>(mut data: EncodeTlsData<'_, Data>, flight: &mut Vec<u8>) -> io::Result<()> {
    let before = flight.len();
    let needed = match data.encode(&mut []) {
        Ok(_nothing) => return Ok(()),
        Err(EncodeError::InsufficientSize(size)) => size.required_size,
        Err(error @ EncodeError::AlreadyEncoded) => return Err(io::Error::other(error)),
    };
    flight.resize(before + needed, 0);
    match data.encode(&mut flight[before..]) {
        Ok(_needed) => Ok(()),
        Err(error) => Err(io::Error::other(error)),
    }
}

//! Drives a TLS handshake on a socket and hands over the keys that it agreed on.

use std::io;
use std::sync::Arc;

use bytes::{Buf, BytesMut};
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::kernel::KernelConnection;
use rustls::pki_types::CertificateDer;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus};
use rustls::{ClientConfig, ConnectionTrafficSecrets, Error, ExtractedSecrets, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A handshake is a few records of at most 16 KiB; a peer that sends more is none of ours.
const LARGEST_FLIGHT: usize = 128 * 1024;

/// Why a handshake failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The connection ended or broke.
    Io(io::Error),
    /// Certificates or protocol were wrong.
    Tls(Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Tls(error)
    }
}

/// What a finished handshake leaves behind.
pub(super) struct Finished {
    pub(super) tcp: TcpStream,
    pub(super) secrets: ExtractedSecrets,
    pub(super) updates: Updates,
    /// Received, not opened yet.
    pub(super) incoming: BytesMut,
    /// Application data that came with the last flight.
    pub(super) early: BytesMut,
    pub(super) peer: Option<Vec<CertificateDer<'static>>>,
    pub(super) alpn: Option<Vec<u8>>,
}

/// Derives the next keys when one side changes them.
pub(super) enum Updates {
    Client(KernelConnection<ClientConnectionData>),
    Server(KernelConnection<ServerConnectionData>),
}

impl Updates {
    pub(super) fn next_send(&mut self) -> Result<(u64, ConnectionTrafficSecrets), Error> {
        match self {
            Self::Client(kernel) => kernel.update_tx_secret(),
            Self::Server(kernel) => kernel.update_tx_secret(),
        }
    }

    pub(super) fn next_receive(&mut self) -> Result<(u64, ConnectionTrafficSecrets), Error> {
        match self {
            Self::Client(kernel) => kernel.update_rx_secret(),
            Self::Server(kernel) => kernel.update_rx_secret(),
        }
    }
}

/// A side of the handshake.
trait Machine {
    type Data;
    fn process<'c, 'i>(
        &'c mut self,
        incoming: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data>;
}

impl Machine for UnbufferedClientConnection {
    type Data = ClientConnectionData;
    fn process<'c, 'i>(
        &'c mut self,
        incoming: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }
}

impl Machine for UnbufferedServerConnection {
    type Data = ServerConnectionData;
    fn process<'c, 'i>(
        &'c mut self,
        incoming: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }
}

pub(super) async fn connect(
    tcp: TcpStream,
    config: Arc<ClientConfig>,
) -> Result<Finished, Failure> {
    let mut connection = UnbufferedClientConnection::new(config, super::no_name())?;
    let mut wire = Wire::new(tcp);
    while !wire.step(&mut connection).await? {}
    let peer = connection.peer_certificates().map(owned);
    let alpn = connection.alpn_protocol().map(<[u8]>::to_vec);
    let (secrets, kernel) = connection.dangerous_into_kernel_connection()?;
    Ok(wire.finish(secrets, Updates::Client(kernel), peer, alpn))
}

pub(super) async fn accept(tcp: TcpStream, config: Arc<ServerConfig>) -> Result<Finished, Failure> {
    let mut connection = UnbufferedServerConnection::new(config)?;
    let mut wire = Wire::new(tcp);
    while !wire.step(&mut connection).await? {}
    let peer = connection.peer_certificates().map(owned);
    let alpn = connection.alpn_protocol().map(<[u8]>::to_vec);
    let (secrets, kernel) = connection.dangerous_into_kernel_connection()?;
    Ok(wire.finish(secrets, Updates::Server(kernel), peer, alpn))
}

fn owned(chain: &[CertificateDer<'_>]) -> Vec<CertificateDer<'static>> {
    chain.iter().map(|der| der.clone().into_owned()).collect()
}

/// The socket with the bytes of the handshake in both directions.
struct Wire {
    tcp: TcpStream,
    incoming: BytesMut,
    outgoing: Vec<u8>,
    early: BytesMut,
}

/// What the state machine wants, freed from its borrow of the connection.
enum Want {
    Again,
    Fail(Error),
    Finish,
    Receive,
    Send,
}

impl Wire {
    fn new(tcp: TcpStream) -> Self {
        Self {
            tcp,
            incoming: BytesMut::new(),
            outgoing: Vec::new(),
            early: BytesMut::new(),
        }
    }

    /// One step of the state machine; true when the handshake has finished.
    async fn step(&mut self, machine: &mut impl Machine) -> Result<bool, Failure> {
        match self.advance(machine)? {
            Want::Again => {}
            Want::Fail(error) => {
                self.send_alert(machine).await;
                return Err(error.into());
            }
            Want::Finish => return Ok(true),
            Want::Receive => self.receive().await?,
            Want::Send => {
                self.tcp.write_all(&self.outgoing).await?;
                self.outgoing.clear();
            }
        }
        Ok(false)
    }

    fn advance(&mut self, machine: &mut impl Machine) -> Result<Want, Failure> {
        let UnbufferedStatus {
            mut discard, state, ..
        } = machine.process(&mut self.incoming);
        let want = match state {
            Ok(ConnectionState::EncodeTlsData(data)) => encode(data, &mut self.outgoing)?,
            Ok(ConnectionState::TransmitTlsData(data)) => {
                data.done();
                Want::Send
            }
            Ok(ConnectionState::BlockedHandshake) => Want::Receive,
            Ok(ConnectionState::ReadTraffic(mut data)) => {
                while let Some(record) = data.next_record() {
                    let record = record?;
                    self.early.extend_from_slice(record.payload);
                    discard += record.discard;
                }
                Want::Again
            }
            Ok(ConnectionState::WriteTraffic(_)) => Want::Finish,
            // Closed before it began; early data is never agreed to.
            Ok(_) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            Err(error) => Want::Fail(error),
        };
        self.incoming.advance(discard);
        Ok(want)
    }

    async fn receive(&mut self) -> Result<(), Failure> {
        if self.incoming.len() > LARGEST_FLIGHT {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge).into());
        }
        self.incoming.reserve(super::record::LARGEST_RECORD);
        if self.tcp.read_buf(&mut self.incoming).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        Ok(())
    }

    /// Tells the peer what was wrong, as far as it listens.
    async fn send_alert(&mut self, machine: &mut impl Machine) {
        if let Ok(ConnectionState::EncodeTlsData(data)) = machine.process(&mut []).state
            && encode(data, &mut self.outgoing).is_ok()
        {
            drop(self.tcp.write_all(&self.outgoing).await);
        }
    }

    fn finish(
        self,
        secrets: ExtractedSecrets,
        updates: Updates,
        peer: Option<Vec<CertificateDer<'static>>>,
        alpn: Option<Vec<u8>>,
    ) -> Finished {
        let Self {
            tcp,
            incoming,
            early,
            ..
        } = self;
        Finished {
            tcp,
            secrets,
            updates,
            incoming,
            early,
            peer,
            alpn,
        }
    }
}

fn encode<D>(mut data: EncodeTlsData<'_, D>, outgoing: &mut Vec<u8>) -> Result<Want, Failure> {
    let start = outgoing.len();
    let needed = match data.encode(&mut []) {
        Ok(_) => return Ok(Want::Again),
        Err(EncodeError::InsufficientSize(error)) => error.required_size,
        Err(EncodeError::AlreadyEncoded) => return Ok(Want::Again),
    };
    outgoing.resize(start + needed, 0);
    data.encode(&mut outgoing[start..])
        .map(|_| Want::Again)
        .map_err(|error| Failure::Tls(Error::General(error.to_string())))
}

//! The mesh's own TLS connections (control, certificates, administration): no workload's bytes.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ServerConfig};
use tacit_model::{NodeId, SpiffeId};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use crate::certificate::{self, Subject};
use crate::key::PrivateKey;
use crate::tls;

mod pinned;

use pinned::{ControlVerifier, Trust};

/// TCP and TLS to or from the control plane: as for HBONE.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// gRPC needs HTTP/2; people's tools may speak HTTP/1.1.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// A key with its certificate chain (DER, leaf first).
#[derive(Debug)]
pub struct OwnIdentity {
    pub key: PrivateKey,
    pub chain: Vec<Vec<u8>>,
}

/// Who is at the other end, as far as its certificate proves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerCertificate {
    /// A person or tool, by common name.
    CommonName(String),
    /// A node proxy, or the control plane.
    Node(NodeId),
    /// No certificate: nobody in particular.
    None,
    /// A workload.
    Workload(SpiffeId),
}

/// Why a connection of the mesh's own did not come about.
#[derive(Debug)]
pub enum OwnError {
    /// TCP failed or broke.
    Connect(io::Error),
    /// The configuration that was given cannot be used.
    Setup(String),
    /// It took longer than it may.
    Timeout,
    /// Certificates or protocol were wrong.
    Tls(String),
}

impl fmt::Display for OwnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(_) => f.write_str("the connection failed"),
            Self::Setup(why) => write!(f, "keys or certificates are unusable: {why}"),
            Self::Timeout => f.write_str("the connection did not stand in time"),
            Self::Tls(why) => write!(f, "TLS failed: {why}"),
        }
    }
}

impl std::error::Error for OwnError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Connect(error) => Some(error),
            Self::Setup(_) | Self::Timeout | Self::Tls(_) => None,
        }
    }
}

/// Dials the control plane. Cheap to clone; make a new one when certificates change.
#[derive(Clone)]
pub struct Connector {
    config: Arc<ClientConfig>,
}

impl Connector {
    /// For joining: believes a server whose chain contains, and is signed by, the root
    /// certificate with this SHA-256. We show no certificate.
    #[must_use]
    pub fn pinned(root_sha256: [u8; 32], control: NodeId) -> Self {
        let verifier = Arc::new(ControlVerifier::new(Trust::Pinned(root_sha256), control));
        let config = tls::client_builder(tls::Cipher::default())
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        Self::finish(config)
    }

    /// For a node that has joined: mutual TLS with its identity, to a server that is `control`
    /// by one of these roots (DER).
    pub fn mutual(
        identity: &OwnIdentity,
        roots: &[Vec<u8>],
        control: NodeId,
    ) -> Result<Self, OwnError> {
        let roots = tls::root_store(roots).map_err(OwnError::Setup)?;
        let verifier = Arc::new(ControlVerifier::new(Trust::Roots(roots), control));
        let chain = tls::certificates(&identity.chain);
        let config = tls::client_builder(tls::Cipher::default())
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_auth_cert(chain, tls::private_key(&identity.key))
            .map_err(|error| OwnError::Setup(error.to_string()))?;
        Ok(Self::finish(config))
    }

    fn finish(mut config: ClientConfig) -> Self {
        // Only gRPC is dialled.
        tls::harden_client(&mut config, &ALPN[..1]);
        Self {
            config: Arc::new(config),
        }
    }

    /// Connects within 10 s.
    pub async fn connect(&self, to: SocketAddr) -> Result<OwnStream, OwnError> {
        let limited = tokio::time::timeout(HANDSHAKE_TIMEOUT, async {
            let tcp = TcpStream::connect(to).await.map_err(OwnError::Connect)?;
            self.secure(tcp).await
        });
        limited.await.map_err(|_| OwnError::Timeout)?
    }

    /// Does the handshake on a socket that is connected already.
    pub async fn secure(&self, tcp: TcpStream) -> Result<OwnStream, OwnError> {
        tcp.set_nodelay(true).map_err(OwnError::Connect)?;
        let connector = TlsConnector::from(Arc::clone(&self.config));
        let stream = connector
            .connect(tls::no_name(), tcp)
            .await
            .map_err(failed)?;
        OwnStream::new(TlsStream::Client(stream))
    }
}

/// Takes in connections to the control plane. Cheap to clone; make a new one when certificates
/// change.
#[derive(Clone)]
pub struct OwnAcceptor {
    config: Arc<ServerConfig>,
}

impl OwnAcceptor {
    /// Shows `identity`, whose chain should end with its root so that joining nodes can pin it.
    /// A peer may show a certificate that chains to `client_roots` (DER), or none.
    pub fn new(identity: &OwnIdentity, client_roots: &[Vec<u8>]) -> Result<Self, OwnError> {
        let roots = Arc::new(tls::root_store(client_roots).map_err(OwnError::Setup)?);
        let provider = Arc::clone(&tls::PROVIDER);
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider)
            .allow_unauthenticated()
            .build()
            .map_err(|error| OwnError::Setup(error.to_string()))?;
        let chain = tls::certificates(&identity.chain);
        let mut config = tls::server_builder()
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, tls::private_key(&identity.key))
            .map_err(|error| OwnError::Setup(error.to_string()))?;
        tls::harden_server(&mut config, &ALPN);
        Ok(Self {
            config: Arc::new(config),
        })
    }

    /// Does the handshake on an accepted socket, within 10 s.
    pub async fn accept(&self, tcp: TcpStream) -> Result<OwnStream, OwnError> {
        tcp.set_nodelay(true).map_err(OwnError::Connect)?;
        let acceptor = TlsAcceptor::from(Arc::clone(&self.config));
        let accepted = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(tcp));
        let stream = accepted
            .await
            .map_err(|_| OwnError::Timeout)?
            .map_err(failed)?;
        OwnStream::new(TlsStream::Server(stream))
    }
}

fn failed(error: io::Error) -> OwnError {
    if error.kind() == io::ErrorKind::InvalidData {
        OwnError::Tls(error.to_string())
    } else {
        OwnError::Connect(error)
    }
}

/// A connection of the mesh's own; `Send`, for the libraries that carry gRPC.
#[derive(Debug)]
pub struct OwnStream {
    stream: TlsStream<TcpStream>,
    peer: PeerCertificate,
    remote: SocketAddr,
    chain: Vec<Vec<u8>>,
}

impl OwnStream {
    fn new(stream: TlsStream<TcpStream>) -> Result<Self, OwnError> {
        let (tcp, session) = stream.get_ref();
        let remote = tcp.peer_addr().map_err(OwnError::Connect)?;
        let chain = session.peer_certificates().unwrap_or_default();
        let chain: Vec<Vec<u8>> = chain.iter().map(|der| der.to_vec()).collect();
        let peer = match chain.first() {
            None => PeerCertificate::None,
            Some(leaf) => match certificate::read(leaf) {
                Ok((Subject::CommonName(name), _)) => PeerCertificate::CommonName(name),
                Ok((Subject::Node(id), _)) => PeerCertificate::Node(id),
                Ok((Subject::Workload(id), _)) => PeerCertificate::Workload(id),
                Err(error) => return Err(OwnError::Tls(error.to_string())),
            },
        };
        Ok(Self {
            stream,
            peer,
            remote,
            chain,
        })
    }

    /// Who is at the other end.
    #[must_use]
    pub fn peer(&self) -> &PeerCertificate {
        &self.peer
    }

    /// Its address.
    #[must_use]
    pub fn remote(&self) -> SocketAddr {
        self.remote
    }

    /// The certificates that it showed (DER, leaf first). After joining by a pinned root, the
    /// last one is that root.
    #[must_use]
    pub fn peer_chain(&self) -> &[Vec<u8>] {
        &self.chain
    }

    /// True if HTTP/2 was agreed on (ALPN).
    #[must_use]
    pub fn is_http2(&self) -> bool {
        self.stream.get_ref().1.alpn_protocol() == Some(ALPN[0])
    }
}

impl AsyncRead for OwnStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for OwnStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, data)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;

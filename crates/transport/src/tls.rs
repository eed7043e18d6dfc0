//! Everything about the TLS library: provider, cipher suites, verification by SPIFFE identity.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use ::aws_lc_rs::digest as aws_lc_rs_digest;
use arc_swap::ArcSwap;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, OtherError,
    PeerMisbehaved, RootCertStore, ServerConfig, SignatureScheme,
};
use tacit_model::{SpiffeId, TrustDomain};

use crate::certificate::{self, BadCertificate, Validity};
use crate::key::PrivateKey;

mod handshake;
mod receiving;
mod record;
mod sending;
mod stream;
mod window;

pub(crate) use handshake::{accept, connect};
pub(crate) use stream::TlsStream;

/// What HBONE is negotiated as.
const ALPN_H2: &[u8] = b"h2";
/// AES-128-GCM first: it costs 5-20 % less per byte than AES-256-GCM. ChaCha20 is not part of
/// HBONE. Key exchanges are the provider's, the post-quantum hybrid first.
pub(crate) static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    Arc::new(CryptoProvider {
        cipher_suites: vec![
            aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256,
            aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384,
        ],
        ..aws_lc_rs::default_provider()
    })
});

/// Which cipher a node asks for first when it dials; as the callee it takes what its caller
/// prefers. Both are always offered and accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cipher {
    #[default]
    Aes128Gcm,
    /// For those who must, such as users of the CNSA suite.
    Aes256Gcm,
}

impl Cipher {
    fn provider(self) -> Arc<CryptoProvider> {
        match self {
            Self::Aes128Gcm => Arc::clone(&PROVIDER),
            Self::Aes256Gcm => {
                let mut provider = CryptoProvider::clone(&PROVIDER);
                provider.cipher_suites.reverse();
                Arc::new(provider)
            }
        }
    }
}

/// The roots of every trust domain that is believed; shared with the verifiers, swapped live.
pub(crate) type Bundles = Arc<ArcSwap<BTreeMap<TrustDomain, Arc<Bundle>>>>;

/// The roots of one trust domain, ready for verification.
pub(crate) struct Bundle {
    roots: Vec<Vec<u8>>,
    store: Arc<RootCertStore>,
    clients: Arc<dyn ClientCertVerifier>,
}

impl Bundle {
    /// Takes root certificates as DER; the error is for people.
    pub(crate) fn new(roots: &[Vec<u8>]) -> Result<Self, String> {
        let store = Arc::new(root_store(roots)?);
        let provider = Arc::clone(&PROVIDER);
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::clone(&store), provider)
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self {
            roots: roots.to_vec(),
            store,
            clients,
        })
    }

    pub(crate) fn roots(&self) -> &[Vec<u8>] {
        &self.roots
    }
}

/// The SHA-256 of a DER certificate: its fingerprint.
pub(crate) fn sha256(der: &[u8]) -> [u8; 32] {
    let digest = aws_lc_rs_digest::digest(&aws_lc_rs_digest::SHA256, der);
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest.as_ref());
    bytes
}

pub(crate) fn root_store(roots: &[Vec<u8>]) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    for root in roots {
        let root = CertificateDer::from(root.clone());
        store
            .add(root)
            .map_err(|error| format!("a root certificate is unusable: {error}"))?;
    }
    Ok(store)
}

/// The ready configurations of one identity; built once per certificate.
pub(crate) struct Configs {
    pub(crate) client: Arc<ClientConfig>,
    pub(crate) server: Arc<ServerConfig>,
}

impl Configs {
    /// Fails if key and certificate do not belong together; the error is for people.
    pub(crate) fn new(
        key: &PrivateKey,
        chain: &[Vec<u8>],
        bundles: Bundles,
        cipher: Cipher,
    ) -> Result<Self, String> {
        let readable = |error: Error| format!("key and certificate are unusable: {error}");
        let verifier = Arc::new(SpiffeVerifier { bundles });
        let mut client = client_builder(cipher)
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&verifier) as _)
            .with_client_auth_cert(certificates(chain), private_key(key))
            .map_err(readable)?;
        let mut server = server_builder()
            .with_client_cert_verifier(verifier)
            .with_single_cert(certificates(chain), private_key(key))
            .map_err(readable)?;
        harden_client(&mut client, &[ALPN_H2]);
        harden_server(&mut server, &[ALPN_H2]);
        // The handshake is the library's, the records after it are ours.
        client.enable_secret_extraction = true;
        server.enable_secret_extraction = true;
        Ok(Self {
            client: Arc::new(client),
            server: Arc::new(server),
        })
    }
}

/// A server name for a handshake in which nobody looks at names; it is never sent.
pub(crate) fn no_name() -> ServerName<'static> {
    ServerName::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into())
}

pub(crate) fn certificates(chain: &[Vec<u8>]) -> Vec<CertificateDer<'static>> {
    chain.iter().cloned().map(CertificateDer::from).collect()
}

pub(crate) fn private_key(key: &PrivateKey) -> PrivateKeyDer<'static> {
    PrivatePkcs8KeyDer::from(key.to_pkcs8()).into()
}

#[expect(
    clippy::expect_used,
    reason = "the suites above are TLS 1.3 suites, always"
)]
pub(crate) fn client_builder(
    cipher: Cipher,
) -> rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier> {
    ClientConfig::builder_with_provider(cipher.provider())
        .with_protocol_versions(&[&TLS13])
        .expect("the provider has TLS 1.3 suites")
}

#[expect(
    clippy::expect_used,
    reason = "the suites above are TLS 1.3 suites, always"
)]
pub(crate) fn server_builder() -> rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier> {
    ServerConfig::builder_with_provider(Arc::clone(&PROVIDER))
        .with_protocol_versions(&[&TLS13])
        .expect("the provider has TLS 1.3 suites")
}

/// No resumption: a ticket would outlive what its certificate still allows.
pub(crate) fn harden_client(config: &mut ClientConfig, alpn: &[&[u8]]) {
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config.enable_sni = false;
    config.resumption = Resumption::disabled();
}

/// No resumption, as for clients.
pub(crate) fn harden_server(config: &mut ServerConfig, alpn: &[&[u8]]) {
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
}

/// Believes a peer whose certificate has exactly one URI, a workload's identity, and chains to
/// the roots of that identity's trust domain. Which identity it is, the caller compares.
#[derive(Clone)]
struct SpiffeVerifier {
    bundles: Bundles,
}

impl std::fmt::Debug for SpiffeVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SpiffeVerifier")
    }
}

impl SpiffeVerifier {
    fn bundle_for(&self, leaf: &CertificateDer<'_>) -> Result<Arc<Bundle>, Error> {
        let (id, _) = certificate::workload(leaf).map_err(bad_certificate)?;
        let bundles = self.bundles.load();
        let bundle = bundles.get(&id.trust_domain).map(Arc::clone);
        bundle.ok_or_else(|| CertificateError::UnknownIssuer.into())
    }
}

pub(crate) fn bad_certificate(error: BadCertificate) -> Error {
    CertificateError::Other(OtherError(Arc::new(error))).into()
}

/// The proven identity of the other end of a finished handshake, and until when it holds.
pub(crate) fn peer_identity(chain: &[CertificateDer<'_>]) -> Result<(SpiffeId, Validity), Error> {
    let leaf = chain.first().ok_or(Error::NoCertificatesPresented)?;
    certificate::workload(leaf).map_err(bad_certificate)
}

impl ServerCertVerifier for SpiffeVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let bundle = self.bundle_for(end_entity)?;
        let leaf = ParsedCertificate::try_from(end_entity)?;
        let algorithms = PROVIDER.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(
            &leaf,
            &bundle.store,
            intermediates,
            now,
            algorithms,
        )?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &PROVIDER.signature_verification_algorithms;
        verify_tls13_signature(message, cert, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        PROVIDER
            .signature_verification_algorithms
            .supported_schemes()
    }
}

impl ClientCertVerifier for SpiffeVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // Naming our roots would tell strangers about the mesh and help nobody: the peer has
        // one certificate.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let bundle = self.bundle_for(end_entity)?;
        bundle
            .clients
            .verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        ServerCertVerifier::verify_tls13_signature(self, message, cert, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ServerCertVerifier::supported_verify_schemes(self)
    }
}

fn only_tls13() -> Error {
    PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into()
}

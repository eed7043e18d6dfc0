//! Believes the control plane: by the fingerprint of its root while joining, by roots later.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::verify_tls13_signature;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, DigitallySignedStruct, Error, PeerMisbehaved, RootCertStore, SignatureScheme,
};
use tacit_model::NodeId;

use crate::certificate::{self, Subject};
use crate::tls::{self, PROVIDER};

pub(super) enum Trust {
    /// The root is in the chain that the server shows, and has this SHA-256.
    Pinned([u8; 32]),
    Roots(RootCertStore),
}

pub(super) struct ControlVerifier {
    trust: Trust,
    control: NodeId,
}

impl std::fmt::Debug for ControlVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ControlVerifier({})", self.control)
    }
}

impl ControlVerifier {
    pub(super) fn new(trust: Trust, control: NodeId) -> Self {
        Self { trust, control }
    }

    fn verify_chain(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let pinned;
        let roots = match &self.trust {
            Trust::Roots(roots) => roots,
            Trust::Pinned(sha256) => {
                let root = rest.iter().find(|der| tls::sha256(der) == *sha256);
                let root = root.ok_or(CertificateError::UnknownIssuer)?;
                pinned =
                    tls::root_store(&[root.to_vec()]).map_err(|_| CertificateError::BadEncoding)?;
                &pinned
            }
        };
        let leaf = ParsedCertificate::try_from(leaf)?;
        let algorithms = PROVIDER.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&leaf, roots, rest, now, algorithms)
    }
}

impl ServerCertVerifier for ControlVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify_chain(end_entity, intermediates, now)?;
        match certificate::read(end_entity) {
            Ok((Subject::Node(id), _)) if id == self.control => Ok(ServerCertVerified::assertion()),
            Ok(_) => Err(CertificateError::NotValidForName.into()),
            Err(error) => Err(tls::bad_certificate(error)),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into())
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

//! Private keys, and the requests to certify them.

use std::fmt;

use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256, SanType};
use tacit_model::{NodeId, SpiffeId};

/// An ECDSA P-256 key. It leaves the process only where a node keeps it on its own disk.
pub struct PrivateKey {
    pair: KeyPair,
}

/// A key that cannot be made or read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyError(String);

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the private key cannot be used: {}", self.0)
    }
}

impl std::error::Error for KeyError {}

impl From<rcgen::Error> for KeyError {
    fn from(error: rcgen::Error) -> Self {
        Self(error.to_string())
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(secret)")
    }
}

impl PrivateKey {
    /// Makes a new key.
    pub fn generate() -> Result<Self, KeyError> {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        Ok(Self { pair })
    }

    /// Reads a key from PKCS#8 DER.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        let der = rustls::pki_types::PrivatePkcs8KeyDer::from(der);
        let pair = KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ECDSA_P256_SHA256)?;
        Ok(Self { pair })
    }

    /// The key as PKCS#8 DER: a secret.
    #[must_use]
    pub fn to_pkcs8(&self) -> Vec<u8> {
        self.pair.serialize_der()
    }

    /// A request (PKCS#10 DER) to certify this key for a workload.
    pub fn request_for_workload(&self, id: &SpiffeId) -> Result<Vec<u8>, KeyError> {
        self.request(&id.to_string())
    }

    /// A request (PKCS#10 DER) to certify this key for a node.
    pub fn request_for_node(&self, id: &NodeId) -> Result<Vec<u8>, KeyError> {
        self.request(&id.to_string())
    }

    /// A request (PKCS#10 DER) to certify this key for a person or tool.
    pub fn request_for_name(&self, common_name: &str) -> Result<Vec<u8>, KeyError> {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        Ok(params.serialize_request(&self.pair)?.der().to_vec())
    }

    fn request(&self, uri: &str) -> Result<Vec<u8>, KeyError> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(uri.try_into()?)];
        Ok(params.serialize_request(&self.pair)?.der().to_vec())
    }
}

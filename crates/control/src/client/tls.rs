//! The way to a control plane on another machine: TLS with a person's certificate.

use std::fmt;
use std::path::Path;

use tacit_model::NodeId;
use tacit_transport::key::PrivateKey;
use tacit_transport::own::{Connector, OwnIdentity, OwnStream};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::ClientError;
use crate::{authority, pem};

/// Files of certificates and keys are a few kilobytes.
const FILE_MAX: u64 = 1 << 20;

/// A control plane elsewhere.
pub(super) struct Remote {
    address: String,
    connector: Connector,
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Remote({})", self.address)
    }
}

/// Why a directory is not a person's identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadIdentity(String);

impl fmt::Display for BadIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; make one with `tacit certificate`", self.0)
    }
}

impl std::error::Error for BadIdentity {}

impl Remote {
    pub(super) fn read(address: &str, identity: &Path) -> Result<Self, BadIdentity> {
        let file = |name: &str, label: &str| -> Result<Vec<Vec<u8>>, BadIdentity> {
            let path = identity.join(name);
            let bad = |why: String| BadIdentity(format!("{}: {why}", path.display()));
            let length = std::fs::metadata(&path)
                .map_err(|error| bad(error.to_string()))?
                .len();
            if length > FILE_MAX {
                return Err(bad(format!("{length} bytes are no certificate or key")));
            }
            let text = std::fs::read_to_string(&path).map_err(|error| bad(error.to_string()))?;
            let blocks = pem::decode(label, &text).map_err(bad)?;
            if blocks.is_empty() {
                Err(bad(format!("no {label} in it")))
            } else {
                Ok(blocks)
            }
        };
        let chain = file("person.crt", "CERTIFICATE")?;
        let roots = file("roots.crt", "CERTIFICATE")?;
        let keys = file("person.key", "PRIVATE KEY")?;
        let key = keys.first().map(Vec::as_slice).unwrap_or_default();
        let key = PrivateKey::from_pkcs8(key).map_err(|error| BadIdentity(error.to_string()))?;
        let control = control_of(chain.first().map(Vec::as_slice).unwrap_or_default())?;
        let connector = Connector::mutual(&OwnIdentity { key, chain }, &roots, control)
            .map_err(|error| BadIdentity(error.to_string()))?;
        Ok(Self {
            address: address.to_owned(),
            connector,
        })
    }

    pub(super) async fn connect(&self) -> Result<OwnStream, ClientError> {
        let unreachable =
            |why: String| ClientError::Unreachable(format!("{}: {why}", self.address));
        let found = tokio::net::lookup_host(&self.address).await;
        let mut last = "the name has no address".to_owned();
        for address in found.map_err(|error| unreachable(error.to_string()))? {
            match self.connector.connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = describe(&error),
            }
        }
        Err(unreachable(last))
    }
}

fn describe(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// The control plane of the mesh that a person's certificate is for.
fn control_of(certificate: &[u8]) -> Result<NodeId, BadIdentity> {
    let bad = |why: String| BadIdentity(format!("person.crt: {why}"));
    let (_, certificate) =
        X509Certificate::from_der(certificate).map_err(|error| bad(error.to_string()))?;
    let trust_domain = certificate
        .subject()
        .iter_organization()
        .next()
        .and_then(|organization| organization.as_str().ok())
        .ok_or_else(|| bad("it names no trust domain".into()))?;
    let trust_domain = trust_domain
        .try_into()
        .map_err(|error: tacit_model::names::InvalidName| bad(error.to_string()))?;
    authority::control_id(trust_domain).map_err(|error| bad(error.to_string()))
}

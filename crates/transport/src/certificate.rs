//! Reads what the mesh needs to know of an X.509 certificate.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use tacit_model::{NodeId, SpiffeId};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// When a certificate holds, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    pub not_before: u64,
    pub not_after: u64,
}

impl Validity {
    /// While both hold.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            not_before: self.not_before.max(other.not_before),
            not_after: self.not_after.min(other.not_after),
        }
    }

    /// True until the certificate ends. Its beginning is the peers' matter: clocks differ.
    #[must_use]
    pub fn holds_now(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        now.is_ok_and(|now| now.as_secs() < self.not_after)
    }
}

/// What a certificate says about whom it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A person or tool: no URI, only a common name.
    CommonName(String),
    /// The control plane or a node proxy.
    Node(NodeId),
    /// A workload.
    Workload(SpiffeId),
}

/// A certificate that is not one, or not one of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadCertificate {
    /// No certificate at all.
    Missing,
    /// Neither a URI nor a common name.
    Nameless,
    /// The URI is no identity of a workload or node.
    NotAnIdentity(String),
    /// More than one URI: whose would it be?
    SeveralUris,
    /// Not DER of an X.509 certificate.
    Unreadable(String),
}

impl fmt::Display for BadCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("there is no certificate"),
            Self::Nameless => f.write_str("the certificate names nobody"),
            Self::NotAnIdentity(why) => write!(f, "the certificate's URI is no identity: {why}"),
            Self::SeveralUris => f.write_str("the certificate has more than one URI"),
            Self::Unreadable(why) => write!(f, "the certificate cannot be read: {why}"),
        }
    }
}

impl std::error::Error for BadCertificate {}

/// Reads the subject and validity of a DER certificate. Verifies nothing.
pub fn read(der: &[u8]) -> Result<(Subject, Validity), BadCertificate> {
    let unreadable = |error: &dyn fmt::Display| BadCertificate::Unreadable(error.to_string());
    let (_, certificate) = X509Certificate::from_der(der).map_err(|e| unreadable(&e))?;
    let validity = certificate.validity();
    let seconds = |time: i64| u64::try_from(time).unwrap_or(0);
    let validity = Validity {
        not_before: seconds(validity.not_before.timestamp()),
        not_after: seconds(validity.not_after.timestamp()),
    };
    Ok((subject(&certificate)?, validity))
}

/// The workload that a DER certificate belongs to, and until when; anything else is an error.
pub(crate) fn workload(der: &[u8]) -> Result<(SpiffeId, Validity), BadCertificate> {
    match read(der)? {
        (Subject::Workload(id), validity) => Ok((id, validity)),
        (Subject::Node(id), _) => Err(BadCertificate::NotAnIdentity(format!(
            "{id} is a node, not a workload"
        ))),
        (Subject::CommonName(name), _) => Err(BadCertificate::NotAnIdentity(format!(
            "only a common name ({name:?})"
        ))),
    }
}

fn subject(certificate: &X509Certificate<'_>) -> Result<Subject, BadCertificate> {
    let names = certificate
        .subject_alternative_name()
        .map_err(|error| BadCertificate::Unreadable(error.to_string()))?;
    let names = names.map_or(&[][..], |names| &names.value.general_names);
    let mut uris = names.iter().filter_map(|name| {
        if let GeneralName::URI(uri) = name {
            Some(*uri)
        } else {
            None
        }
    });
    match (uris.next(), uris.next()) {
        (Some(_), Some(_)) => Err(BadCertificate::SeveralUris),
        (Some(uri), None) => identity(uri),
        (None, _) => {
            let name = certificate.subject().iter_common_name().next();
            let name = name.and_then(|name| name.as_str().ok());
            name.map(|name| Subject::CommonName(name.to_owned()))
                .ok_or(BadCertificate::Nameless)
        }
    }
}

fn identity(uri: &str) -> Result<Subject, BadCertificate> {
    if let Ok(node) = NodeId::try_from(uri) {
        return Ok(Subject::Node(node));
    }
    SpiffeId::try_from(uri)
        .map(Subject::Workload)
        .map_err(|error| BadCertificate::NotAnIdentity(error.to_string()))
}

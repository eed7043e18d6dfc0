//! The embedded certificate authority: short-lived certificates for nodes, workloads and people.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKey, SanType,
};
use sha2::{Digest, Sha256};
use tacit_model::names::InvalidName;
use tacit_model::{NodeId, NodeName, Snapshot, SpiffeId, TrustDomain};
use tacit_transport::key::PrivateKey;
use tacit_transport::own::OwnIdentity;
use time::OffsetDateTime;

use crate::store::{Change, Contents, Table};

/// Certificates begin this long before they are issued: clocks of machines differ.
const BACKDATE: Duration = Duration::from_secs(60);
/// Long enough that a mesh is rebuilt before; rotating a root is a command, not an accident.
const ROOT_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// People renew by hand: a working week and a weekend.
const PERSON_LIFETIME: Duration = Duration::from_secs(9 * 24 * 3600);
/// A request for one P-256 key with one name is about 300 bytes.
const REQUEST_MAX: usize = 8 * 1024;

/// The name of the control plane among the nodes; no node may have it.
pub(crate) const CONTROL: &str = "control";

const ROOT_KEY: &str = "root-key";
const ROOT_CERTIFICATE: &str = "root-certificate";

/// Signs certificates. The root key never leaves this process and the store.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    root: Vec<u8>,
}

/// Why no certificate was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthorityError {
    /// The stored keys cannot be read.
    BadKeys(String),
    /// The request is not one, is not signed by its key, or its key is no P-256 key.
    BadRequest(String),
    /// The node may not have this identity.
    NotHosted { node: NodeName, identity: String },
    /// The node's join token does not allow this identity; in words.
    NotAllowed(String),
}

impl fmt::Display for AuthorityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadKeys(why) => write!(f, "the authority's keys cannot be used: {why}"),
            Self::BadRequest(why) => write!(f, "the certificate request is refused: {why}"),
            Self::NotAllowed(why) => f.write_str(why),
            Self::NotHosted { node, identity } => write!(
                f,
                "node {node} may not ask for {identity}: no workload with this identity runs \
                 there"
            ),
        }
    }
}

impl std::error::Error for AuthorityError {}

impl Authority {
    /// Reads the keys from the store, or makes them; the changes must be written before use.
    pub(crate) fn open(
        contents: &Contents,
        now: Duration,
    ) -> Result<(Self, Vec<Change>), AuthorityError> {
        let text = |key: &str| {
            let value = contents.value(Table::Authority, key);
            value.map(|value| String::from_utf8_lossy(value).into_owned())
        };
        match (text(ROOT_KEY), text(ROOT_CERTIFICATE)) {
            (Some(key), Some(certificate)) => Ok((Self::read(&key, &certificate)?, Vec::new())),
            (None, None) => Self::create(now).map_err(|error| bad_keys(&error)),
            (Some(_), None) | (None, Some(_)) => Err(AuthorityError::BadKeys(
                "one of key and certificate is missing".into(),
            )),
        }
    }

    fn read(key: &str, certificate: &str) -> Result<Self, AuthorityError> {
        let key = KeyPair::from_pem(key).map_err(|error| bad_keys(&error))?;
        let root = crate::pem::decode("CERTIFICATE", certificate)
            .map_err(AuthorityError::BadKeys)?
            .into_iter()
            .next()
            .ok_or_else(|| AuthorityError::BadKeys("there is no root certificate".into()))?;
        let issuer = Issuer::from_ca_cert_der(&root.as_slice().into(), key)
            .map_err(|error| bad_keys(&error))?;
        Ok(Self { issuer, root })
    }

    fn create(now: Duration) -> Result<(Self, Vec<Change>), rcgen::Error> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name("Tacit root");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        valid(&mut params, now, ROOT_LIFETIME);
        let certificate = params.self_signed(&key)?;
        let put = |key: &str, value: String| Change::Put {
            table: Table::Authority,
            key: key.to_owned(),
            value: value.into_bytes(),
        };
        let root = certificate.der().to_vec();
        let changes = vec![
            put(ROOT_KEY, key.serialize_pem()),
            put(
                ROOT_CERTIFICATE,
                crate::pem::encode("CERTIFICATE", std::slice::from_ref(&root)),
            ),
        ];
        let issuer = Issuer::new(params, key);
        Ok((Self { issuer, root }, changes))
    }

    /// The root certificates (DER) that vouch for everybody.
    pub(crate) fn roots(&self) -> Vec<Vec<u8>> {
        vec![self.root.clone()]
    }

    /// The SHA-256 of the root certificate, in hexadecimal digits: what join tokens carry.
    pub(crate) fn root_sha256(&self) -> String {
        Sha256::digest(&self.root)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    /// A certificate of a workload, for the key of the request (DER): its names are ignored.
    pub(crate) fn issue_workload(
        &self,
        request: &[u8],
        id: &SpiffeId,
        lifetime: Duration,
        now: Duration,
    ) -> Result<Vec<Vec<u8>>, AuthorityError> {
        self.issue_uri(request, &id.to_string(), lifetime, now)
    }

    /// A certificate of a node, likewise.
    pub(crate) fn issue_node(
        &self,
        request: &[u8],
        id: &NodeId,
        lifetime: Duration,
        now: Duration,
    ) -> Result<Vec<Vec<u8>>, AuthorityError> {
        self.issue_uri(request, &id.to_string(), lifetime, now)
    }

    fn issue_uri(
        &self,
        request: &[u8],
        uri: &str,
        lifetime: Duration,
        now: Duration,
    ) -> Result<Vec<Vec<u8>>, AuthorityError> {
        let key = public_key(request)?;
        let mut params = leaf();
        params.subject_alt_names = vec![san_uri(uri)?];
        valid(&mut params, now, lifetime);
        self.sign(&params, &key)
    }

    /// A certificate of a person or a pipeline: a common name and no URI, so that it can never
    /// pass for a workload or a node.
    pub(crate) fn issue_person(
        &self,
        request: &[u8],
        name: &str,
        trust_domain: &TrustDomain,
        now: Duration,
    ) -> Result<Vec<Vec<u8>>, AuthorityError> {
        let key = public_key(request)?;
        let mut params = leaf();
        params.distinguished_name = common_name(name);
        // The client learns from it whose control plane to expect.
        params
            .distinguished_name
            .push(DnType::OrganizationName, trust_domain.as_str());
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        valid(&mut params, now, PERSON_LIFETIME);
        self.sign(&params, &key)
    }

    /// A key and certificate for the control plane's own listeners. The chain ends with the
    /// root: who joins checks that by its hash.
    pub(crate) fn issue_own(
        &self,
        id: &NodeId,
        addresses: &[IpAddr],
        lifetime: Duration,
        now: Duration,
    ) -> Result<OwnIdentity, AuthorityError> {
        let failed = |error: &dyn fmt::Display| AuthorityError::BadKeys(error.to_string());
        let key = PrivateKey::generate().map_err(|error| failed(&error))?;
        let request = key.request_for_node(id).map_err(|error| failed(&error))?;
        let mut params = leaf();
        params.subject_alt_names = vec![san_uri(&id.to_string())?];
        let addresses = addresses.iter().copied();
        params
            .subject_alt_names
            .extend(addresses.map(SanType::IpAddress));
        valid(&mut params, now, lifetime);
        let mut chain = self.sign(&params, &public_key(&request)?)?;
        chain.push(self.root.clone());
        Ok(OwnIdentity { key, chain })
    }

    fn sign(
        &self,
        params: &CertificateParams,
        key: &PublicKey,
    ) -> Result<Vec<Vec<u8>>, AuthorityError> {
        let certificate = params
            .signed_by(key, &self.issuer)
            .map_err(|error| bad_keys(&error))?;
        Ok(vec![certificate.der().to_vec()])
    }
}

/// The control plane's own name in a trust domain.
pub(crate) fn control_id(trust_domain: TrustDomain) -> Result<NodeId, InvalidName> {
    Ok(NodeId {
        trust_domain,
        name: CONTROL.try_into()?,
    })
}

/// The identities that a node may ask for now: those of the workloads that are placed on it.
pub(crate) fn hosted(snapshot: &Snapshot, node: &NodeName) -> BTreeSet<SpiffeId> {
    let placed = snapshot
        .workloads
        .values()
        .filter(|workload| workload.node == *node);
    placed
        .map(|workload| workload.identity(&snapshot.mesh.trust_domain))
        .collect()
}

fn leaf() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.use_authority_key_identifier_extension = true;
    params
}

fn common_name(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

fn san_uri(uri: &str) -> Result<SanType, AuthorityError> {
    let uri = uri
        .try_into()
        .map_err(|error: rcgen::Error| bad_keys(&error))?;
    Ok(SanType::URI(uri))
}

fn valid(params: &mut CertificateParams, now: Duration, lifetime: Duration) {
    let at = |time: Duration| OffsetDateTime::UNIX_EPOCH + time;
    params.not_before = at(now.saturating_sub(BACKDATE));
    params.not_after = at(now + lifetime);
}

/// The key of a request, if the request proves that its sender has the private half.
fn public_key(request: &[u8]) -> Result<PublicKey, AuthorityError> {
    let refused = |why: String| AuthorityError::BadRequest(why);
    if request.len() > REQUEST_MAX {
        return Err(refused(format!(
            "{} bytes, at most {REQUEST_MAX}",
            request.len()
        )));
    }
    let CertificateSigningRequestParams {
        params: _,
        public_key,
    } = CertificateSigningRequestParams::from_der(&request.into())
        .map_err(|error| refused(error.to_string()))?;
    if *public_key.algorithm() == rcgen::PKCS_ECDSA_P256_SHA256 {
        Ok(public_key)
    } else {
        Err(refused("only ECDSA P-256 keys are signed".into()))
    }
}

fn bad_keys(error: &rcgen::Error) -> AuthorityError {
    AuthorityError::BadKeys(error.to_string())
}

#[cfg(test)]
mod tests;

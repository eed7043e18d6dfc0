//! Who is speaking: SPIFFE identities of workloads and the names of the mesh's own nodes.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::names::{InvalidName, Namespace, NodeName, ServiceAccount, name};

/// True for a SPIFFE trust domain: 1-255 of `a-z 0-9 . - _` (SPIFFE-ID section 2.1).
fn is_trust_domain(text: &str) -> bool {
    let ok =
        |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
    (1..=255).contains(&text.len()) && text.bytes().all(ok)
}

name!(
    /// A SPIFFE trust domain; compared as bytes, never by suffix.
    TrustDomain, "a trust domain (lower-case letters, digits, '.', '-', '_')", is_trust_domain
);

/// A workload's identity: `spiffe://<trust-domain>/ns/<namespace>/sa/<service-account>`.
///
/// The form is Istio's; anything else is refused. This is the only SPIFFE parser of the project.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SpiffeId {
    /// The trust domain whose bundle vouches for it.
    pub trust_domain: TrustDomain,
    /// The namespace of the service account.
    pub namespace: Namespace,
    /// The service account.
    pub service_account: ServiceAccount,
}

const SPIFFE: &str = "a workload's SPIFFE id (spiffe://DOMAIN/ns/NAMESPACE/sa/SERVICE-ACCOUNT)";
const NODE: &str = "a node's SPIFFE id (spiffe://DOMAIN/tacit/node/NAME)";

impl TryFrom<&str> for SpiffeId {
    type Error = InvalidName;

    fn try_from(text: &str) -> Result<Self, InvalidName> {
        let invalid = || InvalidName::new(SPIFFE, text);
        let path = text.strip_prefix("spiffe://").ok_or_else(invalid)?;
        let parts: Vec<&str> = path.split('/').collect();
        let [trust_domain, "ns", namespace, "sa", service_account] = parts[..] else {
            return Err(invalid());
        };
        Ok(Self {
            trust_domain: trust_domain.try_into().map_err(|_| invalid())?,
            namespace: namespace.try_into().map_err(|_| invalid())?,
            service_account: service_account.try_into().map_err(|_| invalid())?,
        })
    }
}

impl TryFrom<String> for SpiffeId {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        Self::try_from(text.as_str())
    }
}

impl From<SpiffeId> for String {
    fn from(id: SpiffeId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            trust_domain,
            namespace,
            service_account,
        } = self;
        write!(
            f,
            "spiffe://{trust_domain}/ns/{namespace}/sa/{service_account}"
        )
    }
}

/// A node proxy's or the control plane's own identity: `spiffe://<trust-domain>/tacit/node/<name>`.
///
/// Its path can never parse as a [`SpiffeId`], so a node cannot pass for a workload.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId {
    /// The trust domain of the mesh.
    pub trust_domain: TrustDomain,
    /// The node's name; the control plane is `control`.
    pub name: NodeName,
}

impl TryFrom<&str> for NodeId {
    type Error = InvalidName;

    fn try_from(text: &str) -> Result<Self, InvalidName> {
        let invalid = || InvalidName::new(NODE, text);
        let path = text.strip_prefix("spiffe://").ok_or_else(invalid)?;
        let parts: Vec<&str> = path.split('/').collect();
        let [trust_domain, "tacit", "node", name] = parts[..] else {
            return Err(invalid());
        };
        Ok(Self {
            trust_domain: trust_domain.try_into().map_err(|_| invalid())?,
            name: name.try_into().map_err(|_| invalid())?,
        })
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}/tacit/node/{}", self.trust_domain, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_form_is_an_identity() {
        let good = "spiffe://shop.example.com/ns/shop/sa/payments";
        assert_eq!(SpiffeId::try_from(good).unwrap().to_string(), good);
        for bad in [
            "",
            "spiffe://",
            "spiffe://td/ns/a/sa/",
            "spiffe://td/ns//sa/b",
            "spiffe:///ns/a/sa/b",
            "spiffe://td/ns/a/sa/b/",
            "spiffe://td/ns/a/sa/b/c",
            "spiffe://TD/ns/a/sa/b",
            "SPIFFE://td/ns/a/sa/b",
            "https://td/ns/a/sa/b",
            "spiffe://td/ns/a/sa/b\0",
            "spiffe://td/ns/a/sa/b?x",
            "spiffe://td/tacit/node/a",
        ] {
            assert!(SpiffeId::try_from(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_node_is_not_a_workload() {
        let node = NodeId::try_from("spiffe://td/tacit/node/host-a").unwrap();
        assert!(SpiffeId::try_from(node.to_string().as_str()).is_err());
        assert!(NodeId::try_from("spiffe://td/ns/a/sa/b").is_err());
    }
}

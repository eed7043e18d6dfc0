//! How a node becomes one: the join token, the node's own key and certificate, and their file.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use tacit_model::{NodeId, NodeName, TrustDomain};
use tacit_transport::identity::PrivateKey;
use tacit_transport::own::{Connector, OwnIdentity};

use crate::error::NodeError;
use crate::state_dir::StateDir;

/// The file's name.
const FILE: &str = "node.json";
/// What each token begins with.
const PREFIX: &str = "tacit1.";
/// The control plane's name among nodes.
const CONTROL: &str = "control";

/// What a join token says.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct JoinToken {
    /// Of the control plane's node API.
    pub(crate) addresses: Vec<SocketAddr>,
    /// Hexadecimal SHA-256 of the only root that is believed.
    ca_sha256: String,
    pub(crate) secret: String,
    pub(crate) node: NodeName,
    pub(crate) trust_domain: TrustDomain,
}

impl JoinToken {
    /// Reads a token. Its text is a secret, so errors do not repeat it.
    pub(crate) fn parse(text: &str) -> Result<Self, NodeError> {
        let invalid = |why: &dyn fmt::Display| {
            NodeError::Join(format!(
                "the token is not one ({why}); make one with `tacit token`"
            ))
        };
        let body = text.trim().strip_prefix(PREFIX);
        let body = body.ok_or_else(|| invalid(&"it does not begin with tacit1."))?;
        let json = URL_SAFE_NO_PAD.decode(body).map_err(|e| invalid(&e))?;
        let token: Self = serde_json::from_slice(&json).map_err(|e| invalid(&e))?;
        if token.addresses.is_empty() {
            return Err(invalid(&"it has no address"));
        }
        token.root_sha256()?;
        Ok(token)
    }

    pub(crate) fn root_sha256(&self) -> Result<[u8; 32], NodeError> {
        let mut out = [0; 32];
        let digits = self.ca_sha256.as_bytes();
        let pairs = digits.chunks_exact(2).map(|pair| {
            std::str::from_utf8(pair)
                .ok()
                .and_then(|pair| u8::from_str_radix(pair, 16).ok())
        });
        let bytes: Option<Vec<u8>> = pairs.collect();
        match bytes {
            Some(bytes) if digits.len() == 64 => {
                out.copy_from_slice(&bytes);
                Ok(out)
            }
            _ => Err(NodeError::Join(
                "the token's fingerprint is not a SHA-256".into(),
            )),
        }
    }

    /// True if the control plane that made it is the one that `member` joined.
    pub(crate) fn is_of(&self, member: &Membership) -> bool {
        let Ok(wanted) = self.root_sha256() else {
            return false;
        };
        let is_wanted =
            |root: &Vec<u8>| digest::digest(&digest::SHA256, root).as_ref() == wanted.as_slice();
        self.trust_domain == member.id.trust_domain && member.roots.iter().any(is_wanted)
    }

    /// A new key for the node, and the request to certify it.
    pub(crate) fn request(&self) -> Result<(NodeId, PrivateKey, Vec<u8>), NodeError> {
        let id = NodeId {
            trust_domain: self.trust_domain.clone(),
            name: self.node.clone(),
        };
        let told = |e: tacit_transport::identity::KeyError| NodeError::Join(e.to_string());
        let key = PrivateKey::generate().map_err(told)?;
        let csr = key.request_for_node(&id).map_err(told)?;
        Ok((id, key, csr))
    }

    /// For the one call that is made without a certificate.
    pub(crate) fn connector(&self) -> Result<Connector, NodeError> {
        Ok(Connector::pinned(
            self.root_sha256()?,
            control_id(&self.trust_domain)?,
        ))
    }
}

fn control_id(trust_domain: &TrustDomain) -> Result<NodeId, NodeError> {
    let name = NodeName::try_from(CONTROL).map_err(|e| NodeError::Join(e.to_string()))?;
    Ok(NodeId {
        trust_domain: trust_domain.clone(),
        name,
    })
}

/// What a node got when it joined. Kept in the state directory: it is the node's identity.
pub(crate) struct Membership {
    pub(crate) id: NodeId,
    pub(crate) own: OwnIdentity,
    /// DER of every root that vouches for peers.
    pub(crate) roots: Vec<Vec<u8>>,
    /// Of this node's workloads.
    pub(crate) subnet: String,
    /// The control plane's store; another one means: join anew.
    pub(crate) epoch: u64,
    pub(crate) addresses: Vec<SocketAddr>,
}

/// The file's form.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    trust_domain: TrustDomain,
    node: NodeName,
    key: String,
    chain: Vec<String>,
    roots: Vec<String>,
    subnet: String,
    epoch: u64,
    addresses: BTreeSet<SocketAddr>,
}

/// DER as text.
pub(crate) fn to_text(der: &[u8]) -> String {
    STANDARD.encode(der)
}

/// Text as DER.
pub(crate) fn from_text(text: &str) -> Result<Vec<u8>, base64::DecodeError> {
    STANDARD.decode(text)
}

impl Membership {
    /// Reads the file; `None`: this node has never joined.
    pub(crate) fn load(dir: &StateDir) -> Result<Option<Self>, NodeError> {
        let unusable = |why: &dyn fmt::Display| {
            NodeError::state(dir.path(FILE), format!("{why}. Remove it and join anew"))
        };
        let Some(content) = dir.read(FILE).map_err(|e| unusable(&e))? else {
            return Ok(None);
        };
        let file: File = serde_json::from_slice(&content).map_err(|e| unusable(&e))?;
        let all = |texts: &[String]| -> Result<Vec<Vec<u8>>, NodeError> {
            texts
                .iter()
                .map(|text| from_text(text).map_err(|e| unusable(&e)))
                .collect()
        };
        let key = from_text(&file.key).map_err(|e| unusable(&e))?;
        let key = PrivateKey::from_pkcs8(&key).map_err(|e| unusable(&e))?;
        Ok(Some(Self {
            id: NodeId {
                trust_domain: file.trust_domain,
                name: file.node,
            },
            own: OwnIdentity {
                key,
                chain: all(&file.chain)?,
            },
            roots: all(&file.roots)?,
            subnet: file.subnet,
            epoch: file.epoch,
            addresses: file.addresses.into_iter().collect(),
        }))
    }

    /// Removes the file: the node joins anew when it starts again.
    pub(crate) fn forget(dir: &StateDir) -> Result<(), NodeError> {
        dir.remove(FILE)
            .map_err(|e| NodeError::state(dir.path(FILE), e))
    }

    /// Writes the file.
    pub(crate) fn save(&self, dir: &StateDir) -> Result<(), NodeError> {
        let all = |ders: &[Vec<u8>]| ders.iter().map(|der| to_text(der)).collect();
        let file = File {
            trust_domain: self.id.trust_domain.clone(),
            node: self.id.name.clone(),
            key: to_text(&self.own.key.to_pkcs8()),
            chain: all(&self.own.chain),
            roots: all(&self.roots),
            subnet: self.subnet.clone(),
            epoch: self.epoch,
            addresses: self.addresses.iter().copied().collect(),
        };
        let told = |e: &dyn fmt::Display| NodeError::state(dir.path(FILE), e);
        let content = serde_json::to_vec_pretty(&file).map_err(|e| told(&e))?;
        dir.write(FILE, &content).map_err(|e| told(&e))
    }

    /// For all calls after the join.
    pub(crate) fn connector(&self) -> Result<Connector, NodeError> {
        let control = control_id(&self.id.trust_domain)?;
        Connector::mutual(&self.own, &self.roots, control)
            .map_err(|e| NodeError::Join(e.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(json: &str) -> Result<JoinToken, NodeError> {
        JoinToken::parse(&format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(json)))
    }

    #[test]
    fn tokens() {
        let digest = "ab".repeat(32);
        let good = format!(
            r#"{{"addresses":["127.0.0.1:15012"],"caSha256":"{digest}","secret":"s","node":"a",
                "identities":[],"trustDomain":"mesh.local"}}"#
        );
        let parsed = token(&good).expect("a token");
        assert_eq!(parsed.root_sha256().expect("a digest"), [0xab; 32]);
        assert_eq!(parsed.node.as_str(), "a");
        for bad in [
            good.replace("127.0.0.1:15012", "nowhere"),
            good.replace("[\"127.0.0.1:15012\"]", "[]"),
            good.replace(&digest, "abc"),
            good.replace(&digest, &"zz".repeat(32)),
            good.replace("mesh.local", "MESH"),
            String::from("{}"),
        ] {
            assert!(token(&bad).is_err(), "{bad}");
        }
        assert!(JoinToken::parse("tacit2.e30").is_err());
        let secret = JoinToken::parse("tacit1.c2VjcmV0")
            .expect_err("no token")
            .to_string();
        assert!(!secret.contains("c2VjcmV0"), "{secret}");
    }

    #[test]
    fn membership_comes_back_from_disk() {
        let (_guard, dir) = crate::state_dir::tests::scratch();
        assert!(Membership::load(&dir).expect("reads").is_none());
        let id = NodeId::try_from("spiffe://mesh.local/tacit/node/a").expect("an id");
        let key = PrivateKey::generate().expect("a key");
        let pkcs8 = key.to_pkcs8();
        let own = OwnIdentity {
            key,
            chain: vec![vec![1, 2]],
        };
        let addresses = vec!["127.0.0.1:15012".parse().expect("an address")];
        let subnet = "10.96.1.0/24".to_owned();
        let member = Membership {
            id: id.clone(),
            own,
            roots: vec![vec![3]],
            subnet,
            epoch: 7,
            addresses,
        };
        member.save(&dir).expect("writes");
        let back = Membership::load(&dir).expect("reads").expect("is there");
        assert_eq!((back.id, back.epoch, back.roots), (id, 7, vec![vec![3]]));
        assert_eq!(back.own.key.to_pkcs8(), pkcs8);
        dir.write(FILE, b"{").expect("writes");
        assert!(Membership::load(&dir).is_err());
    }
}

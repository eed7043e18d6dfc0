//! The identities that this process can prove and the roots it believes, swapped live.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tacit_model::{SpiffeId, TrustDomain};

pub use crate::certificate::{BadCertificate, Subject, Validity, read as read_certificate};
pub use crate::key::{KeyError, PrivateKey};
pub use crate::tls::Cipher;
use crate::tls::{Bundle, Bundles, Configs};

/// Roots of one trust domain. Rotation needs two at once; more is somebody's mistake.
const MOST_ROOTS: usize = 4;
/// Certificates in a chain, leaf included: leaf, two intermediates, root.
const LONGEST_CHAIN: usize = 4;

/// Keys, certificates and roots, shared by all workers of a process.
///
/// A change reaches the next handshake; sessions that exist keep what they were opened with.
#[derive(Clone)]
pub struct IdentityStore {
    inner: Arc<Inner>,
}

struct Inner {
    bundles: Bundles,
    cipher: Cipher,
    entries: ArcSwap<HashMap<SpiffeId, Arc<Entry>>>,
    /// Held while a change is made, so that two changes do not undo each other.
    change: Mutex<()>,
}

pub(crate) struct Entry {
    pub(crate) configs: Configs,
    validity: Validity,
}

/// Why the store did not take something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentityError {
    /// A certificate of the chain is unusable.
    Certificate(BadCertificate),
    /// More certificates than the limit.
    ChainTooLong { given: usize, limit: usize },
    /// The certificate is for somebody else.
    OtherIdentity { wanted: SpiffeId, found: String },
    /// Key and certificate do not belong together, or a root cannot be used.
    Rejected(String),
    /// Roots must be between 1 and the limit.
    RootCount { given: usize, limit: usize },
}

impl Entry {
    pub(crate) fn validity(&self) -> Validity {
        self.validity
    }
}

impl fmt::Display for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate(error) => write!(f, "{error}"),
            Self::ChainTooLong { given, limit } => {
                write!(
                    f,
                    "a chain of {given} certificates; at most {limit} are taken"
                )
            }
            Self::OtherIdentity { wanted, found } => {
                write!(f, "the certificate is for {found}, not for {wanted}")
            }
            Self::Rejected(why) => f.write_str(why),
            Self::RootCount { given, limit } => {
                write!(
                    f,
                    "{given} root certificates; a trust domain has 1 to {limit}"
                )
            }
        }
    }
}

impl std::error::Error for IdentityError {}

impl Default for IdentityStore {
    fn default() -> Self {
        Self::new()
    }
}

impl IdentityStore {
    /// A store that knows nobody and believes nobody.
    #[must_use]
    pub fn new() -> Self {
        Self::preferring(Cipher::default())
    }

    /// The same; sessions that it dials ask for `cipher` first.
    #[must_use]
    pub fn preferring(cipher: Cipher) -> Self {
        Self {
            inner: Arc::new(Inner {
                bundles: Bundles::default(),
                cipher,
                entries: ArcSwap::default(),
                change: Mutex::new(()),
            }),
        }
    }

    /// Sets the root certificates (DER) of a trust domain; they replace the former ones.
    pub fn set_bundle(
        &self,
        trust_domain: TrustDomain,
        roots: &[Vec<u8>],
    ) -> Result<(), IdentityError> {
        if roots.is_empty() || roots.len() > MOST_ROOTS {
            let given = roots.len();
            return Err(IdentityError::RootCount {
                given,
                limit: MOST_ROOTS,
            });
        }
        let bundle = Bundle::new(roots).map_err(IdentityError::Rejected)?;
        let _held = self
            .inner
            .change
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut bundles = BTreeMap::clone(&self.inner.bundles.load());
        bundles.insert(trust_domain, Arc::new(bundle));
        self.inner.bundles.store(Arc::new(bundles));
        Ok(())
    }

    /// The root certificates (DER) of a trust domain; empty if it is not believed.
    #[must_use]
    pub fn bundle(&self, trust_domain: &TrustDomain) -> Vec<Vec<u8>> {
        let bundles = self.inner.bundles.load();
        bundles
            .get(trust_domain)
            .map_or_else(Vec::new, |bundle| bundle.roots().to_vec())
    }

    /// Stores a key with its chain (DER, leaf first); it replaces the former one of `id`.
    ///
    /// The chain is not verified against our own roots: the peers do that.
    pub fn put(
        &self,
        id: SpiffeId,
        key: &PrivateKey,
        chain: &[Vec<u8>],
    ) -> Result<Validity, IdentityError> {
        if chain.len() > LONGEST_CHAIN {
            let given = chain.len();
            return Err(IdentityError::ChainTooLong {
                given,
                limit: LONGEST_CHAIN,
            });
        }
        let leaf = chain
            .first()
            .ok_or(IdentityError::Certificate(BadCertificate::Missing))?;
        let (subject, validity) = read_certificate(leaf).map_err(IdentityError::Certificate)?;
        if subject != Subject::Workload(id.clone()) {
            let found = format!("{subject:?}");
            return Err(IdentityError::OtherIdentity { wanted: id, found });
        }
        let configs = Configs::new(
            key,
            chain,
            Arc::clone(&self.inner.bundles),
            self.inner.cipher,
        )
        .map_err(IdentityError::Rejected)?;
        self.change_entries(|entries| {
            entries.insert(id, Arc::new(Entry { configs, validity }));
        });
        Ok(validity)
    }

    /// Forgets a key and its certificate.
    pub fn remove(&self, id: &SpiffeId) {
        self.change_entries(|entries| {
            entries.remove(id);
        });
    }

    /// When the certificate of `id` holds, if there is one.
    #[must_use]
    pub fn validity(&self, id: &SpiffeId) -> Option<Validity> {
        self.entry(id).map(|entry| entry.validity)
    }

    pub(crate) fn entry(&self, id: &SpiffeId) -> Option<Arc<Entry>> {
        self.inner.entries.load().get(id).map(Arc::clone)
    }

    fn change_entries(&self, change: impl FnOnce(&mut HashMap<SpiffeId, Arc<Entry>>)) {
        let _held = self
            .inner
            .change
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut entries = HashMap::clone(&self.inner.entries.load());
        change(&mut entries);
        self.inner.entries.store(Arc::new(entries));
    }
}

#[cfg(test)]
mod tests;

//! How many requests a workload takes in a time, after checking.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::provenance::{ObjectRef, Provenance};

/// The limits of one policy: a request must be within each of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimits {
    /// The policy that says so.
    pub policy: ObjectRef,
    /// In the order in which they are written.
    pub limits: Vec<RateLimit>,
}

/// So many requests in such a time, for each value of the key.
///
/// A token bucket: `burst` tokens at first, `requests` more in each `per`, one for each request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateLimit {
    /// How many requests.
    pub requests: NonZeroU32,
    /// In which time, 1 s to 24 h.
    pub per: Duration,
    /// How many at once after a pause.
    pub burst: NonZeroU32,
    /// Parts that together tell what is counted apart; empty: all requests together.
    pub key: Vec<RateKey>,
}

/// One part of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RateKey {
    /// The value of a header by its lower-case name.
    Header(Arc<str>),
    /// The identity that the caller proves.
    Identity,
}

impl RateLimits {
    /// Where the limit with this index is written.
    #[must_use]
    pub fn origin(&self, index: usize) -> Provenance {
        Provenance::Field {
            object: self.policy.clone(),
            path: format!("spec.limits[{index}]").into(),
        }
    }
}

impl fmt::Display for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            requests,
            per,
            burst,
            key,
        } = self;
        write!(f, "{requests} requests per {per:?}, {burst} at once")?;
        for (index, part) in key.iter().enumerate() {
            let joint = if index == 0 { ", for each" } else { " and" };
            match part {
                RateKey::Header(name) => write!(f, "{joint} value of {name}")?,
                RateKey::Identity => write!(f, "{joint} caller")?,
            }
        }
        Ok(())
    }
}

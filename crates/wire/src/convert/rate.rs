//! Rates of requests as messages.

use std::num::NonZeroU32;

use tacit_model::rate::{RateKey, RateLimit, RateLimits};

use super::{Invalid, Problem, Wire, list_from, list_to, required};
use crate::proto::mesh as p;

impl Wire for RateKey {
    type Proto = p::RateKey;

    fn to_wire(&self) -> p::RateKey {
        let kind = match self {
            Self::Header(name) => p::rate_key::Kind::Header(name.to_string()),
            Self::Identity => p::rate_key::Kind::Identity(p::rate_key::Identity {}),
        };
        p::RateKey { kind: Some(kind) }
    }

    fn from_wire(proto: p::RateKey) -> Result<Self, Invalid> {
        let p::RateKey { kind } = proto;
        match kind.ok_or_else(|| Invalid::new("key", Problem::Missing))? {
            p::rate_key::Kind::Header(name) => Ok(Self::Header(name.into())),
            p::rate_key::Kind::Identity(p::rate_key::Identity {}) => Ok(Self::Identity),
        }
    }
}

impl Wire for RateLimit {
    type Proto = p::RateLimit;

    fn to_wire(&self) -> p::RateLimit {
        let Self {
            requests,
            per,
            burst,
            key,
        } = self;
        p::RateLimit {
            requests: requests.get(),
            per: Some(per.to_wire()),
            burst: burst.get(),
            key: list_to(key),
        }
    }

    fn from_wire(proto: p::RateLimit) -> Result<Self, Invalid> {
        let p::RateLimit {
            requests,
            per,
            burst,
            key,
        } = proto;
        Ok(Self {
            requests: count("requests", requests)?,
            per: required("per", per)?,
            burst: count("burst", burst)?,
            key: list_from(key)?,
        })
    }
}

fn count(field: &'static str, value: u32) -> Result<NonZeroU32, Invalid> {
    NonZeroU32::new(value).ok_or_else(|| Invalid::new(field, Problem::OutOfRange(0)))
}

impl Wire for RateLimits {
    type Proto = p::RateLimits;

    fn to_wire(&self) -> p::RateLimits {
        let Self { policy, limits } = self;
        p::RateLimits {
            policy: Some(policy.to_wire()),
            limits: list_to(limits),
        }
    }

    fn from_wire(proto: p::RateLimits) -> Result<Self, Invalid> {
        let p::RateLimits { policy, limits } = proto;
        Ok(Self {
            policy: required("policy", policy)?,
            limits: list_from(limits)?,
        })
    }
}

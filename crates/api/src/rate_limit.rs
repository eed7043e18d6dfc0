//! RateLimitPolicy: how many requests a workload takes in a time.

use crate::decode::{fields, words};
use crate::object::object;
use crate::policy::{Enforcement, TargetAll, TargetRef, TargetSelector, policy};
use crate::values::DurationText;

object! {
    /// How many requests each workload behind a service takes in a time.
    RateLimitPolicy { RateLimitPolicySpec }
}

fields! {
    /// What a RateLimitPolicy says.
    #[derive(Default)]
    pub struct RateLimitPolicySpec {
        /// Services in the own namespace.
        target_refs: Option<Vec<TargetRef>> = "targetRefs",
        /// Services by label.
        target_selectors: Option<Vec<TargetSelector>> = "targetSelectors",
        /// Every service in scope.
        target_all: Option<TargetAll> = "targetAll",
        /// Whether inner scopes may say otherwise.
        enforcement: Option<Enforcement> = "enforcement",
        /// Higher first at equal target.
        priority: Option<i32> = "priority",
        /// A request must be within each of them, 1 to 8. The list goes whole in precedence.
        limits: Vec<RateLimit> = "limits",
    }
}
policy!(RateLimitPolicySpec);

fields! {
    /// So many requests in such a time, for each value of the key.
    pub struct RateLimit {
        /// How many requests, 1 to 1000000.
        requests: u32 = "requests",
        /// In which time, 1s to 24h.
        per: DurationText = "per",
        /// How many at once after a pause, 1 to 100 times `requests`; absent: `requests`.
        burst: Option<u32> = "burst",
        /// What is counted apart, 1 to 4 parts that together make the key; absent: all requests
        /// together.
        key: Option<Vec<RateKey>> = "key",
        /// Whose requests are counted; absent: `Local`.
        counter: Option<RateCounter> = "counter",
    }
}

fields! {
    /// One part of a key.
    pub struct RateKey {
        /// What it is.
        key_type: RateKeyType = "type",
        /// The name of the header, in any case; for `Header` only.
        header: Option<String> = "header",
        /// The name of the claim; for `Claim` only.
        claim: Option<String> = "claim",
    }
}

words! {
    /// What tells requests apart: a claim of a token (not supported), a header, or the identity
    /// of the caller.
    pub enum RateKeyType { Claim, Header, Identity }
}

words! {
    /// Each workload for itself, or all of a service together (not supported).
    pub enum RateCounter { Local, Shared }
}

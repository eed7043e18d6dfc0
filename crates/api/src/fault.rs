//! FaultPolicy: failures that are made on purpose, for a share of requests, until a time.

use crate::decode::fields;
use crate::object::object;
use crate::policy::{Callers, Enforcement, TargetAll, TargetRef, TargetSelector, policy};
use crate::values::{DurationText, TimeText};

object! {
    /// Delays or aborts a share of the requests to services, to see what their callers make of it.
    FaultPolicy { FaultPolicySpec }
}

fields! {
    /// What a FaultPolicy says.
    pub struct FaultPolicySpec {
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
        /// Only these callers; absent: all.
        from: Option<Vec<Callers>> = "from",
        /// When it ends: from then on the policy says nothing.
        until: TimeText = "until",
        /// Requests wait before they are sent.
        delay: Option<FaultDelay> = "delay",
        /// Requests are answered instead of being sent, after the delay if both befall them.
        abort: Option<FaultAbort> = "abort",
    }
}
policy!(FaultPolicySpec);

fields! {
    /// Requests wait before they are sent.
    pub struct FaultDelay {
        /// How long, 1ms to 60s.
        time: DurationText = "time",
        /// Of 100 requests, how many, by chance, 0 to 100.
        share_percent: u32 = "sharePercent",
    }
}

fields! {
    /// Requests are answered instead of being sent.
    pub struct FaultAbort {
        /// The HTTP status of the answer, 400 to 599.
        status: u16 = "status",
        /// Of 100 requests, how many, by chance, 0 to 100.
        share_percent: u32 = "sharePercent",
    }
}

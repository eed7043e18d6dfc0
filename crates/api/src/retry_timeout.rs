//! RetryTimeoutPolicy: timeouts, further tries, hedging and circuit breaking of a service.

use crate::decode::{fields, words};
use crate::object::object;
use crate::policy::{Callers, Enforcement, TargetAll, TargetRef, TargetSelector, policy};
use crate::values::{DurationText, SizeText};

object! {
    /// Timeouts and further tries for the callers of services.
    RetryTimeoutPolicy { RetryTimeoutPolicySpec }
}

fields! {
    /// What a RetryTimeoutPolicy says.
    #[derive(Default)]
    pub struct RetryTimeoutPolicySpec {
        /// Objects in the own namespace.
        target_refs: Option<Vec<TargetRef>> = "targetRefs",
        /// Objects by label.
        target_selectors: Option<Vec<TargetSelector>> = "targetSelectors",
        /// Everything in scope.
        target_all: Option<TargetAll> = "targetAll",
        /// Whether inner scopes may say otherwise.
        enforcement: Option<Enforcement> = "enforcement",
        /// Higher first at equal target.
        priority: Option<i32> = "priority",
        /// How long things may take.
        timeout: Option<Timeout> = "timeout",
        /// Further tries.
        retry: Option<Retry> = "retry",
        /// A second try before the first has failed.
        hedge: Option<Hedge> = "hedge",
        /// Bounds on what is under way.
        circuit_breaker: Option<CircuitBreaker> = "circuitBreaker",
        /// Only these callers; absent: all.
        from: Option<Vec<Callers>> = "from",
    }
}
policy!(RetryTimeoutPolicySpec);

fields! {
    /// How long things may take. Zero means no limit.
    #[derive(Default)]
    pub struct Timeout {
        /// All tries together.
        request: Option<DurationText> = "request",
        /// One try.
        per_try: Option<DurationText> = "perTry",
        /// Without a byte in either direction.
        idle: Option<DurationText> = "idle",
        /// Making the connection.
        connect: Option<DurationText> = "connect",
    }
}

words! {
    /// What may go wrong with a try.
    pub enum RetryOn {
        ConnectFailure, DeadlineExceeded, GatewayError, RefusedStream, Reset, ServerError,
    }
}

fields! {
    /// Further tries.
    #[derive(Default)]
    pub struct Retry {
        /// How many after the first; 0 switches them off.
        attempts: Option<u32> = "attempts",
        /// Kinds of failure.
        on: Option<Vec<RetryOn>> = "on",
        /// HTTP status codes.
        codes: Option<Vec<u16>> = "codes",
        /// gRPC status codes by name, for example `Unavailable`.
        grpc_codes: Option<Vec<String>> = "grpcCodes",
        /// True: also POST and PATCH.
        non_idempotent: Option<bool> = "nonIdempotent",
        /// Only these methods.
        methods: Option<Vec<String>> = "methods",
        /// Pause before a further try.
        backoff: Option<Backoff> = "backoff",
        /// Share of requests that may be tried again.
        budget: Option<Budget> = "budget",
        /// A longer body is not replayed.
        max_body: Option<SizeText> = "maxBody",
    }
}

fields! {
    /// Pause before a further try.
    #[derive(Default)]
    pub struct Backoff {
        /// Upper bound of the first pause; doubles.
        base: Option<DurationText> = "base",
        /// Upper bound of every pause.
        max: Option<DurationText> = "max",
    }
}

fields! {
    /// Share of requests that may be tried again, per client and service.
    #[derive(Default)]
    pub struct Budget {
        /// Further tries per 100 requests of the interval.
        retry_percent: Option<u32> = "retryPercent",
        /// The sliding window.
        interval: Option<DurationText> = "interval",
        /// Further tries per second that are always allowed.
        min_per_second: Option<u32> = "minPerSecond",
    }
}

fields! {
    /// A second try before the first has failed.
    #[derive(Default)]
    pub struct Hedge {
        /// After this percentile of the response time, 1-99.
        after_percentile: Option<u32> = "afterPercentile",
        /// After this time.
        after: Option<DurationText> = "after",
        /// How many more at once.
        max: Option<u32> = "max",
    }
}

fields! {
    /// Bounds on what is under way, per client node and service.
    #[derive(Default)]
    pub struct CircuitBreaker {
        /// Connections.
        max_connections: Option<u32> = "maxConnections",
        /// Requests that wait for a connection.
        max_pending_requests: Option<u32> = "maxPendingRequests",
        /// Requests under way.
        max_requests: Option<u32> = "maxRequests",
    }
}

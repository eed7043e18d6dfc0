//! Timeouts and retries after checking, as layers that resolve field by field.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::access::From;
use crate::provenance::Sourced;

/// What went wrong with a try, as named in `retry.on`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum RetryOn {
    /// The connection to the endpoint could not be made; nothing was sent.
    ConnectFailure,
    /// `perTry` ran out.
    DeadlineExceeded,
    /// Response 502, 503 or 504.
    GatewayError,
    /// The peer refused the stream before working on it; nothing was processed.
    RefusedStream,
    /// The connection broke before the response headers.
    Reset,
    /// Any response 500-599.
    ServerError,
}

/// When a try is repeated: goes whole in precedence (`on`, `codes`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryWhen {
    /// Kinds of failure.
    pub on: BTreeSet<RetryOn>,
    /// HTTP status codes, 100-599.
    pub codes: BTreeSet<u16>,
}

/// Which methods may be repeated: goes whole (`nonIdempotent`, `methods`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryMethods {
    /// True: also POST and PATCH.
    pub non_idempotent: bool,
    /// Only these, upper case; absent: all that `non_idempotent` lets through.
    pub only: Option<BTreeSet<Arc<str>>>,
}

/// Pause before a further try: uniform in `[0, min(max, base * 2^n)]`. Goes whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backoff {
    /// Upper bound of the first pause.
    pub base: Duration,
    /// Upper bound of every pause.
    pub max: Duration,
}

/// How many further tries are allowed, as a share of requests. Goes whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// Further tries per 100 requests of the interval, 0-100.
    pub retry_percent: u32,
    /// The sliding window, 1 s to 1 h.
    pub interval: Duration,
    /// Further tries per second that are always allowed.
    pub min_per_second: u32,
}

/// The fields that one policy sets. Absent means that the next layer decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    /// All tries together, until the response headers for streams. Zero: no limit.
    pub request: Option<Sourced<Duration>>,
    /// One try. Zero: no limit.
    pub per_try: Option<Sourced<Duration>>,
    /// Without a byte in either direction, for bodies and L4 connections. Zero: no limit.
    pub idle: Option<Sourced<Duration>>,
    /// Making the connection to the endpoint.
    pub connect: Option<Sourced<Duration>>,
    /// Further tries after the first, at most 100.
    pub attempts: Option<Sourced<u32>>,
    /// When a try is repeated.
    pub when: Option<Sourced<RetryWhen>>,
    /// Which methods.
    pub methods: Option<Sourced<RetryMethods>>,
    /// Pauses.
    pub backoff: Option<Sourced<Backoff>>,
    /// Budget per client workload and service.
    pub budget: Option<Sourced<Budget>>,
    /// Bytes of a request body that are kept for a further try.
    pub max_body: Option<Sourced<u64>>,
}

/// One policy's contribution to a service. Layers of a service are sorted: the first layer that
/// applies to the caller and sets a field wins that field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Only these callers (any of); absent: all.
    pub callers: Option<Vec<From>>,
    /// What it sets.
    pub fields: Fields,
}

/// What applies to one caller and one service, each value with its origin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resilience {
    pub request: Sourced<Duration>,
    pub per_try: Sourced<Duration>,
    pub idle: Sourced<Duration>,
    pub connect: Sourced<Duration>,
    pub attempts: Sourced<u32>,
    pub when: Sourced<RetryWhen>,
    pub methods: Sourced<RetryMethods>,
    pub backoff: Sourced<Backoff>,
    pub budget: Sourced<Budget>,
    pub max_body: Sourced<u64>,
}

impl Default for Resilience {
    /// What applies without any policy: no timeout but for connecting, and no further try but
    /// the one that provably never reached the application (which needs no `attempts`).
    fn default() -> Self {
        Self {
            request: Sourced::default_of(Duration::ZERO),
            per_try: Sourced::default_of(Duration::ZERO),
            idle: Sourced::default_of(Duration::from_secs(3600)),
            // Long enough for a lost SYN and its first repetition (1 s), short enough to leave
            // a caller that gives up after 3 s time for another endpoint.
            connect: Sourced::default_of(Duration::from_secs(1)),
            attempts: Sourced::default_of(0),
            when: Sourced::default_of(RetryWhen {
                on: [RetryOn::ConnectFailure, RetryOn::RefusedStream].into(),
                codes: BTreeSet::new(),
            }),
            methods: Sourced::default_of(RetryMethods::default()),
            backoff: Sourced::default_of(Backoff {
                base: Duration::from_millis(25),
                max: Duration::from_millis(250),
            }),
            budget: Sourced::default_of(Budget {
                retry_percent: 20,
                interval: Duration::from_secs(10),
                min_per_second: 10,
            }),
            max_body: Sourced::default_of(64 * 1024),
        }
    }
}

//! A refusal: what kind, why, and which field said so.

use std::fmt;

use serde::{Deserialize, Serialize};
use tacit_model::Provenance;

/// What kind of refusal it is; decides the status that the caller sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum DenialKind {
    /// The request itself is malformed, for example its path has an invalid escape.
    BadRequest,
    /// A GRPCRoute leads the call to something that does not resolve.
    BrokenGrpcRoute,
    /// Another route leads the request to something that does not resolve.
    BrokenRoute,
    /// No endpoint can serve it now.
    NoEndpoint,
    /// The service has GRPCRoutes, and no rule of them matches the call of gRPC.
    NoGrpcRoute,
    /// The service has routes, and no rule of them matches the request.
    NoRoute,
    /// The node has been without the control plane for longer than `maxOffline`.
    Offline,
    /// A limit of its workload has no token left for it.
    OverRate {
        /// Whole seconds, at least 1, after which one more would pass if nobody else called.
        retry_after: u64,
    },
    /// A policy, isolation or the mesh's default refuses it.
    Policy,
    /// Nothing in the mesh listens there.
    UnknownDestination,
}

impl DenialKind {
    /// What says so to the caller. An HTTPRoute answers calls of gRPC with statuses of HTTP, too,
    /// as the Gateway API demands of it; clients translate them.
    #[must_use]
    pub fn status(self) -> RefusalStatus {
        match self {
            Self::BadRequest => RefusalStatus::Http(400),
            Self::Policy => RefusalStatus::Http(403),
            Self::NoRoute => RefusalStatus::Http(404),
            Self::OverRate { .. } => RefusalStatus::Http(429),
            Self::BrokenRoute => RefusalStatus::Http(500),
            Self::NoEndpoint | Self::Offline | Self::UnknownDestination => RefusalStatus::Http(503),
            Self::NoGrpcRoute => RefusalStatus::Grpc(12),
            Self::BrokenGrpcRoute => RefusalStatus::Grpc(14),
        }
    }
}

/// The status of an answer that refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RefusalStatus {
    /// Of HTTP: 400, 403, 404, 429, 500 or 503.
    Http(u16),
    /// Of gRPC, in an answer whose status of HTTP is 200: 12 (`UNIMPLEMENTED`) or 14
    /// (`UNAVAILABLE`).
    Grpc(u8),
}

impl fmt::Display for RefusalStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(status) => write!(f, "{status}"),
            Self::Grpc(status) => write!(f, "grpc-status {status}"),
        }
    }
}

/// A refusal by Tacit. It is never retried and never a sign of an endpoint's ill health.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denial {
    /// What kind.
    pub kind: DenialKind,
    /// For people: one sentence without a full stop.
    pub reason: String,
    /// Which field said so; absent if no object did.
    pub by: Option<Provenance>,
}

impl Denial {
    pub(crate) fn new(kind: DenialKind, reason: String) -> Self {
        Self {
            kind,
            reason,
            by: None,
        }
    }

    pub(crate) fn policy(reason: String, by: Provenance) -> Self {
        Self {
            kind: DenialKind::Policy,
            reason,
            by: Some(by),
        }
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.by {
            Some(by) => write!(f, "{} ({by})", self.reason),
            None => f.write_str(&self.reason),
        }
    }
}

impl std::error::Error for Denial {}

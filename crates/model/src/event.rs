//! What happened to one connection or request: the single source of metrics, logs and tests.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::fault::Injected;
use crate::identity::SpiffeId;
use crate::locality::Locality;
use crate::names::{ServiceName, WorkloadName};
use crate::provenance::Provenance;

/// Which half speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reporter {
    /// The callee's node: counts tries.
    Destination,
    /// The caller's node: counts requests.
    Source,
}

/// One side of a call, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Party {
    /// The workload.
    pub workload: Option<WorkloadName>,
    /// The identity: of the mTLS peer, or our own. Never taken from a header.
    pub identity: Option<SpiffeId>,
    /// Where it runs.
    pub locality: Option<Locality>,
    /// The address.
    pub address: Option<SocketAddr>,
}

/// Why a connection or request ended as it did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// As it should.
    Complete,
    /// Refused by policy.
    Denied {
        /// For people.
        reason: String,
        /// Which field said so.
        by: Option<Provenance>,
    },
    /// It went wrong.
    Failed {
        /// A stable word: see [`Fault`].
        fault: Fault,
        /// For people.
        reason: String,
    },
}

/// The refusal that there would have been if policies in `Audit` mode were enforced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audited {
    /// For people.
    pub reason: String,
    /// Which field said so.
    pub by: Option<Provenance>,
}

/// What went wrong, as `response_flags` of the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// The caller went away.
    ClientGone,
    /// The endpoint could not be connected to.
    Connect,
    /// No endpoint to choose.
    NoEndpoint,
    /// What arrived was not the protocol that is declared.
    Protocol,
    /// The endpoint broke the connection.
    Reset,
    /// A FaultPolicy made it fail.
    Injected,
    /// A timeout ran out.
    Timeout,
    /// The TLS handshake failed.
    Tls,
}

/// A finished connection or request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The same at both ends.
    pub id: Arc<str>,
    /// Which half.
    pub reporter: Reporter,
    /// The caller.
    pub source: Party,
    /// The callee that served, or was tried last.
    pub destination: Party,
    /// The service that was called, if any.
    pub service: Option<ServiceName>,
    /// When it began, nanoseconds since 1970.
    pub started_unix_ns: u64,
    /// How long it took.
    pub duration: Duration,
    /// How it ended.
    pub ending: Ending,
    /// Set by the destination only: what an `Audit` policy would have refused.
    pub audit: Option<Audited>,
    /// Set by the source only: what a FaultPolicy did to it.
    pub injected: Option<Box<Injected>>,
    /// Bytes towards the callee.
    pub bytes_sent: u64,
    /// Bytes towards the caller.
    pub bytes_received: u64,
    /// What kind of traffic.
    pub kind: EventKind,
}

/// Kind of traffic, with what is only known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// Opaque bytes.
    Connection,
    /// An HTTP request (source) or try (destination).
    Request {
        method: Arc<str>,
        /// As received, at most 1024 characters.
        path: Arc<str>,
        /// Status of the response to the caller; 0 if none was sent.
        status: u16,
        /// How many tries were made (source), or which try this is, from 1 (destination).
        tries: u32,
        /// Further tries that the budget refused.
        over_budget: u32,
    },
}

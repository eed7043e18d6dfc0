//! The mesh after checking: identities, workloads, services and policies that cannot be wrong.
//!
//! Everything here is a value. There is no IO, no clock and no document: `api` reads what people
//! write, `compiler` turns it into the rows of [`tables`], and both planes share these types.
//! A value that exists is valid: newtypes own their `TryFrom<&str>`.

pub mod access;
pub mod candidates;
pub mod event;
pub mod failover;
pub mod fault;
pub mod finding;
pub mod generation;
pub mod hosting;
pub mod identity;
pub mod labels;
pub mod locality;
pub mod names;
pub mod now;
pub mod policies;
pub mod provenance;
pub mod rate;
pub mod resilience;
pub mod route;
pub mod snapshot;
pub mod status;
pub mod tables;
pub mod trace;

pub use generation::Generation;
pub use identity::{NodeId, SpiffeId, TrustDomain};
pub use locality::Locality;
pub use names::{
    Name, Namespace, NodeName, PolicyName, ServiceAccount, ServiceName, WorkloadName, WorkspaceName,
};
pub use now::{Dice, Now};
pub use provenance::{ObjectRef, Provenance, Sourced};
pub use snapshot::Snapshot;
pub use tables::{Row, RowKey, TableDelta, Tables};

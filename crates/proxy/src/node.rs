//! The node role: what happens in the network namespaces of this machine's workloads.

pub(crate) mod accept;
pub(crate) mod capture;
pub(crate) mod context;
mod ending;
pub(crate) mod host;
mod inbound;
mod judge;
mod listening;
pub(crate) mod local;
pub(crate) mod namespace;
mod outbound;
pub(crate) mod probes;
pub(crate) mod readiness;
mod registry;
pub(crate) mod routes;

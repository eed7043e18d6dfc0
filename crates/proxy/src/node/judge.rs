//! Looks at live connections again, with the functions that let them in.

use std::net::SocketAddr;

use tacit_decide::{ConnectionPermit, Destination, destination, still_allowed};
use tacit_model::Snapshot;

use super::context::row;
use super::local::Local;

/// Why an inbound connection may not go on, if so.
pub(crate) fn inbound(snapshot: &Snapshot, permit: &ConnectionPermit) -> Option<String> {
    still_allowed(snapshot, permit)
        .err()
        .map(|denial| denial.to_string())
}

/// Why an outbound connection may not go on, if so. What was outside and is a service now keeps
/// its connection: only new ones see the service.
pub(crate) fn outbound(snapshot: &Snapshot, local: &Local, to: SocketAddr) -> Option<String> {
    if row(snapshot, local).is_none() {
        return Some(unknown(local));
    }
    match destination(snapshot, to) {
        Destination::Denied(denial) => Some(denial.to_string()),
        Destination::Outside(_) | Destination::Service(_) | Destination::Workload(_) => None,
    }
}

/// Said when the mesh no longer has the workload that a connection belongs to.
pub(crate) fn unknown(local: &Local) -> String {
    format!("workload {} is not in the mesh (any more)", local.name)
}

//! HBONE: each application connection is one HTTP/2 CONNECT stream over mutual TLS.

use std::time::Duration;

use tacit_decide::{ConnectionPermit, InspectPermit};

mod client;
mod server;
mod session;
mod settings;

#[cfg(test)]
mod measure;
#[cfg(test)]
mod raw_peers;
#[cfg(test)]
mod tests;

pub use client::{Heartbeat, OpenRequest, Pool, PoolSettings, SessionChange, SessionEvent};
pub use server::{AcceptError, Acceptor, AcceptorSettings, Authority, ConnectRequest, Drain};
pub use server::{Refusal, Session, SessionError};

/// The port on which HBONE is spoken.
pub const HBONE_PORT: u16 = 15008;

/// How long a peer may take for TLS and the HTTP/2 preface together: generous for a loaded
/// machine, short enough that idle attackers do not pile up.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// The verdict under which the server half takes a connection in.
#[derive(Clone, Copy, Debug)]
pub enum Admission<'a> {
    /// All of it may pass.
    Whole(&'a ConnectionPermit),
    /// It may pass to the HTTP half, which asks for each request.
    Inspected(&'a InspectPermit),
}

//! Moves bytes between workloads: mutual TLS, HBONE, pools, relays, draining. Never their meaning.
//!
//! Everything of one connection lives on one worker thread (current-thread runtime, `LocalSet`).
//! Only [`own`], the mesh's own control connections, crosses threads. No public signature names
//! a type of the TLS or HTTP/2 libraries.

mod buffers;
pub mod capture;
mod certificate;
pub mod dial;
pub mod dormant;
pub mod hbone;
pub mod identity;
pub mod key;
pub mod own;
pub mod relay;
pub mod stream;
#[cfg(test)]
mod testing;
mod tls;

pub use dial::{DialError, DialFault, Phase, SocketFactory, Source};
pub use dormant::Dormant;
pub use hbone::{Acceptor, Admission, ConnectRequest, OpenRequest, Pool};
pub use identity::IdentityStore;
pub use relay::{Closer, Closing, Ended, RelayLimits, Relayed, relay};
pub use stream::{Broken, Stream};

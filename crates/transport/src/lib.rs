//! Moves bytes between workloads: mutual TLS, HBONE, pools, relays, draining. Never their meaning.
//!
//! Everything of one connection lives on one worker thread (current-thread runtime, `LocalSet`).
//! Only [`own`], the mesh's own control connections, crosses threads. No public signature names
//! a type of the TLS or HTTP/2 libraries.

pub mod capture;
pub mod dial;
pub mod hbone;
pub mod identity;
pub mod key;
pub mod own;
pub mod relay;
pub mod stream;
mod tls;

pub use dial::{DialError, DialFault, SocketFactory, Source};
pub use hbone::{Acceptor, ConnectRequest, Pool};
pub use identity::IdentityStore;
pub use relay::{Closer, Ended, Relayed, relay};
pub use stream::{Broken, Stream};

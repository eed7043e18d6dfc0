//! What Linux offers and the standard library does not: the only crate with `unsafe`.
//!
//! Network namespaces, links, nftables, starting processes, user namespaces, descriptors over
//! Unix sockets, socket options, lock files and limits. Nothing here knows what a mesh is.

mod command;
pub mod cpu;
pub mod error;
pub mod fdpass;
pub mod limits;
pub mod link;
pub mod listeners;
pub mod lock;
pub mod netns;
pub mod nft;
pub mod packet;
pub mod signals;
pub mod sockopt;
pub mod spawn;
pub mod sysctl;
pub mod userns;

pub use error::SysError;
pub use netns::NetNs;

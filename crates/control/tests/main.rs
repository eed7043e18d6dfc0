//! The whole control plane in this process, over real sockets: what nodes and people see of it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod admin;
mod garbage;
mod mesh;
mod nodes;

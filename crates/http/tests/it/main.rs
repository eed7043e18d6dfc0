//! Both halves over loopback sockets, with applications that misbehave in every way we know.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod app;
mod client_half;
mod connections;
mod faults;
mod mesh;
mod protocol;
mod rig;
mod server_half;

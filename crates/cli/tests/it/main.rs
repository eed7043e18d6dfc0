//! The real binary on machines of its own: what a person would do, and what must not happen.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod command_line;
mod hello;
mod meshes;
mod observe;
mod peers;
mod readme;
mod support;
mod wrong_input;

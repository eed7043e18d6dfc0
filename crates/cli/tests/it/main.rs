//! The real binary on machines of its own: what a person would do, and what must not happen.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test panics to fail, and says what it cannot show"
)]

mod address;
mod analysis;
mod command_line;
mod decisions;
mod explain;
mod fault_policy;
mod faults;
mod grpc_routes;
mod hello;
mod installed;
mod leftovers;
mod meshes;
mod observe;
mod observed;
mod peers;
mod person;
mod probe;
mod rates;
mod readme;
mod routes;
mod support;
mod tcp_routes;
mod translate;
mod wrong_input;

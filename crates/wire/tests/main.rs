//! One test binary: conversions and both ends of discovery.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod discovery;
mod round_trip;
mod routes;
mod rows;

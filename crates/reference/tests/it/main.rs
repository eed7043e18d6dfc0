//! The engine beside the naive evaluator, from what is written to what is decided.

#![expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a world that cannot be built, or an answer of another sort, must fail the test"
)]

mod compare;
mod coverage;
mod engine;
mod mutations;
mod policies;
mod random;
mod removal;
mod requests;
mod routes;
mod values;
mod worlds;

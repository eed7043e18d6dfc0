//! The tests of the decision engine that need a mesh: one binary, one module for each topic.

#![expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test whose mesh cannot be built, or that meets another outcome, must panic"
)]

mod access;
mod failover;
mod fault;
mod health;
mod measure;
mod observed;
mod rate;
mod replay;
mod resilience;
mod retry;
mod route;
mod why;
mod world;

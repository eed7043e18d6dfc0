//! Tests of the compiler as a whole: goldens, histories, and that order does not matter.
#![expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test that cannot go on fails"
)]

mod examples;
mod golden;
mod history;
mod mesh;
mod render;

//! Questions over compiled states: what people expect, what a failure would do, what a change does.
//!
//! Nothing here decides. Files become a [`Compiled`] state by the compiler; calls are asked of the
//! functions of `decide` that the proxies ask, with a state in which some places are down. What
//! depends on chance is not drawn but taken whole: every endpoint that any dice could choose.

pub mod call;
pub mod compiled;
pub mod diff;
pub mod down;
pub mod policy_test;
pub mod simulate;

mod assumed;
#[cfg(test)]
mod fixture;

pub use compiled::{Compiled, Line};
pub use down::Down;

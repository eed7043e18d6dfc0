//! The real binary on machines of its own: what a person would do, and what must not happen.

mod decisions;
mod hello;
mod support;
mod wrong_input;

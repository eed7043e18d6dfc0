//! The real binary on machines of its own: what a person would do, and what must not happen.

mod address;
mod hello;
mod probe;
mod support;
mod wrong_input;

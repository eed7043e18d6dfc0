//! The demo: a real mesh of four zones on this machine, its applications, its load and its acts.

mod acts;
mod calls;
mod capture;
pub mod client;
mod figures;
mod hosts;
pub mod load;
mod mesh;
mod narrate;
mod process;
mod prompt;
pub mod sample;
mod stage;

pub use stage::{DemoArgs, run};

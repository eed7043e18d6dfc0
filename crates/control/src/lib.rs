//! The control plane: reads sources, compiles, publishes generations, signs certificates, answers.
//!
//! [`run`] is the whole process; [`client`] is the other end of its admin API.

pub mod admin;
mod attend;
mod authority;
pub mod client;
mod clock;
mod engine;
mod error;
mod listen;
pub mod pem;
mod process;
mod publish;
mod random;
mod roster;
mod settings;
mod shared;
mod sources;
mod status;
mod store;
mod tell;
mod who;
mod why;
mod workloads;

pub use authority::AuthorityError;
pub use error::ControlError;
pub use process::run;
pub use settings::{ADMIN_PORT, NODES_PORT, Settings};
pub use store::StoreError;

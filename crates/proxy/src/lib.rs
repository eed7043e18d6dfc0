//! The process of the data plane: captures the traffic of one machine's workloads and moves it.
//!
//! One control thread (configuration, certificates, `run`, metrics) and some worker threads that
//! own the connections. [`run`] is the whole process; [`run_client`] is the other end of its
//! `run` socket.

mod access_log;
mod age;
mod attend;
mod control;
mod control_link;
mod decision_log;
mod declared;
mod discovery;
mod dns;
mod error;
mod events;
mod generation;
mod identities;
mod join;
mod log;
mod log_lines;
mod metrics;
mod node;
pub mod observed;
mod peers;
mod process;
mod program;
pub mod replay;
mod report;
mod rows;
pub mod run_client;
pub mod run_protocol;
mod run_server;
mod sealed;
mod settings;
mod shared;
mod state_dir;
pub mod status_client;
mod status_server;
mod worker;
mod workloads;

pub use error::NodeError;
pub use process::run;
pub use settings::{AccessLog, MAX_WORKERS, METRICS, Settings, default_workers};
pub use tacit_transport::identity::Cipher;

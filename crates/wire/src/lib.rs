//! What crosses process borders: protobuf messages, their conversions, and the discovery protocol.
//!
//! [`convert`] turns rows of the model into messages and back; nothing that is unknown or missing
//! passes. [`client`] and [`server`] are the two ends of delta discovery as plain state machines:
//! messages in, messages out, no socket. [`proto`] has the generated code, tonic services too.

pub mod client;
pub mod convert;
pub mod encoded;
pub mod proto;
pub mod server;

pub use convert::{Invalid, Problem, Wire};
pub use encoded::{COMMIT_TYPE_URL, Encoded, Table};

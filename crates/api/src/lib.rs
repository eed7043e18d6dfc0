//! The resources that people write, exactly as in YAML, with the position of every field.
//!
//! [`parse`] turns text into [`Object`]s and [`SyntaxError`]s; it never stops at the first
//! problem and never panics. Nothing is checked here beyond the shape: names, references and
//! ranges are the compiler's concern. `Option` means that a field may be absent; 0 is a value,
//! and an empty list is not an absent one.

mod decode;
mod tree;

pub mod access;
pub mod failover;
pub mod fault;
pub mod grpc_route;
pub mod http_route;
pub mod mesh;
pub mod object;
pub mod parse;
pub mod policy;
pub mod policy_test;
pub mod position;
pub mod print;
pub mod rate_limit;
pub mod retry_timeout;
pub mod service;
pub mod suggest;
pub mod tcp_route;
pub mod values;
pub mod workload;
pub mod workspace;

pub use access::{AccessPolicy, AccessPolicySpec};
pub use failover::{FailoverPolicy, FailoverPolicySpec};
pub use fault::{FaultPolicy, FaultPolicySpec};
pub use grpc_route::{GRPCRoute, GRPCRouteSpec};
pub use http_route::{HTTPRoute, HTTPRouteSpec};
pub use mesh::{Mesh, MeshSpec};
pub use object::{Kind, Metadata, Object, ObjectKey};
pub use parse::{Parsed, Problem, SyntaxError, parse, parse_bytes};
pub use policy::{Policy, Targeting};
pub use policy_test::PolicyTest;
pub use position::{Located, Position, Positions, Source};
pub use print::{to_json, to_yaml};
pub use rate_limit::{RateLimitPolicy, RateLimitPolicySpec};
pub use retry_timeout::{RetryTimeoutPolicy, RetryTimeoutPolicySpec};
pub use service::{Service, ServiceSpec};
pub use tcp_route::{TCPRoute, TCPRouteSpec};
pub use workload::{Workload, WorkloadSpec};
pub use workspace::{Workspace, WorkspaceSpec};

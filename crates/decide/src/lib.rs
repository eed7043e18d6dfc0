//! The one decision engine: where a call goes, whether it may, which endpoint serves it, whether
//! it is tried again, and why.
//!
//! Everything here is a function of a [`Snapshot`](tacit_model::Snapshot), the [`State`] of this
//! process, and arguments: time comes as [`Now`](tacit_model::Now) and chance as
//! [`Dice`](tacit_model::Dice). The functions that decide in the proxy are the functions that
//! [`why`] explains with.

pub mod authorize;
pub mod balance;
pub mod decider;
pub mod denial;
pub mod destination;
mod failover;
pub mod fault;
pub mod health;
mod matching;
pub mod observed;
pub mod offline;
pub mod path;
pub mod permit;
pub mod rate;
pub mod record;
pub mod renewal;
pub mod replay;
pub mod resilience;
pub mod retry;
pub mod route;
pub mod run;
pub mod state;
pub mod view;
pub mod why;

pub use authorize::{
    ConnectionVerdict, Peer, RequestHead, authorize_connection, authorize_request, still_allowed,
};
pub use balance::{Ask, Choice, Odds, Tried, choose, odds};
pub use decider::Decider;
pub use denial::{Denial, DenialKind, RefusalStatus};
pub use destination::{
    Destination, ServiceTarget, WorkloadTarget, destination, permit_workload, protocol_of,
};
pub use permit::{
    ConnectionPermit, DialPermit, ForwardPermit, InspectPermit, OutsidePermit, RequestPermit,
};
pub use rate::limit_request;
pub use route::{RouteHead, Routed, route};
pub use state::State;

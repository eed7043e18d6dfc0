//! Where traffic goes when a place is unwell: failover after checking.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::locality::Place;
use crate::names::ServiceName;
use crate::provenance::Sourced;

/// A sign of ill health that a policy listens to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Signal {
    /// A connection to the endpoint could not be made.
    Connect,
    /// Response 502, 503 or 504, or a broken connection.
    GatewayError,
    /// The port accepts connections (standalone), the pod is ready (Kubernetes).
    Readiness,
    /// Any response 500-599.
    ServerError,
    /// The tunnel's own heartbeat.
    Session,
    /// A per-try or request timeout.
    Timeout,
}

/// A place and its share inside a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightedPlace {
    /// The place.
    pub place: Place,
    /// Its share, 1-1000; equal weights when none is given.
    pub weight: u32,
}

/// One step of the order, top down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Endpoints in these places.
    Places(Vec<WeightedPlace>),
    /// Another service: the fallback when no place is left.
    Service(ServiceName),
}

/// The order for the clients of some places; the most specific match wins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientOrder {
    /// Whose order this is.
    pub clients: Place,
    /// The steps.
    pub steps: Vec<Step>,
}

/// When an endpoint is taken out for application errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Eject {
    /// Failures in a row.
    pub consecutive: u32,
    /// All of them within this time.
    pub within: Duration,
    /// For how long; doubles with each ejection in a row, up to ten times this.
    pub duration: Duration,
    /// At most this share of a service's endpoints is ejected for application errors, 0-100.
    pub max_percent: u32,
}

/// An active check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The path of the GET; 2xx is healthy.
    pub path: Arc<str>,
    /// Time between checks, at least 1 s.
    pub interval: Duration,
}

/// Signals and what they lead to; goes whole in precedence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// What is listened to. `Connect` and `Session` always make an endpoint unreachable.
    pub signals: BTreeSet<Signal>,
    /// Ejection for application errors.
    pub eject: Option<Eject>,
    /// Active check.
    pub probe: Option<Probe>,
}

/// When fewer are healthy, the share that no longer fits moves on; goes whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spill {
    /// Below this usable share of all endpoints of a step, 1-100.
    pub below_percent: u32,
    /// Time in which the spilled share grows to its full size. Never delays leaving the
    /// unreachable.
    pub ramp: Duration,
}

/// How traffic comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failback {
    /// A place must be well for this long first.
    pub after: Duration,
    /// Time in which its share grows to its full size.
    pub ramp: Duration,
}

/// What happens when no endpoint of the order is healthy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenNoneHealthy {
    /// Use the ejected (never the unready or unreachable).
    Any,
    /// Answer 503.
    Fail,
}

/// The failover of one service, every part with its origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failover {
    /// Order for everybody else, and orders for some clients.
    pub order: Sourced<Vec<Step>>,
    /// Orders for clients in some places.
    pub orders: Vec<ClientOrder>,
    /// Signals.
    pub health: Sourced<Health>,
    /// Spilling.
    pub spill: Sourced<Spill>,
    /// Failing back.
    pub failback: Sourced<Failback>,
    /// The last resort.
    pub when_none_healthy: Sourced<WhenNoneHealthy>,
}

impl Default for Health {
    /// What applies to a service without a FailoverPolicy: the unreachable are avoided, nothing
    /// else is ejected.
    fn default() -> Self {
        Self {
            signals: [Signal::Connect, Signal::Readiness, Signal::Session].into(),
            eject: None,
            probe: None,
        }
    }
}

impl Default for Eject {
    fn default() -> Self {
        Self {
            consecutive: 5,
            within: Duration::from_secs(10),
            duration: Duration::from_secs(30),
            max_percent: 50,
        }
    }
}

impl Default for Spill {
    fn default() -> Self {
        Self {
            below_percent: 70,
            ramp: Duration::from_secs(10),
        }
    }
}

impl Default for Failback {
    fn default() -> Self {
        Self {
            after: Duration::from_secs(30),
            ramp: Duration::from_secs(30),
        }
    }
}

//! One decision as data: what was asked, what was read of the state, and what came out.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tacit_model::fault::Injected;
use tacit_model::resilience::Resilience;
use tacit_model::route::{Candidate, RouteKey};
use tacit_model::tables::Protocol;
use tacit_model::{Dice, Now, ServiceName, Snapshot, SpiffeId, WorkloadName};

use crate::authorize::{ConnectionVerdict, Peer};
use crate::balance::{Choice, Tried};
use crate::denial::Denial;
use crate::destination::Destination;
use crate::offline::Freshness;
use crate::permit::{DialPermit, RequestPermit};
use crate::retry::{Progress, RetryDecision, TryLimit, TryOutcome};
use crate::route::Routed;
use crate::view::StateView;

/// One decision of one request or connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The identifier of the request or connection.
    pub id: Arc<str>,
    /// What was decided.
    pub decision: Decision,
}

/// A record with the snapshot by which it was decided.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The snapshot.
    pub snapshot: Arc<Snapshot>,
    /// The record.
    pub record: Record,
}

/// A question and its answer. The rows that it is about are named; the snapshot has them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decided<Q, A> {
    /// All that went in, besides the snapshot.
    pub asked: Q,
    /// All that came out.
    pub outcome: A,
}

/// Every kind of decision that a request or connection passes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// May anything pass, so old as the node's knowledge is?
    Admit(Decided<Freshness, Result<(), Denial>>),
    /// What happens after a try?
    AfterTry(Decided<TryAsked, TryDecided>),
    /// May this peer connect?
    AuthorizeConnection(Decided<ConnectionAsked, Verdict>),
    /// May this request pass?
    AuthorizeRequest(Decided<RequestAsked, Result<Forward, Denial>>),
    /// Until when must all tries have ended?
    Begin(Decided<BeginAsked, Begun>),
    /// Which endpoint serves this try?
    Choose(Decided<ChooseAsked, Chosen>),
    /// Where does it go?
    Destination(Decided<SocketAddr, Went>),
    /// Which timeouts and retries hold?
    Effective(Decided<Leg, Resilience>),
    /// Is a failure made of it on purpose?
    Inject(Decided<InjectAsked, Injected>),
    /// What does an outcome say of its endpoint?
    Learn(Decided<LearnAsked, StateView>),
    /// Whom may a call by address dial?
    PermitWorkload(Decided<WorkloadAsked, Dial>),
    /// Is the request within the rates of its workload?
    Rate(Decided<RateAsked, Rated>),
    /// Which rule of a route does it follow, and where to?
    Route(Decided<RouteAsked, RoutedTo>),
    /// How long may this try take?
    TryLimit(Decided<LimitAsked, Option<TryLimit>>),
}

impl Decision {
    /// All kinds, as they are written.
    pub const KINDS: [&str; 14] = [
        "admit",
        "after_try",
        "authorize_connection",
        "authorize_request",
        "begin",
        "choose",
        "destination",
        "effective",
        "inject",
        "learn",
        "permit_workload",
        "rate",
        "route",
        "try_limit",
    ];

    /// Which try of its request it is about, from 1, if it is about one.
    #[must_use]
    pub fn which_try(&self) -> Option<u32> {
        match self {
            Self::AfterTry(decided) => Some(decided.asked.progress.tries()),
            Self::Choose(decided) => u32::try_from(decided.asked.tried.len() + 1).ok(),
            Self::TryLimit(decided) => Some(decided.asked.progress.tries()),
            Self::Admit(_)
            | Self::AuthorizeConnection(_)
            | Self::AuthorizeRequest(_)
            | Self::Begin(_)
            | Self::Destination(_)
            | Self::Effective(_)
            | Self::Inject(_)
            | Self::Learn(_)
            | Self::PermitWorkload(_)
            | Self::Rate(_)
            | Self::Route(_) => None,
        }
    }

    /// Its kind, as it is written.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Admit(_) => "admit",
            Self::AfterTry(_) => "after_try",
            Self::AuthorizeConnection(_) => "authorize_connection",
            Self::AuthorizeRequest(_) => "authorize_request",
            Self::Begin(_) => "begin",
            Self::Choose(_) => "choose",
            Self::Destination(_) => "destination",
            Self::Effective(_) => "effective",
            Self::Inject(_) => "inject",
            Self::Learn(_) => "learn",
            Self::PermitWorkload(_) => "permit_workload",
            Self::Rate(_) => "rate",
            Self::Route(_) => "route",
            Self::TryLimit(_) => "try_limit",
        }
    }
}

/// Who calls which service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leg {
    pub source: WorkloadName,
    pub service: ServiceName,
    /// The rule of a route that the request follows.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rule: Option<RuleRef>,
}

/// A rule of a route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleRef {
    pub route: RouteKey,
    /// Of its rules.
    pub rule: usize,
    /// Of the rule's matches.
    pub matching: usize,
}

impl From<&Candidate> for RuleRef {
    fn from(candidate: &Candidate) -> Self {
        Self {
            route: candidate.route.key.clone(),
            rule: candidate.rule,
            matching: candidate.matching,
        }
    }
}

/// What [`crate::route()`] is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteAsked {
    pub leg: Leg,
    pub port: u16,
    pub method: String,
    pub path: String,
    pub query: String,
    pub host: String,
    /// Those that a rule looks at.
    pub headers: BTreeMap<String, String>,
    pub dice: Dice,
}

/// What it answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoutedTo {
    Denied(Denial),
    Direct,
    Forward {
        service: ServiceName,
        port: u16,
        by: RuleRef,
        path: Option<String>,
    },
    Redirect {
        by: RuleRef,
        status: u16,
        location: String,
    },
}

impl From<&Routed> for RoutedTo {
    fn from(routed: &Routed) -> Self {
        match routed {
            Routed::Denied(denial) => Self::Denied(denial.clone()),
            Routed::Direct => Self::Direct,
            Routed::Forward { to, by, path } => Self::Forward {
                service: to.service.name.clone(),
                port: to.port.port,
                by: by.into(),
                path: path.clone(),
            },
            Routed::Redirect {
                by,
                status,
                location,
            } => Self::Redirect {
                by: by.into(),
                status: *status,
                location: location.clone(),
            },
        }
    }
}

/// What [`crate::fault::inject`] is asked. There is no such record where no policy makes failures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InjectAsked {
    pub leg: Leg,
    pub now: Now,
    pub dice: Dice,
}

/// What [`Progress::begin`] is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BeginAsked {
    pub leg: Leg,
    pub method: String,
    pub caller_limit: Option<Duration>,
    pub now: Now,
    pub state: StateView,
}

/// What it answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    pub progress: Progress,
    pub state: StateView,
}

/// What [`crate::choose`] is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChooseAsked {
    pub leg: Leg,
    pub port: u16,
    pub tried: Vec<Tried>,
    pub control_stale: bool,
    pub now: Now,
    pub dice: Dice,
    pub state: StateView,
}

/// What it answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chosen {
    pub endpoint: Result<Endpoint, Denial>,
    pub state: StateView,
}

/// The endpoint of a try.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    pub workload: WorkloadName,
    pub service: ServiceName,
    pub step: usize,
    pub dial: Dial,
}

/// What a dial permit permits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dial {
    pub endpoint: SocketAddr,
    pub expected: SpiffeId,
    pub source: WorkloadName,
}

/// What [`Progress::try_limit`] is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitAsked {
    pub progress: Progress,
    pub now: Now,
}

/// What [`crate::retry::after_try`] is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TryAsked {
    pub progress: Progress,
    pub outcome: TryOutcome,
    pub body_replayable: bool,
    pub now: Now,
    pub dice: Dice,
    pub state: StateView,
}

/// What it answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TryDecided {
    pub decision: RetryDecision,
    pub progress: Progress,
    pub state: StateView,
}

/// What [`crate::State::on_result`] is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LearnAsked {
    pub service: ServiceName,
    pub endpoint: SocketAddr,
    pub outcome: TryOutcome,
    pub now: Now,
    pub state: StateView,
}

/// What [`crate::permit_workload`] is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkloadAsked {
    pub source: WorkloadName,
    pub workload: WorkloadName,
    pub port: u16,
    pub protocol: Protocol,
}

/// What [`crate::authorize_connection`] is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionAsked {
    pub workload: WorkloadName,
    pub port: u16,
    pub peer: Peer,
}

/// What it answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    Allow { audit: Option<Denial> },
    Deny(Denial),
    Inspect { protocol: Protocol },
}

/// What [`crate::authorize_request`] is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestAsked {
    pub workload: WorkloadName,
    pub port: u16,
    pub peer: Peer,
    pub protocol: Protocol,
    pub method: String,
    pub path: String,
    pub host: String,
}

/// What [`crate::limit_request`] is asked. There is no such record where no limit applies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateAsked {
    pub workload: WorkloadName,
    pub port: u16,
    pub peer: Peer,
    pub protocol: Protocol,
    /// Those that a limit looks at.
    pub headers: BTreeMap<String, String>,
    pub now: Now,
    pub state: StateView,
}

/// What it answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rated {
    pub within: Result<(), Denial>,
    pub state: StateView,
}

/// What a request permit permits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forward {
    pub path: Option<String>,
    pub audit: Option<Denial>,
}

/// Where [`crate::destination`] leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Went {
    Denied(Denial),
    Outside(SocketAddr),
    Service {
        service: ServiceName,
        port: u16,
        protocol: Protocol,
    },
    Workload {
        workload: WorkloadName,
        port: u16,
        protocol: Protocol,
    },
}

impl From<&Destination> for Went {
    fn from(destination: &Destination) -> Self {
        match destination {
            Destination::Denied(denial) => Self::Denied(denial.clone()),
            Destination::Outside(permit) => Self::Outside(permit.address()),
            Destination::Service(target) => Self::Service {
                service: target.service.name.clone(),
                port: target.port.port,
                protocol: target.port.protocol,
            },
            Destination::Workload(target) => Self::Workload {
                workload: target.workload.name.clone(),
                port: target.port,
                protocol: target.protocol,
            },
        }
    }
}

impl From<&DialPermit> for Dial {
    fn from(permit: &DialPermit) -> Self {
        Self {
            endpoint: permit.endpoint(),
            expected: permit.expected().clone(),
            source: permit.source().clone(),
        }
    }
}

impl From<&Choice> for Endpoint {
    fn from(choice: &Choice) -> Self {
        Self {
            workload: choice.workload.name.clone(),
            service: choice.service.name.clone(),
            step: choice.step,
            dial: (&choice.permit).into(),
        }
    }
}

impl From<&ConnectionVerdict> for Verdict {
    fn from(verdict: &ConnectionVerdict) -> Self {
        match verdict {
            ConnectionVerdict::Allow(permit) => Self::Allow {
                audit: permit.audit().cloned(),
            },
            ConnectionVerdict::Deny(denial) => Self::Deny(denial.clone()),
            ConnectionVerdict::InspectRequests(permit) => Self::Inspect {
                protocol: permit.protocol(),
            },
        }
    }
}

impl From<&RequestPermit> for Forward {
    fn from(permit: &RequestPermit) -> Self {
        Self {
            path: permit.path().map(str::to_owned),
            audit: permit.audit().cloned(),
        }
    }
}

//! Questions and answers, as plain values that two evaluators can be compared by.

use std::collections::BTreeMap;

use crate::world::Caller;

/// One question.
#[derive(Clone, Debug)]
pub struct Request {
    /// Who calls.
    pub caller: Caller,
    /// The service that is called, `namespace/name`.
    pub service: String,
    /// Its port.
    pub port: u16,
    /// Upper case.
    pub method: String,
    /// As it is sent, without the query.
    pub path: String,
    /// The same in its canonical form, if it has one.
    pub canonical: Option<String>,
    /// Without the question mark.
    pub query: String,
    /// The `Host` header.
    pub host: String,
    /// Other headers, by their lower-case names.
    pub headers: BTreeMap<String, String>,
    /// Which of the world's illnesses the caller knows of.
    pub illness: usize,
    /// Chooses among several backends and endpoints where the answer goes on with one of them.
    pub pick: usize,
}

/// Everything that is decided about one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Where routes lead.
    pub routed: Routed,
    /// Values with their origins, by their names.
    pub values: BTreeMap<&'static str, Set>,
    /// The endpoints of a first try, in the order of steps.
    pub first: Vec<Odds>,
    /// The endpoints of the second and of the third try, sorted.
    pub further: [Vec<String>; 2],
    /// What each endpoint of a first try says to the request.
    pub access: BTreeMap<String, Access>,
    /// The rates of requests at each of them, sorted, each with where it is written.
    pub rates: BTreeMap<String, Vec<String>>,
}

/// A value and who set it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// The value as text.
    pub value: String,
    /// `Kind/namespace/name field`, or `default`.
    pub from: String,
}

/// Where routes lead.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Routed {
    /// The path has no canonical form: 400.
    BadPath,
    /// No route applies: to the service itself.
    #[default]
    Direct,
    /// A rule forwards, to one of these by weight.
    Forward {
        /// `HTTPRoute/namespace/name spec.rules[i]`.
        rule: String,
        /// Backends with a weight above 0.
        ways: Vec<Way>,
        /// Changes of headers, as text.
        headers: String,
    },
    /// Routes apply and no rule matches, or the rule has no backend: 404.
    NotFound,
    /// As `NotFound`, for a call of gRPC where GRPCRoutes apply: the status `UNIMPLEMENTED`.
    Unimplemented,
    /// A rule answers.
    Redirect {
        /// As above.
        rule: String,
        /// The status.
        status: u16,
        /// The `Location` header.
        location: String,
    },
}

/// One backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// It does not resolve, or there is none with a weight: 500.
    Broken,
    /// As `Broken`, of a GRPCRoute: the status `UNAVAILABLE`.
    Unavailable,
    /// A port of a service.
    To {
        /// `namespace/name:port`.
        service: String,
        /// Its share among all.
        weight: u64,
        /// The path that it sees.
        path: String,
        /// The host that it sees.
        host: String,
    },
}

/// An endpoint and how often a first try gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Odds {
    /// `namespace/name:port` of the workload.
    pub endpoint: String,
    /// The step of the order, from 0.
    pub step: usize,
    /// Of a million.
    pub per_million: u64,
}

/// What a server half decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// True if it lets the request pass.
    pub allowed: bool,
    /// What decides.
    pub by: Clause,
    /// What would deny if policies in `Audit` mode counted, if it passes.
    pub audit: Option<Clause>,
    /// The path that is forwarded if it passes, where a rule looks at paths: the canonical one.
    pub path: Option<String>,
}

/// The clause of the algebra that decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Clause {
    /// The path has no canonical form, and a rule looks at paths.
    BadPath,
    /// A policy without a valid version.
    Broken(String),
    /// Two workspaces claim the namespace.
    Contested,
    /// `Mesh.defaultAccess`.
    Default,
    /// Isolation of this workspace.
    Isolation(String),
    /// Allows apply, and none of them matches: these policies.
    NoAllow(Vec<String>),
    /// A rule, `AccessPolicy/namespace/name spec.rules[i]`.
    Rule(String),
}

//! Routing of requests and connections inside the mesh: the rules of a route at one parent Service.
//!
//! Words and meanings are those of the Gateway API (HTTPRoute, GRPCRoute and TCPRoute with a
//! Service as parent, GEP-1294). The one match of a TCPRoute's rule looks at nothing.

use std::cmp::Reverse;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::names::{Namespace, ServiceName};
use crate::provenance::{ObjectRef, Provenance};
use crate::resilience::Layer;
use crate::tables::Protocol;

/// Which rows of a route: one for each parent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RouteKey {
    /// The route, for example `HTTPRoute/shop/payments`.
    pub route: ObjectRef,
    /// The Service that it is attached to.
    pub parent: ServiceName,
    /// Only this port of it; absent: every port.
    pub port: Option<u16>,
}

impl RouteKey {
    /// What follows it.
    #[must_use]
    pub fn kind(&self) -> RouteKind {
        RouteKind::of(&self.route)
    }

    /// True for a GRPCRoute: only requests of gRPC follow it.
    #[must_use]
    pub fn is_grpc(&self) -> bool {
        self.kind() == RouteKind::Grpc
    }
}

/// What follows a route. Of those at one port the first kind alone counts for a namespace
/// (GEP-1294, "Route types").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RouteKind {
    /// Requests of gRPC.
    Grpc,
    /// Requests.
    Http,
    /// Connections.
    Tcp,
}

impl RouteKind {
    /// Of a route.
    #[must_use]
    pub fn of(route: &ObjectRef) -> Self {
        match &*route.kind {
            "GRPCRoute" => Self::Grpc,
            "TCPRoute" => Self::Tcp,
            _ => Self::Http,
        }
    }

    /// At ports of which protocol it holds.
    #[must_use]
    pub fn protocol(self) -> Protocol {
        match self {
            Self::Grpc | Self::Http => Protocol::Http,
            Self::Tcp => Protocol::Tcp,
        }
    }
}

/// A route at one of its parents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteRow {
    pub key: RouteKey,
    /// Where the route lives. In another namespace than its parent it is a consumer's route: it
    /// holds for callers of this namespace only, and before those of the parent's namespace.
    pub namespace: Namespace,
    /// As they are written.
    pub rules: Vec<RouteRule>,
}

/// One rule of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteRule {
    /// The object and field, for example `spec.rules[0]`.
    pub from: Provenance,
    /// Any of these; never none.
    pub matches: Vec<RouteMatch>,
    /// What is changed on the way to a backend and back.
    pub changes: Changes,
    /// What becomes of a request.
    pub action: Action,
    /// Timeouts and retries, sorted, those of the parent included; absent: those of the parent.
    pub resilience: Option<Vec<Layer>>,
}

/// Requests: all parts apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteMatch {
    pub path: PathMatch,
    /// Upper case; absent: any.
    pub method: Option<Arc<str>>,
    /// Lower-case names and the exact values. A header that comes several times has its values
    /// joined by commas.
    pub headers: Vec<(Arc<str>, Arc<str>)>,
    /// Names and exact values; of a parameter that comes several times the first counts.
    pub query: Vec<(Arc<str>, Arc<str>)>,
}

/// A canonical path or prefix of paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathMatch {
    /// This path.
    Exact(Arc<str>),
    /// This path and what is below it, by whole segments: `/a` is a prefix of `/a/b`, not of
    /// `/ab`. Without a slash at the end; `/` itself is empty.
    Prefix(Arc<str>),
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// It goes to one of these, by weight. None, or only weights of 0: it is answered 404 or 500.
    Forward(Vec<Backend>),
    /// It is answered.
    Redirect(Redirect),
}

/// Where a share of requests goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    pub weight: u32,
    pub to: BackendTo,
}

/// What a backend reference means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackendTo {
    /// It does not resolve: its share is answered 500 with this reason.
    Broken(Arc<str>),
    /// A port of a service.
    Service { service: ServiceName, port: u16 },
}

/// What a rule changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub request: HeaderChanges,
    pub response: HeaderChanges,
    /// The host that the backend sees.
    pub host: Option<Arc<str>>,
    /// The path that the backend sees.
    pub path: Option<PathChange>,
}

/// Changes of headers. Names are lower case; a name stands in one of the lists only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderChanges {
    pub set: Vec<(Arc<str>, Arc<str>)>,
    pub add: Vec<(Arc<str>, Arc<str>)>,
    pub remove: Vec<Arc<str>>,
}

/// A change of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathChange {
    /// Instead of all of it.
    Full(Arc<str>),
    /// Instead of the prefix that matched; without a slash at the end.
    Prefix(Arc<str>),
}

/// An answer that sends the caller elsewhere. What is absent is as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    pub scheme: Option<Arc<str>>,
    pub host: Option<Arc<str>>,
    pub path: Option<PathChange>,
    pub port: Option<u16>,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
}

/// One match of one rule, as it stands among all of a parent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub route: Arc<RouteRow>,
    /// Of `route.rules`.
    pub rule: usize,
    /// Of the rule's `matches`.
    pub matching: usize,
}

impl Candidate {
    /// Every match of a row.
    pub fn all_of(route: &Arc<RouteRow>) -> impl Iterator<Item = Self> {
        let rules = route.rules.iter().enumerate();
        rules.flat_map(move |(index, rule)| {
            (0..rule.matches.len()).map(move |matching| Self {
                route: Arc::clone(route),
                rule: index,
                matching,
            })
        })
    }

    /// The rule that it is of.
    #[must_use]
    pub fn rule(&self) -> Option<&RouteRule> {
        self.route.rules.get(self.rule)
    }

    /// The match itself.
    #[must_use]
    pub fn conditions(&self) -> Option<&RouteMatch> {
        self.rule()?.matches.get(self.matching)
    }

    /// Its place among the matches of one parent (Gateway API, `HTTPRouteRule.matches`): the least
    /// comes first. For a GRPCRoute the same order is that of `GRPCRouteRule.matches`: of matches
    /// that fit one request, an exact path names service and method, and a prefix the service.
    /// Files have no age, so that step is left out.
    #[must_use]
    pub fn rank(&self) -> impl Ord + use<> {
        let conditions = self.conditions();
        let path = conditions.map(|found| match &found.path {
            PathMatch::Exact(path) => (0, Reverse(path.len())),
            PathMatch::Prefix(path) => (1, Reverse(path.len())),
        });
        let counts = conditions.map(|found| {
            (
                found.method.is_none(),
                Reverse(found.headers.len()),
                Reverse(found.query.len()),
            )
        });
        let name = &self.route.key.route;
        (
            path,
            counts,
            (name.namespace.clone(), name.name.clone()),
            (self.rule, self.matching),
        )
    }
}

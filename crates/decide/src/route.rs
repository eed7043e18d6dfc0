//! Which rule of which route a request follows, and where that leads.
//!
//! A route is attached to a Service, its parent. Where one applies to the caller it takes the
//! place of the Service's own endpoints: what no rule matches is answered 404 (GEP-1294).

use std::sync::Arc;

use tacit_model::candidates::Candidates;
use tacit_model::route::{
    Action, Backend, BackendTo, Candidate, PathChange, PathMatch, Redirect, RouteKind, RouteMatch,
};
use tacit_model::tables::WorkloadRow;
use tacit_model::{Dice, Namespace, Snapshot};

use crate::denial::{Denial, DenialKind};
use crate::destination::ServiceTarget;

/// The media type of gRPC, before a suffix.
const GRPC_TYPE: &str = "application/grpc";

/// What a rule can look at.
pub struct RouteHead<'a> {
    /// Upper case.
    pub method: &'a str,
    /// In its canonical form.
    pub path: &'a str,
    /// Without the question mark; empty if there is none.
    pub query: &'a str,
    /// As it was sent, with its port if it had one; empty if there was none.
    pub host: &'a str,
    /// The value of a header by its lower-case name, besides `host`; several are joined by commas.
    pub header: &'a dyn Fn(&str) -> Option<String>,
}

impl RouteHead<'_> {
    /// Of a connection, at which the rules that connections follow look at nothing.
    #[must_use]
    pub fn connection() -> Self {
        Self {
            method: "",
            path: "",
            query: "",
            host: "",
            header: &|_| None,
        }
    }
}

/// Where a request to a service goes.
#[derive(Clone, Debug)]
pub enum Routed {
    /// Nowhere: no rule matches, or the reference that it follows does not resolve.
    Denied(Denial),
    /// To the service itself: no route applies.
    Direct,
    /// To a backend of a rule.
    Forward {
        to: ServiceTarget,
        by: Candidate,
        /// What the backend sees as the path, if the rule changes it.
        path: Option<String>,
    },
    /// It is answered with this status and location.
    Redirect {
        by: Candidate,
        status: u16,
        location: String,
    },
}

/// Decides where a request to `parent` goes.
#[must_use]
pub fn route(
    s: &Snapshot,
    source: &WorkloadRow,
    parent: &ServiceTarget,
    head: &RouteHead<'_>,
    dice: Dice,
) -> Routed {
    match matched(s, source, parent, head) {
        Ok(by) => follow(s, by, (parent, head), |backends| pick(backends, dice)),
        Err(routed) => routed,
    }
}

/// Everything that [`route`] may say, each with its weight among all: what all dice together come
/// to, without any.
#[must_use]
pub fn every(
    s: &Snapshot,
    source: &WorkloadRow,
    parent: &ServiceTarget,
    head: &RouteHead<'_>,
) -> Vec<(u32, Routed)> {
    let by = match matched(s, source, parent, head) {
        Ok(by) => by,
        Err(routed) => return vec![(1, routed)],
    };
    let backends: &[Backend] = match by.rule().map(|rule| &rule.action) {
        Some(Action::Forward(backends)) => backends,
        Some(Action::Redirect(_)) | None => &[],
    };
    let backends = backends.iter().filter(|backend| backend.weight > 0);
    let all: Vec<(u32, Routed)> = backends
        .map(|one| (one.weight, follow(s, by, (parent, head), |_| Some(one))))
        .collect();
    if all.is_empty() {
        let routed = follow(s, by, (parent, head), |backends| pick(backends, Dice(0)));
        vec![(1, routed)]
    } else {
        all
    }
}

/// The match that a request follows; else what becomes of it without one.
fn matched<'a>(
    s: &'a Snapshot,
    source: &'a WorkloadRow,
    parent: &'a ServiceTarget,
    head: &RouteHead<'_>,
) -> Result<&'a Candidate, Routed> {
    let name = &parent.service.name;
    let port = parent.port.port;
    let holder = s
        .routes_at(name)
        .and_then(|all| Some((all, holder(all, source, parent)?)));
    let Some((all, holder)) = holder else {
        return Err(Routed::Direct);
    };
    let mut here = all
        .at(head.path)
        .filter(|found| counts(found, holder, port));
    let fits = |found: &&Candidate| {
        let conditions = found.conditions();
        conditions.is_some_and(|conditions| matches(conditions, head))
            && (holder.kind != RouteKind::Grpc || is_grpc(head))
    };
    if let Some(found) = here.find(fits) {
        return Ok(found);
    }
    let reason = format!(
        "no rule of the routes of {name} matches {} {}",
        head.method, head.path
    );
    let kind = match holder.kind == RouteKind::Grpc && is_grpc(head) {
        true => DenialKind::NoGrpcRoute,
        false => DenialKind::NoRoute,
    };
    Err(Routed::Denied(Denial::new(kind, reason)))
}

/// True if a request or connection to this port may follow a route: it is then to be asked for.
#[must_use]
pub fn follows_routes(s: &Snapshot, parent: &ServiceTarget) -> bool {
    let all = s.routes_at(&parent.service.name);
    all.is_some_and(|all| all.has_for(parent.port.protocol))
}

/// The matches that count for this caller, the first first.
pub(crate) fn applicable<'a>(
    s: &'a Snapshot,
    source: &'a WorkloadRow,
    parent: &'a ServiceTarget,
) -> impl Iterator<Item = &'a Candidate> {
    let found = s.routes_at(&parent.service.name);
    let found = found.and_then(|all| Some((all, holder(all, source, parent)?)));
    let port = parent.port.port;
    found.into_iter().flat_map(move |(all, holder)| {
        let all = all.all().iter();
        all.filter(move |found| counts(found, holder, port))
    })
}

/// True for a request of gRPC: a POST with its media type (gRPC over HTTP/2, "Requests").
fn is_grpc(head: &RouteHead<'_>) -> bool {
    head.method == "POST" && (head.header)("content-type").is_some_and(|found| is_grpc_type(&found))
}

/// True for gRPC's media type; that of gRPC-Web, another protocol, is none.
fn is_grpc_type(content_type: &str) -> bool {
    let ends = |rest: &str| rest.is_empty() || rest.starts_with(['+', ';']);
    let start = content_type.get(..GRPC_TYPE.len());
    start.is_some_and(|start| start.eq_ignore_ascii_case(GRPC_TYPE))
        && content_type.get(GRPC_TYPE.len()..).is_some_and(ends)
}

/// Whose routes count, and of which kind.
#[derive(Clone, Copy)]
struct Holder<'a> {
    namespace: &'a Namespace,
    kind: RouteKind,
}

/// Whose routes count for this caller: those of its own namespace (a consumer's), else those of
/// the namespace of the service; nothing if there are none.
fn holder<'a>(
    all: &Candidates,
    source: &'a WorkloadRow,
    parent: &'a ServiceTarget,
) -> Option<Holder<'a>> {
    let (port, protocol) = (parent.port.port, parent.port.protocol);
    let (own, home) = (&source.class.namespace, &parent.service.name.namespace);
    [own, home].into_iter().find_map(|namespace| {
        let kind = all.kind_at(namespace, port, protocol)?;
        Some(Holder { namespace, kind })
    })
}

fn counts(candidate: &Candidate, holder: Holder<'_>, port: u16) -> bool {
    let route = &candidate.route;
    route.namespace == *holder.namespace
        && route.key.kind() == holder.kind
        && route.key.port.is_none_or(|of| of == port)
}

fn matches(conditions: &RouteMatch, head: &RouteHead<'_>) -> bool {
    let RouteMatch {
        path,
        method,
        headers,
        query,
    } = conditions;
    let header = |(name, value): &(Arc<str>, Arc<str>)| match &**name {
        "host" => *head.host == **value,
        name => (head.header)(name).is_some_and(|found| found == **value),
    };
    let parameter = |(name, value): &(Arc<str>, Arc<str>)| {
        parameter(head.query, name).is_some_and(|found| found == **value)
    };
    method.as_deref().is_none_or(|method| method == head.method)
        && path_matches(path, head.path)
        && headers.iter().all(header)
        && query.iter().all(parameter)
}

fn path_matches(wanted: &PathMatch, path: &str) -> bool {
    match wanted {
        PathMatch::Exact(wanted) => **wanted == *path,
        PathMatch::Prefix(prefix) => path
            .strip_prefix(&**prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
    }
}

/// The value of the first parameter with this name, percent-decoded; `+` stays.
fn parameter(query: &str, name: &str) -> Option<String> {
    let pairs = query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let found = pairs.into_iter().find(|(key, _)| decoded(key) == name);
    found.map(|(_, value)| decoded(value))
}

fn decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = match rest {
            [b'%', high, low, ..] => crate::path::byte(*high, *low),
            _ => None,
        };
        rest = match escaped {
            Some(_) => &tail[2..],
            None => tail,
        };
        out.push(escaped.unwrap_or(*first));
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn follow<'a>(
    s: &Snapshot,
    by: &'a Candidate,
    (parent, head): (&ServiceTarget, &RouteHead<'_>),
    pick: impl FnOnce(&'a [Backend]) -> Option<&'a Backend>,
) -> Routed {
    let Some(rule) = by.rule() else {
        return Routed::Direct;
    };
    let denied = |kind, reason: String| {
        Routed::Denied(Denial {
            kind,
            reason,
            by: Some(rule.from.clone()),
        })
    };
    let (nowhere, broken) = match by.route.key.is_grpc() {
        true => (DenialKind::NoGrpcRoute, DenialKind::BrokenGrpcRoute),
        false => (DenialKind::NoRoute, DenialKind::BrokenRoute),
    };
    let backends = match &rule.action {
        Action::Redirect(redirect) => {
            return Routed::Redirect {
                by: by.clone(),
                status: redirect.status,
                location: location(by, redirect, parent.port.port, head),
            };
        }
        Action::Forward(backends) if backends.is_empty() => {
            return denied(nowhere, "the rule has no backend".into());
        }
        Action::Forward(backends) => backends,
    };
    let Some(backend) = pick(backends) else {
        let reason = "every backend of the rule has weight 0";
        return denied(broken, reason.into());
    };
    let change = rule.changes.path.as_ref();
    match target(s, &backend.to) {
        Ok(to) => Routed::Forward {
            to,
            by: by.clone(),
            path: change.map(|change| changed(by, change, head.path)),
        },
        Err(reason) => denied(broken, reason),
    }
}

/// One backend, each with the probability of its weight.
fn pick(backends: &[Backend], dice: Dice) -> Option<&Backend> {
    let total: u64 = backends
        .iter()
        .map(|backend| u64::from(backend.weight))
        .sum();
    let (mut left, _) = dice.below(total);
    backends.iter().find(|backend| {
        let weight = u64::from(backend.weight);
        let is_it = left < weight;
        left = left.saturating_sub(weight);
        is_it
    })
}

/// The service that a backend means; else why there is none.
pub fn target(s: &Snapshot, to: &BackendTo) -> Result<ServiceTarget, String> {
    let (name, port) = match to {
        BackendTo::Broken(why) => return Err(why.to_string()),
        BackendTo::Service { service, port } => (service, *port),
    };
    let service = s.services.get(name);
    let service = service.ok_or_else(|| format!("there is no service {name}"))?;
    let found = service.ports.iter().find(|known| known.port == port);
    let found = found.ok_or_else(|| format!("service {name} has no port {port}"))?;
    Ok(ServiceTarget {
        service: Arc::clone(service),
        port: found.clone(),
    })
}

/// The path that a rule makes of a canonical one that it matched.
fn changed(by: &Candidate, change: &PathChange, path: &str) -> String {
    let (replacement, prefix) = match change {
        PathChange::Full(path) => return path.to_string(),
        PathChange::Prefix(replacement) => (replacement, by.conditions().map(|found| &found.path)),
    };
    let rest = match prefix {
        Some(PathMatch::Prefix(prefix)) => path.strip_prefix(&**prefix).unwrap_or(path),
        Some(PathMatch::Exact(_)) | None => path,
    };
    match format!("{replacement}{rest}") {
        empty if empty.is_empty() => "/".into(),
        path => path,
    }
}

/// Where a redirect leads. A request without a host is sent to another path of where it came.
fn location(by: &Candidate, redirect: &Redirect, port: u16, head: &RouteHead<'_>) -> String {
    let path = match &redirect.path {
        Some(change) => changed(by, change, head.path),
        None => head.path.to_owned(),
    };
    let mark = if head.query.is_empty() { "" } else { "?" };
    let path = format!("{path}{mark}{}", head.query);
    let own = head
        .host
        .rsplit_once(':')
        .filter(|(_, port)| !port.ends_with(']'));
    let own = own.map_or(head.host, |(host, _)| host);
    let host = redirect.host.as_deref().unwrap_or(own);
    if host.is_empty() {
        return path;
    }
    let scheme = redirect.scheme.as_deref().unwrap_or("http");
    let standard = if scheme == "https" { 443 } else { 80 };
    let written = redirect.scheme.is_some().then_some(standard);
    match redirect.port.or(written).unwrap_or(port) {
        port if port == standard => format!("{scheme}://{host}{path}"),
        port => format!("{scheme}://{host}:{port}{path}"),
    }
}

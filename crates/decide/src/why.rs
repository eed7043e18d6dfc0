//! Why a call goes as it goes: the decisions of enforcement, asked in order, with their steps told.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tacit_model::resilience::{Resilience, RetryOn};
use tacit_model::route::Candidate;
use tacit_model::tables::{ClassKey, Protocol, WorkloadRow};
use tacit_model::trace::{Trace, TraceStep};
use tacit_model::{
    Dice, Locality, Namespace, Now, Provenance, ServiceName, Snapshot, Sourced, SpiffeId,
    WorkloadName,
};

use crate::authorize::{
    self, ConnectionVerdict, Peer, RequestHead, authorize_request_traced, explain_connection,
};
use crate::balance::{Ask, Choice, choose_traced};
use crate::denial::{Denial, DenialKind};
use crate::destination::{Destination, ServiceTarget, destination, protocol_of};
use crate::fault::{self, Faults};
use crate::offline::{Freshness, admit};
use crate::path::canonical;
use crate::rate::applying;
use crate::resilience::effective;
use crate::route::{RouteHead, Routed, follows_routes, route};
use crate::state::State;

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// A caller that need not exist, at a place.
    Identity(SpiffeId, Locality),
    /// A workload of the mesh.
    Workload(WorkloadName),
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// Who calls.
    pub from: Source,
    /// A name or address, as the application would use it: `payments`, `payments.shop`,
    /// `payments.shop.svc.cluster.local`, `10.96.1.2`.
    pub host: String,
    /// The port.
    pub port: u16,
    /// For HTTP.
    pub method: String,
    /// For HTTP; with the query, if there is one.
    pub path: String,
    /// For HTTP: headers by their lower-case names.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
}

/// What would happen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// It is served.
    Allowed {
        /// By this workload; `None` if it leaves the mesh, or is answered by a route.
        served_by: Option<WorkloadName>,
        /// There.
        locality: Option<Locality>,
    },
    /// It is refused.
    Denied(Denial),
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// What would happen.
    pub verdict: Verdict,
    /// The steps that lead there, each with its origin.
    pub trace: Trace,
    /// Timeouts and retries, if the call goes to a service.
    pub limits: Option<Limits>,
}

/// Timeouts and retries with their origins; times in milliseconds, 0 for no limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// All tries together.
    pub request_ms: Sourced<u64>,
    /// One try.
    pub per_try_ms: Sourced<u64>,
    /// Connecting.
    pub connect_ms: Sourced<u64>,
    /// Tries after the first.
    pub attempts: Sourced<u32>,
}

impl Limits {
    fn of(r: &Resilience) -> Self {
        let ms = |limit: &Sourced<std::time::Duration>| Sourced {
            value: u64::try_from(limit.value.as_millis()).unwrap_or(u64::MAX),
            from: limit.from.clone(),
        };
        Self {
            request_ms: ms(&r.request),
            per_try_ms: ms(&r.per_try),
            connect_ms: ms(&r.connect),
            attempts: r.attempts.clone(),
        }
    }
}

/// Why a text is not a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidTarget(pub String);

impl std::fmt::Display for InvalidTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidTarget {}

/// Takes a target apart: `http://HOST[:PORT][/PATH]`, `tcp://HOST:PORT` or `HOST:PORT`.
/// Returns host, port and path.
pub fn parse_target(text: &str) -> Result<(String, u16, String), InvalidTarget> {
    let invalid = |why: &str| {
        let fix = "write http://HOST/PATH or HOST:PORT";
        InvalidTarget(format!("{text:?} is not a target: {why}; {fix}"))
    };
    let (rest, default_port) = match text.split_once("://") {
        Some(("http", rest)) => (rest, Some(80)),
        Some(("tcp", rest)) => (rest, None),
        Some(_) => return Err(invalid("only the schemes http and tcp are known")),
        None => (text, None),
    };
    let (authority, path) = match rest.find('/') {
        Some(slash) => rest.split_at(slash),
        None => (rest, "/"),
    };
    let bracketed = authority
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'));
    let (host, port) = match bracketed {
        Some((host, "")) => (host, None),
        Some((host, port)) => (host, port.strip_prefix(':')),
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    if host.is_empty() {
        return Err(invalid("it has no host"));
    }
    let port = match port {
        Some(port) => port
            .parse()
            .map_err(|_| invalid("its port is not 1-65535"))?,
        None => default_port.ok_or_else(|| invalid("it has no port"))?,
    };
    Ok((host.to_owned(), port, path.to_owned()))
}

/// Answers a question. Without `state` (away from the enforcing node) all endpoints are assumed
/// to be well, and steps that depend on it say so.
#[must_use]
pub fn explain(
    s: &Snapshot,
    state: Option<&State>,
    freshness: Freshness,
    question: &Question,
    now: Now,
    dice: Dice,
) -> Answer {
    let mut explaining = Explaining {
        s,
        state,
        now,
        dice,
        trace: Trace::default(),
        limits: None,
    };
    let verdict = admit(freshness).and_then(|()| explaining.call(question));
    let verdict = verdict.unwrap_or_else(|denial| {
        let told = explaining
            .trace
            .0
            .last()
            .is_some_and(|step| step.outcome == denial.reason);
        if !told {
            let topic = match denial.kind {
                DenialKind::BadRequest | DenialKind::Policy => "access",
                DenialKind::OverRate { .. } => "rate",
                DenialKind::BrokenGrpcRoute
                | DenialKind::BrokenRoute
                | DenialKind::NoGrpcRoute
                | DenialKind::NoRoute => "route",
                DenialKind::NoEndpoint => "endpoint",
                DenialKind::Offline | DenialKind::UnknownDestination => "destination",
            };
            explaining
                .trace
                .step(topic, denial.reason.clone(), denial.by.clone());
        }
        Verdict::Denied(denial)
    });
    Answer {
        verdict,
        trace: explaining.trace,
        limits: explaining.limits,
    }
}

/// Where routes lead.
enum Way {
    Answered,
    Direct,
    Forward(Box<(ServiceTarget, Candidate, Question)>),
}

struct Explaining<'a> {
    s: &'a Snapshot,
    state: Option<&'a State>,
    now: Now,
    dice: Dice,
    trace: Trace,
    limits: Option<Limits>,
}

impl Explaining<'_> {
    fn call(&mut self, question: &Question) -> Result<Verdict, Denial> {
        let (source, peer) = caller(self.s, &question.from)?;
        let to = resolve(self.s, &source, &question.host, question.port)?;
        match destination(self.s, to) {
            Destination::Denied(denial) => Err(denial),
            Destination::Outside(_) => {
                let from = Some(self.s.mesh.egress.from.clone());
                self.trace
                    .step("destination", format!("{to} is outside the mesh"), from);
                Ok(Verdict::Allowed {
                    served_by: None,
                    locality: None,
                })
            }
            Destination::Workload(target) => {
                let text = format!("{to} is workload {}", target.workload.name);
                self.trace.step("destination", text, None);
                self.access(&target.workload, target.port, &peer, question)
            }
            Destination::Service(parent) => {
                let text = format!("{to} is service {}", parent.service.name);
                self.trace.step("destination", text, None);
                let (target, by, question) = match self.route(&source, &parent, question)? {
                    Way::Answered => {
                        return Ok(Verdict::Allowed {
                            served_by: None,
                            locality: None,
                        });
                    }
                    Way::Direct => (parent.clone(), None, question.clone()),
                    Way::Forward(way) => {
                        let (target, by, question) = *way;
                        (target, Some(by), question)
                    }
                };
                self.faults(&source, &parent);
                let choice = self.endpoint(&source, &target)?;
                self.resilience(&source, &parent, by.as_ref());
                self.access(&choice.workload, choice.endpoint.port(), &peer, &question)
            }
        }
    }

    /// Where the routes of a service lead, and the request as the backend sees it.
    fn route(
        &mut self,
        source: &WorkloadRow,
        parent: &ServiceTarget,
        question: &Question,
    ) -> Result<Way, Denial> {
        if !follows_routes(self.s, parent) {
            return Ok(Way::Direct);
        }
        let (path, query) = question
            .path
            .split_once('?')
            .unwrap_or((&question.path, ""));
        let is_connection = parent.port.protocol == Protocol::Tcp;
        let path = match is_connection {
            true => path.to_owned(),
            false => canonical(path).map_err(|error| {
                let reason = format!("the path has no canonical form: {error}");
                Denial::new(DenialKind::BadRequest, reason)
            })?,
        };
        let head = match is_connection {
            true => RouteHead::connection(),
            false => RouteHead {
                method: &question.method,
                path: &path,
                query,
                host: &question.host,
                header: &|name| question.headers.get(name).cloned(),
            },
        };
        let (to, by, changed) = match route(self.s, source, parent, &head, self.dice) {
            Routed::Denied(denial) => return Err(denial),
            Routed::Direct => return Ok(Way::Direct),
            Routed::Forward { to, by, path } => (to, by, path),
            Routed::Redirect {
                by,
                status,
                location,
            } => {
                let text = format!("it is answered {status} with the location {location}");
                let from = by.rule().map(|rule| rule.from.clone());
                self.trace.step("route", text, from);
                return Ok(Way::Answered);
            }
        };
        let text = format!(
            "a rule leads to service {} port {}",
            to.service.name, to.port.port
        );
        let rule = by.rule();
        self.trace
            .step("route", text, rule.map(|rule| rule.from.clone()));
        let host = rule.and_then(|rule| rule.changes.host.as_deref());
        let question = Question {
            host: host.unwrap_or(&question.host).to_owned(),
            path: changed.unwrap_or(path),
            ..question.clone()
        };
        Ok(Way::Forward(Box::new((to, by, question))))
    }

    fn endpoint(&mut self, source: &WorkloadRow, to: &ServiceTarget) -> Result<Choice, Denial> {
        let ask = Ask {
            source,
            service: &to.service,
            port: &to.port,
            tried: &[],
            control_stale: false,
        };
        let nothing_learnt = State::new();
        let state = self.state.unwrap_or(&nothing_learnt);
        let before = self.trace.0.len();
        let trace = Some(&mut self.trace);
        let choice = choose_traced(self.s, state, &ask, self.now, self.dice, trace, None);
        for step in &mut self.trace.0[before..] {
            step.assumed = self.state.is_none();
        }
        choice
    }

    fn resilience(&mut self, source: &WorkloadRow, to: &ServiceTarget, by: Option<&Candidate>) {
        let rule = by.and_then(Candidate::rule);
        let r = effective(self.s, &to.service, rule, source);
        let time = |limit: &Sourced<std::time::Duration>| {
            if limit.value.is_zero() {
                "none".to_owned()
            } else {
                format!("{:?}", limit.value)
            }
        };
        let set = |from: &Provenance| Some(from.clone()).filter(|f| *f != Provenance::Default);
        let trace = &mut self.trace;
        let outcome = format!("connect {}", time(&r.connect));
        trace.step("timeout", outcome, set(&r.connect.from));
        if to.port.protocol == Protocol::Http {
            trace.step(
                "timeout",
                format!("request {}", time(&r.request)),
                set(&r.request.from),
            );
            trace.step(
                "timeout",
                format!("perTry {}", time(&r.per_try)),
                set(&r.per_try.from),
            );
            let outcome = format!("attempts {}", r.attempts.value);
            trace.step("retry", outcome, set(&r.attempts.from));
            trace.step("retry", format!("on {}", names(&r)), set(&r.when.from));
        }
        self.limits = Some(Limits::of(&r));
    }

    /// The failures that are made on purpose. Whom they befall is chance, so that none of them
    /// does is assumed.
    fn faults(&mut self, source: &WorkloadRow, to: &ServiceTarget) {
        if to.port.protocol != Protocol::Http {
            return;
        }
        let Faults { delay, abort } = fault::holding(self.s, &to.service, source, self.now);
        let delay = delay.map(|found| (found.value.to_string(), found.from));
        let abort = abort.map(|found| (found.value.to_string(), found.from));
        for (outcome, from) in delay.into_iter().chain(abort) {
            self.trace.0.push(TraceStep {
                topic: "fault".into(),
                outcome: format!("{outcome}, on purpose"),
                from: Some(from),
                assumed: true,
            });
        }
    }

    /// The rates that hold where it arrives. How much of them is left, only the callee's node
    /// knows, so it is assumed that something is.
    fn rates(&mut self, callee: &WorkloadRow, port: u16) {
        for of in applying(self.s, callee, port) {
            for (index, limit) in of.limits.iter().enumerate() {
                self.trace.0.push(TraceStep {
                    topic: "rate".into(),
                    outcome: format!("at most {limit}; {} counts for itself", callee.name),
                    from: Some(of.origin(index)),
                    assumed: true,
                });
            }
        }
    }

    fn access(
        &mut self,
        callee: &WorkloadRow,
        port: u16,
        peer: &Peer,
        question: &Question,
    ) -> Result<Verdict, Denial> {
        let head = RequestHead {
            method: &question.method,
            path: &question.path,
            host: &question.host,
        };
        access(self.s, callee, port, peer, &head, &mut self.trace)?;
        self.rates(callee, port);
        Ok(Verdict::Allowed {
            served_by: Some(callee.name.clone()),
            locality: Some(callee.locality.clone()),
        })
    }
}

/// The caller as enforcement sees it: its row for the client half, its peer for the server half.
/// One that need not exist gets a row of its own.
pub fn caller(s: &Snapshot, from: &Source) -> Result<(Arc<WorkloadRow>, Peer), Denial> {
    let row = match from {
        Source::Workload(name) => s.workloads.get(name).cloned().ok_or_else(|| {
            let reason = format!("there is no workload {name} to call from");
            Denial::new(DenialKind::UnknownDestination, reason)
        })?,
        Source::Identity(id, locality) => Arc::new(assumed_row(id, locality)?),
    };
    let identity = match from {
        Source::Workload(_) => row.identity(&s.mesh.trust_domain),
        Source::Identity(id, _) => id.clone(),
    };
    let peer = Peer {
        identity: Some(identity),
        address: SocketAddr::new(row.address, 0),
    };
    Ok((row, peer))
}

/// The address that a host and a port mean inside the caller's namespace.
pub fn resolve(
    s: &Snapshot,
    source: &WorkloadRow,
    host: &str,
    port: u16,
) -> Result<SocketAddr, Denial> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(SocketAddr::new(address, port));
    }
    let service = service_named(host, &source.class.namespace)
        .and_then(|name| s.services.get(&name))
        .ok_or_else(|| {
            let reason = format!("there is no service {host:?} in the mesh");
            Denial::new(DenialKind::UnknownDestination, reason)
        })?;
    Ok(SocketAddr::new(service.address, port))
}

/// What the server half of `callee` decides about one call: the connection, and the request where
/// requests are read. Tells each step to `trace`.
pub fn access(
    s: &Snapshot,
    callee: &WorkloadRow,
    port: u16,
    peer: &Peer,
    head: &RequestHead<'_>,
    trace: &mut Trace,
) -> Result<(), Denial> {
    if protocol_of(s, callee, port) == Protocol::Tcp {
        match explain_connection(s, callee, port, peer, trace) {
            ConnectionVerdict::Allow(_) => return Ok(()),
            ConnectionVerdict::Deny(denial) => return Err(denial),
            ConnectionVerdict::InspectRequests(_) => {}
        }
    }
    match authorize::authorize_connection(s, callee, port, peer) {
        ConnectionVerdict::Allow(_) => Ok(()),
        ConnectionVerdict::Deny(denial) => Err(denial),
        ConnectionVerdict::InspectRequests(permit) => {
            authorize_request_traced(s, &permit, head, Some(trace)).map(drop)
        }
    }
}

/// `svc`, `svc.ns`, `svc.ns.svc` or `svc.ns.svc.cluster.local`, as the caller's resolver reads it.
pub(crate) fn service_named(host: &str, own: &Namespace) -> Option<ServiceName> {
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let host = host.strip_suffix(".svc.cluster.local").unwrap_or(&host);
    let host = host.strip_suffix(".svc").unwrap_or(host);
    match host.split_once('.') {
        Some((name, namespace)) => ServiceName::parse(namespace, name).ok(),
        None => ServiceName::parse(own.as_str(), host).ok(),
    }
}

/// A row for a caller that need not exist: no labels, no ports, no address.
fn assumed_row(id: &SpiffeId, locality: &Locality) -> Result<WorkloadRow, Denial> {
    let internal = |error: tacit_model::names::InvalidName| {
        Denial::new(DenialKind::BadRequest, error.to_string())
    };
    Ok(WorkloadRow {
        name: WorkloadName::parse(id.namespace.as_str(), "caller").map_err(internal)?,
        class: Arc::new(ClassKey {
            namespace: id.namespace.clone(),
            labels: tacit_model::labels::Labels::default(),
            service_account: id.service_account.clone(),
        }),
        address: IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
        node: "caller".try_into().map_err(internal)?,
        locality: locality.clone(),
        ports: Arc::default(),
        published: Vec::new(),
        ready: std::collections::BTreeSet::new(),
        capacity: None,
        command: Vec::new(),
    })
}

fn names(r: &Resilience) -> String {
    let on = r.when.value.on.iter().map(|on: &RetryOn| format!("{on:?}"));
    let codes = r.when.value.codes.iter().map(u16::to_string);
    let all: Vec<String> = on.chain(codes).collect();
    if all.is_empty() {
        "nothing".into()
    } else {
        all.join(", ")
    }
}

//! One call, asked of the functions that the proxies ask: all that may come of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use tacit_decide::path::canonical;
use tacit_decide::resilience::effective;
use tacit_decide::route::{every, follows_routes};
use tacit_decide::why::{access, resolve};
use tacit_decide::{
    Ask, Denial, DenialKind, Destination, Odds, Peer, RequestHead, RouteHead, Routed,
    ServiceTarget, State, destination, odds,
};
use tacit_model::resilience::Resilience;
use tacit_model::tables::{Protocol, ServicePort, ServiceRow, WorkloadRow};
use tacit_model::trace::Trace;
use tacit_model::{Provenance, Snapshot};

use crate::compiled::{Compiled, has_no_workload};
use crate::down::settled;

/// Who calls, as enforcement sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// For the client half.
    pub row: Arc<WorkloadRow>,
    /// For the server half.
    pub peer: Peer,
}

/// What is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// A name or an address.
    pub host: String,
    /// The port.
    pub port: u16,
    /// For HTTP.
    pub method: String,
    /// For HTTP.
    pub path: String,
    /// For routes, by lower-case names.
    pub headers: BTreeMap<String, String>,
}

/// What may come of a call.
#[derive(Debug)]
pub enum Outcome {
    /// It goes nowhere.
    Denied(Denial),
    /// It leaves the mesh.
    Outside,
    /// A route answers it with a redirect; the rule that says so.
    Redirected(Option<Provenance>),
    /// It goes to a service.
    Service(Box<ToService>),
    /// It goes to a workload that was called by its address.
    Workload(Box<Reached>),
}

/// A call to a service.
#[derive(Debug)]
pub struct ToService {
    /// The service.
    pub service: Arc<ServiceRow>,
    /// The port that was called.
    pub port: ServicePort,
    /// Timeouts and further tries.
    pub resilience: Resilience,
    /// Who may serve it.
    pub served: Served,
}

/// Who may serve a call to a service.
#[derive(Debug)]
pub enum Served {
    /// All workloads that a first try may get.
    By(Vec<Reached>),
    /// None can.
    Nobody(Denial),
    /// The files have no workload of the service; this is what any of them would say.
    Somebody(Box<Reached>),
    /// The files have no workload of the service, and nothing can be said of it.
    Unknown(String),
}

/// A workload that a call arrives at.
#[derive(Debug)]
pub struct Reached {
    /// The workload.
    pub workload: Arc<WorkloadRow>,
    /// Of a million first tries.
    pub per_million: u64,
    /// What its server half decides; `Ok` has the field that allows it.
    pub verdict: Result<Option<Provenance>, Denial>,
}

/// Asks for one call. `state` says what is down. There are several outcomes if a route splits
/// requests between backends.
#[must_use]
pub fn ask(compiled: &Compiled, state: &State, caller: &Caller, target: &Target) -> Vec<Outcome> {
    let s = &compiled.snapshot;
    let to = match resolve(s, &caller.row, &target.host, target.port) {
        Ok(to) => to,
        Err(denial) => return vec![Outcome::Denied(denial)],
    };
    if let Destination::Service(parent) = destination(s, to)
        && follows_routes(s, &parent)
    {
        return routed(compiled, state, caller, &parent, target);
    }
    vec![ask_address(compiled, state, caller, to, target)]
}

/// A call to a service that has routes.
fn routed(
    compiled: &Compiled,
    state: &State,
    caller: &Caller,
    parent: &ServiceTarget,
    target: &Target,
) -> Vec<Outcome> {
    let s = &compiled.snapshot;
    let (path, query) = target.path.split_once('?').unwrap_or((&target.path, ""));
    let head = RouteHead {
        method: &target.method,
        path,
        query,
        host: &target.host,
        header: &|name| target.headers.get(name).cloned(),
    };
    let outcome = |routed: Routed| match routed {
        Routed::Denied(denial) => Outcome::Denied(denial),
        Routed::Direct => {
            let found = to_service(compiled, state, caller, parent.clone(), target);
            Outcome::Service(Box::new(found))
        }
        Routed::Redirect { by, .. } => Outcome::Redirected(by.rule().map(|rule| rule.from.clone())),
        Routed::Forward {
            to,
            by,
            path: changed,
        } => {
            let rule = by.rule();
            let host = rule.and_then(|rule| rule.changes.host.as_deref());
            // The request as the backend sees it.
            let target = Target {
                host: host.unwrap_or(&target.host).to_owned(),
                path: changed.unwrap_or_else(|| path.to_owned()),
                ..target.clone()
            };
            let mut found = to_service(compiled, state, caller, to, &target);
            found.resilience = effective(s, &parent.service, rule, &caller.row);
            Outcome::Service(Box::new(found))
        }
    };
    let all = ways(s, &caller.row, parent, &head);
    all.into_iter().map(|(_, way)| outcome(way)).collect()
}

/// All that may become of a request or connection at its client half, with weights. The path of
/// `head` is as it was sent.
pub(crate) fn ways(
    s: &Snapshot,
    source: &WorkloadRow,
    parent: &ServiceTarget,
    head: &RouteHead<'_>,
) -> Vec<(u32, Routed)> {
    if !follows_routes(s, parent) {
        return vec![(1, Routed::Direct)];
    }
    if parent.port.protocol == Protocol::Tcp {
        return every(s, source, parent, &RouteHead::connection());
    }
    let Ok(path) = canonical(head.path) else {
        let reason = format!("the path {:?} has no canonical form", head.path);
        let denial = Denial {
            kind: DenialKind::BadRequest,
            reason,
            by: None,
        };
        return vec![(1, Routed::Denied(denial))];
    };
    let head = RouteHead {
        path: &path,
        ..*head
    };
    every(s, source, parent, &head)
}

/// The same for an address that is known, and past the routes of a service.
pub(crate) fn ask_address(
    compiled: &Compiled,
    state: &State,
    caller: &Caller,
    to: SocketAddr,
    target: &Target,
) -> Outcome {
    let s = &compiled.snapshot;
    match destination(s, to) {
        Destination::Denied(denial) => Outcome::Denied(denial),
        Destination::Outside(_) => Outcome::Outside,
        Destination::Service(found) => {
            Outcome::Service(Box::new(to_service(compiled, state, caller, found, target)))
        }
        Destination::Workload(found) => {
            let all = 1_000_000;
            let reached = arrive(s, &found.workload, found.port, all, caller, target);
            Outcome::Workload(Box::new(reached))
        }
    }
}

fn to_service(
    compiled: &Compiled,
    state: &State,
    caller: &Caller,
    to: ServiceTarget,
    target: &Target,
) -> ToService {
    let s = &compiled.snapshot;
    let ask = Ask {
        source: &caller.row,
        service: &to.service,
        port: &to.port,
        tried: &[],
        control_stale: false,
    };
    let served = if has_no_workload(s, &to.service.name) {
        // Its fallback would serve only as long as nobody starts what the files leave out.
        stand_in(compiled, &to, caller, target)
    } else {
        match odds(s, state, &ask, settled()) {
            Ok(all) => Served::By(
                all.iter()
                    .map(|one| reach(s, one, caller, target))
                    .collect(),
            ),
            Err(denial) => Served::Nobody(denial),
        }
    };
    ToService {
        resilience: effective(s, &to.service, None, &caller.row),
        service: to.service,
        port: to.port,
        served,
    }
}

fn reach(s: &Snapshot, one: &Odds, caller: &Caller, target: &Target) -> Reached {
    let Odds {
        workload,
        endpoint,
        per_million,
        ..
    } = one;
    arrive(s, workload, endpoint.port(), *per_million, caller, target)
}

/// What any workload of a service would say of which the files have none.
fn stand_in(compiled: &Compiled, to: &ServiceTarget, caller: &Caller, target: &Target) -> Served {
    let name = &to.service.name;
    let s = match compiled.assumed.of(name) {
        Ok(s) => s,
        Err(why) => return Served::Unknown(why),
    };
    let found = s.endpoints(name).iter().find_map(|row| {
        let port = to.port.target_on(row)?;
        Some((row, port))
    });
    match found {
        Some((row, port)) => {
            Served::Somebody(Box::new(arrive(s, row, port, 1_000_000, caller, target)))
        }
        None => Served::Unknown(format!("no workload of service {name} has its port")),
    }
}

/// What the server half of a workload decides.
pub(crate) fn arrive(
    s: &Snapshot,
    workload: &Arc<WorkloadRow>,
    port: u16,
    per_million: u64,
    caller: &Caller,
    target: &Target,
) -> Reached {
    let head = RequestHead {
        method: &target.method,
        path: &target.path,
        host: &target.host,
    };
    let mut trace = Trace::default();
    let verdict = access(s, workload, port, &caller.peer, &head, &mut trace);
    let told = trace.0.into_iter().rev();
    let mut told = told.filter(|step| step.topic == "access");
    Reached {
        workload: workload.clone(),
        per_million,
        verdict: verdict.map(|()| told.next().and_then(|step| step.from)),
    }
}

/// Parts of a million as a percentage; what is not nothing is not shown as nothing.
#[must_use]
pub fn percent(per_million: u64) -> String {
    match (per_million + 5_000) / 10_000 {
        0 => "under 1 %".to_owned(),
        whole => format!("{whole} %"),
    }
}

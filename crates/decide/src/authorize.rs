//! May this peer connect, and may this request pass: decided by the server half.
//!
//! The algebra: failed isolation or a matching enforced Deny denies. Else, if any enforced Allow
//! applies to the target, one must match. Else the mesh's `defaultAccess` holds. A policy without
//! a valid version denies. Policies in `Audit` mode never block; what they would have done is
//! carried by the permit.

use std::cell::OnceCell;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use tacit_model::access::{Action, Mode, Rule};
use tacit_model::policies::{Clause, Policies};
use tacit_model::tables::{AccessRow, DefaultAccess, Protocol, Tenancy, WorkloadRow};
use tacit_model::trace::Trace;
use tacit_model::{Provenance, Snapshot, SpiffeId, WorkspaceName};

use crate::denial::{Denial, DenialKind};
use crate::destination::protocol_of;
use crate::matching::{
    Caller, Matched, Operation, from_matches, normal_host, to_matches, workspace_of,
};
use crate::path;
use crate::permit::{ConnectionPermit, InspectPermit, RequestPermit};

#[cfg(test)]
mod same;
mod tell;

/// Who is at the other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Proven by mutual TLS. `None`: a plain connection, which has no identity.
    pub identity: Option<SpiffeId>,
    /// Where it comes from.
    pub address: SocketAddr,
}

/// What may happen to a connection.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectionVerdict {
    /// Pass it on as bytes.
    Allow(ConnectionPermit),
    /// Refuse it.
    Deny(Denial),
    /// Read it as HTTP, and ask for each request.
    InspectRequests(InspectPermit),
}

/// What a decision looks at of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHead<'a> {
    /// As received.
    pub method: &'a str,
    /// As received; a query is ignored.
    pub path: &'a str,
    /// The `Host` header or `:authority`, with or without port.
    pub host: &'a str,
}

/// Decides about a connection to `port` of the local workload.
pub fn authorize_connection(
    s: &Snapshot,
    local: &WorkloadRow,
    port: u16,
    peer: &Peer,
) -> ConnectionVerdict {
    let target = Target::new(s, local, port);
    let call = Call::new(peer, None);
    if target.protocol() == Protocol::Http {
        // Each request is refused by itself, so that both ends learn its identifier and reason.
        return ConnectionVerdict::InspectRequests(target.inspect(peer));
    }
    match target.decide(&call, Enforced::Only) {
        Outcome::Denied(why) => ConnectionVerdict::Deny(target.denial(&call, &why)),
        Outcome::OnRequest => ConnectionVerdict::InspectRequests(target.inspect(peer)),
        Outcome::Allowed(_) => ConnectionVerdict::Allow(ConnectionPermit {
            workload: local.name.clone(),
            port,
            peer: peer.clone(),
            audit: target.audit(&call),
        }),
    }
}

/// Decides again about a connection that was allowed: `Err` if it must be closed now.
///
/// That includes a connection of bytes whose port is now inspected as HTTP.
pub fn still_allowed(s: &Snapshot, permit: &ConnectionPermit) -> Result<(), Denial> {
    let local = local_workload(s, &permit.workload)?;
    match authorize_connection(s, local, permit.port, &permit.peer) {
        ConnectionVerdict::Allow(_) => Ok(()),
        ConnectionVerdict::Deny(denial) => Err(denial),
        ConnectionVerdict::InspectRequests(_) => Err(Denial::new(
            DenialKind::Policy,
            "the port is now inspected as HTTP; connect again".into(),
        )),
    }
}

/// Decides about one request, by the policies of now.
pub fn authorize_request(
    s: &Snapshot,
    permit: &InspectPermit,
    head: &RequestHead<'_>,
) -> Result<RequestPermit, Denial> {
    authorize_request_traced(s, permit, head, None)
}

/// Like [`authorize_request`], and tells each step to `trace`.
pub(crate) fn authorize_request_traced(
    s: &Snapshot,
    permit: &InspectPermit,
    head: &RequestHead<'_>,
    trace: Option<&mut Trace>,
) -> Result<RequestPermit, Denial> {
    let local = local_workload(s, &permit.workload)?;
    let target = Target::new(s, local, permit.port);
    let received = head.path.split('?').next().unwrap_or(head.path);
    let canonical = if target.looks_at_paths() {
        Some(path::canonical(received).map_err(|error| bad_path(received, error))?)
    } else {
        None
    };
    let host = normal_host(head.host);
    let operation = Operation {
        method: head.method,
        path: canonical.as_deref().unwrap_or(received),
        host: &host,
    };
    let call = Call::new(&permit.peer, Some(operation));
    let outcome = target.decide(&call, Enforced::Only);
    if let Some(trace) = trace {
        target.tell(&call, &outcome, trace);
    }
    match outcome {
        Outcome::Allowed(_) => {
            let audit = target.audit(&call);
            Ok(RequestPermit {
                path: canonical,
                audit,
            })
        }
        Outcome::Denied(why) => Err(target.denial(&call, &why)),
        Outcome::OnRequest => Err(Denial::new(
            DenialKind::Policy,
            "a rule could not be decided for this request".into(),
        )),
    }
}

/// Decides about a connection of bytes and tells each step to `trace`.
pub(crate) fn explain_connection(
    s: &Snapshot,
    local: &WorkloadRow,
    port: u16,
    peer: &Peer,
    trace: &mut Trace,
) -> ConnectionVerdict {
    let target = Target::new(s, local, port);
    let call = Call::new(peer, None);
    let outcome = target.decide(&call, Enforced::Only);
    target.tell(&call, &outcome, trace);
    authorize_connection(s, local, port, peer)
}

pub(crate) fn local_workload<'a>(
    s: &'a Snapshot,
    name: &tacit_model::WorkloadName,
) -> Result<&'a WorkloadRow, Denial> {
    let gone = || {
        let reason = format!("workload {name} is no longer in the mesh");
        Denial::new(DenialKind::UnknownDestination, reason)
    };
    s.workloads.get(name).map(AsRef::as_ref).ok_or_else(gone)
}

fn bad_path(received: &str, error: path::PathError) -> Denial {
    let shown: String = received.chars().take(80).collect();
    let reason = format!("the path {shown:?} has no canonical form: {error}");
    Denial::new(DenialKind::BadRequest, reason)
}

/// Whether policies in `Audit` mode count.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Enforced {
    AuditToo,
    Only,
}

impl Enforced {
    fn counts(self, row: &AccessRow) -> bool {
        row.mode == Mode::Enforce || self == Self::AuditToo
    }
}

/// The caller and, if known, the request.
struct Call<'a> {
    peer: &'a Peer,
    caller: Caller<'a>,
    operation: Option<Operation<'a>>,
}

impl<'a> Call<'a> {
    fn new(peer: &'a Peer, operation: Option<Operation<'a>>) -> Self {
        let caller = Caller {
            identity: peer.identity.as_ref(),
            address: peer.address.ip().to_canonical(),
        };
        Self {
            peer,
            caller,
            operation,
        }
    }

    fn who(&self) -> String {
        match &self.peer.identity {
            Some(id) => format!("{}/{}", id.namespace, id.service_account),
            None => format!("an unauthenticated caller at {}", self.peer.address.ip()),
        }
    }
}

/// What came out, with what decided it.
enum Outcome<'a> {
    Allowed(AllowedBy<'a>),
    Denied(DeniedBy<'a>),
    OnRequest,
}

enum AllowedBy<'a> {
    Default,
    Rule(&'a AccessRow, &'a Rule),
}

enum DeniedBy<'a> {
    Broken(&'a AccessRow, &'a str),
    Contested(&'a [WorkspaceName]),
    Default,
    Isolation {
        workspace: &'a WorkspaceName,
        from: &'a Provenance,
    },
    /// Allows apply, and none of them matches.
    NoAllow(Vec<&'a AccessRow>),
    NoClass,
    Rule(&'a AccessRow, &'a Rule),
}

/// A port of a local workload with the policies that apply to it.
struct Target<'a> {
    s: &'a Snapshot,
    local: &'a WorkloadRow,
    port: u16,
    /// `None`: the workload's class is not there, which denies.
    policies: Option<&'a Policies>,
    framed: OnceCell<bool>,
}

impl<'a> Target<'a> {
    fn new(s: &'a Snapshot, local: &'a WorkloadRow, port: u16) -> Self {
        Self {
            s,
            local,
            port,
            policies: s.access_of(&local.class),
            framed: OnceCell::new(),
        }
    }

    fn protocol(&self) -> Protocol {
        protocol_of(self.s, self.local, self.port)
    }

    fn inspect(&self, peer: &Peer) -> InspectPermit {
        InspectPermit {
            workload: self.local.name.clone(),
            port: self.port,
            peer: peer.clone(),
            protocol: self.protocol(),
        }
    }

    /// The policies that are about the port, in order.
    fn rows(&self) -> impl Iterator<Item = &'a AccessRow> + Clone {
        let (local, port) = (self.local, self.port);
        let all = self.policies.map_or(&[][..], Policies::all).iter();
        all.filter(move |policy| policy.applies(local, port))
            .map(|policy| policy.row.as_ref())
    }

    fn looks_at_paths(&self) -> bool {
        let looks = |policies: &Policies| policies.looks_at_paths(self.local, self.port);
        self.policies.is_some_and(looks)
    }

    /// True if requests can be read here: the port is declared HTTP, or a rule with conditions
    /// on requests names it.
    fn is_framed(&self) -> bool {
        let names_port = |ports: &std::collections::BTreeSet<u16>| ports.contains(&self.port);
        let rules = || self.rows().flat_map(|row| &row.rules);
        *self.framed.get_or_init(|| {
            self.protocol() == Protocol::Http
                || rules()
                    .flat_map(|rule| &rule.to)
                    .any(|to| to.needs_request() && to.ports.as_ref().is_some_and(names_port))
        })
    }

    fn decide(&self, call: &Call<'_>, enforced: Enforced) -> Outcome<'a> {
        if let Some(why) = self.isolation(call) {
            return Outcome::Denied(why);
        }
        if self.policies.is_none() {
            return Outcome::Denied(DeniedBy::NoClass);
        }
        let counted = || self.rows().filter(move |row| enforced.counts(row));
        // A policy without a valid version denies. Its mode is `Audit` only if that could be read:
        // then it blocks as little as a valid one.
        let mut broken = counted().filter_map(|row| Some((row, row.broken.as_deref()?)));
        if let Some((row, why)) = broken.next() {
            return Outcome::Denied(DeniedBy::Broken(row, why));
        }
        let denied_on_request = match self.first_match(enforced, Action::Deny, call) {
            Found::Yes(row, rule) => return Outcome::Denied(DeniedBy::Rule(row, rule)),
            Found::OnRequest => true,
            Found::No => false,
        };
        let allows = counted().filter(|row| row.action == Action::Allow);
        let outcome = self.decide_allows(allows, enforced, call);
        match outcome {
            Outcome::Allowed(_) if denied_on_request => Outcome::OnRequest,
            Outcome::Allowed(_) | Outcome::Denied(_) | Outcome::OnRequest => outcome,
        }
    }

    fn decide_allows(
        &self,
        allows: impl Iterator<Item = &'a AccessRow> + Clone,
        enforced: Enforced,
        call: &Call<'_>,
    ) -> Outcome<'a> {
        if allows.clone().next().is_none() {
            return match (self.s.mesh.default_access.value, call.caller.identity) {
                (DefaultAccess::Authenticated, Some(_)) => Outcome::Allowed(AllowedBy::Default),
                (DefaultAccess::Authenticated, None) | (DefaultAccess::Deny, _) => {
                    Outcome::Denied(DeniedBy::Default)
                }
            };
        }
        match self.first_match(enforced, Action::Allow, call) {
            Found::Yes(row, rule) => Outcome::Allowed(AllowedBy::Rule(row, rule)),
            Found::OnRequest => Outcome::OnRequest,
            Found::No => Outcome::Denied(DeniedBy::NoAllow(allows.collect())),
        }
    }

    /// Isolation of the local namespace's workspace. `None`: it lets the caller through.
    fn isolation(&self, call: &Call<'_>) -> Option<DeniedBy<'a>> {
        let row = self.s.namespaces.get(&self.local.class.namespace);
        let Some(row) = row else {
            return Some(DeniedBy::NoClass);
        };
        let (workspace, isolation) = match &row.tenancy {
            Tenancy::Unclaimed => return None,
            Tenancy::Contested(claims) => return Some(DeniedBy::Contested(claims)),
            Tenancy::Member {
                workspace,
                isolation,
            } => (workspace, isolation.as_ref()?),
        };
        let trusted = |id: &&SpiffeId| id.trust_domain == self.s.mesh.trust_domain;
        let identity = call.caller.identity.filter(trusted);
        let caller = identity.and_then(|id| workspace_of(self.s, &id.namespace));
        let passes = caller.is_some_and(|caller| {
            let imported = isolation.importers.get(caller);
            caller == workspace || imported.is_some_and(|set| self.is_behind_any(set))
        });
        (!passes).then_some(DeniedBy::Isolation {
            workspace,
            from: &isolation.from,
        })
    }

    /// True if this port of the workload is a target port of one of `services` that select it.
    fn is_behind_any(
        &self,
        services: &std::collections::BTreeSet<tacit_model::ServiceName>,
    ) -> bool {
        let Some(class) = self.s.class_of(self.local) else {
            return false;
        };
        let selecting = class.services.iter();
        let mut selecting = selecting.filter(|name| services.contains(name));
        selecting.any(|name| {
            self.s.services.get(name).is_some_and(|row| {
                let mut ports = row.ports.iter();
                ports.any(|port| port.target_on(self.local) == Some(self.port))
            })
        })
    }

    /// The first rule that matches, in the order of policies and rules.
    fn first_match(&self, enforced: Enforced, action: Action, call: &Call<'_>) -> Found<'a> {
        match (self.policies, call.operation) {
            (Some(policies), Some(operation)) => {
                let clauses = policies.at(action, operation.path);
                self.first_by_path(clauses, enforced, action, call)
            }
            _ => self.first_by_scan(enforced, action, call),
        }
    }

    /// Without a request there is no path to find rules by.
    fn first_by_scan(&self, enforced: Enforced, action: Action, call: &Call<'_>) -> Found<'a> {
        let mut found = Found::No;
        let counted = self.rows().filter(|row| enforced.counts(row));
        for row in counted.filter(|row| row.action == action) {
            for rule in &row.rules {
                match self.rule_matches(rule, action, call) {
                    Matched::Yes => return Found::Yes(row, rule),
                    Matched::OnRequest => found = Found::OnRequest,
                    Matched::No => {}
                }
            }
        }
        found
    }

    fn first_by_path(
        &self,
        clauses: impl Iterator<Item = Clause<'a>>,
        enforced: Enforced,
        action: Action,
        call: &Call<'_>,
    ) -> Found<'a> {
        let mut first: Option<Clause<'a>> = None;
        for clause in clauses {
            let later = first.is_some_and(|first| first.order <= clause.order);
            // With a request in hand, a rule matches or does not.
            if !later
                && enforced.counts(&clause.policy.row)
                && self.rule_matches(clause.rule, action, call) == Matched::Yes
                && clause.policy.applies(self.local, self.port)
            {
                first = Some(clause);
            }
        }
        let found = |first: Clause<'a>| Found::Yes(&first.policy.row, first.rule);
        first.map_or(Found::No, found)
    }

    fn rule_matches(&self, rule: &Rule, action: Action, call: &Call<'_>) -> Matched {
        // What is asked costs less to compare than who asks.
        let to = rule
            .to
            .iter()
            .map(|to| to_matches(to, self.port, call.operation));
        let to = match rule.to.is_empty() {
            true => Matched::Yes,
            false => strongest(to),
        };
        if to == Matched::No {
            return Matched::No;
        }
        let mut from = rule.from.iter();
        if !rule.from.is_empty()
            && !from.any(|from| from_matches(self.s, from, action, call.caller))
        {
            return Matched::No;
        }
        match to {
            Matched::OnRequest if !self.is_framed() => match action {
                // Bytes hold no request: an Allow cannot hold, and a Deny that cannot be
                // evaluated denies.
                Action::Allow => Matched::No,
                Action::Deny => Matched::Yes,
            },
            Matched::No | Matched::OnRequest | Matched::Yes => to,
        }
    }
}

fn strongest(matches: impl Iterator<Item = Matched>) -> Matched {
    let mut best = Matched::No;
    for matched in matches {
        match matched {
            Matched::Yes => return Matched::Yes,
            Matched::OnRequest => best = Matched::OnRequest,
            Matched::No => {}
        }
    }
    best
}

enum Found<'a> {
    No,
    OnRequest,
    Yes(&'a AccessRow, &'a Rule),
}

//! What a change does: outcomes of calls that differ between two compiled states.
//!
//! Every call to a port of a service is covered, because calls that `decide` cannot tell apart are
//! asked once:
//!
//! * **Callers.** A rule looks at a caller's trust domain, namespace, service account and address,
//!   and at the workspace of the namespace. So each account, namespace and trust domain that a
//!   rule, a workload or a workspace of either state names is asked, with one of each sort that
//!   nobody names, and one without an identity (`callers`). Address ranges cut the addresses into
//!   pieces that begin where a range begins or behind its end: one address of each piece is asked.
//! * **Requests.** A rule looks at method, path and host (`requests`). Methods: each that is
//!   named, and another one. Paths: a path is told apart by the exact paths that it is and the
//!   prefixes that it begins with; the prefixes that one path begins with are beginnings of the
//!   longest of them, so each exact path, each prefix with an ending that nobody names, and a path
//!   that fits nothing are all there are, besides one that has no canonical form, which matters as
//!   soon as any rule looks at paths. Hosts likewise from their end, and the empty one.
//! * **Places.** Where a call goes depends on the caller's place only (`routes`). Asked are all
//!   places of clients that a workload or the Mesh of either state names, and one of which nothing
//!   is known. For each, the places that serve are compared, then those that serve when the first
//!   are lost, and so on to the last.
//! * **Timeouts and further tries** depend on the caller's identity and address only (`limits`).
//!
//! * **Routes.** Where requests to a service follow routes (`routed`), what rules ask of method,
//!   path, host, headers and parameters tells requests apart, too. Compared are the backends with
//!   their shares, the answers that rules give, what is changed on the way, timeouts and tries by
//!   rule, and who lets in what arrives, each as the backend sees it.
//!
//! * **Faults** on purpose are told by port: whom they befall is chance.
//! * **Rates** of requests are told by port: how much of them is left is no part of a state.
//!
//! Not covered: calls to a workload by its own address, and the speed with which shares move.
//!
//! [`Counter`] says how many observed requests each difference concerns.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Serialize;
use tacit_model::tables::{ServicePort, ServiceRow};
use tacit_model::{Provenance, ServiceName};

use crate::compiled::{Compiled, Line};

mod access;
mod callers;
mod faults;
mod limits;
mod observed;
mod requests;
mod routed;
mod routes;

pub use observed::{Counter, Observations};

/// What differs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Diff {
    /// By destination.
    pub changes: Vec<Change>,
    /// What has no answer in one of the states, and why.
    pub unknown: Vec<String>,
    /// The observed requests, if some were counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed: Option<Observations>,
}

/// Calls of which another outcome is the same for all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// `SERVICE.NAMESPACE:PORT`, or what else is called.
    pub destination: String,
    /// What differs.
    pub change: Kind,
    /// Who calls; empty: everyone.
    pub callers: Vec<String>,
    /// Where the callers are; empty: anywhere.
    pub places: Vec<String>,
    /// Which requests; empty: every one.
    pub requests: Vec<String>,
    /// What came of it before.
    pub before: String,
    /// What comes of it now.
    pub after: String,
    /// The object and field that decide.
    pub by: Option<Provenance>,
    /// Where that is written.
    pub line: Option<Line>,
    /// The rule of a route that the requests follow, if it is not the one that decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<Provenance>,
    /// How many observed requests it concerns, if some were counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed: Option<u64>,
}

/// What differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Kind {
    /// The destination is new.
    Added,
    /// The destination is gone.
    Removed,
    /// Routes send them to other services or to other shares of them, or answer them.
    Rerouted,
    /// They go where they went, and arrive as another request.
    Rewritten,
    /// Denied before.
    NewlyAllowed,
    /// Allowed before.
    NewlyDenied,
    /// Timeouts or further tries.
    Limits,
    /// Where it goes, now or when places are lost.
    Routes,
    /// What else a policy or a service says of the destination.
    Settings,
}

/// The two states.
#[derive(Clone, Copy)]
struct Both<'a> {
    before: &'a Compiled,
    after: &'a Compiled,
    /// True if everything is the same that access depends on, besides the workloads.
    same_access: bool,
    /// True if every namespace belongs to what it belonged to, and names are of the same mesh.
    same_members: bool,
}

impl<'a> Both<'a> {
    fn new(before: &'a Compiled, after: &'a Compiled) -> Self {
        let (old, new) = (&before.snapshot, &after.snapshot);
        let same_members =
            old.namespaces == new.namespaces && old.mesh.trust_domain == new.mesh.trust_domain;
        Self {
            before,
            after,
            same_access: same_members && before.says_the_same_of_access(after),
            same_members,
        }
    }

    fn states(self) -> [&'a Compiled; 2] {
        [self.before, self.after]
    }
}

/// Says what differs between two states.
#[must_use]
pub fn diff(before: &Compiled, after: &Compiled) -> Diff {
    let mut found = Diff::default();
    if before.snapshot.tables() == after.snapshot.tables() {
        return found;
    }
    let both = Both::new(before, after);
    egress(both, &mut found);
    let callers = callers::all(both);
    let services = both.states().map(|state| &state.snapshot.services);
    let names: BTreeSet<&ServiceName> = services.iter().flat_map(|rows| rows.keys()).collect();
    for name in names {
        let rows = services.map(|rows| rows.get(name));
        let ports = rows.iter().flatten().flat_map(|row| &row.ports);
        let ports: BTreeSet<u16> = ports.map(|port| port.port).collect();
        let is_routed = ports.iter().any(|port| {
            let [old, new] = rows.map(|row| port_of(row?, *port));
            old.zip(new)
                .is_some_and(|(old, new)| routed::is_routed(both, &old, &new))
        });
        if !is_routed {
            limits::compare(both, (name, &name.to_string()), &callers, &mut found);
        }
        for port in ports {
            let destination = format!("{name}:{port}");
            match rows.map(|row| port_of(row?, port)) {
                [Some(old), Some(new)] => {
                    let to = routes::Pair {
                        destination: &destination,
                        old: &old,
                        new: &new,
                    };
                    compare_port(both, &to, is_routed, &callers, &mut found);
                }
                [None, Some(_)] => found.changes.push(plain(destination, Kind::Added)),
                [Some(_), None] => found.changes.push(plain(destination, Kind::Removed)),
                [None, None] => {}
            }
        }
    }
    found.unknown.sort();
    found.unknown.dedup();
    found
}

/// Compares one port. Where another port of the service follows routes, timeouts are told by port.
fn compare_port(
    both: Both<'_>,
    to: &routes::Pair<'_>,
    of_routed_service: bool,
    callers: &[callers::Sort],
    found: &mut Diff,
) {
    protocol(to.destination, &to.old.1, &to.new.1, found);
    rates(both, to, found);
    faults::compare(both, to, callers, found);
    routes::compare(both, to, found);
    if routed::is_routed(both, to.old, to.new) {
        routed::compare(both, to, callers, found);
        access::compare(both, to, (callers, |sort| !sort.is_local), found);
        return;
    }
    if of_routed_service {
        limits::compare(both, (&to.new.0.name, to.destination), callers, found);
    }
    access::compare(both, to, (callers, |_| true), found);
}

fn port_of(service: &Arc<ServiceRow>, port: u16) -> Option<routes::To> {
    let found = service.ports.iter().find(|p| p.port == port)?;
    Some((service.clone(), found.clone()))
}

/// A change for everyone, whatever they ask.
fn plain(destination: String, change: Kind) -> Change {
    Change {
        destination,
        change,
        callers: Vec::new(),
        places: Vec::new(),
        requests: Vec::new(),
        before: String::new(),
        after: String::new(),
        by: None,
        line: None,
        rule: None,
        observed: None,
    }
}

fn protocol(destination: &str, old: &ServicePort, new: &ServicePort, found: &mut Diff) {
    if old.protocol != new.protocol {
        found.changes.push(Change {
            before: format!("protocol {:?}", old.protocol),
            after: format!("protocol {:?}", new.protocol),
            ..plain(destination.to_owned(), Kind::Settings)
        });
    }
}

/// How many requests each workload behind it takes.
fn rates(both: Both<'_>, to: &routes::Pair<'_>, found: &mut Diff) {
    let of = |service: &ServiceRow| service.rate.as_ref().map(|rate| rate.limits.clone());
    let shown = |service: &ServiceRow| match of(service) {
        None => "rate none".to_owned(),
        Some(limits) => {
            let texts: Vec<String> = limits.iter().map(ToString::to_string).collect();
            format!("rate {}", texts.join("; "))
        }
    };
    let (old, new) = (&to.old.0, &to.new.0);
    if of(old) != of(new) {
        let by = new.rate.as_ref().map(|rate| rate.origin(0));
        found.changes.push(Change {
            before: shown(old),
            after: shown(new),
            line: by.as_ref().and_then(|by| both.after.line(by)),
            by,
            ..plain(to.destination.to_owned(), Kind::Settings)
        });
    }
}

/// TCP to what is not in the mesh.
fn egress(both: Both<'_>, found: &mut Diff) {
    let [old, new] = both.states().map(|state| &state.snapshot.mesh.egress);
    if old.value != new.value {
        found.changes.push(Change {
            before: format!("{:?}", old.value),
            after: format!("{:?}", new.value),
            line: both.after.line(&new.from),
            by: Some(new.from.clone()),
            ..plain("outside the mesh".to_owned(), Kind::Settings)
        });
    }
}

#[cfg(test)]
mod tests;

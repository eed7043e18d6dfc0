//! What routes make of one request in one state.

use std::collections::BTreeMap;

use tacit_decide::{RefusalStatus, RouteHead, Routed, ServiceTarget};
use tacit_model::route::{
    Action, Backend, BackendTo, Candidate, Changes, HeaderChanges, PathChange, PathMatch, Redirect,
    RouteRule,
};
use tacit_model::tables::WorkloadRow;
use tacit_model::{Provenance, ServiceName, Snapshot};

use super::super::requests::Request;
use super::super::routes::To;
use crate::call::ways;

/// Where a share of requests ends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Goal {
    /// With this status.
    Answered(RefusalStatus),
    Redirected {
        status: u16,
        location: String,
    },
    Service(ServiceName, u16),
}

/// The request as a backend sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Arrival {
    pub(super) path: String,
    pub(super) host: String,
    request: HeaderChanges,
    response: HeaderChanges,
}

/// What becomes of a request.
#[derive(Clone, Debug)]
pub(super) struct Way {
    /// With shares that have no common divisor.
    pub(super) goals: BTreeMap<Goal, u64>,
    /// The rule that it follows.
    pub(super) rule: Option<Provenance>,
    /// Where that rule stands, if it reaches a backend.
    pub(super) by: Option<Candidate>,
    pub(super) arrival: Arrival,
    /// What a redirect changes, in words: its location has what the request came with, too.
    redirect: String,
}

impl Way {
    pub(super) fn of(s: &Snapshot, source: &WorkloadRow, to: &To, request: &Request<'_>) -> Self {
        let parent = ServiceTarget {
            service: to.0.clone(),
            port: to.1.clone(),
        };
        let header = |name: &str| request.fields.headers.get(name).map(ToString::to_string);
        let head = RouteHead {
            method: request.method,
            path: request.path,
            query: &request.fields.query,
            host: request.host,
            header: &header,
        };
        let mut way = Self {
            goals: BTreeMap::new(),
            rule: None,
            by: None,
            arrival: Arrival {
                path: request.path.to_owned(),
                host: request.host.to_owned(),
                request: HeaderChanges::default(),
                response: HeaderChanges::default(),
            },
            redirect: String::new(),
        };
        for (weight, routed) in ways(s, source, &parent, &head) {
            let goal = way.goal(&parent, routed);
            *way.goals.entry(goal).or_default() += u64::from(weight);
        }
        let divisor = way.goals.values().copied().fold(0, divisor).max(1);
        way.goals.values_mut().for_each(|share| *share /= divisor);
        way
    }

    fn goal(&mut self, parent: &ServiceTarget, routed: Routed) -> Goal {
        match routed {
            Routed::Direct => Goal::Service(parent.service.name.clone(), parent.port.port),
            Routed::Denied(denial) => {
                let status = denial.kind.status();
                self.rule = self.rule.take().or(denial.by);
                Goal::Answered(status)
            }
            Routed::Redirect {
                by,
                status,
                location,
            } => {
                self.rule = by.rule().map(|rule| rule.from.clone());
                if let Some(Action::Redirect(to)) = by.rule().map(|rule| &rule.action) {
                    self.redirect = redirect_words(to, &by);
                }
                Goal::Redirected { status, location }
            }
            Routed::Forward { to, by, path } => {
                if let Some(rule) = by.rule() {
                    self.rule = Some(rule.from.clone());
                    self.arrive(rule, path);
                }
                self.by = Some(by);
                Goal::Service(to.service.name.clone(), to.port.port)
            }
        }
    }

    fn arrive(&mut self, rule: &RouteRule, path: Option<String>) {
        let Changes {
            request,
            response,
            host,
            ..
        } = &rule.changes;
        let arrival = &mut self.arrival;
        arrival.path = path.unwrap_or_else(|| std::mem::take(&mut arrival.path));
        if let Some(host) = host {
            arrival.host = host.to_string();
        }
        arrival.request = sorted(request);
        arrival.response = sorted(response);
    }

    /// The services that it reaches, with their shares.
    pub(super) fn services(&self) -> impl Iterator<Item = (&ServiceName, u16, u64)> {
        self.goals.iter().filter_map(|(goal, share)| match goal {
            Goal::Service(service, port) => Some((service, *port, *share)),
            Goal::Answered(_) | Goal::Redirected { .. } => None,
        })
    }

    pub(super) fn reaches(&self) -> bool {
        self.services().next().is_some()
    }

    /// Where it goes, in words, with exact shares.
    pub(super) fn goes(&self) -> String {
        let total: u64 = self.goals.values().sum();
        let each = self.goals.iter().map(|(goal, share)| {
            let goal = match goal {
                Goal::Answered(status) => format!("answered {status}"),
                Goal::Redirected { status, .. } => format!("redirected {status}{}", self.redirect),
                Goal::Service(service, port) => format!("{service}:{port}"),
            };
            match *share == total {
                true => goal,
                false => format!("{share}/{total} {goal}"),
            }
        });
        each.collect::<Vec<_>>().join(" + ")
    }

    /// What is changed on the way, in words.
    pub(super) fn changes(&self) -> String {
        let found = self.by.as_ref().and_then(|by| Some((by, by.rule()?)));
        let Some((by, rule)) = found else {
            return "as it came".to_owned();
        };
        let Changes {
            request,
            response,
            host,
            path,
        } = &rule.changes;
        let mut words: Vec<String> = Vec::new();
        words.extend(path.as_ref().map(|change| path_words(change, by)));
        words.extend(host.as_ref().map(|host| format!("host {host}")));
        words.extend(header_words("header", request));
        words.extend(header_words("response header", response));
        match words.is_empty() {
            true => "as it came".to_owned(),
            false => words.join(", "),
        }
    }
}

/// The ports of services that a rule may send requests to.
pub(super) fn backends(rule: &RouteRule) -> impl Iterator<Item = (ServiceName, u16)> {
    let all: &[Backend] = match &rule.action {
        Action::Forward(backends) => backends,
        Action::Redirect(_) => &[],
    };
    all.iter().filter_map(|backend| match &backend.to {
        BackendTo::Service { service, port } => Some((service.clone(), *port)),
        BackendTo::Broken(_) => None,
    })
}

fn divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { divisor(b, a % b) }
}

/// The order in which changes of headers are written does not matter.
fn sorted(changes: &HeaderChanges) -> HeaderChanges {
    let mut changes = changes.clone();
    changes.set.sort();
    changes.add.sort();
    changes.remove.sort();
    changes
}

fn path_words(change: &PathChange, by: &Candidate) -> String {
    let shown = |prefix: &str| match prefix {
        "" => "/".to_owned(),
        prefix => prefix.to_owned(),
    };
    match (change, by.conditions().map(|found| &found.path)) {
        (PathChange::Prefix(to), Some(PathMatch::Prefix(from))) => {
            format!("path {} for {}", shown(to), shown(from))
        }
        (PathChange::Full(to) | PathChange::Prefix(to), _) => format!("path {}", shown(to)),
    }
}

fn header_words(what: &str, changes: &HeaderChanges) -> Vec<String> {
    let HeaderChanges { set, add, remove } = changes;
    let set = set
        .iter()
        .map(|(name, value)| format!("{what} {name} = {value}"));
    let add = add
        .iter()
        .map(|(name, value)| format!("{what} {name} + {value}"));
    let removed = remove.iter().map(|name| format!("{what} {name} removed"));
    set.chain(add).chain(removed).collect()
}

fn redirect_words(redirect: &Redirect, by: &Candidate) -> String {
    let Redirect {
        scheme,
        host,
        path,
        port,
        ..
    } = redirect;
    let mut words: Vec<String> = Vec::new();
    words.extend(scheme.as_ref().map(|scheme| format!("scheme {scheme}")));
    words.extend(host.as_ref().map(|host| format!("host {host}")));
    words.extend(port.map(|port| format!("port {port}")));
    words.extend(path.as_ref().map(|change| path_words(change, by)));
    match words.is_empty() {
        true => String::new(),
        false => format!(" to {}", words.join(", ")),
    }
}

//! The requests that a log of decisions is about: records of one request, put together again.
//!
//! The client half knows the caller and what it called, and where routes are asked the whole
//! request. The server half knows method, path and host, and the caller alone if that is on
//! another machine. Both write under one identifier. Tries of a request are one request.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use tacit_model::{Locality, ServiceName, Snapshot, SpiffeId, WorkloadName};

use crate::authorize::Peer;
use crate::record::{
    ChooseAsked, Chosen, ConnectionAsked, Decision, Leg, Record, RequestAsked, RouteAsked,
    RoutedTo, Verdict, Went,
};
use crate::why::service_named;

/// Identifiers that may be open at once: those of the requests under way, and of as many before
/// them that late tries are still told from. A node serves fewer requests at a time.
const OPEN: usize = 64 * 1024;
/// Requests that may share an identifier: a call and the calls that serving it takes, with room.
const SHARED: usize = 64;

/// What was observed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observed {
    /// A call to a port of a service.
    Call(Box<Call>),
    /// A connection to outside of the mesh.
    Outside,
    /// A call to a workload by its own address, or to one of a port that several services have.
    Workload,
}

/// A call to a port of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Who called.
    pub from: From,
    /// What was called.
    pub service: ServiceName,
    /// The port of it that was called.
    pub port: u16,
    /// The request, if it was one and was seen.
    pub head: Option<Head>,
}

/// Who called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct From {
    /// Absent: without a certificate.
    pub identity: Option<SpiffeId>,
    pub address: IpAddr,
    /// Absent: it is not known where the caller is.
    pub place: Option<Locality>,
}

/// What was seen of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub method: String,
    pub path: String,
    pub host: String,
    /// Absent: not seen.
    pub query: Option<String>,
    /// The values of the headers that were looked at, by lower-case names; `None`: it had none.
    pub headers: BTreeMap<String, Option<String>>,
}

/// Puts requests together from records, in the order of the log.
#[derive(Debug, Default)]
pub struct Observer {
    open: BTreeMap<Arc<str>, VecDeque<Pending>>,
    /// Identifiers, the oldest first.
    order: VecDeque<Arc<str>>,
}

/// What was called.
#[derive(Debug, PartialEq, Eq)]
enum Called {
    Service(ServiceName, u16),
    Workload(WorkloadName),
}

#[derive(Debug)]
struct Pending {
    called: Called,
    /// Absent: nobody asked on behalf of a caller yet, as of a connection that requests follow on.
    from: Option<From>,
    head: Option<Head>,
    /// The services that serve it.
    served_by: BTreeSet<ServiceName>,
}

impl Observer {
    /// Takes a record, and tells the requests that are complete.
    pub fn add(&mut self, s: &Snapshot, record: &Record, tell: &mut impl FnMut(Observed)) {
        match &record.decision {
            Decision::Destination(decided) => match &decided.outcome {
                Went::Denied(_) => {}
                Went::Outside(_) => tell(Observed::Outside),
                Went::Service { service, port, .. } => {
                    let called = Called::Service(service.clone(), *port);
                    self.begin(&record.id, Pending::new(called), tell);
                }
                Went::Workload { workload, .. } => {
                    let called = Called::Workload(workload.clone());
                    self.begin(&record.id, Pending::new(called), tell);
                }
            },
            Decision::Route(decided) => {
                self.routed(s, &record.id, &decided.asked, &decided.outcome);
            }
            Decision::Begin(decided) => self.asked_for(s, &record.id, &decided.asked.leg),
            Decision::Effective(decided) => self.asked_for(s, &record.id, &decided.asked),
            Decision::Choose(decided) => {
                self.chosen(s, &record.id, &decided.asked, &decided.outcome);
            }
            Decision::PermitWorkload(decided) => {
                let asked = &decided.asked;
                let from = caller(s, &asked.source);
                let called = Called::Workload(asked.workload.clone());
                if let Some(found) = self.latest(&record.id, |one| one.called == called) {
                    found.from = found.from.take().or(from);
                }
            }
            Decision::AuthorizeRequest(decided) => {
                self.arrived(s, &record.id, &Arrival::of_request(&decided.asked), tell);
            }
            Decision::AuthorizeConnection(decided) => match &decided.outcome {
                // Its requests are told one by one.
                Verdict::Inspect { .. } => {}
                Verdict::Allow { .. } | Verdict::Deny(_) => {
                    let arrival = Arrival::of_connection(&decided.asked);
                    self.arrived(s, &record.id, &arrival, tell);
                }
            },
            Decision::Admit(_)
            | Decision::AfterTry(_)
            | Decision::Inject(_)
            | Decision::Learn(_)
            | Decision::Rate(_)
            | Decision::TryLimit(_) => {}
        }
    }

    /// Tells what is still open: nothing more is said of it.
    pub fn end(&mut self, tell: &mut impl FnMut(Observed)) {
        let all = std::mem::take(&mut self.open).into_values().flatten();
        all.filter_map(Pending::observed).for_each(tell);
        self.order.clear();
    }

    fn begin(&mut self, id: &Arc<str>, pending: Pending, tell: &mut impl FnMut(Observed)) {
        if !self.open.contains_key(id) {
            self.order.push_back(Arc::clone(id));
        }
        let of_id = self.open.entry(Arc::clone(id)).or_default();
        of_id.push_back(pending);
        let one_too_many = (of_id.len() > SHARED).then(|| of_id.pop_front()).flatten();
        let oldest = (self.order.len() > OPEN).then(|| self.order.pop_front());
        let oldest = oldest.flatten().and_then(|id| self.open.remove(&id));
        let told = one_too_many.into_iter().chain(oldest.into_iter().flatten());
        told.filter_map(Pending::observed).for_each(tell);
    }

    fn latest(&mut self, id: &Arc<str>, is_it: impl Fn(&Pending) -> bool) -> Option<&mut Pending> {
        let of_id = self.open.get_mut(id)?;
        of_id.iter_mut().rev().find(|one| is_it(one))
    }

    fn asked_for(&mut self, s: &Snapshot, id: &Arc<str>, leg: &Leg) {
        let from = caller(s, &leg.source);
        if let Some(found) = self.latest(id, |one| one.is_to(&leg.service))
            && found.from.is_none()
        {
            found.from = from;
        }
    }

    fn routed(&mut self, s: &Snapshot, id: &Arc<str>, asked: &RouteAsked, outcome: &RoutedTo) {
        self.asked_for(s, id, &asked.leg);
        let Some(found) = self.latest(id, |one| one.is_to(&asked.leg.service)) else {
            return;
        };
        if let RoutedTo::Forward { service, .. } = outcome {
            found.served_by.insert(service.clone());
        }
        // A connection has no head.
        if asked.method.is_empty() {
            return;
        }
        let candidates = s.route_candidates(&asked.leg.service).iter();
        let looked_at = candidates.filter_map(|one| one.conditions());
        let names = looked_at.flat_map(|one| &one.headers);
        let header = |(name, _): &(Arc<str>, Arc<str>)| {
            (name.to_string(), asked.headers.get(&**name).cloned())
        };
        found.head = Some(Head {
            method: asked.method.clone(),
            path: asked.path.clone(),
            host: asked.host.clone(),
            query: Some(asked.query.clone()),
            headers: names.map(header).collect(),
        });
    }

    fn chosen(&mut self, s: &Snapshot, id: &Arc<str>, asked: &ChooseAsked, outcome: &Chosen) {
        let service = &asked.leg.service;
        let serves = |one: &Pending| one.is_to(service) || one.served_by.contains(service);
        let from = caller(s, &asked.leg.source);
        if let (Some(found), Ok(endpoint)) = (self.latest(id, serves), &outcome.endpoint) {
            found.from = found.from.take().or(from);
            found.served_by.insert(endpoint.service.clone());
        }
    }

    /// The server half was asked: for a call that is known, for another try of it, or for a
    /// caller of another machine.
    fn arrived(
        &mut self,
        s: &Snapshot,
        id: &Arc<str>,
        arrival: &Arrival<'_>,
        tell: &mut impl FnMut(Observed),
    ) {
        let peer = arrival.peer;
        let is_of = |one: &Pending| {
            let from = one.from.as_ref();
            from.is_some_and(|from| from.identity == peer.identity && from.is_at(peer))
                && one.is_served_by(s, arrival.workload)
        };
        // The first that nothing arrived of, else the last: a further try.
        let of_id = self.open.get_mut(id);
        if let Some(of_id) = of_id
            && of_id.iter().any(is_of)
        {
            let first = of_id
                .iter_mut()
                .find(|one| is_of(one) && one.head.is_none());
            if let Some(first) = first {
                first.head = arrival.head();
            }
            return;
        }
        let row = s.workload_at(peer.address.ip().to_canonical());
        let known =
            row.filter(|row| peer.identity.as_ref() == Some(&row.identity(&s.mesh.trust_domain)));
        let called = arrival.called(s);
        let served_by = match &called {
            Called::Service(service, _) => BTreeSet::from([service.clone()]),
            Called::Workload(_) => BTreeSet::new(),
        };
        let pending = Pending {
            called,
            from: Some(From {
                identity: peer.identity.clone(),
                address: peer.address.ip().to_canonical(),
                place: known.map(|row| row.locality.clone()),
            }),
            head: arrival.head(),
            served_by,
        };
        self.begin(id, pending, tell);
    }
}

impl From {
    fn is_at(&self, peer: &Peer) -> bool {
        self.address == peer.address.ip().to_canonical()
    }
}

impl Pending {
    fn new(called: Called) -> Self {
        Self {
            called,
            from: None,
            head: None,
            served_by: BTreeSet::new(),
        }
    }

    fn is_to(&self, service: &ServiceName) -> bool {
        matches!(&self.called, Called::Service(called, _) if called == service)
    }

    fn is_served_by(&self, s: &Snapshot, workload: &WorkloadName) -> bool {
        if let Called::Workload(called) = &self.called {
            return called == workload;
        }
        let row = s.workloads.get(workload);
        let class = row.and_then(|row| s.class_of(row));
        class.is_some_and(|class| {
            class
                .services
                .iter()
                .any(|one| self.served_by.contains(one))
        })
    }

    fn observed(self) -> Option<Observed> {
        let from = self.from?;
        Some(match self.called {
            Called::Workload(_) => Observed::Workload,
            Called::Service(service, port) => Observed::Call(Box::new(Call {
                from,
                service,
                port,
                head: self.head,
            })),
        })
    }
}

/// What a server half was asked.
struct Arrival<'a> {
    workload: &'a WorkloadName,
    port: u16,
    peer: &'a Peer,
    request: Option<&'a RequestAsked>,
}

impl<'a> Arrival<'a> {
    fn of_request(asked: &'a RequestAsked) -> Self {
        Self {
            workload: &asked.workload,
            port: asked.port,
            peer: &asked.peer,
            request: Some(asked),
        }
    }

    fn of_connection(asked: &'a ConnectionAsked) -> Self {
        Self {
            workload: &asked.workload,
            port: asked.port,
            peer: &asked.peer,
            request: None,
        }
    }

    fn head(&self) -> Option<Head> {
        let asked = self.request?;
        Some(Head {
            method: asked.method.clone(),
            path: asked.path.clone(),
            host: asked.host.clone(),
            query: None,
            headers: BTreeMap::new(),
        })
    }

    /// The port of a service that leads here; of several the one that the host names.
    fn called(&self, s: &Snapshot) -> Called {
        let workload = || Called::Workload(self.workload.clone());
        let Some(row) = s.workloads.get(self.workload) else {
            return workload();
        };
        let class = s.class_of(row);
        let services = class.into_iter().flat_map(|class| &class.services);
        let rows = services.filter_map(|name| s.services.get(name));
        let ports = rows.flat_map(|service| {
            let ports = service.ports.iter();
            let here = ports.filter(|port| port.target_on(row) == Some(self.port));
            here.map(|port| (service.name.clone(), port.port))
        });
        let all: Vec<(ServiceName, u16)> = ports.collect();
        let named = || {
            let host = &self.request?.host;
            let host = host.rsplit_once(':').map_or(&**host, |(host, _)| host);
            let own = self.peer.identity.as_ref().map(|id| &id.namespace);
            let name = service_named(host, own.unwrap_or(&row.class.namespace))?;
            all.iter().find(|(service, _)| *service == name).cloned()
        };
        let found = match all.as_slice() {
            [only] => Some(only.clone()),
            [] | [_, _, ..] => named(),
        };
        found.map_or_else(workload, |(service, port)| Called::Service(service, port))
    }
}

fn caller(s: &Snapshot, name: &WorkloadName) -> Option<From> {
    let row = s.workloads.get(name)?;
    Some(From {
        identity: Some(row.identity(&s.mesh.trust_domain)),
        address: row.address,
        place: Some(row.locality.clone()),
    })
}

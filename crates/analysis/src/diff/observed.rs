//! How many observed requests each difference concerns.
//!
//! A difference holds for a sort of caller, from some places, for some requests. An observed
//! request is asked in both states by the functions that found the differences, and counts for
//! those that say of its caller and place what then comes out.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use serde::Serialize;
use tacit_decide::observed::{Call, Head, Observed};
use tacit_decide::path::canonical;
use tacit_model::{Locality, Provenance, ServiceName};

use super::access::{self, Side, side};
use super::callers::{Sort, Sorts};
use super::requests::{Fields, Request};
use super::routes::{Pair, To, clients};
use super::{Both, Change, Diff, Kind, limits, port_of, routed};
use crate::call::Caller;
use crate::compiled::Compiled;

/// Observed requests and connections, all together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Observations {
    /// All of them.
    pub requests: u64,
    /// Those that a difference concerns.
    pub concerned: u64,
    /// Others, of which too little was seen or too little is known to tell.
    pub unclear: u64,
    /// Others that come out differently in a way that no difference names.
    pub unnamed: u64,
    /// Calls that differences do not cover: to a workload by its own address, or to a service that
    /// neither side has.
    pub not_covered: u64,
}

/// One thing that comes out differently.
pub(super) struct Told {
    pub(super) kind: Kind,
    pub(super) before: String,
    pub(super) after: String,
    pub(super) by: Option<Provenance>,
    pub(super) rule: Option<Provenance>,
}

/// What differs for a request.
#[derive(Default)]
struct Judged {
    /// Indexes of differences.
    concerned: BTreeSet<usize>,
    is_unclear: bool,
    is_unnamed: bool,
    is_not_covered: bool,
}

/// Counts observed requests by difference.
pub struct Counter<'a> {
    both: Both<'a>,
    found: Diff,
    counts: Vec<u64>,
    by_destination: BTreeMap<String, Vec<usize>>,
    sorts: Sorts,
    clients: BTreeSet<Locality>,
    ports: BTreeMap<(ServiceName, u16), Rc<Port<'a>>>,
    all: Observations,
}

/// A port that was called, in both states.
struct Port<'a> {
    destination: String,
    sides: [Option<To>; 2],
    /// Who serves it at each place.
    direct: BTreeMap<Locality, [Side<'a>; 2]>,
    routes: Option<routed::Observer<'a>>,
}

/// Who calls, and from where.
struct From<'a> {
    sort: &'a Sort,
    callers: [Caller; 2],
    place: Locality,
}

impl From<'_> {
    fn fits(&self, change: &Change) -> bool {
        let (label, place) = (&self.sort.label, self.place.to_string());
        (change.callers.is_empty() || change.callers.contains(label))
            && (change.places.is_empty() || change.places.contains(&place))
    }
}

impl<'a> Counter<'a> {
    /// For the differences between two states.
    #[must_use]
    pub fn new(before: &'a Compiled, after: &'a Compiled, found: Diff) -> Self {
        let both = Both::new(before, after);
        let mut by_destination: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (index, change) in found.changes.iter().enumerate() {
            let of = by_destination.entry(change.destination.clone());
            of.or_default().push(index);
        }
        Self {
            both,
            counts: vec![0; found.changes.len()],
            by_destination,
            sorts: Sorts::new(both),
            clients: clients(both).into_iter().collect(),
            ports: BTreeMap::new(),
            all: Observations::default(),
            found,
        }
    }

    /// Counts one.
    pub fn add(&mut self, observed: &Observed) {
        let judged = match observed {
            Observed::Outside => Judged {
                concerned: self.at("outside the mesh").collect(),
                ..Judged::default()
            },
            Observed::Workload => Judged {
                is_not_covered: true,
                ..Judged::default()
            },
            Observed::Call(call) => {
                let port = self.port(call);
                self.judge(call, &port)
            }
        };
        self.all.requests += 1;
        self.all.not_covered += u64::from(judged.is_not_covered);
        self.all.unnamed += u64::from(judged.is_unnamed);
        if !judged.concerned.is_empty() {
            self.all.concerned += 1;
        } else if judged.is_unclear && !judged.is_unnamed {
            self.all.unclear += 1;
        }
        for index in judged.concerned {
            self.counts[index] += 1;
        }
    }

    /// The differences with their counts.
    #[must_use]
    pub fn end(mut self) -> Diff {
        for (change, count) in self.found.changes.iter_mut().zip(self.counts) {
            change.observed = Some(count);
        }
        self.found.observed = Some(self.all);
        self.found
    }

    /// The differences of a destination.
    fn at(&self, destination: &str) -> impl Iterator<Item = usize> {
        let found = self.by_destination.get(destination);
        found.into_iter().flatten().copied()
    }

    fn port(&mut self, call: &Call) -> Rc<Port<'a>> {
        let key = (call.service.clone(), call.port);
        let (both, clients) = (self.both, &self.clients);
        let port = self.ports.entry(key).or_insert_with(|| {
            let sides = both.states().map(|state| {
                let service = state.snapshot.services.get(&call.service)?;
                port_of(service, call.port)
            });
            let mut port = Port {
                destination: format!("{}:{}", call.service, call.port),
                sides,
                direct: BTreeMap::new(),
                routes: None,
            };
            if let Some(to) = port.pair() {
                let [before, after] = both.states();
                let direct = clients.iter().map(|client| {
                    let sides = [side(before, to.old, client), side(after, to.new, client)];
                    (client.clone(), sides)
                });
                let direct = direct.collect();
                let routes = routed::Observer::new(both, &to);
                port.direct = direct;
                port.routes = routes;
            }
            Rc::new(port)
        });
        Rc::clone(port)
    }

    fn from(&self, call: &Call) -> Option<From<'_>> {
        let from = &call.from;
        let sort = self.sorts.of(from.identity.as_ref(), from.address)?;
        let [before, after] = self.both.states().map(|state| sort.caller(&state.snapshot));
        let place = from.place.clone();
        Some(From {
            sort,
            callers: [before?, after?],
            place: place
                .filter(|place| self.clients.contains(place))
                .unwrap_or_else(|| nowhere(self.both)),
        })
    }

    fn judge(&self, call: &Call, port: &Port<'_>) -> Judged {
        let mut judged = Judged::default();
        let Some(from) = self.from(call) else {
            judged.is_unclear = true;
            return judged;
        };
        let Some(to) = port.pair() else {
            judged.concerned = self.at(&port.destination).collect();
            judged.is_not_covered = port.sides.iter().all(Option::is_none);
            return judged;
        };
        let is_routed = port.routes.is_some() && from.sort.is_local;
        let head = call.head.as_ref();
        let seen = head.filter(|head| match &port.routes {
            Some(routes) if is_routed => routes.has_seen_all(head),
            Some(_) | None => true,
        });
        let Some(head) = seen else {
            self.unseen(call, (&from, is_routed), port, &mut judged);
            return judged;
        };
        let fields = fields(head);
        // As both halves read it.
        let path = canonical(&head.path).unwrap_or_else(|_| head.path.clone());
        let request = Request {
            method: &head.method,
            path: &path,
            host: &head.host,
            fields: &fields,
        };
        let (told, reached) = match &port.routes {
            Some(routes) if is_routed => {
                let asked = routes.ask(&to, &from.callers, &from.place, &request);
                judged.is_unclear = asked.is_unknown;
                (asked.told, asked.reached)
            }
            Some(_) | None => {
                let told = self.direct(port, &from, &request, &mut judged);
                (told, BTreeSet::from([port.destination.clone()]))
            }
        };
        self.attribute(call, &from, &told, &mut judged);
        self.places(port, &from, &reached, &mut judged);
        judged
    }

    /// Differences that say what came out; else there is one that nothing names.
    fn attribute(&self, call: &Call, from: &From<'_>, told: &[Told], judged: &mut Judged) {
        for told in told {
            let says = |index: &usize| {
                let change = &self.found.changes[*index];
                change.change == told.kind
                    && change.before == told.before
                    && change.after == told.after
                    && change.by == told.by
                    && change.rule == told.rule
                    && from.fits(change)
            };
            match self.of(call).find(says) {
                Some(index) => drop(judged.concerned.insert(index)),
                None => judged.is_unnamed = true,
            }
        }
    }

    /// All differences of what was called.
    fn of(&self, call: &Call) -> impl Iterator<Item = usize> {
        let service = call.service.to_string();
        let port = format!("{service}:{}", call.port);
        self.at(&service)
            .chain(self.at(&port))
            .collect::<Vec<_>>()
            .into_iter()
    }

    /// Where what a request reaches is served, and how; and the protocol of what was called.
    fn places(
        &self,
        port: &Port<'_>,
        from: &From<'_>,
        reached: &BTreeSet<String>,
        judged: &mut Judged,
    ) {
        for destination in reached.iter().chain([&port.destination]) {
            for index in self.at(destination) {
                let change = &self.found.changes[index];
                let is_it = match change.change {
                    Kind::Settings if change.before.starts_with("protocol ") => {
                        *destination == port.destination
                    }
                    Kind::Settings | Kind::Routes => reached.contains(destination),
                    Kind::Added
                    | Kind::Removed
                    | Kind::Rerouted
                    | Kind::Rewritten
                    | Kind::NewlyAllowed
                    | Kind::NewlyDenied
                    | Kind::Limits => false,
                };
                if is_it && from.fits(change) {
                    judged.concerned.insert(index);
                }
            }
        }
    }

    /// Of a connection, or of a request that was not seen whole, what holds for every request.
    fn unseen(
        &self,
        call: &Call,
        (from, is_routed): (&From<'_>, bool),
        port: &Port<'_>,
        judged: &mut Judged,
    ) {
        for index in self.of(call) {
            let change = &self.found.changes[index];
            let is_served = matches!(change.change, Kind::Routes | Kind::Settings);
            let is_told = match is_served {
                // Where it would have been routed to is not known.
                true => !is_routed || change.before.starts_with("protocol "),
                false => change.requests.is_empty(),
            };
            let is_asked = change.change != Kind::Limits || from.sort.is_local;
            match from.fits(change) && is_asked {
                true if is_told => drop(judged.concerned.insert(index)),
                true => judged.is_unclear = true,
                false => {}
            }
        }
        let sides = port.direct.get(&from.place).into_iter().flatten();
        judged.is_unclear |= self.is_unknown(sides);
    }

    /// What differs where no routes are followed.
    fn direct(
        &self,
        port: &Port<'_>,
        from: &From<'_>,
        request: &Request<'_>,
        judged: &mut Judged,
    ) -> Vec<Told> {
        let mut all = Vec::new();
        let [before, after] = &from.callers;
        if let Some([Side::By(old), Side::By(new)]) = port.direct.get(&from.place)
            && let Some((a, b, by)) = access::verdict((old, new), (before, after), request)
        {
            all.push(Told {
                kind: access::kind(a, b),
                before: a.shown(),
                after: b.shown(),
                by,
                rule: None,
            });
        }
        let sides = port.direct.get(&from.place).into_iter().flatten();
        judged.is_unclear |= self.is_unknown(sides);
        if let (true, Some(to)) = (from.sort.is_local && port.routes.is_none(), port.pair()) {
            all.extend(limits::told(
                self.both,
                [&to.old.0, &to.new.0],
                &from.callers,
            ));
        }
        all
    }

    /// True if one of the sides has no answer, and that is among what has none.
    fn is_unknown<'s>(&self, mut sides: impl Iterator<Item = &'s Side<'a>>) -> bool
    where
        'a: 's,
    {
        sides.any(|side| match side {
            Side::Unknown(why) => self.found.unknown.contains(why),
            Side::By(_) | Side::Nobody => false,
        })
    }
}

impl Port<'_> {
    fn pair(&self) -> Option<Pair<'_>> {
        let [old, new] = &self.sides;
        Some(Pair {
            destination: &self.destination,
            old: old.as_ref()?,
            new: new.as_ref()?,
        })
    }
}

/// The place of which nothing is known.
fn nowhere(both: Both<'_>) -> Locality {
    Locality {
        cluster: both.after.snapshot.mesh.cluster.clone(),
        ..Locality::default()
    }
}

fn fields(head: &Head) -> Fields {
    let headers = head.headers.iter();
    let sent = headers.filter_map(|(name, value)| {
        let value = value.as_ref()?;
        Some((name.as_str().into(), value.as_str().into()))
    });
    Fields {
        headers: sent.collect(),
        query: head.query.clone().unwrap_or_default(),
        label: String::new(),
    }
}

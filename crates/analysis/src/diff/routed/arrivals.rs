//! Who lets a request in where it arrives: the backends of its rule, seen from one place.

use std::collections::BTreeMap;

use tacit_model::route::Candidate;
use tacit_model::{Locality, Provenance, ServiceName};

use super::super::access::{Group, Level, Side, conditions, is_real, same, side};
use super::super::requests::{Fields, Request};
use super::super::routes::{Pair, To, clients};
use super::super::{Both, Kind};
use super::backends;
use super::way::Way;
use crate::call::Caller;

/// Who serves each backend in one state.
type Sides<'a> = BTreeMap<(ServiceName, u16), Side<'a>>;

/// Places of clients from which the same workloads serve in both states.
pub(super) struct Place<'a> {
    pub(super) at: Vec<Locality>,
    old: Sides<'a>,
    new: Sides<'a>,
}

/// Another verdict.
pub(super) struct Seen {
    pub(super) kind: Kind,
    pub(super) before: String,
    pub(super) after: String,
    pub(super) by: Option<Provenance>,
}

/// All places of clients, by who serves there.
pub(super) fn places<'a>(
    both: Both<'a>,
    to: &Pair<'_>,
    routes: &[Vec<&Candidate>; 2],
) -> Vec<Place<'a>> {
    let states = both.states();
    let old = backends(&states[0].snapshot, to.old, &routes[0]);
    let new = backends(&states[1].snapshot, to.new, &routes[1]);
    let mut places: Vec<Place<'a>> = Vec::new();
    for client in clients(both) {
        let sides = |state, backends: &[To]| -> Sides<'a> {
            let each = backends.iter().map(|to| {
                let key = (to.0.name.clone(), to.1.port);
                (key, side(state, to, &client))
            });
            each.collect()
        };
        let (old, new) = (sides(states[0], &old), sides(states[1], &new));
        let known = places
            .iter_mut()
            .find(|place| alike(&place.old, &old) && alike(&place.new, &new));
        match known {
            Some(place) => place.at.push(client),
            None => places.push(Place {
                at: vec![client],
                old,
                new,
            }),
        }
    }
    places
}

fn alike(a: &Sides<'_>, b: &Sides<'_>) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|((k, a), (l, b))| k == l && same(a, b))
}

impl<'a> Place<'a> {
    /// True if the same workloads of the files serve in both states.
    pub(super) fn is_same(&self, both: Both<'_>) -> bool {
        let real = |sides: &Sides<'_>, s| {
            sides.values().all(|side| match side {
                Side::By(groups) => is_real(groups, s),
                Side::Nobody | Side::Unknown(_) => true,
            })
        };
        real(&self.old, &both.before.snapshot)
            && real(&self.new, &both.after.snapshot)
            && alike(&self.old, &self.new)
    }

    fn groups(&self) -> impl Iterator<Item = &[Group<'a>]> {
        let sides = self.old.values().chain(self.new.values());
        sides.filter_map(|side| match side {
            Side::By(groups) => Some(groups.as_slice()),
            Side::Nobody | Side::Unknown(_) => None,
        })
    }

    /// What policies of those who serve ask of requests.
    pub(super) fn conditions(&self) -> impl Iterator<Item = &tacit_model::access::To> {
        self.groups().flat_map(conditions)
    }

    /// What has no answer, and why.
    pub(super) fn unknown(&self) -> impl Iterator<Item = String> {
        let sides = self.old.values().chain(self.new.values());
        sides.filter_map(|side| match side {
            Side::Unknown(why) => Some(why.clone()),
            Side::By(_) | Side::Nobody => None,
        })
    }

    /// What differs of who lets a request in; nothing where it arrives in one state only, or has
    /// no answer.
    pub(super) fn seen(
        &self,
        [old, new]: &[Way; 2],
        callers: &[Caller; 2],
        method: &str,
    ) -> Option<Seen> {
        let before = Levels::of(&self.old, old, &callers[0], method)?;
        let after = Levels::of(&self.new, new, &callers[1], method)?;
        let (told, now) = (before.shown(), after.shown());
        if told == now {
            return None;
        }
        let allows_more = before.share() < after.share();
        Some(Seen {
            kind: match allows_more {
                true => Kind::NewlyAllowed,
                false => Kind::NewlyDenied,
            },
            by: after
                .by(allows_more)
                .or_else(|| before.by(false).filter(|_| allows_more)),
            before: told,
            after: now,
        })
    }
}

/// How much of the traffic each backend lets in.
struct Levels<'l> {
    each: Vec<(&'l ServiceName, u16, u64, Level)>,
    groups: Vec<&'l Group<'l>>,
    caller: &'l Caller,
    request: Request<'l>,
}

const NO_FIELDS: &Fields = &Fields {
    headers: BTreeMap::new(),
    query: String::new(),
    label: String::new(),
};

impl<'l> Levels<'l> {
    fn of(sides: &'l Sides<'l>, way: &'l Way, caller: &'l Caller, method: &'l str) -> Option<Self> {
        let mut all = Self {
            each: Vec::new(),
            groups: Vec::new(),
            caller,
            // Policies look at nothing else.
            request: Request {
                method,
                path: &way.arrival.path,
                host: &way.arrival.host,
                fields: NO_FIELDS,
            },
        };
        for (service, port, share) in way.services() {
            match sides.get(&(service.clone(), port))? {
                Side::By(groups) => {
                    let level = Level::of(groups, caller, &all.request);
                    all.each.push((service, port, share, level));
                    all.groups.extend(groups);
                }
                // That nobody serves is said of the backend itself.
                Side::Nobody => {}
                Side::Unknown(_) => return None,
            }
        }
        (!all.each.is_empty()).then_some(all)
    }

    fn shown(&self) -> String {
        let levels = || self.each.iter().map(|(.., level)| *level);
        match levels().next() {
            Some(first) if levels().all(|level| level == first) => first.shown(),
            Some(_) | None => {
                let each = self.each.iter().map(|(service, port, _, level)| {
                    format!("{} at {service}:{port}", level.shown())
                });
                each.collect::<Vec<_>>().join(", ")
            }
        }
    }

    /// Of a million, what is let in.
    fn share(&self) -> u128 {
        let all: u128 = self
            .each
            .iter()
            .map(|(_, _, share, _)| u128::from(*share))
            .sum();
        let let_in = self
            .each
            .iter()
            .map(|(_, _, share, level)| u128::from(*share) * u128::from(level.per_million()));
        let_in.sum::<u128>() / all.max(1)
    }

    /// The field of the first that allows, or denies.
    fn by(&self, allows: bool) -> Option<Provenance> {
        let decides = |group: &&&Group<'_>| group.allows(self.caller, &self.request) == allows;
        let group = self.groups.iter().find(decides)?;
        group.by(self.caller, &self.request)
    }
}

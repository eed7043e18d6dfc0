//! Requests and connections to a port with routes in two states: where they go, what is changed on
//! the way, how long they may take, and who lets them in.
//!
//! Callers of the mesh follow the routes; others have no client half and reach the service itself.

use std::collections::{BTreeMap, BTreeSet};

use tacit_decide::resilience::effective;
use tacit_model::route::{Candidate, RouteRow};
use tacit_model::{Locality, Namespace, Provenance, Snapshot};

use super::callers::Sort;
use super::requests::{Index, Requests};
use super::routes::{Pair, To};
use super::{Both, Change, Diff, Kind, access, limits, plain};
use crate::call::Caller;
use crate::compiled::Compiled;

mod arrivals;
mod heads;
mod observer;
mod way;

use arrivals::{Place, places};
pub(super) use observer::Observer;
use way::Way;

/// Sorts of requests that are tried for one port. Each is asked for every sort of caller, so that
/// without a limit a few headers of many values would take hours.
const REQUESTS: usize = 20_000;

/// True if what comes to the port follows routes in one of the states.
pub(super) fn is_routed(both: Both<'_>, old: &To, new: &To) -> bool {
    let sides = both.states().into_iter().zip([old, new]);
    sides
        .into_iter()
        .any(|(state, to)| !candidates(&state.snapshot, to).is_empty())
}

/// Every match of a route that counts at the port, whoever it holds for.
fn candidates<'a>(s: &'a Snapshot, to: &To) -> Vec<&'a Candidate> {
    let (port, protocol) = (to.1.port, to.1.protocol);
    let all = s.routes_at(&to.0.name).into_iter();
    all.flat_map(|all| all.holding(port, protocol)).collect()
}

/// What becomes of requests besides where their backends are.
pub(super) fn compare(both: Both<'_>, to: &Pair<'_>, callers: &[Sort], found: &mut Diff) {
    let routes = [
        candidates(&both.before.snapshot, to.old),
        candidates(&both.after.snapshot, to.new),
    ];
    let each = |at: usize| routes[at].iter().map(|found| &*found.route);
    let same_routes = each(0).eq(each(1)) && to.old.1.protocol == to.new.1.protocol;
    let places = places(both, to, &routes);
    let same_limits = both.same_members && to.old.0.resilience == to.new.0.resilience;
    let same_places = places.iter().all(|place| place.is_same(both));
    if same_routes && same_limits && both.same_access && same_places {
        return;
    }
    let is_untouched = same_routes && both.same_access;
    let unknown = places.iter().flat_map(Place::unknown);
    found.unknown.extend(unknown.filter(|_| !is_untouched));
    let conditions = places.iter().flat_map(Place::conditions);
    let requests = Requests::new(&heads::mentioned([&routes[0], &routes[1]], conditions));
    let chosen = bounded(&requests, REQUESTS, to.destination, found);
    let asked = Asked {
        both,
        to,
        callers: callers_of(both, callers),
        requests: &requests,
        chosen: &chosen,
        namespaces: routes
            .iter()
            .flatten()
            .map(|found| &found.route.namespace)
            .collect(),
    };
    let ways = asked.ways();
    let (mut goes, mut limits) = (BTreeMap::new(), BTreeMap::new());
    for number in 0..asked.callers.len() {
        asked.goes(&ways, number, &mut goes);
        asked.limits(&ways, number, &mut limits);
    }
    goes.append(&mut limits);
    found.changes.extend(asked.changes(goes));
    let all: usize = places.iter().map(|place| place.at.len()).sum();
    let let_in = asked.let_in(&ways, &places);
    found
        .changes
        .extend(let_in.into_iter().map(|(change, at)| Change {
            places: match at.len() < all {
                true => at.iter().map(ToString::to_string).collect(),
                false => Vec::new(),
            },
            ..change
        }));
}

/// The requests to try. If they are too many, they are so many of them, evenly taken, and what is
/// left out is said.
fn bounded(requests: &Requests, limit: usize, destination: &str, found: &mut Diff) -> Vec<Index> {
    let all = requests.len();
    let step = all.div_ceil(limit).max(1);
    let chosen: Vec<Index> = requests.all().step_by(step).collect();
    if step > 1 {
        found.unknown.push(format!(
            "rules tell {all} sorts of requests to {destination} apart, and only {} of them were \
             compared (the limit is {limit})",
            chosen.len()
        ));
    }
    chosen
}

/// The callers of the mesh, as they are in each of the states.
fn callers_of<'a>(both: Both<'_>, sorts: &'a [Sort]) -> Vec<(&'a Sort, [Caller; 2])> {
    let local = sorts.iter().filter(|sort| sort.is_local);
    let asked = local.filter_map(|sort| {
        let [old, new] = both.states().map(|state| sort.caller(&state.snapshot));
        Some((sort, [old?, new?]))
    });
    asked.collect()
}

/// One difference, whoever and whatever it concerns.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct What {
    kind: Kind,
    /// The rule that the requests follow.
    rule: Option<Provenance>,
    before: String,
    after: String,
    by: Option<Provenance>,
    /// True if who decides stands in the old files.
    is_old: bool,
}

impl What {
    /// The rule, if another object decides.
    fn other_rule(&self) -> Option<&Provenance> {
        let rule = self.rule.as_ref();
        rule.filter(|rule| self.by.as_ref() != Some(rule))
    }
}

/// For each sort of caller the requests.
type Who = BTreeMap<usize, BTreeSet<Index>>;

/// Pairs of ways of the chosen requests, for callers of a namespace.
type Ways = BTreeMap<Option<Namespace>, Vec<[Way; 2]>>;

struct Asked<'a> {
    both: Both<'a>,
    to: &'a Pair<'a>,
    callers: Vec<(&'a Sort, [Caller; 2])>,
    requests: &'a Requests,
    chosen: &'a [Index],
    /// Those that have routes: of callers, nothing else matters to a route.
    namespaces: BTreeSet<&'a Namespace>,
}

impl Asked<'_> {
    fn namespace(&self, caller: usize) -> Option<Namespace> {
        let own = &self.callers[caller].1[0].row.class.namespace;
        self.namespaces.contains(own).then(|| own.clone())
    }

    fn ways(&self) -> Ways {
        let mut all = Ways::new();
        let states = [&self.both.before.snapshot, &self.both.after.snapshot];
        for (number, (_, [old, new])) in self.callers.iter().enumerate() {
            all.entry(self.namespace(number)).or_insert_with(|| {
                let way = |index: &Index| {
                    let request = self.requests.get(*index);
                    [
                        Way::of(states[0], &old.row, self.to.old, &request),
                        Way::of(states[1], &new.row, self.to.new, &request),
                    ]
                };
                self.chosen.iter().map(way).collect()
            });
        }
        all
    }

    fn of<'w>(&self, ways: &'w Ways, caller: usize) -> &'w [[Way; 2]] {
        let found = ways.get(&self.namespace(caller));
        found.map(Vec::as_slice).unwrap_or_default()
    }

    /// Where requests go, and what is changed on the way.
    fn goes(&self, ways: &Ways, caller: usize, found: &mut BTreeMap<What, Who>) {
        for (index, [old, new]) in self.chosen.iter().zip(self.of(ways, caller)) {
            let Some(what) = goes([old, new]) else {
                continue;
            };
            found
                .entry(what)
                .or_default()
                .entry(caller)
                .or_default()
                .insert(*index);
        }
    }

    /// Timeouts and further tries of what reaches a backend in both states.
    fn limits(&self, ways: &Ways, caller: usize, found: &mut BTreeMap<What, Who>) {
        type Rule = Option<(tacit_model::route::RouteKey, usize)>;
        let rule = |way: &Way| -> Rule {
            let by = way.by.as_ref()?;
            Some((by.route.key.clone(), by.rule))
        };
        let mut pairs: BTreeMap<[Rule; 2], (&[Way; 2], BTreeSet<Index>)> = BTreeMap::new();
        for (index, pair) in self.chosen.iter().zip(self.of(ways, caller)) {
            if pair.iter().all(Way::reaches) {
                let key = [rule(&pair[0]), rule(&pair[1])];
                pairs
                    .entry(key)
                    .or_insert((pair, BTreeSet::new()))
                    .1
                    .insert(*index);
            }
        }
        let (_, callers) = &self.callers[caller];
        for (pair, indexes) in pairs.into_values() {
            for what in limits_of(self.both, self.to, pair, callers) {
                let who = found.entry(what).or_default();
                who.entry(caller).or_default().extend(&indexes);
            }
        }
    }

    /// Who is let in by the backends, at the places of callers where it differs.
    fn let_in(&self, ways: &Ways, places: &[Place<'_>]) -> Vec<(Change, Vec<Locality>)> {
        let mut all: Vec<(Change, Vec<Locality>)> = Vec::new();
        for place in places {
            let mut found: BTreeMap<What, Who> = BTreeMap::new();
            for (number, (_, callers)) in self.callers.iter().enumerate() {
                for (index, pair) in self.chosen.iter().zip(self.of(ways, number)) {
                    let request = self.requests.get(*index);
                    let Some(what) = lets_in(place, pair, callers, request.method) else {
                        continue;
                    };
                    let who = found.entry(what).or_default();
                    who.entry(number).or_default().insert(*index);
                }
            }
            for change in self.changes(found) {
                match all.iter_mut().find(|(known, _)| *known == change) {
                    Some((_, at)) => at.extend(place.at.iter().cloned()),
                    None => all.push((change, place.at.clone())),
                }
            }
        }
        all
    }

    fn changes(&self, found: BTreeMap<What, Who>) -> Vec<Change> {
        let each = found.into_iter().flat_map(|(what, who)| {
            let together = access::together(who);
            let change = move |(some, who)| self.change(&what, &some, who);
            together.into_iter().map(change).collect::<Vec<_>>()
        });
        each.collect()
    }

    fn change(&self, what: &What, some: &BTreeSet<Index>, who: Vec<usize>) -> Change {
        let everyone = who.len() == self.callers.len();
        let labels = who
            .iter()
            .map(|number| self.callers[*number].0.label.clone());
        let (before, after) = (self.both.before, self.both.after);
        let line = |by: &Provenance| match what.is_old {
            true => before.line(by),
            false => after.line(by).or_else(|| before.line(by)),
        };
        let is_all = some.len() == self.chosen.len();
        Change {
            callers: labels.filter(|_| !everyone).collect(),
            requests: match is_all {
                true => Vec::new(),
                false => self.requests.shown(some),
            },
            before: what.before.clone(),
            after: what.after.clone(),
            line: what.by.as_ref().and_then(line),
            by: what.by.clone(),
            rule: what.other_rule().cloned(),
            ..plain(self.to.destination.to_owned(), what.kind)
        }
    }
}

/// A difference that the rule decides: the new one, else the old one.
fn what(kind: Kind, [old, new]: [&Way; 2], [before, after]: [String; 2]) -> What {
    let rule = new.rule.clone().or_else(|| old.rule.clone());
    What {
        kind,
        by: rule.clone(),
        is_old: new.rule.is_none(),
        rule,
        before,
        after,
    }
}

/// Where a request goes, or what is changed on the way.
fn goes(ways: [&Way; 2]) -> Option<What> {
    let [old, new] = ways;
    if old.goals != new.goals {
        Some(what(Kind::Rerouted, ways, [old.goes(), new.goes()]))
    } else if old.reaches() && old.arrival != new.arrival {
        Some(what(Kind::Rewritten, ways, [old.changes(), new.changes()]))
    } else {
        None
    }
}

/// Timeouts and further tries of a request that reaches a backend in both states.
fn limits_of(
    both: Both<'_>,
    to: &Pair<'_>,
    [old, new]: &[Way; 2],
    [before, after]: &[Caller; 2],
) -> Vec<What> {
    let limits = |state: &Compiled, to: &To, way: &Way, caller: &Caller| {
        let rule = way.by.as_ref().and_then(Candidate::rule);
        effective(&state.snapshot, &to.0, rule, &caller.row)
    };
    let a = limits(both.before, to.old, old, before);
    let b = limits(both.after, to.new, new, after);
    let differences = limits::differences(&a, &b).into_iter();
    let what = |(before, after, by)| What {
        by,
        is_old: false,
        ..what(Kind::Limits, [old, new], [before, after])
    };
    differences.map(what).collect()
}

/// Who lets a request in where it arrives.
fn lets_in(
    place: &Place<'_>,
    ways: &[Way; 2],
    callers: &[Caller; 2],
    method: &str,
) -> Option<What> {
    let seen = place.seen(ways, callers, method)?;
    let [old, new] = ways;
    Some(What {
        by: seen.by,
        is_old: false,
        ..what(seen.kind, [old, new], [seen.before, seen.after])
    })
}

/// The services that rows send requests to, with the parent itself.
fn backends(s: &Snapshot, to: &To, routes: &[&Candidate]) -> Vec<To> {
    let rows: BTreeMap<_, &RouteRow> = routes
        .iter()
        .map(|found| (found.route.key.clone(), &*found.route))
        .collect();
    let rules = rows.values().flat_map(|row| &row.rules);
    let mut names: BTreeSet<_> = rules.flat_map(way::backends).collect();
    names.insert((to.0.name.clone(), to.1.port));
    let found = names.into_iter().filter_map(|(name, port)| {
        let service = s.services.get(&name)?;
        let port = service.ports.iter().find(|known| known.port == port)?;
        Some((service.clone(), port.clone()))
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diff::requests::Mentioned;

    #[test]
    fn what_exceeds_the_limit_is_said() {
        let requests = Requests::new(&Mentioned {
            methods: ["GET", "PUT", "POST"].map(Into::into).into(),
            hosts: ["a", "b"].map(Into::into).into(),
            ..Mentioned::default()
        });
        assert_eq!(requests.len(), 16);
        let mut found = Diff::default();
        assert_eq!(bounded(&requests, 16, "a.b:80", &mut found).len(), 16);
        assert_eq!(found, Diff::default());
        assert_eq!(bounded(&requests, 7, "a.b:80", &mut found).len(), 6);
        assert_eq!(
            found.unknown,
            [
                "rules tell 16 sorts of requests to a.b:80 apart, and only 6 of them were compared \
              (the limit is 7)"
            ]
        );
    }
}

//! Who may call a port of a service in two states.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tacit_decide::{
    ConnectionVerdict, RequestHead, State, authorize_connection, authorize_request,
};
use tacit_model::tables::{ClassKey, WorkloadPort, WorkloadRow};
use tacit_model::{Locality, Provenance, Snapshot};

use super::callers::Sort;
use super::requests::{Index, Mentioned, Request, Requests};
use super::routes::{Pair, To, clients, serving};
use super::{Both, Change, Diff, Kind};
use crate::call::{Caller, Target, arrive};
use crate::compiled::{Compiled, has_no_workload};

/// Who serves the calls of one place.
#[derive(Clone)]
pub(super) enum Side<'a> {
    By(Vec<Group<'a>>),
    Nobody,
    Unknown(String),
}

/// Workloads that decide alike.
#[derive(Clone)]
pub(super) struct Group<'a> {
    s: &'a Snapshot,
    row: Arc<WorkloadRow>,
    port: u16,
    per_million: u64,
}

impl Group<'_> {
    /// All that decisions about access read of a workload.
    fn key(&self) -> (&ClassKey, &[WorkloadPort], u16) {
        (&self.row.class, &self.row.ports, self.port)
    }

    pub(super) fn allows(&self, caller: &Caller, request: &Request<'_>) -> bool {
        let head = RequestHead {
            method: request.method,
            path: request.path,
            host: request.host,
        };
        match authorize_connection(self.s, &self.row, self.port, &caller.peer) {
            ConnectionVerdict::Allow(_) => true,
            ConnectionVerdict::Deny(_) => false,
            ConnectionVerdict::InspectRequests(permit) => {
                authorize_request(self.s, &permit, &head).is_ok()
            }
        }
    }

    /// The field that decides; absent if no object does.
    pub(super) fn by(&self, caller: &Caller, request: &Request<'_>) -> Option<Provenance> {
        let target = Target {
            host: request.host.to_owned(),
            port: self.port,
            method: request.method.to_owned(),
            path: request.path.to_owned(),
            headers: BTreeMap::new(),
        };
        let reached = arrive(self.s, &self.row, self.port, 0, caller, &target);
        let by = reached.verdict.unwrap_or_else(|denial| denial.by);
        by.filter(|by| *by != Provenance::Default)
    }
}

/// How much of the traffic is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    None,
    /// Percent: some of the workloads that serve let it in.
    Some(u64),
    All,
}

impl Level {
    pub(super) fn of(groups: &[Group<'_>], caller: &Caller, request: &Request<'_>) -> Self {
        let (mut allowed, mut total) = (0, 0);
        for group in groups {
            total += group.per_million;
            if group.allows(caller, request) {
                allowed += group.per_million;
            }
        }
        match allowed {
            0 => Self::None,
            all if all == total => Self::All,
            // Shares were rounded down before: whole percents say enough.
            some => Self::Some((some * 100 + total / 2) / total),
        }
    }

    /// Of a million; what is not all or nothing never looks so.
    pub(super) fn per_million(self) -> u64 {
        match self {
            Self::None => 0,
            Self::Some(percent) => (percent * 10_000).clamp(1, 999_999),
            Self::All => 1_000_000,
        }
    }

    pub(super) fn shown(self) -> String {
        match self {
            Self::None => "denied".to_owned(),
            Self::Some(percent) => format!("allowed by {percent} % of those who serve it"),
            Self::All => "allowed".to_owned(),
        }
    }
}

/// Compares who may call the service itself, of the callers that `asks`.
pub(super) fn compare(
    both: Both<'_>,
    to: &Pair<'_>,
    (callers, asks): (&[Sort], fn(&Sort) -> bool),
    found: &mut Diff,
) {
    let mut pairs: Vec<(Side<'_>, Side<'_>, Vec<Locality>)> = Vec::new();
    for client in clients(both) {
        let old = side(both.before, to.old, &client);
        let new = side(both.after, to.new, &client);
        match pairs
            .iter_mut()
            .find(|(o, n, _)| same(o, &old) && same(n, &new))
        {
            Some((_, _, clients)) => clients.push(client),
            None => pairs.push((old, new, vec![client])),
        }
    }
    let untouched = both.same_access;
    let mut changes: Vec<(Change, Vec<Locality>)> = Vec::new();
    let mut places = 0;
    for (old, new, clients) in pairs {
        let (Side::By(old), Side::By(new)) = (&old, &new) else {
            // Where nobody serves is said by the routes.
            found.unknown.extend(unknown(old, untouched));
            found.unknown.extend(unknown(new, untouched));
            continue;
        };
        places += clients.len();
        let real = is_real(old, &both.before.snapshot) && is_real(new, &both.after.snapshot);
        if untouched && real && keys(old) == keys(new) {
            continue;
        }
        for change in changed(both, to, (callers, asks), (old, new)) {
            match changes.iter_mut().find(|(known, _)| *known == change) {
                Some((_, known)) => known.extend(clients.iter().cloned()),
                None => changes.push((change, clients.clone())),
            }
        }
    }
    found
        .changes
        .extend(changes.into_iter().map(|(change, clients)| Change {
            places: match clients.len() < places {
                true => clients.iter().map(ToString::to_string).collect(),
                false => Vec::new(),
            },
            ..change
        }));
}

fn unknown(side: Side<'_>, untouched: bool) -> Option<String> {
    match side {
        // What could not be said before has not changed, if nothing that it depends on has.
        Side::Unknown(why) => (!untouched).then_some(why),
        Side::By(_) | Side::Nobody => None,
    }
}

pub(super) fn side<'a>(state: &'a Compiled, to: &To, at: &Locality) -> Side<'a> {
    let s = &state.snapshot;
    let name = &to.0.name;
    if !has_no_workload(s, name) {
        let all = serving(s, &State::new(), to, at);
        let mut groups: Vec<Group<'a>> = Vec::new();
        for one in all {
            let group = Group {
                s,
                row: one.workload,
                port: one.endpoint.port(),
                per_million: one.per_million,
            };
            match groups.iter_mut().find(|known| known.key() == group.key()) {
                Some(known) => known.per_million += group.per_million,
                None => groups.push(group),
            }
        }
        return if groups.is_empty() {
            Side::Nobody
        } else {
            Side::By(groups)
        };
    }
    let s = match state.assumed.of(name) {
        Ok(s) => s,
        Err(why) => return Side::Unknown(why),
    };
    let row = s.endpoints(name).first();
    match row.and_then(|row| Some((row.clone(), to.1.target_on(row)?))) {
        Some((row, port)) => Side::By(vec![Group {
            s,
            row,
            port,
            per_million: 1_000_000,
        }]),
        None => Side::Nobody,
    }
}

/// True if they are workloads of the files.
pub(super) fn is_real(groups: &[Group<'_>], s: &Snapshot) -> bool {
    groups.iter().all(|group| std::ptr::eq(group.s, s))
}

pub(super) fn same(a: &Side<'_>, b: &Side<'_>) -> bool {
    match (a, b) {
        (Side::By(a), Side::By(b)) => keys(a) == keys(b),
        (Side::Nobody, Side::Nobody) => true,
        (Side::Unknown(a), Side::Unknown(b)) => a == b,
        (Side::By(_) | Side::Nobody | Side::Unknown(_), _) => false,
    }
}

pub(super) type Key<'a> = ((&'a ClassKey, &'a [WorkloadPort], u16), u64);

pub(super) fn keys<'a>(groups: &'a [Group<'_>]) -> Vec<Key<'a>> {
    groups
        .iter()
        .map(|group| (group.key(), group.per_million))
        .collect()
}

pub(super) type Sides<'g, 'a> = (&'g [Group<'a>], &'g [Group<'a>]);
pub(super) type What = (Level, Level, Option<Provenance>);

/// What differs between those who serve before and after.
fn changed(
    both: Both<'_>,
    to: &Pair<'_>,
    (callers, asks): (&[Sort], fn(&Sort) -> bool),
    sides: Sides<'_, '_>,
) -> Vec<Change> {
    let (old, new) = sides;
    let requests = Requests::new(&Mentioned::of(conditions(old).chain(conditions(new))));
    let mut found: BTreeMap<What, BTreeMap<usize, BTreeSet<Index>>> = BTreeMap::new();
    for (number, sort) in callers.iter().enumerate().filter(|(_, sort)| asks(sort)) {
        let Some((before, after)) = both_callers(sort, sides) else {
            continue;
        };
        for index in requests.all() {
            let request = requests.get(index);
            if let Some(what) = verdict(sides, (&before, &after), &request) {
                let what = found.entry(what).or_default();
                what.entry(number).or_default().insert(index);
            }
        }
    }
    let each = found.into_iter().flat_map(|(what, who)| {
        let together = together(who);
        together
            .into_iter()
            .map(move |(some, who)| (what.clone(), some, who))
    });
    let change = |((before, after, by), some, who): (What, BTreeSet<Index>, Vec<usize>)| Change {
        destination: to.destination.to_owned(),
        change: kind(before, after),
        callers: match who.len() == callers.len() {
            true => Vec::new(),
            false => who
                .iter()
                .map(|number| callers[*number].label.clone())
                .collect(),
        },
        places: Vec::new(),
        requests: requests.shown(&some),
        before: before.shown(),
        after: after.shown(),
        line: by
            .as_ref()
            .and_then(|by| both.after.line(by).or_else(|| both.before.line(by))),
        by,
        rule: None,
        observed: None,
    };
    each.map(change).collect()
}

/// More is let in, or less.
pub(super) fn kind(before: Level, after: Level) -> Kind {
    if before < after {
        Kind::NewlyAllowed
    } else {
        Kind::NewlyDenied
    }
}

fn both_callers(sort: &Sort, (old, new): Sides<'_, '_>) -> Option<(Caller, Caller)> {
    Some((sort.caller(old.first()?.s)?, sort.caller(new.first()?.s)?))
}

/// Callers with the same requests.
pub(super) fn together(
    who: BTreeMap<usize, BTreeSet<Index>>,
) -> Vec<(BTreeSet<Index>, Vec<usize>)> {
    let mut together: BTreeMap<BTreeSet<Index>, Vec<usize>> = BTreeMap::new();
    for (number, requests) in who {
        together.entry(requests).or_default().push(number);
    }
    together.into_iter().collect()
}

/// What differs for one caller and request; nothing if it is the same.
pub(super) fn verdict(
    sides: Sides<'_, '_>,
    (before, after): (&Caller, &Caller),
    request: &Request<'_>,
) -> Option<What> {
    let (old, new) = sides;
    let levels = (
        Level::of(old, before, request),
        Level::of(new, after, request),
    );
    (levels.0 != levels.1).then(|| {
        let by = by(levels, sides, (before, after), request);
        (levels.0, levels.1, by)
    })
}

/// What denies now; or what allows now, else what denied before.
fn by(
    levels: (Level, Level),
    (old, new): Sides<'_, '_>,
    (before, after): (&Caller, &Caller),
    request: &Request<'_>,
) -> Option<Provenance> {
    let allows_more = levels.0 < levels.1;
    let decides = |group: &&Group<'_>| group.allows(after, request) == allows_more;
    let now = new
        .iter()
        .find(decides)
        .and_then(|group| group.by(after, request));
    let denied = |group: &&Group<'_>| !group.allows(before, request);
    now.or_else(|| {
        let group = old.iter().find(denied).filter(|_| allows_more)?;
        group.by(before, request)
    })
}

/// What the policies that apply to groups ask of requests.
pub(super) fn conditions<'g>(
    groups: &'g [Group<'_>],
) -> impl Iterator<Item = &'g tacit_model::access::To> {
    let classes = groups
        .iter()
        .filter_map(|group| Some((group.s, group.s.class_of(&group.row)?)));
    let rows = classes.flat_map(|(s, class)| {
        class
            .access
            .iter()
            .filter_map(|attached| s.access.get(&attached.policy))
    });
    rows.flat_map(|row| &row.rules).flat_map(|rule| &rule.to)
}

//! Timeouts and further tries of calls to a service in two states.

use std::collections::BTreeMap;
use std::fmt::Debug;

use tacit_decide::resilience::effective;
use tacit_model::resilience::Resilience;
use tacit_model::tables::ServiceRow;
use tacit_model::{Provenance, ServiceName, Sourced};

use super::callers::Sort;
use super::observed::Told;
use super::{Both, Change, Diff, Kind, plain};
use crate::call::Caller;

/// A field that differs: what it was, what it is, and who says so.
pub(super) type Difference = (String, String, Option<Provenance>);

/// Compares what applies to every caller of the mesh.
pub(super) fn compare(
    both: Both<'_>,
    (name, destination): (&ServiceName, &str),
    callers: &[Sort],
    found: &mut Diff,
) {
    let [old, new] = both.states().map(|state| state.snapshot.services.get(name));
    let (Some(old), Some(new)) = (old, new) else {
        return;
    };
    if old.resilience == new.resilience && both.same_members {
        return;
    }
    let local: Vec<&Sort> = callers.iter().filter(|sort| sort.is_local).collect();
    let mut by_field: BTreeMap<Difference, Vec<String>> = BTreeMap::new();
    for sort in &local {
        let (before, after) = (&both.before.snapshot, &both.after.snapshot);
        let (Some(a), Some(b)) = (sort.caller(before), sort.caller(after)) else {
            continue;
        };
        let a = effective(before, old, None, &a.row);
        let b = effective(after, new, None, &b.row);
        for difference in differences(&a, &b) {
            by_field
                .entry(difference)
                .or_default()
                .push(sort.label.clone());
        }
    }
    let change = plain(destination.to_owned(), Kind::Limits);
    let changes = by_callers(both, &change, local.len(), by_field);
    found.changes.extend(changes);
}

/// Changes like `change`, for the callers of each difference; none are named if it is `all`.
pub(super) fn by_callers(
    both: Both<'_>,
    change: &Change,
    all: usize,
    differences: BTreeMap<Difference, Vec<String>>,
) -> impl Iterator<Item = Change> {
    let one = move |((before, after, by), who): (Difference, Vec<String>)| Change {
        callers: match who.len() == all {
            true => Vec::new(),
            false => who,
        },
        before,
        after,
        line: by.as_ref().and_then(|by| both.after.line(by)),
        by,
        ..change.clone()
    };
    differences.into_iter().map(one)
}

/// What differs for one caller.
pub(super) fn told(
    both: Both<'_>,
    [old, new]: [&ServiceRow; 2],
    [before, after]: &[Caller; 2],
) -> Vec<Told> {
    let [a, b] = both.states().map(|state| &state.snapshot);
    let a = effective(a, old, None, &before.row);
    let b = effective(b, new, None, &after.row);
    let told = |(before, after, by)| Told {
        kind: Kind::Limits,
        before,
        after,
        by,
        rule: None,
    };
    differences(&a, &b).into_iter().map(told).collect()
}

/// The fields that differ.
pub(super) fn differences(old: &Resilience, new: &Resilience) -> Vec<Difference> {
    let Resilience {
        request,
        per_try,
        idle,
        connect,
        attempts,
        when,
        methods,
        backoff,
        budget,
        max_body,
    } = old;
    let all = [
        field("timeout.request", request, &new.request),
        field("timeout.perTry", per_try, &new.per_try),
        field("timeout.idle", idle, &new.idle),
        field("timeout.connect", connect, &new.connect),
        field("retry.attempts", attempts, &new.attempts),
        field("retry.on", when, &new.when),
        field("retry.methods", methods, &new.methods),
        field("retry.backoff", backoff, &new.backoff),
        field("retry.budget", budget, &new.budget),
        field("retry.maxBody", max_body, &new.max_body),
    ];
    all.into_iter().flatten().collect()
}

fn field<T: PartialEq + Debug>(
    name: &str,
    old: &Sourced<T>,
    new: &Sourced<T>,
) -> Option<Difference> {
    let shown = |value: &T| match format!("{value:?}").as_str() {
        // Zero is no limit.
        "0ns" => format!("{name} none"),
        text => format!("{name} {text}"),
    };
    let by = Some(new.from.clone()).filter(|from| *from != Provenance::Default);
    (old.value != new.value).then(|| (shown(&old.value), shown(&new.value), by))
}

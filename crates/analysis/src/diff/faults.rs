//! Failures that are made on purpose of calls to a service, in two states.

use std::collections::BTreeMap;

use tacit_decide::fault::applying;
use tacit_model::Provenance;
use tacit_model::fault::FaultLayer;
use tacit_model::now::rfc3339;

use super::callers::Sort;
use super::limits::{Difference, by_callers};
use super::routes::Pair;
use super::{Both, Diff, Kind, plain};

/// Compares what may befall every caller of the mesh.
pub(super) fn compare(both: Both<'_>, to: &Pair<'_>, callers: &[Sort], found: &mut Diff) {
    let (old, new) = (&to.old.0, &to.new.0);
    if old.faults == new.faults && (both.same_members || new.faults.is_empty()) {
        return;
    }
    let local: Vec<&Sort> = callers.iter().filter(|sort| sort.is_local).collect();
    let mut by_fault: BTreeMap<Difference, Vec<String>> = BTreeMap::new();
    for sort in &local {
        let (before, after) = (&both.before.snapshot, &both.after.snapshot);
        let (Some(a), Some(b)) = (sort.caller(before), sort.caller(after)) else {
            continue;
        };
        let a = shown(&applying(before, old, &a.row));
        let layers = applying(after, new, &b.row);
        let b = shown(&layers);
        if a != b {
            let labels = by_fault.entry((a, b, origin(&layers))).or_default();
            labels.push(sort.label.clone());
        }
    }
    let change = plain(to.destination.to_owned(), Kind::Settings);
    let changes = by_callers(both, &change, local.len(), by_fault);
    found.changes.extend(changes);
}

fn shown(layers: &[&FaultLayer]) -> String {
    let one = |layer: &&FaultLayer| {
        let delay = layer.delay.iter().map(|found| found.value.to_string());
        let abort = layer.abort.iter().map(|found| found.value.to_string());
        let parts: Vec<String> = delay.chain(abort).collect();
        format!("{} until {}", parts.join(", "), rfc3339(layer.until))
    };
    if layers.is_empty() {
        return "fault none".to_owned();
    }
    let texts: Vec<String> = layers.iter().map(one).collect();
    format!("fault {}", texts.join("; "))
}

/// Where the first of them is written.
fn origin(layers: &[&FaultLayer]) -> Option<Provenance> {
    let first = layers.first()?;
    let abort = || first.abort.as_ref().map(|found| found.from.clone());
    let delay = first.delay.as_ref().map(|found| found.from.clone());
    delay.or_else(abort)
}

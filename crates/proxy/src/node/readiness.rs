//! Which ports of this node's workloads accept connections, looked at a few times a second.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use tacit_model::{Snapshot, WorkloadName};

use super::context::row;
use super::listening;
use super::local::Local;
use crate::control::Control;
use crate::log;

/// Between two looks: what a server that begins to listen waits at most to be found.
const LOOK: Duration = Duration::from_millis(100);

/// Looks for ever; a change is reported at once.
pub(crate) async fn watch(control: Rc<Control>) {
    loop {
        look(&control);
        tokio::time::sleep(LOOK).await;
    }
}

/// Looks once.
pub(crate) fn look(control: &Control) {
    let snapshot = control.shared.current();
    let mut seen = BTreeMap::new();
    for hosted in control.hosted.borrow().values() {
        match listening::ports(&hosted.local.namespace.netns) {
            Ok(ports) => {
                let watched = watched(&snapshot, &hosted.local);
                let ready: BTreeSet<u16> = ports.intersection(&watched).copied().collect();
                seen.insert(hosted.local.name.clone(), ready);
            }
            Err(error) => log::warn("readiness", format!("{}: {error}", hosted.local.name)),
        }
    }
    let mut known = control.ready.borrow_mut();
    if *known != seen {
        *known = seen;
        control.readiness.notify_one();
    }
}

/// The ports that some service leads to.
fn watched(snapshot: &Snapshot, local: &Local) -> BTreeSet<u16> {
    let Some(row) = row(snapshot, local) else {
        return BTreeSet::new();
    };
    let services = snapshot.class_of(row).map(|class| &class.services);
    let rows = services
        .into_iter()
        .flatten()
        .filter_map(|name| snapshot.services.get(name));
    rows.flat_map(|service| &service.ports)
        .filter_map(|port| port.target_on(row))
        .collect()
}

/// What was seen last, for each workload of this node.
pub(crate) fn all(control: &Control) -> BTreeMap<WorkloadName, BTreeSet<u16>> {
    control.ready.borrow().clone()
}

//! Is a failure made of this request on purpose?
//!
//! Decided once for a request, by the node of its caller, before anything is sent: what befalls
//! it stands for what the caller gets in the end, so no further try is made of it and no endpoint
//! is blamed.

use tacit_model::access::Action;
use tacit_model::fault::{Abort, Delay, FaultLayer, Injected};
use tacit_model::tables::{ServiceRow, WorkloadRow};
use tacit_model::{Dice, Now, Snapshot, Sourced};

use crate::matching::{Caller, from_matches};

/// What may befall calls of one caller to one service now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// A share waits.
    pub delay: Option<Sourced<Delay>>,
    /// A share is answered.
    pub abort: Option<Sourced<Abort>>,
}

/// What the policies say of calls of `source` to `service`, whenever they are, the first first.
#[must_use]
pub fn applying<'s>(
    s: &'s Snapshot,
    service: &'s ServiceRow,
    source: &WorkloadRow,
) -> Vec<&'s FaultLayer> {
    // Most services have none, and this is asked for each request.
    if service.faults.is_empty() {
        return Vec::new();
    }
    let identity = source.identity(&s.mesh.trust_domain);
    let caller = Caller {
        identity: Some(&identity),
        address: source.address,
    };
    let applies = |layer: &&FaultLayer| {
        let among = |callers: &Vec<_>| {
            let mut callers = callers.iter();
            callers.any(|from| from_matches(s, from, Action::Allow, caller))
        };
        layer.callers.as_ref().is_none_or(among)
    };
    service.faults.iter().filter(applies).collect()
}

/// The faults that hold for calls of `source` to `service` at this moment, field by field.
#[must_use]
pub fn holding(s: &Snapshot, service: &ServiceRow, source: &WorkloadRow, now: Now) -> Faults {
    let mut found = Faults::default();
    let seconds = now.unix_ns / 1_000_000_000;
    let layers = applying(s, service, source).into_iter();
    for layer in layers.filter(|layer| seconds < layer.until) {
        found.delay = found.delay.or_else(|| layer.delay.clone());
        found.abort = found.abort.or_else(|| layer.abort.clone());
    }
    found
}

/// What befalls one request: each fault by a chance of its own.
#[must_use]
pub fn inject(
    s: &Snapshot,
    service: &ServiceRow,
    source: &WorkloadRow,
    now: Now,
    dice: Dice,
) -> Injected {
    let Faults { delay, abort } = holding(s, service, source, now);
    let (for_delay, dice) = dice.below(100);
    let (for_abort, _) = dice.below(100);
    let befalls = |share: u32, rolled: u64| rolled < u64::from(share);
    Injected {
        delay: delay
            .filter(|found| befalls(found.value.share_percent, for_delay))
            .map(|found| Sourced {
                value: found.value.time,
                from: found.from,
            }),
        abort: abort
            .filter(|found| befalls(found.value.share_percent, for_abort))
            .map(|found| Sourced {
                value: found.value.status,
                from: found.from,
            }),
    }
}

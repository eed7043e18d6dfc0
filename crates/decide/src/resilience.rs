//! Timeouts and retries of one caller towards one service, folded from layers field by field.

use tacit_model::access::Action;
use tacit_model::resilience::{Fields, Layer, Resilience};
use tacit_model::route::RouteRule;
use tacit_model::tables::{ServiceRow, WorkloadRow};
use tacit_model::{Snapshot, Sourced};

use crate::matching::{Caller, from_matches};

/// What applies to calls of `source` to `service` that follow `rule` of a route, if there is one.
/// It depends on nothing else, so a connection asks once per generation.
#[must_use]
pub fn effective(
    s: &Snapshot,
    service: &ServiceRow,
    rule: Option<&RouteRule>,
    source: &WorkloadRow,
) -> Resilience {
    let identity = source.identity(&s.mesh.trust_domain);
    let caller = Caller {
        identity: Some(&identity),
        address: source.address,
    };
    let applies = |layer: &&Layer| match &layer.callers {
        None => true,
        Some(callers) => callers
            .iter()
            .any(|from| from_matches(s, from, Action::Allow, caller)),
    };
    let mut folded = Fields::default();
    let own = rule.and_then(|rule| rule.resilience.as_ref());
    for layer in own.unwrap_or(&service.resilience).iter().filter(applies) {
        fold(&mut folded, &layer.fields);
    }
    resolve(folded)
}

/// The first layer that sets a field wins it.
fn fold(folded: &mut Fields, layer: &Fields) {
    let Fields {
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
    } = layer;
    take(&mut folded.request, request.as_ref());
    take(&mut folded.per_try, per_try.as_ref());
    take(&mut folded.idle, idle.as_ref());
    take(&mut folded.connect, connect.as_ref());
    take(&mut folded.attempts, attempts.as_ref());
    take(&mut folded.when, when.as_ref());
    take(&mut folded.methods, methods.as_ref());
    take(&mut folded.backoff, backoff.as_ref());
    take(&mut folded.budget, budget.as_ref());
    take(&mut folded.max_body, max_body.as_ref());
}

fn take<T: Clone>(field: &mut Option<Sourced<T>>, layer: Option<&Sourced<T>>) {
    if field.is_none() {
        *field = layer.cloned();
    }
}

/// What nobody set has its documented default.
fn resolve(fields: Fields) -> Resilience {
    let default = Resilience::default();
    Resilience {
        request: fields.request.unwrap_or(default.request),
        per_try: fields.per_try.unwrap_or(default.per_try),
        idle: fields.idle.unwrap_or(default.idle),
        connect: fields.connect.unwrap_or(default.connect),
        attempts: fields.attempts.unwrap_or(default.attempts),
        when: fields.when.unwrap_or(default.when),
        methods: fields.methods.unwrap_or(default.methods),
        backoff: fields.backoff.unwrap_or(default.backoff),
        budget: fields.budget.unwrap_or(default.budget),
        max_body: fields.max_body.unwrap_or(default.max_body),
    }
}

//! Failures that a FaultPolicy makes of a request on purpose, before its first try.

use std::time::Duration;

use http::Response;
use tacit_decide::Decider;
use tacit_model::Now;
use tacit_model::fault::Injected;
use tacit_model::tables::ServiceRow;

use super::call::Call;
use crate::response_body::ResponseBody;

/// Decides what befalls a request to `parent`, and notes it for its event and its answer.
pub(super) fn decide(
    call: &Call<'_>,
    decider: &Decider<'_>,
    parent: &ServiceRow,
) -> Option<Box<Injected>> {
    if parent.faults.is_empty() {
        return None;
    }
    let worker = &call.caller.half.worker;
    let now = (worker.clock)();
    let injected = decider.inject(parent, &call.source, now, (worker.dice)());
    if injected == Injected::default() {
        return None;
    }
    let injected = Box::new(injected);
    call.flight.injected.replace(Some(injected.clone()));
    Some(injected)
}

/// Lets it befall the request: waits, no longer than the request has time. The answer, if it ends
/// here.
pub(super) async fn befall(
    call: &Call<'_>,
    mut injected: Box<Injected>,
    deadline: Option<Now>,
) -> Option<Response<ResponseBody>> {
    let connection = &call.caller.connection;
    if let Some(delay) = &injected.delay {
        let now = (call.caller.half.worker.clock)();
        let left = deadline.map_or(Duration::MAX, |deadline| deadline.since(now));
        tokio::time::sleep(left.min(delay.value)).await;
        if left < delay.value {
            // What would have come after the wait does not.
            injected.abort = None;
            let why = format!("the request has no more time: {injected}");
            call.flight.injected.replace(Some(injected));
            return Some(connection.injected(call.flight, 504, &why));
        }
    }
    let status = injected.abort.as_ref()?.value;
    Some(connection.injected(call.flight, status, &injected.to_string()))
}

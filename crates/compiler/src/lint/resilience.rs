//! Advice about timeouts and retries.

use std::time::Duration;

use tacit_api::retry_timeout::{Retry, RetryOn, RetryTimeoutPolicySpec, Timeout};
use tacit_api::values::DurationText;
use tacit_model::tables::Protocol;

use super::{World, callers, listed_twice};
use crate::findings::{
    CONNECT_TOO_LONG, NEVER_REPEATED, NO_EFFECT, NOT_REPEATED_WHEN_LATE, REQUESTS_ON_BYTES, Report,
    TRIES_DO_NOT_FIT,
};
use crate::policies::Placed;
use crate::retry_timeout::Parts;
use crate::targets::{Closeness, Hit};

/// Methods that `nonIdempotent` does not change anything for: RFC 9110, section 9.2.2.
const IDEMPOTENT: [&str; 6] = ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"];

/// Checks a policy with its callers and its targets.
pub(super) fn policy(
    report: &mut Report<'_>,
    world: &World<'_, '_>,
    placed: Option<&Placed<'_>>,
    spec: &RetryTimeoutPolicySpec,
) {
    let parts = Parts::of(spec);
    check(report, &parts);
    callers::check(report, world, "spec.from", spec.from.as_deref());
    if let Some(placed) = placed {
        on_bytes(report, world, placed, &parts);
    }
}

/// Checks a policy, or `defaults`, by itself.
pub(super) fn check(report: &mut Report<'_>, parts: &Parts<'_>) {
    let at = parts.at;
    if let Some(timeout) = parts.timeout {
        connect(report, at, timeout);
    }
    if let Some(retry) = parts.retry {
        let field = |name: &str| format!("{at}.retry.{name}");
        listed_twice(report, &field("on"), retry.on.as_deref());
        listed_twice(report, &field("codes"), retry.codes.as_deref());
        listed_twice(report, &field("methods"), retry.methods.as_deref());
        never_repeated(report, at, retry);
        non_idempotent(report, at, retry);
    }
    if let (Some(timeout), Some(retry)) = (parts.timeout, parts.retry) {
        tries(report, at, timeout, retry);
    }
}

/// A time that is a limit: zero means that there is none.
fn limit(text: Option<&DurationText>) -> Option<Duration> {
    text.map(DurationText::duration)
        .filter(|value| !value.is_zero())
}

/// The time to connect is part of the time for a request. A try that `perTry` ends before its
/// first byte was sent is repeated; one that `request` ends is not.
fn connect(report: &mut Report<'_>, at: &str, timeout: &Timeout) {
    let limits = (
        limit(timeout.connect.as_ref()),
        limit(timeout.request.as_ref()),
    );
    let (Some(connect), Some(request)) = limits else {
        return;
    };
    let per_try = limit(timeout.per_try.as_ref());
    if connect >= request
        && per_try.is_none_or(|per_try| per_try >= request)
        && let Some(text) = &timeout.request
    {
        let message =
            format!("an endpoint that cannot be reached uses up all of the request's {text}");
        report.say(CONNECT_TOO_LONG, &format!("{at}.timeout.connect"), message);
    }
}

fn never_repeated(report: &mut Report<'_>, at: &str, retry: &Retry) {
    let Some(attempts) = retry.attempts.filter(|attempts| *attempts > 0) else {
        return;
    };
    if let Some(budget) = &retry.budget
        && (budget.retry_percent, budget.min_per_second) == (Some(0), Some(0))
        // A request that is lost with its endpoint is repeated outside the budget.
        && !retry.on.iter().flatten().any(|on| *on == RetryOn::Reset)
    {
        let message = format!("attempts: {attempts}, and the budget has no room for one");
        report.say(NEVER_REPEATED, &format!("{at}.retry.budget"), message);
    }
    if retry.on.as_ref().is_some_and(Vec::is_empty)
        && retry.codes.as_ref().is_none_or(Vec::is_empty)
    {
        let message =
            format!("attempts: {attempts}, and no outcome is named after which one is made");
        report.say(NEVER_REPEATED, &format!("{at}.retry.on"), message);
    }
}

fn non_idempotent(report: &mut Report<'_>, at: &str, retry: &Retry) {
    let Some(methods) = retry.methods.as_ref().filter(|list| !list.is_empty()) else {
        return;
    };
    let idempotent = |method: &String| IDEMPOTENT.contains(&method.as_str());
    if retry.non_idempotent == Some(true) && methods.iter().all(idempotent) {
        let message = "every method that is listed may be repeated anyway".to_owned();
        let fix = "list POST or PATCH, or remove nonIdempotent".to_owned();
        let field = format!("{at}.retry.nonIdempotent");
        report.add(NO_EFFECT, &field, message, Some(fix));
    }
}

/// Further tries after one that ran out: are they made, and is there time for them.
fn tries(report: &mut Report<'_>, at: &str, timeout: &Timeout, retry: &Retry) {
    let Some(attempts) = retry.attempts.filter(|attempts| *attempts > 0) else {
        return;
    };
    let (Some(per_try), Some(on)) = (limit(timeout.per_try.as_ref()), &retry.on) else {
        return;
    };
    if !on.contains(&RetryOn::DeadlineExceeded) {
        let message = "a try that ends by perTry is not repeated: `on` has no DeadlineExceeded";
        return report.say(
            NOT_REPEATED_WHEN_LATE,
            &format!("{at}.timeout.perTry"),
            message,
        );
    }
    let Some(request) = limit(timeout.request.as_ref()) else {
        return;
    };
    let all = attempts.saturating_add(1);
    if per_try.saturating_mul(all) > request {
        // Pauses between the tries only make it worse.
        let full = request.as_nanos() / per_try.as_nanos().max(1);
        let (per_try, request) = (&timeout.per_try, &timeout.request);
        let text = |value: &Option<DurationText>| value.as_ref().map(ToString::to_string);
        let message = format!(
            "request: {} is time for {full} tries of perTry: {}, not for 1 and {attempts} more",
            text(request).unwrap_or_default(),
            text(per_try).unwrap_or_default(),
        );
        report.say(TRIES_DO_NOT_FIT, &format!("{at}.timeout.request"), message);
    }
}

/// Says when a policy that names services speaks of requests, and none of them has any.
fn on_bytes(
    report: &mut Report<'_>,
    world: &World<'_, '_>,
    placed: &Placed<'_>,
    parts: &Parts<'_>,
) {
    let mut opaque = None;
    for hit in placed.hits.iter() {
        let Hit::Service {
            name,
            closeness: Closeness::Name,
        } = hit
        else {
            return;
        };
        let ports = world.mesh.ports.get(name).map_or(&[][..], Vec::as_slice);
        if ports.iter().any(|port| port.protocol == Protocol::Http) {
            return;
        }
        opaque = opaque.or_else(|| Some((ports.first()?.port, name)));
    }
    if let Some(((port, name), field)) = opaque.zip(field_of_requests(parts)) {
        let message = format!(
            "port {port} of Service {name} is not known to be HTTP, so nothing there is a request"
        );
        report.say(REQUESTS_ON_BYTES, &format!("{}.{field}", parts.at), message);
    }
}

/// The first field that only means something for requests.
fn field_of_requests(parts: &Parts<'_>) -> Option<&'static str> {
    let timeout = parts.timeout;
    let retry = parts.retry;
    let fields = [
        (
            "timeout.request",
            timeout.is_some_and(|found| limit(found.request.as_ref()).is_some()),
        ),
        (
            "timeout.perTry",
            timeout.is_some_and(|found| limit(found.per_try.as_ref()).is_some()),
        ),
        (
            "retry.codes",
            retry.is_some_and(|found| found.codes.is_some()),
        ),
        (
            "retry.methods",
            retry.is_some_and(|found| found.methods.is_some()),
        ),
        (
            "retry.nonIdempotent",
            retry.is_some_and(|found| found.non_idempotent == Some(true)),
        ),
        (
            "retry.maxBody",
            retry.is_some_and(|found| found.max_body.is_some()),
        ),
    ];
    let mut fields = fields.into_iter();
    fields.find(|(_, set)| *set).map(|(field, _)| field)
}

//! RetryTimeoutPolicy, and the same fields of `defaults`: their checks and their layers.

use std::collections::BTreeSet;
use std::time::Duration;

use tacit_api::mesh::Defaults;
use tacit_api::retry_timeout::{Backoff, Budget, Retry, RetryTimeoutPolicySpec, Timeout};
use tacit_api::values::DurationText;
use tacit_api::{Located, Object, Policy, retry_timeout as written};
use tacit_model::finding::Finding;
use tacit_model::resilience::{self, Fields, Resilience, RetryMethods, RetryOn, RetryWhen};
use tacit_model::{ObjectRef, Sourced};

use crate::attach::origin;
use crate::findings::{CONTRADICTION, NO_EFFECT, OUT_OF_RANGE, Report, SAYS_NOTHING};
use crate::{targets, values};

/// Most further tries: more is a loop, not a repetition.
const MOST_ATTEMPTS: u32 = 100;
/// Longest body that is kept for a further try: it stays in memory of the node meanwhile.
const LARGEST_BODY: u64 = 16 << 20;
/// Most further tries per second that a budget may always allow.
const MOST_PER_SECOND: u32 = 100_000;

/// Checks a policy by itself.
pub(crate) fn validate(object: &Located<Object>, spec: &RetryTimeoutPolicySpec) -> Vec<Finding> {
    let mut report = Report::new(object);
    targets::validate(&mut report, spec.targeting());
    values::client_callers(&mut report, spec.from.as_deref());
    check(
        &mut report,
        "spec",
        spec.timeout.as_ref(),
        spec.retry.as_ref(),
    );
    if spec.hedge.is_none() && spec.circuit_breaker.is_none() {
        let fields = fields_of(&Parts::of(spec));
        if fields.is_empty() {
            report.say(
                SAYS_NOTHING,
                "spec",
                "the policy sets no timeout and no retry",
            );
        }
    }
    report.findings
}

/// Checks the same fields of `defaults`.
pub(crate) fn validate_defaults(report: &mut Report<'_>, defaults: &Defaults) {
    let (timeout, retry) = (defaults.timeout.as_ref(), defaults.retry.as_ref());
    check(report, "spec.defaults", timeout, retry);
}

fn check(report: &mut Report<'_>, at: &str, timeout: Option<&Timeout>, retry: Option<&Retry>) {
    if let Some(timeout) = timeout {
        check_timeout(report, &format!("{at}.timeout"), timeout);
    }
    if let Some(retry) = retry {
        check_retry(report, &format!("{at}.retry"), retry);
    }
}

fn check_timeout(report: &mut Report<'_>, at: &str, timeout: &Timeout) {
    let Timeout {
        request,
        per_try,
        idle,
        connect,
    } = timeout;
    for (name, value) in [("request", request), ("perTry", per_try), ("idle", idle)] {
        let range = Duration::ZERO..=values::LONGEST;
        values::time(report, &format!("{at}.{name}"), value.as_ref(), range);
    }
    // Without a bound, an endpoint that is gone would hold a call for ever.
    let range = Duration::from_millis(1)..=values::LONGEST;
    values::time(report, &format!("{at}.connect"), connect.as_ref(), range);
    let limit = |text: &DurationText| Some(text.duration()).filter(|value| !value.is_zero());
    let (whole, part) = (
        request.as_ref().and_then(limit),
        per_try.as_ref().and_then(limit),
    );
    if let (Some(whole), Some(part)) = (whole, part)
        && part > whole
    {
        let message = "perTry is longer than request, so it could never run out";
        report.say(CONTRADICTION, &format!("{at}.perTry"), message);
    }
}

fn check_retry(report: &mut Report<'_>, at: &str, retry: &Retry) {
    values::number(
        report,
        &format!("{at}.attempts"),
        retry.attempts,
        0..=MOST_ATTEMPTS,
    );
    for (index, code) in retry.codes.iter().flatten().enumerate() {
        let field = format!("{at}.codes[{index}]");
        values::number(report, &field, Some(u32::from(*code)), 400..=599);
    }
    values::methods(report, &format!("{at}.methods"), retry.methods.as_deref());
    if retry.non_idempotent != Some(true) {
        for (index, method) in retry.methods.iter().flatten().enumerate() {
            if matches!(method.as_str(), "POST" | "PATCH") {
                let field = format!("{at}.methods[{index}]");
                let message = format!("{method} is not repeated without nonIdempotent: true");
                report.say(NO_EFFECT, &field, message);
            }
        }
    }
    if let Some(backoff) = &retry.backoff {
        check_backoff(report, &format!("{at}.backoff"), backoff);
    }
    if let Some(budget) = &retry.budget {
        let Budget {
            retry_percent,
            interval,
            min_per_second,
        } = budget;
        let at = format!("{at}.budget");
        values::number(
            report,
            &format!("{at}.retryPercent"),
            *retry_percent,
            0..=100,
        );
        let field = format!("{at}.minPerSecond");
        values::number(report, &field, *min_per_second, 0..=MOST_PER_SECOND);
        let range = Duration::from_secs(1)..=Duration::from_secs(3600);
        values::time(report, &format!("{at}.interval"), interval.as_ref(), range);
    }
    if let Some(size) = retry
        .max_body
        .as_ref()
        .filter(|size| size.bytes() > LARGEST_BODY)
    {
        let message = format!("{size} is more than 16Mi, the most that a node keeps");
        report.say(OUT_OF_RANGE, &format!("{at}.maxBody"), message);
    }
}

fn check_backoff(report: &mut Report<'_>, at: &str, backoff: &Backoff) {
    let Backoff { base, max } = backoff;
    for (name, value) in [("base", base), ("max", max)] {
        let range = Duration::ZERO..=values::LONGEST;
        values::time(report, &format!("{at}.{name}"), value.as_ref(), range);
    }
    if let (Some(base), Some(max)) = (base, max)
        && base.duration() > max.duration()
    {
        report.say(
            CONTRADICTION,
            &format!("{at}.base"),
            "base is longer than max",
        );
    }
}

/// The parts of a policy or of `defaults` that make a layer.
#[derive(Clone, Copy)]
pub(crate) struct Parts<'a> {
    /// The field that the parts are below: `spec` or `spec.defaults`.
    pub(crate) at: &'static str,
    pub(crate) timeout: Option<&'a Timeout>,
    pub(crate) retry: Option<&'a Retry>,
}

impl<'a> Parts<'a> {
    pub(crate) fn of(spec: &'a RetryTimeoutPolicySpec) -> Self {
        Self {
            at: "spec",
            timeout: spec.timeout.as_ref(),
            retry: spec.retry.as_ref(),
        }
    }

    pub(crate) fn of_defaults(defaults: &'a Defaults) -> Self {
        Self {
            at: "spec.defaults",
            timeout: defaults.timeout.as_ref(),
            retry: defaults.retry.as_ref(),
        }
    }
}

/// The fields that a layer sets, each with its origin.
pub(crate) fn fields(parts: &Parts<'_>, object: &ObjectRef) -> Fields {
    let mut fields = Fields::default();
    let at = parts.at;
    if let Some(Timeout {
        request,
        per_try,
        idle,
        connect,
    }) = parts.timeout
    {
        let leaf = |value: &Option<DurationText>, name: &str| {
            let value = value.as_ref()?.duration();
            Some(Sourced {
                value,
                from: origin(object, format!("{at}.timeout.{name}")),
            })
        };
        fields.request = leaf(request, "request");
        fields.per_try = leaf(per_try, "perTry");
        fields.idle = leaf(idle, "idle");
        fields.connect = leaf(connect, "connect");
    }
    if let Some(retry) = parts.retry {
        let from = |name: &str| origin(object, format!("{at}.retry.{name}"));
        let defaults = Resilience::default();
        fields.attempts = retry.attempts.map(|value| Sourced {
            value,
            from: from("attempts"),
        });
        fields.when = when(retry).map(|(value, name)| Sourced {
            value,
            from: from(name),
        });
        fields.methods = methods(retry).map(|(value, name)| Sourced {
            value,
            from: from(name),
        });
        fields.backoff = retry.backoff.as_ref().map(|written| Sourced {
            value: backoff(written, defaults.backoff.value),
            from: from("backoff"),
        });
        fields.budget = retry.budget.as_ref().map(|written| Sourced {
            value: budget(written, defaults.budget.value),
            from: from("budget"),
        });
        let max_body = retry.max_body.as_ref().map(|size| size.bytes());
        fields.max_body = max_body.map(|value| Sourced {
            value,
            from: from("maxBody"),
        });
    }
    fields
}

/// `on` and `codes` go whole: what is not written of the two is empty.
fn when(retry: &Retry) -> Option<(RetryWhen, &'static str)> {
    let name = match (&retry.on, &retry.codes) {
        (None, None) => return None,
        (Some(_), _) => "on",
        (None, Some(_)) => "codes",
    };
    let on = retry.on.iter().flatten().map(|on| match on {
        written::RetryOn::ConnectFailure => RetryOn::ConnectFailure,
        written::RetryOn::DeadlineExceeded => RetryOn::DeadlineExceeded,
        written::RetryOn::GatewayError => RetryOn::GatewayError,
        written::RetryOn::RefusedStream => RetryOn::RefusedStream,
        written::RetryOn::Reset => RetryOn::Reset,
        written::RetryOn::ServerError => RetryOn::ServerError,
    });
    let codes = retry.codes.iter().flatten().copied().collect();
    Some((
        RetryWhen {
            on: on.collect(),
            codes,
        },
        name,
    ))
}

fn methods(retry: &Retry) -> Option<(RetryMethods, &'static str)> {
    let name = match (&retry.non_idempotent, &retry.methods) {
        (None, None) => return None,
        (Some(_), _) => "nonIdempotent",
        (None, Some(_)) => "methods",
    };
    let only = retry.methods.as_ref();
    let only = only.map(|list| list.iter().map(|method| method.as_str().into()).collect());
    Some((
        RetryMethods {
            non_idempotent: retry.non_idempotent == Some(true),
            only,
        },
        name,
    ))
}

fn backoff(written: &Backoff, default: resilience::Backoff) -> resilience::Backoff {
    let base = written.base.as_ref().map(|text| text.duration());
    let max = written.max.as_ref().map(|text| text.duration());
    match (base, max) {
        (Some(base), Some(max)) => resilience::Backoff { base, max },
        // One of the two alone moves the other where it has to.
        (Some(base), None) => resilience::Backoff {
            base,
            max: default.max.max(base),
        },
        (None, Some(max)) => resilience::Backoff {
            base: default.base.min(max),
            max,
        },
        (None, None) => default,
    }
}

fn budget(written: &Budget, default: resilience::Budget) -> resilience::Budget {
    resilience::Budget {
        retry_percent: written.retry_percent.unwrap_or(default.retry_percent),
        interval: written
            .interval
            .as_ref()
            .map_or(default.interval, |text| text.duration()),
        min_per_second: written.min_per_second.unwrap_or(default.min_per_second),
    }
}

/// The names of the fields that a layer sets.
pub(crate) fn fields_of(parts: &Parts<'_>) -> BTreeSet<&'static str> {
    let mut names = BTreeSet::new();
    let mut add = |present: bool, name: &'static str| {
        if present {
            names.insert(name);
        }
    };
    if let Some(timeout) = parts.timeout {
        add(timeout.request.is_some(), "timeout.request");
        add(timeout.per_try.is_some(), "timeout.perTry");
        add(timeout.idle.is_some(), "timeout.idle");
        add(timeout.connect.is_some(), "timeout.connect");
    }
    if let Some(retry) = parts.retry {
        add(retry.attempts.is_some(), "retry.attempts");
        add(retry.on.is_some() || retry.codes.is_some(), "retry.on");
        add(
            retry.non_idempotent.is_some() || retry.methods.is_some(),
            "retry.methods",
        );
        add(retry.backoff.is_some(), "retry.backoff");
        add(retry.budget.is_some(), "retry.budget");
        add(retry.max_body.is_some(), "retry.maxBody");
    }
    names
}

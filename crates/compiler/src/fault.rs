//! FaultPolicy: its checks and what it says to a service.

use std::collections::BTreeSet;
use std::time::Duration;

use tacit_api::fault::{FaultAbort, FaultDelay, FaultPolicySpec};
use tacit_api::{Located, Object, Policy};
use tacit_model::access::From;
use tacit_model::fault::{Abort, Delay, FaultLayer};
use tacit_model::finding::Finding;
use tacit_model::{ObjectRef, ServiceName, Sourced};

use crate::access::ServicePorts;
use crate::attach::origin;
use crate::findings::{FAULT_ENDED, OPAQUE_FAULT, OUT_OF_RANGE, Report, SAYS_NOTHING};
use crate::{access, targets, values};

/// Longest wait: a request that waits stays in memory of its node. Callers that wait longer for
/// an answer are as well told apart by an abort.
const LONGEST_DELAY: Duration = Duration::from_secs(60);

/// Checks a policy by itself.
pub(crate) fn validate(object: &Located<Object>, spec: &FaultPolicySpec) -> Vec<Finding> {
    let mut report = Report::new(object);
    let FaultPolicySpec {
        target_refs: _,
        target_selectors: _,
        target_all: _,
        enforcement: _,
        priority: _,
        from,
        until,
        delay,
        abort,
    } = spec;
    targets::validate(&mut report, spec.targeting());
    values::client_callers(&mut report, from.as_deref());
    if u64::try_from(until.unix_seconds()).is_err() {
        report.say(OUT_OF_RANGE, "spec.until", "it is before 1970");
    }
    if let Some(FaultDelay {
        time,
        share_percent,
    }) = delay
    {
        let range = Duration::from_millis(1)..=LONGEST_DELAY;
        values::time(&mut report, "spec.delay.time", Some(time), range);
        share(&mut report, "spec.delay", *share_percent);
    }
    if let Some(FaultAbort {
        status,
        share_percent,
    }) = abort
    {
        let status = Some(u32::from(*status));
        values::number(&mut report, "spec.abort.status", status, 400..=599);
        share(&mut report, "spec.abort", *share_percent);
    }
    if delay.is_none() && abort.is_none() {
        report.say(
            SAYS_NOTHING,
            "spec",
            "the policy sets no delay and no abort",
        );
    }
    report.findings
}

fn share(report: &mut Report<'_>, at: &str, percent: u32) {
    let field = format!("{at}.sharePercent");
    values::number(report, &field, Some(percent), 0..=100);
}

/// What a policy makes of the requests to its services, if anything; nothing once it is over. The
/// checks have found it valid.
pub(crate) fn layer(
    policy: &ObjectRef,
    spec: &FaultPolicySpec,
    callers: Option<Vec<From>>,
    now: i64,
) -> Option<FaultLayer> {
    let says_nothing = spec.delay.is_none() && spec.abort.is_none();
    if says_nothing || spec.until.unix_seconds() <= now {
        return None;
    }
    let delay = spec.delay.as_ref().map(|delay| Sourced {
        value: Delay {
            time: delay.time.duration(),
            share_percent: delay.share_percent,
        },
        from: origin(policy, "spec.delay".to_owned()),
    });
    let abort = spec.abort.as_ref().map(|abort| Sourced {
        value: Abort {
            status: abort.status,
            share_percent: abort.share_percent,
        },
        from: origin(policy, "spec.abort".to_owned()),
    });
    Some(FaultLayer {
        callers,
        until: u64::try_from(spec.until.unix_seconds()).ok()?,
        delay,
        abort,
    })
}

/// The names of the fields that a layer sets.
pub(crate) fn fields_of(layer: &FaultLayer) -> BTreeSet<&'static str> {
    let mut names = BTreeSet::new();
    if layer.delay.is_some() {
        names.insert("delay");
    }
    if layer.abort.is_some() {
        names.insert("abort");
    }
    names
}

/// Says so if a service of the policy has a port in whose bytes there are no requests.
pub(crate) fn opaque(
    version: &Located<Object>,
    hit: &BTreeSet<ServiceName>,
    ports: &ServicePorts,
) -> Option<Finding> {
    let (name, port) = access::opaque_of(hit, ports)?;
    let message = format!("port {port} of Service {name} is not known to be HTTP");
    let mut report = Report::new(version);
    report.say(OPAQUE_FAULT, "spec", message);
    report.findings.pop()
}

/// Says so if the policy is over.
pub(crate) fn ended(report: &mut Report<'_>, spec: &FaultPolicySpec, now: i64) {
    let until = &spec.until;
    if until.unix_seconds() <= now {
        let message = format!("the policy ended at {until}");
        report.say(FAULT_ENDED, "spec.until", message);
    }
}

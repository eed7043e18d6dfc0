//! RateLimitPolicy: its checks and what it says to a service.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::time::Duration;

use tacit_api::rate_limit::{RateKey as WrittenKey, RateKeyType, RateLimitPolicySpec};
use tacit_api::{Located, Object, Policy, rate_limit as written};
use tacit_model::finding::Finding;
use tacit_model::rate::{RateKey, RateLimit, RateLimits};
use tacit_model::{ObjectRef, ServiceName};

use crate::access::ServicePorts;
use crate::findings::{BAD_TEXT, CONTRADICTION, OPAQUE_RATE, OUT_OF_RANGE, Report};
use crate::{access, targets, values};

/// Most limits of one policy: each request is compared with each.
const MOST_LIMITS: usize = 8;
/// Most parts of a key: they are kept for each value.
const MOST_PARTS: usize = 4;
/// Most requests in a time: one in a microsecond, which nothing behind a proxy serves.
const MOST_REQUESTS: u32 = 1_000_000;
/// A burst that takes longer to come back than this many times `per` is no burst.
const MOST_BURSTS: u32 = 100;

/// Checks a policy by itself.
pub(crate) fn validate(object: &Located<Object>, spec: &RateLimitPolicySpec) -> Vec<Finding> {
    let mut report = Report::new(object);
    targets::validate(&mut report, spec.targeting());
    values::not_empty(&mut report, "spec.limits", Some(&spec.limits));
    if spec.limits.len() > MOST_LIMITS {
        let message = format!("{} limits are more than {MOST_LIMITS}", spec.limits.len());
        report.say(OUT_OF_RANGE, "spec.limits", message);
    }
    for (index, limit) in spec.limits.iter().enumerate() {
        check(&mut report, &format!("spec.limits[{index}]"), limit);
    }
    report.findings
}

fn check(report: &mut Report<'_>, at: &str, limit: &written::RateLimit) {
    let written::RateLimit {
        requests,
        per,
        burst,
        key,
        counter: _,
    } = limit;
    let range = 1..=MOST_REQUESTS;
    values::number(report, &format!("{at}.requests"), Some(*requests), range);
    // A shorter time could not be told from one that is rounded to the nanoseconds of a token.
    let range = Duration::from_secs(1)..=values::LONGEST;
    values::time(report, &format!("{at}.per"), Some(per), range);
    let most = requests.clamp(&1, &MOST_REQUESTS) * MOST_BURSTS;
    values::number(report, &format!("{at}.burst"), *burst, 1..=most);
    values::not_empty(report, &format!("{at}.key"), key.as_deref());
    let parts = key.as_deref().unwrap_or_default();
    if parts.len() > MOST_PARTS {
        let message = format!("{} parts are more than {MOST_PARTS}", parts.len());
        report.say(OUT_OF_RANGE, &format!("{at}.key"), message);
    }
    for (index, part) in parts.iter().enumerate() {
        check_part(report, &format!("{at}.key[{index}]"), part);
    }
}

fn check_part(report: &mut Report<'_>, at: &str, part: &WrittenKey) {
    let WrittenKey {
        key_type,
        header,
        claim,
    } = part;
    let field = format!("{at}.header");
    match (key_type, header) {
        (RateKeyType::Header, None) => {
            let fix = Some("add `header` with the name of the header".to_owned());
            let message = "the part is of type Header and names none".to_owned();
            report.add(CONTRADICTION, at, message, fix);
        }
        (RateKeyType::Header, Some(name)) if !values::is_token(name) => {
            let message = format!("{name:?} is no name of a header");
            report.say(BAD_TEXT, &field, message);
        }
        (RateKeyType::Claim | RateKeyType::Identity, Some(_)) => {
            let message = format!("`header` stands in a part of type {key_type}");
            report.say(CONTRADICTION, &field, message);
        }
        (RateKeyType::Claim | RateKeyType::Header | RateKeyType::Identity, _) => {}
    }
    if claim.is_some() && *key_type != RateKeyType::Claim {
        let message = format!("`claim` stands in a part of type {key_type}");
        report.say(CONTRADICTION, &format!("{at}.claim"), message);
    }
}

/// What a policy says to the services that it decides for. The checks have found it valid.
pub(crate) fn limits(policy: &ObjectRef, spec: &RateLimitPolicySpec) -> RateLimits {
    let count = |number: u32| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
    let limit = |limit: &written::RateLimit| RateLimit {
        requests: count(limit.requests),
        per: limit.per.duration(),
        burst: count(limit.burst.unwrap_or(limit.requests)),
        key: limit.key.iter().flatten().filter_map(part).collect(),
    };
    RateLimits {
        policy: policy.clone(),
        limits: spec.limits.iter().map(limit).collect(),
    }
}

fn part(part: &WrittenKey) -> Option<RateKey> {
    match (part.key_type, &part.header) {
        (RateKeyType::Identity, _) => Some(RateKey::Identity),
        (RateKeyType::Header, Some(name)) => {
            Some(RateKey::Header(name.to_ascii_lowercase().into()))
        }
        // Refused.
        (RateKeyType::Claim, _) | (RateKeyType::Header, None) => None,
    }
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
    report.say(OPAQUE_RATE, "spec.limits", message);
    report.findings.pop()
}

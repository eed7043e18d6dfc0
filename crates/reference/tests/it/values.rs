//! What the engine says in its own types, in the words of the naive evaluator.

use std::collections::BTreeMap;
use std::sync::Arc;

use tacit_decide::fault::Faults;
use tacit_model::failover::Failover;
use tacit_model::rate::{RateKey, RateLimit};
use tacit_model::resilience::Resilience;
use tacit_model::route::HeaderChanges;
use tacit_model::{Provenance, Sourced};
use tacit_reference::{Clause, Set};

/// A change of headers.
pub(crate) fn header_changes(changes: &HeaderChanges) -> String {
    let pairs = |list: &[(Arc<str>, Arc<str>)]| {
        let pairs = list.iter().map(|(name, value)| format!("{name}={value}"));
        pairs.collect::<Vec<_>>().join(" ")
    };
    let removed = changes.remove.join(" ");
    format!(
        "set {} add {} remove {removed}",
        pairs(&changes.set),
        pairs(&changes.add)
    )
}

/// What may befall a request, by the names of its fields.
pub(crate) fn fault_values(values: &mut BTreeMap<&'static str, Set>, faults: &Faults) {
    let mut put = |name, value, from: &Provenance| {
        let from = from.to_string();
        values.insert(name, Set { value, from });
    };
    if let Some(Sourced { value, from }) = &faults.delay {
        let (share, time) = (value.share_percent, value.time.as_millis());
        put(
            "fault.delay",
            format!("{share} of 100 wait {time} ms"),
            from,
        );
    }
    if let Some(Sourced { value, from }) = &faults.abort {
        let (share, status) = (value.share_percent, value.status);
        put("fault.abort", format!("{share} of 100 get {status}"), from);
    }
}

/// A limit of the rate of requests, with where it is written.
pub(crate) fn rate(limit: &RateLimit, from: &Provenance) -> String {
    let key: Vec<&str> = limit
        .key
        .iter()
        .map(|part| match part {
            RateKey::Header(name) => &**name,
            RateKey::Identity => "IDENTITY",
        })
        .collect();
    format!(
        "{} in {} ms, {} at once, by [{}] <- {from}",
        limit.requests,
        limit.per.as_millis(),
        limit.burst,
        key.join(" ")
    )
}

/// The clause that a sentence of the engine tells of.
pub(crate) fn clause(text: &str, by: Option<&Provenance>) -> Clause {
    let object = || match by.unwrap() {
        Provenance::Field { object, .. } => object.to_string(),
        Provenance::Default => panic!("{text}"),
    };
    if text.contains("is claimed by several workspaces") {
        Clause::Contested
    } else if text.contains("is isolated") {
        Clause::Isolation(object())
    } else if text.contains("is invalid and denies") {
        Clause::Broken(object())
    } else if let Some((_, rest)) = text.split_once("no rule of AccessPolicy ") {
        let names = rest.strip_suffix(" allows it").unwrap().split(", ");
        Clause::NoAllow(names.map(|name| format!("AccessPolicy/{name}")).collect())
    } else if text.contains("nor does the default") || text.contains("and the default lets") {
        Clause::Default
    } else {
        Clause::Rule(by.unwrap_or_else(|| panic!("{text}")).to_string())
    }
}

fn put<T>(
    values: &mut BTreeMap<&'static str, Set>,
    name: &'static str,
    found: &Sourced<T>,
    text: impl FnOnce(&T) -> String,
) {
    let set = Set {
        value: text(&found.value),
        from: found.from.to_string(),
    };
    values.insert(name, set);
}

fn list<T: std::fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    let texts: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    format!("[{}]", texts.join(" "))
}

fn debug_list<T: std::fmt::Debug>(items: impl IntoIterator<Item = T>) -> String {
    let mut texts: Vec<String> = items.into_iter().map(|item| format!("{item:?}")).collect();
    texts.sort();
    list(texts)
}

pub(crate) fn retry_values(values: &mut BTreeMap<&'static str, Set>, r: &Resilience) {
    let time = |time: &std::time::Duration| format!("{}ms", time.as_millis());
    put(values, "timeout.request", &r.request, time);
    put(values, "timeout.perTry", &r.per_try, time);
    put(values, "timeout.idle", &r.idle, time);
    put(values, "timeout.connect", &r.connect, time);
    put(values, "retry.attempts", &r.attempts, u32::to_string);
    put(values, "retry.on", &r.when, |when| {
        format!("on {} codes {}", debug_list(&when.on), list(&when.codes))
    });
    put(values, "retry.methods", &r.methods, |methods| {
        let only = methods.only.as_ref().map_or_else(|| "any".to_owned(), list);
        format!("nonIdempotent {} only {only}", methods.non_idempotent)
    });
    put(values, "retry.backoff", &r.backoff, |backoff| {
        format!(
            "{} to {}",
            backoff.base.as_millis(),
            backoff.max.as_millis()
        )
    });
    put(values, "retry.budget", &r.budget, |budget| {
        let interval = budget.interval.as_millis();
        format!(
            "{} {interval} {}",
            budget.retry_percent, budget.min_per_second
        )
    });
    put(values, "retry.maxBody", &r.max_body, u64::to_string);
}

pub(crate) fn failover_values(values: &mut BTreeMap<&'static str, Set>, failover: &Failover) {
    put(values, "failover.order", &failover.order, |_| {
        format!("{} orders", failover.orders.len())
    });
    put(values, "failover.health", &failover.health, |health| {
        let eject = health.eject.as_ref().map_or_else(
            || "never".to_owned(),
            |eject| {
                format!(
                    "{} in {} for {} up to {} %",
                    eject.consecutive,
                    eject.within.as_millis(),
                    eject.duration.as_millis(),
                    eject.max_percent
                )
            },
        );
        let probe = health.probe.as_ref().map_or_else(
            || "none".to_owned(),
            |probe| format!("{} {}", probe.path, probe.interval.as_millis()),
        );
        let signals = debug_list(&health.signals);
        format!("signals {signals} eject {eject} probe {probe}")
    });
    put(values, "failover.spill", &failover.spill, |spill| {
        format!("{} {}", spill.below_percent, spill.ramp.as_millis())
    });
    put(
        values,
        "failover.failback",
        &failover.failback,
        |failback| {
            format!(
                "{} {}",
                failback.after.as_millis(),
                failback.ramp.as_millis()
            )
        },
    );
    put(
        values,
        "failover.whenNoneHealthy",
        &failover.when_none_healthy,
        |when| format!("{when:?}"),
    );
}

//! Checks of failover: what is written by itself, and what it names that is not there.

use std::collections::BTreeSet;
use std::time::Duration;

use tacit_api::failover::{
    self as written, ClientPlace, FailoverPolicySpec, Health as WrittenHealth, ServiceRef,
    WeightedPlace as WrittenPlace,
};
use tacit_api::mesh::Defaults;
use tacit_api::{Located, Object, Policy};
use tacit_model::finding::Finding;
use tacit_model::locality::Part;
use tacit_model::{Locality, Namespace, ServiceName};

use super::{Parts, fallback, weighted};
use crate::findings::{
    BAD_NAME, BAD_TEXT, CONTRADICTION, EMPTY_LIST, FALLBACK, MISSING_FIELD, NO_EFFECT, PLACE_EMPTY,
    Report, SAYS_NOTHING, TOO_LARGE,
};
use crate::{targets, values};

/// The shortest time between probes; shorter ones are load.
const LEAST_INTERVAL: Duration = Duration::from_secs(1);

/// Most steps, and most places of a step: an order is read by people.
const MOST_STEPS: usize = 32;
/// Checks a policy by itself.
pub(crate) fn validate(object: &Located<Object>, spec: &FailoverPolicySpec) -> Vec<Finding> {
    let mut report = Report::new(object);
    targets::validate(&mut report, spec.targeting());
    let parts = Parts::of(spec);
    check(&mut report, &parts);
    if parts.fields().is_empty() && spec.limit.is_none() && spec.when_limited.is_none() {
        report.say(
            SAYS_NOTHING,
            "spec",
            "the policy sets no order and no health",
        );
    }
    report.findings
}

/// Checks the same fields of `defaults`.
pub(crate) fn validate_defaults(report: &mut Report<'_>, defaults: &Defaults) {
    let parts = Parts::of_defaults(defaults);
    check(report, &parts);
    for (at, service) in fallbacks(&parts) {
        if service.namespace.is_none() {
            let message = "a Service in `defaults` needs its namespace";
            report.say(MISSING_FIELD, &format!("{at}.namespace"), message);
        }
    }
}

/// All steps with their fields.
fn all_steps<'a>(parts: &Parts<'a>) -> impl Iterator<Item = (String, &'a written::Step)> {
    let at = parts.at;
    let order = parts.order.unwrap_or_default().iter().enumerate();
    let order = order.map(move |(index, step)| (format!("{at}.order[{index}]"), step));
    let orders = parts.orders.unwrap_or_default().iter().enumerate();
    order.chain(orders.flat_map(move |(entry, order)| {
        let steps = order.order.iter().enumerate();
        steps.map(move |(index, step)| (format!("{at}.orders[{entry}].order[{index}]"), step))
    }))
}

fn fallbacks<'a>(parts: &Parts<'a>) -> impl Iterator<Item = (String, &'a ServiceRef)> {
    all_steps(parts)
        .filter_map(|(at, step)| Some((format!("{at}.service"), step.service.as_ref()?)))
}

/// What a policy's steps name that is not there: fallback services, and places without any
/// endpoint of the services that it applies to.
pub(crate) fn dangling(
    object: &Located<Object>,
    parts: &Parts<'_>,
    home: &Namespace,
    hit: &BTreeSet<ServiceName>,
    is_service: &dyn Fn(&ServiceName) -> bool,
    endpoints: &[&Locality],
) -> Vec<Finding> {
    let mut report = Report::new(object);
    for (at, service) in fallbacks(parts) {
        let name = fallback(service, home);
        let exists = name.as_ref().is_some_and(is_service);
        let itself = name.as_ref().is_some_and(|name| hit.contains(name));
        if !exists {
            report.say(
                FALLBACK,
                &at,
                format!("Service {} does not exist", service.name),
            );
        } else if itself {
            let message = format!("Service {} cannot be its own fallback", service.name);
            report.say(FALLBACK, &at, message);
        }
    }
    // As long as the place of an endpoint is not known, nobody can say that a place is empty.
    let known = |locality: &&Locality| !locality.region.is_empty() && !locality.zone.is_empty();
    if endpoints.is_empty() || !endpoints.iter().all(known) {
        return report.findings;
    }
    for (at, step) in all_steps(parts) {
        for (index, place) in step.places.iter().flatten().enumerate() {
            let place = weighted(place).place;
            let named = |part: &Option<Part>| !matches!(part, Some(Part::Same));
            let named = [&place.cluster, &place.region, &place.zone]
                .into_iter()
                .all(named);
            let nowhere = Locality::default();
            if named
                && !endpoints
                    .iter()
                    .any(|locality| place.contains(&nowhere, locality))
            {
                let message = format!("no endpoint is in {place}");
                report.say(PLACE_EMPTY, &format!("{at}.places[{index}]"), message);
            }
        }
    }
    report.findings
}

fn check(report: &mut Report<'_>, parts: &Parts<'_>) {
    let at = parts.at;
    if let Some(order) = parts.order {
        check_order(report, &format!("{at}.order"), order);
    }
    values::not_empty(report, &format!("{at}.orders"), parts.orders);
    let mut seen: Vec<&ClientPlace> = Vec::new();
    for (index, order) in parts.orders.unwrap_or_default().iter().enumerate() {
        let at = format!("{at}.orders[{index}]");
        check_clients(report, &format!("{at}.clients"), &order.clients);
        if seen.contains(&&order.clients) {
            let message = "another entry has the same clients";
            report.say(CONTRADICTION, &format!("{at}.clients"), message);
        }
        seen.push(&order.clients);
        check_order(report, &format!("{at}.order"), &order.order);
    }
    if let Some(health) = parts.health {
        check_health(report, &format!("{at}.health"), health);
    }
    let day = Duration::ZERO..=values::LONGEST;
    if let Some(spill) = parts.spill {
        values::number(
            report,
            &format!("{at}.spill.belowPercent"),
            spill.below_percent,
            1..=100,
        );
        values::time(
            report,
            &format!("{at}.spill.ramp"),
            spill.ramp.as_ref(),
            day.clone(),
        );
    }
    if let Some(failback) = parts.failback {
        let field = format!("{at}.failback");
        values::time(
            report,
            &format!("{field}.after"),
            failback.after.as_ref(),
            day.clone(),
        );
        values::time(
            report,
            &format!("{field}.ramp"),
            failback.ramp.as_ref(),
            day,
        );
    }
}

fn check_clients(report: &mut Report<'_>, at: &str, clients: &ClientPlace) {
    let ClientPlace {
        cluster,
        region,
        zone,
    } = clients;
    let parts = [("cluster", cluster), ("region", region), ("zone", zone)];
    if parts.iter().all(|(_, part)| part.is_none()) {
        report.say(
            EMPTY_LIST,
            at,
            "the entry names no clients; `order` is for everybody",
        );
    }
    for (name, part) in parts {
        match part.as_deref() {
            Some("same") => {
                let message = "`same` means the place of the client, which is what is asked for";
                report.say(BAD_TEXT, &format!("{at}.{name}"), message);
            }
            Some("") => report.say(BAD_TEXT, &format!("{at}.{name}"), "the name is empty"),
            Some(_) | None => {}
        }
    }
}

fn check_order(report: &mut Report<'_>, at: &str, order: &[written::Step]) {
    values::not_empty(report, at, Some(order));
    let longest = order
        .iter()
        .map(|step| step.places.as_ref().map_or(0, Vec::len))
        .max();
    let longest = longest.unwrap_or(0).max(order.len());
    if longest > MOST_STEPS {
        let message = format!("an order has at most {MOST_STEPS} steps, and a step as many places");
        report.say(TOO_LARGE, at, message);
    }
    for (index, step) in order.iter().enumerate() {
        check_step(report, &format!("{at}[{index}]"), step);
    }
}

fn check_step(report: &mut Report<'_>, at: &str, step: &written::Step) {
    match (&step.places, &step.service) {
        (None, None) => report.say(EMPTY_LIST, at, "the step names no place and no service"),
        (Some(_), Some(_)) => {
            let message = "a step is either places or a service";
            report.say(CONTRADICTION, &format!("{at}.service"), message);
        }
        (Some(places), None) => {
            values::not_empty(report, &format!("{at}.places"), Some(places));
            for (index, place) in places.iter().enumerate() {
                check_place(report, &format!("{at}.places[{index}]"), place);
            }
        }
        (None, Some(service)) => check_fallback(report, &format!("{at}.service"), service),
    }
}

fn check_place(report: &mut Report<'_>, at: &str, place: &WrittenPlace) {
    let WrittenPlace {
        cluster,
        region,
        zone,
        weight,
    } = place;
    let parts = [("cluster", cluster), ("region", region), ("zone", zone)];
    if parts.iter().all(|(_, part)| part.is_none()) {
        let message = "the place names nothing";
        let fix = "name a cluster, region or zone; `cluster: same` is everywhere in this cluster";
        report.add(EMPTY_LIST, at, message.to_owned(), Some(fix.to_owned()));
    }
    for (name, part) in parts {
        if part.as_deref() == Some("") {
            report.say(BAD_TEXT, &format!("{at}.{name}"), "the name is empty");
        }
    }
    values::number(report, &format!("{at}.weight"), *weight, 1..=1000);
}

fn check_fallback(report: &mut Report<'_>, at: &str, service: &ServiceRef) {
    let name = Namespace::try_from(service.name.as_str()).err();
    let namespace = service.namespace.as_deref().map(Namespace::try_from);
    for (field, error) in [
        ("name", name),
        ("namespace", namespace.and_then(Result::err)),
    ] {
        if let Some(error) = error {
            report.say(BAD_NAME, &format!("{at}.{field}"), error.to_string());
        }
    }
}

fn check_health(report: &mut Report<'_>, at: &str, health: &WrittenHealth) {
    let errors = [
        written::Signal::GatewayError,
        written::Signal::ServerError,
        written::Signal::Timeout,
    ];
    let counts = health
        .signals
        .iter()
        .flatten()
        .any(|signal| errors.contains(signal));
    if let Some(eject) = &health.eject {
        let at = format!("{at}.eject");
        values::number(
            report,
            &format!("{at}.consecutive"),
            eject.consecutive,
            1..=10_000,
        );
        values::number(
            report,
            &format!("{at}.maxPercent"),
            eject.max_percent,
            0..=100,
        );
        let range = Duration::from_millis(1)..=values::LONGEST;
        values::time(
            report,
            &format!("{at}.within"),
            eject.within.as_ref(),
            range.clone(),
        );
        values::time(report, &format!("{at}.for"), eject.duration.as_ref(), range);
        if !counts {
            let message = "no signal counts: `eject` is about application errors";
            let fix = "add Timeout, GatewayError or ServerError to signals".to_owned();
            report.add(NO_EFFECT, &at, message.to_owned(), Some(fix));
        }
    }
    if let Some(probe) = &health.probe {
        let path = &probe.path;
        if !path.starts_with('/')
            || path.len() > 1024
            || !path.bytes().all(|b| b.is_ascii_graphic())
        {
            let message = format!("{path:?} is no path such as /healthz");
            report.say(BAD_TEXT, &format!("{at}.probe.path"), message);
        }
        let range = LEAST_INTERVAL..=Duration::from_secs(3600);
        let field = format!("{at}.probe.interval");
        values::time(report, &field, probe.interval.as_ref(), range);
    }
}

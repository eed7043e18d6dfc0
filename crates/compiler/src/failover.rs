//! FailoverPolicy, and the same fields of `defaults`: their checks and what they resolve to.

use std::collections::BTreeSet;
use std::time::Duration;

use tacit_api::failover::{
    self as written, ClientPlace, FailoverPolicySpec, Health as WrittenHealth, ServiceRef,
    WeightedPlace as WrittenPlace,
};
use tacit_api::mesh::Defaults;
use tacit_api::{Located, Object, Policy};
use tacit_model::failover::{
    ClientOrder, Eject, Failback, Failover, Health, Probe, Signal, Spill, Step, WeightedPlace,
    WhenNoneHealthy,
};
use tacit_model::finding::Finding;
use tacit_model::locality::{Part, Place};
use tacit_model::{Namespace, ObjectRef, Provenance, ServiceName, Sourced};

use crate::attach::origin;
use crate::findings::{
    BAD_NAME, BAD_TEXT, CONTRADICTION, EMPTY_LIST, NO_EFFECT, Report, SAYS_NOTHING,
};
use crate::{targets, values};

/// Most steps, and most places of a step: an order is read by people.
const MOST_STEPS: usize = 32;
/// The shortest time between probes; shorter ones are load.
const LEAST_INTERVAL: Duration = Duration::from_secs(1);
/// Time between probes if nobody says.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(5);

/// The parts of a policy or of `defaults`.
#[derive(Clone, Copy)]
pub(crate) struct Parts<'a> {
    /// The field that the parts are below: `spec` or `spec.defaults`.
    pub(crate) at: &'static str,
    pub(crate) order: Option<&'a [written::Step]>,
    pub(crate) orders: Option<&'a [written::ClientOrder]>,
    pub(crate) health: Option<&'a WrittenHealth>,
    pub(crate) spill: Option<&'a written::Spill>,
    pub(crate) failback: Option<&'a written::Failback>,
    pub(crate) when_none_healthy: Option<written::WhenNoneHealthy>,
}

impl<'a> Parts<'a> {
    pub(crate) fn of(spec: &'a FailoverPolicySpec) -> Self {
        Self {
            at: "spec",
            order: spec.order.as_deref(),
            orders: spec.orders.as_deref(),
            health: spec.health.as_ref(),
            spill: spec.spill.as_ref(),
            failback: spec.failback.as_ref(),
            when_none_healthy: spec.when_none_healthy,
        }
    }

    pub(crate) fn of_defaults(defaults: &'a Defaults) -> Self {
        Self {
            at: "spec.defaults",
            order: defaults.order.as_deref(),
            orders: defaults.orders.as_deref(),
            health: defaults.health.as_ref(),
            spill: defaults.spill.as_ref(),
            failback: defaults.failback.as_ref(),
            when_none_healthy: defaults.when_none_healthy,
        }
    }

    /// The names of the fields that are set.
    pub(crate) fn fields(&self) -> BTreeSet<&'static str> {
        let fields = [
            ("order", self.order.is_some() || self.orders.is_some()),
            ("health", self.health.is_some()),
            ("spill", self.spill.is_some()),
            ("failback", self.failback.is_some()),
            ("whenNoneHealthy", self.when_none_healthy.is_some()),
        ];
        fields.into_iter().filter(|(_, set)| *set).map(|(name, _)| name).collect()
    }
}

/// Checks a policy by itself.
pub(crate) fn validate(object: &Located<Object>, spec: &FailoverPolicySpec) -> Vec<Finding> {
    let mut report = Report::new(object);
    targets::validate(&mut report, spec.targeting());
    let parts = Parts::of(spec);
    check(&mut report, &parts);
    if parts.fields().is_empty() && spec.limit.is_none() && spec.when_limited.is_none() {
        report.say(SAYS_NOTHING, "spec", "the policy sets no order and no health");
    }
    report.findings
}

/// Checks the same fields of `defaults`.
pub(crate) fn validate_defaults(report: &mut Report<'_>, defaults: &Defaults) {
    check(report, &Parts::of_defaults(defaults));
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
        values::number(report, &format!("{at}.spill.belowPercent"), spill.below_percent, 1..=100);
        values::time(report, &format!("{at}.spill.ramp"), spill.ramp.as_ref(), day.clone());
    }
    if let Some(failback) = parts.failback {
        let field = format!("{at}.failback");
        values::time(report, &format!("{field}.after"), failback.after.as_ref(), day.clone());
        values::time(report, &format!("{field}.ramp"), failback.ramp.as_ref(), day);
    }
}

fn check_clients(report: &mut Report<'_>, at: &str, clients: &ClientPlace) {
    let ClientPlace { cluster, region, zone } = clients;
    let parts = [("cluster", cluster), ("region", region), ("zone", zone)];
    if parts.iter().all(|(_, part)| part.is_none()) {
        report.say(EMPTY_LIST, at, "the entry names no clients; `order` is for everybody");
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
    let longest = order.iter().map(|step| step.places.as_ref().map_or(0, Vec::len)).max();
    let longest = longest.unwrap_or(0).max(order.len());
    if longest > MOST_STEPS {
        let message = format!("an order has at most {MOST_STEPS} steps, and a step as many places");
        report.say(crate::findings::TOO_LARGE, at, message);
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
    let WrittenPlace { cluster, region, zone, weight } = place;
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
    for (field, error) in [("name", name), ("namespace", namespace.and_then(Result::err))] {
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
    let counts = health.signals.iter().flatten().any(|signal| errors.contains(signal));
    if let Some(eject) = &health.eject {
        let at = format!("{at}.eject");
        values::number(report, &format!("{at}.consecutive"), eject.consecutive, 1..=10_000);
        values::number(report, &format!("{at}.maxPercent"), eject.max_percent, 0..=100);
        let range = Duration::from_millis(1)..=values::LONGEST;
        values::time(report, &format!("{at}.within"), eject.within.as_ref(), range.clone());
        values::time(report, &format!("{at}.for"), eject.duration.as_ref(), range);
        if !counts {
            let message = "no signal counts: `eject` is about application errors";
            let fix = "add Timeout, GatewayError or ServerError to signals".to_owned();
            report.add(NO_EFFECT, &at, message.to_owned(), Some(fix));
        }
    }
    if let Some(probe) = &health.probe {
        let path = &probe.path;
        if !path.starts_with('/') || path.len() > 1024 || !path.bytes().all(|b| b.is_ascii_graphic())
        {
            let message = format!("{path:?} is no path such as /healthz");
            report.say(BAD_TEXT, &format!("{at}.probe.path"), message);
        }
        let range = LEAST_INTERVAL..=Duration::from_secs(3600);
        let field = format!("{at}.probe.interval");
        values::time(report, &field, probe.interval.as_ref(), range);
    }
}

/// One policy, or one set of defaults, at a service.
pub(crate) struct Candidate<'a> {
    pub(crate) parts: Parts<'a>,
    pub(crate) object: ObjectRef,
    /// The namespace that bare names of services mean: the policy's own, or the target's for
    /// `defaults`.
    pub(crate) home: Namespace,
}

/// The failover of a service from what was written, the first first, and from the service's own
/// `trafficDistribution`. Nothing if nobody says anything.
pub(crate) fn resolve(
    candidates: &[Candidate<'_>],
    distribution: Option<Sourced<Vec<Step>>>,
    may_fall_back: &dyn Fn(&Candidate<'_>, &ServiceName) -> bool,
) -> Option<Failover> {
    let set = candidates.iter().any(|candidate| !candidate.parts.fields().is_empty());
    if !set && distribution.is_none() {
        return None;
    }
    let ordered = candidates
        .iter()
        .find(|found| found.parts.order.is_some() || found.parts.orders.is_some());
    let (order, orders) = match ordered {
        Some(found) => written_order(found, may_fall_back),
        None => {
            let everywhere = || Sourced::default_of(own_cluster());
            (distribution.unwrap_or_else(everywhere), Vec::new())
        }
    };
    Some(Failover {
        order,
        orders,
        health: first(candidates, "health", |parts| parts.health.map(health))
            .unwrap_or_else(|| Sourced::default_of(Health::default())),
        spill: first(candidates, "spill", |parts| parts.spill.map(spill))
            .unwrap_or_else(|| Sourced::default_of(Spill::default())),
        failback: first(candidates, "failback", |parts| parts.failback.map(failback))
            .unwrap_or_else(|| Sourced::default_of(Failback::default())),
        when_none_healthy: first(candidates, "whenNoneHealthy", |parts| {
            parts.when_none_healthy.map(|when| match when {
                written::WhenNoneHealthy::Any => WhenNoneHealthy::Any,
                written::WhenNoneHealthy::Fail => WhenNoneHealthy::Fail,
            })
        })
        .unwrap_or_else(|| Sourced::default_of(WhenNoneHealthy::Any)),
    })
}

/// The first candidate that sets a field.
fn first<T>(
    candidates: &[Candidate<'_>],
    field: &str,
    read: impl Fn(&Parts<'_>) -> Option<T>,
) -> Option<Sourced<T>> {
    candidates.iter().find_map(|found| {
        let from = || origin(&found.object, format!("{}.{field}", found.parts.at));
        read(&found.parts).map(|value| Sourced { value, from: from() })
    })
}

/// All endpoints of the own cluster, equal.
fn own_cluster() -> Vec<Step> {
    let place = Place { cluster: Some(Part::Same), ..Place::default() };
    vec![Step::Places(vec![WeightedPlace { place, weight: 1 }])]
}

/// The order that a Service's `trafficDistribution` asks for: the own zone first.
pub(crate) fn distribution(value: Option<&str>, service: &ObjectRef) -> Option<Sourced<Vec<Step>>> {
    if !matches!(value?, "PreferClose" | "PreferSameZone") {
        return None;
    }
    let place = Place { zone: Some(Part::Same), ..Place::default() };
    let mut steps = vec![Step::Places(vec![WeightedPlace { place, weight: 1 }])];
    steps.extend(own_cluster());
    Some(Sourced { value: steps, from: origin(service, "spec.trafficDistribution") })
}

fn written_order(
    found: &Candidate<'_>,
    may_fall_back: &dyn Fn(&Candidate<'_>, &ServiceName) -> bool,
) -> (Sourced<Vec<Step>>, Vec<ClientOrder>) {
    let usable = |service: &ServiceName| may_fall_back(found, service);
    let order = match found.parts.order {
        Some(order) => Sourced {
            value: steps(order, &found.home, &usable),
            from: origin(&found.object, format!("{}.order", found.parts.at)),
        },
        None => Sourced { value: own_cluster(), from: Provenance::Default },
    };
    let mut orders: Vec<ClientOrder> = found
        .parts
        .orders
        .unwrap_or_default()
        .iter()
        .map(|order| ClientOrder {
            clients: clients(&order.clients),
            steps: steps(&order.order, &found.home, &usable),
        })
        .collect();
    orders.sort_by_key(|order| std::cmp::Reverse(order.clients.specificity()));
    (order, orders)
}

/// Steps without the fallback services that are not usable, which are findings.
fn steps(
    order: &[written::Step],
    home: &Namespace,
    usable: &dyn Fn(&ServiceName) -> bool,
) -> Vec<Step> {
    let step = |step: &written::Step| {
        if let Some(places) = &step.places {
            return Some(Step::Places(places.iter().map(weighted).collect()));
        }
        let service = fallback(step.service.as_ref()?, home)?;
        usable(&service).then_some(Step::Service(service))
    };
    order.iter().filter_map(step).collect()
}

/// The service that a step names.
pub(crate) fn fallback(service: &ServiceRef, home: &Namespace) -> Option<ServiceName> {
    let namespace = service.namespace.as_deref().unwrap_or(home.as_str());
    ServiceName::parse(namespace, &service.name).ok()
}

fn part(text: Option<&String>) -> Option<Part> {
    text.map(|text| match text.as_str() {
        "same" => Part::Same,
        name => Part::Named(name.into()),
    })
}

/// A place as the planes have it.
pub(crate) fn weighted(place: &WrittenPlace) -> WeightedPlace {
    let WrittenPlace { cluster, region, zone, weight } = place;
    WeightedPlace {
        place: Place {
            cluster: part(cluster.as_ref()),
            region: part(region.as_ref()),
            zone: part(zone.as_ref()),
        },
        weight: weight.unwrap_or(1),
    }
}

fn clients(place: &ClientPlace) -> Place {
    let ClientPlace { cluster, region, zone } = place;
    Place {
        cluster: part(cluster.as_ref()),
        region: part(region.as_ref()),
        zone: part(zone.as_ref()),
    }
}

fn health(written: &WrittenHealth) -> Health {
    let signal = |signal: &written::Signal| match signal {
        written::Signal::Connect => Some(Signal::Connect),
        written::Signal::GatewayError => Some(Signal::GatewayError),
        // Refused before this is asked.
        written::Signal::Latency => None,
        written::Signal::Readiness => Some(Signal::Readiness),
        written::Signal::ServerError => Some(Signal::ServerError),
        written::Signal::Session => Some(Signal::Session),
        written::Signal::Timeout => Some(Signal::Timeout),
    };
    let default = Health::default();
    let signals = match &written.signals {
        Some(signals) => signals.iter().filter_map(signal).collect(),
        None => default.signals,
    };
    let errors = [Signal::GatewayError, Signal::ServerError, Signal::Timeout];
    let counts = errors.iter().any(|signal| signals.contains(signal));
    Health {
        eject: match &written.eject {
            Some(written) => Some(eject(written)),
            // A signal that is listened to must lead to something.
            None => counts.then(Eject::default),
        },
        signals,
        probe: written.probe.as_ref().map(|probe| Probe {
            path: probe.path.as_str().into(),
            interval: probe.interval.as_ref().map_or(DEFAULT_INTERVAL, |text| text.duration()),
        }),
    }
}

fn eject(written: &written::Eject) -> Eject {
    let default = Eject::default();
    Eject {
        consecutive: written.consecutive.unwrap_or(default.consecutive),
        within: written.within.as_ref().map_or(default.within, |text| text.duration()),
        duration: written.duration.as_ref().map_or(default.duration, |text| text.duration()),
        max_percent: written.max_percent.unwrap_or(default.max_percent),
    }
}

fn spill(written: &written::Spill) -> Spill {
    let default = Spill::default();
    Spill {
        below_percent: written.below_percent.unwrap_or(default.below_percent),
        ramp: written.ramp.as_ref().map_or(default.ramp, |text| text.duration()),
    }
}

fn failback(written: &written::Failback) -> Failback {
    let default = Failback::default();
    Failback {
        after: written.after.as_ref().map_or(default.after, |text| text.duration()),
        ramp: written.ramp.as_ref().map_or(default.ramp, |text| text.duration()),
    }
}

//! FailoverPolicy, and the same fields of `defaults`: their checks and what they resolve to.

use std::collections::BTreeSet;
use std::time::Duration;

use tacit_api::failover::{
    self as written, ClientPlace, FailoverPolicySpec, Health as WrittenHealth, ServiceRef,
    WeightedPlace as WrittenPlace,
};
use tacit_api::mesh::Defaults;
use tacit_model::failover::{
    ClientOrder, Eject, Failback, Failover, Health, Probe, Signal, Spill, Step, WeightedPlace,
    WhenNoneHealthy,
};
use tacit_model::locality::{Part, Place};
use tacit_model::{Namespace, ObjectRef, Provenance, ServiceName, Sourced};

use crate::attach::origin;
use crate::findings::object_ref;
use crate::index::ServiceEntry;

mod validate;

pub(crate) use validate::{dangling, validate, validate_defaults};

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
        fields
            .into_iter()
            .filter(|(_, set)| *set)
            .map(|(name, _)| name)
            .collect()
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
    usable: &dyn Fn(&ServiceName) -> bool,
) -> Option<Failover> {
    let set = candidates
        .iter()
        .any(|candidate| !candidate.parts.fields().is_empty());
    if !set && distribution.is_none() {
        return None;
    }
    let ordered = candidates
        .iter()
        .find(|found| found.parts.order.is_some() || found.parts.orders.is_some());
    let (order, orders) = match ordered {
        Some(found) => written_order(found, usable),
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
        read(&found.parts).map(|value| Sourced {
            value,
            from: from(),
        })
    })
}

/// All endpoints of the own cluster, equal.
fn own_cluster() -> Vec<Step> {
    let place = Place {
        cluster: Some(Part::Same),
        ..Place::default()
    };
    vec![Step::Places(vec![WeightedPlace { place, weight: 1 }])]
}

/// The order that a Service's `trafficDistribution` asks for: the own zone first.
pub(crate) fn distribution(entry: &ServiceEntry<'_>) -> Option<Sourced<Vec<Step>>> {
    let wish = entry.service.spec.traffic_distribution.as_deref()?;
    if !matches!(wish, "PreferClose" | "PreferSameZone") {
        return None;
    }
    let own = object_ref(&entry.object.value.key())?;
    let place = Place {
        zone: Some(Part::Same),
        ..Place::default()
    };
    let mut steps = vec![Step::Places(vec![WeightedPlace { place, weight: 1 }])];
    steps.extend(own_cluster());
    Some(Sourced {
        value: steps,
        from: origin(&own, "spec.trafficDistribution"),
    })
}

fn written_order(
    found: &Candidate<'_>,
    usable: &dyn Fn(&ServiceName) -> bool,
) -> (Sourced<Vec<Step>>, Vec<ClientOrder>) {
    let order = match found.parts.order {
        Some(order) => Sourced {
            value: steps(order, &found.home, usable),
            from: origin(&found.object, format!("{}.order", found.parts.at)),
        },
        None => Sourced {
            value: own_cluster(),
            from: Provenance::Default,
        },
    };
    let mut orders: Vec<ClientOrder> = found
        .parts
        .orders
        .unwrap_or_default()
        .iter()
        .map(|order| ClientOrder {
            clients: clients(&order.clients),
            steps: steps(&order.order, &found.home, usable),
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

/// The services that the steps of a failover lead to.
pub(crate) fn fallbacks_of(failover: &Failover) -> impl Iterator<Item = &ServiceName> {
    let orders = failover.orders.iter().map(|order| &order.steps);
    let steps = orders.chain([&failover.order.value]).flatten();
    steps.filter_map(|step| match step {
        Step::Places(_) => None,
        Step::Service(name) => Some(name),
    })
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
    let WrittenPlace {
        cluster,
        region,
        zone,
        weight,
    } = place;
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
    let ClientPlace {
        cluster,
        region,
        zone,
    } = place;
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
            interval: probe
                .interval
                .as_ref()
                .map_or(DEFAULT_INTERVAL, |text| text.duration()),
        }),
    }
}

fn eject(written: &written::Eject) -> Eject {
    let default = Eject::default();
    Eject {
        consecutive: written.consecutive.unwrap_or(default.consecutive),
        within: written
            .within
            .as_ref()
            .map_or(default.within, |text| text.duration()),
        duration: written
            .duration
            .as_ref()
            .map_or(default.duration, |text| text.duration()),
        max_percent: written.max_percent.unwrap_or(default.max_percent),
    }
}

fn spill(written: &written::Spill) -> Spill {
    let default = Spill::default();
    Spill {
        below_percent: written.below_percent.unwrap_or(default.below_percent),
        ramp: written
            .ramp
            .as_ref()
            .map_or(default.ramp, |text| text.duration()),
    }
}

fn failback(written: &written::Failback) -> Failback {
    let default = Failback::default();
    Failback {
        after: written
            .after
            .as_ref()
            .map_or(default.after, |text| text.duration()),
        ramp: written
            .ramp
            .as_ref()
            .map_or(default.ramp, |text| text.duration()),
    }
}

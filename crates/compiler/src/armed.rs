//! Whether a FailoverPolicy has somewhere to go, and the table of where that is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use imbl::OrdMap;
use tacit_api::Kind;
use tacit_model::failover::{Failover, Step, WeightedPlace};
use tacit_model::status::{Condition, ConditionKind, Reason};
use tacit_model::tables::{ClassKey, ClassRow, ServiceRow, WorkloadRow};
use tacit_model::{Locality, ServiceName, WorkloadName};

use crate::failover::fallbacks_of;
use crate::groups::Groups;
use crate::policies::Placed;
use crate::services::Services;

/// Most localities of clients that a status speaks of: more are no table for people.
const MOST_CLIENTS: usize = 64;
/// Most lines of one status.
const MOST_LINES: usize = 200;

/// Where endpoints and clients are.
#[derive(Debug)]
pub(crate) struct Map<'a> {
    endpoints: BTreeMap<&'a ServiceName, Vec<&'a WorkloadRow>>,
    clients: BTreeSet<&'a Locality>,
    /// What nodes have reported of which ports accept connections.
    reported: &'a OrdMap<WorkloadName, BTreeSet<u16>>,
}

impl<'a> Map<'a> {
    /// A map of all workloads, with the endpoints of the services that are `wanted`.
    pub(crate) fn new(
        groups: &Groups<'a>,
        classes: &'a BTreeMap<Arc<ClassKey>, ClassRow>,
        wanted: &dyn Fn(&ServiceName) -> bool,
        reported: &'a OrdMap<WorkloadName, BTreeSet<u16>>,
    ) -> Self {
        let mut endpoints: BTreeMap<&ServiceName, Vec<&WorkloadRow>> = BTreeMap::new();
        for (key, rows) in &groups.classes {
            let class = classes.get(*key);
            let services = class.into_iter().flat_map(|class| &class.services);
            for service in services.filter(|name| wanted(name)) {
                let of = endpoints.entry(service).or_default();
                of.extend(rows.iter().map(|row| &***row));
            }
        }
        for rows in endpoints.values_mut() {
            rows.sort_by(|a, b| a.name.cmp(&b.name));
        }
        Self {
            endpoints,
            clients: groups.places.keys().copied().collect(),
            reported,
        }
    }

    /// A map of some services only, with the localities of all clients.
    pub(crate) fn of(
        endpoints: BTreeMap<&'a ServiceName, Vec<&'a WorkloadRow>>,
        clients: BTreeSet<&'a Locality>,
        reported: &'a OrdMap<WorkloadName, BTreeSet<u16>>,
    ) -> Self {
        Self {
            endpoints,
            clients,
            reported,
        }
    }

    /// The workloads behind a service.
    pub(crate) fn endpoints(&self, service: &ServiceName) -> &[&'a WorkloadRow] {
        self.endpoints.get(service).map_or(&[], Vec::as_slice)
    }

    /// True unless its node says that no port of the service accepts connections.
    fn counts(&self, service: &ServiceRow, row: &WorkloadRow) -> bool {
        !self.reported.contains_key(&row.name) || is_ready(service, row)
    }
}

fn is_ready(service: &ServiceRow, row: &WorkloadRow) -> bool {
    let mut ports = service.ports.iter().filter_map(|port| port.target_on(row));
    ports.any(|port| row.ready.contains(&port))
}

/// The services whose endpoints the status of a FailoverPolicy counts: those that it applies to,
/// and their fallbacks.
pub(crate) fn counted<'s>(
    placed: &[Placed<'_>],
    services: &'s Services,
) -> BTreeSet<&'s ServiceName> {
    let policies = placed.iter();
    let policies = policies.filter(|policy| policy.kind == Kind::FailoverPolicy);
    let hit = policies.filter_map(|policy| services.hit.get(&policy.object));
    let rows = hit.flatten().filter_map(|name| services.rows.get(name));
    let counted = rows.flat_map(|row| {
        let fallbacks = row.failover.iter().flat_map(fallbacks_of);
        fallbacks.chain([&row.name])
    });
    counted.collect()
}

/// The condition and the table of a policy that applies to these services.
pub(crate) fn armed(
    services: &BTreeMap<ServiceName, ServiceRow>,
    hit: &BTreeSet<ServiceName>,
    map: &Map<'_>,
) -> (Condition, Vec<Arc<str>>) {
    let mut lines = Vec::new();
    let (mut stuck, mut deaf) = (Vec::new(), Vec::new());
    for name in hit {
        let Some((row, failover)) = services
            .get(name)
            .and_then(|row| Some((row, row.failover.as_ref()?)))
        else {
            continue;
        };
        if failover.health.value.signals.is_empty() && failover.health.value.probe.is_none() {
            deaf.push(name.to_string());
        }
        let at_own: BTreeSet<&Locality> = map
            .endpoints(name)
            .iter()
            .map(|row| &row.locality)
            .collect();
        let clients = if map.clients.is_empty() {
            &at_own
        } else {
            &map.clients
        };
        let mut alternatives = !clients.is_empty();
        for client in clients.iter().take(MOST_CLIENTS) {
            let steps = steps_for(failover, client);
            alternatives &= has_alternative(row, steps, client, services, map);
            if lines.len() < MOST_LINES {
                lines.push(line(row, steps, client, services, map).into());
            }
        }
        if !alternatives {
            stuck.push(name.to_string());
        }
    }
    let (reason, message) = if hit.is_empty() {
        (Reason::NoAlternative, "it applies to no service".to_owned())
    } else if !deaf.is_empty() {
        let names = deaf.join(", ");
        (
            Reason::NoHealthSignal,
            format!("no signal is listened to for {names}"),
        )
    } else if !stuck.is_empty() {
        let names = stuck.join(", ");
        let message =
            format!("some clients of {names} have no second place with an endpoint to go to");
        (Reason::NoAlternative, message)
    } else {
        (
            Reason::Armed,
            "every client has a second place to go to".to_owned(),
        )
    };
    let status = reason == Reason::Armed;
    (
        Condition {
            kind: ConditionKind::Armed,
            status,
            reason,
            message,
        },
        lines,
    )
}

/// The steps for a client: the most specific order for it, else the order for everybody.
fn steps_for<'f>(failover: &'f Failover, client: &Locality) -> &'f [Step] {
    let own = failover
        .orders
        .iter()
        .find(|order| order.clients.contains(client, client));
    own.map_or(&failover.order.value, |order| &order.steps)
}

/// True if the steps lead to endpoints in more than one place.
fn has_alternative(
    service: &ServiceRow,
    steps: &[Step],
    client: &Locality,
    services: &BTreeMap<ServiceName, ServiceRow>,
    map: &Map<'_>,
) -> bool {
    let mut places: BTreeSet<(&ServiceName, &Locality)> = BTreeSet::new();
    for step in steps {
        let (target, wanted) = match step {
            Step::Places(places) => (service, Some(places.iter().collect())),
            Step::Service(name) => match services.get(name) {
                Some(fallback) => (fallback, places_of(fallback, client)),
                None => continue,
            },
        };
        let endpoints = map.endpoints(&target.name).iter();
        let counted = endpoints
            .filter(|row| map.counts(target, row))
            .filter(|row| {
                wanted
                    .as_deref()
                    .is_none_or(|places| inside(places, client, row))
            });
        for row in counted {
            if let Some((name, _)) = services.get_key_value(&target.name) {
                places.insert((name, &row.locality));
            }
        }
    }
    places.len() > 1
}

/// The places from which a fallback serves a client: it keeps to its own order, and its own
/// fallbacks are not followed. `None`: from everywhere.
fn places_of<'f>(fallback: &'f ServiceRow, client: &Locality) -> Option<Vec<&'f WeightedPlace>> {
    let steps = steps_for(fallback.failover.as_ref()?, client);
    let places = steps.iter().filter_map(|step| match step {
        Step::Places(places) => Some(places),
        Step::Service(_) => None,
    });
    (!steps.is_empty()).then(|| places.flatten().collect())
}

fn inside(places: &[&WeightedPlace], client: &Locality, row: &WorkloadRow) -> bool {
    places
        .iter()
        .any(|place| place.place.contains(client, &row.locality))
}

/// One line: the steps for a client, each with its ready endpoints of all.
fn line(
    service: &ServiceRow,
    steps: &[Step],
    client: &Locality,
    services: &BTreeMap<ServiceName, ServiceRow>,
    map: &Map<'_>,
) -> String {
    let step = |step: &Step| match step {
        Step::Places(places) => {
            let place = |place: &WeightedPlace| {
                let count = count(service, map, |row| inside(&[place], client, row));
                let weight = match places.len() {
                    1 => String::new(),
                    _ => format!(" (weight {})", place.weight),
                };
                format!("{}{weight} {count}", place.place)
            };
            places.iter().map(place).collect::<Vec<_>>().join(" + ")
        }
        Step::Service(name) => match services.get(name) {
            Some(fallback) => {
                let places = places_of(fallback, client);
                let places = places.as_deref();
                let is_there =
                    |row: &WorkloadRow| places.is_none_or(|places| inside(places, client, row));
                format!("Service {name} {}", count(fallback, map, is_there))
            }
            None => format!("Service {name} 0/0"),
        },
    };
    let steps: Vec<String> = steps.iter().map(step).collect();
    format!("{} from {client}: {}", service.name, steps.join(" > "))
}

fn count(service: &ServiceRow, map: &Map<'_>, wanted: impl Fn(&WorkloadRow) -> bool) -> String {
    let all: Vec<&&WorkloadRow> = map
        .endpoints(&service.name)
        .iter()
        .filter(|row| wanted(row))
        .collect();
    let ready = all.iter().filter(|row| is_ready(service, row)).count();
    format!("{ready}/{}", all.len())
}

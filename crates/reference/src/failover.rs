//! Where the traffic of a service goes: the order, its endpoints and their shares.

use std::collections::{BTreeMap, BTreeSet};

use crate::access::target_port;
use crate::answer::{Answer, Odds, Request, Set};
use crate::mesh::{Object, Reference};
use crate::mutation::Mutation;
use crate::node::Node;
use crate::precedence::Source;
use crate::resilience::sorted;
use crate::world::{Caller, Ill, Sign};

/// All of a share.
const FULL: u64 = 1_000_000;

/// One step of an order.
pub(crate) enum Step<'r, 'w> {
    /// All of the own cluster, equal.
    OwnCluster,
    Places(Node<'w>),
    SameZone,
    Service(&'r Object<'w>),
}

/// One endpoint of a step.
struct Endpoint {
    /// `namespace/name:port`
    name: String,
    place: usize,
    weight: u64,
    is_ready: bool,
    is_unreachable: bool,
    is_ejected: bool,
}

impl Endpoint {
    fn is_usable(&self) -> bool {
        self.is_ready && !self.is_unreachable && !self.is_ejected
    }
}

/// A region and a zone; empty if not known.
pub(crate) struct Locality<'r> {
    pub(crate) region: &'r str,
    pub(crate) zone: &'r str,
}

impl<'w> Reference<'w> {
    /// What holds for a service besides its order, with origins.
    pub(crate) fn failover_values(
        &self,
        values: &mut BTreeMap<&'static str, Set>,
        service: &Object<'w>,
    ) {
        let sources = self.sources("FailoverPolicy", service, None);
        let distributes = service.spec.at("trafficDistribution").is_there();
        let says = |source: &Source<'_>| {
            let fields = [
                "order",
                "orders",
                "health",
                "spill",
                "failback",
                "whenNoneHealthy",
            ];
            fields
                .iter()
                .any(|field| source.values.at(field).is_there())
        };
        if !distributes && !sources.iter().any(says) {
            return;
        }
        let first = |field: &'static str, text: fn(Node<'_>) -> String| {
            let found = sources.iter().find(|one| one.values.at(field).is_there());
            Set {
                value: text(found.map_or(Node(None), |one| one.values.at(field))),
                from: found.map_or_else(|| "default".to_owned(), |one| one.origin(field)),
            }
        };
        values.insert("failover.health", first("health", health));
        values.insert("failover.spill", first("spill", spill));
        values.insert("failover.failback", first("failback", failback));
        values.insert(
            "failover.whenNoneHealthy",
            first("whenNoneHealthy", |node| {
                node.text().unwrap_or("Any").to_owned()
            }),
        );
        let ordered = sources.iter().find(|source| orders(source));
        let from = match ordered {
            Some(source) if source.values.at("order").is_there() => source.origin("order"),
            None if distributes => format!("{} spec.trafficDistribution", service.shown()),
            Some(_) | None => "default".to_owned(),
        };
        let count = ordered.map_or(0, |one| one.values.at("orders").items().count());
        let value = format!("{count} orders");
        values.insert("failover.order", Set { value, from });
    }

    /// The endpoints of the first, the second and the third try.
    pub(crate) fn endpoints(
        &self,
        answer: &mut Answer,
        (policies, service, port): (&Object<'w>, &Object<'w>, u16),
        request: &Request,
    ) {
        let steps = self.steps((policies, service, port), request);
        let sources = self.sources("FailoverPolicy", policies, None);
        let none_healthy = sources
            .iter()
            .find_map(|source| source.values.at("whenNoneHealthy").text());
        let any = none_healthy != Some("Fail") || self.is_wrong(Mutation::NoneHealthyIsAny);
        answer.first = self.first_try(&steps, &self.shares(policies, &steps), any);
        let Some(one) = chosen(&answer.first, request.pick) else {
            return;
        };
        let tried = [one.endpoint.clone()];
        let (step, second) = self.further(&steps, &tried, one.step, any);
        let index = request.pick % second.len().max(1);
        if let Some(two) = second.get(index).cloned() {
            let tried = [tried[0].clone(), two];
            let next = if self.is_wrong(Mutation::ThirdStays) {
                step
            } else {
                step + 1
            };
            answer.further[1] = self.further(&steps, &tried, next, any).1;
        }
        answer.further[0] = second;
    }

    /// The share of each step of all that it may get.
    fn shares(&self, service: &Object<'w>, steps: &[Vec<Endpoint>]) -> Vec<u64> {
        let sources = self.sources("FailoverPolicy", service, None);
        let spill = sources.iter().find(|one| one.values.at("spill").is_there());
        let below = spill.and_then(|one| one.values.at("spill").at("belowPercent").number());
        let below = u64::try_from(below.unwrap_or(70)).unwrap_or(70);
        let mut shown = BTreeMap::new();
        self.failover_values(&mut shown, service);
        let keeps_all = shown.is_empty() || self.is_wrong(Mutation::SpillIgnored);
        let share = |step: &Vec<Endpoint>| {
            let counted = step
                .iter()
                .filter(|one| one.is_ready || !self.is_wrong(Mutation::UnreadyNotCounted));
            let total = count(counted);
            let usable = count(step.iter().filter(|one| one.is_usable()));
            match total * below {
                _ if keeps_all => FULL,
                0 => 0,
                needed => (usable * 100 * FULL / needed).min(FULL),
            }
        };
        steps.iter().map(share).collect()
    }

    /// Each step takes up to its share of what the ones above it left.
    fn first_try(&self, steps: &[Vec<Endpoint>], shares: &[u64], any: bool) -> Vec<Odds> {
        let mut left = FULL;
        let mut claims = Vec::new();
        for (step, share) in steps.iter().zip(shares) {
            let has_any = step.iter().any(|one| self.usable(one));
            let claim = if has_any { (*share).min(left) } else { 0 };
            left -= claim;
            claims.push(claim);
        }
        let total: u64 = claims.iter().sum();
        let mut odds = Vec::new();
        if total == 0 {
            let (step, found) = self.last_resort(steps, &[], any);
            odds.extend(self.odds(&found, step, 1, 1));
        }
        for (index, (step, claim)) in steps.iter().zip(&claims).enumerate() {
            if *claim > 0 {
                let found: Vec<&Endpoint> = step.iter().filter(|one| self.usable(one)).collect();
                odds.extend(self.odds(&found, index, *claim, total));
            }
        }
        odds.sort_by(|a, b| (a.step, &a.endpoint).cmp(&(b.step, &b.endpoint)));
        odds
    }

    fn usable(&self, one: &Endpoint) -> bool {
        one.is_usable()
            || (one.is_ready && one.is_unreachable && self.is_wrong(Mutation::UnreachableUsed))
            || (one.is_ready && one.is_ejected && self.is_wrong(Mutation::EjectedUsed))
    }

    /// The weight of a place is shared by its endpoints.
    fn odds(&self, found: &[&Endpoint], step: usize, claim: u64, claims: u64) -> Vec<Odds> {
        let weight = |one: &Endpoint| {
            if self.is_wrong(Mutation::PlaceWeightIgnored) {
                1
            } else {
                one.weight
            }
        };
        let places: BTreeMap<usize, u64> =
            found.iter().map(|one| (one.place, weight(one))).collect();
        let all: u64 = places.values().sum();
        let odds = |one: &&Endpoint| {
            let here = count(found.iter().filter(|other| other.place == one.place));
            let part = u128::from(claim) * u128::from(weight(one)) * u128::from(FULL);
            let of = u128::from(claims) * u128::from(all) * u128::from(here);
            let share = u64::try_from(part / of.max(1)).unwrap_or(u64::MAX);
            Odds {
                endpoint: one.name.clone(),
                step,
                per_million: share.max(1),
            }
        };
        found.iter().map(odds).collect()
    }

    /// The candidates of a further try that asks from a step on, and their step.
    fn further(
        &self,
        steps: &[Vec<Endpoint>],
        tried: &[String],
        from: usize,
        any: bool,
    ) -> (usize, Vec<String>) {
        let from = from.min(steps.len());
        let repeats = self.is_wrong(Mutation::FurtherRepeats);
        let fresh = |one: &&Endpoint| self.usable(one) && (repeats || !tried.contains(&one.name));
        for step in (from..steps.len()).chain(0..from) {
            let found: Vec<&Endpoint> = steps[step].iter().filter(fresh).collect();
            if !found.is_empty() {
                return (step, names(&found));
            }
        }
        let (step, found) = self.last_resort(steps, tried, any);
        (step, names(&found))
    }

    /// When nothing else is left: what was tried already, then the ejected if the policy says so.
    fn last_resort<'s>(
        &self,
        steps: &'s [Vec<Endpoint>],
        tried: &[String],
        any: bool,
    ) -> (usize, Vec<&'s Endpoint>) {
        let ejected = |one: &Endpoint| {
            let only_ejected = one.is_ready && one.is_ejected && !one.is_unreachable;
            any && only_ejected && !tried.contains(&one.name)
        };
        for accepts in [&Endpoint::is_usable as &dyn Fn(&Endpoint) -> bool, &ejected] {
            for (index, step) in steps.iter().enumerate() {
                let found: Vec<&Endpoint> = step.iter().filter(|one| accepts(one)).collect();
                if !found.is_empty() {
                    return (index, found);
                }
            }
        }
        (0, Vec::new())
    }

    /// The steps for a client with their endpoints, each endpoint in the first step that has it.
    fn steps(
        &self,
        (policies, service, port): (&Object<'w>, &Object<'w>, u16),
        request: &Request,
    ) -> Vec<Vec<Endpoint>> {
        let mut seen = BTreeSet::new();
        let mut found = Vec::new();
        let Some(port) = port_of(service, |one| {
            one.at("port").number() == Some(i64::from(port))
        }) else {
            return found;
        };
        for step in self.order(policies, &request.caller) {
            let Step::Service(fallback) = step else {
                found.push(self.of_step(&step, (service, port), request, &mut seen));
                continue;
            };
            let same_number = |one: &Node<'_>| one.at("port").number() == port.at("port").number();
            let same_name = |one: &Node<'_>| {
                let name = port.at("name").text();
                name.is_some() && one.at("name").text() == name
            };
            let port = port_of(fallback, same_number).or_else(|| port_of(fallback, same_name));
            let Some(port) = port else {
                continue;
            };
            // A fallback keeps to its own order of places; its own fallbacks are not followed.
            for step in self.order(fallback, &request.caller) {
                if !matches!(step, Step::Service(_)) {
                    found.push(self.of_step(&step, (fallback, port), request, &mut seen));
                }
            }
        }
        found
    }

    /// The order of a service for a client.
    pub(crate) fn order(&self, service: &Object<'w>, client: &Caller) -> Vec<Step<'_, 'w>> {
        let sources = self.sources("FailoverPolicy", service, None);
        let Some(source) = sources.iter().find(|source| orders(source)) else {
            return if service.spec.at("trafficDistribution").is_there() {
                vec![Step::SameZone, Step::OwnCluster]
            } else {
                vec![Step::OwnCluster]
            };
        };
        let orders_from = if self.is_wrong(Mutation::OrdersApart) {
            sources
                .iter()
                .find(|one| one.values.at("orders").is_there())
        } else {
            Some(source)
        };
        let mut best: Option<(usize, Node<'w>)> = None;
        for order in orders_from
            .iter()
            .flat_map(|one| one.values.at("orders").items())
        {
            let clients = order.at("clients");
            let parts = ["cluster", "region", "zone"];
            let given = parts
                .iter()
                .filter(|part| clients.at(part).is_there())
                .count();
            let at = Locality {
                region: &client.region,
                zone: &client.zone,
            };
            let better = |known: usize| {
                if self.is_wrong(Mutation::LeastSpecificOrder) {
                    given < known
                } else {
                    given > known
                }
            };
            if self.is_in(clients, &at, &at) && best.is_none_or(|(known, _)| better(known)) {
                best = Some((given, order.at("order")));
            }
        }
        let steps = best.map_or_else(|| source.values.at("order"), |(_, order)| order);
        let home = source.object.namespace;
        let steps: Vec<Step<'_, 'w>> = steps
            .items()
            .filter_map(|step| self.step(step, home, service))
            .collect();
        if steps.is_empty() {
            vec![Step::OwnCluster]
        } else {
            steps
        }
    }

    fn step(&self, step: Node<'w>, home: &str, of: &Object<'w>) -> Option<Step<'_, 'w>> {
        if step.at("places").is_there() {
            return Some(Step::Places(step.at("places")));
        }
        let namespace = step.at("service").at("namespace").text().unwrap_or(home);
        let key = format!("{namespace}/{}", step.at("service").at("name").text()?);
        let found = self.service(&key).filter(|found| found.key() != of.key())?;
        (!self.is_wrong(Mutation::FallbackIgnored)).then_some(Step::Service(found))
    }

    fn of_step(
        &self,
        step: &Step<'_, 'w>,
        (service, port): (&Object<'w>, Node<'w>),
        request: &Request,
        seen: &mut BTreeSet<String>,
    ) -> Vec<Endpoint> {
        let ejected = self.ejected(service, request.illness);
        let mut endpoints = Vec::new();
        for workload in self.behind(service) {
            let Some(target) = target_port(port, workload) else {
                continue;
            };
            let Some((place, weight)) = self.place(step, &request.caller, workload) else {
                continue;
            };
            let name = format!("{}:{target}", workload.key());
            if !seen.insert(name.clone()) {
                continue;
            }
            let ready = self.world.ready.get(&workload.key());
            endpoints.push(Endpoint {
                place,
                weight,
                is_ready: ready.is_some_and(|ports| {
                    u16::try_from(target).is_ok_and(|target| ports.contains(&target))
                }),
                is_unreachable: self.is_unreachable(workload, request.illness),
                is_ejected: ejected.contains(&name),
                name,
            });
        }
        endpoints
    }

    /// The place of a step in which a workload is, and its weight.
    pub(crate) fn place(
        &self,
        step: &Step<'_, 'w>,
        client: &Caller,
        workload: &Object<'_>,
    ) -> Option<(usize, u64)> {
        let client = &Locality {
            region: &client.region,
            zone: &client.zone,
        };
        let at = self.locality(workload);
        match step {
            Step::OwnCluster | Step::Service(_) => Some((0, 1)),
            Step::SameZone => (!at.zone.is_empty() && at.zone == client.zone).then_some((0, 1)),
            Step::Places(places) => {
                let mut numbered = places.items().enumerate();
                let (index, place) = numbered.find(|(_, place)| self.is_in(*place, client, &at))?;
                let weight = place.at("weight").number().unwrap_or(1);
                Some((index, u64::try_from(weight).unwrap_or(1)))
            }
        }
    }

    /// Where a workload is: as it says; the region of its zone as the Mesh says.
    pub(crate) fn locality<'r>(&self, workload: &'r Object<'_>) -> Locality<'r>
    where
        'w: 'r,
    {
        let own = workload.spec.at("locality");
        let zone = own.at("zone").text().unwrap_or_default();
        let listed = self.mesh().at("localities").items().find_map(|region| {
            let mut zones = region.at("zones").texts();
            zones
                .any(|one| one == zone)
                .then(|| region.at("region").text())?
        });
        Locality {
            region: own.at("region").text().or(listed).unwrap_or_default(),
            zone,
        }
    }

    /// True if every given part of a place fits; `same` is the client's, if that is known.
    fn is_in(&self, place: Node<'_>, client: &Locality<'_>, at: &Locality<'_>) -> bool {
        let fits = |name: &str, client: &str, at: &str| match place.at(name).text() {
            None => true,
            Some("same") if self.is_wrong(Mutation::SameIsAnywhere) => true,
            Some("same") => !client.is_empty() && client == at,
            Some(wanted) => wanted == at,
        };
        let cluster = self.cluster();
        fits("cluster", cluster, cluster)
            && fits("region", client.region, at.region)
            && fits("zone", client.zone, at.zone)
    }

    /// What was learnt. Nobody tries a service or a workload that is not there.
    fn ills(&self, illness: usize) -> impl Iterator<Item = &Ill> {
        let known = self.world.illnesses.get(illness);
        known.into_iter().flatten().filter(|ill| {
            let mut workloads = self.of_kind("Workload");
            self.service(&ill.service).is_some()
                && workloads.any(|workload| workload.key() == ill.workload)
        })
    }

    /// No connection to it could be made.
    fn is_unreachable(&self, workload: &Object<'_>, illness: usize) -> bool {
        let mut lost = self.ills(illness).filter(|ill| ill.sign == Sign::Connect);
        lost.any(|ill| ill.workload == workload.key())
    }

    /// The endpoints of a service that are out for application errors.
    fn ejected(&self, service: &Object<'w>, illness: usize) -> BTreeSet<String> {
        let sources = self.sources("FailoverPolicy", service, None);
        let health = sources
            .iter()
            .find(|one| one.values.at("health").is_there());
        let health = health.map_or(Node(None), |one| one.values.at("health"));
        let mut ejected = BTreeSet::new();
        if !ejects(health) {
            return ejected;
        }
        let number = |name, default| health.at("eject").at(name).number().unwrap_or(default);
        let (consecutive, percent) = (number("consecutive", 5), number("maxPercent", 50));
        let total = count(self.behind(service));
        let mut failures: BTreeMap<String, i64> = BTreeMap::new();
        for ill in self.ills(illness) {
            let name = format!("{}:{}", ill.workload, ill.port);
            let is_bad = health
                .at("signals")
                .texts()
                .any(|signal| means(signal, ill.sign));
            if ill.service != service.key() || ill.sign == Sign::Connect {
                continue;
            }
            for _ in 0..ill.times {
                let failed = failures.entry(name.clone()).or_default();
                *failed = if is_bad { *failed + 1 } else { 0 };
                let of_port = format!(":{}", ill.port);
                let others = ejected
                    .iter()
                    .filter(|one: &&String| one.ends_with(&of_port) && **one != name);
                let most = total * u64::try_from(percent).unwrap_or(0);
                let has_room =
                    (count(others) + 1) * 100 <= most || self.is_wrong(Mutation::EjectUnbounded);
                if *failed >= consecutive && has_room {
                    ejected.insert(name.clone());
                }
            }
        }
        ejected
    }
}

/// `order` and `orders` go whole.
fn orders(source: &Source<'_>) -> bool {
    source.values.at("order").is_there() || source.values.at("orders").is_there()
}

fn port_of<'w>(service: &Object<'w>, is_it: impl Fn(&Node<'w>) -> bool) -> Option<Node<'w>> {
    service.spec.at("ports").items().find(is_it)
}

fn chosen(odds: &[Odds], pick: usize) -> Option<&Odds> {
    odds.get(pick % odds.len().max(1))
}

fn names(found: &[&Endpoint]) -> Vec<String> {
    let mut names: Vec<String> = found.iter().map(|one| one.name.clone()).collect();
    names.sort();
    names
}

fn count<T>(items: impl Iterator<Item = T>) -> u64 {
    u64::try_from(items.count()).unwrap_or(u64::MAX)
}

/// True if a try that ended so is a failure by this signal.
fn means(signal: &str, sign: Sign) -> bool {
    match (signal, sign) {
        ("GatewayError", Sign::Status(status)) => (502..=504).contains(&status),
        ("ServerError", Sign::Status(status)) => (500..=599).contains(&status),
        ("Timeout", Sign::Timeout) => true,
        _ => false,
    }
}

/// True if application errors take endpoints out: `eject` is written, or a signal that counts.
fn ejects(health: Node<'_>) -> bool {
    let mut signals = health.at("signals").texts();
    let counts = signals.any(|one| matches!(one, "GatewayError" | "ServerError" | "Timeout"));
    health.at("eject").is_there() || counts
}

fn health(health: Node<'_>) -> String {
    let signals = if health.at("signals").is_there() {
        sorted(health.at("signals").texts())
    } else {
        "[Connect Readiness Session]".to_owned()
    };
    let eject = health.at("eject");
    let number = |name, default: i64| eject.at(name).number().unwrap_or(default);
    let time = |name, default: i64| eject.at(name).milliseconds().unwrap_or(default);
    let eject = if ejects(health) {
        format!(
            "{} in {} for {} up to {} %",
            number("consecutive", 5),
            time("within", 10_000),
            time("for", 30_000),
            number("maxPercent", 50)
        )
    } else {
        "never".to_owned()
    };
    let probe = health.at("probe");
    let probe = probe.at("path").text().map_or_else(
        || "none".to_owned(),
        |path| {
            format!(
                "{path} {}",
                probe.at("interval").milliseconds().unwrap_or(5000)
            )
        },
    );
    format!("signals {signals} eject {eject} probe {probe}")
}

fn spill(spill: Node<'_>) -> String {
    let below = spill.at("belowPercent").number().unwrap_or(70);
    let ramp = spill.at("ramp").milliseconds().unwrap_or(10_000);
    format!("{below} {ramp}")
}

fn failback(failback: Node<'_>) -> String {
    let time = |name| failback.at(name).milliseconds().unwrap_or(30_000);
    format!("{} {}", time("after"), time("ramp"))
}

//! Builds small meshes for tests, and moves virtual time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tacit_decide::retry::TryOutcome;
use tacit_decide::{Ask, Choice, Denial, Peer, State, Tried, choose};
use tacit_model::access::Cidr;
use tacit_model::failover::{
    Eject, Failback, Failover, Health, Signal, Spill, Step, WeightedPlace, WhenNoneHealthy,
};
use tacit_model::labels::Labels;
use tacit_model::locality::{Part, Place};
use tacit_model::tables::{
    AccessAttachment, AccessRow, AddressRange, ClassKey, ClassRow, DefaultAccess, Egress, Holds,
    MeshRow, NamespaceRow, Protocol, Row, RowKey, ServicePort, ServiceRow, Tables, TargetPort,
    Tenancy, WorkloadPort, WorkloadRow,
};
use tacit_model::{
    Dice, Generation, Locality, Namespace, Now, ObjectRef, PolicyName, Provenance, ServiceName,
    Snapshot, Sourced, SpiffeId, WorkloadName,
};

/// Tables under construction.
pub(crate) struct World {
    pub(crate) tables: Tables,
}

pub(crate) fn namespace(name: &str) -> Namespace {
    name.try_into().unwrap()
}

pub(crate) fn service_name(name: &str, ns: &str) -> ServiceName {
    ServiceName::parse(ns, name).unwrap()
}

pub(crate) fn identity(ns: &str, account: &str) -> SpiffeId {
    SpiffeId {
        trust_domain: "td".try_into().unwrap(),
        namespace: namespace(ns),
        service_account: account.try_into().unwrap(),
    }
}

pub(crate) fn peer(ns: &str, account: &str) -> Peer {
    Peer {
        identity: Some(identity(ns, account)),
        address: "10.9.0.1:1000".parse().unwrap(),
    }
}

pub(crate) fn at(region: &str, zone: &str) -> Locality {
    Locality {
        cluster: "c".into(),
        region: region.into(),
        zone: zone.into(),
    }
}

pub(crate) fn seconds(n: u64) -> Now {
    Now::default().plus(Duration::from_secs(1_000_000 + n))
}

pub(crate) fn millis(n: u64) -> Now {
    seconds(0).plus(Duration::from_millis(n))
}

fn class_key(ns: &str, app: &str, account: &str) -> Arc<ClassKey> {
    Arc::new(ClassKey {
        namespace: namespace(ns),
        labels: Labels::from_pairs([("app", app)]),
        service_account: account.try_into().unwrap(),
    })
}

/// A range of 16 bits from `network`, as a field of the Mesh says.
fn range(holds: Holds, network: [u8; 4], path: &str) -> AddressRange {
    let object = ObjectRef {
        kind: "Mesh".into(),
        namespace: None,
        name: "default".try_into().unwrap(),
    };
    AddressRange {
        holds,
        range: Sourced {
            value: Cidr {
                network: IpAddr::from(network),
                prefix: 16,
            },
            from: Provenance::Field {
                object,
                path: path.into(),
            },
        },
    }
}

impl World {
    pub(crate) fn new() -> Self {
        let mut world = Self {
            tables: Tables::default(),
        };
        world.mesh(DefaultAccess::Authenticated, Egress::Allow);
        world
    }

    pub(crate) fn put(&mut self, row: Row) {
        self.tables.0.insert(row.key(), row);
    }

    pub(crate) fn mesh(&mut self, default_access: DefaultAccess, egress: Egress) {
        self.put(Row::Mesh(Arc::new(MeshRow {
            trust_domain: "td".try_into().unwrap(),
            cluster: "c".into(),
            default_access: Sourced::default_of(default_access),
            egress: Sourced::default_of(egress),
            certificate_lifetime: Duration::from_secs(86400),
            max_offline: Duration::from_secs(43200),
            root_namespace: namespace("tacit-system"),
            addresses: vec![
                range(
                    Holds::Services,
                    [240, 0, 0, 0],
                    "spec.serviceAddresses.ipv4",
                ),
                range(
                    Holds::Workloads,
                    [10, 0, 0, 0],
                    "spec.workloadAddresses.ipv4",
                ),
            ],
        })));
    }

    pub(crate) fn tenancy(&mut self, ns: &str, tenancy: Tenancy) {
        self.put(Row::Namespace(Arc::new(NamespaceRow {
            namespace: namespace(ns),
            tenancy,
        })));
    }

    /// A service `name.ns` with address 240.0.0.`octet` and ports (name, port, target, protocol).
    pub(crate) fn service(&mut self, name: &str, ns: &str, octet: u8, ports: &[PortSpec]) {
        let ports = ports
            .iter()
            .map(|(name, port, target, protocol)| ServicePort {
                name: (*name).into(),
                port: *port,
                target: TargetPort::Number(*target),
                protocol: *protocol,
            });
        self.put(Row::Service(Arc::new(ServiceRow {
            name: service_name(name, ns),
            address: IpAddr::from([240, 0, 0, octet]),
            ports: ports.collect(),
            resilience: Vec::new(),
            failover: None,
            rate: None,
            faults: Vec::new(),
        })));
        self.known_namespace(ns);
    }

    pub(crate) fn change_service(&mut self, name: &str, ns: &str, f: impl FnOnce(&mut ServiceRow)) {
        let key = RowKey::Service(service_name(name, ns));
        let Some(Row::Service(row)) = self.tables.0.get_mut(&key) else {
            panic!("no service {name}.{ns}");
        };
        f(Arc::make_mut(row));
    }

    fn known_namespace(&mut self, ns: &str) {
        if !self
            .tables
            .0
            .contains_key(&RowKey::Namespace(namespace(ns)))
        {
            self.tenancy(ns, Tenancy::Unclaimed);
        }
    }

    /// A workload of class `app`, which is behind the service of that name if there is one.
    /// Ready on 8080, which is declared HTTP.
    pub(crate) fn workload(&mut self, spec: WorkloadSpec<'_>) {
        let WorkloadSpec {
            name,
            ns,
            app,
            address,
            locality,
            node,
        } = spec;
        let key = class_key(ns, app, app);
        let service = service_name(app, ns);
        let is_service = self
            .tables
            .0
            .contains_key(&RowKey::Service(service.clone()));
        self.known_namespace(ns);
        if !self.tables.0.contains_key(&RowKey::Class(key.clone())) {
            self.put(Row::Class(Arc::new(ClassRow {
                key: key.clone(),
                services: is_service.then_some(service).into_iter().collect(),
                access: Vec::new(),
            })));
        }
        self.put(Row::Workload(Arc::new(WorkloadRow {
            name: WorkloadName::parse(ns, name).unwrap(),
            class: key,
            address: IpAddr::from(address),
            node: node.try_into().unwrap(),
            locality,
            ports: [WorkloadPort {
                name: "http".into(),
                port: 8080,
                protocol: Protocol::Http,
            }]
            .into(),
            published: Vec::new(),
            ready: BTreeSet::from([8080]),
            capacity: None,
            command: Vec::new(),
        })));
    }

    pub(crate) fn change_workload(
        &mut self,
        name: &str,
        ns: &str,
        f: impl FnOnce(&mut WorkloadRow),
    ) {
        let key = RowKey::Workload(WorkloadName::parse(ns, name).unwrap());
        let Some(Row::Workload(row)) = self.tables.0.get_mut(&key) else {
            panic!("no workload {ns}/{name}");
        };
        f(Arc::make_mut(row));
    }

    /// Attaches an access policy to the class `app` of `ns`, through a service or directly.
    pub(crate) fn access(&mut self, row: AccessRow, ns: &str, app: &str, through: Option<&str>) {
        let key = RowKey::Class(class_key(ns, app, app));
        let Some(Row::Class(class)) = self.tables.0.get_mut(&key) else {
            panic!("no class of {app} in {ns}");
        };
        Arc::make_mut(class).access.push(AccessAttachment {
            policy: row.name.clone(),
            through: through.map(|name| service_name(name, ns)),
        });
        self.put(Row::Access(Arc::new(row)));
    }

    /// Puts the workloads of class `app` behind one more service of their namespace.
    pub(crate) fn also_behind(&mut self, app: &str, service: &str, ns: &str) {
        let key = RowKey::Class(class_key(ns, app, app));
        let Some(Row::Class(class)) = self.tables.0.get_mut(&key) else {
            panic!("no class of {app} in {ns}");
        };
        Arc::make_mut(class)
            .services
            .push(service_name(service, ns));
    }

    pub(crate) fn build(&self) -> Snapshot {
        Snapshot::build(Generation::default(), &self.tables).unwrap()
    }
}

/// Name, port, target port, protocol.
pub(crate) type PortSpec = (&'static str, u16, u16, Protocol);

pub(crate) struct WorkloadSpec<'a> {
    pub(crate) name: &'a str,
    pub(crate) ns: &'a str,
    pub(crate) app: &'a str,
    pub(crate) address: [u8; 4],
    pub(crate) locality: Locality,
    pub(crate) node: &'a str,
}

pub(crate) fn policy(name: &str, ns: &str) -> PolicyName {
    PolicyName::parse(ns, name).unwrap()
}

/// A shop: `payments.shop` port 80 → 8080 with `each` workloads in zones r1/a, r1/b, r2/c, and a
/// client `web` in r1/a. Workload `payments-b-1` has address 10.0.2.1, and so on.
pub(crate) fn shop(each: u8) -> World {
    let mut world = World::new();
    world.service("payments", "shop", 1, &[("http", 80, 8080, Protocol::Http)]);
    for (zone, region, letter) in [(1, "r1", "a"), (2, "r1", "b"), (3, "r2", "c")] {
        for i in 1..=each {
            world.workload(WorkloadSpec {
                name: &format!("payments-{letter}-{i}"),
                ns: "shop",
                app: "payments",
                address: [10, 0, zone, i],
                locality: at(region, letter),
                node: &format!("node-{letter}"),
            });
        }
    }
    world.workload(WorkloadSpec {
        name: "web-1",
        ns: "shop",
        app: "web",
        address: [10, 1, 0, 1],
        locality: at("r1", "a"),
        node: "node-a",
    });
    world
}

pub(crate) fn zone(name: &str) -> Place {
    let part = match name {
        "same" => Part::Same,
        name => Part::Named(name.into()),
    };
    Place {
        zone: Some(part),
        ..Place::default()
    }
}

pub(crate) fn region(name: &str) -> Place {
    let part = match name {
        "same" => Part::Same,
        name => Part::Named(name.into()),
    };
    Place {
        region: Some(part),
        ..Place::default()
    }
}

pub(crate) fn places(places: &[(Place, u32)]) -> Step {
    let weighted = places.iter().map(|(place, weight)| WeightedPlace {
        place: place.clone(),
        weight: *weight,
    });
    Step::Places(weighted.collect())
}

/// Zone, then region, then anywhere; ejection after 3 failures for 30 s; spill below 70 % in
/// 10 s; back after 30 s in 30 s.
pub(crate) fn failover() -> Failover {
    let anywhere = Place::default();
    Failover {
        order: Sourced::default_of(vec![
            places(&[(zone("same"), 1)]),
            places(&[(region("same"), 1)]),
            places(&[(anywhere, 1)]),
        ]),
        orders: Vec::new(),
        health: Sourced::default_of(Health {
            signals: [
                Signal::Connect,
                Signal::GatewayError,
                Signal::Readiness,
                Signal::Session,
                Signal::Timeout,
            ]
            .into(),
            eject: Some(Eject {
                consecutive: 3,
                within: Duration::from_secs(10),
                duration: Duration::from_secs(30),
                max_percent: 50,
            }),
            probe: None,
        }),
        spill: Sourced::default_of(Spill {
            below_percent: 70,
            ramp: Duration::from_secs(10),
        }),
        failback: Sourced::default_of(Failback {
            after: Duration::from_secs(30),
            ramp: Duration::from_secs(30),
        }),
        when_none_healthy: Sourced::default_of(WhenNoneHealthy::Any),
    }
}

/// A client that calls `payments.shop` of a snapshot.
pub(crate) struct Client<'a> {
    pub(crate) s: &'a Snapshot,
    pub(crate) state: &'a State,
    pub(crate) service: Arc<ServiceRow>,
    pub(crate) source: Arc<WorkloadRow>,
    pub(crate) control_stale: bool,
    dice: Dice,
}

impl<'a> Client<'a> {
    pub(crate) fn new(s: &'a Snapshot, state: &'a State) -> Self {
        Self {
            s,
            state,
            service: s.services[&service_name("payments", "shop")].clone(),
            source: s.workloads[&WorkloadName::parse("shop", "web-1").unwrap()].clone(),
            control_stale: false,
            dice: Dice(1),
        }
    }

    pub(crate) fn choose(&mut self, tried: &[Tried], now: Now) -> Result<Choice, Denial> {
        let ask = Ask {
            source: &self.source,
            service: &self.service,
            port: &self.service.ports[0],
            tried,
            control_stale: self.control_stale,
        };
        self.dice = self.dice.roll().1;
        choose(self.s, self.state, &ask, now, self.dice)
    }

    /// The zones that `n` first tries go to.
    pub(crate) fn zones(&mut self, n: u32, now: Now) -> BTreeMap<String, u32> {
        let mut counts = BTreeMap::new();
        for _ in 0..n {
            let zone = match self.choose(&[], now) {
                Ok(choice) => choice.workload.locality.zone.to_string(),
                Err(_) => "none".into(),
            };
            *counts.entry(zone).or_default() += 1;
        }
        counts
    }

    pub(crate) fn result(&self, endpoint: &str, outcome: TryOutcome, now: Now) {
        let endpoint: SocketAddr = endpoint.parse().unwrap();
        self.state
            .on_result(self.s, &self.service, endpoint, &outcome, now);
    }
}

/// Counts as pairs, for comparison.
pub(crate) fn counts<const N: usize>(pairs: [(&str, u32); N]) -> BTreeMap<String, u32> {
    pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()
}

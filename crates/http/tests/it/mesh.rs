//! A small mesh as rows: a caller, a service, and workloads behind it.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tacit_model::access::{Action, Mode, PathPattern, Rule, To};
use tacit_model::fault::{Abort, Delay, FaultLayer};
use tacit_model::labels::Labels;
use tacit_model::provenance::Sourced;
use tacit_model::rate::{RateLimit, RateLimits};
use tacit_model::resilience::{Backoff, Budget, Fields, Layer, RetryMethods, RetryOn, RetryWhen};
use tacit_model::tables::{
    AccessAttachment, AccessRow, ClassKey, ClassRow, DefaultAccess, Egress, MeshRow, NamespaceRow,
    Protocol, Row, ServicePort, ServiceRow, TargetPort, Tenancy, WorkloadPort, WorkloadRow,
};
use tacit_model::{
    Generation, Locality, Namespace, ObjectRef, PolicyName, Provenance, ServiceAccount,
    ServiceName, Snapshot, SpiffeId, Tables, WorkloadName,
};

/// The port of the service and of the workloads.
pub(crate) const PORT: u16 = 80;
/// The service's virtual address.
pub(crate) const SERVICE: SocketAddr =
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(240, 96, 0, 1)), PORT);

/// The address of the `n`th workload behind the service.
pub(crate) fn endpoint(n: u8) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::new(10, 96, 0, 10 + n).into(), PORT)
}

/// The address of the caller.
pub(crate) fn caller() -> IpAddr {
    Ipv4Addr::new(10, 96, 0, 1).into()
}

/// The identity of the caller.
pub(crate) fn frontend() -> SpiffeId {
    "spiffe://test/ns/shop/sa/frontend".try_into().unwrap()
}

pub(crate) fn namespace() -> Namespace {
    "shop".try_into().unwrap()
}

pub(crate) fn workload(name: &str) -> WorkloadName {
    WorkloadName {
        namespace: namespace(),
        name: name.try_into().unwrap(),
    }
}

pub(crate) fn service() -> ServiceName {
    ServiceName {
        namespace: namespace(),
        name: "payments".try_into().unwrap(),
    }
}

/// What a retry policy of these tests sets.
#[derive(Clone)]
pub(crate) struct Policy {
    pub(crate) budget_percent: u32,
    pub(crate) attempts: u32,
    pub(crate) on: Vec<RetryOn>,
    pub(crate) codes: Vec<u16>,
    pub(crate) non_idempotent: bool,
    pub(crate) request: Duration,
    pub(crate) per_try: Duration,
    pub(crate) idle: Option<Duration>,
    pub(crate) max_body: Option<u64>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            budget_percent: 100,
            attempts: 0,
            on: Vec::new(),
            codes: Vec::new(),
            non_idempotent: false,
            request: Duration::ZERO,
            per_try: Duration::ZERO,
            idle: None,
            max_body: None,
        }
    }
}

impl Policy {
    fn layer(&self) -> Layer {
        let when = RetryWhen {
            on: self.on.iter().copied().collect(),
            codes: self.codes.iter().copied().collect(),
        };
        let methods = RetryMethods {
            non_idempotent: self.non_idempotent,
            only: None,
        };
        let backoff = Backoff {
            base: Duration::from_millis(1),
            max: Duration::from_millis(2),
        };
        let budget = Budget {
            retry_percent: self.budget_percent,
            interval: Duration::from_secs(10),
            min_per_second: if self.budget_percent == 0 { 0 } else { 1000 },
        };
        Layer {
            callers: None,
            fields: Fields {
                request: Some(Sourced::default_of(self.request)),
                per_try: Some(Sourced::default_of(self.per_try)),
                idle: self.idle.map(Sourced::default_of),
                attempts: Some(Sourced::default_of(self.attempts)),
                when: Some(Sourced::default_of(when)),
                methods: Some(Sourced::default_of(methods)),
                backoff: Some(Sourced::default_of(backoff)),
                budget: Some(Sourced::default_of(budget)),
                max_body: self.max_body.map(Sourced::default_of),
                ..Fields::default()
            },
        }
    }
}

/// A snapshot with `endpoints` workloads behind the service. `denied` is a path that an
/// AccessPolicy on the workloads denies.
pub(crate) fn snapshot(endpoints: u8, policy: Option<&Policy>, denied: Option<&str>) -> Snapshot {
    let mut rows = vec![
        Row::Mesh(Arc::new(mesh())),
        Row::Namespace(Arc::new(NamespaceRow {
            namespace: namespace(),
            tenancy: Tenancy::Unclaimed,
        })),
        Row::Service(Arc::new(service_row(policy))),
        Row::Workload(Arc::new(workload_row("frontend", caller(), "frontend"))),
        class("frontend", false, None),
        class("payments", true, denied),
    ];
    for n in 0..endpoints {
        let name = format!("payments-{n}");
        let row = workload_row(&name, endpoint(n).ip(), "payments");
        rows.push(Row::Workload(Arc::new(row)));
    }
    if let Some(path) = denied {
        rows.push(Row::Access(Arc::new(denial(path))));
    }
    let tables = Tables(rows.into_iter().map(|row| (row.key(), row)).collect());
    Snapshot::build(Generation::default(), &tables).unwrap()
}

/// The same, with rates of requests at the service.
pub(crate) fn limited(policy: Option<&Policy>, limits: Vec<RateLimit>) -> Snapshot {
    let mut tables = snapshot(1, policy, None).tables();
    let mut row = service_row(policy);
    row.rate = Some(RateLimits {
        policy: ObjectRef {
            kind: "RateLimitPolicy".into(),
            namespace: Some(namespace()),
            name: "calm".try_into().unwrap(),
        },
        limits,
    });
    let row = Row::Service(Arc::new(row));
    tables.0.insert(row.key(), row);
    Snapshot::build(Generation::default(), &tables).unwrap()
}

/// The same, with failures that are made on purpose.
pub(crate) fn faulty(
    policy: Option<&Policy>,
    delay: Option<(Duration, u32)>,
    abort: Option<(u16, u32)>,
) -> Snapshot {
    let mut tables = snapshot(1, policy, None).tables();
    let mut row = service_row(policy);
    row.faults = vec![FaultLayer {
        callers: None,
        until: u64::MAX,
        delay: delay.map(|(time, share_percent)| {
            chaos(
                "spec.delay",
                Delay {
                    time,
                    share_percent,
                },
            )
        }),
        abort: abort.map(|(status, share_percent)| {
            chaos(
                "spec.abort",
                Abort {
                    status,
                    share_percent,
                },
            )
        }),
    }];
    let row = Row::Service(Arc::new(row));
    tables.0.insert(row.key(), row);
    Snapshot::build(Generation::default(), &tables).unwrap()
}

fn chaos<T>(path: &str, value: T) -> Sourced<T> {
    let object = ObjectRef {
        kind: "FaultPolicy".into(),
        namespace: Some(namespace()),
        name: "chaos".try_into().unwrap(),
    };
    let path = path.into();
    Sourced {
        value,
        from: Provenance::Field { object, path },
    }
}

fn mesh() -> MeshRow {
    MeshRow {
        trust_domain: "test".try_into().unwrap(),
        cluster: "test".into(),
        default_access: Sourced::default_of(DefaultAccess::Authenticated),
        egress: Sourced::default_of(Egress::Allow),
        certificate_lifetime: Duration::from_secs(86_400),
        max_offline: Duration::from_secs(43_200),
        root_namespace: "tacit-system".try_into().unwrap(),
        addresses: Vec::new(),
    }
}

fn service_row(policy: Option<&Policy>) -> ServiceRow {
    ServiceRow {
        name: service(),
        address: SERVICE.ip(),
        ports: vec![ServicePort {
            name: "http".into(),
            port: PORT,
            target: TargetPort::Number(PORT),
            protocol: Protocol::Http,
        }],
        resilience: policy.map(Policy::layer).into_iter().collect(),
        failover: None,
        rate: None,
        faults: Vec::new(),
    }
}

fn class_key(app: &str) -> Arc<ClassKey> {
    let service_account: ServiceAccount = app.try_into().unwrap();
    Arc::new(ClassKey {
        namespace: namespace(),
        labels: Labels::from_pairs([("app", app)]),
        service_account,
    })
}

fn class(app: &str, in_service: bool, denied: Option<&str>) -> Row {
    let access = denied.map(|_| AccessAttachment {
        policy: policy_name(),
        through: None,
    });
    Row::Class(Arc::new(ClassRow {
        key: class_key(app),
        services: in_service.then(service).into_iter().collect(),
        access: access.into_iter().collect(),
    }))
}

fn workload_row(name: &str, address: IpAddr, app: &str) -> WorkloadRow {
    WorkloadRow {
        name: workload(name),
        class: class_key(app),
        address,
        node: "host-a".try_into().unwrap(),
        locality: Locality::default(),
        ports: [WorkloadPort {
            name: "http".into(),
            port: PORT,
            protocol: Protocol::Http,
        }]
        .into(),
        published: Vec::new(),
        ready: BTreeSet::from([PORT]),
        capacity: None,
        command: Vec::new(),
    }
}

fn policy_name() -> PolicyName {
    PolicyName {
        namespace: namespace(),
        name: "ledger".try_into().unwrap(),
    }
}

fn denial(path: &str) -> AccessRow {
    let to = To {
        paths: Some([PathPattern::Exact(path.into())].into()),
        ..To::default()
    };
    AccessRow {
        name: policy_name(),
        action: Action::Deny,
        mode: Mode::Enforce,
        rules: vec![Rule {
            from: Vec::new(),
            to: vec![to],
            path: "spec.rules[0]".into(),
        }],
        broken: None,
    }
}

//! Random worlds: few names, so that policies collide.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tacit_reference::{Document, Ill, Illness, Sign, World, Written};

use crate::policies;
use crate::random::{Fields, Random};
use crate::routes;

/// Namespaces, the mesh's own root first and the home of a workspace second.
pub(crate) const NAMESPACES: [&str; 7] = [
    "tacit-system",
    "shop-home",
    "shop",
    "shop-b",
    "bank",
    "edge",
    "lab",
];
/// Each Service with the label that it selects.
pub(crate) const SERVICES: [(&str, &str, &str); 9] = [
    ("tacit-system", "ops", "ops"),
    ("shop-home", "hub", "hub"),
    ("shop", "pay", "pay"),
    ("shop", "led", "pay"),
    ("shop", "lite", "lite"),
    ("shop-b", "api", "api"),
    ("bank", "db", "db"),
    ("edge", "web", "web"),
    ("lab", "job", "job"),
];
/// Each workload with its label.
const WORKLOADS: [(&str, &str, &str); 12] = [
    ("tacit-system", "ops-1", "ops"),
    ("shop-home", "hub-1", "hub"),
    ("shop", "pay-1", "pay"),
    ("shop", "pay-2", "pay"),
    ("shop", "pay-3", "pay"),
    ("shop", "pay-4", "pay"),
    ("shop", "lite-1", "lite"),
    ("shop-b", "api-1", "api"),
    ("shop-b", "api-2", "api"),
    ("bank", "db-1", "db"),
    ("edge", "web-1", "web"),
    ("lab", "job-1", "job"),
];
pub(crate) const WORKSPACES: [&str; 3] = ["bank", "edge", "shop"];
/// Ports of workloads.
pub(crate) const PORTS: [u16; 3] = [80, 8080, 9000];
/// Stands for the name of the cluster until that is known: other clusters are not supported.
pub(crate) const CLUSTER: &str = "CLUSTER";
/// What one node in each run of requests may know.
const ILLNESSES: usize = 8;

/// A document.
pub(crate) fn object(
    kind: &str,
    (namespace, name): (&str, &str),
    labels: Value,
    spec: Value,
) -> Value {
    let version = match kind {
        "Service" => "v1",
        "GRPCRoute" | "HTTPRoute" => "gateway.networking.k8s.io/v1",
        "TCPRoute" => "gateway.networking.k8s.io/v1alpha2",
        _ => "tacit.dev/v1alpha1",
    };
    let mut metadata = Fields::default();
    metadata.put("name", name);
    if !namespace.is_empty() {
        metadata.put("namespace", namespace);
    }
    if labels.as_object().is_some_and(|labels| !labels.is_empty()) {
        metadata.put("labels", labels);
    }
    json!({"apiVersion": version, "kind": kind, "metadata": metadata.done(), "spec": spec})
}

/// A world.
pub(crate) fn world(random: &mut Random) -> World {
    let mut documents = documents(random);
    let cluster = cluster(&documents[0]);
    for document in &mut documents {
        let fill = |found: Value| {
            // A Mesh says itself what its cluster is called.
            let own = found["spec"]["cluster"]
                .as_str()
                .unwrap_or("local")
                .to_owned();
            let name = if found["kind"] == "Mesh" {
                &own
            } else {
                &cluster
            };
            filled(found, name)
        };
        document.written = document
            .written
            .with(fill(document.written.document().clone()));
        document.last_good = document.last_good.take().map(fill);
    }
    let ready = WORKLOADS.iter().map(|(namespace, name, _)| {
        let ports: BTreeSet<u16> = if random.one_in(8) {
            BTreeSet::new()
        } else {
            PORTS.into_iter().filter(|_| !random.one_in(12)).collect()
        };
        (format!("{namespace}/{name}"), ports)
    });
    let ready = ready.collect();
    let illnesses = (0..ILLNESSES).map(|index| illness(random, index)).collect();
    World {
        documents,
        ready,
        illnesses,
    }
}

/// Everything that is written, the Mesh first.
fn documents(random: &mut Random) -> Vec<Document> {
    let mut documents = vec![document(random, &mesh)];
    for name in WORKSPACES {
        if !random.one_in(4) {
            documents.push(document(random, &|random| workspace(random, name)));
        }
    }
    for found in SERVICES {
        documents.push(document(random, &|random| service(random, found)));
    }
    for found in WORKLOADS {
        if !random.one_in(8) {
            documents.push(document(random, &|random| workload(random, found)));
        }
    }
    for (kind, least, most) in [
        ("AccessPolicy", 0, 6),
        ("FailoverPolicy", 1, 6),
        ("FaultPolicy", 1, 6),
        ("GRPCRoute", 0, 3),
        ("HTTPRoute", 1, 5),
        ("TCPRoute", 0, 3),
        ("RateLimitPolicy", 1, 6),
        ("RetryTimeoutPolicy", 3, 10),
    ] {
        // Without policies, what stands behind them is seen.
        let count = match random.one_in(5) {
            true => 0,
            false => least + random.below(most - least + 1),
        };
        for index in 0..count {
            let name = format!("p{index}");
            let key = (policies::place(random, index), name.as_str());
            documents.push(document(random, &|random| match kind {
                "AccessPolicy" => policies::access(random, key),
                "FailoverPolicy" => policies::failover(random, key),
                "FaultPolicy" => policies::fault(random, key),
                "GRPCRoute" => routes::grpc_route(random, key),
                "HTTPRoute" => routes::route(random, key),
                "TCPRoute" => routes::tcp_route(random, key),
                "RateLimitPolicy" => policies::rate(random, key),
                _ => policies::retry(random, key),
            }));
        }
    }
    if random.one_in(3) {
        documents.extend(policies::crowd(random).into_iter().map(valid));
        documents.push(valid(routes::crowd()));
    }
    documents
}

/// The name of the cluster that the version in force of a Mesh says.
pub(crate) fn cluster(mesh: &Document) -> String {
    let in_force = match &mesh.written {
        Written::Valid(found) => Some(found),
        Written::Refused(_) | Written::Twice(_) | Written::Unreadable(_) => mesh.last_good.as_ref(),
    };
    let named = in_force.and_then(|found| found["spec"]["cluster"].as_str());
    named.unwrap_or("local").to_owned()
}

/// The value with the name of the cluster filled in.
fn filled(value: Value, cluster: &str) -> Value {
    match value {
        Value::String(text) if text == CLUSTER => cluster.into(),
        Value::Array(items) => items
            .into_iter()
            .map(|item| filled(item, cluster))
            .collect(),
        Value::Object(map) => map
            .into_iter()
            .map(|(key, value)| (key, filled(value, cluster)))
            .collect(),
        other => other,
    }
}

/// What is written under one key, sometimes not valid and sometimes with a last good version.
fn document(random: &mut Random, make: &dyn Fn(&mut Random) -> Value) -> Document {
    let found = make(random);
    let kind = found["kind"].as_str().unwrap().to_owned();
    // Callers are of namespaces that have an object, so each has one that is always valid.
    let is_base = kind == "Service"
        && !matches!(&found["metadata"]["name"], name if name == "pay" || name == "led");
    let bound = match kind.as_str() {
        // Without these nothing would be left to decide.
        "Service" | "Workload" => 60,
        _ => 24,
    };
    let written = match random.below(bound) {
        _ if is_base => Written::Valid(found),
        0 => Written::Refused(refused(&kind, found)),
        1 => Written::Unreadable(found),
        2 => Written::Twice(found),
        _ => Written::Valid(found),
    };
    let is_valid = matches!(written, Written::Valid(_));
    let has_last_good = if is_valid {
        random.one_in(4)
    } else {
        random.one_in(2)
    };
    Document {
        last_good: has_last_good.then(|| make(random)),
        written,
    }
}

fn valid(document: Value) -> Document {
    Document {
        written: Written::Valid(document),
        last_good: None,
    }
}

/// The document with something that the API forbids or this version does not support.
fn refused(kind: &str, mut document: Value) -> Value {
    let (field, value) = match kind {
        "AccessPolicy" => ("priority", json!(1)),
        "FailoverPolicy" => ("limit", json!({"maxExtraLoadPercent": 50})),
        "FaultPolicy" => ("delay", json!({"time": "1s", "sharePercent": 101})),
        "GRPCRoute" | "HTTPRoute" | "TCPRoute" => ("rules", json!([])),
        "Mesh" => ("network", json!("n1")),
        "RateLimitPolicy" => ("limits", json!([])),
        "RetryTimeoutPolicy" => ("hedge", json!({"max": 1})),
        "Service" => ("sessionAffinity", json!("ClientIP")),
        "Workload" => ("capacity", json!({"requestsPerSecond": 1})),
        _ => ("l7", json!("Waypoint")),
    };
    document["spec"][field] = value;
    document
}

fn mesh(random: &mut Random) -> Value {
    let mut spec = Fields::default();
    spec.maybe(random, 2, "trustDomain", |random| {
        random.of(&["td.example", "other.example"])
    });
    spec.maybe(random, 2, "cluster", |random| random.of(&["east", "west"]));
    spec.maybe(random, 4, "rootNamespace", |_| "lab");
    if !random.one_in(5) {
        let regions = [
            json!([{"region": "r1", "zones": ["a", "b"]}, {"region": "r2", "zones": ["c"]}]),
            json!([{"region": "r1", "zones": ["a"]}, {"region": "r2", "zones": ["b", "c"]}]),
        ];
        spec.put("localities", random.of(&regions));
    }
    spec.maybe(random, 2, "defaultAccess", |random| {
        random.of(&["Authenticated", "Deny"])
    });
    spec.maybe(random, 2, "defaults", defaults);
    object("Mesh", ("", "default"), json!({}), spec.done())
}

/// `defaults` of a Mesh or a Workspace.
fn defaults(random: &mut Random) -> Value {
    let mut fields = Fields::default();
    fields.maybe(random, 2, "timeout", policies::timeout);
    fields.maybe(random, 2, "retry", policies::retries);
    policies::failover_fields(random, &mut fields, true);
    fields.done()
}

fn workspace(random: &mut Random, name: &str) -> Value {
    let mut spec = Fields::default();
    let mut members = vec![match name {
        "shop" => random.of(&[
            json!({"namespaces": ["shop"]}),
            json!({"namespaces": ["shop", "shop-*"]}),
            json!({"namespaces": ["shop*"], "clusters": ["*"]}),
            json!({"namespaces": ["shop", "shop-b"], "clusters": ["east", "local"]}),
        ]),
        other => json!({"namespaces": [other]}),
    }];
    if random.one_in(8) {
        members.push(json!({"namespaces": [random.of(&["shop", "shop-b", "lab"])]}));
    }
    spec.put("members", members);
    match name {
        "shop" if !random.one_in(5) => spec.put("home", "shop-home"),
        "edge" if random.one_in(3) => spec.put("home", "edge"),
        _ => {}
    }
    spec.maybe(random, 2, "isolation", |random| {
        random.of(&["Strict", "Strict", "Strict", "Open"])
    });
    let often = if name == "shop" { 4 } else { 1 };
    spec.maybe(random, often, "imports", |random| {
        let mut import = Fields::default();
        import.put("workspace", random.of(&["shop", "shop", "bank", "edge"]));
        import.maybe(random, 2, "services", |random| {
            random.some(&["pay", "shop/led", "led", "db", "bank/db"])
        });
        json!([import.done()])
    });
    let often = if name == "shop" { 1 } else { 4 };
    spec.maybe(random, often, "exports", |random| {
        let mut services = Fields::default();
        services.maybe(random, 2, "matchLabels", label);
        if services.is_empty() || random.one_in(3) {
            services.put(
                "names",
                random.some(&["pay", "shop/pay", "led", "api", "db"]),
            );
        }
        json!([{"services": services.done(), "to": random.some(&["*", "*", "edge", "bank"])}])
    });
    spec.maybe(random, 2, "defaults", defaults);
    object("Workspace", ("", name), json!({}), spec.done())
}

/// A label that services have and policies ask for.
pub(crate) fn label(random: &mut Random) -> Value {
    random.of(&[
        json!({"tier": "gold"}),
        json!({"team": "a"}),
        json!({"team": "b"}),
        json!({"tier": "gold", "team": "a"}),
    ])
}

fn service(random: &mut Random, (namespace, name, app): (&str, &str, &str)) -> Value {
    let mut labels = Fields::default();
    labels.maybe(random, 2, "tier", |_| "gold");
    labels.maybe(random, 2, "team", |random| random.of(&["a", "b"]));
    let mut selector = Fields::default();
    selector.put("app", app);
    if app == "pay" {
        selector.maybe(random, 3, "track", |random| {
            random.of(&["stable", "canary"])
        });
    }
    let mut web = Fields::default();
    web.put("port", 80);
    web.maybe(random, 2, "targetPort", |random| {
        random.of(&[json!(8080), json!("api")])
    });
    if random.one_in(4) {
        web.put("appProtocol", random.of(&["http", "http2", "tcp"]));
        web.put("name", "front");
    } else {
        web.put("name", random.of(&["http", "http-web"]));
    }
    let mut raw = Fields::default();
    raw.put("name", random.of(&["raw", "tcp-raw", "http-raw"]));
    raw.put("port", 9000);
    raw.maybe(random, 4, "targetPort", |_| 8080);
    raw.maybe(random, 4, "protocol", |_| "TCP");
    let ports = match random.below(3) {
        0 => json!([web.done()]),
        _ => json!([web.done(), raw.done()]),
    };
    let mut spec = Fields::default();
    spec.put("selector", selector.done());
    spec.put("ports", ports);
    spec.maybe(random, 6, "trafficDistribution", |random| {
        random.of(&["PreferClose", "PreferSameZone"])
    });
    object("Service", (namespace, name), labels.done(), spec.done())
}

fn workload(random: &mut Random, (namespace, name, app): (&str, &str, &str)) -> Value {
    let mut labels = Fields::default();
    labels.put("app", app);
    labels.maybe(random, 2, "track", |random| {
        random.of(&["stable", "canary"])
    });
    let mut spec = Fields::default();
    spec.put("serviceAccount", app);
    // A node of its own: what is learnt of one workload says nothing of another.
    spec.put("node", format!("n-{name}"));
    if !random.one_in(6) {
        let mut locality = Fields::default();
        locality.put("zone", random.of(&["a", "b", "c"]));
        locality.maybe(random, 6, "region", |random| random.of(&["r1", "r2"]));
        spec.put("locality", locality.done());
    }
    spec.maybe(random, 2, "ports", |random| {
        let mut port = Fields::default();
        port.put("name", "api");
        port.put("port", random.of(&[8080, 9000]));
        port.maybe(random, 3, "appProtocol", |random| {
            random.of(&["http", "tcp"])
        });
        json!([port.done()])
    });
    object("Workload", (namespace, name), labels.done(), spec.done())
}

/// What the caller of a request has learnt; nothing in the first one.
fn illness(random: &mut Random, index: usize) -> Illness {
    let mut ills = Vec::new();
    if index + 1 == ILLNESSES {
        // Everything behind one service answers with errors.
        for (namespace, name, _) in WORKLOADS.iter().filter(|(_, _, app)| *app == "pay") {
            ills.extend(PORTS.map(|port| Ill {
                workload: format!("{namespace}/{name}"),
                service: "shop/pay".to_owned(),
                port,
                sign: Sign::Status(503),
                times: 8,
            }));
        }
        return ills;
    }
    for _ in 0..index {
        // Most callers call one service.
        let (namespace, service, app) = if random.one_in(3) {
            random.of(&SERVICES)
        } else {
            SERVICES[2]
        };
        let behind: Vec<_> = WORKLOADS
            .iter()
            .filter(|(of, _, label)| *of == namespace && *label == app)
            .collect();
        let (_, workload, _) = random.of(&behind);
        ills.push(Ill {
            workload: format!("{namespace}/{workload}"),
            service: format!("{namespace}/{service}"),
            port: random.of(&PORTS),
            sign: random.of(&[
                Sign::Connect,
                Sign::Status(503),
                Sign::Status(503),
                Sign::Status(500),
                Sign::Status(200),
                Sign::Timeout,
            ]),
            times: u32::try_from(1 + random.below(8)).unwrap(),
        });
    }
    ills
}

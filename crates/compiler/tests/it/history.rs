//! Whatever the history, the result is that of the final state; and order does not matter.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use tacit_api::{Kind, ObjectKey};
use tacit_compiler::{Compiler, InputDelta, NodeFact, Owner, Upsert, Written};
use tacit_model::tables::PublishedPort;
use tacit_model::{NodeName, WorkloadName};

use crate::mesh::{Mesh, node};

/// Objects, each in some versions: valid, invalid, unreadable. Two lines of the same key in one
/// version make a duplicate.
const VERSIONS: &[(&str, &[&str])] = &[
    (
        "Service shop/web",
        &[
            "{selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}",
            "{selector: {app: web, tier: front}, ports: [{name: raw, port: 80, targetPort: 9090}]}",
            "{selector: {app: web}, ports: [{name: http, port: 80}], clusterIP: 240.96.0.9}",
            "{selector: {}, ports: [{port: 0}]}",
            "{selector: web}",
        ],
    ),
    (
        "Service shop/pay",
        &[
            "{selector: {app: pay}, ports: [{name: tcp-db, port: 5432}], clusterIP: 240.96.0.9}",
            "{selector: {app: pay}, ports: [{name: http, port: 80, targetPort: api}]}",
        ],
    ),
    (
        "Workload shop/web-1 {app: web, tier: front}",
        &[
            "{serviceAccount: web, node: host-a}",
            "{serviceAccount: web, node: host-b, address: 10.96.1.9}",
            "{serviceAccount: Web, node: host-a}",
        ],
    ),
    (
        "Workload shop/web-2 {app: web}",
        &[
            "{serviceAccount: web, node: host-b, ports: [{name: api, port: 9000}]}",
            "{serviceAccount: other, node: host-a}",
        ],
    ),
    (
        "Workload bank/pay-1 {app: pay}",
        &[
            "{serviceAccount: pay, node: host-b, address: 10.96.1.9}",
            "{serviceAccount: pay, node: host-c, locality: {zone: z9}}",
        ],
    ),
    (
        "RetryTimeoutPolicy shop/retry",
        &[
            "{targetRefs: [{group: '', kind: Service, name: web}], timeout: {request: 2s}}",
            "{targetAll: {}, retry: {attempts: 3}, from: [{serviceAccounts: [web]}]}",
            "{targetAll: {}, timeout: {request: 1s, perTry: 2s}}",
        ],
    ),
    (
        "RetryTimeoutPolicy tacit-system/law",
        &[
            "{targetAll: {}, enforcement: Override, timeout: {request: 9s}, retry: {attempts: 1}}",
            "{targetAll: {}, hedge: {max: 1}}",
        ],
    ),
    (
        "FaultPolicy shop/chaos",
        &[
            "{targetAll: {}, until: 2099-01-31T00:00:00Z, delay: {time: 1s, sharePercent: 10}}",
            "{targetRefs: [{group: '', kind: Service, name: pay}], until: 1970-01-01T00:00:09Z, \
             from: [{serviceAccounts: [web]}], abort: {status: 503, sharePercent: 5}}",
            "{targetAll: {}, until: 2099-01-31T00:00:00Z, delay: {time: 1h, sharePercent: 10}}",
        ],
    ),
    (
        "RateLimitPolicy shop/calm",
        &[
            "{targetAll: {}, limits: [{requests: 10, per: 1s}]}",
            "{targetRefs: [{group: '', kind: Service, name: pay}], \
             limits: [{requests: 5, per: 1m, key: [{type: Identity}]}]}",
            "{targetAll: {}, limits: []}",
        ],
    ),
    (
        "FailoverPolicy shop/move",
        &[
            "{targetAll: {}, order: [{places: [{zone: same}]}, {service: {name: pay}}]}",
            "{targetRefs: [{group: '', kind: Service, name: pay}], health: {signals: []}}",
        ],
    ),
    (
        "AccessPolicy shop/allow",
        &[
            "{targetRefs: [{group: '', kind: Service, name: pay}], action: Allow, \
          rules: [{to: [{methods: [GET]}]}]}",
            "{targetSelectors: [{group: tacit.dev, kind: Workload, matchLabels: {tier: front}}], \
          action: Deny}",
            "{targetAll: {}, action: Allow, rules: []}",
            "{targetAll: {}, action: Perhaps}",
        ],
    ),
    (
        "AccessPolicy home/all",
        &["{targetAll: {}, action: Deny, mode: Audit}"],
    ),
    (
        "Workspace shop",
        &[
            "{home: home, members: [{namespaces: [shop]}], isolation: Strict, \
          defaults: {timeout: {idle: 5m}}}",
            "{members: [{namespaces: [bank, shop]}], grants: [{to: [{user: dev}], verbs: [Run], \
          until: '1970-01-01T00:01:00Z'}]}",
            "{l7: Waypoint}",
        ],
    ),
    ("Workspace bank", &["{members: [{namespaces: [bank]}]}"]),
    (
        "Mesh default",
        &[
            "{defaultAccess: Deny, subjects: [{uid: 1, user: dev}]}",
            "{cluster: east, localities: [{region: r9, zones: [z9]}], \
          defaults: {health: {signals: [Timeout]}}}",
            "{maxOffline: 20h}",
        ],
    ),
    ("Mesh other", &["{egress: Deny}"]),
    (
        "HTTPRoute shop/split",
        &[
            "{parentRefs: [{group: '', kind: Service, name: web}], \
          rules: [{name: one, backendRefs: [{name: pay, namespace: bank, port: 80}]}]}",
            "{parentRefs: [{group: '', kind: Service, name: pay, namespace: bank}]}",
        ],
    ),
    (
        "Service bank/pay {tier: back}",
        &[
            "{selector: {app: pay}, ports: [{name: http, port: 80}]}",
            "{selector: {app: pay}, ports: [{name: tcp, port: 80}]}",
        ],
    ),
    (
        "AccessPolicy tacit-system/law",
        &[
            "{targetAll: {}, action: Deny, rules: [{from: [{namespaces: [bank]}]}]}",
            "{targetRefs: [{group: '', kind: Namespace, name: bank}], action: Deny}",
            "{targetSelectors: [{group: tacit.dev, kind: Workload, matchLabels: {app: web}, \
          allNamespaces: true}], action: Deny}",
            "{targetAll: {}, action: Allow, rules: [{to: [{methods: [GET]}]}]}",
        ],
    ),
    (
        "AccessPolicy bank/few",
        &[
            "{targetRefs: [{group: '', kind: Service, name: pay}], action: Allow, \
          rules: [{to: [{methods: [GET]}]}]}",
            "{targetSelectors: [{group: tacit.dev, kind: Workload, matchLabels: {app: pay}}], \
          action: Allow, rules: [{from: [{workspaces: [none]}]}]}",
            "{targetSelectors: [{group: '', kind: Service, matchLabels: {tier: back}}], action: Deny}",
            "{targetAll: {}, action: Perhaps}",
        ],
    ),
    (
        "AccessPolicy bank/more",
        &[
            "{targetAll: {}, action: Allow, rules: [{to: [{paths: [/a]}]}]}",
            "{targetSelectors: [{group: tacit.dev, kind: Workload, matchLabels: {tier: none}, \
          namespaces: [shop]}], action: Deny}",
        ],
    ),
    (
        "FailoverPolicy bank/away",
        &[
            "{targetAll: {}, order: [{places: [{zone: same}]}, \
          {service: {name: pay, namespace: shop}}]}",
            "{targetRefs: [{group: '', kind: Service, name: pay}], \
          order: [{places: [{zone: z1}]}]}",
        ],
    ),
    (
        "RetryTimeoutPolicy bank/retry",
        &[
            "{targetAll: {}, timeout: {request: 3s}}",
            "{targetRefs: [{group: '', kind: Service, name: pay}], timeout: {request: 2s}}",
            "{targetRefs: [{group: '', kind: Service, name: gone}], retry: {attempts: 1}}",
            "{targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: split, \
          sectionName: one}], retry: {attempts: 1}}",
        ],
    ),
    (
        "RateLimitPolicy bank/calm",
        &[
            "{targetAll: {}, limits: [{requests: 5, per: 1s}]}",
            "{targetRefs: [{group: '', kind: Service, name: pay}], limits: [{requests: 0, per: 1s}]}",
        ],
    ),
];

/// Where the policies of one namespace stand among them, with one of the mesh.
const POLICIES: std::ops::Range<usize> = 18..24;

/// A policy of the mesh that gives services values: with it in force, those of namespaces are not
/// bounded.
const LAW: usize = 6;

/// Where the Workloads stand among them.
const WORKLOADS: std::ops::Range<usize> = 2..5;

/// The document of a version.
fn text(head: &str, spec: &str) -> String {
    let (kind, rest) = head.split_once(' ').unwrap();
    let version = Kind::from_name(kind).unwrap().api_version();
    let (name, labels) = rest.split_once(' ').unwrap_or((rest, "{}"));
    let metadata = match name.split_once('/') {
        Some((namespace, name)) => {
            format!("{{name: {name}, namespace: {namespace}, labels: {labels}}}")
        }
        None => format!("{{name: {name}}}"),
    };
    format!("apiVersion: {version}\nkind: {kind}\nmetadata: {metadata}\nspec: {spec}\n")
}

/// What is written in a version, and its key.
fn written(object: usize, version: usize) -> (ObjectKey, Written) {
    let (head, versions) = VERSIONS[object];
    let spec = versions[version % versions.len()];
    let twice = version >= 2 * versions.len();
    let text = text(head, spec);
    let parsed = tacit_api::parse(if twice { "b.yaml" } else { "a.yaml" }, &text);
    match parsed.objects.into_iter().next() {
        Some(found) => {
            let key = found.value.key();
            let one = if twice {
                Written::Duplicate(vec![found.clone(), found])
            } else {
                Written::Ok(Box::new(found))
            };
            (key, one)
        }
        None => {
            let key = parsed
                .errors
                .iter()
                .find_map(|error| error.object.clone())
                .unwrap();
            (key, Written::Unparsable(parsed.errors))
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Forget(&'static str),
    Join(NodeFact),
    Later(i64),
    Ready(WorkloadName, BTreeSet<u16>),
    Publish(WorkloadName, Vec<PublishedPort>),
    Remove(usize),
    Write(usize, usize),
}

fn step() -> impl Strategy<Value = Step> {
    let nodes = ["host-a", "host-b", "host-c"];
    let workloads = [("shop", "web-1"), ("shop", "web-2"), ("bank", "pay-1")];
    prop_oneof![
        8 => (0..VERSIONS.len(), 0..9_usize).prop_map(|(object, version)| {
            let versions = VERSIONS[object].1.len();
            Step::Write(object, version % (2 * versions + 1))
        }),
        // What changes most in a mesh, and has a way of its own through the compiler.
        8 => (WORKLOADS, 0..9_usize).prop_map(|(object, version)| {
            let versions = VERSIONS[object].1.len();
            Step::Write(object, version % (2 * versions + 1))
        }),
        // What people write most.
        8 => (POLICIES, 0..9_usize).prop_map(|(object, version)| {
            let versions = VERSIONS[object].1.len();
            Step::Write(object, version % (2 * versions + 1))
        }),
        2 => POLICIES.prop_map(Step::Remove),
        2 => WORKLOADS.prop_map(Step::Remove),
        2 => (0..VERSIONS.len()).prop_map(Step::Remove),
        2 => (0..3_usize, 0..2_u8).prop_map(move |(index, zone)| {
            let third = u8::try_from(index + 1).unwrap();
            Step::Join(node(nodes[index], "r", &format!("z{zone}"), third))
        }),
        1 => (0..3_usize).prop_map(move |index| Step::Forget(nodes[index])),
        2 => (0..3_usize, any::<bool>()).prop_map(move |(index, ready)| {
            let (namespace, name) = workloads[index];
            let ports = if ready { BTreeSet::from([8080, 9090]) } else { BTreeSet::new() };
            Step::Ready(WorkloadName::parse(namespace, name).unwrap(), ports)
        }),
        1 => (0..3_usize, 1..4_u16).prop_map(move |(index, port)| {
            let (namespace, name) = workloads[index];
            Step::Publish(WorkloadName::parse(namespace, name).unwrap(), vec![PublishedPort { at: ([192, 0, 2, 1], port).into(), target: 80 }])
        }),
        1 => (0..100_i64).prop_map(Step::Later),
    ]
}

/// What a compiler that comes late is told.
#[derive(Clone, Debug, Default)]
struct Final {
    upserts: BTreeMap<ObjectKey, Upsert>,
    nodes: BTreeMap<NodeName, NodeFact>,
    ready: BTreeMap<WorkloadName, BTreeSet<u16>>,
    published: BTreeMap<WorkloadName, Vec<PublishedPort>>,
    now: i64,
}

impl Final {
    /// The change for one step, which is also noted here.
    fn delta(&mut self, mesh: &Mesh, step: Step) -> InputDelta {
        let mut delta = InputDelta::default();
        match step {
            Step::Forget(name) => {
                let name: NodeName = name.try_into().unwrap();
                self.nodes.remove(&name);
                delta.removed_nodes.push(name);
            }
            Step::Join(fact) => {
                self.nodes.insert(fact.name.clone(), fact.clone());
                delta.nodes.push(fact);
            }
            Step::Later(seconds) => {
                self.now += seconds;
                delta.now = Some(self.now);
            }
            Step::Ready(name, ports) => {
                if self.upserts.keys().any(|key| is(key, &name)) {
                    self.ready.insert(name.clone(), ports.clone());
                }
                delta.ready.push((name, ports));
            }
            Step::Publish(name, ports) => {
                if self.upserts.keys().any(|key| is(key, &name)) {
                    self.published.insert(name.clone(), ports.clone());
                }
                delta.published.push((name, ports));
            }
            Step::Remove(object) => {
                let (key, _) = written(object, 0);
                self.upserts.remove(&key);
                self.ready.retain(|name, _| !is(&key, name));
                self.published.retain(|name, _| !is(&key, name));
                delta.removes.push(key);
            }
            Step::Write(object, version) => {
                let (key, written) = written(object, version);
                let last_good = mesh.last_good.get(&key).cloned().map(Box::new);
                let owner = Owner::Directory;
                let upsert = Upsert {
                    key: key.clone(),
                    written,
                    last_good,
                    owner,
                };
                self.upserts.insert(key, upsert.clone());
                delta.upserts.push(upsert);
            }
        }
        delta
    }

    /// Everything at once, forwards or backwards.
    fn full(&self, mesh: &Mesh, backwards: bool) -> Compiler {
        let mut upserts: Vec<Upsert> = self.upserts.values().cloned().collect();
        let mut nodes: Vec<NodeFact> = self.nodes.values().cloned().collect();
        if backwards {
            upserts.reverse();
            nodes.reverse();
        }
        let mut compiler = Compiler::default();
        compiler.apply(InputDelta {
            upserts,
            nodes,
            ready: self.ready.clone().into_iter().collect(),
            published: self.published.clone().into_iter().collect(),
            addresses: Some(mesh.compiler.addresses().clone()),
            now: Some(self.now),
            ..InputDelta::default()
        });
        compiler
    }
}

fn is(key: &ObjectKey, name: &WorkloadName) -> bool {
    key.kind == Kind::Workload
        && key.namespace.as_deref() == Some(name.namespace.as_str())
        && key.name == name.name.as_str()
}

fn same(mesh: &Mesh, last: &Final) -> Result<(), TestCaseError> {
    let (forwards, backwards) = (last.full(mesh, false), last.full(mesh, true));
    for compiler in [mesh.compiler.anew(), forwards, backwards] {
        prop_assert_eq!(mesh.compiler.tables(), compiler.tables());
        prop_assert_eq!(mesh.compiler.findings(), compiler.findings());
        prop_assert_eq!(mesh.compiler.advice(), compiler.advice());
        prop_assert!(mesh.compiler.statuses().eq(compiler.statuses()));
        prop_assert!(mesh.compiler.good().eq(compiler.good()));
        prop_assert!(mesh.compiler.in_force().eq(compiler.in_force()));
        prop_assert_eq!(mesh.compiler.addresses(), compiler.addresses());
        prop_assert_eq!(mesh.compiler.wake_at(), compiler.wake_at());
    }
    Ok(())
}

proptest! {
    #[test]
    fn incremental_is_full(
        steps in prop::collection::vec(step(), 4..=100),
        prefixes in prop::collection::vec(0..100_usize, 3),
        law in any::<bool>(),
    ) {
        let (mut mesh, mut last) = (Mesh::default(), Final::default());
        // The first change of a process may be empty.
        mesh.apply(InputDelta::default());
        let is_law = |step: &Step| matches!(step, Step::Write(LAW, _));
        let steps: Vec<Step> = steps.into_iter().filter(|step| law || !is_law(step)).collect();
        let end = steps.len();
        for (index, step) in steps.into_iter().enumerate() {
            let delta = last.delta(&mesh, step);
            mesh.apply(delta);
            if index + 1 == end || prefixes.contains(&index) {
                same(&mesh, &last)?;
            }
        }
    }
}

/// The versions reach what they are meant to reach: else the property would say little.
#[test]
fn the_versions_cover_valid_invalid_and_unreadable() {
    let (mut valid, mut unreadable, mut duplicate) = (0, 0, 0);
    for (object, (_, versions)) in VERSIONS.iter().enumerate() {
        for version in 0..=2 * versions.len() {
            match written(object, version).1 {
                Written::Ok(_) => valid += 1,
                Written::Unparsable(_) => unreadable += 1,
                Written::Duplicate(_) => duplicate += 1,
            }
        }
    }
    assert!(
        valid > 40 && unreadable >= 4 && duplicate >= 10,
        "{valid} {unreadable} {duplicate}"
    );
    let (mut mesh, mut last) = (Mesh::default(), Final::default());
    for third in 1..4 {
        let fact = node(
            ["host-a", "host-b", "host-c"][usize::from(third) - 1],
            "r",
            "z",
            third,
        );
        let delta = last.delta(&mesh, Step::Join(fact));
        mesh.apply(delta);
    }
    assert!(VERSIONS[LAW].0.ends_with("tacit-system/law"));
    assert!(VERSIONS[POLICIES.start].0.ends_with("tacit-system/law"));
    assert_eq!(POLICIES.end, VERSIONS.len());
    for object in 0..VERSIONS.len() {
        let delta = last.delta(&mesh, Step::Write(object, 0));
        mesh.apply(delta);
    }
    assert!(
        mesh.compiler.tables().0.len() > 12,
        "{:#?}",
        mesh.compiler.findings()
    );
}

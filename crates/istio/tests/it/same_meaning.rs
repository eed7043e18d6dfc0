//! On random small meshes, Istio's decision over the translation is Tacit's own. Where a finding
//! says that the translation is stricter, Istio may deny more; it never allows more.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;

use proptest::prelude::*;
use tacit_decide::{ConnectionVerdict, Peer, RequestHead, authorize_connection, authorize_request};
use tacit_model::{Generation, Snapshot, SpiffeId, WorkloadName};

use crate::evaluator::{Call, Request, Workload, passes};
use crate::translated;

/// Name, namespace, labels, and ports: number, whether it is HTTP.
type Endpoint = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
    &'static [(u16, bool)],
);

const WORKLOADS: &[Endpoint] = &[
    (
        "x-1",
        "a",
        &[("app", "x"), ("tier", "back")],
        &[(8080, true), (9090, false)],
    ),
    (
        "x-2",
        "a",
        &[("app", "x")],
        &[(8080, true), (9090, false), (7000, false)],
    ),
    (
        "y-1",
        "a",
        &[("app", "y"), ("tier", "back")],
        &[(8080, true), (7100, true)],
    ),
    ("z-1", "b", &[("app", "z")], &[(8080, true), (5432, false)]),
];

/// The workloads; with `mixed`, one port is HTTP at one of them and not at another.
fn workloads(mixed: bool) -> Vec<Endpoint> {
    let mut found = WORKLOADS.to_vec();
    if mixed {
        found[2].3 = &[(8080, true), (7000, true)];
    }
    found
}

/// Name, namespace, selector, ports.
const SERVICES: &[(&str, &str, &str, &str)] = &[
    (
        "x",
        "a",
        "{app: x}",
        "{name: http, port: 80, targetPort: 8080}",
    ),
    (
        "raw",
        "a",
        "{app: x}",
        "{name: tcp, port: 90, targetPort: 9090}",
    ),
    (
        "back",
        "a",
        "{tier: back}",
        "{name: http, port: 80, targetPort: 8080}",
    ),
    (
        "admin",
        "a",
        "{tier: back}",
        "{name: tcp, port: 91, targetPort: 9090}",
    ),
    (
        "y",
        "a",
        "{app: y}",
        "{name: http, port: 80, targetPort: main}",
    ),
    (
        "z",
        "b",
        "{app: z}",
        "{name: http, port: 80, targetPort: 8080}, {name: tcp, port: 5432}",
    ),
];

const HEADS: &[Request<'static>] = &[
    Request {
        method: "GET",
        path: "/a",
        host: "x.a",
    },
    Request {
        method: "GET",
        path: "/a/b?q=/c",
        host: "X.a:8080",
    },
    Request {
        method: "POST",
        path: "/c",
        host: "k.example.com",
    },
    Request {
        method: "POST",
        path: "/a/b",
        host: "k.example.com:80",
    },
    Request {
        method: "DELETE",
        path: "/",
        host: "x.a.",
    },
];

/// A mesh as text.
fn mesh(deny: bool, mixed: bool, workspaces: usize, policies: &[String]) -> String {
    let mut text = String::new();
    let default = if deny { "Deny" } else { "Authenticated" };
    let mut object = |version: &str, kind: &str, metadata: &str, spec: &str| {
        let parts = format!("kind: {kind}\nmetadata: {{{metadata}}}\nspec: {{{spec}}}\n---\n");
        write!(text, "apiVersion: {version}\n{parts}").unwrap();
    };
    let ours = "tacit.dev/v1alpha1";
    object(
        ours,
        "Mesh",
        "name: default",
        &format!("defaultAccess: {default}"),
    );
    for (name, namespace, selector, ports) in SERVICES {
        let metadata = format!("name: {name}, namespace: {namespace}, labels: {{api: public}}");
        let spec = format!("selector: {selector}, ports: [{ports}]");
        object("v1", "Service", &metadata, &spec);
    }
    for (name, namespace, labels, ports) in workloads(mixed) {
        let pairs: Vec<String> = labels.iter().map(|(k, v)| format!("{k}: {v}")).collect();
        let metadata = format!(
            "name: {name}, namespace: {namespace}, labels: {{{}}}",
            pairs.join(", ")
        );
        let ports = ports.iter().enumerate().map(|(index, (port, http))| {
            let name = if index == 0 {
                "main".to_owned()
            } else {
                format!("p{port}")
            };
            let protocol = if *http { "http" } else { "tcp" };
            format!("{{name: {name}, port: {port}, appProtocol: {protocol}}}")
        });
        let ports = ports.collect::<Vec<_>>().join(", ");
        let account = labels[0].1;
        let spec = format!("serviceAccount: {account}, node: n, ports: [{ports}]");
        object(ours, "Workload", &metadata, &spec);
    }
    object(
        ours,
        "Workload",
        "name: c-1, namespace: c",
        "serviceAccount: c, node: n",
    );
    let first = match workspaces {
        0 => return text + &policies.join(""),
        1 => "members: [{namespaces: [a]}], isolation: Strict",
        2 => {
            "members: [{namespaces: [a, c]}], isolation: Strict, \
              exports: [{services: {matchLabels: {api: public}}, to: ['*']}]"
        }
        _ => "members: [{namespaces: [a, b]}]",
    };
    object(ours, "Workspace", "name: w1", first);
    let second = "members: [{namespaces: [b]}], imports: [{workspace: w1, services: [x]}]";
    object(ours, "Workspace", "name: w2", second);
    text + &policies.join("")
}

fn some(options: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    proptest::sample::select(options)
}

fn policy() -> impl Strategy<Value = (&'static str, String)> {
    let place = some(&[
        "a targetRefs: [{group: '', kind: Service, name: x}]",
        "a targetRefs: [{group: '', kind: Service, name: raw}]",
        "a targetRefs: [{group: '', kind: Service, name: back}]",
        "a targetRefs: [{group: '', kind: Service, name: admin}]",
        "a targetRefs: [{group: '', kind: Service, name: y}]",
        "b targetRefs: [{group: '', kind: Service, name: z}]",
        "a targetAll: {}",
        "b targetAll: {}",
        "tacit-system targetAll: {}",
        "tacit-system targetRefs: [{group: tacit.dev, kind: Workspace, name: w1}]",
        "a targetSelectors: [{group: tacit.dev, kind: Workload, matchLabels: {tier: back}}]",
        "tacit-system targetSelectors: [{group: '', kind: Service, matchLabels: {api: public}, \
         allNamespaces: true}]",
        "tacit-system targetSelectors: [{group: tacit.dev, kind: Workload, \
         matchLabels: {app: x}, allNamespaces: true}]",
    ]);
    let action = some(&[
        "Allow",
        "Allow",
        "Deny",
        "Allow, mode: Audit",
        "Deny, mode: Audit",
    ]);
    let from = some(&[
        "",
        "from: [{namespaces: [a]}]",
        "from: [{serviceAccounts: [x], namespaces: [a, b]}]",
        "from: [{workspaces: [w1]}, {serviceAccounts: [z], namespaces: [b]}]",
        "from: [{workspaces: [w2], namespaces: [a, b]}]",
        "from: [{trustDomain: other}]",
        "from: [{trustDomain: other, namespaces: [a]}]",
        "from: [{cidrs: [10.1.0.0/16], except: [10.1.2.0/24]}]",
        "from: [{namespaces: [c], cidrs: [10.0.0.0/8]}]",
        "from: [{unauthenticated: true}]",
    ]);
    let to = some(&[
        "",
        "",
        "to: [{ports: [8080]}]",
        "to: [{ports: [7000, 9090]}]",
        "to: [{methods: [GET]}]",
        "to: [{methods: [GET, POST], paths: [/a/*]}, {ports: [9090]}]",
        "to: [{paths: [/a, /c]}]",
        "to: [{hosts: [x.a]}]",
        "to: [{hosts: ['*.example.com'], methods: [POST]}]",
        "to: [{ports: [9090], methods: [GET]}]",
    ]);
    let rule = (from, to).prop_filter_map("says something", |(from, to)| {
        let parts: Vec<&str> = [from, to]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect();
        (!parts.is_empty()).then(|| format!("{{{}}}", parts.join(", ")))
    });
    let rules = proptest::collection::vec(rule, 0..3);
    (place, action, rules).prop_map(|(place, action, rules)| {
        let (namespace, target) = place.split_once(' ').unwrap();
        let rules = match rules.as_slice() {
            [] => String::new(),
            rules => format!(", rules: [{}]", rules.join(", ")),
        };
        (namespace, format!("{target}, action: {action}{rules}"))
    })
}

fn callers() -> Vec<Peer> {
    let identities = [
        None,
        Some("spiffe://cluster.local/ns/a/sa/x"),
        Some("spiffe://cluster.local/ns/b/sa/z"),
        Some("spiffe://cluster.local/ns/c/sa/c"),
        Some("spiffe://cluster.local/ns/ab/sa/x"),
        Some("spiffe://other/ns/a/sa/x"),
    ];
    let addresses = ["10.1.2.3:1", "10.1.9.9:1", "10.2.0.1:1"];
    let mut found = Vec::new();
    for identity in identities {
        for address in addresses {
            found.push(Peer {
                identity: identity.map(|text| SpiffeId::try_from(text).unwrap()),
                address: address.parse::<SocketAddr>().unwrap(),
            });
        }
    }
    found
}

/// What both say about one caller and one port.
struct Compared {
    /// What is called, for messages.
    call: String,
    tacit: bool,
    istio: bool,
    /// False where Istio may take a port for something else than Tacit does.
    alike: bool,
}

fn compare(mixed: bool, text: &str) -> (bool, Vec<Compared>) {
    let (compiler, _, translation) = translated(text);
    let stricter = translation
        .findings
        .iter()
        .any(|finding| &*finding.code == "TCT2002");
    let s = Snapshot::build(Generation::default(), compiler.tables()).unwrap();
    let mut found = Vec::new();
    for (name, namespace, labels, ports) in workloads(mixed) {
        let local = &s.workloads[&WorkloadName::parse(namespace, name).unwrap()];
        let labels: BTreeMap<&str, &str> = labels.iter().copied().collect();
        let target = Workload {
            namespace,
            labels: &labels,
        };
        for peer in callers() {
            let id = peer.identity.as_ref().map(ToString::to_string);
            let principal = id.as_deref().map(|id| id.trim_start_matches("spiffe://"));
            for (port, http) in ports {
                let istio = |request| {
                    let call = Call {
                        principal,
                        ip: peer.address.ip(),
                        port: *port,
                        request,
                    };
                    passes(&translation.objects, &target, &call)
                };
                let verdict = authorize_connection(&s, local, *port, &peer);
                let mut add = |request: Option<Request<'_>>, tacit, istio, alike| {
                    let call = format!("{peer:?} to {namespace}/{name}:{port} {request:?}");
                    found.push(Compared {
                        call,
                        tacit,
                        istio,
                        alike,
                    });
                };
                match &verdict {
                    ConnectionVerdict::Allow(_) | ConnectionVerdict::Deny(_) => {
                        let tacit = matches!(verdict, ConnectionVerdict::Allow(_));
                        add(None, tacit, istio(None), true);
                        // Istio may find HTTP on a port that is not declared.
                        for head in HEADS {
                            add(Some(*head), tacit, istio(Some(*head)), false);
                        }
                    }
                    ConnectionVerdict::InspectRequests(permit) => {
                        for head in HEADS {
                            let Request { method, path, host } = *head;
                            let asked = RequestHead { method, path, host };
                            let tacit = authorize_request(&s, permit, &asked).is_ok();
                            add(Some(*head), tacit, istio(Some(*head)), *http);
                            if !http {
                                add(None, tacit, istio(None), false);
                            }
                        }
                    }
                }
            }
        }
    }
    (stricter, found)
}

fn check(mixed: bool, text: &str) -> Result<(bool, usize), TestCaseError> {
    let (stricter, found) = compare(mixed, text);
    let allowed = found.iter().filter(|one| one.istio && one.alike).count();
    for Compared {
        call,
        tacit,
        istio,
        alike,
    } in found
    {
        prop_assert!(tacit || !istio, "Istio allows more: {call}\n{text}");
        prop_assert!(
            istio || !tacit || stricter || !alike,
            "Istio denies more and no finding says so: {call}\n{text}"
        );
    }
    Ok((stricter, allowed))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    #[test]
    fn istio_decides_alike(
        deny in any::<bool>(),
        mixed in any::<bool>(),
        workspaces in 0_usize..4,
        policies in proptest::collection::vec(policy(), 0..5),
    ) {
        let written = |(index, policy): (usize, &(&str, String))| {
            written(index, policy.0, &policy.1)
        };
        let policies: Vec<String> = policies.iter().enumerate().map(written).collect();
        check(mixed, &mesh(deny, mixed, workspaces, &policies))?;
    }
}

/// A policy as text.
fn written(index: usize, namespace: &str, spec: &str) -> String {
    format!(
        "apiVersion: tacit.dev/v1alpha1\nkind: AccessPolicy\n\
         metadata: {{name: p{index}, namespace: {namespace}}}\nspec: {{{spec}}}\n---\n"
    )
}

/// Which combinations are exact, and which are stricter.
#[test]
fn ports_that_no_allow_is_about() {
    let service = |name: &str| {
        format!("targetRefs: [{{group: '', kind: Service, name: {name}}}], action: Allow")
    };
    let labels = "targetSelectors: [{group: tacit.dev, kind: Workload, matchLabels: ";
    let by_labels = |pair: &str| format!("{labels}{{{pair}}}}}], action: Allow");
    let everything = "targetAll: {}, action: Allow".to_owned();
    let only_c = ", rules: [{from: [{namespaces: [c]}]}]";
    let cases = [
        (vec![service("x")], false),
        (vec![service("x"), service("raw")], false),
        (vec![service("x"), service("back")], false),
        (vec![service("x"), service("admin")], true),
        (vec![service("x"), service("y")], false),
        (vec![service("x"), by_labels("tier: back")], true),
        (vec![service("x"), by_labels("app: x")], false),
        (vec![service("x"), by_labels("app: y")], false),
        (vec![service("admin"), everything], false),
    ];
    for (specs, expected) in cases {
        let policies: Vec<String> = specs
            .iter()
            .enumerate()
            .map(|(index, spec)| written(index, "a", &format!("{spec}{only_c}")))
            .collect();
        let (stricter, allowed) = check(false, &mesh(false, false, 0, &policies)).unwrap();
        assert_eq!(stricter, expected, "{specs:?}");
        assert!(allowed > 50, "{allowed} calls are allowed: {specs:?}");
    }
}

//! What is found by path is what a scan of every rule finds, on random policies.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use tacit_model::access::{From, PathPattern, To};
use tacit_model::labels::Labels;
use tacit_model::tables::{
    AccessAttachment, ClassKey, ClassRow, Egress, MeshRow, NamespaceRow, Row, ServicePort,
    ServiceRow, Tables, TargetPort,
};
use tacit_model::{Generation, Locality, PolicyName, ServiceName, Sourced, WorkloadName};

use super::*;

const PATHS: [&str; 8] = ["/", "/a", "/a/", "/a/b", "/a/b/c", "/ab", "/b", "/c/d"];
const PREFIXES: [&str; 7] = ["", "/", "/a", "/a/", "/a/b", "/ab", "/b/"];
const SERVICES: [(&str, u16); 2] = [("one", 1), ("two", 2)];

/// A policy, and the services through which it is attached: none means every port.
type Written = (AccessRow, Vec<&'static str>);

fn name(policy: usize) -> PolicyName {
    PolicyName::parse("ns", &format!("policy-{policy}")).unwrap()
}

fn pattern() -> impl Strategy<Value = PathPattern> {
    let exact = select(&PATHS[..]).prop_map(|path| PathPattern::Exact(path.into()));
    let prefix = select(&PREFIXES[..]).prop_map(|prefix| PathPattern::Prefix(prefix.into()));
    prop_oneof![exact, prefix]
}

fn to() -> impl Strategy<Value = To> {
    let ports = proptest::option::of(subsequence(vec![1, 2], 1..=2));
    let methods = proptest::option::weighted(0.2, select(&["GET", "PUT"][..]));
    let paths = proptest::option::weighted(0.8, proptest::collection::btree_set(pattern(), 1..3));
    (ports, methods, paths).prop_map(|(ports, methods, paths)| To {
        ports: ports.map(BTreeSet::from_iter),
        methods: methods.map(|method| [method.into()].into()),
        paths,
        ..To::default()
    })
}

fn rule() -> impl Strategy<Value = Rule> {
    let from = |account: &str| From {
        service_accounts: Some([("ns".try_into().unwrap(), account.try_into().unwrap())].into()),
        ..From::default()
    };
    let from = select(&["web", "other"][..]).prop_map(from);
    let from = proptest::collection::vec(from, 0..2);
    (from, proptest::collection::vec(to(), 0..3)).prop_map(|(from, to)| Rule {
        from,
        to,
        path: "".into(),
    })
}

fn policy() -> impl Strategy<Value = Written> {
    let action = select(&[Action::Allow, Action::Deny][..]);
    let mode = select(&[Mode::Audit, Mode::Enforce][..]);
    let through = subsequence(vec!["one", "two"], 0..=2);
    let rules = proptest::collection::vec(rule(), 1..6);
    (action, mode, through, rules).prop_map(|(action, mode, through, mut rules)| {
        for (at, rule) in rules.iter_mut().enumerate() {
            rule.path = format!("spec.rules[{at}]").into();
        }
        let row = AccessRow {
            name: name(0),
            action,
            mode,
            rules,
            broken: None,
        };
        (row, through)
    })
}

fn service(name: &str, target: u16) -> Row {
    Row::Service(Arc::new(ServiceRow {
        name: ServiceName::parse("ns", name).unwrap(),
        address: [240, 0, 0, u8::try_from(target).unwrap()].into(),
        ports: vec![ServicePort {
            name: "".into(),
            port: 80,
            target: TargetPort::Number(target),
            protocol: Protocol::Tcp,
        }],
        resilience: Vec::new(),
        failover: None,
        rate: None,
        faults: Vec::new(),
    }))
}

fn class(access: Vec<AccessAttachment>) -> ClassRow {
    let services = SERVICES.map(|(name, _)| ServiceName::parse("ns", name).unwrap());
    ClassRow {
        key: Arc::new(ClassKey {
            namespace: "ns".try_into().unwrap(),
            labels: Labels::default(),
            service_account: "web".try_into().unwrap(),
        }),
        services: services.into(),
        access,
    }
}

fn world(policies: Vec<Written>) -> Snapshot {
    let mut access = Vec::new();
    let mut rows = vec![
        Row::Mesh(Arc::new(MeshRow {
            trust_domain: "td".try_into().unwrap(),
            cluster: "c".into(),
            default_access: Sourced::default_of(DefaultAccess::Authenticated),
            egress: Sourced::default_of(Egress::Allow),
            certificate_lifetime: Duration::from_secs(1),
            max_offline: Duration::from_secs(1),
            root_namespace: "root".try_into().unwrap(),
            addresses: Vec::new(),
        })),
        Row::Namespace(Arc::new(NamespaceRow {
            namespace: "ns".try_into().unwrap(),
            tenancy: Tenancy::Unclaimed,
        })),
    ];
    rows.extend(SERVICES.map(|(name, target)| service(name, target)));
    for (at, (row, services)) in policies.into_iter().enumerate() {
        let services = services
            .iter()
            .map(|service| Some(ServiceName::parse("ns", service).unwrap()));
        let through: Vec<_> = services.collect();
        let everywhere = vec![None];
        let through = if through.is_empty() {
            everywhere
        } else {
            through
        };
        access.extend(through.into_iter().map(|through| AccessAttachment {
            policy: name(at),
            through,
        }));
        let row = AccessRow {
            name: name(at),
            ..row
        };
        rows.push(Row::Access(Arc::new(row)));
    }
    rows.push(Row::Class(Arc::new(class(access))));
    let rows = rows.into_iter().map(|row| (row.key(), row));
    Snapshot::build(Generation::default(), &Tables(rows.collect())).unwrap()
}

fn local() -> WorkloadRow {
    WorkloadRow {
        name: WorkloadName::parse("ns", "web-1").unwrap(),
        class: class(Vec::new()).key,
        address: [10, 0, 0, 1].into(),
        node: "node".try_into().unwrap(),
        locality: Locality {
            cluster: "c".into(),
            region: "r".into(),
            zone: "z".into(),
        },
        ports: Arc::default(),
        published: Vec::new(),
        ready: BTreeSet::new(),
        capacity: None,
        command: Vec::new(),
    }
}

/// The policy and the rule.
fn said(found: &Found<'_>) -> Option<(String, String)> {
    match found {
        Found::Yes(row, rule) => Some((row.name.to_string(), rule.path.to_string())),
        Found::No => None,
        Found::OnRequest => panic!("a request is in hand"),
    }
}

/// How many of the answers to every question were a rule.
fn compare(s: &Snapshot) -> Result<usize, TestCaseError> {
    let local = local();
    let peer = Peer {
        identity: Some(local.identity(&s.mesh.trust_domain)),
        address: ([10, 0, 0, 2], 1).into(),
    };
    let mut matched = 0;
    for port in 1..=3 {
        let target = Target::new(s, &local, port);
        let mut to = target.rows().flat_map(|row| &row.rules).flat_map(|r| &r.to);
        let looks = to.any(|to| {
            to.paths.is_some() && to.ports.as_ref().is_none_or(|ports| ports.contains(&port))
        });
        prop_assert_eq!(target.looks_at_paths(), looks);
        for (path, method) in PATHS.iter().flat_map(|path| [(path, "GET"), (path, "PUT")]) {
            let operation = Operation {
                method,
                path,
                host: "",
            };
            let call = Call::new(&peer, Some(operation));
            for enforced in [Enforced::Only, Enforced::AuditToo] {
                for action in [Action::Allow, Action::Deny] {
                    let found = said(&target.first_match(enforced, action, &call));
                    let scanned = said(&target.first_by_scan(enforced, action, &call));
                    prop_assert_eq!(&found, &scanned);
                    matched += usize::from(found.is_some());
                }
            }
        }
    }
    Ok(matched)
}

#[test]
fn a_rule_found_by_path_is_the_first_of_a_scan() {
    let config = ProptestConfig::with_cases(512);
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let matched = std::cell::Cell::new(0);
    let policies = proptest::collection::vec(policy(), 0..8);
    let run = runner.run(&policies, |policies| {
        matched.set(matched.get() + compare(&world(policies))?);
        Ok(())
    });
    run.unwrap_or_else(|failed| panic!("{failed}"));
    // Had nothing matched, both would say nothing of use.
    assert!(matched.get() > 1000, "{} matched", matched.get());
}

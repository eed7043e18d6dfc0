//! A mesh of a given size: namespaces that look alike, made from parsed templates.

use std::collections::{BTreeMap, BTreeSet};

use tacit_api::{Located, Object};
use tacit_compiler::{InputDelta, NodeFact, Owner, Upsert, Written};
use tacit_model::WorkloadName;
use tacit_model::hosting::MayHost;

/// At full size.
const NAMESPACES: u32 = 1_000;
/// Of each namespace.
const SERVICES: u32 = 100;
const WORKLOADS: u32 = 1_000;
const POLICIES: u32 = 10;
const NODES: u32 = 1_000;

/// How many namespaces there are.
pub(crate) struct World {
    namespaces: u32,
}

impl World {
    /// The promised size, divided.
    pub(crate) fn of(part: u32) -> Self {
        Self {
            namespaces: NAMESPACES / part,
        }
    }

    pub(crate) fn size(&self) -> String {
        let all = |each: u32| self.namespaces * each;
        format!(
            "{} services, {} workloads, {} policies in {} namespaces",
            all(SERVICES),
            all(WORKLOADS),
            all(POLICIES),
            self.namespaces
        )
    }

    /// All of it as one change.
    pub(crate) fn everything(&self) -> InputDelta {
        let mut upserts = vec![upsert(object(
            "tacit.dev/v1alpha1",
            "Mesh",
            "default",
            "",
            "{workloadAddresses: {ipv4: 10.0.0.0/8}}",
        ))];
        let service = template(
            "v1",
            "Service",
            "{selector: {app: x}, ports: [{name: http, port: 80}]}",
        );
        let workload = template(
            "tacit.dev/v1alpha1",
            "Workload",
            "{serviceAccount: x, node: n, address: 10.0.0.1, ports: [{name: http, port: 80}]}",
        );
        for space in 0..self.namespaces {
            for number in 0..SERVICES {
                upserts.push(upsert(a_service(&service, space, number)));
            }
            for number in 0..WORKLOADS {
                upserts.push(upsert(a_workload(
                    &workload,
                    space,
                    number,
                    number % SERVICES,
                )));
            }
            for number in 0..POLICIES {
                upserts.push(upsert(policy(space, number, 1)));
            }
        }
        InputDelta {
            upserts,
            nodes: (0..NODES).map(node).collect(),
            now: Some(1),
            ..InputDelta::default()
        }
    }

    /// Changes of each sort.
    pub(crate) fn changes(&self, many: usize) -> Vec<(&'static str, Vec<InputDelta>)> {
        let workload = template(
            "tacit.dev/v1alpha1",
            "Workload",
            "{serviceAccount: x, node: n, address: 10.0.0.1, ports: [{name: http, port: 80}]}",
        );
        let at = |index: u32| (index * 7 % self.namespaces, index * 13 % WORKLOADS);
        let indexes = |count: usize| (0..u32::try_from(count).unwrap_or(u32::MAX)).map(at);
        let one = |object| InputDelta {
            upserts: vec![upsert(object)],
            ..InputDelta::default()
        };
        let ready = |(space, number)| InputDelta {
            ready: vec![(name(space, number), BTreeSet::from([80]))],
            ..InputDelta::default()
        };
        let label = |(space, number)| {
            let other = (number + 1) % SERVICES;
            one(a_workload(&workload, space, number, other))
        };
        let come = |(space, number)| {
            one(a_workload(
                &workload,
                space,
                WORKLOADS + number,
                number % SERVICES,
            ))
        };
        let go = |(space, number)| InputDelta {
            removes: vec![
                a_workload(&workload, space, WORKLOADS + number, 0)
                    .value
                    .key(),
            ],
            ..InputDelta::default()
        };
        // Each changes what is there.
        let policies = |number, count: usize| {
            let versions = (0..u32::try_from(count).unwrap_or(u32::MAX)).map(|index| {
                let (space, _) = at(index);
                one(policy(space, number, 2 + index))
            });
            versions.collect::<Vec<_>>()
        };
        vec![
            (
                "a workload becomes ready",
                indexes(many).map(ready).collect(),
            ),
            (
                "a workload changes its label",
                indexes(many).map(label).collect(),
            ),
            ("a workload comes", indexes(many).map(come).collect()),
            ("a workload goes", indexes(many).map(go).collect()),
            ("an AccessPolicy of a namespace", policies(5, many)),
            ("a RetryTimeoutPolicy of a namespace", policies(0, many)),
        ]
    }

    /// Changes that concern the whole mesh, and one that makes a label count.
    pub(crate) fn wide(&self) -> Vec<(&'static str, InputDelta)> {
        let one = |object| InputDelta {
            upserts: vec![upsert(object)],
            ..InputDelta::default()
        };
        let law = object(
            "tacit.dev/v1alpha1",
            "AccessPolicy",
            "law",
            "tacit-system",
            "{targetAll: {}, action: Deny, rules: [{from: [{namespaces: [space-1]}]}]}",
        );
        let mention = object(
            "tacit.dev/v1alpha1",
            "AccessPolicy",
            "mention",
            "space-0",
            "{targetSelectors: [{group: tacit.dev, kind: Workload, matchLabels: {half: a}}], \
             action: Deny, rules: [{from: [{namespaces: [space-1]}]}]}",
        );
        vec![
            ("a policy of the whole mesh", one(law)),
            ("the first mention of a label", one(mention)),
        ]
    }
}

fn template(version: &str, kind: &str, spec: &str) -> Located<Object> {
    object(version, kind, "x", "x", spec)
}

fn object(version: &str, kind: &str, name: &str, namespace: &str, spec: &str) -> Located<Object> {
    let place = match namespace {
        "" => String::new(),
        namespace => format!(", namespace: {namespace}"),
    };
    let text = format!(
        "apiVersion: {version}\nkind: {kind}\nmetadata: {{name: {name}{place}}}\nspec: {spec}\n"
    );
    let mut parsed = tacit_api::parse("mesh.yaml", &text);
    parsed
        .objects
        .pop()
        .unwrap_or_else(|| panic!("{text}: {:?}", parsed.errors))
}

fn space_name(space: u32) -> String {
    format!("space-{space}")
}

fn a_service(template: &Located<Object>, space: u32, number: u32) -> Located<Object> {
    let mut object = template.clone();
    if let Object::Service(service) = &mut object.value {
        service.metadata.name = format!("service-{number}");
        service.metadata.namespace = Some(space_name(space));
        let app = ("app".to_owned(), format!("app-{number}"));
        service.spec.selector = Some(BTreeMap::from([app]));
    }
    object
}

fn a_workload(template: &Located<Object>, space: u32, number: u32, app: u32) -> Located<Object> {
    let mut object = template.clone();
    if let Object::Workload(workload) = &mut object.value {
        workload.metadata.name = format!("workload-{number}");
        workload.metadata.namespace = Some(space_name(space));
        workload.metadata.labels = BTreeMap::from([
            ("app".to_owned(), format!("app-{app}")),
            (
                "half".to_owned(),
                if number.is_multiple_of(2) { "a" } else { "b" }.to_owned(),
            ),
            ("hash".to_owned(), format!("h{number}")),
        ]);
        workload.spec.service_account = format!("app-{app}");
        workload.spec.node = format!("node-{}", number % NODES);
        let address = 0x0a00_0100 + space * 2 * WORKLOADS + number;
        workload.spec.address = Some(std::net::Ipv4Addr::from(address).to_string());
    }
    object
}

fn policy(space: u32, number: u32, version: u32) -> Located<Object> {
    let target = format!("targetRefs: [{{group: '', kind: Service, name: service-{number}}}]");
    let (kind, spec) = match number {
        0..3 => (
            "RetryTimeoutPolicy",
            format!("{target}, timeout: {{request: {version}s}}"),
        ),
        3..5 => (
            "FailoverPolicy",
            format!(
                "{target}, order: [{{places: [{{zone: same}}]}}, {{places: [{{region: same}}]}}]"
            ),
        ),
        _ => (
            "AccessPolicy",
            format!(
                "{target}, action: Allow, rules: [{{from: [{{serviceAccounts: [app-{version}]}}]}}]"
            ),
        ),
    };
    let spec = format!("{{{spec}}}");
    let name = format!("policy-{number}");
    object("tacit.dev/v1alpha1", kind, &name, &space_name(space), &spec)
}

fn node(number: u32) -> NodeFact {
    NodeFact {
        name: named(&format!("node-{number}")),
        region: "region".into(),
        zone: format!("zone-{}", number % 3).into(),
        subnet: None,
        identities: MayHost::any(),
    }
}

fn name(space: u32, number: u32) -> WorkloadName {
    WorkloadName {
        namespace: named(&space_name(space)),
        name: named(&format!("workload-{number}")),
    }
}

fn named<T>(text: &str) -> T
where
    T: for<'a> TryFrom<&'a str, Error = tacit_model::names::InvalidName>,
{
    T::try_from(text).unwrap_or_else(|problem| panic!("{problem}"))
}

fn upsert(object: Located<Object>) -> Upsert {
    Upsert {
        key: object.value.key(),
        written: Written::Ok(Box::new(object)),
        last_good: None,
        owner: Owner::Directory,
    }
}

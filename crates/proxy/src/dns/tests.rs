//! Tables of questions and answers.

use std::sync::Arc;

use tacit_model::tables::{DefaultAccess, Egress, MeshRow, ServiceRow};
use tacit_model::{Generation, Row, Sourced, TableDelta, Tables};

use super::*;

/// A mesh with three services and no workload.
pub(crate) fn tables() -> Tables {
    let mut tables = Tables::default();
    let mesh = MeshRow {
        trust_domain: "mesh.local".try_into().expect("a trust domain"),
        cluster: "east".into(),
        default_access: Sourced::default_of(DefaultAccess::Authenticated),
        egress: Sourced::default_of(Egress::Allow),
        certificate_lifetime: std::time::Duration::from_secs(86_400),
        max_offline: std::time::Duration::from_secs(43_200),
        root_namespace: "tacit-system".try_into().expect("a namespace"),
        addresses: Vec::new(),
    };
    let service = |name: &str, namespace: &str, address: &str| {
        Row::Service(Arc::new(ServiceRow {
            name: ServiceName::parse(namespace, name).expect("names"),
            address: address.parse().expect("an address"),
            ports: Vec::new(),
            resilience: Vec::new(),
            failover: None,
            rate: None,
            faults: Vec::new(),
        }))
    };
    tables.apply(TableDelta {
        upserts: vec![
            Row::Mesh(Arc::new(mesh)),
            service("web", "shop", "240.96.0.1"),
            service("web", "blog", "240.96.0.2"),
            service("six", "shop", "fd00:7ac1:7::1"),
        ],
        removes: Vec::new(),
    });
    tables
}

fn snapshot() -> Snapshot {
    Snapshot::build(Generation::default(), &tables()).expect("closed")
}

fn query(name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).expect("a name"), kind));
    message.to_vec().expect("encodes")
}

/// Code and addresses of the answer, or `forward` or `silence`.
fn ask(query: &[u8]) -> String {
    let own = Namespace::try_from("shop").expect("a namespace");
    match answer(&snapshot(), &own, query) {
        Reply::Forward => "forward".into(),
        Reply::Silence => "silence".into(),
        Reply::Answer(bytes) => {
            let message = Message::from_vec(&bytes).expect("decodes");
            assert!(message.metadata.authoritative);
            assert_eq!(
                message.metadata.id,
                Message::from_vec(query).expect("decodes").metadata.id
            );
            let mut text = message.metadata.response_code.to_string();
            for record in &message.answers {
                assert!((5..=30).contains(&record.ttl));
                text = format!("{text} {}", record.data);
            }
            text
        }
    }
}

#[test]
fn names_of_services() {
    let none = "No Error";
    for (name, kind, expected) in [
        ("web", RecordType::A, "No Error 240.96.0.1"),
        ("WEB.", RecordType::A, "No Error 240.96.0.1"),
        ("web.shop", RecordType::A, "No Error 240.96.0.1"),
        ("web.blog", RecordType::A, "No Error 240.96.0.2"),
        ("web.blog.svc", RecordType::A, "No Error 240.96.0.2"),
        (
            "web.blog.svc.cluster.local.",
            RecordType::A,
            "No Error 240.96.0.2",
        ),
        ("web", RecordType::AAAA, none),
        ("web", RecordType::HTTPS, none),
        ("six", RecordType::AAAA, "No Error fd00:7ac1:7::1"),
        ("six", RecordType::A, none),
        (
            "nobody.shop.svc.cluster.local",
            RecordType::A,
            "Non-Existent Domain",
        ),
        ("svc.cluster.local", RecordType::A, "Non-Existent Domain"),
        ("nobody.shop", RecordType::A, "forward"),
        ("example.com", RecordType::A, "forward"),
        ("web.shop.example.com", RecordType::A, "forward"),
        (".", RecordType::NS, "forward"),
    ] {
        assert_eq!(ask(&query(name, kind)), expected, "{name} {kind}");
    }
}

#[test]
fn what_is_no_question() {
    assert_eq!(ask(b"garbage"), "silence");
    let answer = Message::response(7, OpCode::Query)
        .to_vec()
        .expect("encodes");
    assert_eq!(ask(&answer), "silence");
    let empty = Message::new(7, MessageType::Query, OpCode::Query)
        .to_vec()
        .expect("encodes");
    assert_eq!(ask(&empty), "Form Error");
    let update = Message::new(7, MessageType::Query, OpCode::Update);
    let mut update = update;
    update.add_query(Query::query(Name::root(), RecordType::SOA));
    assert_eq!(ask(&update.to_vec().expect("encodes")), "Not Implemented");
}

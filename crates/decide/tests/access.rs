//! Access: what a denial says, live connections, ports of bytes, destinations and run grants.

use std::collections::BTreeSet;
use std::sync::Arc;

use tacit_decide::run::{RunLeave, Runner, may_run};
use tacit_decide::{
    ConnectionVerdict, DenialKind, Destination, Peer, authorize_connection, destination,
    still_allowed,
};
use tacit_model::access::{Action, From, Mode, PathPattern, Rule, To};
use tacit_model::tables::{
    AccessRow, DefaultAccess, Egress, Protocol, PublishedPort, Row, RowKey, RunGrantRow, Tenancy,
    WorkloadRow,
};
use tacit_model::{Now, Snapshot, WorkloadName};

use crate::world::{World, namespace, peer, policy, shop};

fn allow(name: &str, ns: &str, to: Vec<To>) -> AccessRow {
    AccessRow {
        name: policy(name, "shop"),
        action: Action::Allow,
        mode: Mode::Enforce,
        rules: vec![Rule {
            from: vec![From {
                namespaces: Some([namespace(ns)].into()),
                ..From::default()
            }],
            to,
            path: "spec.rules[0]".into(),
        }],
        broken: None,
    }
}

fn local(s: &Snapshot) -> Arc<WorkloadRow> {
    s.workloads[&WorkloadName::parse("shop", "payments-a-1").unwrap()].clone()
}

fn verdict(world: &World, port: u16, peer: &Peer) -> ConnectionVerdict {
    let s = world.build();
    authorize_connection(&s, &local(&s), port, peer)
}

#[test]
fn an_edit_flips_live_connections_only_where_it_must() {
    let mut world = shop(1);
    let allowed = |world: &World, peer: &Peer| match verdict(world, 9000, peer) {
        ConnectionVerdict::Allow(permit) => permit,
        other => panic!("{other:?}"),
    };
    let (edge, shop_web) = (peer("edge", "web"), peer("shop", "web"));
    let (of_edge, of_shop) = (allowed(&world, &edge), allowed(&world, &shop_web));
    world.access(
        allow("only-shop", "shop", Vec::new()),
        "shop",
        "payments",
        None,
    );
    let s = world.build();
    let denial = still_allowed(&s, &of_edge).unwrap_err();
    assert_eq!(denial.kind, DenialKind::Policy);
    assert!(
        denial.to_string().contains("AccessPolicy/shop/only-shop"),
        "{denial}"
    );
    assert_eq!(still_allowed(&s, &of_shop), Ok(()));
    // A rule about requests that names the port of bytes: read it as HTTP from now on.
    let to = To {
        ports: Some([9000].into()),
        paths: Some([PathPattern::Prefix("/a".into())].into()),
        ..To::default()
    };
    let mut world = shop(1);
    world.access(allow("paths", "shop", vec![to]), "shop", "payments", None);
    assert!(still_allowed(&world.build(), &of_shop).is_err());
    let inspected = verdict(&world, 9000, &shop_web);
    let ConnectionVerdict::InspectRequests(permit) = inspected else {
        panic!("{inspected:?}");
    };
    assert_eq!(permit.protocol(), Protocol::Tcp);
    assert!(
        still_allowed(&World::new().build(), &of_shop).is_err(),
        "the workload is gone"
    );
}

#[test]
fn a_deny_about_requests_denies_bytes() {
    let mut row = allow("no-posts", "shop", Vec::new());
    row.action = Action::Deny;
    row.rules[0].to = vec![To {
        methods: Some(["POST".into()].into()),
        ..To::default()
    }];
    let mut world = shop(1);
    world.access(row, "shop", "payments", None);
    let got = verdict(&world, 9000, &peer("shop", "web"));
    assert!(matches!(got, ConnectionVerdict::Deny(_)), "{got:?}");
    let other = verdict(&world, 9000, &peer("edge", "web"));
    assert!(matches!(other, ConnectionVerdict::Allow(_)), "{other:?}");
}

#[test]
fn a_policy_through_a_service_covers_its_ports_only() {
    let mut world = shop(1);
    let row = allow("nobody", "nowhere", Vec::new());
    world.access(row, "shop", "payments", Some("payments"));
    let web = peer("shop", "web");
    assert!(matches!(
        verdict(&world, 9000, &web),
        ConnectionVerdict::Allow(_)
    ));
    // The covered port is HTTP: each request is refused by itself.
    assert!(matches!(
        verdict(&world, 8080, &web),
        ConnectionVerdict::InspectRequests(_)
    ));
}

#[test]
fn denials_name_their_cause() {
    let web = peer("edge", "web");
    let nobody = Peer {
        identity: None,
        address: web.address,
    };
    let denied = |world: &World, peer: &Peer| match verdict(world, 9000, peer) {
        ConnectionVerdict::Deny(denial) => denial.to_string(),
        other => panic!("{other:?}"),
    };
    let mut world = shop(1);
    let text = denied(&world, &nobody);
    assert!(
        text.contains("unauthenticated") && text.contains("default"),
        "{text}"
    );
    world.mesh(DefaultAccess::Deny, Egress::Allow);
    assert!(denied(&world, &web).contains("edge/web"));
    world.tenancy("shop", Tenancy::Contested(vec!["w1".try_into().unwrap()]));
    assert!(denied(&world, &web).contains("claimed by several workspaces: w1"));
    let mut world = shop(1);
    let mut row = allow("bad", "shop", Vec::new());
    row.broken = Some("`rules` is missing".into());
    world.access(row, "shop", "payments", None);
    assert!(denied(&world, &web).contains("`rules` is missing (AccessPolicy/shop/bad spec)"));
    // The control: one that is known to be an audit blocks nothing, broken or not.
    let mut world = shop(1);
    let mut row = allow("bad", "shop", Vec::new());
    (row.mode, row.broken) = (Mode::Audit, Some("`rules` is missing".into()));
    world.access(row, "shop", "payments", None);
    let audited = verdict(&world, 9000, &web);
    assert!(
        matches!(audited, ConnectionVerdict::Allow(_)),
        "{audited:?}"
    );
}

#[test]
fn destinations() {
    let mut world = shop(1);
    let go = |world: &World, to: &str| destination(&world.build(), to.parse().unwrap());
    let Destination::Service(target) = go(&world, "240.0.0.1:80") else {
        panic!("no service");
    };
    assert_eq!(target.port.protocol, Protocol::Http);
    let mapped = go(&world, "[::ffff:240.0.0.1]:80");
    assert!(matches!(mapped, Destination::Service(_)));
    let Destination::Denied(denial) = go(&world, "240.0.0.1:81") else {
        panic!("a port that is not there");
    };
    assert_eq!(denial.kind, DenialKind::UnknownDestination);
    assert_eq!(
        denial.reason,
        "service payments.shop has no port 81; it has 80"
    );
    let Destination::Workload(target) = go(&world, "10.0.1.1:8080") else {
        panic!("no workload");
    };
    assert_eq!(target.protocol, Protocol::Http);
    let opaque = go(&world, "10.0.1.1:9000");
    assert!(matches!(opaque, Destination::Workload(t) if t.protocol == Protocol::Tcp));
    assert!(matches!(
        go(&world, "192.0.2.1:443"),
        Destination::Outside(_)
    ));
    world.mesh(DefaultAccess::Authenticated, Egress::Deny);
    let Destination::Denied(denial) = go(&world, "192.0.2.1:443") else {
        panic!("let out");
    };
    assert_eq!(denial.kind, DenialKind::Policy);
}

#[test]
fn an_address_of_the_mesh_that_nobody_has_is_not_outside() {
    let mut world = shop(1);
    let go = |world: &World, to: &str| destination(&world.build(), to.parse().unwrap());
    let services = "no service has the address 240.0.9.9, which is of the mesh's range \
                    240.0.0.0/16 for services: it ended, or this node does not know of it yet \
                    (Mesh/default spec.serviceAddresses.ipv4)";
    let workloads = "no workload has the address 10.0.9.9, which is of the mesh's range \
                     10.0.0.0/16 for workloads: it ended, or this node does not know of it yet \
                     (Mesh/default spec.workloadAddresses.ipv4)";
    for (to, reason) in [
        ("240.0.9.9:80", services),
        ("10.0.9.9:80", workloads),
        ("[::ffff:10.0.9.9]:80", workloads),
    ] {
        let Destination::Denied(denial) = go(&world, to) else {
            panic!("{to} may leave in clear");
        };
        assert_eq!(denial.kind, DenialKind::UnknownDestination, "{to}");
        assert_eq!(denial.to_string(), reason, "{to}");
    }
    // The neighbours of both ranges are outside: the ranges end where they end.
    for to in ["240.1.0.0:80", "10.1.0.0:80", "9.255.255.255:80"] {
        assert!(matches!(go(&world, to), Destination::Outside(_)), "{to}");
    }
    // One that has just gone is denied; a moment ago it was found.
    let gone = "10.0.1.1:8080";
    assert!(matches!(go(&world, gone), Destination::Workload(_)));
    let key = world
        .build()
        .workload_at("10.0.1.1".parse().unwrap())
        .unwrap()
        .name
        .clone();
    world.tables.0.remove(&RowKey::Workload(key));
    assert!(matches!(go(&world, gone), Destination::Denied(_)));
}

#[test]
fn a_published_port_is_its_workload() {
    let mut world = shop(1);
    let go = |world: &World, to: &str| destination(&world.build(), to.parse().unwrap());
    let at = "192.0.2.1:8085";
    assert!(matches!(go(&world, at), Destination::Outside(_)));
    let name = world
        .build()
        .workload_at("10.0.1.1".parse().unwrap())
        .unwrap()
        .name
        .clone();
    world.change_workload(name.name.as_str(), name.namespace.as_str(), |row| {
        row.published = vec![PublishedPort {
            at: at.parse().unwrap(),
            target: 8080,
        }];
    });
    for at in [at, "[::ffff:192.0.2.1]:8085"] {
        let Destination::Workload(target) = go(&world, at) else {
            panic!("{at} leaves in clear");
        };
        assert_eq!((&target.workload.name, target.port), (&name, 8080));
        assert_eq!(target.protocol, Protocol::Http);
    }
    // Other ports of the machine are not in the mesh.
    assert!(matches!(
        go(&world, "192.0.2.1:8086"),
        Destination::Outside(_)
    ));
}

#[test]
fn run_grants() {
    let mut world = shop(1);
    world.put(Row::RunGrant(Arc::new(RunGrantRow {
        workspace: "w".try_into().unwrap(),
        index: 2,
        uids: [1000].into(),
        gids: [50].into(),
        everyone: false,
        namespaces: [namespace("shop")].into(),
        until: Some(100),
    })));
    world.put(Row::RunGrant(Arc::new(RunGrantRow {
        workspace: "w".try_into().unwrap(),
        index: 3,
        uids: BTreeSet::new(),
        gids: BTreeSet::new(),
        everyone: true,
        namespaces: [namespace("open")].into(),
        until: Some(100),
    })));
    let s = world.build();
    let grant = Ok(RunLeave::Grant("w".try_into().unwrap(), 2));
    let cases = [
        (0, &[][..], "bank", 0, Ok(RunLeave::Administrator)),
        (1000, &[], "shop", 99, grant.clone()),
        (1001, &[7, 50], "shop", 99, grant),
        (
            1001,
            &[7],
            "open",
            99,
            Ok(RunLeave::Grant("w".try_into().unwrap(), 3)),
        ),
        (1001, &[7], "open", 100, Err(())),
        (1001, &[7], "shop", 99, Err(())),
        (1000, &[], "bank", 99, Err(())),
        (1000, &[], "shop", 100, Err(())),
    ];
    for (uid, gids, ns, second, expected) in cases {
        let runner = Runner {
            uid,
            gids: gids.iter().copied().collect::<BTreeSet<u32>>(),
        };
        let now = Now {
            unix_ns: second * 1_000_000_000,
            monotonic_ns: 0,
        };
        let account = "web".try_into().unwrap();
        let got = may_run(&s, 0, &runner, &namespace(ns), &account, now);
        assert_eq!(got.map_err(drop), expected, "{uid} {ns} {second}");
    }
}

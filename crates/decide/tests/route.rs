//! Routes: tables of cases.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use tacit_decide::observed::{Observed, Observer};
use tacit_decide::record::{Decision, Entry, Record};
use tacit_decide::replay::again;
use tacit_decide::{
    Decider, Destination, RouteHead, Routed, ServiceTarget, State, destination, route,
};
use tacit_model::route::{
    Action, Backend, BackendTo, Changes, PathChange, PathMatch, Redirect, RouteKey, RouteMatch,
    RouteRow, RouteRule,
};
use tacit_model::tables::{Protocol, Row, WorkloadRow};
use tacit_model::{Dice, ObjectRef, Provenance, Snapshot};

use crate::world::{WorkloadSpec, World, at, namespace, service_name};

fn any() -> RouteMatch {
    RouteMatch {
        path: PathMatch::Prefix("".into()),
        method: None,
        headers: Vec::new(),
        query: Vec::new(),
    }
}

fn exact(path: &str) -> RouteMatch {
    RouteMatch {
        path: PathMatch::Exact(path.into()),
        ..any()
    }
}

fn prefix(path: &str) -> RouteMatch {
    RouteMatch {
        path: PathMatch::Prefix(path.into()),
        ..any()
    }
}

fn to(name: &str, weight: u32) -> Backend {
    Backend {
        weight,
        to: BackendTo::Service {
            service: service_name(name, "shop"),
            port: 80,
        },
    }
}

fn object(ns: &str, name: &str) -> ObjectRef {
    ObjectRef {
        kind: "HTTPRoute".into(),
        namespace: Some(namespace(ns)),
        name: name.try_into().unwrap(),
    }
}

fn rule(route: &ObjectRef, index: usize, matches: Vec<RouteMatch>, action: Action) -> RouteRule {
    RouteRule {
        from: Provenance::Field {
            object: route.clone(),
            path: format!("spec.rules[{index}]").into(),
        },
        matches,
        changes: Changes::default(),
        action,
        resilience: None,
    }
}

fn row(ns: &str, name: &str, port: Option<u16>, rules: Vec<(Vec<RouteMatch>, Action)>) -> Row {
    row_of("HTTPRoute", (ns, name, port), rules)
}

fn row_of(
    kind: &str,
    (ns, name, port): (&str, &str, Option<u16>),
    rules: Vec<(Vec<RouteMatch>, Action)>,
) -> Row {
    let mut route = object(ns, name);
    route.kind = kind.into();
    let rules = rules.into_iter().enumerate();
    let rules = rules.map(|(index, (matches, action))| rule(&route, index, matches, action));
    Row::Route(Arc::new(RouteRow {
        rules: rules.collect(),
        namespace: namespace(ns),
        key: RouteKey {
            route,
            parent: service_name("api", "shop"),
            port,
        },
    }))
}

/// `shop/api` with two ports and three other services, called by `web/web` and `shop/own`.
fn world() -> World {
    let mut world = World::new();
    let http = ("http", 80, 8080, Protocol::Http);
    world.service(
        "api",
        "shop",
        1,
        &[http, ("admin", 81, 8081, Protocol::Http)],
    );
    for (octet, name) in (2..).zip(["v1", "v2", "v3"]) {
        world.service(name, "shop", octet, &[http]);
    }
    for (ns, app, octet) in [("web", "web", 2), ("shop", "own", 1)] {
        world.workload(WorkloadSpec {
            name: app,
            ns,
            app,
            address: [10, 0, octet, 1],
            locality: at("r", "z"),
            node: "n",
        });
    }
    world
}

fn caller<'s>(s: &'s Snapshot, ns: &str) -> &'s Arc<WorkloadRow> {
    let mut found = s.workloads.values();
    found
        .find(|row| row.class.namespace.as_str() == ns)
        .unwrap()
}

fn parent(s: &Snapshot, port: u16) -> ServiceTarget {
    let Destination::Service(target) = destination(s, ([240, 0, 0, 1], port).into()) else {
        panic!("no service");
    };
    target
}

struct Head {
    method: &'static str,
    path: &'static str,
    query: &'static str,
    host: &'static str,
    headers: BTreeMap<&'static str, &'static str>,
}

fn get(path: &'static str) -> Head {
    Head {
        method: "GET",
        path,
        query: "",
        host: "shop",
        headers: BTreeMap::new(),
    }
}

fn ask(s: &Snapshot, ns: &str, port: u16, head: &Head, dice: Dice) -> Routed {
    let asked = RouteHead {
        method: head.method,
        path: head.path,
        query: head.query,
        host: head.host,
        header: &|name| head.headers.get(name).map(|value| (*value).to_owned()),
    };
    route(s, caller(s, ns), &parent(s, port), &asked, dice)
}

/// Short for what came out.
fn short(routed: &Routed) -> String {
    match routed {
        Routed::Denied(denial) => format!("{} {}", denial.kind.status(), denial.reason),
        Routed::Direct => "direct".into(),
        Routed::Forward { to, .. } => to.service.name.name.to_string(),
        Routed::Redirect { .. } => "redirect".into(),
    }
}

/// One route whose rules overlap in every way.
fn overlapping() -> World {
    let mut world = world();
    let header = |value: &str| RouteMatch {
        headers: vec![("x-canary".into(), value.into())],
        ..prefix("/a")
    };
    let query = RouteMatch {
        query: vec![("v".into(), "2 3".into())],
        ..any()
    };
    let post = RouteMatch {
        method: Some("POST".into()),
        ..prefix("/a")
    };
    world.put(row(
        "shop",
        "r",
        None,
        vec![
            (vec![prefix("/a")], Action::Forward(vec![to("v1", 1)])),
            (
                vec![header("yes"), prefix("/a/b")],
                Action::Forward(vec![to("v2", 1)]),
            ),
            (
                vec![exact("/a/b/c"), query, post],
                Action::Forward(vec![to("v3", 1)]),
            ),
            (vec![exact("/none")], Action::Forward(Vec::new())),
            (vec![exact("/zero")], Action::Forward(vec![to("v1", 0)])),
        ],
    ));
    world
}

#[test]
fn which_rule_a_request_follows() {
    let s = overlapping().build();
    let with = |head: Head, name, value| Head {
        headers: BTreeMap::from([(name, value)]),
        ..head
    };
    let query = |head: Head, query| Head { query, ..head };
    let method = |head: Head, method| Head { method, ..head };
    for (head, expected) in [
        (get("/a"), "v1"),
        (get("/a/"), "v1"),
        (
            get("/ab"),
            "404 no rule of the routes of api.shop matches GET /ab",
        ),
        (
            get("/A"),
            "404 no rule of the routes of api.shop matches GET /A",
        ),
        (get("/a/x"), "v1"),
        (get("/a/b"), "v2"),
        (get("/a/b/c"), "v3"),
        (get("/a/b/c/d"), "v2"),
        (with(get("/a"), "x-canary", "yes"), "v2"),
        (with(get("/a"), "x-canary", "no"), "v1"),
        // The longer prefix comes before the method and the header.
        (method(get("/a/b"), "POST"), "v2"),
        (method(get("/a"), "POST"), "v3"),
        // The method comes before the header.
        (method(with(get("/a"), "x-canary", "yes"), "POST"), "v3"),
        (query(get("/x"), "v=2%203"), "v3"),
        (query(get("/x"), "u=1&v=2 3&v=9"), "v3"),
        (
            query(get("/x"), "v=9&v=2%203"),
            "404 no rule of the routes of api.shop matches GET /x",
        ),
        (query(get("/a"), "v=2%203"), "v1"),
        (get("/none"), "404 the rule has no backend"),
        (get("/zero"), "500 every backend of the rule has weight 0"),
    ] {
        let told = short(&ask(&s, "web", 80, &head, Dice(1)));
        assert_eq!(
            told, expected,
            "{} {} {:?}",
            head.method, head.path, head.headers
        );
    }
}

#[test]
fn who_follows_which_route() {
    let mut world = world();
    let forward = |name| vec![(vec![any()], Action::Forward(vec![to(name, 1)]))];
    let ask = |world: &World, ns, port| short(&ask(&world.build(), ns, port, &get("/"), Dice(1)));
    assert_eq!(ask(&world, "web", 80), "direct");
    world.put(row("shop", "only-admin", Some(81), forward("v3")));
    assert_eq!(ask(&world, "web", 80), "direct", "a route of another port");
    assert_eq!(ask(&world, "web", 81), "v3");
    world.put(row("shop", "producer", None, forward("v1")));
    world.put(row("web", "consumer", Some(80), forward("v2")));
    world.put(row("else", "stranger", None, forward("v3")));
    assert_eq!(
        ask(&world, "shop", 80),
        "v1",
        "the producer's route is for everybody"
    );
    assert_eq!(
        ask(&world, "web", 80),
        "v2",
        "but for those who have one of their own"
    );
    // Of two equal matches the route that comes first by name counts.
    assert_eq!(ask(&world, "web", 81), "v3");
}

#[test]
fn only_grpc_follows_a_grpc_route_and_no_other_kind_holds_beside_it() {
    let call = |path: &'static str, media: &'static str| Head {
        method: "POST",
        headers: BTreeMap::from([("content-type", media)]),
        ..get(path)
    };
    let leads = |name| Action::Forward(vec![to(name, 1)]);
    let mut world = world();
    world.put(row("shop", "pages", None, vec![(vec![any()], leads("v3"))]));
    let asked =
        |world: &World, port, head: &Head| short(&ask(&world.build(), "web", port, head, Dice(1)));
    let charge = call("/shop.Payments/Charge", "application/grpc");
    // The control: an HTTPRoute is for calls of gRPC, too, and refuses them in its own words.
    assert_eq!(asked(&world, 80, &charge), "v3");
    let mut other = self::world();
    let pages = vec![(vec![prefix("/pages")], leads("v3"))];
    other.put(row("shop", "pages", None, pages));
    assert!(asked(&other, 80, &charge).starts_with("404"));
    let rules = vec![
        (vec![prefix("/shop.Payments")], leads("v1")),
        (vec![exact("/shop.Payments/Refund")], leads("v2")),
    ];
    world.put(row_of("GRPCRoute", ("shop", "calls", Some(80)), rules));
    for (path, media, expected) in [
        ("/shop.Payments/Charge", "application/grpc", "v1"),
        ("/shop.Payments/Charge", "Application/gRPC+proto", "v1"),
        ("/shop.Payments/Charge", "application/grpc;a=b", "v1"),
        ("/shop.Payments/Refund", "application/grpc", "v2"),
        ("/shop.PaymentsOld/Refund", "application/grpc", "grpc"),
        ("/shop.Payments/Refund", "application/grpc-web", "404"),
        ("/shop.Payments/Refund", "application/json", "404"),
        ("/shop.Payments/Refund", "", "404"),
    ] {
        let found = asked(&world, 80, &call(path, media));
        assert!(found.starts_with(expected), "{path} {media}: {found}");
    }
    let broken = BackendTo::Broken("lost".into());
    let gone = Backend {
        to: broken,
        weight: 1,
    };
    let rules = vec![
        (vec![prefix("/shop.Gone")], Action::Forward(vec![gone])),
        (vec![prefix("/shop.None")], Action::Forward(Vec::new())),
    ];
    world.put(row_of("GRPCRoute", ("shop", "more", Some(80)), rules));
    let lost = asked(&world, 80, &call("/shop.Gone/Any", "application/grpc"));
    assert_eq!(lost, "grpc-status 14 lost");
    let none = asked(&world, 80, &call("/shop.None/Any", "application/grpc"));
    assert_eq!(none, "grpc-status 12 the rule has no backend");
    let read = Head {
        method: "GET",
        ..call("/shop.Payments/Refund", "application/grpc")
    };
    assert!(asked(&world, 80, &read).starts_with("404"));
    // At the other port the HTTPRoute still holds.
    assert_eq!(asked(&world, 81, &charge), "v3");
}

#[test]
fn only_connections_follow_a_tcp_route() {
    let leads = |name| vec![(vec![any()], Action::Forward(vec![to(name, 1)]))];
    let mut world = world();
    world.change_service("api", "shop", |row| row.ports[1].protocol = Protocol::Tcp);
    let connected = |world: &World, ns| {
        let (s, head) = (world.build(), RouteHead::connection());
        short(&route(&s, caller(&s, ns), &parent(&s, 81), &head, Dice(1)))
    };
    let asked = |world: &World| short(&ask(&world.build(), "web", 80, &get("/"), Dice(1)));
    world.put(row("shop", "pages", None, leads("v3")));
    // The control: the HTTPRoute is for the port of HTTP, and nothing is for the other.
    assert_eq!(asked(&world), "v3");
    assert_eq!(connected(&world, "web"), "direct");
    world.put(row_of("TCPRoute", ("shop", "bytes", None), leads("v1")));
    world.put(row_of("TCPRoute", ("web", "own", Some(81)), leads("v2")));
    assert_eq!(asked(&world), "v3");
    assert_eq!(connected(&world, "web"), "v2");
    assert_eq!(connected(&world, "shop"), "v1");
    let none = vec![(vec![any()], Action::Forward(Vec::new()))];
    world.put(row_of("TCPRoute", ("web", "own", Some(81)), none));
    assert_eq!(connected(&world, "web"), "404 the rule has no backend");
}

/// What a client half of `web` decides for a connection to port 81 and a request to port 80.
fn told(s: &Arc<Snapshot>) -> Vec<Record> {
    let (state, all) = (State::new(), RefCell::new(Vec::new()));
    let log = |entry: Entry| all.borrow_mut().push(entry.record);
    let source = caller(s, "web");
    let decide = |id: &str, port: u16, head: &RouteHead<'_>| {
        let id = id.into();
        let decider = Decider {
            snapshot: s,
            state: &state,
            id: &id,
            log: Some(&log),
        };
        drop(decider.destination(([240, 0, 0, 1], port).into()));
        let parent = parent(s, port);
        let Routed::Forward { by, .. } = decider.route(source, &parent, head, Dice(1)) else {
            panic!("it is forwarded");
        };
        drop(decider.effective(&parent.service, Some(&by), source));
    };
    decide("bytes", 81, &RouteHead::connection());
    let head = RouteHead {
        method: "GET",
        path: "/a",
        ..RouteHead::connection()
    };
    decide("request", 80, &head);
    all.into_inner()
}

#[test]
fn a_connection_is_routed_again_from_its_record() {
    let leads = |name| vec![(vec![any()], Action::Forward(vec![to(name, 1)]))];
    let mut world = world();
    world.change_service("api", "shop", |row| row.ports[1].protocol = Protocol::Tcp);
    world.put(row_of("TCPRoute", ("shop", "bytes", None), leads("v1")));
    world.put(row("shop", "pages", None, leads("v3")));
    let s = Arc::new(world.build());
    let records = told(&s);
    assert_eq!(records.len(), 6);
    for record in &records {
        assert_eq!(again(&s, record).unwrap(), *record);
    }
    // The control: where another route is in force, one of them comes out otherwise.
    world.put(row_of("TCPRoute", ("shop", "bytes", None), leads("v2")));
    let other = Arc::new(world.build());
    let differs = |record: &&Record| again(&other, record).unwrap() != **record;
    let different: Vec<&Record> = records.iter().filter(differs).collect();
    assert!(matches!(
        different[..],
        [Record {
            decision: Decision::Route(_),
            ..
        }]
    ));

    // Put together again, only the request has a head.
    let (mut observer, mut heads) = (Observer::default(), BTreeMap::new());
    let mut tell = |one| match one {
        Observed::Call(call) => drop(heads.insert(call.port, call.head.is_some())),
        other => panic!("{other:?}"),
    };
    for record in &records {
        observer.add(&s, record, &mut tell);
    }
    observer.end(&mut tell);
    assert_eq!(heads, BTreeMap::from([(80, true), (81, false)]));
}

#[test]
fn weights_are_kept_and_broken_shares_fail() {
    let mut world = world();
    let broken = Backend {
        weight: 20,
        to: BackendTo::Broken("Service shop/gone does not exist".into()),
    };
    let backends = vec![to("v1", 70), broken, to("v2", 10), to("v3", 0)];
    world.put(row(
        "shop",
        "split",
        None,
        vec![(vec![any()], Action::Forward(backends))],
    ));
    let s = world.build();
    let mut shares: BTreeMap<String, u32> = BTreeMap::new();
    for number in 0..10_000 {
        let told = short(&ask(&s, "web", 80, &get("/"), Dice(number)));
        *shares.entry(told).or_default() += 1;
    }
    let share = |name: &str| shares.get(name).copied().unwrap_or(0);
    assert!((6_800..7_200).contains(&share("v1")), "{shares:?}");
    assert!((850..1_150).contains(&share("v2")), "{shares:?}");
    let failed = share("500 Service shop/gone does not exist");
    assert!((1_850..2_150).contains(&failed), "{shares:?}");
    assert_eq!(share("v3"), 0);
}

/// What the only rule of `shop/api` makes of a request on port 80 or 81.
fn only(matched: RouteMatch, change: Option<PathChange>, action: Action, head: &Head) -> Routed {
    let mut world = world();
    let Row::Route(mut found) = row("shop", "r", None, vec![(vec![matched], action)]) else {
        panic!("no route");
    };
    Arc::make_mut(&mut found).rules[0].changes.path = change;
    world.put(Row::Route(found));
    let port = if head.host.ends_with(":81") { 81 } else { 80 };
    ask(&world.build(), "web", port, head, Dice(1))
}

/// The table of `HTTPPathModifier` in the Gateway API.
#[test]
fn paths_that_the_backend_sees() {
    let full = PathChange::Full("/all".into());
    let prefix_with = |text: &str| PathChange::Prefix(text.into());
    for (matched, change, path, expected) in [
        (prefix("/foo"), prefix_with("/xyz"), "/foo/bar", "/xyz/bar"),
        (prefix("/foo"), prefix_with("/xyz"), "/foo", "/xyz"),
        (prefix("/foo"), prefix_with("/xyz"), "/foo/", "/xyz/"),
        (prefix("/foo"), prefix_with(""), "/foo/bar", "/bar"),
        (prefix("/foo"), prefix_with(""), "/foo/", "/"),
        (prefix("/foo"), prefix_with(""), "/foo", "/"),
        (prefix(""), prefix_with("/xyz"), "/foo", "/xyz/foo"),
        (exact("/x"), full, "/x", "/all"),
    ] {
        let to = Action::Forward(vec![to("v1", 1)]);
        let Routed::Forward { path: seen, .. } = only(matched, Some(change), to, &get(path)) else {
            panic!("{path} is not forwarded");
        };
        assert_eq!(seen.as_deref(), Some(expected), "{path}");
    }
}

/// `HTTPRequestRedirectFilter` in the Gateway API.
#[test]
fn redirects() {
    let plain = Redirect {
        scheme: None,
        host: None,
        path: None,
        port: None,
        status: 302,
    };
    let https = Redirect {
        scheme: Some("https".into()),
        ..plain.clone()
    };
    let elsewhere = Redirect {
        host: Some("new.example.com".into()),
        path: Some(PathChange::Prefix("/new".into())),
        port: Some(8443),
        ..https.clone()
    };
    for (redirect, host, expected) in [
        (&plain, "shop", "http://shop/old/a?q=1"),
        (&plain, "shop:81", "http://shop:81/old/a?q=1"),
        (&plain, "[fd00::1]", "http://[fd00::1]/old/a?q=1"),
        (&plain, "[fd00::1]:81", "http://[fd00::1]:81/old/a?q=1"),
        (&plain, "", "/old/a?q=1"),
        (&https, "shop:81", "https://shop/old/a?q=1"),
        (&elsewhere, "shop", "https://new.example.com:8443/new/a?q=1"),
    ] {
        let head = Head {
            query: "q=1",
            host,
            ..get("/old/a")
        };
        let action = Action::Redirect(redirect.clone());
        let Routed::Redirect { location, .. } = only(prefix("/old"), None, action, &head) else {
            panic!("{host} is not redirected");
        };
        assert_eq!(location, expected);
    }
}

//! Explanations: the steps of a decision, and that they agree with enforcement.

use std::collections::BTreeMap;

use expect_test::{Expect, expect};
use tacit_decide::State;
use tacit_decide::health::SessionSign;
use tacit_decide::offline::Freshness;
use tacit_decide::why::{Answer, Question, Source, Verdict, explain, parse_target};
use tacit_model::access::{Action, From, Mode, PathPattern, Rule, To};
use tacit_model::tables::AccessRow;
use tacit_model::{Dice, WorkloadName};

use crate::world::{World, at, failover, identity, namespace, policy, seconds, shop};

/// Lines of at most 80 characters, continued with an indentation.
fn wrap(text: &str) -> String {
    let (mut out, mut width) = (String::new(), 0);
    for word in text.split(' ') {
        if width + word.len() > 80 {
            out.push_str("\n   ");
            width = 3;
        }
        let space = if out.is_empty() { "" } else { " " };
        out.push_str(space);
        out.push_str(word);
        width += word.len() + 1;
    }
    out + "\n"
}

fn told(answer: &Answer) -> String {
    let mut text = String::new();
    for step in &answer.trace.0 {
        let from = step
            .from
            .as_ref()
            .map(|from| format!(" <- {from}"))
            .unwrap_or_default();
        let assumed = if step.assumed { " (assumed)" } else { "" };
        text.push_str(&wrap(&format!(
            "{}: {}{from}{assumed}",
            step.topic, step.outcome
        )));
    }
    text.push_str(&match &answer.verdict {
        Verdict::Allowed { served_by, .. } => match served_by {
            Some(workload) => format!("allowed, served by {workload}\n"),
            None => "allowed, leaves the mesh\n".into(),
        },
        Verdict::Denied(denial) => format!("denied {}\n", denial.kind.status()),
    });
    text
}

fn question(url: &str) -> Question {
    let (host, port, path) = parse_target(url).unwrap();
    Question {
        from: Source::Workload(WorkloadName::parse("shop", "web-1").unwrap()),
        host,
        port,
        method: "GET".into(),
        path,
        headers: BTreeMap::new(),
    }
}

fn check(world: &World, state: Option<&State>, question: &Question, expected: &Expect) {
    let s = world.build();
    let answer = explain(&s, state, Freshness::Fresh, question, seconds(0), Dice(1));
    expected.assert_eq(&told(&answer));
}

fn guarded() -> World {
    let mut world = shop(1);
    world.change_service("payments", "shop", |row| row.failover = Some(failover()));
    let row = AccessRow {
        name: policy("ledger", "shop"),
        action: Action::Allow,
        mode: Mode::Enforce,
        rules: vec![Rule {
            from: vec![From {
                namespaces: Some([namespace("shop")].into()),
                ..From::default()
            }],
            to: vec![To {
                paths: Some([PathPattern::Prefix("/charge/".into())].into()),
                ..To::default()
            }],
            path: "spec.rules[0]".into(),
        }],
        broken: None,
    };
    world.access(row, "shop", "payments", Some("payments"));
    world
}

#[test]
fn an_allowed_call() {
    let url = "http://payments/charge/17";
    check(
        &guarded(),
        None,
        &question(url),
        &expect![[r#"
            destination: 240.0.0.1:80 is service payments.shop
            order: step 1: zone same: 1 of 1 usable <- default (assumed)
            order: step 2: region same: 1 of 1 usable <- default (assumed)
            order: step 3: anywhere: 1 of 1 usable <- default (assumed)
            endpoint: shop/payments-a-1 at c/r1/a (assumed)
            timeout: connect 1s
            timeout: request none
            timeout: perTry none
            retry: attempts 0
            retry: on ConnectFailure, RefusedStream
            isolation: namespace shop belongs to no workspace
            access: AccessPolicy shop/ledger allows shop/web to call port 8080 of
                shop/payments-a-1 <- AccessPolicy/shop/ledger spec.rules[0]
            allowed, served by shop/payments-a-1
        "#]],
    );
}

#[test]
fn a_refused_path_and_a_refused_caller() {
    let refused = expect![[r#"
        destination: 240.0.0.1:80 is service payments.shop
        order: step 1: zone same: 1 of 1 usable <- default (assumed)
        order: step 2: region same: 1 of 1 usable <- default (assumed)
        order: step 3: anywhere: 1 of 1 usable <- default (assumed)
        endpoint: shop/payments-a-1 at c/r1/a (assumed)
        timeout: connect 1s
        timeout: request none
        timeout: perTry none
        retry: attempts 0
        retry: on ConnectFailure, RefusedStream
        isolation: namespace shop belongs to no workspace
        access: shop/web may not call port 8080 of shop/payments-a-1: no rule of
            AccessPolicy shop/ledger allows it <- AccessPolicy/shop/ledger spec.rules
        denied 403
    "#]];
    check(
        &guarded(),
        None,
        &question("http://payments.shop/admin"),
        &refused,
    );
    let mut stranger = question("http://payments.shop/charge/17");
    stranger.from = Source::Identity(identity("edge", "bot"), at("r2", "c"));
    check(
        &guarded(),
        None,
        &stranger,
        &expect![[r#"
            destination: 240.0.0.1:80 is service payments.shop
            order: step 1: zone same: 1 of 1 usable <- default (assumed)
            order: step 2: region same: 0 of 0 usable <- default (assumed)
            order: step 3: anywhere: 2 of 2 usable <- default (assumed)
            endpoint: shop/payments-c-1 at c/r2/c (assumed)
            timeout: connect 1s
            timeout: request none
            timeout: perTry none
            retry: attempts 0
            retry: on ConnectFailure, RefusedStream
            isolation: namespace shop belongs to no workspace
            access: edge/bot may not call port 8080 of shop/payments-c-1: no rule of
                AccessPolicy shop/ledger allows it <- AccessPolicy/shop/ledger spec.rules
            denied 403
        "#]],
    );
}

#[test]
fn with_the_state_of_the_node() {
    let state = State::new();
    for zone in 1..=3 {
        let address = [10, 0, zone, 1].into();
        state.on_session(address, SessionSign::Lost, seconds(0));
    }
    check(
        &guarded(),
        Some(&state),
        &question("http://payments.shop.svc.cluster.local:80/charge/1"),
        &expect![[r#"
            destination: 240.0.0.1:80 is service payments.shop
            order: step 1: zone same: 0 of 1 usable, 1 unreachable <- default
            order: step 2: region same: 0 of 1 usable, 1 unreachable <- default
            order: step 3: anywhere: 0 of 1 usable, 1 unreachable <- default
            endpoint: no endpoint of service payments.shop can serve port 80: zone same: 0
                of 1 usable, 1 unreachable; region same: 0 of 1 usable, 1 unreachable;
                anywhere: 0 of 1 usable, 1 unreachable <- default
            denied 503
        "#]],
    );
}

#[test]
fn other_destinations() {
    let world = shop(1);
    let ask = |url: &str, expected: &Expect| check(&world, None, &question(url), expected);
    ask(
        "http://nowhere.shop/",
        &expect![[r#"
        destination: there is no service "nowhere.shop" in the mesh
        denied 503
    "#]],
    );
    ask(
        "payments:81",
        &expect![[r#"
        destination: service payments.shop has no port 81; it has 80
        denied 503
    "#]],
    );
    ask(
        "tcp://192.0.2.7:443",
        &expect![[r#"
        destination: 192.0.2.7:443 is outside the mesh <- default
        allowed, leaves the mesh
    "#]],
    );
    ask(
        "tcp://10.0.1.1:9000",
        &expect![[r#"
            destination: 10.0.1.1:9000 is workload shop/payments-a-1
            isolation: namespace shop belongs to no workspace
            access: no Allow applies to port 9000 of shop/payments-a-1, and the default lets
                shop/web in <- default
            allowed, served by shop/payments-a-1
        "#]],
    );
}

#[test]
fn an_expired_node_denies() {
    let s = shop(1).build();
    let question = question("http://payments/");
    let answer = explain(&s, None, Freshness::Expired, &question, seconds(0), Dice(1));
    assert!(matches!(answer.verdict, Verdict::Denied(_)));
}

#[test]
fn targets() {
    let good = [
        ("http://a.b/c?d", ("a.b", 80, "/c?d")),
        ("http://a:8080", ("a", 8080, "/")),
        ("tcp://a:1", ("a", 1, "/")),
        ("a:1/x", ("a", 1, "/x")),
        ("http://[fd00::1]:81/x", ("fd00::1", 81, "/x")),
        ("http://[fd00::1]/x", ("fd00::1", 80, "/x")),
    ];
    for (text, (host, port, path)) in good {
        let expected = Ok((host.to_owned(), port, path.to_owned()));
        assert_eq!(parse_target(text), expected, "{text}");
    }
    for text in [
        "",
        "a",
        "https://a",
        "tcp://a",
        "http://",
        "http://:80",
        "a:99999",
        "a:x",
    ] {
        assert!(parse_target(text).is_err(), "{text}");
    }
}

#[test]
fn an_address_of_the_mesh_that_nobody_has_says_whose_range_it_is_in() {
    let world = shop(1);
    check(
        &world,
        None,
        &question("http://10.0.9.9/"),
        &expect![[r#"
        destination: no workload has the address 10.0.9.9, which is of the mesh's range
            10.0.0.0/16 for workloads: it ended, or this node does not know of it yet <-
            Mesh/default spec.workloadAddresses.ipv4
        denied 503
    "#]],
    );
    check(
        &world,
        None,
        &question("http://192.0.2.1/"),
        &expect![[r#"
        destination: 192.0.2.1:80 is outside the mesh <- default
        allowed, leaves the mesh
    "#]],
    );
}

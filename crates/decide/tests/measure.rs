//! Measures how long a decision takes; ignored unless asked for.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use tacit_decide::{RouteHead, ServiceTarget, route};
use tacit_model::route::{
    Action, Backend, BackendTo, Changes, PathMatch, RouteKey, RouteMatch, RouteRow, RouteRule,
};
use tacit_model::tables::Row;
use tacit_model::{Dice, ObjectRef, Provenance};

use crate::world::{namespace, service_name, shop};

const RULES: usize = 1000;
const DECISIONS: u32 = 20_000;

/// One route at payments whose rules each ask for a path of their own, every fourth an exact one.
fn routes(rules: usize) -> Row {
    let parent = service_name("payments", "shop");
    let rule = |index: usize| RouteRule {
        from: Provenance::Default,
        matches: vec![RouteMatch {
            path: match index % 4 {
                0 => PathMatch::Exact(format!("/v1/exact/{index}").into()),
                _ => PathMatch::Prefix(format!("/v1/part/{index}").into()),
            },
            method: None,
            headers: Vec::new(),
            query: Vec::new(),
        }],
        changes: Changes::default(),
        action: Action::Forward(vec![Backend {
            weight: 1,
            to: BackendTo::Service {
                service: parent.clone(),
                port: 80,
            },
        }]),
        resilience: None,
    };
    Row::Route(Arc::new(RouteRow {
        key: RouteKey {
            route: ObjectRef {
                kind: "HTTPRoute".into(),
                namespace: Some(namespace("shop")),
                name: "many".try_into().unwrap(),
            },
            parent: parent.clone(),
            port: None,
        },
        namespace: namespace("shop"),
        rules: (0..rules).map(rule).collect(),
    }))
}

#[test]
#[ignore = "a measurement: cargo test -p tacit-decide -- --ignored --nocapture route_among"]
fn route_among_many_rules() {
    for rules in [10, 100, RULES] {
        let mut world = shop(1);
        world.put(routes(rules));
        let s = world.build();
        let service = s.services[&service_name("payments", "shop")].clone();
        let port = service.ports[0].clone();
        let parent = ServiceTarget { service, port };
        let mut rows = s.workloads.values();
        let source = rows.find(|row| row.name.name.as_str() == "web-1").unwrap();
        let last = format!("/v1/part/{}/orders/17", rules - 1);
        for (what, path) in [
            ("the last rule", &*last),
            ("no rule", "/v2/part/7/orders/17"),
        ] {
            let head = RouteHead {
                method: "GET",
                path,
                query: "",
                host: "payments.shop",
                header: &|_| None,
            };
            let start = Instant::now();
            for dice in 0..DECISIONS {
                black_box(route(&s, source, &parent, &head, Dice(dice.into())));
            }
            let each = start.elapsed() / DECISIONS;
            println!("{rules} rules, {what}: {each:?}");
        }
    }
}

//! Where traffic goes, and that the shares are those of the dice.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use expect_test::{Expect, expect};
use tacit_decide::{Ask, choose, odds};
use tacit_model::Dice;

use super::{Simulation, Traffic, simulate, source};
use crate::down::{Down, parse, settled};
use crate::fixture::{compiled, mesh};

fn down(places: &[&str]) -> Down {
    Down::new(places.iter().map(|text| parse(text).unwrap()).collect())
}

fn render(simulation: &Simulation) -> String {
    let mut out = String::new();
    let told = |traffic: &Traffic| match traffic {
        Traffic::ClientsDown => "-".to_owned(),
        Traffic::Fails(why) => why.clone(),
        Traffic::Served(shares) => {
            let each = shares.iter().map(|share| {
                let fallback = share.fallback.as_deref().unwrap_or_default();
                format!(
                    "{}{fallback} {}/{}",
                    share.place, share.per_million, share.endpoints
                )
            });
            each.collect::<Vec<_>>().join(" + ")
        }
    };
    for flow in &simulation.flows {
        let (service, clients) = (&flow.service, &flow.clients);
        let (now, then) = (told(&flow.now), told(&flow.then));
        let through = flow.through.as_ref().map(|through| {
            let (rule, backend) = (&through.rule, &through.backend);
            format!(" {rule} {}/{} {backend}", through.weight, through.of)
        });
        let through = through.unwrap_or_default();
        let mark = if flow.breaks() { "!" } else { "" };
        out.push_str(&format!(
            "{service}{through} {clients}: {now} => {then}{mark}\n"
        ));
    }
    for armed in &simulation.armed {
        out.push_str(&format!(
            "{} {} {}\n",
            armed.policy, armed.armed, armed.message
        ));
    }
    out.push_str(&simulation.without_workloads.join(", "));
    out
}

fn check(places: &[&str], expected: &Expect) {
    let compiled = compiled(&[&mesh()]);
    expected.assert_eq(&render(&simulate(&compiled, &down(places))));
}

#[test]
fn a_zone_is_lost() {
    check(
        &["zone=us-east-1a"],
        &expect![[r#"
        db.shop east/us-east/us-east-1a: east/us-east/us-east-1a 1000000/1 => -
        db.shop east/us-east/us-east-1b: east/us-east/us-east-1a 1000000/1 => no endpoint of service db.shop can serve port 5432: own cluster: 0 of 1 usable, 1 unreachable!
        db.shop east/us-west/us-west-2a: east/us-east/us-east-1a 1000000/1 => no endpoint of service db.shop can serve port 5432: own cluster: 0 of 1 usable, 1 unreachable!
        payments.shop east/us-east/us-east-1a: east/us-east/us-east-1a 1000000/1 => -
        payments.shop east/us-east/us-east-1b: east/us-east/us-east-1b 1000000/1 => east/us-east/us-east-1b 1000000/1
        payments.shop east/us-west/us-west-2a: no endpoint of service payments.shop can serve port 80: zone same: 0 of 0 usable; region same: 0 of 0 usable => no endpoint of service payments.shop can serve port 80: zone same: 0 of 0 usable; region same: 0 of 0 usable
        FailoverPolicy/shop/payments true every client has a second place to go to
        ledger.shop"#]],
    );
}

#[test]
fn a_workload_and_a_node_are_lost() {
    check(
        &["workload=shop/payments-a", "node=node-us-east-1b"],
        &expect![[r#"
            db.shop east/us-east/us-east-1a: east/us-east/us-east-1a 1000000/1 => east/us-east/us-east-1a 1000000/1
            db.shop east/us-east/us-east-1b: east/us-east/us-east-1a 1000000/1 => -
            db.shop east/us-west/us-west-2a: east/us-east/us-east-1a 1000000/1 => east/us-east/us-east-1a 1000000/1
            payments.shop east/us-east/us-east-1a: east/us-east/us-east-1a 1000000/1 => no endpoint of service payments.shop can serve port 80: zone same: 0 of 1 usable, 1 unreachable; region same: 0 of 1 usable, 1 unreachable!
            payments.shop east/us-east/us-east-1b: east/us-east/us-east-1b 1000000/1 => -
            payments.shop east/us-west/us-west-2a: no endpoint of service payments.shop can serve port 80: zone same: 0 of 0 usable; region same: 0 of 0 usable => no endpoint of service payments.shop can serve port 80: zone same: 0 of 0 usable; region same: 0 of 0 usable
            FailoverPolicy/shop/payments true every client has a second place to go to
            ledger.shop"#]],
    );
}

/// Two services of which one falls back to the other, with weights.
const WEIGHTS: &str = "\
---
apiVersion: v1
kind: Service
metadata: {name: lite, namespace: shop}
spec: {selector: {app: frontend}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: tacit.dev/v1alpha1
kind: FailoverPolicy
metadata: {name: weights, namespace: shop}
spec:
  targetRefs: [{group: '', kind: Service, name: db}]
  order:
  - places: [{zone: us-east-1a, weight: 3}, {zone: us-east-1b, weight: 1}]
---
apiVersion: tacit.dev/v1alpha1
kind: Workload
metadata: {name: db-b, namespace: shop, labels: {app: db}}
spec: {serviceAccount: db, node: n, locality: {zone: us-east-1b}}
---
apiVersion: tacit.dev/v1alpha1
kind: Workload
metadata: {name: db-c, namespace: shop, labels: {app: db}}
spec: {serviceAccount: db, node: n, locality: {zone: us-east-1b}}
";

#[test]
fn shares_are_those_of_the_dice() {
    let compiled = compiled(&[&mesh(), WEIGHTS]);
    let s = &compiled.snapshot;
    for places in [
        &[][..],
        &["workload=shop/db-b"],
        &["workload=shop/payments-a"],
    ] {
        let state = down(places).state(s);
        for service in s
            .services
            .values()
            .filter(|service| !s.endpoints(&service.name).is_empty())
        {
            for client in compiled.localities() {
                let source = source(s, &service.name, &client).unwrap();
                let port = &service.ports[0];
                let ask = Ask {
                    source: &source,
                    service,
                    port,
                    tried: &[],
                    control_stale: false,
                };
                let mut drawn: BTreeMap<SocketAddr, u64> = BTreeMap::new();
                for dice in 0..2000 {
                    if let Ok(choice) = choose(s, &state, &ask, settled(), Dice(dice)) {
                        *drawn.entry(choice.endpoint).or_default() += 500;
                    }
                }
                let mut exact: BTreeMap<SocketAddr, u64> = BTreeMap::new();
                for one in odds(s, &state, &ask, settled()).unwrap_or_default() {
                    *exact.entry(one.endpoint).or_default() += one.per_million;
                }
                assert!(drawn.keys().eq(exact.keys()), "{drawn:?} {exact:?}");
                for (endpoint, share) in &exact {
                    assert!(
                        drawn[endpoint].abs_diff(*share) < 60_000,
                        "{drawn:?} {exact:?}"
                    );
                }
            }
        }
    }
}

/// Every backend of a rule is asked on its own; a service that every caller reaches by a route is
/// not asked itself.
#[test]
fn routes_are_followed() {
    let route = "\
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: payments, namespace: shop}
spec:
  parentRefs: [{group: '', kind: Service, name: payments}]
  rules:
  - matches: [{path: {value: /v2}}]
    backendRefs: [{name: v2, port: 80, weight: 1}, {name: payments, port: 80, weight: 3}]
  - matches: [{path: {value: /ledger}}]
    backendRefs: [{name: ledger, port: 80}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: db, namespace: edge}
spec:
  parentRefs: [{group: '', kind: Service, name: v2, namespace: shop}]
  rules: [{backendRefs: [{name: payments, namespace: shop, port: 80}]}]
---
apiVersion: v1
kind: Service
metadata: {name: v2, namespace: shop}
spec: {selector: {app: db}, ports: [{name: http, port: 80, targetPort: 8080}]}
";
    let compiled = compiled(&[&(mesh() + route)]);
    let simulation = simulate(&compiled, &down(&["zone=us-east-1a"]));
    let text = render(&simulation);
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("us-east-1b:"))
        .collect();
    expect![[r#"
        db.shop east/us-east/us-east-1b: east/us-east/us-east-1a 1000000/1 => no endpoint of service db.shop can serve port 5432: own cluster: 0 of 1 usable, 1 unreachable!
        payments.shop HTTPRoute/shop/payments spec.rules[0] 1/4 v2.shop:80 east/us-east/us-east-1b: east/us-east/us-east-1a 1000000/1 => no endpoint of service v2.shop can serve port 80: own cluster: 0 of 1 usable, 1 unreachable!
        payments.shop HTTPRoute/shop/payments spec.rules[0] 3/4 payments.shop:80 east/us-east/us-east-1b: east/us-east/us-east-1b 1000000/1 => east/us-east/us-east-1b 1000000/1
        v2.shop east/us-east/us-east-1b: east/us-east/us-east-1a 1000000/1 => no endpoint of service v2.shop can serve port 80: own cluster: 0 of 1 usable, 1 unreachable!
        v2.shop HTTPRoute/edge/db spec.rules[0] 1/1 payments.shop:80 east/us-east/us-east-1b: east/us-east/us-east-1b 1000000/1 => east/us-east/us-east-1b 1000000/1"#]].assert_eq(&lines.join("\n"));
}

/// Connections follow routes of their own, and of two kinds at one port only the first counts.
#[test]
fn only_routes_that_hold_are_followed() {
    let routes = "\
---
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: TCPRoute
metadata: {name: db, namespace: shop}
spec:
  parentRefs: [{group: '', kind: Service, name: db}]
  rules: [{backendRefs: [{name: db, port: 5432, weight: 3}, {name: next, port: 5432}]}]
---
apiVersion: v1
kind: Service
metadata: {name: next, namespace: shop}
spec: {selector: {app: db}, ports: [{name: raw, port: 5432}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: calls, namespace: shop}
spec:
  parentRefs: [{group: '', kind: Service, name: payments, port: 80}]
  rules: [{backendRefs: [{name: payments, port: 80}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: pages, namespace: shop}
spec:
  parentRefs: [{group: '', kind: Service, name: payments}]
  rules: [{backendRefs: [{name: payments, port: 80}]}]
";
    let told = |text: &str| {
        let text = render(&simulate(&compiled(&[text]), &down(&["zone=us-east-1a"])));
        let legs = text.lines().filter(|line| line.contains("us-east-1b:"));
        let legs = legs.filter_map(|line| line.split(" east/").next());
        legs.map(|leg| format!("{leg}\n")).collect::<String>()
    };
    expect![[r#"
        db.shop TCPRoute/shop/db spec.rules[0] 3/4 db.shop:5432
        db.shop TCPRoute/shop/db spec.rules[0] 1/4 next.shop:5432
        next.shop
        payments.shop GRPCRoute/shop/calls spec.rules[0] 1/1 payments.shop:80
    "#]]
    .assert_eq(&told(&(mesh() + routes)));
    // The control: without the GRPCRoute the HTTPRoute holds at the port.
    let (other, rest) = routes
        .split_once("---\napiVersion: gateway.networking.k8s.io/v1\n")
        .unwrap();
    let (_, pages) = rest.split_once("---\n").unwrap();
    expect![[r#"
        db.shop TCPRoute/shop/db spec.rules[0] 3/4 db.shop:5432
        db.shop TCPRoute/shop/db spec.rules[0] 1/4 next.shop:5432
        next.shop
        payments.shop HTTPRoute/shop/pages spec.rules[0] 1/1 payments.shop:80
    "#]]
    .assert_eq(&told(&(mesh() + other + "---\n" + pages)));
}

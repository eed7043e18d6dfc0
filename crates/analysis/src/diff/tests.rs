//! What differs, in words; and that a call whose outcome differs is always among it.

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::{Diff, Kind, diff};
use crate::fixture::{compiled, mesh};

mod random;
mod random_routes;

fn render(diff: &Diff) -> String {
    let mut out = String::new();
    for change in &diff.changes {
        let line = change.line.as_ref().map(|line| line.position.to_string());
        let rule = change.rule.as_ref();
        let lines = [
            format!("{} {:?}", change.destination, change.change),
            change.callers.join(", "),
            change.places.join(", "),
            change.requests.join("; "),
            format!("{} => {}", change.before, change.after),
            line.unwrap_or_default(),
            rule.map(|rule| format!("following {rule}"))
                .unwrap_or_default(),
        ];
        for line in lines.iter().filter(|line| !line.is_empty()) {
            out.push_str(&format!("{line}\n"));
        }
    }
    for why in &diff.unknown {
        out.push_str(&format!("unknown: {why}\n"));
    }
    out
}

fn check(change: impl Fn(String) -> String, expected: &Expect) {
    let before = compiled(&[&mesh()]);
    let after = compiled(&[&change(mesh())]);
    expected.assert_eq(&render(&diff(&before, &after)));
}

#[test]
fn the_same_is_no_difference() {
    check(|mesh| mesh, &expect![[""]]);
    // Neither is another order of the objects or a comment.
    let before = compiled(&[&mesh()]);
    let all = mesh();
    let mut documents: Vec<&str> = all.split("---\n").collect();
    documents.reverse();
    let after = compiled(&["# Nothing.\n", &documents.join("---\n")]);
    assert_eq!(diff(&before, &after), Diff::default());
}

#[test]
fn access() {
    let change = |mesh: String| {
        mesh.replace("paths: [/accounts/*]", "paths: [/accounts/*, /health]")
            .replace(
                "serviceAccounts: [frontend]",
                "serviceAccounts: [frontend, audit]",
            )
    };
    check(
        change,
        &expect![[r#"
            ledger.shop:80 NewlyAllowed
            shop/frontend
            GET /health
            denied => allowed
            0.yaml:44:11
            ledger.shop:80 NewlyAllowed
            shop/audit
            GET /health, /accounts/*
            denied => allowed
            0.yaml:44:11
        "#]],
    );
    let deny = "\
---
apiVersion: tacit.dev/v1alpha1
kind: AccessPolicy
metadata: {name: no-writes, namespace: shop}
spec:
  targetRefs: [{group: '', kind: Service, name: payments}]
  action: Deny
  rules: [{from: [{cidrs: [10.0.0.0/8], namespaces: [shop]}], to: [{methods: [POST, PUT], hosts: ['*.shop']}]}]
";
    check(
        |mesh| mesh + deny,
        &expect![[r#"
            payments.shop:80 NewlyDenied
            shop/db from 10.0.0.0/8, shop/frontend from 10.0.0.0/8, shop/payments from 10.0.0.0/8, other accounts of shop from 10.0.0.0/8
            POST, PUT with host *.shop
            allowed => denied
            0.yaml:77:11
        "#]],
    );
}

#[test]
fn limits_and_routes() {
    let change = |mesh: String| {
        mesh.replace("request: 2s", "request: 3s")
            .replace(
                "attempts: 2}",
                "attempts: 2}\n  from: [{serviceAccounts: [frontend]}]",
            )
            .replace(", {places: [{region: same}]}", "")
    };
    check(
        change,
        &expect![[r#"
            payments.shop Limits
            shop/db, shop/payments, other accounts of shop, accounts of other namespaces
            retry.attempts 2 => retry.attempts 0
            payments.shop Limits
            shop/frontend
            timeout.request 2s => timeout.request 3s
            0.yaml:28:22
            payments.shop Limits
            shop/db, shop/payments, other accounts of shop, accounts of other namespaces
            timeout.request 2s => timeout.request none
            payments.shop:80 Routes
            east/us-east/us-east-1a
            east/us-east/us-east-1a, then east/us-east/us-east-1b => east/us-east/us-east-1a
            0.yaml:37:3
            payments.shop:80 Routes
            east/us-east/us-east-1b
            east/us-east/us-east-1b, then east/us-east/us-east-1a => east/us-east/us-east-1b
            0.yaml:37:3
        "#]],
    );
    let change = |mesh: String| mesh.replace("name: db, namespace", "name: data, namespace");
    check(
        change,
        &expect![[r#"
            data.shop:5432 Added
             => 
            db.shop:5432 Removed
             => 
        "#]],
    );
    let change = |mesh: String| mesh.replace("cluster: east", "cluster: east\n  egress: Deny");
    check(
        change,
        &expect![[r#"
            outside the mesh Settings
            Allow => Deny
            0.yaml:6:11
        "#]],
    );
}

#[test]
fn faults() {
    let policy = |more: &str| {
        format!(
            "---\napiVersion: tacit.dev/v1alpha1\nkind: FaultPolicy\nmetadata: {{name: chaos, \
             namespace: shop}}\nspec:\n  targetRefs: [{{group: '', kind: Service, name: \
             payments}}]\n  until: 2099-01-31T00:00:00Z\n{more}"
        )
    };
    let all = policy("  delay: {time: 2s, sharePercent: 10}\n");
    check(
        |mesh| mesh + &all,
        &expect![[r#"
        payments.shop:80 Settings
        fault none => fault 10 % of requests wait 2s until 2099-01-31T00:00:00Z
        0.yaml:77:3
    "#]],
    );
    let some = all.clone() + "  from: [{serviceAccounts: [web]}]\n";
    check(
        |mesh| mesh + &some,
        &expect![[r#"
        payments.shop:80 Settings
        shop/web
        fault none => fault 10 % of requests wait 2s until 2099-01-31T00:00:00Z
        0.yaml:77:3
    "#]],
    );
    let both = |policy: &str| compiled(&[&mesh(), policy]);
    let other_name = all.replace("chaos", "other");
    assert_eq!(render(&diff(&both(&all), &both(&other_name))), "");
    let other = all + "  abort: {status: 503, sharePercent: 1}\n";
    expect![[r#"
        payments.shop:80 Settings
        fault 10 % of requests wait 2s until 2099-01-31T00:00:00Z => fault 10 % of requests wait 2s, 1 % of requests are answered 503 until 2099-01-31T00:00:00Z
        1.yaml:8:3
    "#]].assert_eq(&render(&diff(&both(&other_name), &both(&other))));
}

#[test]
fn rates() {
    let policy = |limits: &str| {
        format!(
            "---\napiVersion: tacit.dev/v1alpha1\nkind: RateLimitPolicy\nmetadata: {{name: calm, \
             namespace: shop}}\nspec:\n  targetRefs: [{{group: '', kind: Service, name: \
             payments}}]\n  limits: [{limits}]\n"
        )
    };
    check(
        |mesh| mesh + &policy("{requests: 10, per: 1s, key: [{type: Identity}]}"),
        &expect![[r#"
            payments.shop:80 Settings
            rate none => rate 10 requests per 1s, 10 at once, for each caller
            0.yaml:76:12
        "#]],
    );
    let both = |limits: &str| compiled(&[&mesh(), &policy(limits)]);
    let of = |old: &str, new: &str| render(&diff(&both(old), &both(new)));
    // 10 at once is what is meant where no burst is written.
    let same = of(
        "{requests: 10, per: 1s}",
        "{requests: 10, per: 1s, burst: 10}",
    );
    assert_eq!(same, "");
    let other = of(
        "{requests: 10, per: 1s}",
        "{requests: 10, per: 1s, burst: 11}",
    );
    expect![[r#"
        payments.shop:80 Settings
        rate 10 requests per 1s, 10 at once => rate 10 requests per 1s, 11 at once
        1.yaml:7:12
    "#]]
    .assert_eq(&other);
}

#[test]
fn what_cannot_be_said_is_said() {
    let policy = "\
---
apiVersion: tacit.dev/v1alpha1
kind: AccessPolicy
metadata: {name: canary, namespace: shop}
spec:
  targetSelectors: [{group: tacit.dev, kind: Workload, matchLabels: {track: canary}}]
  action: Deny
  rules: [{}]
";
    check(
        |mesh| mesh + policy,
        &expect![[r#"
        unknown: no Workload in the files is behind service ledger.shop, and whether AccessPolicy/shop/canary applies depends on labels of its workloads that the Service does not select by
    "#]],
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// A call of which another outcome is told apart by `decide` is in the differences; so if
    /// there are none, no call differs.
    #[test]
    fn no_difference_is_missed(seed in any::<u64>()) {
        let mut random = random::Random::new(seed);
        let (before, after) = random.pair();
        let (old, new) = (compiled(&[&before]), compiled(&[&after]));
        let found = diff(&old, &new);
        for _ in 0..60 {
            let call = random.call();
            if let Err(missed) = random::covers(&found, (&old, &new), &call) {
                let told = render(&found);
                prop_assert!(false, "{missed}\n{call:?}\n{told}\n{before}\n=====\n{after}");
            }
        }
    }
}

#[test]
fn random_meshes_differ_often_enough_to_tell() {
    let kinds = |kind: Kind| {
        let differs = |seed: &u64| {
            let (before, after) = random::Random::new(*seed).pair();
            let found = diff(&compiled(&[&before]), &compiled(&[&after]));
            found.changes.iter().any(|change| change.change == kind)
        };
        (0..60).filter(differs).count()
    };
    for kind in [
        Kind::NewlyAllowed,
        Kind::NewlyDenied,
        Kind::Limits,
        Kind::Routes,
    ] {
        assert!(kinds(kind) > 3, "{kind:?}");
    }
}

/// A route at payments: a canary by header, a share for `ledger`, a redirect.
const ROUTE: &str = "\
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: payments, namespace: shop}
spec:
  parentRefs: [{group: '', kind: Service, name: payments}]
  rules:
  - matches: [{path: {value: /charge}, headers: [{name: x-canary, value: 'yes'}]}]
    backendRefs: [{name: ledger, port: 80}]
  - matches: [{path: {value: /charge}}]
    backendRefs: [{name: payments, port: 80, weight: 95}, {name: ledger, port: 80, weight: 5}]
  - matches: [{path: {value: /books}}]
    filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /accounts}}}]
    backendRefs: [{name: ledger, port: 80}]
  - matches: [{path: {value: /old}}]
    filters: [{type: RequestRedirect, requestRedirect: {hostname: new.example.com}}]
";

#[test]
fn a_first_route() {
    let same = compiled(&[&(mesh() + ROUTE)]);
    assert_eq!(diff(&same, &same), Diff::default());
    check(
        |mesh| mesh + ROUTE,
        &expect![[r#"
        payments.shop:80 Rerouted
        any method paths without a canonical form
        payments.shop:80 => answered 400
        payments.shop:80 Rerouted
        any method /accounts/*, other paths
        payments.shop:80 => answered 404
        payments.shop:80 Rerouted
        any method /charge, /charge/* with x-canary: yes
        payments.shop:80 => ledger.shop:80
        0.yaml:77:5
        payments.shop:80 Rerouted
        any method /charge, /charge/* with no header or parameter of a rule
        payments.shop:80 => 1/20 ledger.shop:80 + 19/20 payments.shop:80
        0.yaml:79:5
        payments.shop:80 Rerouted
        any method /books, /books/*
        payments.shop:80 => ledger.shop:80
        0.yaml:81:5
        payments.shop:80 Rerouted
        any method /old, /old/*
        payments.shop:80 => redirected 302 to host new.example.com
        0.yaml:84:5
        payments.shop:80 NewlyDenied
        east/us-east/us-east-1a, east/us-east/us-east-1b
        any method /charge, /charge/* with x-canary: yes
        allowed => denied
        0.yaml:44:3
        following HTTPRoute/shop/payments spec.rules[0]
        payments.shop:80 NewlyDenied
        east/us-east/us-east-1a, east/us-east/us-east-1b
        any method /charge, /charge/* with no header or parameter of a rule
        allowed => denied at ledger.shop:80, allowed at payments.shop:80
        0.yaml:44:3
        following HTTPRoute/shop/payments spec.rules[1]
        payments.shop:80 NewlyDenied
        shop/db, shop/payments, other accounts of shop, accounts of other namespaces
        east/us-east/us-east-1a, east/us-east/us-east-1b
        any method /books, /books/*
        allowed => denied
        0.yaml:44:3
        following HTTPRoute/shop/payments spec.rules[2]
        payments.shop:80 NewlyDenied
        shop/frontend
        east/us-east/us-east-1a, east/us-east/us-east-1b
        GET /books; other methods /books, /books/*
        allowed => denied
        0.yaml:44:3
        following HTTPRoute/shop/payments spec.rules[2]
    "#]],
    );
}

fn check_route(change: impl Fn(String) -> String, expected: &Expect) {
    let before = compiled(&[&(mesh() + ROUTE)]);
    let after = compiled(&[&change(mesh() + ROUTE)]);
    expected.assert_eq(&render(&diff(&before, &after)));
}

#[test]
fn connections_that_go_elsewhere() {
    let mesh = "\
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {selector: {app: db}, ports: [{name: raw, port: 5432}]}
---
apiVersion: v1
kind: Service
metadata: {name: next, namespace: shop}
spec: {selector: {app: next}, ports: [{name: raw, port: 5432}]}
---
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: TCPRoute
metadata: {name: db, namespace: shop}
spec:
  parentRefs: [{group: '', kind: Service, name: db}]
  rules:
  - backendRefs: [{name: db, port: 5432, weight: 3}, {name: next, port: 5432}]
";
    let told = |after: &str| render(&diff(&compiled(&[mesh]), &compiled(&[after])));
    assert_eq!(told(mesh), "");
    expect![[r#"
        db.shop:5432 Rerouted
        3/4 db.shop:5432 + 1/4 next.shop:5432 => 4/5 db.shop:5432 + 1/5 next.shop:5432
        0.yaml:17:5
    "#]]
    .assert_eq(&told(&mesh.replace("weight: 3", "weight: 4")));
    // Without the route.
    let (services, _) = mesh.rsplit_once("---").unwrap();
    expect![[r#"
        db.shop:5432 Rerouted
        3/4 db.shop:5432 + 1/4 next.shop:5432 => db.shop:5432
        0.yaml:17:5
    "#]]
    .assert_eq(&told(services));
}

#[test]
fn changed_routes() {
    let change = |mesh: String| {
        mesh.replace("weight: 95", "weight: 90")
            .replace("weight: 5}", "weight: 10}")
    };
    check_route(
        change,
        &expect![[r#"
        payments.shop:80 Rerouted
        any method /charge, /charge/* with no header or parameter of a rule
        1/20 ledger.shop:80 + 19/20 payments.shop:80 => 1/10 ledger.shop:80 + 9/10 payments.shop:80
        0.yaml:79:5
    "#]],
    );
    let change = |mesh: String| {
        mesh.replace(
            "replacePrefixMatch: /accounts",
            "replacePrefixMatch: /private",
        )
        .replace(
            "hostname: new.example.com",
            "hostname: newer.example.com, statusCode: 301",
        )
    };
    check_route(
        change,
        &expect![[r#"
        payments.shop:80 Rerouted
        any method /old, /old/*
        redirected 302 to host new.example.com => redirected 301 to host newer.example.com
        0.yaml:84:5
        payments.shop:80 Rewritten
        any method /books, /books/*
        path /accounts for /books => path /private for /books
        0.yaml:81:5
        payments.shop:80 NewlyDenied
        shop/frontend
        GET /books/*
        allowed => denied
        0.yaml:44:3
        following HTTPRoute/shop/payments spec.rules[2]
    "#]],
    );
    let change = |mesh: String| {
        mesh.replace(
            "    backendRefs: [{name: payments, port: 80, weight: 95}",
            "    timeouts: {request: 1s}\n    backendRefs: [{name: payments, port: 80, weight: 95}",
        )
        .replace("methods: [GET]", "methods: [GET, PUT]")
    };
    check_route(
        change,
        &expect![[r#"
        ledger.shop:80 NewlyAllowed
        shop/frontend
        PUT /accounts/*
        denied => allowed
        0.yaml:44:11
        payments.shop:80 Limits
        any method /charge, /charge/* with no header or parameter of a rule
        timeout.request 2s => timeout.request 1s
        0.yaml:80:25
        following HTTPRoute/shop/payments spec.rules[1]
        payments.shop:80 NewlyAllowed
        shop/frontend
        PUT /books/*
        denied => allowed
        0.yaml:44:11
        following HTTPRoute/shop/payments spec.rules[2]
    "#]],
    );
    // A path or a host that is written as it came is no difference.
    let change = |mesh: String| {
        let new = "requestRedirect: {path: {type: ReplaceFullPath, replaceFullPath: /old/er}, ";
        mesh.replace("requestRedirect: {", new).replace(
            "filters: [{type: URLRewrite, urlRewrite: {",
            "filters: [{type: URLRewrite, urlRewrite: {hostname: pay.shop, ",
        )
    };
    check_route(
        change,
        &expect![[r#"
            payments.shop:80 Rerouted
            any method /old, /old/*
            redirected 302 to host new.example.com => redirected 302 to host new.example.com, path /old/er
            0.yaml:84:5
            payments.shop:80 Rewritten
            any method /books, /books/* with host new.example.com, other hosts, no host
            path /accounts for /books => path /accounts for /books, host pay.shop
            0.yaml:81:5
        "#]],
    );
    // A consumer's route holds for callers of its namespace.
    let consumer = "\
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: payments, namespace: edge}
spec:
  parentRefs: [{group: '', kind: Service, name: payments, namespace: shop}]
  rules: [{matches: [{path: {value: /charge}}], backendRefs: [{name: ledger, namespace: shop, port: 80}]}]
";
    check_route(
        |mesh| mesh + consumer,
        &expect![[r#"
        payments.shop:80 Rerouted
        other accounts of edge
        any method /charge, /charge/* with no header or parameter of a rule
        1/20 ledger.shop:80 + 19/20 payments.shop:80 => ledger.shop:80
        0.yaml:92:11
        payments.shop:80 Rerouted
        other accounts of edge
        any method /books, /books/*
        ledger.shop:80 => answered 404
        0.yaml:81:5
        payments.shop:80 Rerouted
        other accounts of edge
        any method /old, /old/*
        redirected 302 to host new.example.com => answered 404
        0.yaml:84:5
        payments.shop:80 NewlyDenied
        other accounts of edge
        east/us-east/us-east-1a, east/us-east/us-east-1b
        any method /charge, /charge/* with no header or parameter of a rule
        denied at ledger.shop:80, allowed at payments.shop:80 => denied
        0.yaml:44:3
        following HTTPRoute/edge/payments spec.rules[0]
    "#]],
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// The same for requests that follow routes.
    #[test]
    fn no_difference_of_routes_is_missed(seed in any::<u64>()) {
        let mut random = random::Random::new(seed);
        let (before, after) = random.routed_pair();
        let (old, new) = (compiled(&[&before]), compiled(&[&after]));
        let found = diff(&old, &new);
        for _ in 0..60 {
            let call = random.request();
            if let Err(missed) = random_routes::covers(&found, (&old, &new), &call) {
                let told = render(&found);
                prop_assert!(false, "{missed}\n{call:?}\n{told}\n{before}\n=====\n{after}");
            }
        }
    }
}

#[test]
fn random_routes_differ_often_enough_to_tell() {
    let seeds = 0..150;
    let all = seeds.flat_map(|seed| {
        let (before, after) = random::Random::new(seed).routed_pair();
        let changes = diff(&compiled(&[&before]), &compiled(&[&after])).changes;
        let kinds = changes
            .into_iter()
            .filter(|change| change.destination == "pay.shop:80");
        let kinds: std::collections::BTreeSet<Kind> = kinds.map(|change| change.change).collect();
        kinds
    });
    let all: Vec<Kind> = all.collect();
    for kind in [
        Kind::Rerouted,
        Kind::Rewritten,
        Kind::NewlyAllowed,
        Kind::NewlyDenied,
        Kind::Limits,
    ] {
        assert!(
            all.iter().filter(|found| **found == kind).count() > 5,
            "{kind:?}"
        );
    }
}

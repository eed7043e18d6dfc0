//! What differs, in words; and that a call whose outcome differs is always among it.

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::{Diff, Kind, diff};
use crate::fixture::{compiled, mesh};

mod random;

fn render(diff: &Diff) -> String {
    let mut out = String::new();
    for change in &diff.changes {
        let line = change.line.as_ref().map(|line| line.position.to_string());
        let lines = [
            format!("{} {:?}", change.destination, change.change),
            change.callers.join(", "),
            change.places.join(", "),
            change.requests.join("; "),
            format!("{} => {}", change.before, change.after),
            line.unwrap_or_default(),
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

#[test]
fn routes_are_named_as_not_compared() {
    let route = "---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: payments, namespace: shop}
spec:
  parentRefs: [{group: '', kind: Service, name: payments}]
  rules: [{backendRefs: [{name: payments, port: 80}]}]
";
    // Where nothing differs, nothing is unknown.
    let same = compiled(&[&(mesh() + route)]);
    assert_eq!(diff(&same, &same), Diff::default());
    check(
        |mesh| mesh + route,
        &expect![[r#"
        payments.shop Settings
        routes: none => routes: HTTPRoute/shop/payments; their rules differ
        unknown: requests to payments.shop follow routes, so their outcomes are not compared
    "#]],
    );
}

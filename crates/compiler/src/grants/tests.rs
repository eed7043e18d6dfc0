//! Who may change what, as tables.

use expect_test::{Expect, expect};
use tacit_api::{Located, Object, parse};

use super::*;

/// 2026-01-01T00:00:00Z
const NOW: i64 = 1_767_225_600;

const WORLD: &str = r#"
apiVersion: tacit.dev/v1alpha1
kind: Mesh
metadata: {name: default}
spec:
  subjects:
  - {uid: 1000, user: dev, groups: [shop-developers]}
  - {gid: 50, groups: [runners]}
  - {certificate: {commonName: ci}, groups: [deployers]}
  - {user: nobody, groups: [shop-developers, runners, deployers]}
---
apiVersion: tacit.dev/v1alpha1
kind: Workspace
metadata: {name: shop}
spec:
  home: shop-platform
  members: [{namespaces: [shop, shop-*]}]
  grants:
  - to: [{group: shop-developers}]
    verbs: [Create, Update, Delete]
    kinds: [RetryTimeoutPolicy]
    fields: [spec.timeout, spec.retry]
    limits:
    - {rule: 'spec.retry.attempts <= 3', message: at most 3 further tries}
    - {rule: 'duration(spec.timeout.request) <= duration("10s")', message: at most 10 s}
    targets: {matchLabels: {team: checkout}}
  - to: [{group: shop-developers}]
    verbs: [Update]
    kinds: [FailoverPolicy]
    until: 2025-01-31T00:00:00Z
  - to: [{group: runners}]
    verbs: [Run, Impersonate]
  - to: [{group: deployers}]
    verbs: [Create, Update, Delete]
    kinds: [Service, Workload, AccessPolicy]
  - to: [{user: boss}]
    verbs: [Update]
    kinds: [Workspace]
    fields: [spec.isolation, spec.grants]
---
apiVersion: tacit.dev/v1alpha1
kind: Workspace
metadata: {name: rival}
spec: {members: [{namespaces: [shop-x]}]}
---
apiVersion: v1
kind: Service
metadata: {name: payments, namespace: shop, labels: {team: checkout}}
spec: {selector: {app: payments}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: ledger, namespace: shop, labels: {team: finance}}
spec: {selector: {app: ledger}, ports: [{port: 80}]}
---
apiVersion: tacit.dev/v1alpha1
kind: RetryTimeoutPolicy
metadata: {name: critical, namespace: tacit-system}
spec:
  targetSelectors:
  - {group: "", kind: Service, matchLabels: {resilience: critical}, allNamespaces: true}
  retry: {attempts: 2}
---
apiVersion: tacit.dev/v1alpha1
kind: AccessPolicy
metadata: {name: ledger, namespace: shop}
spec:
  targetRefs: [{group: "", kind: Service, name: ledger}]
  action: Allow
  rules: [{from: [{serviceAccounts: [payments]}]}]
"#;

fn objects(text: &str) -> Vec<Located<Object>> {
    let parsed = parse("a.yaml", text);
    assert_eq!(parsed.errors, [], "{text}");
    parsed.objects
}

fn one(text: &str) -> Located<Object> {
    let mut found = objects(text);
    assert_eq!(found.len(), 1, "{text}");
    found.remove(0)
}

fn retry_policy(namespace: &str, spec: &str) -> Located<Object> {
    one(&format!(
        "apiVersion: tacit.dev/v1alpha1\nkind: RetryTimeoutPolicy\n\
         metadata: {{name: p, namespace: {namespace}}}\nspec:\n  {spec}\n"
    ))
}

fn service(name: &str, labels: &str, spec: &str) -> Located<Object> {
    one(&format!(
        "apiVersion: v1\nkind: Service\n\
         metadata: {{name: {name}, namespace: shop, labels: {{{labels}}}}}\nspec: {{{spec}}}\n"
    ))
}

fn local(uid: u32, gids: &[u32]) -> Caller {
    Caller::Local {
        uid,
        gids: gids.iter().copied().collect(),
    }
}

fn certificate(name: &str) -> Caller {
    Caller::Certificate {
        common_name: name.to_owned(),
    }
}

fn identify(caller: &Caller) -> Subject {
    let world = objects(WORLD);
    let Object::Mesh(mesh) = &world[0].value else {
        panic!("the first object is the Mesh");
    };
    Subject::identify(caller, 500, Some(&mesh.spec))
}

fn developer() -> Subject {
    identify(&local(1000, &[]))
}

fn answer(who: &Subject, change: Change<'_>) -> Verdict {
    let objects = objects(WORLD);
    World::new(&objects).may_change(who, change, NOW)
}

/// The message of a refusal and the field it points at; empty if it is allowed.
fn refusal(verdict: Verdict) -> String {
    match verdict {
        Verdict::Allowed => String::new(),
        Verdict::Refused(finding) => {
            let head = format!("{} [{}]", finding.code, finding.field);
            format!("{head}{}\n", wrapped(&finding.message))
        }
    }
}

/// Lines of at most 80 characters.
fn wrapped(text: &str) -> String {
    let mut lines = String::new();
    let mut width = 80;
    for word in text.split(' ') {
        if width + 1 + word.len() > 80 {
            lines += "\n";
            width = 0;
        } else {
            lines += " ";
        }
        lines += word;
        width += 1 + word.len();
    }
    lines
}

fn check(who: &Subject, change: Change<'_>, expected: &Expect) {
    expected.assert_eq(&refusal(answer(who, change)));
}

const PAYMENTS: &str = r#"targetRefs: [{group: "", kind: Service, name: payments}]"#;

#[test]
fn who_is_who() {
    let rows = [
        (Caller::Administrator, "the administrator"),
        (local(0, &[]), "the administrator"),
        (local(500, &[]), "the administrator"),
        (local(1000, &[]), "user dev (groups shop-developers)"),
        (
            local(1000, &[50]),
            "user dev (groups runners, shop-developers)",
        ),
        (local(7, &[50]), "uid 7 (groups runners)"),
        (local(7, &[51]), "uid 7"),
        (certificate("ci"), "certificate ci (groups deployers)"),
        (certificate("dev"), "certificate dev"),
        (certificate(""), "certificate "),
    ];
    for (caller, name) in rows {
        assert_eq!(identify(&caller).to_string(), name, "{caller:?}");
    }
    let named = |text| Subject::named(text).map(|subject| subject.to_string());
    assert_eq!(named("group:a").as_deref(), Some("group:a (groups a)"));
    assert_eq!(named("user:a").as_deref(), Some("user a"));
    assert_eq!(
        [named("a"), named("group:"), named("root:a")],
        [None, None, None]
    );
}

#[test]
fn fifty_further_tries_are_refused_and_three_pass() {
    let world = objects(WORLD);
    let world = World::new(&world);
    let fifty = retry_policy("shop", &format!("{PAYMENTS}\n  retry:\n    attempts: 50"));
    let Verdict::Refused(finding) = world.may_change(&developer(), Change::Create(&fifty), NOW)
    else {
        panic!("50 further tries must be refused");
    };
    expect![[r"
        error[TCT1604]: at most 3 further tries
          --> a.yaml:7:15
          |
        7 |     attempts: 50
          |               ^
          object: RetryTimeoutPolicy/shop/p
          fix: keep to `spec.retry.attempts <= 3`, a limit of spec.grants[0] of Workspace shop"]]
    .assert_eq(&finding.to_string());
    let three = retry_policy("shop", &format!("{PAYMENTS}\n  retry:\n    attempts: 3"));
    assert!(
        world
            .may_change(&developer(), Change::Create(&three), NOW)
            .is_allowed()
    );
    let update = Change::Update {
        old: &three,
        new: &fifty,
    };
    assert!(!world.may_change(&developer(), update, NOW).is_allowed());
    let administrator = identify(&Caller::Administrator);
    assert!(
        world
            .may_change(&administrator, Change::Create(&fifty), NOW)
            .is_allowed()
    );
}

#[test]
fn failures_are_made_by_those_who_are_granted_it() {
    let policy = |spec: &str| {
        one(&format!(
            "apiVersion: tacit.dev/v1alpha1\nkind: FaultPolicy\n\
             metadata: {{name: p, namespace: shop}}\nspec:\n  {PAYMENTS}\n  \
             until: 2027-01-31T00:00:00Z\n  {spec}\n"
        ))
    };
    let abort = policy("abort: {status: 503, sharePercent: 5}");
    check(
        &developer(),
        Change::Create(&abort),
        &expect![[r#"
        TCT1601 []
        user dev (groups shop-developers) may not create FaultPolicy/shop/p: no grant
        of Workspace shop has Create of FaultPolicy for them
    "#]],
    );
    let granted = WORLD.replace(
        "  - to: [{group: runners}]\n",
        "  - to: [{group: shop-developers}]\n    verbs: [Create]\n    kinds: [FaultPolicy]\n    \
         limits: [{rule: 'spec.abort.sharePercent <= 10', message: at most one in ten}]\n  \
         - to: [{group: runners}]\n",
    );
    let granted = objects(&granted);
    let world = World::new(&granted);
    let said = |policy: &Located<Object>| {
        refusal(world.may_change(&developer(), Change::Create(policy), NOW))
    };
    assert_eq!(said(&abort), "");
    expect![[r#"
        TCT1604 [spec.abort.sharePercent]
        at most one in ten
    "#]]
    .assert_eq(&said(&policy("abort: {status: 503, sharePercent: 11}")));
    let for_some = policy("from: [{serviceAccounts: [web]}]\n  delay: {time: 1s, sharePercent: 5}");
    expect![[r#"
        TCT1602 [spec.from]
        spec.from may not be changed: spec.grants[2] of Workspace shop does not list it
    "#]]
    .assert_eq(&said(&for_some));
}

#[test]
fn limits_and_fields() {
    let rows = [
        ("timeout: {request: 10s}", expect![""]),
        (
            "timeout: {request: 1h}",
            expect![[r#"
            TCT1604 [spec.timeout.request]
            at most 10 s
        "#]],
        ),
        ("retry: {attempts: 0}", expect![""]),
        (
            "priority: 1",
            expect![[r#"
            TCT1602 [spec.priority]
            spec.priority may not be changed: spec.grants[0] of Workspace shop gives
            spec.timeout, spec.retry
        "#]],
        ),
        (
            "hedge: {max: 1}",
            expect![[r#"
            TCT1602 [spec.hedge.max]
            spec.hedge.max may not be changed: spec.grants[0] of Workspace shop gives
            spec.timeout, spec.retry
        "#]],
        ),
        (
            "from: [{serviceAccounts: [a]}]",
            expect![[r#"
            TCT1602 [spec.from]
            spec.from may not be changed: spec.grants[0] of Workspace shop gives
            spec.timeout, spec.retry
        "#]],
        ),
    ];
    for (rest, expected) in rows {
        let policy = retry_policy("shop", &format!("{PAYMENTS}\n  {rest}"));
        check(&developer(), Change::Create(&policy), &expected);
    }
}

#[test]
fn targets_have_the_labels_of_the_grant() {
    let rows = [
        (
            r#"targetRefs: [{group: "", kind: Service, name: ledger}]"#,
            expect![[r#"
                TCT1603 [spec.targetRefs[0]]
                Service shop/ledger does not have the labels: spec.grants[0] of Workspace shop
                is for targets with team=checkout
            "#]],
        ),
        (
            r#"targetRefs: [{group: "", kind: Service, name: absent}]"#,
            expect![[r#"
                TCT1603 [spec.targetRefs[0]]
                Service shop/absent does not exist: spec.grants[0] of Workspace shop is for
                targets with team=checkout
            "#]],
        ),
        (
            "targetAll: {}",
            expect![[r#"
            TCT1603 [spec.targetAll]
            targetAll means every target: spec.grants[0] of Workspace shop is for targets
            with team=checkout
        "#]],
        ),
        (
            r#"targetSelectors: [{group: "", kind: Service, matchLabels: {app: x}}]"#,
            expect![[r#"
                TCT1603 [spec.targetSelectors[0]]
                the selector also matches other targets: spec.grants[0] of Workspace shop is
                for targets with team=checkout
            "#]],
        ),
        (
            r#"targetSelectors: [{group: "", kind: Service, matchLabels: {a: b, team: checkout}}]"#,
            expect![""],
        ),
    ];
    for (targets, expected) in rows {
        let policy = retry_policy("shop", &format!("{targets}\n  retry: {{attempts: 1}}"));
        check(&developer(), Change::Create(&policy), &expected);
    }
}

#[test]
fn namespaces_of_nobody_are_the_administrators() {
    for (namespace, expected) in [
        ("shop-eu", expect![""]),
        ("shop-platform", expect![""]),
        (
            "other",
            expect![[r#"
            TCT1601 []
            RetryTimeoutPolicy/other/p: namespace other belongs to no Workspace, so only
            the administrator may do that
        "#]],
        ),
        (
            "shop-x",
            expect![[r#"
            TCT1601 []
            RetryTimeoutPolicy/shop-x/p: namespace shop-x is claimed by more than one
            Workspace, so only the administrator may do that
        "#]],
        ),
        (
            "tacit-system",
            expect![[r#"
            TCT1601 []
            RetryTimeoutPolicy/tacit-system/p: namespace tacit-system belongs to no
            Workspace, so only the administrator may do that
        "#]],
        ),
    ] {
        let policy = retry_policy(namespace, "retry: {attempts: 1}");
        check(&developer(), Change::Create(&policy), &expected);
    }
}

#[test]
fn verbs_kinds_and_times() {
    let shop = retry_policy("shop", "retry: {attempts: 1}");
    let member = retry_policy("shop-eu", "retry: {attempts: 1}");
    let failover = one("apiVersion: tacit.dev/v1alpha1\nkind: FailoverPolicy\n\
                        metadata: {name: f, namespace: shop}\nspec: {targetAll: {}}\n");
    let mesh = one("apiVersion: tacit.dev/v1alpha1\nkind: Mesh\nmetadata: {name: m}\nspec: {}\n");
    let rows = [
        (Change::Create(&shop), expect![""]),
        (Change::Create(&member), expect![""]),
        (Change::Delete(&shop), expect![""]),
        (
            Change::Create(&failover),
            expect![[r#"
            TCT1601 []
            user dev (groups shop-developers) may not create FailoverPolicy/shop/f: no
            grant of Workspace shop has Create of FailoverPolicy for them
        "#]],
        ),
        (
            Change::Update {
                old: &failover,
                new: &failover,
            },
            expect![[r#"
                TCT1601 []
                spec.grants[1] of Workspace shop ended at 2025-01-31T00:00:00Z
            "#]],
        ),
        (
            Change::Update {
                old: &shop,
                new: &member,
            },
            expect![[r#"
                TCT1601 [metadata]
                an update cannot change kind, namespace or name
            "#]],
        ),
        (
            Change::Create(&mesh),
            expect![[r#"
            TCT1601 []
            user dev (groups shop-developers) may not create Mesh/m: only the administrator
            may
        "#]],
        ),
    ];
    for (change, expected) in rows {
        check(&developer(), change, &expected);
    }
    let stranger = identify(&local(7, &[]));
    check(
        &stranger,
        Change::Create(&shop),
        &expect![[r#"
        TCT1601 []
        uid 7 may not create RetryTimeoutPolicy/shop/p: no grant of Workspace shop has
        Create of RetryTimeoutPolicy for them
    "#]],
    );
}

#[test]
fn a_grant_cannot_widen_itself() {
    let boss = Subject::named("user:boss").unwrap();
    let workspace = |spec: &str| {
        one(&format!(
            "apiVersion: tacit.dev/v1alpha1\nkind: Workspace\nmetadata: {{name: shop}}\n\
             spec:\n  home: shop-platform\n  {spec}\n"
        ))
    };
    let old = workspace("members: [{namespaces: [shop]}]");
    let strict = workspace("members: [{namespaces: [shop]}]\n  isolation: Strict");
    let wider = workspace("members: [{namespaces: ['*']}]");
    let granted = workspace(
        "members: [{namespaces: [shop]}]\n  grants: [{to: [{user: boss}], verbs: [Create]}]",
    );
    let update = |new| Change::Update { old: &old, new };
    check(&boss, update(&strict), &expect![""]);
    check(
        &boss,
        update(&wider),
        &expect![[r#"
        TCT1602 [spec.members]
        spec.members may not be changed: spec.grants[4] of Workspace shop gives
        spec.isolation, spec.grants
    "#]],
    );
    check(
        &boss,
        update(&granted),
        &expect![[r#"
        TCT1602 [spec.grants]
        spec.grants may not be changed: spec.grants[4] of Workspace shop gives
        spec.isolation, spec.grants
    "#]],
    );
    check(
        &boss,
        Change::Delete(&old),
        &expect![[r#"
        TCT1601 []
        user boss may not delete Workspace/shop: only the administrator may
    "#]],
    );
    check(
        &developer(),
        update(&strict),
        &expect![[r#"
        TCT1601 []
        user dev (groups shop-developers) may not update Workspace/shop: no grant of
        Workspace shop has Update of Workspace for them
    "#]],
    );
}

#[test]
fn labels_are_no_way_around_the_grants() {
    let deployer = identify(&certificate("ci"));
    let payments = |labels: &str| service("payments", labels, "selector: {app: payments}");
    let plain = payments("team: checkout");
    let tier = payments("team: checkout, tier: front");
    let critical = payments("team: checkout, resilience: critical");
    let stolen = payments("team: finance");
    let update = |old, new| Change::Update { old, new };
    check(&deployer, update(&plain, &tier), &expect![""]);
    check(
        &deployer,
        update(&plain, &critical),
        &expect![[r#"
        TCT1603 [metadata.labels]
        this attaches RetryTimeoutPolicy/tacit-system/critical, which needs a grant
        too: certificate ci (groups deployers) may not create
        RetryTimeoutPolicy/tacit-system/critical: no grant of Workspace shop has Create
        of RetryTimeoutPolicy for them
    "#]],
    );
    check(
        &deployer,
        update(&critical, &plain),
        &expect![[r#"
        TCT1603 [metadata.labels]
        this detaches RetryTimeoutPolicy/tacit-system/critical, which needs a grant
        too: certificate ci (groups deployers) may not delete
        RetryTimeoutPolicy/tacit-system/critical: no grant of Workspace shop has Delete
        of RetryTimeoutPolicy for them
    "#]],
    );
    check(
        &deployer,
        update(&plain, &stolen),
        &expect![[r#"
        TCT1603 [metadata.labels]
        label team says which grants of Workspace shop hold for the Service
    "#]],
    );
    // The policy would be theirs to make on that service, so the label is theirs to set.
    let both = Subject {
        groups: ["deployers", "shop-developers"].map(str::to_owned).into(),
        ..Subject::default()
    };
    check(&both, update(&plain, &critical), &expect![""]);
    // Deployers may write AccessPolicies, so they may also move what one protects.
    let ledger = service("ledger", "team: finance", "selector: {app: ledger}");
    let moved = service("ledger", "team: finance", "selector: {app: other}");
    check(&deployer, update(&ledger, &moved), &expect![""]);
}

#[test]
fn moving_what_a_policy_protects_needs_its_grant() {
    let world = WORLD.replace("[Service, Workload, AccessPolicy]", "[Service, Workload]");
    let objects = objects(&world);
    let world = World::new(&objects);
    let deployer = identify(&certificate("ci"));
    let ledger = service("ledger", "team: finance", "selector: {app: ledger}");
    let moved = service("ledger", "team: finance", "selector: {app: other}");
    let relabelled = service("ledger", "team: finance, a: b", "selector: {app: ledger}");
    let ask = |change| refusal(world.may_change(&deployer, change, NOW));
    let update = |new| Change::Update { old: &ledger, new };
    assert_eq!(ask(update(&relabelled)), "");
    expect![[r#"
        TCT1603 [metadata.labels]
        this attaches AccessPolicy/shop/ledger, which needs a grant too: certificate ci
        (groups deployers) may not create AccessPolicy/shop/ledger: no grant of
        Workspace shop has Create of AccessPolicy for them
    "#]]
    .assert_eq(&ask(update(&moved)));
    expect![[r#"
        TCT1603 [metadata.labels]
        this detaches AccessPolicy/shop/ledger, which needs a grant too: certificate ci
        (groups deployers) may not delete AccessPolicy/shop/ledger: no grant of
        Workspace shop has Delete of AccessPolicy for them
    "#]]
    .assert_eq(&ask(Change::Delete(&ledger)));
}

#[test]
fn running_workloads() {
    let objects = objects(WORLD);
    let world = World::new(&objects);
    let runner = identify(&local(7, &[50]));
    let run = |who: &Subject, namespace| refusal(world.may_run(who, namespace, "web", NOW));
    assert_eq!(run(&runner, "shop"), "");
    assert_eq!(run(&identify(&local(0, &[])), "anywhere"), "");
    expect![[r#"
        TCT1601 []
        user dev (groups shop-developers) may not run workloads as shop/web: no grant
        of Workspace shop has Run for them
    "#]]
    .assert_eq(&run(&developer(), "shop"));
    expect![[r#"
        TCT1601 []
        run workloads as other/web: namespace other belongs to no Workspace, so only
        the administrator may do that
    "#]]
    .assert_eq(&run(&runner, "other"));
    let impersonate = |who: &Subject| world.may_impersonate(who, "shop", NOW).is_allowed();
    assert!(impersonate(&runner) && !impersonate(&developer()));
    // To declare a workload is to run it, so it needs both grants.
    let workload = one("apiVersion: tacit.dev/v1alpha1\nkind: Workload\n\
                        metadata: {name: w, namespace: shop}\n\
                        spec: {serviceAccount: web, node: a, command: [\"true\"]}\n");
    let without_command = one("apiVersion: tacit.dev/v1alpha1\nkind: Workload\n\
                               metadata: {name: w, namespace: shop}\n\
                               spec: {serviceAccount: web, node: a}\n");
    let deployer = identify(&certificate("ci"));
    check(
        &deployer,
        Change::Create(&workload),
        &expect![[r#"
        TCT1601 []
        certificate ci (groups deployers) may not declare workloads that run as
        shop/web: no grant of Workspace shop has Run for them
    "#]],
    );
    let both = Subject {
        groups: ["deployers", "runners"].map(str::to_owned).into(),
        ..Subject::default()
    };
    check(&both, Change::Create(&without_command), &expect![""]);
    // The node would run the command as its own user, which is root as a rule.
    check(
        &both,
        Change::Create(&workload),
        &expect![[r#"
        TCT1601 [spec.command]
         (groups deployers, runners) may not declare a command: the node runs it as its
        own user, so only the administrator may
    "#]],
    );
    let administrator = identify(&Caller::Administrator);
    check(&administrator, Change::Create(&workload), &expect![""]);
}

#[test]
fn every_local_user_is_in_a_group_of_the_mesh() {
    let world = WORLD.replace(
        "- to: [{group: runners}]",
        "- to: [{group: 'system:local'}]",
    );
    assert_ne!(world, WORLD);
    let objects = objects(&world);
    let world = World::new(&objects);
    let may_run = |who: &Caller| {
        world
            .may_run(&identify(who), "shop", "web", NOW)
            .is_allowed()
    };
    assert!(may_run(&local(7, &[])));
    assert!(!may_run(&certificate("ci")), "not of a machine of the mesh");
}

#[test]
fn what_was_written_is_checked_again() {
    let policy = retry_policy("shop", &format!("{PAYMENTS}\n  retry: {{attempts: 3}}"));
    let stays = |world: &str| {
        let objects = objects(world);
        refusal(World::new(&objects).may_stay(&developer(), &policy))
    };
    assert_eq!(stays(WORLD), "");
    let relabelled = WORLD.replace("labels: {team: checkout}}", "labels: {team: finance}}");
    assert_ne!(relabelled, WORLD);
    expect![[r#"
        TCT1603 [spec.targetRefs[0]]
        Service shop/payments does not have the labels: spec.grants[0] of Workspace
        shop is for targets with team=checkout
    "#]]
    .assert_eq(&stays(&relabelled));
    let tighter = WORLD.replace("spec.retry.attempts <= 3", "spec.retry.attempts <= 2");
    expect![[r#"
        TCT1604 [spec.retry.attempts]
        at most 3 further tries
    "#]]
    .assert_eq(&stays(&tighter));
    // An exception that ended does not take away what was written under it.
    let ended = WORLD.replace(
        "    fields: [spec.timeout, spec.retry]",
        "    fields: [spec.timeout, spec.retry]\n    until: 2020-01-01T00:00:00Z",
    );
    assert_eq!(stays(&ended), "");
    let objects = objects(&ended);
    let again = World::new(&objects).may_change(&developer(), Change::Create(&policy), NOW);
    assert!(!again.is_allowed());
}

#[test]
fn a_faulty_rule_refuses() {
    let world = WORLD.replace("spec.retry.attempts <= 3", "spec.retry.attempts <= true");
    assert_ne!(world, WORLD);
    let objects = objects(&world);
    let policy = retry_policy("shop", &format!("{PAYMENTS}\n  retry: {{attempts: 1}}"));
    let found = World::new(&objects).may_change(&developer(), Change::Create(&policy), NOW);
    expect![[r#"
        TCT1605 [spec.retry.attempts]
        limits[0] of spec.grants[0] of Workspace shop: the rule cannot be evaluated:
        found no matching overload for '_<=_' applied to '(int, bool)'
    "#]]
    .assert_eq(&refusal(found));
}

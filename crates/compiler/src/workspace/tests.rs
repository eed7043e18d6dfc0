//! Who owns which namespace, and who may call across the border.

use expect_test::expect;
use tacit_api::parse;

use super::*;

const WORLD: &str = r#"
apiVersion: tacit.dev/v1alpha1
kind: Mesh
metadata: {name: default}
spec:
  cluster: east
  subjects:
  - {uid: 1000, user: dev, groups: [developers]}
  - {uid: 1001, gid: 7, groups: [developers]}
  - {gid: 50, groups: [runners]}
  - {certificate: {commonName: ci}, groups: [runners]}
---
apiVersion: tacit.dev/v1alpha1
kind: Workspace
metadata: {name: billing}
spec:
  isolation: Strict
  members: [{namespaces: [billing, 'billing-*']}]
  exports:
  - {services: {matchLabels: {api: public}}, to: ['*']}
  - {services: {names: [billing/ledger]}, to: [shop]}
---
apiVersion: tacit.dev/v1alpha1
kind: Workspace
metadata: {name: shop}
spec:
  home: shop-platform
  members:
  - {namespaces: [shop, 'shop-*', shared]}
  - {namespaces: [far], clusters: [west]}
  - {namespaces: [near], clusters: [east, west]}
  imports:
  - {workspace: billing, services: [invoices, ledger, secrets]}
  - {workspace: nobody}
  grants:
  - {to: [{group: developers}], verbs: [Create], kinds: [Service]}
  - {to: [{group: runners}, {user: dev}], verbs: [Run], until: 2027-01-31T00:00:00Z}
---
apiVersion: tacit.dev/v1alpha1
kind: Workspace
metadata: {name: web}
spec:
  members: [{namespaces: [web, shared, tacit-system]}]
  imports: [{workspace: billing}]
---
apiVersion: v1
kind: Service
metadata: {name: invoices, namespace: billing, labels: {api: public}}
spec: {ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: ledger, namespace: billing}
spec: {ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: secrets, namespace: billing}
spec: {ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: invoices, namespace: shop, labels: {api: public}}
spec: {ports: [{port: 80}]}
"#;

fn namespace(name: &str) -> Namespace {
    name.try_into().unwrap()
}

/// Runs `test` with the tenants, the services and the Mesh of `WORLD`.
fn with_world(test: impl FnOnce(&Tenants<'_>, &[&Service], &MeshSpec)) {
    let parsed = parse("a.yaml", WORLD);
    assert_eq!(parsed.errors, []);
    let services: Vec<&Service> = parsed
        .objects
        .iter()
        .filter_map(|object| match &object.value {
            Object::Service(service) => Some(service),
            Object::AccessPolicy(_)
            | Object::FailoverPolicy(_)
            | Object::GRPCRoute(_)
            | Object::TCPRoute(_)
            | Object::HTTPRoute(_)
            | Object::Mesh(_)
            | Object::FaultPolicy(_)
            | Object::RateLimitPolicy(_)
            | Object::RetryTimeoutPolicy(_)
            | Object::Workload(_)
            | Object::Workspace(_) => None,
        })
        .collect();
    let Object::Mesh(mesh) = &parsed.objects[0].value else {
        panic!("the first object is the Mesh");
    };
    let tenants = Tenants::new(&parsed.objects, Some(&mesh.spec));
    test(&tenants, &services, &mesh.spec);
}

#[test]
fn owners() {
    with_world(|tenants, services, _| {
        let tenancy = |name: &str| match tenants.tenancy(&namespace(name), services) {
            Tenancy::Unclaimed => "-".to_owned(),
            Tenancy::Contested(names) => format!("contested {names:?}"),
            Tenancy::Member {
                workspace,
                isolation,
            } => match isolation {
                None => format!("{workspace}, open"),
                Some(isolation) => format!("{workspace}, {:?}", isolation.importers),
            },
        };
        let rows = [
            ("shop", "shop, open"),
            ("shop-eu", "shop, open"),
            ("shopping", "-"),
            ("shop-platform", "shop, open"),
            ("far", "-"),
            ("near", "shop, open"),
            ("web", "web, open"),
            ("other", "-"),
            ("shared", r#"contested ["shop", "web"]"#),
            // A workspace cannot claim the namespace whose policies reach all others.
            ("tacit-system", "-"),
        ];
        for (name, expected) in rows {
            assert_eq!(tenancy(name), expected, "{name}");
        }
        let invoices = r#"ServiceName { namespace: "billing", name: "invoices" }"#;
        let ledger = r#"ServiceName { namespace: "billing", name: "ledger" }"#;
        assert_eq!(
            tenancy("billing"),
            format!(r#"billing, {{"shop": {{{invoices}, {ledger}}}, "web": {{{invoices}}}}}"#)
        );
    });
}

#[test]
fn reach_of_policies() {
    with_world(|tenants, _, _| {
        let rows = [
            ("shop", "shop", true),
            ("shop", "shop-eu", false),
            ("shop-platform", "shop", true),
            ("shop-platform", "near", true),
            ("shop-platform", "shared", false),
            ("shop-platform", "web", false),
            ("tacit-system", "anything", true),
            ("web", "tacit-system", false),
        ];
        for (from, to, reaches) in rows {
            assert_eq!(tenants.may_reach(from, to), reaches, "{from} → {to}");
        }
    });
}

#[test]
fn rows_of_run_grants() {
    with_world(|tenants, _, mesh| {
        let known = ["shop", "shop-eu", "shared", "web"].map(namespace).into();
        let subjects = mesh.subjects.as_deref().unwrap();
        let rows = tenants.run_grants(subjects, &known);
        assert_eq!(rows.len(), 1);
        let row = &rows[0];
        assert_eq!((row.workspace.as_str(), row.index), ("shop", 1));
        assert_eq!(row.uids, [1000].into());
        assert_eq!(row.gids, [50].into());
        assert!(!row.everyone);
        let names = ["near", "shop", "shop-eu", "shop-platform"];
        assert_eq!(row.namespaces, names.map(namespace).into());
        assert_eq!(row.until, Some(1_801_353_600));
    });
}

#[test]
fn problems_between_workspaces() {
    with_world(|tenants, services, _| {
        let known = ["shop", "shared"].map(namespace).into();
        let findings: Vec<String> = tenants
            .findings(&known, services)
            .iter()
            .map(|finding| {
                let line = finding
                    .position
                    .as_ref()
                    .map_or(0, |position| position.line);
                format!(
                    "{line} {} {:?} {}…\n",
                    finding.code,
                    finding.severity,
                    finding.message.chars().take(60).collect::<String>()
                )
            })
            .collect();
        expect![[r#"
            28 TCT1611 Error namespace shared is claimed by the workspaces shop, web: it …
            43 TCT1611 Error namespace shared is claimed by the workspaces shop, web: it …
            33 TCT1612 Warning Workspace billing does not export secrets to shop…
            34 TCT1612 Warning Workspace nobody does not exist…
        "#]]
        .assert_eq(&findings.concat());
    });
}

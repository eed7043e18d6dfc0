//! Workspaces that can never mean what they say.

use expect_test::expect;
use tacit_api::parse;

use super::*;

const BAD: &str = r#"
apiVersion: tacit.dev/v1alpha1
kind: Workspace
metadata: {name: Shop}
spec:
  home: Shop
  members: [{namespaces: [shop, 'sh*p', 'Shop-*', '*', 'shop-*']}, {namespaces: []}]
  exports: [{services: {}, to: []}]
  grants:
  - {to: [], verbs: []}
  - {to: [{}, {user: a, group: b}], verbs: [Create]}
  - to: [{user: a}]
    verbs: [Run, Update]
    kinds: [Mesh, AccesPolicy, Nonsense, Workspace, RetryTimeoutPolicy]
    fields: [spec, timeout, spec.retry, spec.retyr, 'spec.a[0]', '']
    limits:
    - {rule: 'spec.retry.attempts <', message: m}
    - {rule: 'true', message: m}
    - {rule: 'spec.retry.atempts <= 3', message: m}
    - {rule: 'spec.retry.on.all(o, o != "Reset")', message: m}
    targets: {matchLabels: {}}
"#;

#[test]
fn workspaces_that_cannot_mean_what_they_say() {
    let parsed = parse("a.yaml", BAD);
    assert_eq!(parsed.errors, []);
    let findings: Vec<String> = validate(&parsed.objects[0])
        .iter()
        .map(|f| format!("{} {}\n  {}\n", f.code, f.field, f.message))
        .collect();
    expect![[r#"
        TCT1613 metadata.name
          "Shop" is not a workspace (lower-case letters, digits, '-' and '.')
        TCT1613 spec.home
          "Shop" is no namespace and no prefix of namespaces
        TCT1613 spec.members[0].namespaces[1]
          "sh*p" is no namespace and no prefix of namespaces
        TCT1613 spec.members[0].namespaces[2]
          "Shop-*" is no namespace and no prefix of namespaces
        TCT1614 spec.members[1].namespaces
          an empty list selects nothing
        TCT1614 spec.exports[0].services
          an empty list selects nothing
        TCT1614 spec.exports[0].to
          an empty list selects nothing
        TCT1614 spec.grants[0].to
          an empty list selects nothing
        TCT1614 spec.grants[0].verbs
          an empty list selects nothing
        TCT1605 spec.grants[1].to[0]
          a subject is either a user or a group
        TCT1605 spec.grants[1].to[1]
          a subject is either a user or a group
        TCT1605 spec.grants[1].kinds
          Create, Update and Delete need kinds
        TCT1605 spec.grants[2].kinds[0]
          only the administrator changes the Mesh
        TCT1605 spec.grants[2].kinds[1]
          unknown kind "AccesPolicy"
        TCT1605 spec.grants[2].kinds[2]
          unknown kind "Nonsense"
        TCT1605 spec.grants[2].fields[0]
          "spec" is no field below spec of the kinds listed
        TCT1605 spec.grants[2].fields[1]
          "timeout" is no field below spec of the kinds listed
        TCT1605 spec.grants[2].fields[3]
          "spec.retyr" is no field below spec of the kinds listed
        TCT1605 spec.grants[2].fields[4]
          "spec.a[0]" is no field below spec of the kinds listed
        TCT1605 spec.grants[2].fields[5]
          "" is no field below spec of the kinds listed
        TCT1605 spec.grants[2].limits[0].rule
          the rule is not CEL: Syntax error: mismatched input '<EOF>'
        TCT1605 spec.grants[2].limits[2].rule
          spec.retry.atempts is no field of the kinds listed
        TCT1614 spec.grants[2].targets.matchLabels
          an empty list selects nothing
    "#]]
    .assert_eq(&findings.concat());
}

#[test]
fn a_workspace_of_every_field_is_valid() {
    let parsed = parse("a.yaml", GOOD);
    assert_eq!(parsed.errors, []);
    assert_eq!(validate(&parsed.objects[0]), []);
}

const GOOD: &str = r#"
apiVersion: tacit.dev/v1alpha1
kind: Workspace
metadata: {name: shop}
spec:
  home: shop-platform
  members: [{namespaces: [shop, 'shop-*', '*'], clusters: ['*']}]
  imports: [{workspace: billing, services: [invoices]}]
  exports: [{services: {matchLabels: {api: public}}, to: ['*']}]
  grants:
  - to: [{group: shop-developers}, {user: dev}]
    verbs: [Create, Update, Delete]
    kinds: [RetryTimeoutPolicy]
    fields: [spec.timeout, spec.retry.attempts]
    limits:
    - {rule: 'spec.retry.attempts <= 3', message: at most 3 further tries}
    - {rule: 'duration(spec.timeout.request) <= duration("10s")', message: at most 10 s}
    - {rule: '!has(spec.retry.on) || spec.retry.on.all(o, o != "Reset")', message: no Reset}
    targets: {matchLabels: {team: checkout}}
  - {to: [{user: dev}], verbs: [Run, Impersonate]}
"#;

//! Cases that pass, cases that fail and how, tests that make no sense.

use expect_test::{Expect, expect};

use super::run;
use crate::fixture::{compiled, mesh, tests};

fn check(text: &str, expected: &Expect) {
    check_with("", text, expected);
}

/// With further objects of the mesh.
fn check_with(more: &str, text: &str, expected: &Expect) {
    let compiled = compiled(&[&mesh(), more]);
    let shown = match run(&compiled, &tests(text)) {
        Ok(report) => {
            let cases = report.cases.iter().map(|case| {
                let word = if case.passed() { "ok" } else { "FAIL" };
                let failures: String = case.failures.iter().map(|f| format!("{f}\n")).collect();
                format!("{word} {} {}\n{failures}", case.test, case.case)
            });
            cases.collect::<String>()
        }
        Err(mistakes) => mistakes
            .iter()
            .map(|finding| format!("{finding}\n"))
            .collect(),
    };
    expected.assert_eq(&shown);
}

const HEAD: &str = "apiVersion: tacit.dev/v1alpha1\nkind: PolicyTest\nmetadata: {name: t}\n";

#[test]
fn cases_that_hold() {
    let text = format!(
        "{HEAD}\
given: {{down: [{{zone: us-east-1a}}]}}
cases:
- from: {{serviceAccount: shop/frontend, zone: us-east-1b}}
  request: GET http://payments.shop/charge/17
  then: {{verdict: Allowed, servedBy: {{zone: us-east-1b}}, timeout: 2s, tries: 3}}
- from: {{serviceAccount: shop/web}}
  request: GET http://ledger.shop/accounts/1
  then: {{verdict: Denied, by: AccessPolicy/shop/ledger}}
- from: {{serviceAccount: shop/frontend, zone: us-east-1b}}
  request: GET http://ledger/accounts/1
  then: {{verdict: Allowed, by: AccessPolicy/shop/ledger}}
- from: {{serviceAccount: shop/frontend}}
  request: POST http://ledger.shop/accounts/1
  then: {{verdict: Denied}}
- from: {{serviceAccount: shop/frontend, region: us-west}}
  request: GET http://payments.shop/
  then: {{verdict: Denied, by: FailoverPolicy/shop/payments}}
- from: {{serviceAccount: shop/frontend, zone: us-east-1b}}
  request: GET tcp://db.shop:5432
  then: {{verdict: Denied}}
"
    );
    check(
        &text,
        &expect![[r#"
        ok t 1
        ok t 2
        ok t 3
        ok t 4
        ok t 5
        ok t 6
    "#]],
    );
}

/// None of these holds.
const WRONG: &str = "\
cases:
- from: {serviceAccount: shop/frontend}
  request: GET http://payments.shop/charge/17
  then: {verdict: Denied, servedBy: {zone: us-east-1b}, timeout: 3s, tries: 1, by: Mesh/default}
- from: {serviceAccount: shop/web, zone: us-east-1a}
  request: GET http://ledger.shop/accounts/1
  then: {verdict: Allowed, servedBy: {zone: us-east-1a}}
- from: {serviceAccount: shop/frontend}
  request: GET http://ledger.shop/accounts/1
  then: {servedBy: {zone: us-east-1a}, timeout: 1s}
- from: {serviceAccount: shop/frontend}
  request: GET tcp://db.shop:5432
  then: {tries: 1}
- from: {serviceAccount: shop/frontend}
  request: GET http://nothing.shop/
  then: {verdict: Allowed}
";

#[test]
fn cases_that_do_not() {
    let text = format!("{HEAD}{WRONG}");
    check(
        &text,
        &expect![[r#"
            FAIL t 1
              --> test.yaml:7:19
              |
            7 |   then: {verdict: Denied, servedBy: {zone: us-east-1b}, timeout: 3s, tries: 1, by: Mesh/default}
              |                   ^
              expected: Denied
              got:      Allowed, from shop/frontend-a at east/us-east/us-east-1a
              because:  shop/payments-a lets it in
              --> test.yaml:7:84
              |
            7 |   then: {verdict: Denied, servedBy: {zone: us-east-1b}, timeout: 3s, tries: 1, by: Mesh/default}
              |                                                                                    ^
              expected: Mesh/default
              got:      the default, from shop/frontend-a at east/us-east/us-east-1a
              because:  that allows it
              --> test.yaml:7:27
              |
            7 |   then: {verdict: Denied, servedBy: {zone: us-east-1b}, timeout: 3s, tries: 1, by: Mesh/default}
              |                           ^
              expected: zone us-east-1b
              got:      100 % of the traffic at east/us-east/us-east-1a, from shop/frontend-a at east/us-east/us-east-1a
              because:  shop/payments-a is one of those that may serve it
              by:       FailoverPolicy/shop/payments spec.order
              at:       0.yaml:36:3   order: [{places: [{zone: same}]}, {places: [{region: same}]}]
              --> test.yaml:7:66
              |
            7 |   then: {verdict: Denied, servedBy: {zone: us-east-1b}, timeout: 3s, tries: 1, by: Mesh/default}
              |                                                                  ^
              expected: 3s
              got:      2s, from shop/frontend-a at east/us-east/us-east-1a
              by:       RetryTimeoutPolicy/shop/payments spec.timeout.request
              at:       0.yaml:28:22   timeout: {request: 2s}
              --> test.yaml:7:77
              |
            7 |   then: {verdict: Denied, servedBy: {zone: us-east-1b}, timeout: 3s, tries: 1, by: Mesh/default}
              |                                                                             ^
              expected: 1
              got:      3, from shop/frontend-a at east/us-east/us-east-1a
              by:       RetryTimeoutPolicy/shop/payments spec.retry.attempts
              at:       0.yaml:29:21   retry: {attempts: 2}
            FAIL t 2
              --> test.yaml:10:19
               |
            10 |   then: {verdict: Allowed, servedBy: {zone: us-east-1a}}
               |                   ^
              expected: Allowed
              got:      Denied
              because:  shop/web may not call port 8080 of shop/assumed-ledger: no rule of AccessPolicy shop/ledger allows it
              by:       AccessPolicy/shop/ledger spec.rules
              at:       0.yaml:44:3   rules: [{from: [{serviceAccounts: [frontend]}], to: [{methods: [GET], paths: [/accounts/*]}]}]
              --> test.yaml:10:28
               |
            10 |   then: {verdict: Allowed, servedBy: {zone: us-east-1a}}
               |                            ^
              expected: zone us-east-1a
              got:      nobody
              because:  shop/web may not call port 8080 of shop/assumed-ledger: no rule of AccessPolicy shop/ledger allows it
              by:       AccessPolicy/shop/ledger spec.rules
              at:       0.yaml:44:3   rules: [{from: [{serviceAccounts: [frontend]}], to: [{methods: [GET], paths: [/accounts/*]}]}]
            FAIL t 3
              --> test.yaml:13:10
               |
            13 |   then: {servedBy: {zone: us-east-1a}, timeout: 1s}
               |          ^
              expected: zone us-east-1a
              got:      no answer, from shop/frontend-a at east/us-east/us-east-1a
              because:  no Workload in the files is behind the service
              --> test.yaml:13:49
               |
            13 |   then: {servedBy: {zone: us-east-1a}, timeout: 1s}
               |                                                 ^
              expected: 1s
              got:      none, from shop/frontend-a at east/us-east/us-east-1a
              because:  nobody sets it
            FAIL t 4
              --> test.yaml:16:17
               |
            16 |   then: {tries: 1}
               |                 ^
              expected: 1
              got:      none, from shop/frontend-a at east/us-east/us-east-1a
              because:  the port is relayed as bytes, which have no request to limit or to try again
            FAIL t 5
              --> test.yaml:19:19
               |
            19 |   then: {verdict: Allowed}
               |                   ^
              expected: Allowed
              got:      Denied, from shop/frontend-a at east/us-east/us-east-1a
              because:  there is no service "nothing.shop" in the mesh
        "#]],
    );
}

#[test]
fn a_caller_that_is_down_cannot_call() {
    let text = format!(
        "{HEAD}\
given: {{down: [{{zone: us-east-1a}}]}}
cases:
- from: {{serviceAccount: shop/frontend, zone: us-east-1a}}
  request: GET http://payments.shop/
  then: {{verdict: Denied}}
- from: {{serviceAccount: shop/other, zone: us-east-1a}}
  request: GET http://payments.shop/
  then: {{verdict: Denied}}
"
    );
    check(
        &text,
        &expect![[r#"
            FAIL t 1
              --> test.yaml:6:3
              |
            6 | - from: {serviceAccount: shop/frontend, zone: us-east-1a}
              |   ^
              expected: a caller that runs
              got:      every workload of the caller is down
            FAIL t 2
              --> test.yaml:9:3
              |
            9 | - from: {serviceAccount: shop/other, zone: us-east-1a}
              |   ^
              expected: a caller that runs
              got:      east/us-east/us-east-1a is down, and the caller with it
        "#]],
    );
}

#[test]
fn what_makes_no_sense_is_not_run() {
    let text = format!(
        "{HEAD}\
given: {{down: [{{zone: us-east-1q}}, {{}}]}}
cases:
- from: {{serviceAccount: shop/frontend, zone: us-est-1a}}
  request: GET http://payments.shop/
  then: {{verdict: Allowed}}
- from: {{serviceAccount: shop/frontend}}
  request: GET ftp://payments.shop/
  then: {{verdict: Allowed}}
- from: {{serviceAccount: shop/frontend}}
  request: GET http://payments.shop/
  then: {{}}
"
    );
    check(
        &text,
        &expect![[r#"
        error[TCT1304]: nothing is at zone us-east-1q
          --> test.yaml:4:16
          |
        4 | given: {down: [{zone: us-east-1q}, {}]}
          |                ^
          fix: name a place that a Workload or Mesh.localities has
        error[TCT1304]: the place has no part, so it would be everything
          --> test.yaml:4:36
          |
        4 | given: {down: [{zone: us-east-1q}, {}]}
          |                                    ^
          fix: name a place that a Workload or Mesh.localities has
        error[TCT1304]: nothing is known of zone us-est-1a
          --> test.yaml:6:47
          |
        6 | - from: {serviceAccount: shop/frontend, zone: us-est-1a}
          |                                               ^
          fix: name a place that a Workload or Mesh.localities has
        error[TCT1304]: "ftp://payments.shop/" is not a target: only the schemes http and tcp are known; write http://HOST/PATH or HOST:PORT
          --> test.yaml:10:12
           |
        10 |   request: GET ftp://payments.shop/
           |            ^
          fix: write METHOD http://HOST/PATH
        error[TCT1304]: the case expects nothing
          --> test.yaml:14:3
           |
        14 |   then: {}
           |   ^
          fix: write verdict, servedBy, timeout, tries or by
    "#]],
    );
}

#[test]
fn what_only_a_workload_would_say_has_no_answer() {
    let policy = "\
apiVersion: tacit.dev/v1alpha1
kind: AccessPolicy
metadata: {name: canary, namespace: shop}
spec:
  targetSelectors: [{group: tacit.dev, kind: Workload, matchLabels: {track: canary}}]
  action: Deny
  rules: [{}]
";
    let text = format!(
        "{HEAD}\
cases:
- from: {{serviceAccount: shop/frontend}}
  request: GET http://ledger.shop/accounts/1
  then: {{verdict: Allowed}}
"
    );
    let compiled = compiled(&[&mesh(), policy]);
    let report = run(&compiled, &tests(&text)).unwrap();
    expect![[r#"
          --> test.yaml:7:19
          |
        7 |   then: {verdict: Allowed}
          |                   ^
          expected: Allowed
          got:      no answer, from shop/frontend-a at east/us-east/us-east-1a
          because:  no Workload in the files is behind service ledger.shop, and whether AccessPolicy/shop/canary applies depends on labels of its workloads that the Service does not select by"#]].assert_eq(&report.cases[0].failures[0].to_string());
}

const ROUTE: &str = "\
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: payments, namespace: shop}
spec:
  parentRefs: [{group: '', kind: Service, name: payments}]
  rules:
  - matches: [{path: {value: /books}}]
    filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /accounts}}}]
    backendRefs: [{name: ledger, port: 80}]
    timeouts: {request: 1s}
  - matches: [{path: {value: /half}, headers: [{name: x-canary, value: 'yes'}], queryParams: [{name: v, value: '2'}]}]
    backendRefs: [{name: payments, port: 80}]
  - matches: [{path: {value: /old}}]
    filters: [{type: RequestRedirect, requestRedirect: {hostname: new.example.com}}]
  - matches: [{path: {value: /half}}]
    backendRefs: [{name: payments, port: 80}, {name: ledger, port: 80}]
";

/// The rewritten request is what the backend's policy sees; every backend of a split counts.
#[test]
fn routes_are_followed() {
    let text = format!(
        "{HEAD}\
cases:
- from: {{serviceAccount: shop/frontend}}
  request: GET http://payments.shop/books/1
  then: {{verdict: Allowed, by: AccessPolicy/shop/ledger, timeout: 1s, tries: 3}}
- from: {{serviceAccount: shop/web}}
  request: GET http://payments.shop/books/1
  then: {{verdict: Denied, by: AccessPolicy/shop/ledger}}
- from: {{serviceAccount: shop/frontend}}
  request: GET http://payments.shop/elsewhere
  then: {{verdict: Denied}}
- from: {{serviceAccount: shop/frontend}}
  request: GET http://payments.shop/old
  then: {{verdict: Allowed, by: HTTPRoute/shop/payments}}
- from: {{serviceAccount: shop/frontend}}
  request: GET http://payments.shop/half
  then: {{verdict: Allowed}}
- from: {{serviceAccount: shop/frontend}}
  request: GET http://payments.shop/half?v=2
  headers: {{X-Canary: 'yes'}}
  then: {{verdict: Allowed}}
- from: {{serviceAccount: shop/frontend}}
  request: GET http://payments.shop/half?v=3
  headers: {{X-Canary: 'yes'}}
  then: {{verdict: Denied}}
"
    );
    check_with(
        ROUTE,
        &text,
        &expect![[r#"
            ok t 1
            ok t 2
            ok t 3
            ok t 4
            FAIL t 5
              --> test.yaml:19:19
               |
            19 |   then: {verdict: Allowed}
               |                   ^
              expected: Allowed
              got:      Denied, from shop/frontend-a at east/us-east/us-east-1a
              because:  shop/frontend may not call port 8080 of shop/assumed-ledger: no rule of AccessPolicy shop/ledger allows it
              by:       AccessPolicy/shop/ledger spec.rules
              at:       0.yaml:44:3   rules: [{from: [{serviceAccounts: [frontend]}], to: [{methods: [GET], paths: [/accounts/*]}]}]
            ok t 6
            FAIL t 7
              --> test.yaml:27:19
               |
            27 |   then: {verdict: Denied}
               |                   ^
              expected: Denied
              got:      Allowed, from shop/frontend-a at east/us-east/us-east-1a
              because:  shop/payments-a lets it in
        "#]],
    );
}

//! A small mesh for tests: two zones, a service with a policy of each kind, one without workloads.

use tacit_api::{Located, PolicyTest, parse};

use crate::Compiled;

/// Frontends and payments in two zones; `ledger` has no workload here, `db` is not HTTP.
pub(crate) const MESH: &str = "\
apiVersion: tacit.dev/v1alpha1
kind: Mesh
metadata: {name: default}
spec:
  cluster: east
  localities: [{region: us-east, zones: [us-east-1a, us-east-1b]}, \
    {region: us-west, zones: [us-west-2a]}]
---
apiVersion: v1
kind: Service
metadata: {name: payments, namespace: shop}
spec: {selector: {app: payments}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: ledger, namespace: shop}
spec: {selector: {app: ledger}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {selector: {app: db}, ports: [{name: sql, port: 5432}]}
---
apiVersion: tacit.dev/v1alpha1
kind: RetryTimeoutPolicy
metadata: {name: payments, namespace: shop}
spec:
  targetRefs: [{group: '', kind: Service, name: payments}]
  timeout: {request: 2s}
  retry: {attempts: 2}
---
apiVersion: tacit.dev/v1alpha1
kind: FailoverPolicy
metadata: {name: payments, namespace: shop}
spec:
  targetRefs: [{group: '', kind: Service, name: payments}]
  order: [{places: [{zone: same}]}, {places: [{region: same}]}]
---
apiVersion: tacit.dev/v1alpha1
kind: AccessPolicy
metadata: {name: ledger, namespace: shop}
spec:
  targetRefs: [{group: '', kind: Service, name: ledger}]
  action: Allow
  rules: [{from: [{serviceAccounts: [frontend]}], to: [{methods: [GET], paths: [/accounts/*]}]}]
";

/// Each of the workloads of the mesh: name, service account, zone, node.
const WORKLOADS: [(&str, &str, &str); 5] = [
    ("frontend-a", "frontend", "us-east-1a"),
    ("frontend-b", "frontend", "us-east-1b"),
    ("payments-a", "payments", "us-east-1a"),
    ("payments-b", "payments", "us-east-1b"),
    ("db-a", "db", "us-east-1a"),
];

/// The whole text of the mesh.
pub(crate) fn mesh() -> String {
    let workload = |(name, account, zone): &(&str, &str, &str)| {
        format!(
            "---\napiVersion: tacit.dev/v1alpha1\nkind: Workload\nmetadata: {{name: {name}, \
             namespace: shop, labels: {{app: {account}}}}}\nspec: {{serviceAccount: {account}, \
             node: node-{zone}, locality: {{zone: {zone}}}}}\n"
        )
    };
    let workloads: String = WORKLOADS.iter().map(workload).collect();
    format!("{MESH}{workloads}")
}

/// Compiles texts, which have no error.
pub(crate) fn compiled(texts: &[&str]) -> Compiled {
    let parse = |(index, text): (usize, &&str)| {
        let name = format!("{index}.yaml");
        let parsed = parse(&name, text);
        (name.as_str().into(), parsed)
    };
    let files: Vec<_> = texts.iter().enumerate().map(parse).collect();
    let compiled = Compiled::of_files(&files, 0).unwrap();
    let errors: Vec<String> = compiled.errors().map(ToString::to_string).collect();
    assert_eq!(errors, Vec::<String>::new());
    compiled
}

/// The tests of a text, which has no error.
pub(crate) fn tests(text: &str) -> Vec<Located<PolicyTest>> {
    let parsed = parse("test.yaml", text);
    assert_eq!(parsed.errors, []);
    parsed.tests
}

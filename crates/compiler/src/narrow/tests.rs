//! Which changes are bounded, and that they give what everything gives.

use std::collections::BTreeSet;

use tacit_model::{NodeName, WorkloadName};

use super::narrow;
use crate::state::workload_key;
use crate::{Compiler, InputDelta, NodeFact, Owner, Upsert, Written};

/// A mesh with a service, two workloads, and policies that look at them.
const MESH: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, ports: [{name: http, port: 80}]}
---
apiVersion: tacit.dev/v1alpha1
kind: Workload
metadata: {name: web-1, namespace: shop, labels: {app: web, hash: a}}
spec: {serviceAccount: web, node: host-a, address: 10.96.0.9}
---
apiVersion: tacit.dev/v1alpha1
kind: Workload
metadata: {name: web-2, namespace: shop, labels: {app: web, hash: b}}
spec: {serviceAccount: web, node: host-b, address: 10.96.0.10}
---
apiVersion: tacit.dev/v1alpha1
kind: FailoverPolicy
metadata: {name: move, namespace: shop}
spec: {targetAll: {}, order: [{places: [{zone: same}]}, {places: [{region: same}]}]}
---
apiVersion: tacit.dev/v1alpha1
kind: AccessPolicy
metadata: {name: batch, namespace: shop}
spec:
  targetSelectors: [{group: tacit.dev, kind: Workload, matchLabels: {app: batch}}]
  action: Deny
---
apiVersion: v1
kind: Service
metadata: {name: pay, namespace: bank}
spec: {selector: {app: pay}, ports: [{name: http, port: 80}]}
---
apiVersion: tacit.dev/v1alpha1
kind: Workload
metadata: {name: pay-1, namespace: bank, labels: {app: pay}}
spec: {serviceAccount: pay, node: host-a, address: 10.96.0.20}
---
apiVersion: tacit.dev/v1alpha1
kind: FailoverPolicy
metadata: {name: away, namespace: bank}
spec:
  targetAll: {}
  order: [{places: [{zone: same}]}, {service: {name: web, namespace: shop}}]
";

fn change(text: &str) -> InputDelta {
    let upsert = |object: tacit_api::Located<tacit_api::Object>| Upsert {
        key: object.value.key(),
        written: Written::Ok(Box::new(object)),
        last_good: None,
        owner: Owner::Directory,
    };
    let parsed = tacit_api::parse("mesh.yaml", text);
    InputDelta {
        upserts: parsed.objects.into_iter().map(upsert).collect(),
        ..InputDelta::default()
    }
}

fn mesh() -> Compiler {
    let node = |name: &str, zone: &str| NodeFact {
        name: NodeName::try_from(name).unwrap(),
        region: "r".into(),
        zone: zone.into(),
        subnet: None,
        identities: tacit_model::hosting::MayHost::any(),
    };
    let mut compiler = Compiler::default();
    compiler.apply(InputDelta {
        nodes: vec![node("host-a", "z1"), node("host-b", "z2")],
        ..change(MESH)
    });
    compiler
}

fn workload(name: &str, app: &str) -> InputDelta {
    let spec = "{serviceAccount: web, node: host-a, address: 10.96.0.11}";
    change(&format!(
        "apiVersion: tacit.dev/v1alpha1\nkind: Workload\nmetadata: {{name: {name}, \
         namespace: shop, labels: {{app: {app}}}}}\nspec: {spec}\n"
    ))
}

/// True if the change is bounded; it must give what everything gives.
fn is_narrow(change: InputDelta) -> bool {
    let mut compiler = mesh();
    let before = compiler.compiled.clone();
    let touched = compiler.inputs.clone().take(change.clone());
    let mut inputs = compiler.inputs.clone();
    inputs.take(change.clone());
    let narrow = !touched.all && narrow(&inputs, &before, &touched.objects).is_some();
    compiler.apply(change);
    let anew = compiler.anew();
    assert_eq!(compiler.tables(), anew.tables());
    assert_eq!(compiler.findings(), anew.findings());
    assert!(compiler.statuses().eq(anew.statuses()));
    narrow
}

#[test]
fn what_changes_all_the_time_is_bounded() {
    let web = WorkloadName::parse("shop", "web-1").unwrap();
    let ready = InputDelta {
        ready: vec![(web.clone(), BTreeSet::from([80]))],
        ..InputDelta::default()
    };
    let gone = InputDelta {
        removes: vec![workload_key(&web)],
        ..InputDelta::default()
    };
    assert!(is_narrow(ready));
    assert!(is_narrow(workload("web-3", "web")));
    assert!(is_narrow(workload("other", "other")));
    // The place of the last endpoint there goes with it: the policy's findings may change.
    assert!(!is_narrow(gone));
    // A policy lists what it selects.
    assert!(!is_narrow(workload("batch", "batch")));
}

/// One object, such as `RetryTimeoutPolicy shop/retry`.
fn written(head: &str, spec: &str) -> InputDelta {
    let (kind, name) = head.split_once(' ').unwrap();
    let (namespace, name) = name.split_once('/').unwrap();
    let version = if kind == "Service" {
        "v1"
    } else {
        "tacit.dev/v1alpha1"
    };
    change(&format!(
        "apiVersion: {version}\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec: {spec}\n"
    ))
}

#[test]
fn policies_are_bounded_by_their_namespace() {
    let bounded = [
        ("AccessPolicy shop/new", "{targetAll: {}, action: Deny}"),
        (
            "AccessPolicy shop/batch",
            "{targetAll: {}, action: Allow, rules: [{to: [{methods: [GET]}]}]}",
        ),
        // A label that nothing mentioned makes other classes, there only.
        (
            "AccessPolicy shop/few",
            "{targetSelectors: [{group: tacit.dev, kind: Workload, matchLabels: {hash: a}}], \
              action: Deny}",
        ),
        (
            "AccessPolicy shop/bad",
            "{targetAll: {}, action: Allow, rules: []}",
        ),
        (
            "RetryTimeoutPolicy shop/retry",
            "{targetAll: {}, retry: {attempts: 1}}",
        ),
        (
            "FailoverPolicy shop/move",
            "{targetAll: {}, health: {signals: []}}",
        ),
        // The policy of another namespace that falls back to the service counts other endpoints.
        (
            "FailoverPolicy shop/move",
            "{targetAll: {}, order: [{places: [{zone: same}]}]}",
        ),
        // The first object of the root namespace, for everybody.
        (
            "AccessPolicy tacit-system/law",
            "{targetAll: {}, action: Deny}",
        ),
    ];
    for (head, spec) in bounded {
        assert!(is_narrow(written(head, spec)), "{head} {spec}");
    }
}

#[test]
fn what_reaches_further_is_not() {
    let unbounded = [
        (
            "Service shop/other",
            "{selector: {app: batch}, ports: [{port: 80}]}",
        ),
        // The first object of its namespace.
        ("AccessPolicy new/first", "{targetAll: {}, action: Deny}"),
        // It may win at every service of the mesh.
        (
            "RetryTimeoutPolicy tacit-system/law",
            "{targetAll: {}, retry: {attempts: 1}}",
        ),
        // Whether a port hides what it looks at depends on all workloads.
        (
            "AccessPolicy tacit-system/get",
            "{targetAll: {}, action: Allow, rules: [{to: [{methods: [GET]}]}]}",
        ),
        (
            "AccessPolicy tacit-system/web",
            "{targetSelectors: [{group: tacit.dev, kind: Workload, matchLabels: {app: web}, \
              allNamespaces: true}], action: Deny}",
        ),
    ];
    for (head, spec) in unbounded {
        assert!(!is_narrow(written(head, spec)), "{head} {spec}");
    }
}

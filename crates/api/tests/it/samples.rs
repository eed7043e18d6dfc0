//! What people write reads as they mean it, with positions.

use expect_test::expect;
use tacit_api::print::json;
use tacit_api::{Kind, Located, Object, parse, to_json, to_yaml};

const POLICIES: &str = include_str!("samples/policies.yaml");
const PLATFORM: &str = include_str!("samples/platform.yaml");
const ROUTES: &str = include_str!("samples/routes.yaml");

/// Objects that together have every field of every kind.
pub(crate) fn all() -> Vec<Located<Object>> {
    let mut objects = Vec::new();
    for text in [POLICIES, PLATFORM, ROUTES] {
        let parsed = parse("a.yaml", text);
        assert_eq!(parsed.errors, []);
        objects.extend(parsed.objects);
    }
    objects
}

#[test]
fn every_kind_and_field_reads() {
    let keys: Vec<String> = all().iter().map(|o| o.value.key().to_string()).collect();
    assert_eq!(
        keys,
        [
            "RetryTimeoutPolicy/shop/payments",
            "RetryTimeoutPolicy/tacit-system/critical",
            "FailoverPolicy/shop/payments",
            "AccessPolicy/default/ledger",
            "RateLimitPolicy/shop/payments",
            "FaultPolicy/shop/payments",
            "Workspace/shop",
            "Mesh/default",
            "Workload/shop/payments-1",
            "Service/shop/payments",
            "HTTPRoute/shop/payments",
            "GRPCRoute/shop/payments",
            "TCPRoute/shop/ledger",
        ]
    );
    for kind in Kind::ALL {
        assert!(
            all().iter().any(|object| object.value.kind() == *kind),
            "{kind}"
        );
    }
}

#[test]
fn printed_yaml_reads_back() {
    let text = to_yaml(&all()[1].value).unwrap();
    expect![[r#"
        apiVersion: tacit.dev/v1alpha1
        kind: RetryTimeoutPolicy
        metadata:
          name: critical
          namespace: tacit-system
        spec:
          retry:
            attempts: 2
          targetSelectors:
          - allNamespaces: true
            group: ""
            kind: Service
            matchLabels:
              resilience: critical
            namespaces:
            - a
          timeout:
            request: 3s
    "#]]
    .assert_eq(&text);
    for object in all() {
        for text in [
            to_yaml(&object.value).unwrap(),
            json(&to_json(&object.value).unwrap()),
            to_json(&object.value).unwrap().to_string(),
        ] {
            let parsed = parse("b", &text);
            assert_eq!(parsed.errors, [], "{text}");
            assert_eq!(parsed.objects[0].value, object.value, "{text}");
        }
    }
}

#[test]
fn positions_are_those_of_the_file() {
    let objects = all();
    let mut found = String::new();
    for (object, path) in [
        (0, "spec.retry.attempts"),
        (0, "spec.retry"),
        (0, r#"metadata.annotations["example.com/why"]"#),
        (2, "spec.order[2].places[1].weight"),
        // What is not written is reported where it would have to be.
        (2, "spec.order[0].service.name"),
        (3, "spec.rules[1]"),
        (3, "spec.rules[0].to[0].methods[0]"),
        (3, ""),
        (3, "status"),
    ] {
        let (position, snippet) = objects[object].find(path);
        let line = snippet.unwrap_or_default();
        let rest: String = line
            .chars()
            .skip(usize::try_from(position.column).unwrap() - 1)
            .collect();
        let shown: String = rest.chars().take(12).collect();
        found += &format!("{path} {}:{} {shown}\n", position.line, position.column);
    }
    expect![[r#"
        spec.retry.attempts 11:15 2           
        spec.retry 10:3 retry:
        metadata.annotations["example.com/why"] 4:94 "because: it
        spec.order[2].places[1].weight 42:68 20}]
        spec.order[0].service.name 40:5 places: [{zo
        spec.rules[1] 72:5 {}
        spec.rules[0].to[0].methods[0] 71:36 GET], paths:
         58:7 AccessPolicy
        status 58:7 AccessPolicy
    "#]]
    .assert_eq(&found);
}

#[test]
fn a_list_is_read_item_by_item() {
    let text = r#"{"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {}},
        {"apiVersion": "v1", "kind": "Servce", "metadata": {"name": "b"}, "spec": {}},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "c"}, "spec": {}}]}"#;
    let parsed = parse("a.json", text);
    let names: Vec<&str> = parsed
        .objects
        .iter()
        .map(|o| o.value.metadata().name.as_str())
        .collect();
    assert_eq!(names, ["a", "c"]);
    assert_eq!(parsed.errors.len(), 1);
    assert_eq!(parsed.errors[0].position.line, 3);
}

#[test]
fn aliases_are_their_anchors() {
    let text = "apiVersion: tacit.dev/v1alpha1\nkind: RetryTimeoutPolicy\nmetadata: {name: a}\n\
                spec:\n  timeout: {request: &t 2s, perTry: *t}\n  retry: &r {attempts: 1}\n";
    let parsed = parse("a", text);
    assert_eq!(parsed.errors, []);
    let Object::RetryTimeoutPolicy(policy) = &parsed.objects[0].value else {
        panic!("wrong kind");
    };
    let timeout = policy.spec.timeout.as_ref().unwrap();
    assert_eq!(timeout.per_try, timeout.request);
}

#[test]
fn nothing_is_no_object() {
    for text in [
        "",
        "\n",
        "---\n",
        "# only a comment\n---\n...\n---\n# more\n",
        "\u{feff}",
        "null",
    ] {
        assert_eq!(parse("a", text), tacit_api::Parsed::default(), "{text:?}");
    }
}

#[test]
fn fields_of_kinds() {
    for (kind, path, exists) in [
        (Kind::RetryTimeoutPolicy, "spec", true),
        (Kind::RetryTimeoutPolicy, "spec.retry", true),
        (Kind::RetryTimeoutPolicy, "spec.retry.attempts", true),
        (Kind::RetryTimeoutPolicy, "spec.retry.atempts", false),
        (Kind::RetryTimeoutPolicy, "spec.retry.attempts.more", false),
        (Kind::RetryTimeoutPolicy, "spec.from", true),
        (Kind::RetryTimeoutPolicy, "spec.from.namespaces", false),
        (Kind::RetryTimeoutPolicy, "retry.attempts", false),
        (Kind::Service, "spec.selector.app", true),
        (Kind::Service, "spec.selector.app.more", false),
        (Kind::Mesh, "spec.defaults.retry.budget.interval", true),
    ] {
        assert_eq!(kind.has_field(path), exists, "{kind} {path}");
    }
}

#[test]
fn a_policy_test_is_no_object_of_the_mesh() {
    let parsed = parse("t.yaml", include_str!("samples/test.yaml"));
    assert_eq!((parsed.errors.len(), parsed.objects.len()), (0, 1));
    let test = &parsed.tests[0];
    assert_eq!(test.value.cases.len(), 2);
    assert_eq!(test.value.cases[0].then.tries, Some(3));
    assert_eq!(test.value.cases[1].from.service_account.name, "web");
    let (position, _) = test.find("cases[1].then.by");
    assert_eq!((position.line, position.column), (18, 33));
}

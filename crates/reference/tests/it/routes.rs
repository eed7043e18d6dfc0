//! Random routes.

use serde_json::{Value, json};

use crate::random::{Fields, Random};
use crate::worlds::object;

pub(crate) fn route(random: &mut Random, (namespace, name): (&str, &str)) -> Value {
    let mut spec = Fields::default();
    let mut parents = vec![parent(random, namespace)];
    if random.one_in(5) {
        parents.push(parent(random, namespace));
    }
    parents.dedup();
    spec.put("parentRefs", parents);
    if !random.one_in(12) {
        let count = 1 + random.below(3);
        let rules: Vec<Value> = (0..count).map(|index| rule(random, index)).collect();
        spec.put("rules", rules);
    }
    spec.maybe(random, 10, "hostnames", |_| json!(["pay.example.com"]));
    object("HTTPRoute", (namespace, name), json!({}), spec.done())
}

/// Some of the HTTP routes stand at the same ports.
pub(crate) fn grpc_route(random: &mut Random, (namespace, name): (&str, &str)) -> Value {
    let mut spec = Fields::default();
    spec.put("parentRefs", [parent(random, namespace)]);
    if !random.one_in(12) {
        let count = 1 + random.below(3);
        let rules: Vec<Value> = (0..count).map(|index| grpc_rule(random, index)).collect();
        spec.put("rules", rules);
    }
    spec.maybe(random, 10, "hostnames", |_| json!(["pay.example.com"]));
    object("GRPCRoute", (namespace, name), json!({}), spec.done())
}

/// At the ports that are not HTTP.
pub(crate) fn tcp_route(random: &mut Random, (namespace, name): (&str, &str)) -> Value {
    let mut spec = Fields::default();
    spec.put("parentRefs", [parent(random, namespace)]);
    let rule = |random: &mut Random| {
        let mut rule = Fields::default();
        rule.maybe(random, 3, "name", |_| "one");
        if !random.one_in(8) {
            let count = 1 + random.below(3);
            let backends: Vec<Value> = (0..count).map(|_| raw_backend(random)).collect();
            rule.put("backendRefs", backends);
        }
        rule.done()
    };
    let mut rules = vec![rule(random)];
    if random.one_in(4) {
        let mut other = rule(random);
        other["name"] = "two".into();
        rules.push(other);
    }
    spec.put("rules", rules);
    object("TCPRoute", (namespace, name), json!({}), spec.done())
}

fn raw_backend(random: &mut Random) -> Value {
    let mut backend = backend(random);
    if !random.one_in(6) {
        backend["port"] = 9000.into();
    }
    backend
}

fn grpc_rule(random: &mut Random, index: usize) -> Value {
    let mut rule = Fields::default();
    rule.maybe(random, 2, "name", |_| ["one", "two", "three"][index]);
    if !random.one_in(4) {
        let count = 1 + random.below(2);
        let matches: Vec<Value> = (0..count).map(|_| grpc_match(random)).collect();
        rule.put("matches", matches);
    }
    let mut filters = filters(random, false, false);
    filters.retain(|filter| filter["type"] != "URLRewrite");
    if !filters.is_empty() {
        rule.put("filters", filters);
    }
    if !random.one_in(10) {
        let count = 1 + random.below(3);
        let backends: Vec<Value> = (0..count).map(|_| backend(random)).collect();
        rule.put("backendRefs", backends);
    }
    rule.done()
}

fn grpc_match(random: &mut Random) -> Value {
    let mut found = Fields::default();
    found.maybe(random, 2, "method", |random| {
        let mut method = Fields::default();
        method.maybe(random, 3, "type", |_| "Exact");
        method.put("service", random.of(&["a", "x"]));
        method.maybe(random, 2, "method", |random| random.of(&["b", "c"]));
        method.done()
    });
    found.maybe(random, 3, "headers", |random| {
        named(random, &["x-a", "X-A", "X-b"])
    });
    found.done()
}

/// A route for policies that crowd at one service.
pub(crate) fn crowd() -> Value {
    let backend = json!({"name": "pay", "port": 80});
    let spec = json!({
        "parentRefs": [{"group": "", "kind": "Service", "name": "pay"}],
        "rules": [{"name": "one", "backendRefs": [backend]}],
    });
    object("HTTPRoute", ("shop", "crowd"), json!({}), spec)
}

fn parent(random: &mut Random, namespace: &str) -> Value {
    let mut parent = Fields::default();
    parent.put("group", "");
    parent.put("kind", "Service");
    let (of, name) = random.of(&[
        ("shop", "pay"),
        ("shop", "pay"),
        ("shop", "pay"),
        ("shop", "pay"),
        ("shop", "led"),
        ("bank", "db"),
    ]);
    parent.put("name", name);
    if of != namespace || random.one_in(3) {
        parent.put("namespace", of);
    }
    parent.maybe(random, 4, "port", |random| random.of(&[80, 9000]));
    parent.done()
}

fn rule(random: &mut Random, index: usize) -> Value {
    let mut rule = Fields::default();
    rule.maybe(random, 2, "name", |_| ["one", "two", "three"][index]);
    let has_matches = !random.one_in(6);
    let matches: Vec<Value> = (0..1 + random.below(2)).map(|_| a_match(random)).collect();
    let all_prefixes = !has_matches
        || matches
            .iter()
            .all(|one| one["path"]["type"].as_str() != Some("Exact"));
    if has_matches {
        rule.put("matches", matches);
    }
    let redirects = random.one_in(8);
    let filters = filters(random, redirects, all_prefixes);
    if !filters.is_empty() {
        rule.put("filters", filters);
    }
    if !redirects && !random.one_in(10) {
        let count = 1 + random.below(3);
        let backends: Vec<Value> = (0..count).map(|_| backend(random)).collect();
        rule.put("backendRefs", backends);
    }
    rule.maybe(random, 4, "timeouts", |random| {
        let mut timeouts = Fields::default();
        timeouts.maybe(random, 2, "request", |random| random.of(&["0s", "4s"]));
        if timeouts.is_empty() || random.one_in(2) {
            timeouts.put("backendRequest", random.of(&["0s", "700ms"]));
        }
        timeouts.done()
    });
    rule.maybe(random, 4, "retry", |random| {
        let mut retry = Fields::default();
        retry.maybe(random, 2, "attempts", |random| random.of(&[0, 2]));
        retry.maybe(random, 2, "codes", |random| random.some(&[500, 503]));
        retry.done()
    });
    rule.done()
}

fn a_match(random: &mut Random) -> Value {
    let mut found = Fields::default();
    if !random.one_in(4) {
        let mut path = Fields::default();
        path.maybe(random, 2, "type", |random| {
            random.of(&["Exact", "PathPrefix"])
        });
        if !random.one_in(8) {
            path.put("value", random.of(&["/", "/a", "/a/", "/a/b", "/x"]));
        }
        found.put("path", path.done());
    }
    found.maybe(random, 3, "method", |random| random.of(&["GET", "POST"]));
    found.maybe(random, 3, "headers", |random| {
        named(random, &["x-a", "X-A", "X-b"])
    });
    found.maybe(random, 4, "queryParams", |random| {
        named(random, &["q", "p"])
    });
    found.done()
}

fn named(random: &mut Random, names: &[&str]) -> Value {
    let mut list = Vec::new();
    for name in random.some(names) {
        let mut one = Fields::default();
        one.put("name", name);
        one.put("value", random.of(&["1", "2"]));
        one.maybe(random, 3, "type", |_| "Exact");
        list.push(one.done());
    }
    json!(list)
}

fn backend(random: &mut Random) -> Value {
    let (namespace, name, port) = random.of(&[
        ("shop", "pay", 80),
        ("shop", "led", 80),
        ("shop", "lite", 80),
        ("shop", "lite", 9000),
        ("bank", "db", 80),
        ("shop", "gone", 80),
        ("shop", "pay", 81),
    ]);
    let mut backend = Fields::default();
    backend.maybe(random, 4, "group", |_| "");
    backend.maybe(random, 4, "kind", |_| "Service");
    backend.put("name", name);
    backend.put("namespace", namespace);
    backend.put("port", port);
    backend.maybe(random, 2, "weight", |random| random.of(&[0, 1, 5, 90]));
    backend.done()
}

fn filters(random: &mut Random, redirects: bool, all_prefixes: bool) -> Vec<Value> {
    let mut filters = Vec::new();
    for (kind, field) in [
        ("RequestHeaderModifier", "requestHeaderModifier"),
        ("ResponseHeaderModifier", "responseHeaderModifier"),
    ] {
        if random.one_in(6) {
            filters.push(json!({"type": kind, field: headers(random)}));
        }
    }
    if redirects {
        let redirect = redirect(random, all_prefixes);
        filters.push(json!({"type": "RequestRedirect", "requestRedirect": redirect}));
    } else if random.one_in(4) {
        let mut rewrite = Fields::default();
        rewrite.maybe(random, 2, "hostname", |_| "new.example.com");
        rewrite.maybe(random, 2, "path", |random| {
            path_change(random, all_prefixes)
        });
        filters.push(json!({"type": "URLRewrite", "urlRewrite": rewrite.done()}));
    }
    filters
}

fn headers(random: &mut Random) -> Value {
    let mut headers = Fields::default();
    let one = |name: &str, value: &str| json!([{"name": name, "value": value}]);
    headers.maybe(random, 2, "set", |random| {
        one("X-Set", random.of(&["1", "2"]))
    });
    headers.maybe(random, 2, "add", |random| {
        one("x-Add", random.of(&["1", "2"]))
    });
    headers.maybe(random, 2, "remove", |_| json!(["X-Gone"]));
    headers.done()
}

fn redirect(random: &mut Random, all_prefixes: bool) -> Value {
    let mut redirect = Fields::default();
    redirect.maybe(random, 2, "scheme", |random| random.of(&["http", "https"]));
    redirect.maybe(random, 2, "hostname", |_| "other.example.com");
    redirect.maybe(random, 2, "path", |random| {
        path_change(random, all_prefixes)
    });
    redirect.maybe(random, 3, "port", |random| random.of(&[80, 443, 8443]));
    redirect.maybe(random, 2, "statusCode", |random| random.of(&[301, 307]));
    redirect.done()
}

fn path_change(random: &mut Random, all_prefixes: bool) -> Value {
    if all_prefixes && random.one_in(2) {
        let with = random.of(&["/x", "/x/", "/", ""]);
        json!({"type": "ReplacePrefixMatch", "replacePrefixMatch": with})
    } else {
        json!({"type": "ReplaceFullPath", "replaceFullPath": random.of(&["/x/y", "/a", ""])})
    }
}

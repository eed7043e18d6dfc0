//! Random policies.

use serde_json::{Value, json};

use crate::random::{Fields, Random};
use crate::worlds::{CLUSTER, NAMESPACES, WORKSPACES, label, object};

const METHODS: [&str; 3] = ["GET", "POST", "PUT"];

/// Where a policy lives: every second time where most of the services are.
pub(crate) fn place(random: &mut Random, index: usize) -> &'static str {
    match random.below(4) {
        _ if index.is_multiple_of(2) => "shop",
        0 => "tacit-system",
        1 => "shop-home",
        _ => random.of(&NAMESPACES),
    }
}

/// Policies that name one service from near to far and say the same fields.
pub(crate) fn crowd(random: &mut Random) -> Vec<Value> {
    let route = |section: &[&str]| {
        let mut target = reference("gateway.networking.k8s.io", "HTTPRoute", "crowd");
        section
            .iter()
            .for_each(|name| target["sectionName"] = json!(name));
        json!([target])
    };
    let selector = |namespaces: Value| {
        let mut target = json!({"group": "", "kind": "Service", "matchLabels": {"tier": "gold"}});
        if namespaces == true {
            target["allNamespaces"] = namespaces;
        }
        json!([target])
    };
    let places = [
        ("shop", "targetRefs", route(&["one"])),
        ("shop", "targetRefs", route(&[])),
        (
            "shop",
            "targetRefs",
            json!([reference("", "Service", "pay")]),
        ),
        ("shop", "targetSelectors", selector(json!(false))),
        ("tacit-system", "targetSelectors", selector(json!(true))),
        ("shop", "targetAll", json!({})),
        ("shop-home", "targetAll", json!({})),
        ("tacit-system", "targetAll", json!({})),
    ];
    let mut found = Vec::new();
    for (namespace, field, target) in places {
        if random.one_in(3) {
            continue;
        }
        let mut spec = Fields::default();
        spec.put(field, target);
        spec.maybe(random, 6, "enforcement", |_| "Override");
        spec.maybe(random, 2, "priority", |random| random.of(&[-1, 1, 2]));
        spec.put(
            "timeout",
            json!({"request": format!("{}s", 10 + found.len())}),
        );
        spec.maybe(random, 4, "from", |random| callers(random, false));
        // Names in any order: they decide where nothing else does.
        let name = format!("{}{}", random.of(&["a", "m", "z"]), found.len());
        let policy = object(
            "RetryTimeoutPolicy",
            (namespace, &name),
            json!({}),
            spec.done(),
        );
        found.push(policy);
    }
    found
}

/// The target fields of a policy in `namespace`.
fn targets(random: &mut Random, spec: &mut Fields, namespace: &str, kind: &str) {
    let is_outer = matches!(namespace, "tacit-system" | "shop-home");
    let refs = |random: &mut Random| match random.below(8) {
        0 | 1 if is_outer => reference("", "Namespace", random.of(&["shop", "bank"])),
        0 => reference("", "Namespace", random.of(&["shop", namespace])),
        2 | 3 if is_outer => reference("tacit.dev", "Workspace", "shop"),
        2 => reference("tacit.dev", "Workspace", random.of(&WORKSPACES)),
        4 => reference("tacit.dev", "Mesh", "default"),
        _ if kind == "RetryTimeoutPolicy" && random.one_in(2) => {
            let name = random.of(&["p0", "p2"]);
            let kind = random.of(&["GRPCRoute", "HTTPRoute", "HTTPRoute"]);
            let mut target = reference("gateway.networking.k8s.io", kind, name);
            if random.one_in(2) {
                target["sectionName"] = random.of(&["one", "one", "two"]).into();
            }
            target
        }
        _ => {
            let own = match namespace {
                "shop-b" => "api",
                "bank" => "db",
                "edge" => "web",
                _ => random.of(&["pay", "pay", "led", "lite"]),
            };
            reference("", "Service", own)
        }
    };
    match random.below(6) {
        0..3 => {
            let mut list = vec![refs(random)];
            if random.one_in(3) {
                list.push(refs(random));
            }
            spec.put("targetRefs", list);
        }
        3 | 4 => {
            let mut selector = Fields::default();
            if kind == "AccessPolicy" && random.one_in(2) {
                selector.put("group", "tacit.dev");
                selector.put("kind", "Workload");
                let labels = [
                    json!({"track": "stable"}),
                    json!({"app": "pay"}),
                    json!({"app": "db"}),
                ];
                selector.put("matchLabels", random.of(&labels));
            } else {
                selector.put("group", "");
                selector.put("kind", "Service");
                selector.put("matchLabels", label(random));
            }
            match random.below(3) {
                0 => selector.put("allNamespaces", true),
                1 => selector.put("namespaces", random.some(&["shop", "bank", "shop-b"])),
                _ => {}
            }
            spec.put("targetSelectors", json!([selector.done()]));
        }
        _ => spec.put("targetAll", json!({})),
    }
}

fn reference(group: &str, kind: &str, name: &str) -> Value {
    json!({"group": group, "kind": kind, "name": name})
}

fn precedence(random: &mut Random, spec: &mut Fields) {
    spec.maybe(random, 4, "enforcement", |random| {
        random.of(&["Override", "Override", "Default"])
    });
    spec.maybe(random, 3, "priority", |random| random.of(&[-5, 0, 5]));
}

/// Callers of a rule or of a policy.
fn callers(random: &mut Random, with_unauthenticated: bool) -> Value {
    let entry = |random: &mut Random| {
        let mut entry = Fields::default();
        if with_unauthenticated && random.one_in(8) {
            entry.put("unauthenticated", true);
        } else {
            entry.maybe(random, 2, "namespaces", |random| {
                random.some(&["shop", "edge", "bank", "lab"])
            });
            entry.maybe(random, 2, "serviceAccounts", |random| {
                random.some(&["web", "pay", "edge/web", "shop/pay"])
            });
            entry.maybe(random, 4, "workspaces", |random| random.some(&WORKSPACES));
            entry.maybe(random, 8, "trustDomain", |random| {
                random.of(&["td.example", "far.example"])
            });
        }
        entry.maybe(random, 5, "cidrs", |random| {
            random.some(&["10.0.0.0/8", "10.1.0.0/16", "192.0.2.1"])
        });
        if entry.is_empty() || random.one_in(6) {
            entry.put("except", random.some(&["10.1.2.0/24", "10.0.0.0/9"]));
        }
        entry.done()
    };
    let mut list = vec![entry(random)];
    if random.one_in(3) {
        list.push(entry(random));
    }
    json!(list)
}

pub(crate) fn access(random: &mut Random, (namespace, name): (&str, &str)) -> Value {
    let mut spec = Fields::default();
    targets(random, &mut spec, namespace, "AccessPolicy");
    spec.put("action", random.of(&["Allow", "Allow", "Deny"]));
    spec.maybe(random, 3, "mode", |random| {
        random.of(&["Audit", "Audit", "Enforce"])
    });
    if !random.one_in(10) {
        let count = 1 + random.below(3);
        let rules: Vec<Value> = (0..count).map(|_| rule(random)).collect();
        spec.put("rules", rules);
    }
    object("AccessPolicy", (namespace, name), json!({}), spec.done())
}

fn rule(random: &mut Random) -> Value {
    let mut rule = Fields::default();
    rule.maybe(random, 2, "from", |random| callers(random, true));
    rule.maybe(random, 2, "to", |random| {
        let mut list = vec![operation(random)];
        if random.one_in(3) {
            list.push(operation(random));
        }
        list
    });
    rule.done()
}

fn operation(random: &mut Random) -> Value {
    let mut to = Fields::default();
    to.maybe(random, 2, "ports", |random| random.some(&[80, 8080, 9000]));
    to.maybe(random, 3, "methods", |random| random.some(&METHODS));
    match random.below(6) {
        0 | 1 => to.put(
            "paths",
            random.some(&["/a", "/a/*", "/a/b*", "/x/*", "/*", "*"]),
        ),
        2 => to.put("grpc", random.some(&["a/b", "a/*", "x/b", "shop.a/b"])),
        _ => {}
    }
    if to.is_empty() || random.one_in(6) {
        to.put(
            "hosts",
            random.some(&["pay.shop", "*.shop", "*.example.com", "new.example.com"]),
        );
    }
    to.done()
}

pub(crate) fn timeout(random: &mut Random) -> Value {
    let mut timeout = Fields::default();
    timeout.maybe(random, 2, "request", |random| {
        random.of(&["0s", "2s", "3s", "1m30s"])
    });
    timeout.maybe(random, 2, "perTry", |random| {
        random.of(&["0s", "600ms", "1s"])
    });
    timeout.maybe(random, 3, "idle", |random| random.of(&["0s", "5m", "1h"]));
    if timeout.is_empty() || random.one_in(3) {
        timeout.put("connect", random.of(&["500ms", "2s"]));
    }
    timeout.done()
}

pub(crate) fn retries(random: &mut Random) -> Value {
    let mut retry = Fields::default();
    retry.maybe(random, 2, "attempts", |random| random.of(&[0, 1, 2, 3]));
    retry.maybe(random, 4, "on", |random| {
        random.some(&[
            "ConnectFailure",
            "RefusedStream",
            "GatewayError",
            "Reset",
            "ServerError",
            "DeadlineExceeded",
        ])
    });
    retry.maybe(random, 4, "codes", |random| random.some(&[429, 503, 500]));
    retry.maybe(random, 4, "nonIdempotent", |random| {
        random.of(&[true, false])
    });
    retry.maybe(random, 4, "methods", |random| random.some(&["GET", "PUT"]));
    retry.maybe(random, 4, "backoff", |random| {
        let mut backoff = Fields::default();
        backoff.maybe(random, 2, "base", |random| random.of(&["10ms", "300ms"]));
        if backoff.is_empty() || random.one_in(2) {
            backoff.put("max", random.of(&["300ms", "500ms"]));
        }
        backoff.done()
    });
    retry.maybe(random, 4, "budget", |random| {
        let mut budget = Fields::default();
        budget.maybe(random, 2, "retryPercent", |random| random.of(&[0, 50]));
        budget.maybe(random, 2, "interval", |random| random.of(&["5s", "1m"]));
        if budget.is_empty() || random.one_in(2) {
            budget.put("minPerSecond", random.of(&[0, 3]));
        }
        budget.done()
    });
    if retry.is_empty() || random.one_in(5) {
        retry.put("maxBody", random.of(&["0", "1Ki", "1Mi"]));
    }
    retry.done()
}

pub(crate) fn retry(random: &mut Random, (namespace, name): (&str, &str)) -> Value {
    let mut spec = Fields::default();
    targets(random, &mut spec, namespace, "RetryTimeoutPolicy");
    precedence(random, &mut spec);
    spec.maybe(random, 2, "timeout", timeout);
    if random.one_in(2) {
        spec.put("retry", retries(random));
    } else {
        spec.put("timeout", timeout(random));
    }
    spec.maybe(random, 4, "from", |random| callers(random, false));
    object(
        "RetryTimeoutPolicy",
        (namespace, name),
        json!({}),
        spec.done(),
    )
}

pub(crate) fn failover(random: &mut Random, (namespace, name): (&str, &str)) -> Value {
    let mut spec = Fields::default();
    targets(random, &mut spec, namespace, "FailoverPolicy");
    precedence(random, &mut spec);
    let mut fields = Fields::default();
    failover_fields(random, &mut fields, false);
    if fields.is_empty() {
        fields.put("order", order(random, false));
    }
    for (name, value) in fields.done().as_object().into_iter().flatten() {
        spec.put(name, value.clone());
    }
    object("FailoverPolicy", (namespace, name), json!({}), spec.done())
}

pub(crate) fn fault(random: &mut Random, (namespace, name): (&str, &str)) -> Value {
    let mut spec = Fields::default();
    targets(random, &mut spec, namespace, "FaultPolicy");
    precedence(random, &mut spec);
    spec.maybe(random, 4, "from", |random| callers(random, false));
    let until = ["2026-12-31T23:59:59Z", "2027-06-01T12:00:00Z"];
    let is_over = random.one_in(5);
    spec.put("until", until[usize::from(!is_over)]);
    let which = random.below(3);
    let share = |random: &mut Random| random.of(&[0, 30, 100]);
    if which != 0 {
        let time = random.of(&["1s", "250ms"]);
        spec.put(
            "delay",
            json!({"time": time, "sharePercent": share(random)}),
        );
    }
    if which != 1 {
        let status = random.of(&[503, 429]);
        spec.put(
            "abort",
            json!({"status": status, "sharePercent": share(random)}),
        );
    }
    object("FaultPolicy", (namespace, name), json!({}), spec.done())
}

pub(crate) fn rate(random: &mut Random, (namespace, name): (&str, &str)) -> Value {
    let mut spec = Fields::default();
    targets(random, &mut spec, namespace, "RateLimitPolicy");
    precedence(random, &mut spec);
    let count = 1 + random.below(2);
    let limits: Vec<Value> = (0..count).map(|_| limit(random)).collect();
    spec.put("limits", limits);
    object("RateLimitPolicy", (namespace, name), json!({}), spec.done())
}

fn limit(random: &mut Random) -> Value {
    let mut limit = Fields::default();
    limit.put("requests", random.of(&[1, 100]));
    limit.put("per", random.of(&["1s", "1m30s"]));
    limit.maybe(random, 2, "burst", |random| random.of(&[1, 7, 100]));
    limit.maybe(random, 2, "key", |random| {
        random.some(&[
            json!({"type": "Identity"}),
            json!({"type": "Header", "header": "X-User"}),
            json!({"type": "Header", "header": "x-plan"}),
        ])
    });
    limit.maybe(random, 4, "counter", |_| "Local");
    limit.done()
}

/// `in_defaults`: services need their namespaces there.
pub(crate) fn failover_fields(random: &mut Random, fields: &mut Fields, in_defaults: bool) {
    fields.maybe(random, 2, "order", |random| order(random, in_defaults));
    fields.maybe(random, 3, "orders", |random| {
        let first = json!({"clients": {"zone": random.of(&["a", "b"])}, "order": order(random, in_defaults)});
        let clients = [
            json!({"region": "r1"}),
            json!({"region": "r1", "zone": "a"}),
            json!({"cluster": CLUSTER, "region": "r1"}),
            json!({"cluster": CLUSTER, "region": "r1"}),
        ];
        match random.below(3) {
            0 => json!([first]),
            _ => {
                let second = json!({"clients": random.of(&clients), "order": order(random, in_defaults)});
                if random.one_in(2) { json!([first, second]) } else { json!([second, first]) }
            }
        }
    });
    fields.maybe(random, 2, "health", health);
    fields.maybe(random, 3, "spill", |random| {
        let mut spill = Fields::default();
        spill.maybe(random, 2, "belowPercent", |random| {
            random.of(&[30, 50, 100])
        });
        if spill.is_empty() || random.one_in(2) {
            spill.put("ramp", random.of(&["0s", "20s"]));
        }
        spill.done()
    });
    fields.maybe(random, 5, "failback", |random| {
        let mut failback = Fields::default();
        failback.maybe(random, 2, "after", |random| random.of(&["0s", "10s"]));
        if failback.is_empty() || random.one_in(2) {
            failback.put("ramp", random.of(&["0s", "10s"]));
        }
        failback.done()
    });
    fields.maybe(random, 3, "whenNoneHealthy", |random| {
        random.of(&["Any", "Fail", "Fail"])
    });
}

fn order(random: &mut Random, in_defaults: bool) -> Value {
    let count = 1 + random.below(3);
    let mut steps: Vec<Value> = (0..count)
        .map(|_| json!({"places": places(random)}))
        .collect();
    if random.one_in(3) {
        let mut service = Fields::default();
        let (namespace, name) = random.of(&[
            ("shop", "lite"),
            ("shop", "pay"),
            ("bank", "db"),
            ("shop", "gone"),
        ]);
        service.put("name", name);
        if in_defaults || random.one_in(2) {
            service.put("namespace", namespace);
        }
        steps.push(json!({"service": service.done()}));
    }
    json!(steps)
}

fn places(random: &mut Random) -> Value {
    let place = |random: &mut Random| {
        random.of(&[
            json!({"zone": "same"}),
            json!({"region": "same"}),
            json!({"cluster": "same"}),
            json!({"cluster": CLUSTER, "region": "same"}),
            json!({"zone": "a"}),
            json!({"zone": "b"}),
            json!({"region": "r1"}),
            json!({"region": "r2", "zone": "c"}),
        ])
    };
    let first = place(random);
    let second = place(random);
    if random.one_in(3) || first == second {
        return json!([first]);
    }
    let mut weighted = [first, second];
    for one in &mut weighted {
        if random.one_in(2) {
            one["weight"] = random.of(&[json!(3), json!(80), json!(20)]);
        }
    }
    json!(weighted)
}

fn health(random: &mut Random) -> Value {
    let mut health = Fields::default();
    let counts = random.one_in(2);
    if counts {
        let lists = [
            json!(["GatewayError"]),
            json!(["Readiness", "Connect", "ServerError"]),
            json!(["Timeout", "Session"]),
            json!(["GatewayError", "Timeout"]),
        ];
        health.put("signals", random.of(&lists));
    } else if random.one_in(2) {
        health.put(
            "signals",
            random.of(&[json!(["Readiness", "Session"]), json!([])]),
        );
    }
    if counts && !random.one_in(4) {
        let mut eject = Fields::default();
        eject.maybe(random, 2, "consecutive", |random| random.of(&[1, 3]));
        eject.maybe(random, 4, "within", |random| random.of(&["5s", "20s"]));
        eject.maybe(random, 4, "for", |random| random.of(&["10s", "1m"]));
        if !random.one_in(3) {
            eject.put("maxPercent", random.of(&[0, 30, 100, 100, 100]));
        }
        health.put("eject", eject.done());
    }
    if health.is_empty() || random.one_in(6) {
        let mut probe = Fields::default();
        probe.put("path", random.of(&["/healthz", "/ready"]));
        probe.maybe(random, 2, "interval", |random| random.of(&["2s", "10s"]));
        health.put("probe", probe.done());
    }
    health.done()
}

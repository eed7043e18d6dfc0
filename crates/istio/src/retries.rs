//! Timeouts and further tries of a service as a VirtualService.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use tacit_model::resilience::{Fields, Resilience, RetryOn};
use tacit_model::tables::{Protocol, ServicePort, ServiceRow};
use tacit_model::{Provenance, Sourced};

use crate::faults::Faults;
use crate::object::{Draft, Kind, seconds};
use crate::world::World;

/// Methods that may be repeated by themselves (RFC 9110, section 9.2.2).
const IDEMPOTENT: [&str; 6] = ["DELETE", "GET", "HEAD", "OPTIONS", "PUT", "TRACE"];
/// What is repeated without being asked for: what never reached the application.
const NEVER_SENT: &str = "connect-failure,refused-stream";

/// What applies to every caller of a service, each value with its origin.
pub(crate) fn effective(service: &ServiceRow) -> Resilience {
    let mut found = Resilience::default();
    let layers: Vec<&Fields> = service
        .resilience
        .iter()
        .filter(|layer| layer.callers.is_none())
        .map(|layer| &layer.fields)
        .collect();
    first(&mut found.request, &layers, |fields| &fields.request);
    first(&mut found.per_try, &layers, |fields| &fields.per_try);
    first(&mut found.idle, &layers, |fields| &fields.idle);
    first(&mut found.connect, &layers, |fields| &fields.connect);
    first(&mut found.attempts, &layers, |fields| &fields.attempts);
    first(&mut found.when, &layers, |fields| &fields.when);
    first(&mut found.methods, &layers, |fields| &fields.methods);
    first(&mut found.backoff, &layers, |fields| &fields.backoff);
    found
}

fn first<T: Clone>(
    value: &mut Sourced<T>,
    layers: &[&Fields],
    read: impl Fn(&Fields) -> &Option<Sourced<T>>,
) {
    if let Some(found) = layers.iter().find_map(|fields| read(fields).as_ref()) {
        *value = found.clone();
    }
}

/// The VirtualService of a service; nothing if no port of it is HTTP.
pub(crate) fn translate(world: &World<'_>, service: &ServiceRow) -> Option<Draft> {
    let ports = service
        .ports
        .iter()
        .filter(|port| port.protocol == Protocol::Http);
    let ports: Vec<&ServicePort> = ports.collect();
    if ports.is_empty() {
        return None;
    }
    let name = &service.name;
    let effective = effective(service);
    let mut draft = Draft::new(Kind::VirtualService, &name.namespace, &name.name);
    draft.set("hosts", json!([name.fqdn()]));
    draft.note(
        "spec.hosts",
        format!("Service/{}/{}", name.namespace, name.name),
    );
    let faults = Faults::of(service);
    let remote = crate::locality::has_order(world, service);
    let mut http = Vec::new();
    for port in ports {
        // A port is only named where there is a choice.
        let port = (service.ports.len() > 1).then_some(port.port);
        for class in classes(&effective) {
            let at = format!("spec.http[{}]", http.len());
            let mut entry = route(&name.fqdn(), port, &effective, &class, remote);
            faults.add_to(&mut entry, &mut draft, &at);
            http.push(Value::Object(entry));
            note(&mut draft, &at, &effective, &class);
        }
    }
    draft.set("http", Value::Array(http));
    Some(draft)
}

/// Requests that are tried again alike.
struct Class {
    /// Only these methods; absent: all that no earlier class has.
    methods: Option<BTreeSet<String>>,
    attempts: u32,
    /// Conditions, as Istio calls them.
    on: String,
}

/// The classes of requests, in the order of their routes.
fn classes(r: &Resilience) -> Vec<Class> {
    let attempts = r.attempts.value;
    if attempts == 0 {
        // Zero that somebody wrote switches everything off, the free try too.
        let written = r.attempts.from != Provenance::Default;
        return vec![Class {
            methods: None,
            attempts: u32::from(!written),
            on: NEVER_SENT.to_owned(),
        }];
    }
    let all = Class {
        methods: methods(r),
        attempts,
        on: conditions(r),
    };
    let (when, only) = (&r.when.value, &r.methods.value.only);
    let names_it =
        when.on.contains(&RetryOn::ConnectFailure) || when.on.contains(&RetryOn::RefusedStream);
    let rest = Class {
        methods: None,
        attempts: if only.is_none() && names_it {
            attempts
        } else {
            1
        },
        on: NEVER_SENT.to_owned(),
    };
    match &all.methods {
        None => vec![all],
        Some(methods)
            if methods.is_empty() || all.on == NEVER_SENT && attempts == rest.attempts =>
        {
            vec![rest]
        }
        Some(_) => vec![all, rest],
    }
}

/// The methods that are tried again after a byte was sent; absent: all.
fn methods(r: &Resilience) -> Option<BTreeSet<String>> {
    let methods = &r.methods.value;
    let only = methods.only.as_ref();
    if methods.non_idempotent {
        return only.map(|set| set.iter().map(ToString::to_string).collect());
    }
    let fits = |method: &&str| only.is_none_or(|set| set.iter().any(|m| **m == **method));
    Some(
        IDEMPOTENT
            .iter()
            .copied()
            .filter(|m| fits(m))
            .map(str::to_owned)
            .collect(),
    )
}

/// True for a status code that Istio takes: it refuses those that have no name.
pub(crate) fn is_registered(code: u16) -> bool {
    matches!(code, 400..=418 | 421..=426 | 428 | 429 | 431 | 451 | 500..=508 | 510 | 511)
}

/// When a try is repeated, in Istio's words.
fn conditions(r: &Resilience) -> String {
    let on = &r.when.value.on;
    let mut words = vec![NEVER_SENT.to_owned()];
    if on.contains(&RetryOn::Reset) || on.contains(&RetryOn::DeadlineExceeded) {
        words.push("reset".to_owned());
    }
    let codes = r.when.value.codes.iter().copied();
    let mut codes: BTreeSet<u16> = codes.filter(|code| is_registered(*code)).collect();
    if on.contains(&RetryOn::ServerError) {
        words.push("5xx".to_owned());
    } else if on.contains(&RetryOn::GatewayError) {
        // Istio's `gateway-error` means every broken connection and timeout, too.
        codes.extend([502, 503, 504]);
    }
    if !codes.is_empty() {
        words.push("retriable-status-codes".to_owned());
    }
    words.extend(codes.iter().map(ToString::to_string));
    words.join(",")
}

fn route(
    host: &str,
    port: Option<u16>,
    r: &Resilience,
    class: &Class,
    remote: bool,
) -> Map<String, Value> {
    let mut route = Map::new();
    let with_port = |mut entry: Map<String, Value>| {
        if let Some(port) = port {
            entry.insert("port".to_owned(), port.into());
        }
        Value::Object(entry)
    };
    let matches: Vec<Value> = match &class.methods {
        Some(methods) => {
            let entry = |method: &String| {
                let exact = json!({"exact": method});
                with_port(Map::from_iter([("method".to_owned(), exact)]))
            };
            methods.iter().map(entry).collect()
        }
        None if port.is_some() => vec![with_port(Map::new())],
        None => Vec::new(),
    };
    if !matches.is_empty() {
        route.insert("match".to_owned(), Value::Array(matches));
    }
    let destination = match port {
        Some(port) => json!({"host": host, "port": {"number": port}}),
        None => json!({"host": host}),
    };
    route.insert("route".to_owned(), json!([{"destination": destination}]));
    if !r.request.value.is_zero() {
        route.insert("timeout".to_owned(), seconds(r.request.value).into());
    }
    route.insert("retries".to_owned(), retries(r, class, remote));
    route
}

fn retries(r: &Resilience, class: &Class, remote: bool) -> Value {
    let mut retries = Map::new();
    retries.insert("attempts".to_owned(), class.attempts.into());
    if class.attempts == 0 {
        return Value::Object(retries);
    }
    retries.insert("retryOn".to_owned(), class.on.clone().into());
    if !r.per_try.value.is_zero() {
        retries.insert("perTryTimeout".to_owned(), seconds(r.per_try.value).into());
    }
    if !r.backoff.value.base.is_zero() {
        retries.insert("backoff".to_owned(), seconds(r.backoff.value.base).into());
    }
    if remote {
        retries.insert("retryRemoteLocalities".to_owned(), true.into());
    }
    Value::Object(retries)
}

fn note(draft: &mut Draft, at: &str, r: &Resilience, class: &Class) {
    if class.methods.is_some() {
        draft.note(format!("{at}.match"), &r.methods.from);
    }
    if !r.request.value.is_zero() {
        draft.note(format!("{at}.timeout"), &r.request.from);
    }
    draft.note(format!("{at}.retries.attempts"), &r.attempts.from);
    if class.attempts == 0 {
        return;
    }
    let when = if class.on == NEVER_SENT {
        &Provenance::Default
    } else {
        &r.when.from
    };
    draft.note(format!("{at}.retries.retryOn"), when);
    if !r.per_try.value.is_zero() {
        draft.note(format!("{at}.retries.perTryTimeout"), &r.per_try.from);
    }
    if !r.backoff.value.base.is_zero() {
        draft.note(format!("{at}.retries.backoff"), &r.backoff.from);
    }
}

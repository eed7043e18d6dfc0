//! What an Istio mesh does with a request, from what Istio documents: mutual TLS first, then any
//! DENY that matches, then ALLOW if there is any for the workload. Shares no code with the
//! translation.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::Value;

/// A workload as Istio's selectors see it.
pub(crate) struct Workload<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) labels: &'a BTreeMap<&'a str, &'a str>,
}

/// A connection, and the request on it if the proxy reads requests there.
pub(crate) struct Call<'a> {
    pub(crate) principal: Option<&'a str>,
    pub(crate) ip: IpAddr,
    pub(crate) port: u16,
    pub(crate) request: Option<Request<'a>>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) host: &'a str,
}

const ROOT: &str = "istio-system";

/// True if the call passes.
pub(crate) fn passes(objects: &[Value], workload: &Workload<'_>, call: &Call<'_>) -> bool {
    let strict = objects.iter().any(|object| {
        object["kind"] == "PeerAuthentication"
            && object["metadata"]["namespace"] == ROOT
            && object["spec"]["mtls"]["mode"] == "STRICT"
    });
    if strict && call.principal.is_none() {
        return false;
    }
    let mine: Vec<&Value> = objects
        .iter()
        .filter(|object| applies(object, workload))
        .collect();
    let matches = |policy: &&&Value| {
        let action = action(policy);
        let rules = policy["spec"]["rules"].as_array();
        rules
            .into_iter()
            .flatten()
            .any(|rule| rule_matches(rule, action, call))
    };
    let of = |wanted: &'static str| mine.iter().filter(move |policy| action(policy) == wanted);
    if of("DENY").any(|policy| matches(&policy)) {
        return false;
    }
    of("ALLOW").count() == 0 || of("ALLOW").any(|policy| matches(&policy))
}

fn action(policy: &Value) -> &str {
    policy["spec"]["action"].as_str().unwrap_or("ALLOW")
}

fn applies(object: &Value, workload: &Workload<'_>) -> bool {
    let namespace = &object["metadata"]["namespace"];
    let labels = object["spec"]["selector"]["matchLabels"].as_object();
    object["kind"] == "AuthorizationPolicy"
        && object["metadata"]["annotations"]["istio.io/dry-run"] != "true"
        && (namespace == ROOT || namespace == workload.namespace)
        && labels
            .into_iter()
            .flatten()
            .all(|(key, value)| workload.labels.get(key.as_str()).copied() == value.as_str())
}

fn rule_matches(rule: &Value, action: &str, call: &Call<'_>) -> bool {
    let from = rule.get("from").and_then(Value::as_array);
    let to = rule.get("to").and_then(Value::as_array);
    let unreadable = call.request.is_none()
        && to.is_some_and(|to| to.iter().any(|to| has_request_fields(&to["operation"])));
    if unreadable && action == "ALLOW" {
        return false;
    }
    from.is_none_or(|from| {
        from.iter()
            .any(|from| source_matches(&from["source"], call))
    }) && to.is_none_or(|to| {
        to.iter()
            .any(|to| operation_matches(&to["operation"], call))
    })
}

fn has_request_fields(operation: &Value) -> bool {
    ["methods", "paths", "hosts"]
        .iter()
        .any(|field| operation.get(field).is_some())
}

fn list<'v>(fields: &'v Value, name: &str) -> Option<Vec<&'v str>> {
    let list = fields.get(name)?.as_array()?;
    assert!(
        !list.is_empty(),
        "an empty list means nothing certain: {fields}"
    );
    Some(list.iter().filter_map(Value::as_str).collect())
}

fn source_matches(source: &Value, call: &Call<'_>) -> bool {
    let known = ["principals", "notPrincipals", "ipBlocks", "notIpBlocks"];
    only_known(source, &known);
    let named = |patterns: &[&str]| {
        let fits = |who: &str| patterns.iter().any(|pattern| text_matches(pattern, who));
        call.principal.is_some_and(fits)
    };
    let inside = |blocks: &[&str]| blocks.iter().any(|block| block_has(block, call.ip));
    list(source, "principals").is_none_or(|list| named(&list))
        && list(source, "notPrincipals").is_none_or(|list| !named(&list))
        && list(source, "ipBlocks").is_none_or(|list| inside(&list))
        && list(source, "notIpBlocks").is_none_or(|list| !inside(&list))
}

fn operation_matches(operation: &Value, call: &Call<'_>) -> bool {
    only_known(
        operation,
        &["ports", "notPorts", "methods", "paths", "hosts"],
    );
    let port = call.port.to_string();
    let on = |ports: &[&str]| ports.contains(&port.as_str());
    let ports = list(operation, "ports").is_none_or(|list| on(&list))
        && list(operation, "notPorts").is_none_or(|list| !on(&list));
    // Conditions on requests are left out of a DENY where there are none to see.
    let Some(request) = call.request else {
        return ports;
    };
    let fits = |name: &str, value: &str| {
        let patterns = list(operation, name);
        patterns.is_none_or(|list| list.iter().any(|pattern| text_matches(pattern, value)))
    };
    ports
        && fits("methods", request.method)
        && fits("paths", request.path.split('?').next().unwrap())
        && fits("hosts", &request.host.to_ascii_lowercase())
}

fn only_known(fields: &Value, known: &[&str]) {
    for name in fields.as_object().unwrap().keys() {
        assert!(known.contains(&name.as_str()), "{name} has no meaning here");
    }
}

/// Exact, prefix, suffix, presence.
fn text_matches(pattern: &str, text: &str) -> bool {
    if pattern == "*" {
        return !text.is_empty();
    }
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(suffix), _) => text.ends_with(suffix),
        (None, Some(prefix)) => text.starts_with(prefix),
        (None, None) => pattern == text,
    }
}

fn block_has(block: &str, ip: IpAddr) -> bool {
    let (IpAddr::V4(ip), Some((network, bits))) = (ip, block.split_once('/')) else {
        return block == ip.to_string();
    };
    let network: std::net::Ipv4Addr = network.parse().unwrap();
    let bits: u32 = bits.parse().unwrap();
    let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
    u32::from(ip) & mask == u32::from(network) & mask
}

//! AccessPolicy: its checks, its row, and which classes of workloads it is attached to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tacit_api::access::{self as written, AccessPolicySpec, AccessRule, Operation};
use tacit_api::{Located, Object, Policy};
use tacit_model::access::{Action, From, Mode, PathPattern, Rule, To};
use tacit_model::finding::Finding;
use tacit_model::tables::{
    AccessAttachment, AccessRow, ClassKey, ClassRow, Protocol, ServicePort, TargetPort, WorkloadRow,
};
use tacit_model::{Namespace, PolicyName, ServiceName};

use crate::findings::{
    BAD_TEXT, CONTRADICTION, EMPTY_LIST, OPAQUE_PORT, OPAQUE_PORT_IN_SCOPE, OUT_OF_RANGE, Report,
    SERVICE_PORT_LISTED, UNKNOWN_WORKSPACE,
};
use crate::targets::{Closeness, Hit};
use crate::workspace::Tenants;
use crate::{targets, values};

/// Checks a policy by itself.
pub(crate) fn validate(object: &Located<Object>, spec: &AccessPolicySpec) -> Vec<Finding> {
    let mut report = Report::new(object);
    targets::validate(&mut report, spec.targeting());
    targets::no_precedence(&mut report, spec);
    values::not_empty(&mut report, "spec.rules", spec.rules.as_deref());
    for (index, rule) in spec.rules.iter().flatten().enumerate() {
        let at = format!("spec.rules[{index}]");
        values::callers(&mut report, &format!("{at}.from"), rule.from.as_deref());
        values::not_empty(&mut report, &format!("{at}.to"), rule.to.as_deref());
        for (index, to) in rule.to.iter().flatten().enumerate() {
            operation(&mut report, &format!("{at}.to[{index}]"), to);
        }
    }
    report.findings
}

fn operation(report: &mut Report<'_>, at: &str, to: &Operation) {
    let Operation {
        ports,
        methods,
        paths,
        hosts,
        headers: _,
        grpc,
    } = to;
    if *to == Operation::default() {
        report.say(EMPTY_LIST, at, "the entry names nothing");
    }
    values::not_empty(report, &format!("{at}.ports"), ports.as_deref());
    for (index, port) in ports.iter().flatten().enumerate() {
        if *port == 0 {
            report.say(
                OUT_OF_RANGE,
                &format!("{at}.ports[{index}]"),
                "0 is no port",
            );
        }
    }
    values::methods(report, &format!("{at}.methods"), methods.as_deref());
    values::not_empty(report, &format!("{at}.paths"), paths.as_deref());
    for (index, path) in paths.iter().flatten().enumerate() {
        if let Err(why) = pattern(path) {
            let message = format!("{path:?} is no canonical path: {why}");
            let fix = "write a path such as /accounts, or a prefix such as /accounts/*".to_owned();
            report.add(
                BAD_TEXT,
                &format!("{at}.paths[{index}]"),
                message,
                Some(fix),
            );
        }
    }
    grpc_methods(report, &format!("{at}.grpc"), grpc.as_deref());
    if paths.is_some() && grpc.is_some() {
        let message = "a gRPC method is a path: `paths` and `grpc` cannot both hold";
        report.say(CONTRADICTION, &format!("{at}.grpc"), message);
    }
    values::not_empty(report, &format!("{at}.hosts"), hosts.as_deref());
    for (index, host) in hosts.iter().flatten().enumerate() {
        if !is_host(host) {
            let message = format!("{host:?} is no host name");
            let fix = "write a name in lower case without port: shop.example.com, *.example.com";
            let field = format!("{at}.hosts[{index}]");
            report.add(BAD_TEXT, &field, message, Some(fix.to_owned()));
        }
    }
}

fn grpc_methods(report: &mut Report<'_>, field: &str, list: Option<&[String]>) {
    values::not_empty(report, field, list);
    for (index, text) in list.unwrap_or_default().iter().enumerate() {
        if grpc_method(text).is_none() {
            let message = format!("{text:?} is no gRPC method");
            let fix = "write the service with its package, and a method or `*`: bank.Ledger/Read";
            let field = format!("{field}[{index}]");
            report.add(BAD_TEXT, &field, message, Some(fix.to_owned()));
        }
    }
}

/// Reads a gRPC method: its requests have the path `/package.Service/Method`.
fn grpc_method(text: &str) -> Option<PathPattern> {
    let (service, method) = text.split_once('/')?;
    let is_name = |name: &str| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        !name.is_empty()
            && name.bytes().all(plain)
            && !name.starts_with(|c: char| c.is_ascii_digit())
    };
    let service = service.split('.').all(is_name).then_some(service)?;
    match method {
        "*" => Some(PathPattern::Prefix(format!("/{service}/").into())),
        method => {
            is_name(method).then(|| PathPattern::Exact(format!("/{service}/{method}").into()))
        }
    }
}

/// The paths of `paths` or `grpc`, of which there is one at most.
fn paths(to: &Operation) -> Option<BTreeSet<PathPattern>> {
    let written = to.paths.as_ref().map(|list| (list, false));
    let (list, grpc) = written.or_else(|| to.grpc.as_ref().map(|list| (list, true)))?;
    let read = |text: &String| match grpc {
        true => grpc_method(text),
        false => pattern(text).ok(),
    };
    Some(list.iter().filter_map(read).collect())
}

/// Reads a path or a prefix. Requests are compared in their canonical form, so a pattern that is
/// not canonical could never match.
fn pattern(text: &str) -> Result<PathPattern, &'static str> {
    let (path, is_prefix) = match text.strip_suffix('*') {
        Some(prefix) => (if prefix.is_empty() { "/" } else { prefix }, true),
        None => (text, false),
    };
    if path.contains('*') {
        return Err("`*` may only stand at its end");
    }
    plain_path(path)?;
    Ok(if is_prefix {
        PathPattern::Prefix(path.into())
    } else {
        PathPattern::Exact(path.into())
    })
}

/// Checks that a path is in its canonical form, without escapes.
pub(crate) fn plain_path(path: &str) -> Result<(), &'static str> {
    if !path.starts_with('/') {
        return Err("it does not begin with a slash");
    }
    if path.contains("//") {
        return Err("it has an empty part");
    }
    if path.split('/').any(|part| part == "." || part == "..") {
        return Err("it has a dot segment");
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/".contains(&b);
    if !path.bytes().all(plain) {
        return Err("it has a character that is not plain in paths");
    }
    Ok(())
}

/// A host name in lower case, `*.` before it or not.
pub(crate) fn is_host(text: &str) -> bool {
    let name = text.strip_prefix("*.").unwrap_or(text);
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._".contains(&b);
    (1..=253).contains(&name.len())
        && name.bytes().all(plain)
        && !name.starts_with('.')
        && !name.ends_with('.')
}

/// Whether a policy blocks.
pub(crate) fn mode(spec: &AccessPolicySpec) -> Mode {
    match spec.mode {
        Some(written::Mode::Audit) => Mode::Audit,
        Some(written::Mode::Enforce) | None => Mode::Enforce,
    }
}

/// The row of a valid policy.
pub(crate) fn row(name: PolicyName, spec: &AccessPolicySpec) -> AccessRow {
    let action = match spec.action {
        written::Action::Allow => Action::Allow,
        written::Action::Deny => Action::Deny,
    };
    let mode = mode(spec);
    let rules = match &spec.rules {
        Some(rules) => rules
            .iter()
            .enumerate()
            .map(|(index, found)| rule(found, index, action, &name.namespace))
            .collect(),
        // Absent: every call.
        None => vec![Rule {
            from: anybody(action),
            to: Vec::new(),
            path: "spec".into(),
        }],
    };
    AccessRow {
        name,
        action,
        mode,
        rules,
        broken: None,
    }
}

/// The row of a policy without a valid version: it denies, or would if it were not in Audit mode.
pub(crate) fn broken(name: PolicyName, mode: Mode, reason: &str) -> AccessRow {
    AccessRow {
        name,
        action: Action::Deny,
        mode,
        rules: Vec::new(),
        broken: Some(reason.into()),
    }
}

/// What an absent `from` means: any authenticated peer in an Allow, every peer in a Deny.
fn anybody(action: Action) -> Vec<From> {
    match action {
        Action::Allow => vec![From::default()],
        Action::Deny => Vec::new(),
    }
}

fn rule(rule: &AccessRule, index: usize, action: Action, own: &Namespace) -> Rule {
    let from = rule.from.as_ref();
    let to = |to: &Operation| To {
        ports: to
            .ports
            .as_ref()
            .map(|ports| ports.iter().copied().collect()),
        methods: to.methods.as_ref().map(|list| texts(list)),
        paths: paths(to),
        hosts: to.hosts.as_ref().map(|list| texts(list)),
    };
    Rule {
        from: from.map_or_else(
            || anybody(action),
            |list| {
                list.iter()
                    .map(|callers| values::from(callers, own))
                    .collect()
            },
        ),
        to: rule.to.iter().flatten().map(to).collect(),
        path: format!("spec.rules[{index}]").into(),
    }
}

fn texts(list: &[String]) -> BTreeSet<Arc<str>> {
    list.iter().map(|text| text.as_str().into()).collect()
}

/// Classes by namespace.
pub(crate) type Classes = BTreeMap<Namespace, BTreeMap<Arc<ClassKey>, ClassRow>>;

/// Attaches a policy to the classes that its targets hit.
pub(crate) fn attach(policy: &PolicyName, hits: &[Hit], classes: &mut Classes) {
    let concerned: BTreeSet<&Namespace> = hits.iter().flat_map(namespaces_of).collect();
    for namespace in concerned {
        let there = classes.get_mut(namespace);
        for class in there.into_iter().flat_map(BTreeMap::values_mut) {
            attach_to(class, policy, hits);
        }
    }
}

/// The namespaces in which something is hit.
pub(crate) fn namespaces_of(hit: &Hit) -> Vec<&Namespace> {
    match hit {
        Hit::All { namespaces, .. } | Hit::Workloads { namespaces, .. } => {
            namespaces.iter().collect()
        }
        Hit::Service { name, .. } => vec![&name.namespace],
        Hit::Route { .. } => Vec::new(),
    }
}

/// Attaches a policy to a class, if its targets hit it.
pub(crate) fn attach_to(class: &mut ClassRow, policy: &PolicyName, hits: &[Hit]) {
    if hits.iter().any(|hit| covers(hit, &class.key)) {
        // Every port: what comes through a Service is among them.
        class.access.push(AccessAttachment {
            policy: policy.clone(),
            through: None,
        });
        return;
    }
    let named = hits.iter().filter_map(|hit| match hit {
        Hit::Service { name, .. } => Some(name),
        Hit::All { .. } | Hit::Route { .. } | Hit::Workloads { .. } => None,
    });
    let through: BTreeSet<&ServiceName> = named
        .filter(|name| class.services.contains(*name))
        .collect();
    let through = through.into_iter().map(|service| AccessAttachment {
        policy: policy.clone(),
        through: Some(service.clone()),
    });
    class.access.extend(through);
}

/// Ports of services, by name.
pub(crate) type ServicePorts = BTreeMap<ServiceName, Vec<ServicePort>>;

/// The first port of these services in whose bytes there are no requests.
pub(crate) fn opaque_of<'h>(
    hit: &'h BTreeSet<ServiceName>,
    ports: &ServicePorts,
) -> Option<(&'h ServiceName, u16)> {
    hit.iter().find_map(|name| {
        let mut ports = ports.get(name)?.iter();
        let opaque = ports.find(|port| port.protocol == Protocol::Tcp)?;
        Some((name, opaque.port))
    })
}

/// Conditions on requests without `ports`: each is a place where requests must be visible.
pub(crate) fn needs_http(spec: &AccessPolicySpec) -> impl Iterator<Item = String> + '_ {
    operations(spec).filter_map(|(at, to)| {
        let needs_request =
            to.methods.is_some() || to.paths.is_some() || to.hosts.is_some() || to.grpc.is_some();
        (needs_request && to.ports.is_none()).then_some(at)
    })
}

/// All operations of a policy with their fields.
fn operations(spec: &AccessPolicySpec) -> impl Iterator<Item = (String, &Operation)> {
    spec.rules
        .iter()
        .flatten()
        .enumerate()
        .flat_map(|(index, rule)| {
            let operations = rule.to.iter().flatten().enumerate();
            operations
                .map(move |(position, to)| (format!("spec.rules[{index}].to[{position}]"), to))
        })
}

fn opaque_port(name: &ServiceName, ports: &ServicePorts) -> Option<String> {
    let port = ports
        .get(name)?
        .iter()
        .find(|port| port.protocol == Protocol::Tcp)?;
    Some(format!(
        "port {} of Service {name} is not known to be HTTP",
        port.port
    ))
}

/// Conditions on requests at ports, of services that the policy itself names, where requests
/// cannot be seen. Errors: they keep the policy out of force.
pub(crate) fn opaque_ports(
    object: &Located<Object>,
    spec: &AccessPolicySpec,
    hits: &[Hit],
    ports: &ServicePorts,
) -> Vec<Finding> {
    let mut report = Report::new(object);
    let named = hits.iter().filter_map(|hit| match hit {
        Hit::Service {
            name,
            closeness: Closeness::Name,
        } => Some(name),
        Hit::All { .. } | Hit::Route { .. } | Hit::Service { .. } | Hit::Workloads { .. } => None,
    });
    if let Some(message) = named.filter_map(|name| opaque_port(name, ports)).next() {
        for at in needs_http(spec) {
            report.say(OPAQUE_PORT, &at, message.clone());
        }
    }
    report.findings
}

/// The same at ports that broader targets happen to cover. Warnings: the policy is in force.
pub(crate) fn opaque_in_scope(
    object: &Located<Object>,
    spec: &AccessPolicySpec,
    hits: &[Hit],
    ports: &ServicePorts,
    workloads: &[Arc<WorkloadRow>],
) -> Vec<Finding> {
    let mut report = Report::new(object);
    if needs_http(spec).next().is_none() {
        return report.findings;
    }
    let by_service = hits.iter().find_map(|hit| match hit {
        Hit::Service {
            name,
            closeness: Closeness::Selector,
        } => opaque_port(name, ports),
        Hit::All { .. } | Hit::Route { .. } | Hit::Service { .. } | Hit::Workloads { .. } => None,
    });
    let by_workload = || {
        workloads.iter().find_map(|row| {
            let port = row
                .ports
                .iter()
                .find(|port| port.protocol == Protocol::Tcp)?;
            let port = port.port;
            let message = format!(
                "port {port} of workload {} is not known to be HTTP",
                row.name
            );
            hits.iter()
                .any(|hit| covers(hit, &row.class))
                .then_some(message)
        })
    };
    if let Some(message) = by_service.or_else(by_workload) {
        for at in needs_http(spec) {
            report.say(OPAQUE_PORT_IN_SCOPE, &at, message.clone());
        }
    }
    report.findings
}

/// True if a target hits a class on every port.
pub(crate) fn covers(hit: &Hit, class: &ClassKey) -> bool {
    match hit {
        Hit::All { namespaces, .. } => namespaces.contains(&class.namespace),
        Hit::Workloads { namespaces, labels } => {
            namespaces.contains(&class.namespace) && class.labels.contain(labels)
        }
        Hit::Route { .. } | Hit::Service { .. } => false,
    }
}

/// Says when a listed port is only the front of a service, not a port of its workloads.
pub(crate) fn ports_of_services(
    object: &Located<Object>,
    spec: &AccessPolicySpec,
    hits: &[Hit],
    services: &ServicePorts,
) -> Vec<Finding> {
    let mut report = Report::new(object);
    for (at, to) in operations(spec) {
        for (index, number) in to.ports.iter().flatten().enumerate() {
            let front = hits.iter().find_map(|hit| match hit {
                Hit::Service { name, .. } => only_front(name, services.get(name)?, *number),
                Hit::All { .. } | Hit::Route { .. } | Hit::Workloads { .. } => None,
            });
            if let Some((message, fix)) = front {
                report.add(
                    SERVICE_PORT_LISTED,
                    &format!("{at}.ports[{index}]"),
                    message,
                    Some(fix),
                );
            }
        }
    }
    report.findings
}

/// Message and fix if `number` is a port of the service and of none of its workloads.
fn only_front(name: &ServiceName, ports: &[ServicePort], number: u16) -> Option<(String, String)> {
    let may_be_target = ports.iter().any(|port| match &port.target {
        TargetPort::Number(target) => *target == number,
        // Which number that is depends on the workload.
        TargetPort::Named(_) => true,
    });
    let front = ports
        .iter()
        .find(|port| port.port == number)
        .filter(|_| !may_be_target)?;
    let TargetPort::Number(target) = front.target else {
        return None;
    };
    let message =
        format!("{number} is the port of Service {name}; its workloads listen on {target}");
    Some((message, format!("write {target}")))
}

/// Names of workspaces that do not exist.
pub(crate) fn unknown_workspaces(
    object: &Located<Object>,
    spec: &AccessPolicySpec,
    tenants: &Tenants<'_>,
) -> Vec<Finding> {
    let mut report = Report::new(object);
    for (index, rule) in spec.rules.iter().flatten().enumerate() {
        for (entry, callers) in rule.from.iter().flatten().enumerate() {
            for (position, name) in callers.workspaces.iter().flatten().enumerate() {
                if tenants.named(name).is_none() {
                    let field = format!("spec.rules[{index}].from[{entry}].workspaces[{position}]");
                    let message = format!("Workspace {name} does not exist");
                    report.say(UNKNOWN_WORKSPACE, &field, message);
                }
            }
        }
    }
    report.findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (text, expected) in [
            ("/", Ok(PathPattern::Exact("/".into()))),
            ("/a/b", Ok(PathPattern::Exact("/a/b".into()))),
            ("/a/*", Ok(PathPattern::Prefix("/a/".into()))),
            ("/a*", Ok(PathPattern::Prefix("/a".into()))),
            ("*", Ok(PathPattern::Prefix("/".into()))),
            ("/*", Ok(PathPattern::Prefix("/".into()))),
        ] {
            assert_eq!(pattern(text), expected, "{text}");
        }
        for text in [
            "", "a", "//", "/a//b", "/../b", "/a/.", "/*/b", "/a?b", "/%61", "/ä",
        ] {
            assert!(pattern(text).is_err(), "{text}");
        }
    }
}

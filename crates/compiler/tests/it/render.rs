//! The state of a compiler as text for people.

use std::fmt::{Debug, Display, Write as _};
use std::sync::Arc;

use tacit_model::access::{From, PathPattern, Rule, To};
use tacit_model::failover::{Failover, Step};
use tacit_model::fault::FaultLayer;
use tacit_model::labels::Labels;
use tacit_model::now::rfc3339;
use tacit_model::resilience::{Fields, Layer};
use tacit_model::route::{Action, Backend, BackendTo, Changes, RouteRow};
use tacit_model::status::ObjectStatus;
use tacit_model::tables::{
    AccessRow, AddressRange, ClassKey, ClassRow, MeshRow, Protocol, PublishedPort, ServiceRow,
    TargetPort, Tenancy, WorkloadRow,
};
use tacit_model::{Row, Sourced};

use crate::mesh::Mesh;

pub(crate) fn render(mesh: &Mesh) -> String {
    let mut out = String::from("FINDINGS\n");
    for finding in &mesh.compiler.findings_and_advice() {
        writeln!(out, "{finding}").unwrap();
    }
    out.push_str("\nSTATUSES\n");
    mesh.compiler
        .statuses()
        .for_each(|found| status(&mut out, &found));
    out.push_str("\nTABLES\n");
    mesh.compiler
        .tables()
        .0
        .values()
        .for_each(|found| row(&mut out, found));
    if let Some(at) = mesh.compiler.wake_at() {
        writeln!(out, "\nwake at {at}").unwrap();
    }
    out
}

fn list<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    items
        .into_iter()
        .map(|item| item.to_string())
        .collect::<Vec<_>>()
        .join(", ")
}

fn status(out: &mut String, status: &ObjectStatus) {
    let last_good = if status.last_good_in_force {
        " (last good in force)"
    } else {
        ""
    };
    writeln!(out, "{}{last_good}", status.object).unwrap();
    for condition in &status.conditions {
        let message = &condition.message;
        let (kind, is, why) = (condition.kind, condition.status, condition.reason);
        writeln!(out, "  {kind:?}={is} {why:?}: {message}").unwrap();
    }
    if !status.targets.is_empty() {
        writeln!(out, "  targets: {}", list(&status.targets)).unwrap();
    }
    status
        .order
        .iter()
        .for_each(|line| writeln!(out, "  order: {line}").unwrap());
}

fn row(out: &mut String, row: &Row) {
    match row {
        Row::Access(row) => access(out, row),
        Row::Class(row) => class(out, row),
        Row::Mesh(row) => mesh(out, row),
        Row::Namespace(row) => {
            let tenancy = match &row.tenancy {
                Tenancy::Contested(names) => format!("contested by {}", list(names)),
                Tenancy::Member {
                    workspace,
                    isolation: None,
                } => format!("of {workspace}"),
                Tenancy::Member {
                    workspace,
                    isolation: Some(isolation),
                } => {
                    let importers = isolation.importers.iter();
                    let importers =
                        importers.map(|(w, services)| format!("{w}: {}", list(services)));
                    format!("of {workspace}, strict, importers: [{}]", list(importers))
                }
                Tenancy::Unclaimed => "unclaimed".to_owned(),
            };
            writeln!(out, "Namespace {}: {tenancy}", row.namespace).unwrap();
        }
        Row::Route(row) => route(out, row),
        Row::RunGrant(row) => {
            let (uids, namespaces) = (list(&row.uids), list(&row.namespaces));
            let (name, index, until) = (&row.workspace, row.index, row.until);
            let everyone = if row.everyone { " everyone" } else { "" };
            let who = format!("uids [{uids}] gids [{}]{everyone}", list(&row.gids));
            writeln!(
                out,
                "RunGrant {name}[{index}]: {who} in [{namespaces}] until {until:?}"
            )
            .unwrap();
        }
        Row::Service(row) => service(out, row),
        Row::Workload(row) => workload(out, row),
    }
}

fn mesh(out: &mut String, row: &MeshRow) {
    writeln!(
        out,
        "Mesh {} cluster {} root {}\n  access {:?} <- {}\n  egress {:?} <- {}\n  lifetime {:?}, \
         offline {:?}",
        row.trust_domain,
        row.cluster,
        row.root_namespace,
        row.default_access.value,
        row.default_access.from,
        row.egress.value,
        row.egress.from,
        row.certificate_lifetime,
        row.max_offline
    )
    .unwrap();
    for AddressRange { holds, range } in &row.addresses {
        writeln!(out, "  {holds:?} {} <- {}", range.value, range.from).unwrap();
    }
}

fn labels(labels: &Labels) -> String {
    list(labels.0.iter().map(|(key, value)| format!("{key}={value}")))
}

fn class_key(key: &ClassKey) -> String {
    format!(
        "{}/{} [{}]",
        key.namespace,
        key.service_account,
        labels(&key.labels)
    )
}

fn class(out: &mut String, row: &ClassRow) {
    writeln!(out, "Class {}", class_key(&row.key)).unwrap();
    writeln!(out, "  services: {}", list(&row.services)).unwrap();
    for attachment in &row.access {
        let through = attachment.through.as_ref();
        let through = through.map_or(String::new(), |service| format!(" through {service}"));
        writeln!(out, "  access: {}{through}", attachment.policy).unwrap();
    }
}

fn workload(out: &mut String, row: &WorkloadRow) {
    let port = |port: &tacit_model::tables::WorkloadPort| {
        format!("{}:{}:{}", port.name, port.port, protocol(port.protocol))
    };
    let (name, address, node, place) = (&row.name, row.address, &row.node, &row.locality);
    writeln!(out, "Workload {name} {address} on {node} at {place}").unwrap();
    writeln!(out, "  class {}", class_key(&row.class)).unwrap();
    let (ports, ready) = (list(row.ports.iter().map(port)), list(&row.ready));
    writeln!(out, "  ports [{ports}] ready [{ready}]").unwrap();
    if !row.published.is_empty() {
        let leads = |port: &PublishedPort| format!("{}>{}", port.at, port.target);
        let published = list(row.published.iter().map(leads));
        writeln!(out, "  published [{published}]").unwrap();
    }
    if row.capacity.is_some() || !row.command.is_empty() {
        writeln!(
            out,
            "  capacity {:?} command {:?}",
            row.capacity, row.command
        )
        .unwrap();
    }
}

fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Http => "http",
        Protocol::Tcp => "tcp",
    }
}

fn service(out: &mut String, row: &ServiceRow) {
    writeln!(out, "Service {} {}", row.name, row.address).unwrap();
    for port in &row.ports {
        let target = match &port.target {
            TargetPort::Named(name) => name.to_string(),
            TargetPort::Number(number) => number.to_string(),
        };
        let (name, number) = (&port.name, port.port);
        writeln!(
            out,
            "  port {name}:{number} -> {target} {}",
            protocol(port.protocol)
        )
        .unwrap();
    }
    row.resilience.iter().for_each(|found| layer(out, found));
    row.failover.iter().for_each(|found| failover(out, found));
    row.faults.iter().for_each(|found| fault(out, found));
    if let Some(of) = &row.rate {
        for (index, limit) in of.limits.iter().enumerate() {
            writeln!(out, "  rate {limit} <- {}", of.origin(index)).unwrap();
        }
    }
}

fn fault(out: &mut String, layer: &FaultLayer) {
    let FaultLayer {
        callers,
        until,
        delay,
        abort,
    } = layer;
    let whose = callers.as_ref().map_or_else(String::new, |callers| {
        format!(" for {}", list(callers.iter().map(from)))
    });
    writeln!(out, "  faults{whose} until {}", rfc3339(*until)).unwrap();
    if let Some(Sourced { value, from }) = delay {
        writeln!(out, "    {value} <- {from}").unwrap();
    }
    if let Some(Sourced { value, from }) = abort {
        writeln!(out, "    {value} <- {from}").unwrap();
    }
}

fn route(out: &mut String, row: &RouteRow) {
    let key = &row.key;
    let port = key.port.map_or_else(String::new, |port| format!(":{port}"));
    writeln!(out, "Route {} at {}{port}", key.route, key.parent).unwrap();
    for rule in &row.rules {
        writeln!(out, " rule <- {}", rule.from).unwrap();
        for found in &rule.matches {
            let method = found.method.as_deref().unwrap_or("any");
            let pairs = |list: &[(Arc<str>, Arc<str>)]| list.iter().map(pair).collect::<Vec<_>>();
            let (headers, query) = (list(pairs(&found.headers)), list(pairs(&found.query)));
            let path = &found.path;
            writeln!(
                out,
                "  {method} {path:?} headers [{headers}] query [{query}]"
            )
            .unwrap();
        }
        if rule.changes != Changes::default() {
            writeln!(out, "  changes {:?}", rule.changes).unwrap();
        }
        match &rule.action {
            Action::Redirect(redirect) => writeln!(out, "  {redirect:?}").unwrap(),
            Action::Forward(backends) => backends.iter().for_each(|backend| {
                let Backend { weight, to } = backend;
                match to {
                    BackendTo::Broken(why) => writeln!(out, "  {weight} broken: {why}").unwrap(),
                    BackendTo::Service { service, port } => {
                        writeln!(out, "  {weight} to {service}:{port}").unwrap();
                    }
                }
            }),
        }
        rule.resilience
            .iter()
            .flatten()
            .for_each(|found| layer(out, found));
    }
}

fn pair((name, value): &(Arc<str>, Arc<str>)) -> String {
    format!("{name}={value}")
}

fn sourced<T: Debug>(out: &mut String, name: &str, value: Option<&Sourced<T>>) {
    if let Some(Sourced { value, from }) = value {
        writeln!(out, "    {name} {value:?} <- {from}").unwrap();
    }
}

fn layer(out: &mut String, layer: &Layer) {
    match &layer.callers {
        None => writeln!(out, "  layer").unwrap(),
        Some(callers) => {
            writeln!(out, "  layer for {}", list(callers.iter().map(from))).unwrap();
        }
    }
    let Fields {
        request,
        per_try,
        idle,
        connect,
        attempts,
        when,
        methods,
        backoff,
        budget,
        max_body,
    } = &layer.fields;
    sourced(out, "request", request.as_ref());
    sourced(out, "perTry", per_try.as_ref());
    sourced(out, "idle", idle.as_ref());
    sourced(out, "connect", connect.as_ref());
    sourced(out, "attempts", attempts.as_ref());
    sourced(out, "when", when.as_ref());
    sourced(out, "methods", methods.as_ref());
    sourced(out, "backoff", backoff.as_ref());
    sourced(out, "budget", budget.as_ref());
    sourced(out, "maxBody", max_body.as_ref());
}

fn steps(steps: &[Step]) -> String {
    let step = |step: &Step| match step {
        Step::Places(places) => places
            .iter()
            .map(|p| format!("{}*{}", p.place, p.weight))
            .collect::<Vec<_>>()
            .join(" + "),
        Step::Service(name) => format!("service {name}"),
    };
    steps.iter().map(step).collect::<Vec<_>>().join(" > ")
}

fn failover(out: &mut String, failover: &Failover) {
    let Failover {
        order,
        orders,
        health,
        spill,
        failback,
        when_none_healthy,
    } = failover;
    writeln!(
        out,
        "  failover\n    order {} <- {}",
        steps(&order.value),
        order.from
    )
    .unwrap();
    for order in orders {
        writeln!(out, "    for {}: {}", order.clients, steps(&order.steps)).unwrap();
    }
    sourced(out, "health", Some(health));
    sourced(out, "spill", Some(spill));
    sourced(out, "failback", Some(failback));
    sourced(out, "whenNoneHealthy", Some(when_none_healthy));
}

fn access(out: &mut String, row: &AccessRow) {
    let (name, action, mode) = (&row.name, row.action, row.mode);
    match &row.broken {
        Some(why) => writeln!(out, "Access {name} BROKEN: {why}").unwrap(),
        None => writeln!(out, "Access {name} {action:?} {mode:?}").unwrap(),
    }
    for Rule {
        from: callers,
        to: operations,
        path,
    } in &row.rules
    {
        let callers = callers.iter().map(from);
        let operations = operations.iter().map(to);
        writeln!(
            out,
            "  {path}: from [{}] to [{}]",
            list(callers),
            list(operations)
        )
        .unwrap();
    }
}

fn from(from: &From) -> String {
    let mut parts = Vec::new();
    if let Some(found) = &from.namespaces {
        parts.push(format!("namespaces {}", list(found)));
    }
    if let Some(found) = &from.service_accounts {
        parts.push(format!(
            "accounts {}",
            list(found.iter().map(|(n, a)| format!("{n}/{a}")))
        ));
    }
    if let Some(found) = &from.workspaces {
        parts.push(format!("workspaces {}", list(found)));
    }
    if let Some(found) = &from.trust_domain {
        parts.push(format!("domain {found}"));
    }
    let range = |c: &tacit_model::access::Cidr| format!("{}/{}", c.network, c.prefix);
    if let Some(found) = &from.cidrs {
        parts.push(format!("cidrs {}", list(found.iter().map(range))));
    }
    if !from.except.is_empty() {
        parts.push(format!("except {}", list(from.except.iter().map(range))));
    }
    if from.unauthenticated {
        parts.push("unauthenticated".to_owned());
    }
    format!("({})", parts.join("; "))
}

fn to(to: &To) -> String {
    let mut parts = Vec::new();
    if let Some(found) = &to.ports {
        parts.push(format!("ports {}", list(found)));
    }
    if let Some(found) = &to.methods {
        parts.push(format!("methods {}", list(found)));
    }
    if let Some(found) = &to.paths {
        let path = |path: &PathPattern| match path {
            PathPattern::Exact(path) => path.to_string(),
            PathPattern::Prefix(path) => format!("{path}*"),
        };
        parts.push(format!("paths {}", list(found.iter().map(path))));
    }
    if let Some(found) = &to.hosts {
        parts.push(format!("hosts {}", list(found)));
    }
    format!("({})", parts.join("; "))
}

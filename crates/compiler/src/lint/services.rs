//! Advice about Services and the ports of workloads.

use std::collections::{BTreeMap, BTreeSet};

use tacit_api::values::PortRef;
use tacit_api::{Service, Workload};
use tacit_model::finding::Finding;
use tacit_model::tables::WorkloadRow;
use tacit_model::{Namespace, ServiceName, WorkloadName};

use super::World;
use crate::endpoints::declared;
use crate::findings::{
    NAME_AND_PROTOCOL, NEARLY_SELECTS, PORT_NOT_DECLARED, Report, UNKNOWN_PROTOCOL, at,
};
use crate::index::{ServiceEntry, WrittenLabels};

/// Checks a Service and the workloads behind it.
pub(super) fn check(report: &mut Report<'_>, world: &World<'_, '_>, service: &Service) {
    let ports = service.spec.ports.iter().flatten();
    let ports = ports.map(|port| (port.name.as_deref(), port.app_protocol.as_deref()));
    protocols(report, ports);
    not_declared(report, world, service);
}

/// Checks the ports of a Workload.
pub(super) fn workload(report: &mut Report<'_>, workload: &Workload) {
    let ports = workload.spec.ports.iter().flatten();
    let ports = ports.map(|port| (port.name.as_deref(), port.app_protocol.as_deref()));
    protocols(report, ports);
}

/// Ports whose name says one thing and whose protocol another, or a protocol that nobody knows.
fn protocols<'p>(
    report: &mut Report<'_>,
    ports: impl Iterator<Item = (Option<&'p str>, Option<&'p str>)>,
) {
    for (index, (name, protocol)) in ports.enumerate() {
        let Some(protocol) = protocol else {
            continue;
        };
        let field = format!("spec.ports[{index}].appProtocol");
        let says = declared(Some(protocol), None);
        let name_says = declared(None, name);
        if let Some(known) = meant(protocol) {
            let message = format!("appProtocol {protocol:?} is not known, so it is bytes");
            let fix = format!("write {known}");
            report.add(UNKNOWN_PROTOCOL, &field, message, Some(fix));
        } else if name_says.is_some() && name_says != says {
            let name = name.unwrap_or_default();
            let message = format!("the port is named {name:?}, and appProtocol {protocol} counts");
            report.say(NAME_AND_PROTOCOL, &field, message);
        }
    }
}

/// The value that somebody meant who wrote another one of HTTP.
fn meant(protocol: &str) -> Option<&'static str> {
    if declared(Some(protocol), None) == declared(Some("http"), None) {
        return None;
    }
    let lower = protocol.to_ascii_lowercase();
    let word = lower.strip_prefix("kubernetes.io/").unwrap_or(&lower);
    // With TLS of its own, bytes are right.
    if word.starts_with("https") || word.starts_with("grpcs") {
        None
    } else if word.starts_with("grpc") {
        Some("grpc")
    } else if word.starts_with("h2") || word.starts_with("http2") || word == "http/2" {
        Some("http2")
    } else if word.starts_with("http") || word == "ws" {
        Some("http")
    } else {
        None
    }
}

/// Numbers that no workload behind the Service declares, though each of them declares ports, and
/// that none of them is known to listen on.
fn not_declared(report: &mut Report<'_>, world: &World<'_, '_>, service: &Service) {
    let own = report.name();
    let Some(name) = own.split_once('/') else {
        return;
    };
    let Ok(name) = ServiceName::parse(name.0, name.1) else {
        return;
    };
    let rows = world.facts.map.endpoints(&name);
    let declared: Vec<BTreeSet<u16>> = rows.iter().map(|row| declares(world, row)).collect();
    let (Some(first), Some(ports)) = (rows.first(), declared.first()) else {
        return;
    };
    if declared.iter().any(BTreeSet::is_empty) {
        return;
    }
    for (position, port) in service.spec.ports.iter().flatten().enumerate() {
        let (field, number) = match &port.target_port {
            Some(PortRef::Number(number)) => ("targetPort", *number),
            None => ("port", port.port),
            Some(PortRef::Name(_)) => continue,
        };
        let listens = rows.iter().any(|row| row.ready.contains(&number));
        if listens || declared.iter().any(|ports| ports.contains(&number)) {
            continue;
        }
        let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
        let message = format!(
            "no workload behind {own} declares port {number}; {} declares {}",
            first.name,
            ports.join(", ")
        );
        let field = format!("spec.ports[{position}].{field}");
        report.say(PORT_NOT_DECLARED, &field, message);
    }
}

/// The ports that a workload itself says it has.
fn declares(world: &World<'_, '_>, row: &WorkloadRow) -> BTreeSet<u16> {
    let entry = world.mesh.index.workload(&row.name);
    let ports = entry.and_then(|entry| entry.workload.spec.ports.as_ref());
    ports.into_iter().flatten().map(|port| port.port).collect()
}

/// Services that select nothing, where a workload that no Service selects is one slip away.
pub(super) fn orphans(world: &World<'_, '_>) -> Vec<Finding> {
    let mut orphans: BTreeMap<&Namespace, Vec<Orphan<'_>>> = BTreeMap::new();
    for row in world.facts.workloads {
        let class = world.classes.get(&row.class);
        if class.is_some_and(|class| class.services.is_empty())
            && let Some(entry) = world.mesh.index.workload(&row.name)
        {
            let there = orphans.entry(&row.name.namespace).or_default();
            there.push((&row.name, &entry.workload.metadata.labels));
        }
    }
    let services = world.mesh.index.services.iter();
    let idle = services.filter(|(name, _)| world.facts.map.endpoints(name).is_empty());
    idle.filter_map(|(name, entry)| nearly(entry, orphans.get(&name.namespace)?))
        .collect()
}

/// A workload that no Service selects, with its labels.
type Orphan<'w> = (&'w WorkloadName, &'w WrittenLabels);

fn nearly(service: &ServiceEntry<'_>, orphans: &[Orphan<'_>]) -> Option<Finding> {
    let (workload, (key, has)) = orphans
        .iter()
        .find_map(|(workload, labels)| Some((workload, slip(service, labels)?)))?;
    let wanted = service.selects(key)?;
    let message = format!("nothing has {key}: {wanted}, and {workload} has {key}: {has}");
    let field = format!("spec.selector.{key}");
    Some(at(service.object, NEARLY_SELECTS, &field, message, None))
}

/// The one label in which a workload differs from a selector, if that may be a slip.
fn slip<'l>(service: &ServiceEntry<'_>, labels: &'l WrittenLabels) -> Option<(&'l str, &'l str)> {
    let differs =
        |(key, value): &(&str, &str)| labels.get(*key).map(String::as_str) != Some(*value);
    let mut differ = service.selector().filter(differs);
    let (key, wanted) = differ.next()?;
    let (key, has) = labels.get_key_value(key)?;
    let near = is_slip(wanted, has);
    (differ.next().is_none() && near).then_some((key.as_str(), has))
}

/// Short values, and those that only count (`v1`, `v2`), are near each other on purpose.
fn is_slip(wanted: &str, has: &str) -> bool {
    const SHORT: usize = 4;
    let letters = |text: &str| text.replace(|c: char| c.is_ascii_digit(), "");
    has.chars().count() >= SHORT
        && letters(wanted) != letters(has)
        && tacit_api::suggest::nearest(wanted, [has]).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_near_and_counters_are_not() {
        for (wanted, has, expected) in [
            ("payments", "paymnets", true),
            ("payments", "payment", true),
            ("Ledger", "ledger", true),
            ("web-v2", "web-v1", false),
            ("db", "da", false),
            ("blue", "green", false),
        ] {
            assert_eq!(is_slip(wanted, has), expected, "{wanted} {has}");
        }
    }

    #[test]
    fn protocols_that_somebody_meant() {
        for (text, expected) in [
            ("http", None),
            ("kubernetes.io/h2c", None),
            ("tcp", None),
            ("https", None),
            ("HTTPS", None),
            ("kubernetes.io/wss", None),
            ("postgresql", None),
            ("HTTP", Some("http")),
            ("http/1.1", Some("http")),
            ("ws", Some("http")),
            ("http/2", Some("http2")),
            ("h2c", Some("http2")),
            ("gRPC", Some("grpc")),
            ("grpc-web", Some("grpc")),
        ] {
            assert_eq!(meant(text), expected, "{text}");
        }
    }
}

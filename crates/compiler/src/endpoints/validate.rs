//! What a Service and a Workload may say, each by itself.

use std::collections::{BTreeMap, BTreeSet};

use tacit_api::service::{self as written, ServiceSpec};
use tacit_api::values::PortRef;
use tacit_api::workload::WorkloadSpec;
use tacit_api::{Located, Object};
use tacit_model::finding::Finding;
use tacit_model::{NodeName, ServiceAccount};

use crate::findings::{
    BAD_NAME, BAD_TEXT, CONTRADICTION, EMPTY_LIST, EMPTY_TARGET, MISSING_FIELD, OUT_OF_RANGE,
    Report, TOO_LARGE,
};
use crate::values;

/// Most ports of one object: each is a line in every node's tables.
const MOST_PORTS: usize = 100;

/// Ports on which the node proxy listens inside each workload: capture, HBONE, names.
const OWN_PORTS: [u16; 4] = [15001, 15006, 15008, 15053];

/// Checks a Service by itself.
pub(crate) fn validate_service(object: &Located<Object>, spec: &ServiceSpec) -> Vec<Finding> {
    let mut report = Report::new(object);
    if spec.selector.as_ref().is_some_and(BTreeMap::is_empty) {
        report.say(
            EMPTY_TARGET,
            "spec.selector",
            "an empty selector selects nothing",
        );
    }
    if let Some(selector) = &spec.selector {
        values::labels(&mut report, "spec.selector", selector);
    }
    if spec.ports.is_none() && spec.external_name.is_none() {
        report.say(MISSING_FIELD, "spec.ports", "a Service needs ports");
    }
    values::not_empty(&mut report, "spec.ports", spec.ports.as_deref());
    service_ports(&mut report, spec.ports.as_deref().unwrap_or_default());
    let explicit = spec
        .cluster_ip
        .as_deref()
        .filter(|ip| !matches!(*ip, "" | "None"));
    if let Some(ip) = explicit.filter(|ip| ip.parse::<std::net::Ipv4Addr>().is_err()) {
        report.say(
            BAD_TEXT,
            "spec.clusterIP",
            format!("{ip:?} is no IPv4 address"),
        );
    }
    let same = |ips: &Vec<String>| match (ips.as_slice(), spec.cluster_ip.as_deref()) {
        ([one], Some(ip)) => one == ip,
        _ => false,
    };
    if spec.cluster_ips.as_ref().is_some_and(|ips| !same(ips)) {
        let message = "clusterIPs must hold clusterIP and nothing else";
        report.say(CONTRADICTION, "spec.clusterIPs", message);
    }
    report.findings
}

fn service_ports(report: &mut Report<'_>, ports: &[written::ServicePort]) {
    too_many(report, ports.len());
    let (mut numbers, mut names) = (BTreeSet::new(), BTreeSet::new());
    for (index, port) in ports.iter().enumerate() {
        let at = |field: &str| format!("spec.ports[{index}]{field}");
        if port.port == 0 || port.target_port == Some(PortRef::Number(0)) {
            report.say(OUT_OF_RANGE, &at(""), "0 is no port");
        }
        if port
            .target_port
            .as_ref()
            .is_some_and(|t| *t == PortRef::Name(String::new()))
        {
            report.say(BAD_NAME, &at(".targetPort"), "the name is empty");
        }
        // Most have one port, which is none twice.
        if ports.len() == 1 {
            continue;
        }
        if !numbers.insert(port.port) {
            let message = format!("port {} is listed twice", port.port);
            report.say(CONTRADICTION, &at(".port"), message);
        }
        match port.name.as_deref().filter(|name| !name.is_empty()) {
            Some(name) => twice(report, &at(".name"), name, &mut names),
            None => {
                let message = "a Service with several ports names each of them";
                report.say(MISSING_FIELD, &at(".name"), message);
            }
        }
    }
}

fn too_many(report: &mut Report<'_>, count: usize) {
    if count > MOST_PORTS {
        let message = format!("{count} ports are more than {MOST_PORTS}");
        report.say(TOO_LARGE, "spec.ports", message);
    }
}

fn twice<'p>(report: &mut Report<'_>, field: &str, name: &'p str, names: &mut BTreeSet<&'p str>) {
    if !names.insert(name) {
        let message = format!("the name {name} is used twice");
        report.say(CONTRADICTION, field, message);
    }
}

/// Checks a Workload by itself.
pub(crate) fn validate_workload(object: &Located<Object>, spec: &WorkloadSpec) -> Vec<Finding> {
    let mut report = Report::new(object);
    let errors = [
        (
            "spec.serviceAccount",
            ServiceAccount::check(&spec.service_account).err(),
        ),
        ("spec.node", NodeName::check(&spec.node).err()),
    ];
    for (field, error) in errors {
        if let Some(error) = error {
            report.say(BAD_NAME, field, error.to_string());
        }
    }
    if let Some(address) = &spec.address
        && address.parse::<std::net::Ipv4Addr>().is_err()
    {
        report.say(
            BAD_TEXT,
            "spec.address",
            format!("{address:?} is no IPv4 address"),
        );
    }
    let place = spec.locality.as_ref();
    let parts = [
        ("region", place.and_then(|place| place.region.as_deref())),
        ("zone", place.and_then(|place| place.zone.as_deref())),
    ];
    for (name, part) in parts {
        if let Some(part) = part.filter(|part| matches!(*part, "" | "same")) {
            let message = format!("{part:?} cannot be the name of a {name}");
            report.say(BAD_NAME, &format!("spec.locality.{name}"), message);
        }
    }
    let ports = spec.ports.as_deref().unwrap_or_default();
    too_many(&mut report, ports.len());
    let (mut numbers, mut names) = (BTreeSet::new(), BTreeSet::new());
    for (index, port) in ports.iter().enumerate() {
        let at = |field: &str| format!("spec.ports[{index}]{field}");
        let several = ports.len() > 1;
        if port.port == 0 || several && !numbers.insert(port.port) {
            let message = format!("port {} is 0 or listed twice", port.port);
            report.say(CONTRADICTION, &at(".port"), message);
        }
        if OWN_PORTS.contains(&port.port) {
            let message = format!("port {} of every workload is the mesh's own", port.port);
            let fix = Some("choose another port".to_owned());
            report.add(OUT_OF_RANGE, &at(".port"), message, fix);
        }
        let name = port
            .name
            .as_deref()
            .filter(|name| several && !name.is_empty());
        if let Some(name) = name {
            twice(&mut report, &at(".name"), name, &mut names);
        }
    }
    values::not_empty(&mut report, "spec.command", spec.command.as_deref());
    if spec
        .command
        .as_ref()
        .and_then(|words| words.first())
        .is_some_and(String::is_empty)
    {
        report.say(EMPTY_LIST, "spec.command[0]", "the program has no name");
    }
    report.findings
}

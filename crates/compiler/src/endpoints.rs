//! Services and workloads: their checks, ports, addresses and places.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use imbl::OrdSet;
use tacit_api::service::{self as written, ServiceSpec};
use tacit_api::values::PortRef;
use tacit_api::workload::WorkloadSpec;
use tacit_api::{Located, Object};
use tacit_model::finding::Finding;
use tacit_model::tables::{Protocol, ServicePort, TargetPort, WorkloadPort, WorkloadRow};
use tacit_model::{Locality, NodeName, ServiceAccount, ServiceName, WorkloadName};

use crate::addresses::{Allocator, Taken};
use crate::delta::Addresses;
use crate::findings::{
    ADDRESS_RANGE, ADDRESS_TAKEN, BAD_NAME, BAD_TEXT, CONTRADICTION, Code, EMPTY_LIST,
    EMPTY_TARGET, MISSING_FIELD, NO_TARGET_PORT, NODE_UNKNOWN, NOT_HOSTED, OUT_OF_RANGE,
    PROTOCOLS_DIFFER, RANGE_FULL, Report, at,
};
use crate::index::{Classifier, Index, Mentioned, WorkloadEntry};
use crate::mesh::Settings;
use crate::state::Inputs;
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
        let at = format!("spec.ports[{index}]");
        if port.port == 0 || port.target_port == Some(PortRef::Number(0)) {
            report.say(OUT_OF_RANGE, &at, "0 is no port");
        }
        if port
            .target_port
            .as_ref()
            .is_some_and(|t| *t == PortRef::Name(String::new()))
        {
            report.say(BAD_NAME, &format!("{at}.targetPort"), "the name is empty");
        }
        if !numbers.insert(port.port) {
            let message = format!("port {} is listed twice", port.port);
            report.say(CONTRADICTION, &format!("{at}.port"), message);
        }
        twice(report, &at, port.name.as_deref(), &mut names);
        if ports.len() > 1 && port.name.as_deref().is_none_or(str::is_empty) {
            let message = "a Service with several ports names each of them";
            report.say(MISSING_FIELD, &format!("{at}.name"), message);
        }
    }
}

fn too_many(report: &mut Report<'_>, count: usize) {
    if count > MOST_PORTS {
        let message = format!("{count} ports are more than {MOST_PORTS}");
        report.say(crate::findings::TOO_LARGE, "spec.ports", message);
    }
}

fn twice<'p>(
    report: &mut Report<'_>,
    at: &str,
    name: Option<&'p str>,
    names: &mut BTreeSet<&'p str>,
) {
    let name = name.filter(|name| !name.is_empty());
    if let Some(name) = name.filter(|name| !names.insert(name)) {
        let message = format!("the name {name} is used twice");
        report.say(CONTRADICTION, &format!("{at}.name"), message);
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
        let at = format!("spec.ports[{index}]");
        if port.port == 0 || !numbers.insert(port.port) {
            let message = format!("port {} is 0 or listed twice", port.port);
            report.say(CONTRADICTION, &format!("{at}.port"), message);
        }
        if OWN_PORTS.contains(&port.port) {
            let message = format!("port {} of every workload is the mesh's own", port.port);
            let fix = Some("choose another port".to_owned());
            report.add(OUT_OF_RANGE, &format!("{at}.port"), message, fix);
        }
        twice(&mut report, &at, port.name.as_deref(), &mut names);
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

/// What a port's declaration says; nothing if it says nothing.
pub(crate) fn declared(app_protocol: Option<&str>, name: Option<&str>) -> Option<Protocol> {
    match app_protocol {
        Some("http" | "http2" | "grpc" | "kubernetes.io/h2c" | "kubernetes.io/ws") => {
            return Some(Protocol::Http);
        }
        // Anything else travels as bytes, which is right for whatever it is.
        Some(_) => return Some(Protocol::Tcp),
        None => {}
    }
    match name.unwrap_or_default().split('-').next() {
        Some("http" | "http2" | "grpc" | "h2c") => Some(Protocol::Http),
        Some("tcp" | "tls" | "https" | "mongo" | "mysql" | "redis") => Some(Protocol::Tcp),
        Some(_) | None => None,
    }
}

/// The ports of a Service.
pub(crate) fn ports_of(spec: &ServiceSpec) -> Vec<ServicePort> {
    let port = |port: &written::ServicePort| ServicePort {
        name: port.name.as_deref().unwrap_or_default().into(),
        port: port.port,
        target: match &port.target_port {
            Some(PortRef::Name(name)) => TargetPort::Named(name.as_str().into()),
            Some(PortRef::Number(number)) => TargetPort::Number(*number),
            None => TargetPort::Number(port.port),
        },
        protocol: declared(port.app_protocol.as_deref(), port.name.as_deref())
            .unwrap_or(Protocol::Tcp),
    };
    spec.ports.iter().flatten().map(port).collect()
}

/// What the workloads and services are given: addresses, with the problems.
#[derive(Debug, Default)]
pub(crate) struct Given {
    pub(crate) addresses: Addresses,
    /// Addresses that services have, written or given.
    pub(crate) services: BTreeMap<ServiceName, IpAddr>,
    /// The same for workloads, at their places in the index.
    pub(crate) workloads: Vec<Option<IpAddr>>,
    pub(crate) findings: Vec<Finding>,
}

/// Gives addresses to services and workloads: first the written ones, then those that were
/// given before, then new ones, each in the order of names.
pub(crate) fn addresses(index: &Index<'_>, settings: &Settings<'_>, inputs: &Inputs) -> Given {
    let mut given = Given::default();
    service_addresses(index, settings, inputs, &mut given);
    workload_addresses(index, settings, inputs, &mut given);
    given
}

fn service_addresses(
    index: &Index<'_>,
    settings: &Settings<'_>,
    inputs: &Inputs,
    given: &mut Given,
) {
    let range = settings.ranges.services;
    let mut taken: BTreeMap<IpAddr, &ServiceName> = BTreeMap::new();
    let mut unwritten = Vec::new();
    for (name, entry) in &index.services {
        let Some(address) = written_address(entry.service.spec.cluster_ip.as_deref()) else {
            unwritten.push((name, entry));
            continue;
        };
        let problem = if !range.contains(address) {
            let message = format!("{address} is not in {}/{}", range.network, range.prefix);
            Some((ADDRESS_RANGE, message))
        } else {
            taken.get(&address).map(|other| {
                (
                    ADDRESS_TAKEN,
                    format!("Service {other} has the address {address}"),
                )
            })
        };
        if let Some((code, message)) = problem {
            given
                .findings
                .push(at(entry.object, code, "spec.clusterIP", message, None));
        } else {
            taken.insert(address, name);
            given.services.insert(name.clone(), address);
        }
    }
    // Those that have an address keep it before anybody new is given one.
    let before = |name: &ServiceName| inputs.addresses.services.get(name).copied();
    unwritten.sort_by_key(|(name, _)| before(name).is_none());
    let written: BTreeSet<IpAddr> = taken.into_keys().collect();
    let mut allocator = Allocator::new(range, &written);
    for (name, entry) in unwritten {
        match allocator.give(&name.to_string(), before(name)) {
            Some(address) => {
                given.services.insert(name.clone(), address);
                given.addresses.services.insert(name.clone(), address);
            }
            None => {
                let message = "no virtual address is left".to_owned();
                given.findings.push(at(
                    entry.object,
                    RANGE_FULL,
                    "spec.clusterIP",
                    message,
                    None,
                ));
            }
        }
    }
}

pub(crate) fn written_address(text: Option<&str>) -> Option<IpAddr> {
    text.filter(|text| !text.is_empty())
        .and_then(|text| text.parse().ok())
}

fn workload_addresses(
    index: &Index<'_>,
    settings: &Settings<'_>,
    inputs: &Inputs,
    given: &mut Given,
) {
    let mut taken: HashMap<IpAddr, &WorkloadName> = HashMap::new();
    let mut unwritten = Vec::new();
    given.workloads = vec![None; index.workloads.len()];
    for ((name, entry), place) in index.workloads.iter().zip(&mut given.workloads) {
        // Without an address there is no row, and without a row no certificate.
        if let Err(finding) = may_be_hosted(name, entry, inputs) {
            given.findings.push(*finding);
            continue;
        }
        let Some(address) = written_address(entry.workload.spec.address.as_deref()) else {
            unwritten.push((name, entry, place));
            continue;
        };
        let problem = address_problem(address, settings).or_else(|| {
            let other = taken.get(&address)?;
            let message = format!("workload {other} has the address {address}");
            Some((ADDRESS_TAKEN, message))
        });
        if let Some((code, message)) = problem {
            given
                .findings
                .push(at(entry.object, code, "spec.address", message, None));
        } else {
            taken.insert(address, name);
            *place = Some(address);
        }
    }
    let before = |name: &WorkloadName| inputs.addresses.workloads.get(name).copied();
    unwritten.sort_by_key(|(name, ..)| before(name).is_none());
    let mut allocators = BTreeMap::new();
    for (name, entry, place) in unwritten {
        match on_node(entry, inputs, &taken, &mut allocators, (name, before(name))) {
            Ok(address) => {
                *place = Some(address);
                given.addresses.workloads.insert(name.clone(), address);
            }
            Err(finding) => given.findings.push(*finding),
        }
    }
}

/// Why a workload cannot have the address that is written, whoever else has it.
pub(crate) fn address_problem(address: IpAddr, settings: &Settings<'_>) -> Option<(Code, String)> {
    if settings.ranges.services.contains(address) {
        let message = format!("{address} is in the range of services");
        return Some((ADDRESS_RANGE, message));
    }
    let range = settings.ranges.workloads;
    let message = || (ADDRESS_RANGE, format!("{address} is not in {range}"));
    (!settings.owns(address)).then(message)
}

/// A node runs only what its join token allows, whoever declares it.
pub(crate) fn may_be_hosted(
    name: &WorkloadName,
    entry: &WorkloadEntry<'_>,
    inputs: &Inputs,
) -> Result<(), Box<Finding>> {
    // A node that has not joined hosts nothing yet.
    let Some(fact) = inputs.nodes.get(entry.workload.spec.node.as_str()) else {
        return Ok(());
    };
    let account = &entry.service_account;
    if fact.identities.allows(&name.namespace, account) {
        return Ok(());
    }
    let message = format!(
        "node {} may not host {}/{account}: its join token allows {}",
        fact.name, name.namespace, fact.identities
    );
    Err(Box::new(at(
        entry.object,
        NOT_HOSTED,
        "spec.node",
        message,
        None,
    )))
}

/// Allocators of nodes, made when they are needed.
pub(crate) type Allocators<'t, T> = BTreeMap<NodeName, Allocator<'t, T>>;

/// An address of the subnet of the node that a workload runs on.
pub(crate) fn on_node<'t, T: Taken>(
    entry: &WorkloadEntry<'_>,
    inputs: &Inputs,
    others: &'t T,
    allocators: &mut Allocators<'t, T>,
    (name, before): (&WorkloadName, Option<IpAddr>),
) -> Result<IpAddr, Box<Finding>> {
    let problem =
        |code, message: String| Box::new(at(entry.object, code, "spec.node", message, None));
    let node = entry.workload.spec.node.as_str();
    let Some(fact) = inputs.nodes.get(node) else {
        let message = format!("node {node} has not joined yet; the workload waits for it");
        return Err(problem(NODE_UNKNOWN, message));
    };
    let Some(subnet) = fact.subnet else {
        let message = format!("node {node} has no subnet yet; the workload waits for it");
        return Err(problem(NODE_UNKNOWN, message));
    };
    allocators
        .entry(fact.name.clone())
        .or_insert_with(|| Allocator::new(subnet, others))
        .give(&name.to_string(), before)
        .ok_or_else(|| problem(RANGE_FULL, format!("the subnet of node {node} is full")))
}

/// What rows share: a million workloads have few classes, zones and names of ports.
#[derive(Debug)]
pub(crate) struct Shared<'m> {
    classes: Classifier<'m>,
    texts: HashSet<Arc<str>>,
}

impl<'m> Shared<'m> {
    pub(crate) fn new(mentioned: &'m Mentioned) -> Self {
        Self {
            classes: Classifier::new(mentioned),
            texts: HashSet::new(),
        }
    }

    fn text(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.texts.get(text) {
            return known.clone();
        }
        let made: Arc<str> = text.into();
        self.texts.insert(made.clone());
        made
    }
}

/// The row of a workload that has an address, and what its ports say of the services before it.
pub(crate) fn workload_row(
    index: &Index<'_>,
    (name, entry): (&WorkloadName, &WorkloadEntry<'_>),
    shared: &mut Shared<'_>,
    address: IpAddr,
    settings: &Settings<'_>,
    inputs: &Inputs,
) -> Option<(WorkloadRow, Vec<Finding>)> {
    let spec = &entry.workload.spec;
    let node = match inputs.nodes.get(spec.node.as_str()) {
        Some(fact) => fact.name.clone(),
        None => NodeName::try_from(spec.node.as_str()).ok()?,
    };
    let (ports, findings) = ports(index, name, entry, shared);
    let command = spec.command.iter().flatten();
    let row = WorkloadRow {
        name: name.clone(),
        class: shared.classes.class(name, entry),
        address,
        published: inputs.published.get(name).cloned().unwrap_or_default(),
        locality: locality(spec, settings, inputs, shared),
        node,
        ports,
        ready: inputs.ready.get(name).cloned().unwrap_or_default(),
        capacity: spec
            .capacity
            .as_ref()
            .and_then(|found| found.requests_per_second),
        command: command.map(|word| word.as_str().into()).collect(),
    };
    Some((row, findings))
}

/// The rows of the workloads that have an address.
pub(crate) fn workload_rows(
    index: &Index<'_>,
    mentioned: &Mentioned,
    given: &Given,
    settings: &Settings<'_>,
    inputs: &Inputs,
) -> (Vec<WorkloadRow>, Vec<Finding>, OrdSet<WorkloadName>) {
    let (mut rows, mut findings, mut troubled) = (Vec::new(), Vec::new(), OrdSet::new());
    let mut shared = Shared::new(mentioned);
    for ((name, entry), address) in index.workloads.iter().zip(&given.workloads) {
        let Some(address) = *address else {
            continue;
        };
        let subject = (name, entry);
        let made = workload_row(index, subject, &mut shared, address, settings, inputs);
        let Some((row, found)) = made else {
            continue;
        };
        if !found.is_empty() {
            troubled.insert(name.clone());
        }
        findings.extend(found);
        rows.push(row);
    }
    (rows, findings, troubled)
}

/// The ports that a workload declares, and those that services say it has. A port that one of
/// them declares HTTP is HTTP.
fn ports(
    index: &Index<'_>,
    name: &WorkloadName,
    entry: &WorkloadEntry<'_>,
    shared: &mut Shared<'_>,
) -> (Vec<WorkloadPort>, Vec<Finding>) {
    let mut findings = Vec::new();
    let mut ports: BTreeMap<u16, (Arc<str>, Option<Protocol>)> = BTreeMap::new();
    for port in entry.workload.spec.ports.iter().flatten() {
        let protocol = declared(port.app_protocol.as_deref(), port.name.as_deref());
        let port_name = port.name.as_deref().map(|name| shared.text(name));
        ports.insert(port.port, (port_name.unwrap_or_default(), protocol));
    }
    for (service, found) in index.services_of(&name.namespace, |key| entry.label(key)) {
        for (position, port) in found.service.spec.ports.iter().flatten().enumerate() {
            let said = declared(port.app_protocol.as_deref(), port.name.as_deref());
            let number = match &port.target_port {
                Some(PortRef::Number(number)) => *number,
                None => port.port,
                Some(PortRef::Name(wanted)) => {
                    let named = ports.iter().find(|(_, (name, _))| **name == **wanted);
                    let Some((number, _)) = named else {
                        let field = format!("spec.ports[{position}].targetPort");
                        let message = format!("workload {name} has no port named {wanted}");
                        findings.push(at(found.object, NO_TARGET_PORT, &field, message, None));
                        continue;
                    };
                    *number
                }
            };
            let (_, known) = ports.entry(number).or_default();
            if let (Some(known), Some(said)) = (*known, said)
                && known != said
            {
                let field = format!("spec.ports[{position}]");
                let message = format!(
                    "Service {service} and workload {name} (or another Service) declare \
                     different protocols for port {number}"
                );
                findings.push(at(found.object, PROTOCOLS_DIFFER, &field, message, None));
            }
            *known = match (*known, said) {
                (Some(Protocol::Http), _) | (_, Some(Protocol::Http)) => Some(Protocol::Http),
                (Some(Protocol::Tcp), _) | (None, Some(Protocol::Tcp)) => Some(Protocol::Tcp),
                (None, None) => None,
            };
        }
    }
    let row = |(port, (name, protocol)): (u16, (Arc<str>, Option<Protocol>))| WorkloadPort {
        name,
        port,
        protocol: protocol.unwrap_or(Protocol::Tcp),
    };
    (ports.into_iter().map(row).collect(), findings)
}

/// Where a workload runs: what it says itself, else what its node says; the region of a zone as
/// `Mesh.localities` has it.
fn locality(
    spec: &WorkloadSpec,
    settings: &Settings<'_>,
    inputs: &Inputs,
    shared: &mut Shared<'_>,
) -> Locality {
    let place = spec.locality.as_ref();
    let fact = inputs.nodes.get(spec.node.as_str());
    let own_zone = place.and_then(|place| place.zone.as_deref());
    let node_zone = fact.map(|fact| fact.zone.clone()).unwrap_or_default();
    let zone = own_zone.map_or(node_zone, |zone| shared.text(zone));
    let node_region = fact.map(|fact| fact.region.clone()).unwrap_or_default();
    let listed = settings.regions.get(&*zone).copied();
    // A zone of its own need not be in the node's region, but nothing else is known.
    let region = place
        .and_then(|place| place.region.as_deref())
        .or_else(|| listed.filter(|_| own_zone.is_some() || node_region.is_empty()));
    Locality {
        cluster: settings.row.cluster.clone(),
        region: region.map_or(node_region, |region| shared.text(region)),
        zone,
    }
}

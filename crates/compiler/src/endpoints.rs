//! Services and workloads: their ports, places and rows.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use imbl::OrdSet;
use tacit_api::service::{self as written, ServiceSpec};
use tacit_api::values::PortRef;
use tacit_api::workload::WorkloadSpec;
use tacit_model::finding::Finding;
use tacit_model::tables::{ClassKey, Protocol, ServicePort, TargetPort, WorkloadPort, WorkloadRow};
use tacit_model::{Locality, NodeName, WorkloadName};

use crate::delta::NodeFact;
use crate::findings::{NO_TARGET_PORT, PROTOCOLS_DIFFER, at};
use crate::index::{Classifier, Index, Mentioned, WorkloadEntry};
use crate::mesh::Settings;
use crate::state::Inputs;

mod given;
mod validate;

pub(crate) use given::{
    Allocators, Given, address_problem, addresses, may_be_hosted, on_node, written_address,
};
pub(crate) use validate::{validate_service, validate_workload};

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

/// What rows share: a million workloads have few classes, ports and zones.
#[derive(Debug)]
pub(crate) struct Shared<'m> {
    classes: Classifier<'m>,
    /// Of each class, what one of its workloads declares, and the ports that it has for that.
    /// By the address of its key.
    ports: HashMap<*const ClassKey, (Declared<'m>, Arc<[WorkloadPort]>)>,
    texts: HashSet<Arc<str>>,
}

/// The ports that a workload itself says it has.
type Declared<'o> = &'o [tacit_api::workload::WorkloadPort];

impl<'m> Shared<'m> {
    pub(crate) fn new(mentioned: &'m Mentioned) -> Self {
        Self {
            classes: Classifier::new(mentioned),
            ports: HashMap::new(),
            texts: HashSet::new(),
        }
    }

    /// The ports of a workload: its class says which services are before it.
    fn ports(
        &mut self,
        index: &Index<'_>,
        (name, entry): (&WorkloadName, &WorkloadEntry<'m>),
        class: &Arc<ClassKey>,
    ) -> (Arc<[WorkloadPort]>, Vec<Finding>) {
        let declared = entry.workload.spec.ports.as_deref().unwrap_or_default();
        if let Some((same, ports)) = self.ports.get(&Arc::as_ptr(class))
            && *same == declared
        {
            return (ports.clone(), Vec::new());
        }
        let (found, findings) = ports(index, (name, declared), class, self);
        let found: Arc<[WorkloadPort]> = found.into();
        // A finding names the workload.
        if findings.is_empty() {
            let known = (declared, found.clone());
            self.ports.insert(Arc::as_ptr(class), known);
        }
        (found, findings)
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
pub(crate) fn workload_row<'m>(
    index: &Index<'_>,
    (name, entry): (&WorkloadName, &WorkloadEntry<'m>),
    shared: &mut Shared<'m>,
    address: IpAddr,
    settings: &Settings<'_>,
    inputs: &Inputs,
) -> Option<(WorkloadRow, Vec<Finding>)> {
    let spec = &entry.workload.spec;
    let fact = entry.node;
    let node = match fact {
        Some(fact) => fact.name.clone(),
        None => NodeName::try_from(spec.node.as_str()).ok()?,
    };
    let class = shared.classes.class(name, entry);
    let (ports, findings) = shared.ports(index, (name, entry), &class);
    let command = spec.command.iter().flatten();
    let row = WorkloadRow {
        name: name.clone(),
        class,
        address,
        published: inputs.published.get(name).cloned().unwrap_or_default(),
        locality: locality(spec, settings, fact, shared),
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
) -> (Vec<Arc<WorkloadRow>>, Vec<Finding>, OrdSet<WorkloadName>) {
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
        rows.push(Arc::new(row));
    }
    (rows, findings, troubled)
}

/// The ports that a workload declares, and those that services say it has. A port that one of
/// them declares HTTP is HTTP.
fn ports(
    index: &Index<'_>,
    (name, declares): (&WorkloadName, Declared<'_>),
    class: &ClassKey,
    shared: &mut Shared<'_>,
) -> (Vec<WorkloadPort>, Vec<Finding>) {
    let mut findings = Vec::new();
    let mut ports: BTreeMap<u16, (Arc<str>, Option<Protocol>)> = BTreeMap::new();
    for port in declares {
        let protocol = declared(port.app_protocol.as_deref(), port.name.as_deref());
        let port_name = port.name.as_deref().map(|name| shared.text(name));
        ports.insert(port.port, (port_name.unwrap_or_default(), protocol));
    }
    for (service, found) in index.services_of(&name.namespace, |key| class.labels.value(key)) {
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
    fact: Option<&NodeFact>,
    shared: &mut Shared<'_>,
) -> Locality {
    let place = spec.locality.as_ref();
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

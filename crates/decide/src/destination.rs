//! Where a captured connection goes.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tacit_model::Snapshot;
use tacit_model::tables::{
    AddressRange, Egress, Holds, Protocol, ServicePort, ServiceRow, WorkloadRow,
};

use crate::denial::{Denial, DenialKind};
use crate::permit::{DialPermit, OutsidePermit};

/// Where a connection goes.
#[derive(Debug, PartialEq, Eq)]
pub enum Destination {
    /// Nowhere.
    Denied(Denial),
    /// Out of the mesh, in clear.
    Outside(OutsidePermit),
    /// To a service: [`crate::choose`] picks an endpoint for each try.
    Service(ServiceTarget),
    /// To one workload, by its own address: [`permit_workload`] makes the permit.
    Workload(WorkloadTarget),
}

/// A port of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceTarget {
    /// The service.
    pub service: Arc<ServiceRow>,
    /// The port that was called, with its protocol.
    pub port: ServicePort,
}

/// A port of a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadTarget {
    /// The workload.
    pub workload: Arc<WorkloadRow>,
    /// The port of its application.
    pub port: u16,
    /// What the port is declared to speak.
    pub protocol: Protocol,
}

/// Decides where a connection to `to` (the original destination) goes.
///
/// An address of a service or a workload is in the mesh, and so is a port of a machine that leads
/// to a workload. Another address of the mesh's own ranges
/// is nobody's now, or somebody's of whom this snapshot does not know yet: what is sent there must
/// not leave in clear. Everything else is outside, which the mesh's `egress` allows or not.
#[must_use]
pub fn destination(s: &Snapshot, to: SocketAddr) -> Destination {
    let address = to.ip().to_canonical();
    if let Some(service) = s.service_at(address) {
        return match service.ports.iter().find(|port| port.port == to.port()) {
            Some(port) => Destination::Service(ServiceTarget {
                service: service.clone(),
                port: port.clone(),
            }),
            None => Destination::Denied(unknown_port(service, to.port())),
        };
    }
    let own = s.workload_at(address).map(|workload| (workload, to.port()));
    let found = own.or_else(|| s.published_at(SocketAddr::new(address, to.port())));
    if let Some((workload, port)) = found {
        return Destination::Workload(WorkloadTarget {
            workload: workload.clone(),
            port,
            protocol: protocol_of(s, workload, port),
        });
    }
    if let Some(range) = own_range(s, address) {
        return Destination::Denied(nobody(to, range));
    }
    match s.mesh.egress.value {
        Egress::Allow => Destination::Outside(OutsidePermit { address: to }),
        Egress::Deny => Destination::Denied(Denial::policy(
            format!("{to} is not in the mesh, and the mesh lets no TCP out"),
            s.mesh.egress.from.clone(),
        )),
    }
}

/// The range of the mesh's own addresses that this one lies in.
fn own_range(s: &Snapshot, address: IpAddr) -> Option<&AddressRange> {
    let mut ranges = s.mesh.addresses.iter();
    ranges.find(|range| range.range.value.contains(address))
}

fn nobody(to: SocketAddr, range: &AddressRange) -> Denial {
    let AddressRange { holds, range } = range;
    let (missing, of) = match holds {
        Holds::Services => ("service", "services"),
        Holds::Workloads => ("workload", "workloads"),
    };
    Denial {
        kind: DenialKind::UnknownDestination,
        reason: format!(
            "no {missing} has the address {}, which is of the mesh's range {} for {of}: it ended, \
             or this node does not know of it yet",
            to.ip().to_canonical(),
            range.value
        ),
        by: Some(range.from.clone()),
    }
}

fn unknown_port(service: &ServiceRow, port: u16) -> Denial {
    let known: Vec<String> = service.ports.iter().map(|p| p.port.to_string()).collect();
    let reason = format!(
        "service {} has no port {port}; it has {}",
        service.name,
        known.join(", ")
    );
    Denial::new(DenialKind::UnknownDestination, reason)
}

/// Leave for `source` to dial a workload that it called by address.
pub fn permit_workload(s: &Snapshot, source: &WorkloadRow, target: &WorkloadTarget) -> DialPermit {
    dial_permit(s, source, &target.workload, target.port)
}

/// The only place that makes a [`DialPermit`].
pub(crate) fn dial_permit(
    s: &Snapshot,
    source: &WorkloadRow,
    callee: &WorkloadRow,
    port: u16,
) -> DialPermit {
    DialPermit {
        endpoint: SocketAddr::new(callee.address, port),
        expected: callee.identity(&s.mesh.trust_domain),
        source: source.name.clone(),
    }
}

/// What a port of a workload is declared to speak: HTTP if the workload says so or any service
/// whose target it is.
#[must_use]
pub fn protocol_of(s: &Snapshot, workload: &WorkloadRow, port: u16) -> Protocol {
    let own = workload
        .ports
        .iter()
        .any(|p| p.port == port && p.protocol == Protocol::Http);
    let by_service = || {
        let services = s.class_of(workload).map(|class| &class.services);
        let rows = services
            .into_iter()
            .flatten()
            .filter_map(|n| s.services.get(n));
        rows.flat_map(|row| &row.ports)
            .any(|p| p.protocol == Protocol::Http && p.target_on(workload) == Some(port))
    };
    if own || by_service() {
        Protocol::Http
    } else {
        Protocol::Tcp
    }
}

//! Gives addresses to services and workloads.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use tacit_model::finding::Finding;
use tacit_model::{NodeName, ServiceName, WorkloadName};

use crate::addresses::{Allocator, Sorted, Taken};
use crate::delta::Addresses;
use crate::findings::{
    ADDRESS_RANGE, ADDRESS_TAKEN, Code, NODE_UNKNOWN, NOT_HOSTED, RANGE_FULL, at,
};
use crate::index::{Index, WorkloadEntry};
use crate::mesh::Settings;
use crate::state::Inputs;

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

impl Given {
    fn set(&mut self, place: usize, address: IpAddr) {
        if let Some(given) = self.workloads.get_mut(place) {
            *given = Some(address);
        }
    }
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
    unwritten.sort_by_cached_key(|(name, _)| before(name).is_none());
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
    let (mut wanted, mut unwritten) = (Vec::new(), Vec::new());
    given.workloads = vec![None; index.workloads.len()];
    for (place, (name, entry)) in index.workloads.iter().enumerate() {
        // Without an address there is no row, and without a row no certificate.
        if let Err(finding) = may_be_hosted(name, entry) {
            given.findings.push(*finding);
            continue;
        }
        match entry.address {
            Some(address) => wanted.push((address, place)),
            None => unwritten.push((name, entry, place)),
        }
    }
    let taken = written(index, settings, wanted, given);
    let before = |name: &WorkloadName| inputs.addresses.workloads.get(name).copied();
    unwritten.sort_by_cached_key(|(name, ..)| before(name).is_none());
    let mut allocators = BTreeMap::new();
    for (name, entry, place) in unwritten {
        match on_node(entry, &taken, &mut allocators, (name, before(name))) {
            Ok(address) => {
                given.set(place, address);
                given.addresses.workloads.insert(name.clone(), address);
            }
            Err(finding) => given.findings.push(*finding),
        }
    }
}

/// Gives the addresses that are written: of several who write one, the first by name gets it.
/// Those that are taken then.
fn written(
    index: &Index<'_>,
    settings: &Settings<'_>,
    mut wanted: Vec<(IpAddr, usize)>,
    given: &mut Given,
) -> Sorted {
    wanted.sort_unstable();
    let mut taken: Vec<IpAddr> = Vec::with_capacity(wanted.len());
    let mut holder = None;
    for (address, place) in wanted {
        let Some((name, entry)) = index.workloads.get(place) else {
            continue;
        };
        let other = holder.filter(|_| taken.last() == Some(&address));
        let problem = address_problem(address, settings).or_else(|| {
            let other: &WorkloadName = other?;
            let message = format!("workload {other} has the address {address}");
            Some((ADDRESS_TAKEN, message))
        });
        if let Some((code, message)) = problem {
            let found = at(entry.object, code, "spec.address", message, None);
            given.findings.push(found);
        } else {
            taken.push(address);
            holder = Some(name);
            given.set(place, address);
        }
    }
    Sorted(taken)
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
) -> Result<(), Box<Finding>> {
    // A node that has not joined hosts nothing yet.
    let Some(fact) = entry.node else {
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
    others: &'t T,
    allocators: &mut Allocators<'t, T>,
    (name, before): (&WorkloadName, Option<IpAddr>),
) -> Result<IpAddr, Box<Finding>> {
    let problem =
        |code, message: String| Box::new(at(entry.object, code, "spec.node", message, None));
    let node = entry.workload.spec.node.as_str();
    let Some(fact) = entry.node else {
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

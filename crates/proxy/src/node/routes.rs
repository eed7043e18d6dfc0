//! Routes to the workloads of other nodes, by the address of their machine.

use std::collections::BTreeMap;
use std::net::IpAddr;

use tacit_sys::SysError;
use tacit_sys::link::{Batch, Net, Via, show};

use super::host::{Host, Subnet};
use crate::log;

/// Another node: its workloads' subnet, and where its machine is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Neighbour {
    pub(crate) node: String,
    pub(crate) subnet: Subnet,
    pub(crate) addresses: Vec<IpAddr>,
}

/// The routes that this node made.
#[derive(Debug, Default)]
pub(crate) struct Routes(BTreeMap<Subnet, IpAddr>);

impl Routes {
    /// Makes the routes to exactly these neighbours. A machine that cannot be reached directly
    /// is left to the routers on the way; that is said in the log.
    pub(crate) fn update(&mut self, neighbours: &[Neighbour], host: &mut Host) {
        let wanted: BTreeMap<Subnet, &Neighbour> = neighbours
            .iter()
            .map(|neighbour| (neighbour.subnet, neighbour))
            .collect();
        let gone: Vec<Subnet> = self
            .0
            .keys()
            .filter(|subnet| !wanted.contains_key(subnet))
            .copied()
            .collect();
        for subnet in gone {
            self.0.remove(&subnet);
            let mut batch = Batch::new();
            batch.delete_route(net(subnet));
            told(&batch.run(None), subnet);
        }
        for (subnet, neighbour) in wanted {
            host.keep_addresses_towards(subnet);
            let family = |address: &&IpAddr| address.is_ipv4() == subnet.network.is_ipv4();
            let Some(address) = neighbour.addresses.iter().find(family) else {
                continue;
            };
            if self.0.get(&subnet) == Some(address) {
                continue;
            }
            if is_own(*address) {
                // Another node of this very machine: its links are routed already.
                continue;
            }
            let mut batch = Batch::new();
            batch.route(
                net(subnet),
                &Via::Router {
                    address: *address,
                    link: None,
                },
                None,
            );
            let made = batch.run(None);
            told(&made, subnet);
            if made.is_ok() {
                self.0.insert(subnet, *address);
                let node = &neighbour.node;
                log::info(
                    "routes",
                    format!("workloads of node {node}: {subnet} via {address}"),
                );
            }
        }
    }

    /// Removes all routes.
    pub(crate) fn clear(&mut self) {
        let mut batch = Batch::new();
        for subnet in std::mem::take(&mut self.0).into_keys() {
            batch.delete_route(net(subnet));
        }
        if let Err(error) = batch.run(None) {
            log::warn("routes", error);
        }
    }
}

fn net(subnet: Subnet) -> Net {
    Net::new(subnet.network, subnet.prefix)
}

fn told(outcome: &Result<(), SysError>, subnet: Subnet) {
    if let Err(error) = outcome {
        log::warn(
            "routes",
            format!("{subnet} is left to the routers on the way: {error}"),
        );
    }
}

/// True if a socket can be bound to it: then it is an address of this machine.
fn is_own(address: IpAddr) -> bool {
    std::net::UdpSocket::bind((address, 0)).is_ok()
}

/// The address that this machine uses towards `peer`, or towards anywhere.
pub(crate) fn address_towards(peer: IpAddr) -> Result<Option<IpAddr>, SysError> {
    let text = show(None, &["route", "get", &peer.to_string()])?;
    let routes: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let source = routes[0]["prefsrc"].as_str();
    Ok(source.and_then(|source| source.parse().ok()))
}

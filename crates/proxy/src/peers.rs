//! The other nodes, as the control plane lists them.

use std::net::IpAddr;
use std::rc::Rc;

use tacit_wire::proto::control::{Peer, PeersRequest, PeersResponse};

use crate::control::{Client, Control};
use crate::control_link::said;
use crate::log;
use crate::node::host::Subnet;
use crate::node::routes::Neighbour;
use crate::rows;

/// Keeps the routes as the list says; returns why the stream broke.
pub(crate) async fn run(control: &Rc<Control>, mut client: Client) -> String {
    let mut lists = match client.peers(PeersRequest {}).await {
        Ok(lists) => lists.into_inner(),
        Err(status) => return said(&status),
    };
    loop {
        match lists.message().await {
            Ok(Some(PeersResponse { peers })) => update(control, peers),
            Ok(None) => return "the control plane closed the stream of nodes".into(),
            Err(status) => return said(&status),
        }
    }
}

fn update(control: &Control, peers: Vec<Peer>) {
    let own = control.settings.node.as_str();
    let mut neighbours = Vec::new();
    for peer in peers.into_iter().filter(|peer| peer.node != own) {
        match neighbour(peer) {
            Ok(neighbour) => neighbours.push(neighbour),
            Err(why) => log::warn("peers", format!("a node without a route: {why}")),
        }
    }
    control
        .routes
        .borrow_mut()
        .update(&neighbours, &mut control.host.borrow_mut());
}

fn neighbour(peer: Peer) -> Result<Neighbour, String> {
    let Peer {
        node,
        subnet,
        host_addresses,
    } = peer;
    let subnet = Subnet::try_from(subnet.as_str())?;
    let addresses: Result<Vec<IpAddr>, String> = host_addresses
        .iter()
        .map(|bytes| rows::address(bytes))
        .collect();
    Ok(Neighbour {
        node,
        subnet,
        addresses: addresses?,
    })
}

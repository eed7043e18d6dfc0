//! What the machine itself needs once: forwarding, and address translation to the outside.

use std::net::IpAddr;
use std::time::Duration;

use tacit_model::Name;
use tacit_sys::nft::HeldTable;
use tacit_sys::{SysError, sysctl};

use crate::error::NodeError;
use crate::log;

/// The kernel removes the table of a dead process within milliseconds; half a second is ample.
const ATTEMPTS: u32 = 10;
const PAUSE: Duration = Duration::from_millis(50);

/// A range of addresses of workloads, as control wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Subnet {
    pub(crate) network: IpAddr,
    pub(crate) prefix: u8,
}

impl TryFrom<&str> for Subnet {
    type Error = String;

    fn try_from(text: &str) -> Result<Self, String> {
        let invalid = || format!("{text:?} is not a subnet such as 10.96.3.0/24");
        let (network, prefix) = text.split_once('/').ok_or_else(invalid)?;
        let network: IpAddr = network.parse().map_err(|_| invalid())?;
        let prefix: u8 = prefix.parse().map_err(|_| invalid())?;
        let most = if network.is_ipv4() { 32 } else { 128 };
        if prefix > most {
            return Err(invalid());
        }
        Ok(Self { network, prefix })
    }
}

impl std::fmt::Display for Subnet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

/// The machine's part of the mesh; its nftables table is gone when this process is.
#[derive(Debug)]
pub(crate) struct Host {
    table: HeldTable,
    name: String,
}

impl Host {
    /// Turns forwarding on and loads the table `tacit-MESH`.
    pub(crate) fn set_up(mesh: &Name, own: Subnet) -> Result<Self, NodeError> {
        forwarding("ipv4/ip_forward")?;
        if own.network.is_ipv6() {
            forwarding("ipv6/conf/all/forwarding")?;
        }
        let name = format!("tacit-{mesh}-{}", identifier(own));
        let table = load(&ruleset(&name, own)).map_err(|e| {
            let fix = "nodes need root (or a rootless `tacit up`) and nftables in the kernel";
            NodeError::machine("load the machine's nftables table", e, fix)
        })?;
        Ok(Self { table, name })
    }

    /// Traffic to these subnets stays as it is: they belong to the mesh.
    pub(crate) fn keep_addresses_towards(&mut self, subnet: Subnet) {
        let family = if subnet.network.is_ipv4() {
            "mesh4"
        } else {
            "mesh6"
        };
        let command = format!("add element inet {} {family} {{ {subnet} }}", self.name);
        if let Err(error) = self.table.send(&command) {
            log::warn(
                "host",
                format!("traffic to {subnet} loses its source address: {error}"),
            );
        }
    }

    /// Gives the machine's part back, at the end.
    pub(crate) fn tear_down(&mut self) {
        if let Err(error) = self.table.release() {
            log::warn(
                "host",
                format!("the machine's nftables table stays: {error}"),
            );
        }
    }
}

/// The table of a node that was killed a moment ago may still be going away.
fn load(ruleset: &str) -> Result<HeldTable, SysError> {
    let mut attempts = 0;
    loop {
        match HeldTable::load(None, ruleset) {
            Err(_) if attempts < ATTEMPTS => attempts += 1,
            outcome => return outcome,
        }
        std::thread::sleep(PAUSE);
    }
}

fn forwarding(name: &str) -> Result<(), NodeError> {
    if sysctl::get(None, name).is_ok_and(|value| value == "1") {
        return Ok(());
    }
    sysctl::set(None, name, "1").map_err(|e| {
        let fix = "set it by hand (sysctl -w net.ipv4.ip_forward=1) or run as root";
        NodeError::machine("turn packet forwarding on", e, fix)
    })
}

/// Several nodes of a mesh can share a machine's namespace only in tests; their tables differ.
fn identifier(own: Subnet) -> String {
    own.network.to_string().replace([':', '.'], "_")
}

fn ruleset(name: &str, own: Subnet) -> String {
    let (family, set, kind) = if own.network.is_ipv4() {
        ("ip", "mesh4", "ipv4_addr")
    } else {
        ("ip6", "mesh6", "ipv6_addr")
    };
    format!(
        "table inet {name} {{
    flags owner
    set {set} {{
        type {kind}
        flags interval
        auto-merge
        elements = {{ {own} }}
    }}
    chain outside {{
        type nat hook postrouting priority srcnat; policy accept;
        {family} saddr {own} {family} daddr != @{set} masquerade
    }}
}}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subnets() {
        for (text, good) in [
            ("10.96.3.0/24", true),
            ("fd00::/64", true),
            ("10.96.3.0", false),
            ("10.96.3.0/33", false),
            ("x/1", false),
        ] {
            let subnet = Subnet::try_from(text);
            assert_eq!(subnet.is_ok(), good, "{text}");
            if let Ok(subnet) = subnet {
                assert_eq!(subnet.to_string(), text);
            }
        }
    }
}

//! Which TCP ports accept connections from outside in a workload's namespace.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use tacit_sys::listeners::listeners;
use tacit_sys::{NetNs, SysError};

/// The ports that accept connections inside `netns`.
pub(crate) fn ports(netns: &NetNs) -> Result<BTreeSet<u16>, SysError> {
    let all = netns.enter_with(listeners)??;
    Ok(open_to_others(&all))
}

/// Nobody from outside gets in at a loopback address.
fn open_to_others(listeners: &[SocketAddr]) -> BTreeSet<u16> {
    let open = |at: &&SocketAddr| !at.ip().to_canonical().is_loopback();
    listeners
        .iter()
        .filter(open)
        .map(SocketAddr::port)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_not_open() {
        let all = [
            "0.0.0.0:80",
            "127.0.0.1:81",
            "10.96.0.2:82",
            "[::]:83",
            "[::1]:84",
            "[::ffff:127.0.0.9]:85",
            "127.8.0.1:80",
        ];
        let all = all.map(|at| at.parse().unwrap());
        assert_eq!(open_to_others(&all), [80, 82, 83].into());
    }
}

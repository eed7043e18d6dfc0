//! Which TCP ports accept connections in a namespace, from `/proc/net/tcp` and `tcp6`.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader};

use tacit_sys::NetNs;

/// The state of a listening socket in `/proc/net/tcp`.
const LISTEN: &str = "0A";
/// Lines that are read; a workload with more sockets than this has its listeners among the
/// first, which the kernel prints before all others.
const MAX_LINES: usize = 65_536;

/// The ports that somebody listens on in a table of the form of `/proc/net/tcp`.
///
/// The kernel prints listening sockets first, so reading stops at the first other one.
fn parse(table: impl BufRead, into: &mut BTreeSet<u16>) -> io::Result<()> {
    for line in table.lines().skip(1).take(MAX_LINES) {
        let line = line?;
        let mut words = line.split_ascii_whitespace();
        let (Some(local), Some(state)) = (words.nth(1), words.nth(1)) else {
            continue;
        };
        if state != LISTEN {
            break;
        }
        let Some((address, port)) = local.rsplit_once(':') else {
            continue;
        };
        if !is_loopback(address) {
            into.extend(u16::from_str_radix(port, 16));
        }
    }
    Ok(())
}

/// True for an address of 127.0.0.0/8 or `::1`: nobody from outside gets in there. The table
/// shows each 32-bit word as the number that this machine sees in it.
fn is_loopback(address: &str) -> bool {
    let word = |text: &str| u32::from_str_radix(text, 16).map(u32::to_ne_bytes);
    match address.len() {
        8 => word(address).is_ok_and(|bytes| bytes[0] == 127),
        32 => {
            address[..24].bytes().all(|digit| digit == b'0')
                && word(&address[24..]).is_ok_and(|bytes| bytes == [0, 0, 0, 1])
        }
        _ => false,
    }
}

/// The listening ports of the calling thread's namespace.
fn here() -> io::Result<BTreeSet<u16>> {
    let mut ports = BTreeSet::new();
    for table in ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"] {
        match File::open(table) {
            Ok(file) => parse(BufReader::new(file), &mut ports)?,
            // Without IPv6 there is no second table.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    Ok(ports)
}

/// The ports that accept connections inside `netns`; takes about 0.1 ms.
pub(crate) fn ports(netns: &NetNs) -> io::Result<BTreeSet<u16>> {
    netns.enter_with(here).map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1
   1: 0100007F:3A99 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2 1
   1: 0201600A:2328 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2 1
   2: 0201600A:9C40 0302600A:3AA0 01 00000000:00000000 00:00000000 00000000     0        0 3 1
   3: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4 1
";
    const TABLE6: &str = "\
  sl  local_address                         remote_address                        st tx_queue
   0: 00000000000000000000000001000000:0016 00000000000000000000000000000000:0000 0A 00000000
   1: 00000000000000000000000000000000:01BB 00000000000000000000000000000000:0000 0A 00000000
";

    #[test]
    fn listeners_come_first() {
        let mut ports = BTreeSet::new();
        parse(TABLE.as_bytes(), &mut ports).expect("reads");
        assert_eq!(ports, [8080, 9000].into());
        parse(TABLE6.as_bytes(), &mut ports).expect("reads");
        assert_eq!(ports, [443, 8080, 9000].into());
    }

    #[test]
    fn garbage_is_no_port() {
        let mut ports = BTreeSet::new();
        parse("head\n\n0: x\n0: zz:zz 0 0A\n".as_bytes(), &mut ports).expect("reads");
        assert!(ports.is_empty());
    }

    #[test]
    fn a_listener_of_ours_is_seen() {
        let listener = std::net::TcpListener::bind("0.0.0.0:0").expect("binds");
        let port = listener.local_addr().expect("is bound").port();
        assert!(here().expect("reads").contains(&port));
        drop(listener);
        assert!(
            !here().expect("reads").contains(&port),
            "control: it is gone when closed"
        );
    }
}

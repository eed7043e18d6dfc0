//! Which TCP sockets listen in the calling thread's network namespace, asked by netlink.
//!
//! `sock_diag(7)` hands out the listening sockets alone. `/proc/net/tcp` walks all connections of
//! the machine, which costs milliseconds on each look.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::{self, AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType};

use crate::SysError;

/// `SOCK_DIAG_BY_FAMILY`: the type of the question and of each answer.
const BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST` and `NLM_F_DUMP`.
const DUMP: u16 = 0x301;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const TCP: u8 = 6;
/// The bit of the state `TCP_LISTEN`.
const LISTENING: u32 = 1 << 10;
/// Length of `struct nlmsghdr`.
const HEADER: usize = 16;
/// Length of `struct inet_diag_req_v2`.
const REQUEST: usize = 56;
/// The kernel fills at most this in one go (`NLMSG_GOODSIZE` is smaller).
const ANSWER: usize = 32 * 1024;

/// The addresses and ports on which somebody listens, IPv4 and IPv6.
///
/// # Errors
/// When the kernel has no `inet_diag`.
pub fn listeners() -> Result<Vec<SocketAddr>, SysError> {
    let told = |e: Errno| SysError::call("ask for listening sockets (sock_diag)", e);
    let netlink = socket::socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkSockDiag,
    )
    .map_err(told)?;
    let mut found = Vec::new();
    let mut answer = vec![0; ANSWER];
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let question = question(family as u8);
        socket::send(netlink.as_raw_fd(), &question, MsgFlags::empty()).map_err(told)?;
        loop {
            let length = socket::recv(netlink.as_raw_fd(), &mut answer, MsgFlags::empty());
            let bytes = answer.get(..length.map_err(told)?).unwrap_or_default();
            if read(bytes, &mut found).map_err(told)? {
                break;
            }
        }
    }
    Ok(found)
}

fn question(family: u8) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + REQUEST);
    bytes.extend(((HEADER + REQUEST) as u32).to_ne_bytes());
    bytes.extend(BY_FAMILY.to_ne_bytes());
    bytes.extend(DUMP.to_ne_bytes());
    // Sequence number and port id: one question at a time needs neither.
    bytes.extend([0; 8]);
    bytes.extend([family, TCP, 0, 0]);
    bytes.extend(LISTENING.to_ne_bytes());
    bytes.resize(HEADER + REQUEST, 0);
    bytes
}

/// Reads one datagram of messages; true if the answer ends in it.
fn read(mut bytes: &[u8], found: &mut Vec<SocketAddr>) -> Result<bool, Errno> {
    while let Some(length) = word(bytes, 0) {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let (Some(kind), Some(body)) = (half(bytes, 4), bytes.get(HEADER..length)) else {
            return Err(Errno::EBADMSG);
        };
        match kind {
            NLMSG_DONE => return Ok(true),
            NLMSG_ERROR => {
                let code = word(body, 0).map_or(0, u32::cast_signed);
                return Err(Errno::from_raw(-code));
            }
            BY_FAMILY => found.extend(listener(body)),
            _ => {}
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// The address of a `struct inet_diag_msg`: family, then at 4 the port and at 8 the address, both
/// in network order.
fn listener(body: &[u8]) -> Option<SocketAddr> {
    let port = u16::from_be_bytes(body.get(4..6)?.try_into().ok()?);
    let address: [u8; 16] = body.get(8..24)?.try_into().ok()?;
    let ip = if i32::from(*body.first()?) == AddressFamily::Inet as i32 {
        IpAddr::V4(Ipv4Addr::new(
            address[0], address[1], address[2], address[3],
        ))
    } else {
        IpAddr::V6(Ipv6Addr::from(address))
    };
    Some(SocketAddr::new(ip, port))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at + 4)?;
    word.try_into().ok().map(u32::from_ne_bytes)
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    let half = bytes.get(at..at + 2)?;
    half.try_into().ok().map(u16::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_listener_is_there_until_it_is_closed() {
        for at in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(at).unwrap();
            let address = listener.local_addr().unwrap();
            assert!(listeners().unwrap().contains(&address));
            drop(listener);
            assert!(!listeners().unwrap().contains(&address), "{at}");
        }
    }

    #[test]
    fn a_connection_is_no_listener() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(!listeners().unwrap().contains(&client.local_addr().unwrap()));
    }

    #[test]
    fn garbage_is_an_error() {
        for bytes in [
            &[1, 0, 0, 0][..],
            &[200, 0, 0, 0, 20, 0, 0, 0],
            &[16, 0, 0, 0, 9],
        ] {
            assert_eq!(
                read(bytes, &mut Vec::new()),
                Err(Errno::EBADMSG),
                "{bytes:?}"
            );
        }
        let error = [&[20, 0, 0, 0, 2, 0][..], &[0; 10], &(-2_i32).to_ne_bytes()].concat();
        assert_eq!(read(&error, &mut Vec::new()), Err(Errno::ENOENT));
    }
}

//! Socket options that a transparent proxy needs.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;

use socket2::SockRef;

use crate::SysError;

/// Marks all packets of a socket (`SO_MARK`), for nftables to see. Needs `CAP_NET_ADMIN`.
pub fn set_mark(socket: &impl AsFd, mark: u32) -> Result<(), SysError> {
    SockRef::from(socket)
        .set_mark(mark)
        .map_err(|e| SysError::call("mark a socket (SO_MARK)", e))
}

/// Lets a socket bind to an address that is not this host's (`IP_TRANSPARENT`). Needs
/// `CAP_NET_ADMIN`. IPv6 sockets take the same option.
pub fn set_transparent(socket: &impl AsFd) -> Result<(), SysError> {
    SockRef::from(socket)
        .set_ip_transparent_v4(true)
        .map_err(|e| SysError::call("make a socket transparent (IP_TRANSPARENT)", e))
}

/// Lets a socket bind to an address that does not exist yet (`IP_FREEBIND`).
pub fn set_freebind(socket: &impl AsFd, v6: bool) -> Result<(), SysError> {
    let socket = SockRef::from(socket);
    let set = if v6 {
        socket.set_freebind_v6(true)
    } else {
        socket.set_freebind_v4(true)
    };
    set.map_err(|e| SysError::call("bind freely (IP_FREEBIND)", e))
}

/// Leaves the choice of the port to connect(2) when only an address is bound
/// (`IP_BIND_ADDRESS_NO_PORT`), so that one port can serve many destinations.
pub fn set_bind_without_port(socket: &impl AsFd) -> Result<(), SysError> {
    use nix::sys::socket::{setsockopt, sockopt::IpBindAddressNoPort};
    setsockopt(socket, IpBindAddressNoPort, &true)
        .map_err(|e| SysError::call("leave the port open (IP_BIND_ADDRESS_NO_PORT)", e))
}

/// Where a redirected connection was going before nftables redirected it.
///
/// # Errors
/// When the connection was not redirected (made straight to the listening port).
pub fn original_destination(socket: &impl AsFd, v6: bool) -> Result<SocketAddr, SysError> {
    let socket = SockRef::from(socket);
    let asked = if v6 {
        socket.original_dst_v6()
    } else {
        socket.original_dst_v4()
    };
    asked
        .and_then(|address| {
            address
                .as_socket()
                .ok_or_else(|| io::Error::other("not an IP address"))
        })
        .map_err(|e| SysError::call("read where a connection was going (SO_ORIGINAL_DST)", e))
}

/// Gives up on a connection whose sent bytes stay unacknowledged that long
/// (`TCP_USER_TIMEOUT`); 0 is the kernel's default, about 15 minutes.
pub fn set_user_timeout(socket: &impl AsFd, milliseconds: u32) -> Result<(), SysError> {
    SockRef::from(socket)
        .set_tcp_user_timeout(Some(std::time::Duration::from_millis(milliseconds.into())))
        .map_err(|e| SysError::call("limit unacknowledged time (TCP_USER_TIMEOUT)", e))
}

/// Makes the next close of a socket send a reset instead of an orderly end.
pub fn reset_on_close(socket: &impl AsFd) -> Result<(), SysError> {
    SockRef::from(socket)
        .set_linger(Some(std::time::Duration::ZERO))
        .map_err(|e| SysError::call("reset a connection (SO_LINGER)", e))
}

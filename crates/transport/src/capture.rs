//! Connections that the kernel redirected to us: where they wanted to go, and their options.

use std::io;
use std::net::SocketAddr;

use socket2::SockRef;
use tokio::net::TcpStream;

/// The address that the application dialled before the kernel redirected the connection.
///
/// It is the listener's own address if the connection was not redirected; the caller decides
/// what to make of that.
pub fn original_destination(tcp: &TcpStream) -> io::Result<SocketAddr> {
    let socket = SockRef::from(tcp);
    let found = match tcp.local_addr()? {
        SocketAddr::V4(_) => socket.original_dst_v4(),
        // A connection over IPv4 to a listener for both families has a mapped local address.
        SocketAddr::V6(local) if local.ip().to_ipv4_mapped().is_some() => socket.original_dst_v4(),
        SocketAddr::V6(_) => socket.original_dst_v6(),
    };
    let address = match found {
        Ok(address) => address.as_socket(),
        // No connection tracking has seen it, so nothing redirected it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) if error.raw_os_error() == Some(PROTOCOL_OPTION_UNKNOWN) => None,
        Err(error) => return Err(error),
    };
    match address {
        Some(address) => Ok(address),
        None => tcp.local_addr(),
    }
}

/// ENOPROTOOPT: the kernel has no NAT loaded.
const PROTOCOL_OPTION_UNKNOWN: i32 = 92;

/// Sets the options of every captured socket.
pub fn prepare(tcp: &TcpStream) -> io::Result<()> {
    // Small messages must not wait for the acknowledgement of earlier ones.
    tcp.set_nodelay(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{run, tcp_pair};

    #[test]
    fn what_nobody_redirected_went_where_it_arrived() {
        run(async {
            let (near, far) = tcp_pair().await;
            assert_eq!(
                original_destination(&far).unwrap(),
                near.peer_addr().unwrap()
            );
            prepare(&far).unwrap();
            assert!(far.nodelay().unwrap());
        });
    }
}

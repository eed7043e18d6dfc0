//! Makes the network namespace of one workload, and sockets inside it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use tacit_sys::link::{Batch, LinkName, Net, Via};
use tacit_sys::{NetNs, SysError, nft, sockopt, sysctl};

use super::capture::{self, CALLER_MARK, CALLER_TABLE, PROXY_MARK};

/// The router of every workload; the host end of each link answers for it. It also stands in
/// each workload's `resolv.conf`, where any address does: DNS is captured.
pub(crate) const ROUTER: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

/// The link inside.
const INSIDE: &str = "eth0";

/// Connections that may wait to be accepted: a burst of a load generator.
const BACKLOG: i32 = 4096;

/// A workload's namespace, connected to the host. It and its link are gone when the last
/// descriptor, socket and process inside are.
#[derive(Clone, Debug)]
pub(crate) struct Namespace {
    pub(crate) netns: NetNs,
    pub(crate) address: IpAddr,
}

impl Namespace {
    /// Makes it; blocks for about 15 ms. `token` tells the link apart from all others of this
    /// machine, also from one whose namespace is just being removed.
    pub(crate) fn create(address: IpAddr, token: u32) -> Result<Self, SysError> {
        let netns = NetNs::create()?;
        // The rules come first: there is no moment in which a packet could pass uncaptured.
        nft::load(Some(&netns), &capture::ruleset())?;
        let outside = LinkName::try_from(format!("tct{token:08x}").as_str())?;
        let inside = LinkName::try_from(INSIDE)?;
        let router = IpAddr::V4(ROUTER);
        let mut host = Batch::new();
        host.veth(&outside, &inside, Some(&netns))
            .address(&outside, Net::host(router))
            .up(&outside)
            .route(Net::host(address), &Via::Link(outside.clone()), None);
        host.run(None)?;
        let v6 = address.is_ipv6();
        let everything = Net::new(
            if v6 {
                [0_u16; 8].into()
            } else {
                [0_u8; 4].into()
            },
            0,
        );
        let mut own = Batch::new();
        own.loopback_up()
            .address(&inside, Net::host(address))
            .up(&inside)
            .route(Net::host(router), &Via::Link(inside.clone()), None)
            .route(
                everything,
                &Via::Router {
                    address: router,
                    link: Some(inside),
                },
                None,
            )
            .rule_for_mark(CALLER_MARK, CALLER_TABLE, v6)
            .deliver_locally(CALLER_TABLE, v6);
        own.run(Some(&netns))?;
        // Applications have no capabilities, and port 80 is nobody's privilege in here.
        sysctl::set(Some(&netns), "ipv4.ip_unprivileged_port_start", "0")?;
        Ok(Self { netns, address })
    }

    /// A listening TCP socket inside, marked as the proxy's.
    pub(crate) fn listen(&self, at: SocketAddr) -> io::Result<std::net::TcpListener> {
        self.inside(|| {
            let socket = Socket::new(Domain::for_address(at), Type::STREAM, Some(Protocol::TCP))?;
            socket.set_reuse_address(true)?;
            socket.set_mark(PROXY_MARK)?;
            socket.set_nonblocking(true)?;
            socket.bind(&at.into())?;
            socket.listen(BACKLOG)?;
            Ok(socket.into())
        })
    }

    /// A UDP socket inside, marked as the proxy's.
    pub(crate) fn datagrams(&self, at: SocketAddr) -> io::Result<std::net::UdpSocket> {
        self.inside(|| {
            let socket = Socket::new(Domain::for_address(at), Type::DGRAM, Some(Protocol::UDP))?;
            socket.set_mark(PROXY_MARK)?;
            socket.set_nonblocking(true)?;
            socket.bind(&at.into())?;
            Ok(socket.into())
        })
    }

    /// A TCP socket inside that is not connected yet, marked as the proxy's.
    pub(crate) fn dialler(&self, to: SocketAddr) -> io::Result<Socket> {
        self.inside(|| {
            let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
            socket.set_mark(PROXY_MARK)?;
            Ok(socket)
        })
    }

    /// A TCP socket inside whose peer sees `caller` as its source address. A caller of the other
    /// address family cannot be shown; the peer then sees the workload's own address.
    pub(crate) fn dialler_as(&self, caller: IpAddr, to: SocketAddr) -> io::Result<Socket> {
        if caller.is_ipv4() != to.is_ipv4() {
            return self.dialler(to);
        }
        self.inside(|| {
            let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
            socket.set_mark(CALLER_MARK)?;
            sockopt::set_transparent(&socket).map_err(io::Error::other)?;
            sockopt::set_bind_without_port(&socket).map_err(io::Error::other)?;
            socket.bind(&SocketAddr::new(caller, 0).into())?;
            Ok(socket)
        })
    }

    fn inside<T>(&self, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.netns.enter_with(work).map_err(io::Error::other)?
    }
}

//! Every frame of a link, as a capture tool sees them.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::libc;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use nix::sys::socket::{setsockopt, sockopt};

use crate::link::LinkName;
use crate::{NetNs, SysError};

/// Frames that may wait for the reader: 64 MiB, seconds of a busy link.
const BUFFER: usize = 64 << 20;

/// A socket that receives a copy of every frame of one link.
#[derive(Debug)]
pub struct PacketSocket {
    fd: OwnedFd,
}

/// What the kernel counted since the last look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Frames, lost ones included.
    pub packets: u32,
    /// Frames for which there was no room.
    pub lost: u32,
}

impl PacketSocket {
    /// Opens the link of a namespace, in promiscuous mode. Needs `CAP_NET_RAW`.
    pub fn open(netns: &NetNs, link: &LinkName) -> Result<Self, SysError> {
        netns.enter_with(|| Self::open_here(link))?
    }

    fn open_here(link: &LinkName) -> Result<Self, SysError> {
        let what = || format!("capture the link {link}");
        let call = |e: nix::errno::Errno| SysError::call(what(), e);
        let index = nix::net::if_::if_nametoindex(link.as_str()).map_err(call)?;
        let index =
            i32::try_from(index).map_err(|e| SysError::call(what(), io::Error::other(e)))?;
        let flags = SockFlag::SOCK_CLOEXEC;
        // Without a protocol nothing is received until the socket is bound to its link.
        let fd = socket(AddressFamily::Packet, SockType::Raw, flags, None).map_err(call)?;
        setsockopt(&fd, sockopt::RcvBufForce, &BUFFER)
            .or_else(|_| setsockopt(&fd, sockopt::RcvBuf, &BUFFER))
            .map_err(call)?;
        let membership = libc::packet_mreq {
            mr_ifindex: index,
            mr_type: 1, // PACKET_MR_PROMISC
            mr_alen: 0,
            mr_address: [0; 8],
        };
        // PACKET_ADD_MEMBERSHIP
        set_option(&fd, 1, &membership).map_err(|e| SysError::call(what(), e))?;
        bind(&fd, index).map_err(|e| SysError::call(what(), e))?;
        Ok(Self { fd })
    }

    /// Waits at most `patience` for a frame; its length, or `None` when none came.
    ///
    /// A longer frame than `buffer` is cut.
    pub fn receive(&self, buffer: &mut [u8], patience: Duration) -> io::Result<Option<usize>> {
        let mut ready = [nix::poll::PollFd::new(
            std::os::fd::AsFd::as_fd(&self.fd),
            nix::poll::PollFlags::POLLIN,
        )];
        let patience = u16::try_from(patience.as_millis()).unwrap_or(u16::MAX);
        if nix::poll::poll(&mut ready, patience)? == 0 {
            return Ok(None);
        }
        let flags = nix::sys::socket::MsgFlags::empty();
        Ok(Some(nix::sys::socket::recv(
            self.fd.as_raw_fd(),
            buffer,
            flags,
        )?))
    }

    /// Counts since the last call.
    pub fn statistics(&self) -> io::Result<Statistics> {
        let mut counts = [0_u32; 2];
        let mut length = u32::try_from(size_of::<[u32; 2]>()).map_err(io::Error::other)?;
        // SAFETY: the kernel writes a `tpacket_stats`, two numbers of 32 bits, into `counts`.
        #[expect(unsafe_code, reason = "no wrapper of PACKET_STATISTICS")]
        let result = unsafe {
            libc::getsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_PACKET,
                6, // PACKET_STATISTICS
                counts.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        nix::errno::Errno::result(result)?;
        let [packets, lost] = counts;
        Ok(Statistics { packets, lost })
    }
}

fn set_option<T>(fd: &OwnedFd, option: i32, value: &T) -> io::Result<()> {
    let length = u32::try_from(size_of::<T>()).map_err(io::Error::other)?;
    // SAFETY: `value` is readable for its size and outlives the call.
    #[expect(unsafe_code, reason = "no wrapper of packet socket options")]
    let result = unsafe {
        let value = std::ptr::from_ref(value).cast();
        libc::setsockopt(fd.as_raw_fd(), libc::SOL_PACKET, option, value, length)
    };
    nix::errno::Errno::result(result)?;
    Ok(())
}

fn bind(fd: &OwnedFd, index: i32) -> io::Result<()> {
    let family = u16::try_from(libc::AF_PACKET).map_err(io::Error::other)?;
    let all = u16::try_from(libc::ETH_P_ALL).map_err(io::Error::other)?;
    let address = libc::sockaddr_ll {
        sll_family: family,
        sll_protocol: all.to_be(),
        sll_ifindex: index,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let length = u32::try_from(size_of::<libc::sockaddr_ll>()).map_err(io::Error::other)?;
    // SAFETY: `address` is a whole `sockaddr_ll` and outlives the call.
    #[expect(unsafe_code, reason = "no wrapper makes this address")]
    let result = unsafe { libc::bind(fd.as_raw_fd(), std::ptr::from_ref(&address).cast(), length) };
    nix::errno::Errno::result(result)?;
    Ok(())
}

//! Descriptors and credentials over Unix sockets.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::sys::socket::sockopt::PeerCredentials as PeerCredentialsOption;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, getsockopt, recvmsg, sendmsg,
};

use crate::SysError;

/// Most descriptors in one message: stdin, stdout, stderr, directory and a few to spare.
/// Linux itself allows 253.
pub const MAX_DESCRIPTORS: usize = 16;

/// Most groups that a peer is asked for: the kernel's own limit (`NGROUPS_MAX`).
const MAX_GROUPS: usize = 65536;

/// Who is at the other end of a Unix socket, as the kernel recorded it when they connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerCredentials {
    pub pid: u32,
    pub uid: u32,
    pub gid: u32,
}

/// Sends bytes with descriptors attached to the first byte; returns how many bytes went.
///
/// One `sendmsg(2)`: on a non-blocking socket `WouldBlock` is returned as is, so that it can run
/// inside tokio's `try_io`. Only the bytes can be cut short, never the descriptors.
pub fn send(socket: &impl AsFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<usize> {
    if descriptors.len() > MAX_DESCRIPTORS {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("at most {MAX_DESCRIPTORS} descriptors fit into one message"),
        ));
    }
    let numbers: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&numbers)];
    let control = if numbers.is_empty() { &[][..] } else { &rights };
    let sent = sendmsg::<UnixAddr>(
        socket.as_fd().as_raw_fd(),
        &[IoSlice::new(bytes)],
        control,
        MsgFlags::MSG_NOSIGNAL,
        None,
    )?;
    Ok(sent)
}

/// Receives bytes and the descriptors that came with them. 0 bytes is the end of the stream.
///
/// One `recvmsg(2)`, as [`send`]. Received descriptors are close-on-exec.
///
/// # Errors
/// `InvalidData` when more than [`MAX_DESCRIPTORS`] were sent: the kernel dropped some.
pub fn receive(socket: &impl AsFd, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = nix::cmsg_space!([RawFd; MAX_DESCRIPTORS]);
    let mut slices = [IoSliceMut::new(buffer)];
    let message = recvmsg::<UnixAddr>(
        socket.as_fd().as_raw_fd(),
        &mut slices,
        Some(&mut space),
        MsgFlags::MSG_CMSG_CLOEXEC,
    )?;
    let mut descriptors = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = control {
            descriptors.extend(numbers.into_iter().map(own));
        }
    }
    if message.flags.contains(MsgFlags::MSG_CTRUNC) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("the peer sent more than {MAX_DESCRIPTORS} descriptors"),
        ));
    }
    Ok((message.bytes, descriptors))
}

/// Process, user and group of the peer (`SO_PEERCRED`).
pub fn peer_credentials(socket: &impl AsFd) -> Result<PeerCredentials, SysError> {
    let found = getsockopt(&socket.as_fd(), PeerCredentialsOption)
        .map_err(|e| SysError::call("ask who the peer is (SO_PEERCRED)", e))?;
    let pid = u32::try_from(found.pid()).map_err(|_| SysError::Invalid {
        what: "the peer's process id".to_owned(),
        why: format!("{} is negative", found.pid()),
    })?;
    Ok(PeerCredentials {
        pid,
        uid: found.uid(),
        gid: found.gid(),
    })
}

/// Supplementary groups of the peer (`SO_PEERGROUPS`).
pub fn peer_groups(socket: &impl AsFd) -> Result<Vec<u32>, SysError> {
    let mut groups = vec![0_u32; 64];
    loop {
        let width = size_of::<u32>();
        let mut bytes = u32::try_from(groups.len() * width).map_err(|_| SysError::Invalid {
            what: "the number of groups".to_owned(),
            why: "it does not fit 32 bits".to_owned(),
        })?;
        // SAFETY: `groups` is writable for `bytes` bytes, and both pointers outlive the call.
        #[expect(unsafe_code, reason = "no wrapper knows SO_PEERGROUPS")]
        let result = unsafe {
            nix::libc::getsockopt(
                socket.as_fd().as_raw_fd(),
                nix::libc::SOL_SOCKET,
                nix::libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut bytes,
            )
        };
        let needed = bytes as usize / width;
        if result == 0 {
            groups.truncate(needed);
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        let grows = error.raw_os_error() == Some(nix::libc::ERANGE);
        if !grows || needed <= groups.len() || needed > MAX_GROUPS {
            return Err(SysError::call(
                "ask for the peer's groups (SO_PEERGROUPS)",
                error,
            ));
        }
        groups.resize(needed, 0);
    }
}

fn own(number: RawFd) -> OwnedFd {
    // SAFETY: recvmsg(2) has just made this descriptor for us, and nothing else knows its number.
    #[expect(unsafe_code, reason = "takes ownership of a received descriptor")]
    unsafe {
        OwnedFd::from_raw_fd(number)
    }
}

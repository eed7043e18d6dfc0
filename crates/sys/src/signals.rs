//! Signals to processes that are known by a descriptor, so that a reused id is never hit.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

pub use nix::sys::signal::Signal;

use crate::SysError;

/// A descriptor of a process (`pidfd`); readable when the process has ended.
///
/// The caller must know that `pid` still is the process it means: its own unreaped child, or the
/// peer of an open socket.
pub fn open_process(pid: u32) -> Result<OwnedFd, SysError> {
    let what = || format!("get a descriptor of process {pid}");
    let number = nix::libc::c_long::from(pid);
    // SAFETY: pidfd_open(2) takes two integers and touches no memory of ours.
    #[expect(unsafe_code, reason = "no wrapper of pidfd_open")]
    let fd = unsafe { nix::libc::syscall(nix::libc::SYS_pidfd_open, number, 0) };
    if fd < 0 {
        return Err(SysError::call(what(), io::Error::last_os_error()));
    }
    let fd = i32::try_from(fd).map_err(|e| SysError::call(what(), io::Error::other(e)))?;
    // SAFETY: the kernel has just made this descriptor for us.
    #[expect(unsafe_code, reason = "takes ownership of a new descriptor")]
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sends a signal to a process. One that has already ended is not an error.
pub fn send(process: &impl AsFd, signal: Signal) -> Result<(), SysError> {
    // SAFETY: pidfd_send_signal(2) takes integers and a null pointer for "no further data".
    #[expect(unsafe_code, reason = "no wrapper of pidfd_send_signal")]
    let result = unsafe {
        nix::libc::syscall(
            nix::libc::SYS_pidfd_send_signal,
            process.as_fd().as_raw_fd(),
            signal as i32,
            std::ptr::null::<nix::libc::siginfo_t>(),
            0,
        )
    };
    let error = io::Error::last_os_error();
    if result == 0 || error.raw_os_error() == Some(nix::libc::ESRCH) {
        return Ok(());
    }
    Err(SysError::call(format!("send {signal}"), error))
}

/// Sends a signal to a whole process group. One that has already ended is not an error.
pub fn send_to_group(leader: u32, signal: Signal) -> Result<(), SysError> {
    let what = || format!("send {signal} to the process group {leader}");
    let group = i32::try_from(leader).map_err(|e| SysError::call(what(), io::Error::other(e)))?;
    match nix::sys::signal::killpg(nix::unistd::Pid::from_raw(group), signal) {
        Ok(()) | Err(nix::errno::Errno::ESRCH) => Ok(()),
        Err(e) => Err(SysError::call(what(), e)),
    }
}

//! Makes this process live in namespaces of its own: user, mount, network and process ids.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, getegid, geteuid, getppid, pipe2, read};

use crate::SysError;

/// Which namespaces to make.
#[derive(Clone, Copy, Debug, Default)]
pub struct Isolation {
    /// Map the own user to root inside: everything below then works without real root.
    pub user: bool,
    pub mount: bool,
    pub net: bool,
    /// Process ids, with an init: when it dies, for whatever reason, all inside are killed.
    pub pid: bool,
}

/// Which process returned from [`isolate`].
#[derive(Debug)]
pub enum Isolated {
    /// The one inside: go on with the work.
    Inside,
    /// The one outside, after everything inside has ended: exit with this code.
    Outside { exit_code: u8 },
}

/// Moves this process into new namespaces. Call it first in `main`, before any thread starts.
///
/// With `pid` this process forks twice: it stays outside and waits, its child becomes the init of
/// the namespace, and the grandchild returns `Inside`. SIGTERM, SIGINT, SIGHUP and SIGQUIT are
/// passed on inwards. If the outside process is killed, the kernel kills the init, and with it
/// everything inside.
///
/// # Errors
/// Where the kernel or its settings forbid the namespaces; the message says which setting.
pub fn isolate(what: Isolation) -> Result<Isolated, SysError> {
    let ids = (geteuid(), getegid());
    let mut flags = CloneFlags::empty();
    flags.set(CloneFlags::CLONE_NEWUSER, what.user);
    flags.set(CloneFlags::CLONE_NEWNS, what.mount || what.pid);
    flags.set(CloneFlags::CLONE_NEWNET, what.net);
    flags.set(CloneFlags::CLONE_NEWPID, what.pid);
    unshare(flags).map_err(|errno| refused(what, errno))?;
    if what.user {
        map_to_root(ids.0.as_raw(), ids.1.as_raw())?;
    }
    if what.mount || what.pid {
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
            .map_err(|e| SysError::call("keep mounts private", e))?;
    }
    if !what.pid {
        return Ok(Isolated::Inside);
    }
    let outside_signals = block_signals()?;
    let (alive, held) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)
        .map_err(|e| SysError::call("make a pipe", e))?;
    match fork_here()? {
        ForkResult::Parent { child } => {
            let exit_code = watch(child, child)?;
            drop(held);
            Ok(Isolated::Outside { exit_code })
        }
        ForkResult::Child => {
            drop(held);
            init(outside_signals, &alive)
        }
    }
}

/// True when this process may make the namespaces that a mesh needs without further help.
#[must_use]
pub fn is_root() -> bool {
    geteuid().is_root()
}

/// Why the kernel makes no namespaces, and which setting allows them.
fn refused(what: Isolation, errno: Errno) -> SysError {
    let is = |errnos: [Errno; 2]| errnos.contains(&errno);
    // The kernel's words for a limit that is reached are "no space left on device".
    let fix = if is([Errno::ENOSPC, Errno::EUSERS]) {
        "a limit is reached; see `sysctl user.max_user_namespaces user.max_net_namespaces \
         user.max_mnt_namespaces user.max_pid_namespaces`, and raise the one that is too low"
    } else if what.user && is([Errno::EPERM, Errno::EACCES]) {
        "this machine forbids them to users who are not root; allow them with \
         `sysctl -w kernel.unprivileged_userns_clone=1` or \
         `sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`, whichever it has, \
         or run as root"
    } else {
        "see unshare(2)"
    };
    let error = io::Error::from(errno);
    let source = io::Error::new(error.kind(), format!("{error}. {fix}"));
    SysError::call("make new namespaces", source)
}

fn map_to_root(uid: u32, gid: u32) -> Result<(), SysError> {
    let write = |file: &str, text: String| {
        let path = format!("/proc/self/{file}");
        fs::write(&path, text).map_err(|e| SysError::call(format!("write {path}"), e))
    };
    // The kernel wants `deny` before an unprivileged process may map its group.
    write("setgroups", "deny".to_owned())?;
    write("uid_map", format!("0 {uid} 1\n"))?;
    write("gid_map", format!("0 {gid} 1\n"))
}

/// The first process of the namespace: mounts `/proc`, forks the worker, reaps, and ends with it.
fn init(outside_signals: SigSet, alive: &OwnedFd) -> Result<Isolated, SysError> {
    prctl::set_pdeathsig(Signal::SIGKILL)
        .map_err(|e| SysError::call("end with the process outside", e))?;
    // The parent may have died before the line above. Its id reads 0 from here in any case, so the
    // end of its pipe tells.
    if read(alive, &mut [0_u8]) == Ok(0) {
        return Err(SysError::call(
            "start",
            io::Error::other("the process outside has ended"),
        ));
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), flags, None::<&str>)
        .map_err(|e| SysError::call("mount /proc", e))?;
    match fork_here()? {
        ForkResult::Parent { child } => {
            let code = watch(child, Pid::from_raw(-1)).unwrap_or(1);
            end_namespace(code)
        }
        ForkResult::Child => {
            prctl::set_pdeathsig(Signal::SIGKILL)
                .map_err(|e| SysError::call("end with the init process", e))?;
            if getppid() != Pid::from_raw(1) {
                return Err(SysError::call("start", io::Error::other("init has ended")));
            }
            sigprocmask(SigmaskHow::SIG_SETMASK, Some(&outside_signals), None)
                .map_err(|e| SysError::call("restore signals", e))?;
            Ok(Isolated::Inside)
        }
    }
}

/// Ends the init process: the kernel kills whatever is left in its namespace.
#[expect(clippy::exit, reason = "a forked init has no main to return to")]
fn end_namespace(code: u8) -> ! {
    std::process::exit(code.into())
}

fn passed_on() -> SigSet {
    [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGQUIT,
    ]
    .into_iter()
    .collect()
}

/// Blocks what [`watch`] takes by waiting; returns the mask from before.
fn block_signals() -> Result<SigSet, SysError> {
    let mut taken = passed_on();
    taken.add(Signal::SIGCHLD);
    let mut before = SigSet::empty();
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&taken), Some(&mut before))
        .map_err(|e| SysError::call("block signals", e))?;
    Ok(before)
}

/// Passes signals on to `child` and reaps `whom` until `child` has ended; returns its exit code.
fn watch(child: Pid, whom: Pid) -> Result<u8, SysError> {
    let mut taken = passed_on();
    taken.add(Signal::SIGCHLD);
    loop {
        let signal = taken
            .wait()
            .map_err(|e| SysError::call("wait for signals", e))?;
        if signal != Signal::SIGCHLD {
            match kill(child, signal) {
                Ok(()) | Err(Errno::ESRCH) => continue,
                Err(e) => return Err(SysError::call("pass a signal on", e)),
            }
        }
        if let Some(code) = reap(child, whom)? {
            return Ok(code);
        }
    }
}

/// Collects all that have ended; the exit code of `child`, once it has.
fn reap(child: Pid, whom: Pid) -> Result<Option<u8>, SysError> {
    let mut code = None;
    loop {
        match waitpid(whom, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, status)) if pid == child => {
                code = Some(u8::try_from(status).unwrap_or(u8::MAX));
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == child => {
                // As shells do it.
                code = Some(u8::try_from(128 + signal as i32).unwrap_or(u8::MAX));
            }
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(code),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(SysError::call("collect ended processes", e)),
        }
    }
}

fn fork_here() -> Result<ForkResult, SysError> {
    // SAFETY: `isolate` is called before any thread starts, so the child has all of the process.
    #[expect(unsafe_code, reason = "forks without exec")]
    let forked = unsafe { fork() };
    forked.map_err(|e| SysError::call("fork", e))
}

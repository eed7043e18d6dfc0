//! Network namespaces held by a descriptor, and creating sockets inside them.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::Arc;
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};

use crate::SysError;

/// The network namespace of the calling thread.
const OWN: &str = "/proc/thread-self/ns/net";

/// A network namespace; it lives as long as a descriptor, a process or a socket holds it.
#[derive(Clone, Debug)]
pub struct NetNs {
    fd: Arc<OwnedFd>,
}

impl NetNs {
    /// A new, empty namespace with no name anywhere: it is gone when its last holder is.
    ///
    /// # Errors
    /// Without `CAP_SYS_ADMIN`, or past the limit `user.max_net_namespaces`.
    pub fn create() -> Result<Self, SysError> {
        // unshare(2) moves only the calling thread, so a thread of its own leaves ours in place.
        let made = thread::Builder::new()
            .name("netns-create".to_owned())
            .spawn(|| {
                unshare(CloneFlags::CLONE_NEWNET)
                    .map_err(|e| SysError::call("create a network namespace", e))?;
                Self::current()
            })
            .map_err(|e| SysError::call("start a thread to create a network namespace", e))?;
        made.join().unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// The namespace of the calling thread.
    pub fn current() -> Result<Self, SysError> {
        Self::open(Path::new(OWN))
    }

    /// The namespace of a process.
    pub fn of_process(pid: u32) -> Result<Self, SysError> {
        Self::open(Path::new(&format!("/proc/{pid}/ns/net")))
    }

    /// The namespace that a file stands for, such as `/run/netns/NAME` or `/proc/PID/ns/net`.
    pub fn open(path: &Path) -> Result<Self, SysError> {
        let file = File::open(path).map_err(|e| {
            SysError::call(format!("open the network namespace {}", path.display()), e)
        })?;
        Ok(Self::from_fd(file.into()))
    }

    /// The namespace of a descriptor received from elsewhere.
    #[must_use]
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self { fd: Arc::new(fd) }
    }

    /// Runs `work` (creating a socket, starting a process) inside the namespace, on this thread.
    ///
    /// Sockets keep the namespace they were created in. `work` must not await or block long.
    /// When the thread cannot return to its own namespace, the process aborts: going on would
    /// put sockets of one workload into the namespace of another.
    ///
    /// # Errors
    /// Without `CAP_SYS_ADMIN` over the namespace; then `work` did not run.
    pub fn enter_with<T>(&self, work: impl FnOnce() -> T) -> Result<T, SysError> {
        let home = Self::current()?;
        setns(self.fd.as_fd(), CloneFlags::CLONE_NEWNET)
            .map_err(|e| SysError::call("enter a network namespace", e))?;
        let result = catch_unwind(AssertUnwindSafe(work));
        if setns(home.fd.as_fd(), CloneFlags::CLONE_NEWNET).is_err() {
            std::process::abort();
        }
        Ok(result.unwrap_or_else(|panic| resume_unwind(panic)))
    }

    /// Runs `work` on a thread of its own that lives in the namespace until `work` returns.
    ///
    /// For code that blocks or runs an event loop there.
    pub fn run_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<thread::JoinHandle<Result<T, SysError>>, SysError> {
        let netns = self.clone();
        thread::Builder::new()
            .name("in-netns".to_owned())
            .spawn(move || {
                setns(netns.fd.as_fd(), CloneFlags::CLONE_NEWNET)
                    .map_err(|e| SysError::call("enter a network namespace", e))?;
                Ok(work())
            })
            .map_err(|e| SysError::call("start a thread in a network namespace", e))
    }
}

impl AsFd for NetNs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

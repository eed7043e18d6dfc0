//! Starts a process in another network namespace, with mounts, user and limits of its own.

use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::prctl;
use nix::unistd::{Gid, Uid, fchdir, getppid, setgroups, setpgid, setresgid, setresuid, setsid};
use tokio::io::unix::AsyncFd;

use crate::signals::{self, Signal};
use crate::{NetNs, SysError};

/// A process to start. [`Spawn::new`] has defaults; fields are set on it.
#[derive(Debug)]
pub struct Spawn {
    /// A path, or a name to look up in `PATH` of `env`.
    pub program: OsString,
    pub args: Vec<OsString>,
    /// The whole environment: nothing is inherited.
    pub env: Vec<(OsString, OsString)>,
    pub directory: Directory,
    /// Standard input, output and error.
    pub stdio: [StdioFrom; 3],
    /// `None` is the namespace of this process.
    pub netns: Option<NetNs>,
    /// Mounted in a mount namespace of the process's own (only made when there are any).
    pub binds: Vec<Bind>,
    pub user: Option<User>,
    pub capabilities: Capabilities,
    pub no_new_privileges: bool,
    /// Sent to the process when this process dies.
    pub die_with_parent: Option<Signal>,
    pub group: Group,
}

/// Where the process starts.
#[derive(Debug)]
pub enum Directory {
    Inherit,
    Path(PathBuf),
    /// An open directory, such as one a client passed over a socket.
    Open(OwnedFd),
}

/// Where one of the standard descriptors comes from.
#[derive(Debug)]
pub enum StdioFrom {
    Inherit,
    Null,
    Descriptor(OwnedFd),
}

/// A file or directory shown at another place.
#[derive(Clone, Debug)]
pub struct Bind {
    pub source: PathBuf,
    /// Must exist; a symbolic link is followed.
    pub target: PathBuf,
}

/// Whose rights the process has.
#[derive(Clone, Debug)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups; `None` leaves them (a rootless namespace may not set them).
    pub groups: Option<Vec<u32>>,
}

/// Which privileges the process could ever have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capabilities {
    Keep,
    /// Empty bounding and inheritable sets: not even uid 0 has any.
    DropAll,
}

/// Process group and session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    Inherit,
    /// Leads a process group of its own.
    Own,
    /// Leads a session of its own, without a terminal.
    Session,
}

/// A process that was started. Dropping it does not stop it; wait for it, or it stays a zombie.
#[derive(Debug)]
pub struct Started {
    pid: u32,
    pidfd: OwnedFd,
    child: Child,
}

impl Spawn {
    #[must_use]
    pub fn new(program: impl Into<OsString>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            directory: Directory::Inherit,
            stdio: [StdioFrom::Inherit, StdioFrom::Inherit, StdioFrom::Inherit],
            netns: None,
            binds: Vec::new(),
            user: None,
            capabilities: Capabilities::Keep,
            no_new_privileges: false,
            die_with_parent: None,
            group: Group::Inherit,
        }
    }

    #[must_use]
    pub fn args<S: Into<OsString>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Starts the process.
    ///
    /// The fork happens on a thread that lives as long as this process, because
    /// `die_with_parent` means the parent's *thread* to Linux.
    ///
    /// # Errors
    /// `Call` names the step that failed: a namespace, a mount, the user, or finding the program.
    pub fn start(self) -> Result<Started, SysError> {
        on_lasting_thread(None, move || self.start_here())?
    }

    fn start_here(self) -> Result<Started, SysError> {
        let name = self.program.to_string_lossy().into_owned();
        let starting = format!("start {name}");
        let (mut failed, tell) = failure_pipe(&starting)?;
        let mut command = Command::new(&self.program);
        let [stdin, stdout, stderr] = self.stdio;
        command
            .args(&self.args)
            .env_clear()
            .envs(self.env)
            .stdin(stdio(stdin))
            .stdout(stdio(stdout))
            .stderr(stdio(stderr));
        let steps = Steps {
            netns: self.netns,
            binds: self
                .binds
                .iter()
                .map(Mount::try_from)
                .collect::<Result<_, _>>()?,
            directory: open_directory(self.directory)?,
            user: self.user.map(Ids::from),
            capabilities: self.capabilities,
            no_new_privileges: self.no_new_privileges,
            die_with_parent: self.die_with_parent,
            parent: nix::unistd::getpid(),
            group: self.group,
        };
        let report = tell
            .try_clone()
            .map_err(|e| SysError::call(&*starting, e))?;
        // SAFETY: `Steps::run` makes system calls only, on memory prepared before the fork; it
        // neither allocates nor takes a lock.
        #[expect(unsafe_code, reason = "runs code between fork and exec")]
        unsafe {
            command.pre_exec(move || steps.run(report.as_fd()));
        }
        let spawned = command.spawn();
        drop((command, tell));
        let child = spawned.map_err(|e| {
            let step = read_step(&mut failed);
            let what = step.map_or_else(|| starting.clone(), |s| format!("{starting}: {s}"));
            SysError::call(what, e)
        })?;
        let pid = child.id();
        let pidfd = signals::open_process(pid)?;
        Ok(Started { pid, pidfd, child })
    }
}

impl Started {
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends a signal to the process itself; nothing happens when it has ended.
    pub fn signal(&self, signal: Signal) -> Result<(), SysError> {
        signals::send(&self.pidfd, signal)
    }

    /// Sends a signal to the process's group; it must lead one (`Group::Own` or `Session`).
    pub fn signal_group(&self, signal: Signal) -> Result<(), SysError> {
        signals::send_to_group(self.pid, signal)
    }

    /// Makes its end something that async code can wait for: `readable` on the result.
    ///
    /// # Errors
    /// Outside of a tokio runtime, or past its limit of descriptors.
    pub fn watched(self) -> io::Result<AsyncFd<Self>> {
        // SAFETY: `as_raw_fd` is the `pidfd`, which this value owns and never closes or replaces
        // while it lives.
        #[expect(
            unsafe_code,
            reason = "AsyncFd asks for a promise about the descriptor"
        )]
        let watched = unsafe { AsyncFd::register(self) };
        Ok(watched?)
    }

    /// Waits until it ends. Blocks; in async code wait until [`AsFd`] is readable first.
    pub fn wait(&mut self) -> Result<ExitStatus, SysError> {
        self.child
            .wait()
            .map_err(|e| SysError::call(format!("wait for process {}", self.pid), e))
    }

    /// How it ended, if it has.
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>, SysError> {
        self.child
            .try_wait()
            .map_err(|e| SysError::call(format!("look at process {}", self.pid), e))
    }
}

impl AsFd for Started {
    /// The process's descriptor (`pidfd`): readable when it has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl AsRawFd for Started {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.pidfd.as_raw_fd()
    }
}

/// Everything that happens in the child before the program, prepared in the parent.
struct Steps {
    netns: Option<NetNs>,
    binds: Vec<Mount>,
    directory: Option<OwnedFd>,
    user: Option<Ids>,
    capabilities: Capabilities,
    no_new_privileges: bool,
    die_with_parent: Option<Signal>,
    parent: nix::unistd::Pid,
    group: Group,
}

struct Mount {
    source: CString,
    target: CString,
}

struct Ids {
    uid: Uid,
    gid: Gid,
    groups: Option<Vec<Gid>>,
}

/// What failed in the child; the parent reads its number from a pipe.
#[derive(Clone, Copy)]
enum Step {
    Group,
    NetNs,
    Mounts,
    Directory,
    Capabilities,
    User,
    Privileges,
    ParentDeath,
}

const STEPS: [(Step, &str); 8] = [
    (Step::Group, "make a process group"),
    (Step::NetNs, "enter its network namespace"),
    (Step::Mounts, "make its mounts"),
    (Step::Directory, "enter its directory"),
    (Step::Capabilities, "drop capabilities"),
    (Step::User, "become its user"),
    (Step::Privileges, "refuse new privileges"),
    (Step::ParentDeath, "end with its parent"),
];

impl Steps {
    /// Order matters: namespaces and mounts need privileges, which the user change takes away;
    /// the user change also clears the wish to die with the parent.
    fn run(&self, report: BorrowedFd<'_>) -> io::Result<()> {
        let steps: [(Step, &dyn Fn() -> nix::Result<()>); 8] = [
            (Step::Group, &|| self.group()),
            (Step::NetNs, &|| self.netns()),
            (Step::Mounts, &|| self.mounts()),
            (Step::Directory, &|| self.directory()),
            (Step::Capabilities, &|| self.capabilities()),
            (Step::User, &|| self.user()),
            (Step::Privileges, &|| self.privileges()),
            (Step::ParentDeath, &|| self.parent_death()),
        ];
        for (step, work) in steps {
            if let Err(errno) = work() {
                // The error itself goes to the parent by the standard library's own pipe.
                let _told = nix::unistd::write(report, &[step as u8]);
                return Err(io::Error::from_raw_os_error(errno as i32));
            }
        }
        Ok(())
    }

    fn group(&self) -> nix::Result<()> {
        let own = nix::unistd::Pid::from_raw(0);
        match self.group {
            Group::Inherit => Ok(()),
            Group::Own => setpgid(own, own),
            Group::Session => setsid().map(drop),
        }
    }

    fn netns(&self) -> nix::Result<()> {
        match &self.netns {
            Some(netns) => setns(netns.as_fd(), CloneFlags::CLONE_NEWNET),
            None => Ok(()),
        }
    }

    fn mounts(&self) -> nix::Result<()> {
        if self.binds.is_empty() {
            return Ok(());
        }
        let none = None::<&std::ffi::CStr>;
        unshare(CloneFlags::CLONE_NEWNS)?;
        // Slave: later mounts of the host are seen here, ours are not seen there.
        mount(none, c"/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none)?;
        for Mount { source, target } in &self.binds {
            let (source, target) = (source.as_c_str(), target.as_c_str());
            mount(Some(source), target, none, MsFlags::MS_BIND, none)?;
        }
        Ok(())
    }

    fn directory(&self) -> nix::Result<()> {
        match &self.directory {
            Some(directory) => fchdir(directory),
            None => Ok(()),
        }
    }

    fn capabilities(&self) -> nix::Result<()> {
        match self.capabilities {
            Capabilities::Keep => Ok(()),
            Capabilities::DropAll => drop_capabilities(),
        }
    }

    fn user(&self) -> nix::Result<()> {
        let Some(Ids { uid, gid, groups }) = &self.user else {
            return Ok(());
        };
        if let Some(groups) = groups {
            setgroups(groups)?;
        }
        setresgid(*gid, *gid, *gid)?;
        setresuid(*uid, *uid, *uid)
    }

    fn privileges(&self) -> nix::Result<()> {
        if self.no_new_privileges {
            prctl::set_no_new_privs()?;
        }
        Ok(())
    }

    fn parent_death(&self) -> nix::Result<()> {
        let Some(signal) = self.die_with_parent else {
            return Ok(());
        };
        prctl::set_pdeathsig(signal)?;
        // The parent may have died before the line above: then nobody would ever tell us.
        if getppid() == self.parent {
            Ok(())
        } else {
            Err(nix::errno::Errno::ESRCH)
        }
    }
}

/// Empties the bounding, ambient and inheritable sets. Safe between fork and exec.
fn drop_capabilities() -> nix::Result<()> {
    use nix::libc;
    // More than any kernel has; the first unknown number ends the loop.
    for capability in 0..64_u64 {
        // SAFETY: prctl(2) with integers touches no memory of ours.
        #[expect(unsafe_code, reason = "no wrapper of PR_CAPBSET_DROP")]
        let result = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        match nix::errno::Errno::result(result) {
            Ok(_) => {}
            Err(nix::errno::Errno::EINVAL) => break,
            Err(errno) => return Err(errno),
        }
    }
    // SAFETY: as above.
    #[expect(unsafe_code, reason = "no wrapper of PR_CAP_AMBIENT")]
    let cleared = unsafe {
        libc::prctl(
            libc::PR_CAP_AMBIENT,
            libc::PR_CAP_AMBIENT_CLEAR_ALL,
            0,
            0,
            0,
        )
    };
    nix::errno::Errno::result(cleared)?;
    clear_inheritable()
}

/// One half of the kernel's `__user_cap_data_struct[2]`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapabilityData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: i32,
}

fn clear_inheritable() -> nix::Result<()> {
    use nix::libc;
    /// `_LINUX_CAPABILITY_VERSION_3`.
    const VERSION: u32 = 0x2008_0522;
    let mut header = CapabilityHeader {
        version: VERSION,
        pid: 0,
    };
    let mut data = [CapabilityData::default(); 2];
    // SAFETY: header and data have the kernel's layout for this version and outlive the call.
    #[expect(unsafe_code, reason = "no wrapper of capget")]
    let read = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) };
    nix::errno::Errno::result(read)?;
    for half in &mut data {
        half.inheritable = 0;
    }
    // SAFETY: as above; capset reads both.
    #[expect(unsafe_code, reason = "no wrapper of capset")]
    let written = unsafe { libc::syscall(libc::SYS_capset, &raw mut header, data.as_ptr()) };
    nix::errno::Errno::result(written).map(drop)
}

impl TryFrom<&Bind> for Mount {
    type Error = SysError;

    fn try_from(bind: &Bind) -> Result<Self, SysError> {
        let text = |path: &PathBuf| {
            CString::new(path.as_os_str().as_bytes()).map_err(|_| SysError::Invalid {
                what: format!("the path {}", path.display()),
                why: "it contains a zero byte".to_owned(),
            })
        };
        Ok(Self {
            source: text(&bind.source)?,
            target: text(&bind.target)?,
        })
    }
}

impl From<User> for Ids {
    fn from(user: User) -> Self {
        Self {
            uid: Uid::from_raw(user.uid),
            gid: Gid::from_raw(user.gid),
            groups: user
                .groups
                .map(|groups| groups.into_iter().map(Gid::from_raw).collect()),
        }
    }
}

fn open_directory(directory: Directory) -> Result<Option<OwnedFd>, SysError> {
    match directory {
        Directory::Inherit => Ok(None),
        Directory::Open(fd) => Ok(Some(fd)),
        Directory::Path(path) => File::open(&path)
            .map(|file| Some(file.into()))
            .map_err(|e| SysError::call(format!("open the directory {}", path.display()), e)),
    }
}

fn stdio(from: StdioFrom) -> Stdio {
    match from {
        StdioFrom::Inherit => Stdio::inherit(),
        StdioFrom::Null => Stdio::null(),
        StdioFrom::Descriptor(fd) => Stdio::from(fd),
    }
}

fn failure_pipe(starting: &str) -> Result<(File, OwnedFd), SysError> {
    let flags = nix::fcntl::OFlag::O_CLOEXEC | nix::fcntl::OFlag::O_NONBLOCK;
    let (read, write) = nix::unistd::pipe2(flags).map_err(|e| SysError::call(starting, e))?;
    Ok((File::from(read), write))
}

fn read_step(failed: &mut File) -> Option<&'static str> {
    let mut number = [0_u8];
    failed.read_exact(&mut number).ok()?;
    STEPS
        .iter()
        .find(|(step, _)| *step as u8 == number[0])
        .map(|(_, text)| *text)
}

/// Makes a child of `command` die with this process (see [`on_lasting_thread`]).
pub(crate) fn die_with_parent(command: &mut Command) {
    // SAFETY: one prctl(2) between fork and exec, which is async-signal-safe.
    #[expect(unsafe_code, reason = "runs code between fork and exec")]
    unsafe {
        command.pre_exec(|| prctl::set_pdeathsig(Signal::SIGKILL).map_err(io::Error::from));
    }
}

type Job = Box<dyn FnOnce() + Send>;

/// Jobs that may wait for the thread that forks: more than a burst of starting workloads.
const WAITING_JOBS: usize = 256;

/// Runs `work` on one thread that lives as long as the process, inside `netns` if given.
pub(crate) fn on_lasting_thread<T: Send + 'static>(
    netns: Option<NetNs>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, SysError> {
    static JOBS: OnceLock<Result<SyncSender<Job>, io::ErrorKind>> = OnceLock::new();
    let gone = || {
        SysError::call(
            "reach the thread that starts processes",
            io::Error::other("gone"),
        )
    };
    let jobs = JOBS.get_or_init(|| {
        let (send, receive) = sync_channel::<Job>(WAITING_JOBS);
        thread::Builder::new()
            .name("spawn".to_owned())
            .spawn(move || receive.iter().for_each(|job| job()))
            .map(|_| send)
            .map_err(|e| e.kind())
    });
    let jobs = jobs
        .as_ref()
        .map_err(|kind| SysError::call("start a thread", io::Error::from(*kind)))?;
    let (answer, result) = sync_channel(1);
    let job = Box::new(move || {
        let done = match netns {
            Some(netns) => netns.enter_with(work),
            None => Ok(work()),
        };
        // The receiver waits below; it cannot be gone.
        let _sent = answer.send(done);
    });
    jobs.send(job).map_err(|_| gone())?;
    result.recv().map_err(|_| gone())?
}

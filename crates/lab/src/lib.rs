//! Test hosts: a machine of one's own for the real binary, gone with the test.
//!
//! A [`Machine`] is a set of private namespaces (network, mount, process ids; and user, when the
//! test does not run as root). Nothing in it touches the real machine's network, and when the
//! test's process ends, however it ends, the kernel removes everything.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Longest wait for something that should happen soon; generous, because machines are shared.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A machine of one's own.
#[derive(Debug)]
pub struct Machine {
    init: Child,
    directory: tempfile::TempDir,
    tacit: PathBuf,
}

impl Machine {
    /// A machine with loopback up, and a place for files. `tacit` is the binary under test.
    pub fn start(tacit: &Path) -> io::Result<Self> {
        let directory = tempfile::tempdir()?;
        let ready = directory.path().join("ready");
        // Sockets live below /run and state below /var/lib: both are of this machine only.
        let script = format!(
            "mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /var/lib && ip link set lo up && \
             touch {} && exec sleep infinity",
            ready.display()
        );
        let mut command = Command::new("unshare");
        command.args([
            "--net",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
        ]);
        if !is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        let init = command
            .args(["sh", "-c", &script])
            .stdin(Stdio::null())
            .spawn()?;
        let machine = Self {
            init,
            directory,
            tacit: tacit.to_owned(),
        };
        machine.wait_for("its namespaces", || ready.exists())?;
        Ok(machine)
    }

    /// The directory for files of this machine; the same path inside and outside.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Writes a file into the machine's directory and returns its path.
    pub fn write(&self, name: &str, text: &str) -> io::Result<PathBuf> {
        let path = self.directory().join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(&path, text)?;
        Ok(path)
    }

    /// A command that runs on this machine.
    #[must_use]
    pub fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--target={}", self.inner_pid()));
        command.args(["--net", "--mount", "--pid"]);
        if !is_root() {
            command.args(["--user", "--preserve-credentials"]);
        }
        command.args(["--wd=.", "--"]);
        // `nsenter` forks to enter a process-id namespace: what it starts ends with it.
        command.args(["setpriv", "--pdeathsig", "KILL", "--"]);
        command.arg(program).args(arguments);
        command.current_dir(self.directory());
        command
    }

    /// Where the binary under test is.
    #[must_use]
    pub fn binary(&self) -> &Path {
        &self.tacit
    }

    /// The `tacit` binary under test, on this machine.
    #[must_use]
    pub fn tacit(&self, arguments: &[&str]) -> Command {
        self.command(&self.tacit.display().to_string(), arguments)
    }

    /// Runs `tacit` to its end.
    pub fn run(&self, arguments: &[&str]) -> io::Result<Output> {
        self.tacit(arguments).stdin(Stdio::null()).output()
    }

    /// Starts a command that stays; it is killed when the value is dropped.
    pub fn start_command(&self, mut command: Command) -> io::Result<Running> {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        Ok(Running { child })
    }

    /// Waits until `ready` holds.
    pub fn wait_for(&self, what: &str, ready: impl FnMut() -> bool) -> io::Result<()> {
        wait_for(what, ready)
    }

    /// The first process inside: the child of `unshare`, which itself stays outside.
    fn inner_pid(&self) -> u32 {
        let path = format!("/proc/{0}/task/{0}/children", self.init.id());
        let children = std::fs::read_to_string(path).unwrap_or_default();
        children
            .split_whitespace()
            .next()
            .and_then(|pid| pid.parse().ok())
            .unwrap_or(0)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // `--kill-child` takes the inner init with it, and with that every process inside.
        let _ = self.init.kill();
        let _ = self.init.wait();
    }
}

/// A command that stays until it is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
}

impl Running {
    /// The process id outside.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal (by its number), as `kill` would.
    pub fn signal(&self, name: &str) -> io::Result<()> {
        let id = self.child.id().to_string();
        Command::new("kill")
            .args(["-s", name, &id])
            .status()
            .map(drop)
    }

    /// Waits for the end and returns what it printed and whether it succeeded.
    pub fn finish(mut self) -> io::Result<(bool, String)> {
        let status = self.child.wait()?;
        let mut text = String::new();
        if let Some(out) = self.child.stdout.as_mut() {
            out.read_to_string(&mut text)?;
        }
        Ok((status.success(), text))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until `ready` holds.
pub fn wait_for(what: &str, mut ready: impl FnMut() -> bool) -> io::Result<()> {
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        if ready() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err(io::Error::new(
        io::ErrorKind::TimedOut,
        format!("waited {PATIENCE:?} for {what}"),
    ))
}

/// True if the test runs as root of the machine.
#[must_use]
pub fn is_root() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| {
        status
            .lines()
            .any(|line| line.starts_with("Uid:\t0\t") || line == "Uid:\t0")
    })
}

//! `tacit up` and `tacit down`: starts what this machine needs, and keeps it up.

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tacit_control::client::AdminClient;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

use crate::args::UpArgs;
use crate::dirs::Dirs;
use crate::failure::Failure;
use crate::output;
use crate::session::{Place, block_on};

/// First pause before a role that died is started again; doubles up to [`RESTART_MAX`].
const RESTART_MIN: Duration = Duration::from_millis(100);
/// Longest pause: long enough not to burn a core, short enough for a person who watches.
const RESTART_MAX: Duration = Duration::from_secs(5);
/// A role that ran this long was well; its next pause is short again.
const STEADY: Duration = Duration::from_secs(30);
/// How long a role may take to end by itself: the node drains for at most 10 s.
const STOP: Duration = Duration::from_secs(12);
/// How long the control plane may take to answer for the first time.
const START: Duration = Duration::from_secs(20);

/// Brings the roles of this machine up and stays until it is told to stop.
pub(crate) fn up(place: &Place, args: &UpArgs) -> Result<ExitCode, Failure> {
    let dirs = Dirs::own(&place.mesh);
    make_dir(&dirs.runtime, 0o755)?;
    make_dir(&dirs.state, 0o700)?;
    let lock = tacit_sys::lock::FileLock::acquire(&dirs.lock_file()).map_err(|e| {
        Failure::Failed(format!(
            "mesh {:?} is up already ({}: {e}). Use `tacit down`, or another --mesh NAME",
            place.mesh,
            dirs.lock_file().display()
        ))
    })?;
    let administrator = nix::unistd::Uid::effective().as_raw();
    enter_namespaces_if_not_root(&dirs)?;
    let mut file = lock.file();
    let written = file
        .set_len(0)
        .and_then(|()| file.write_all(std::process::id().to_string().as_bytes()));
    written.map_err(|e| Failure::Failed(format!("{}: {e}", dirs.lock_file().display())))?;
    let administrator = if tacit_sys::userns::is_inside() { 0 } else { administrator };
    let supervisor = Supervisor { place, args, dirs: &dirs, administrator };
    let outcome = block_on(supervisor.run());
    for socket in [dirs.control_socket(), dirs.node_socket()] {
        let _ = std::fs::remove_file(socket);
    }
    outcome.map(|()| ExitCode::SUCCESS)
}

/// Asks the `up` of this mesh to stop, and waits until it has.
pub(crate) fn down(place: &Place) -> Result<ExitCode, Failure> {
    let dirs = place.dirs();
    let path = dirs.lock_file();
    let not_up = || Failure::Failed(format!("mesh {:?} is not up", place.mesh));
    let text = std::fs::read_to_string(&path).map_err(|_| not_up())?;
    if tacit_sys::lock::FileLock::acquire(&path).is_ok() {
        return Err(not_up());
    }
    let pid: i32 = text.trim().parse().map_err(|_| {
        Failure::Failed(format!("{} does not hold a process id", path.display()))
    })?;
    kill(Pid::from_raw(pid), Signal::SIGTERM).map_err(|e| {
        Failure::Refused(format!("process {pid}, which holds mesh {:?} up: {e}", place.mesh))
    })?;
    let until = Instant::now() + STOP + STOP;
    while Instant::now() < until {
        if tacit_sys::lock::FileLock::acquire(&path).is_ok() {
            return Ok(ExitCode::SUCCESS);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Err(Failure::TimedOut(format!("process {pid} still holds mesh {:?} up", place.mesh)))
}

fn make_dir(path: &Path, mode: u32) -> Result<(), Failure> {
    let told = |e: std::io::Error| {
        Failure::Failed(format!("cannot make the directory {}: {e}", path.display()))
    };
    std::fs::DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(told)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(told)
}

/// Without root, everything lives in a user and a network namespace of its own: workloads reach
/// each other, but not the outside.
fn enter_namespaces_if_not_root(dirs: &Dirs) -> Result<(), Failure> {
    if nix::unistd::Uid::effective().is_root() {
        return Ok(());
    }
    tacit_sys::userns::enter().map_err(|e| {
        Failure::Failed(format!(
            "cannot enter a user namespace: {e}. Allow them \
             (sysctl kernel.unprivileged_userns_clone=1, \
             kernel.apparmor_restrict_unprivileged_userns=0) or run as root"
        ))
    })?;
    output::note("tacit: not root, so workloads reach each other but nothing outside the mesh");
    tacit_sys::userns::set_environment([
        ("TACIT_ROOTLESS", "1".as_ref()),
        ("TACIT_RUNTIME_DIR", dirs.runtime.as_os_str()),
        ("TACIT_STATE_DIR", dirs.state.as_os_str()),
    ]);
    Ok(())
}

/// One role of this machine: a child process that is started again when it ends.
struct Role {
    name: &'static str,
    child: Child,
    started: Instant,
    pause: Duration,
}

struct Supervisor<'a> {
    place: &'a Place,
    args: &'a UpArgs,
    dirs: &'a Dirs,
    administrator: u32,
}

impl Supervisor<'_> {
    async fn run(&self) -> Result<(), Failure> {
        let told = |e: std::io::Error| Failure::Failed(format!("cannot watch signals: {e}"));
        let mut interrupt = signal(SignalKind::interrupt()).map_err(told)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(told)?;
        let mut roles = Vec::new();
        let started = tokio::select! {
            started = self.start(&mut roles) => started,
            _ = interrupt.recv() => Ok(()),
            _ = terminate.recv() => Ok(()),
        };
        if started.is_ok() && !roles.is_empty() {
            tokio::select! {
                () = self.keep(&mut roles) => {}
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        }
        // The node goes first: it tells control which workloads ended.
        while let Some(role) = roles.pop() {
            stop(role).await;
        }
        started
    }

    async fn start(&self, roles: &mut Vec<Role>) -> Result<(), Failure> {
        let mut join = self.args.join.clone();
        if join.is_none() {
            roles.push(self.spawn("control", None)?);
            self.wait_for_control(roles).await?;
            if !self.args.control_only {
                let client = AdminClient::unix(self.dirs.control_socket());
                let token = client.join_token(&self.node_name()).await;
                join = Some(token.map_err(|e| Failure::Failed(e.to_string()))?);
            }
        }
        if let Some(token) = join {
            roles.push(self.spawn("node", Some(&token))?);
            self.wait_for_node(roles).await?;
        }
        output::note(&format!("tacit: mesh {:?} is up (stop it with Ctrl-C)", self.place.mesh));
        Ok(())
    }

    /// Starts again what ends; never returns.
    async fn keep(&self, roles: &mut [Role]) {
        loop {
            tokio::time::sleep(Duration::from_millis(20)).await;
            for role in roles.iter_mut() {
                let Ok(Some(status)) = role.child.try_wait() else { continue };
                if role.started.elapsed() > STEADY {
                    role.pause = RESTART_MIN;
                }
                let pause = role.pause;
                output::complain(&format!("{} ended ({status}); again in {pause:?}", role.name));
                tokio::time::sleep(pause).await;
                role.pause = (pause * 2).min(RESTART_MAX);
                match self.spawn(role.name, self.args.join.as_deref()) {
                    Ok(next) => {
                        role.child = next.child;
                        role.started = next.started;
                    }
                    Err(failure) => output::complain(&failure.to_string()),
                }
            }
        }
    }

    fn node_name(&self) -> String {
        self.args.node.clone().unwrap_or_else(|| {
            let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
            host.unwrap_or_else(|| "local".into()).to_ascii_lowercase()
        })
    }

    fn spawn(&self, name: &'static str, token: Option<&str>) -> Result<Role, Failure> {
        let program = std::env::current_exe()
            .map_err(|e| Failure::Failed(format!("cannot find the tacit binary: {e}")))?;
        let mut command = std::process::Command::new(program);
        command.arg(name).args(["--mesh", &self.place.mesh]);
        command.arg("--administrator").arg(self.administrator.to_string());
        match name {
            "control" => self.control_arguments(&mut command),
            _ => self.node_arguments(&mut command, token),
        }
        tacit_sys::spawn::die_with_parent(&mut command);
        // A signal from the terminal reaches only this process, which then stops the roles in order.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let child = Command::from(command)
            .spawn()
            .map_err(|e| Failure::Failed(format!("cannot start `tacit {name}`: {e}")))?;
        Ok(Role { name, child, started: Instant::now(), pause: RESTART_MIN })
    }

    fn control_arguments(&self, command: &mut std::process::Command) {
        if let Some(directory) = &self.args.file {
            command.arg("--file").arg(directory);
        }
        if let Some(address) = self.args.address {
            command.arg("--address").arg(address.to_string());
        }
    }

    fn node_arguments(&self, command: &mut std::process::Command, token: Option<&str>) {
        command.args(["--name", &self.node_name()]);
        for (option, value) in [("--zone", &self.args.at.zone), ("--region", &self.args.at.region)]
        {
            if let Some(value) = value {
                command.args([option, value]);
            }
        }
        if let Some(address) = self.args.address {
            command.arg("--address").arg(address.to_string());
        }
        if let Some(workers) = self.args.tuning.workers {
            command.arg("--workers").arg(workers.to_string());
        }
        command.args(["--access-log", &self.args.tuning.access_log]);
        match token {
            Some(token) => command.env("TACIT_JOIN_TOKEN", token),
            None => command.env_remove("TACIT_JOIN_TOKEN"),
        };
    }

    async fn wait_for_control(&self, roles: &mut [Role]) -> Result<(), Failure> {
        let client = AdminClient::unix(self.dirs.control_socket());
        wait_until(roles, "control plane", async || client.generation().await.is_ok()).await
    }

    async fn wait_for_node(&self, roles: &mut [Role]) -> Result<(), Failure> {
        let socket = self.dirs.node_socket();
        let answers = async || tokio::net::UnixStream::connect(&socket).await.is_ok();
        wait_until(roles, "node proxy", answers).await
    }
}

/// Waits until the youngest role answers; its end before that is the error.
async fn wait_until(
    roles: &mut [Role],
    what: &str,
    ready: impl AsyncFn() -> bool,
) -> Result<(), Failure> {
    let until = Instant::now() + START;
    while Instant::now() < until {
        if ready().await {
            return Ok(());
        }
        if let Some(role) = roles.last_mut()
            && let Ok(Some(status)) = role.child.try_wait()
        {
            return Err(Failure::Failed(format!("the {what} did not start ({status}); see above")));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Err(Failure::TimedOut(format!("the {what} does not answer after {START:?}")))
}

async fn stop(mut role: Role) {
    let Some(pid) = role.child.id().and_then(|id| i32::try_from(id).ok()) else { return };
    let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    if tokio::time::timeout(STOP, role.child.wait()).await.is_err() {
        output::complain(&format!("{} did not end in {STOP:?}; killed", role.name));
        let _ = role.child.kill().await;
    }
}

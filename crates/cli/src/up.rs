//! `tacit up` and `tacit down`: starts what this machine needs, and keeps it up.

use std::ffi::OsString;
use std::process::{ExitCode, ExitStatus};
use std::time::{Duration, Instant};

use tacit_control::client::AdminClient;
use tacit_model::hosting::MayHost;
use tacit_sys::SysError;
use tacit_sys::link::Batch;
use tacit_sys::lock::{LockFile, Locked, try_lock};
use tacit_sys::signals::{self, Signal};
use tacit_sys::spawn::{Group, Spawn, Started};
use tacit_sys::userns::{Isolated, Isolation, isolate};
use tokio::io::unix::AsyncFd;
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
/// How long a role may take to answer for the first time.
const START: Duration = Duration::from_secs(20);

/// Brings the roles of this machine up and stays until it is told to stop.
pub(crate) fn up(place: &Place, args: &UpArgs) -> Result<ExitCode, Failure> {
    let dirs = Dirs::own(&place.mesh);
    if let Some(directory) = &args.file {
        crate::files::directory(directory)?;
    }
    dirs.make()?;
    let _lock = hold_lock(place, &dirs)?;
    enter_namespaces_if_not_root()?;
    let outcome = block_on(
        Supervisor {
            place,
            args,
            dirs: &dirs,
        }
        .run(),
    );
    for socket in [
        dirs.control_socket(),
        dirs.node_socket(),
        dirs.status_socket(),
    ] {
        // Absent where that role was not asked for.
        let _ = std::fs::remove_file(socket);
    }
    outcome.map(|()| ExitCode::SUCCESS)
}

/// Asks the `up` of this mesh to stop, and waits until it has.
pub(crate) fn down(place: &Place) -> Result<ExitCode, Failure> {
    let dirs = place.dirs();
    let not_up = || Failure::Failed(format!("mesh {:?} is not up", place.mesh));
    let path = dirs.lock_file();
    if !path.exists() {
        return Err(not_up());
    }
    let Locked::ByAnother { pid: Some(pid) } = try_lock(&path).map_err(failed)? else {
        return Err(not_up());
    };
    let process = signals::open_process(pid).map_err(failed)?;
    signals::send(&process, Signal::SIGTERM)
        .map_err(|e| Failure::Refused(format!("mesh {:?}: {e}", place.mesh)))?;
    let until = Instant::now() + STOP + STOP;
    while Instant::now() < until {
        if matches!(try_lock(&path), Ok(Locked::Held(_))) {
            return Ok(ExitCode::SUCCESS);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Err(Failure::TimedOut(format!(
        "process {pid} still holds mesh {:?} up",
        place.mesh
    )))
}

fn failed(error: SysError) -> Failure {
    Failure::Failed(error.to_string())
}

fn hold_lock(place: &Place, dirs: &Dirs) -> Result<LockFile, Failure> {
    match try_lock(&dirs.lock_file()).map_err(failed)? {
        Locked::Held(lock) => Ok(lock),
        Locked::ByAnother { pid } => {
            let by = pid
                .map(|pid| format!(" by process {pid}"))
                .unwrap_or_default();
            Err(Failure::Failed(format!(
                "mesh {:?} is held up already{by}. Use `tacit down`, or another --mesh NAME",
                place.mesh
            )))
        }
    }
}

/// Without root, everything lives in a user and a network namespace of its own: workloads reach
/// each other, but not the outside.
fn enter_namespaces_if_not_root() -> Result<(), Failure> {
    if tacit_sys::userns::is_root() {
        return Ok(());
    }
    output::note("tacit: not root, so workloads reach each other but nothing outside the mesh");
    let what = Isolation {
        user: true,
        mount: true,
        net: true,
        pid: false,
    };
    match isolate(what).map_err(failed)? {
        // A new network namespace begins with loopback down, and the roles meet on it.
        Isolated::Inside => Batch::new().loopback_up().run(None).map_err(failed),
        Isolated::Outside { .. } => Err(Failure::Failed(
            "a namespace without processes of its own has no outside".into(),
        )),
    }
}

/// One role of this machine: a child process that is started again when it ends.
struct Role {
    name: &'static str,
    process: AsyncFd<Started>,
    started: Instant,
    pause: Duration,
}

impl Role {
    /// Waits until the process has ended.
    async fn ended(&mut self) -> Result<ExitStatus, Failure> {
        let told = |e: std::io::Error| Failure::Failed(format!("watching {}: {e}", self.name));
        let _ready = self.process.readable().await.map_err(told)?;
        self.process.get_mut().wait().map_err(failed)
    }

    async fn stop(mut self) {
        // It may have ended by itself; then there is nothing to tell it.
        let _ = self.process.get_ref().signal(Signal::SIGTERM);
        if tokio::time::timeout(STOP, self.ended()).await.is_err() {
            output::complain(&format!("{} did not end in {STOP:?}; killed", self.name));
            let _ = self.process.get_ref().signal(Signal::SIGKILL);
            let _ = self.ended().await;
        }
    }
}

struct Supervisor<'a> {
    place: &'a Place,
    args: &'a UpArgs,
    dirs: &'a Dirs,
}

impl Supervisor<'_> {
    async fn run(&self) -> Result<(), Failure> {
        let told = |e: std::io::Error| Failure::Failed(format!("cannot watch signals: {e}"));
        let mut interrupt = signal(SignalKind::interrupt()).map_err(told)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(told)?;
        let (mut control, mut node) = (None, None);
        let outcome = tokio::select! {
            failure = self.start_and_keep(&mut control, &mut node) => Err(failure),
            _ = interrupt.recv() => Ok(()),
            _ = terminate.recv() => Ok(()),
        };
        // The node goes first: it tells control which workloads ended.
        for role in [node, control].into_iter().flatten() {
            role.stop().await;
        }
        outcome
    }

    /// Runs until something cannot be started.
    async fn start_and_keep(&self, control: &mut Option<Role>, node: &mut Option<Role>) -> Failure {
        if let Err(failure) = self.start(control, node).await {
            return failure;
        }
        let watching = self.args.file.as_ref().map(|directory| {
            let directory = directory.display();
            format!(" and watches {directory}")
        });
        output::note(&format!(
            "tacit: mesh {:?} is up{} (stop it with Ctrl-C)",
            self.place.mesh,
            watching.unwrap_or_default()
        ));
        tokio::select! {
            failure = self.keep(control) => failure,
            failure = self.keep(node) => failure,
        }
    }

    async fn start(
        &self,
        control: &mut Option<Role>,
        node: &mut Option<Role>,
    ) -> Result<(), Failure> {
        let mut token = self.args.join.clone();
        if token.is_none() {
            let control = control.insert(self.spawn("control", None)?);
            let client = AdminClient::unix(self.dirs.control_socket());
            let answers = async || client.generation().await.is_ok();
            wait_until(control, answers).await?;
            if !self.args.control_only {
                // Our own machine starts whatever the mesh starts.
                let made = client.join_token(&self.node_name(), MayHost::any()).await;
                token = Some(made.map_err(|e| Failure::Failed(e.to_string()))?);
            }
        }
        if let Some(token) = token {
            let node = node.insert(self.spawn("node", Some(&token))?);
            let socket = self.dirs.node_socket();
            let answers = async || tokio::net::UnixStream::connect(&socket).await.is_ok();
            wait_until(node, answers).await?;
        }
        Ok(())
    }

    /// Starts a role again whenever it ends; waits forever for one that was not asked for.
    async fn keep(&self, role: &mut Option<Role>) -> Failure {
        let Some(role) = role else {
            return std::future::pending().await;
        };
        loop {
            let status = match role.ended().await {
                Ok(status) => status,
                Err(failure) => return failure,
            };
            if role.started.elapsed() > STEADY {
                role.pause = RESTART_MIN;
            }
            output::complain(&format!(
                "{} ended ({status}); again in {:?}",
                role.name, role.pause
            ));
            tokio::time::sleep(role.pause).await;
            let pause = (role.pause * 2).min(RESTART_MAX);
            match self.spawn(role.name, None) {
                Ok(next) => *role = Role { pause, ..next },
                Err(failure) => return failure,
            }
        }
    }

    fn node_name(&self) -> String {
        self.args.node.clone().unwrap_or_else(|| {
            let host = nix::unistd::gethostname()
                .ok()
                .and_then(|name| name.into_string().ok());
            host.unwrap_or_else(|| "local".into()).to_ascii_lowercase()
        })
    }

    /// Starts a role. The join token matters only the first time: a node that has joined keeps
    /// its certificate.
    fn spawn(&self, name: &'static str, token: Option<&str>) -> Result<Role, Failure> {
        let program = std::env::current_exe()
            .map_err(|e| Failure::Failed(format!("cannot find the tacit binary: {e}")))?;
        let mut arguments: Vec<OsString> = [name, "--mesh", &self.place.mesh]
            .map(OsString::from)
            .into();
        match name {
            "control" => self.control_arguments(&mut arguments),
            _ => self.node_arguments(&mut arguments),
        }
        let mut spawn = Spawn::new(program).args(arguments);
        spawn.env = std::env::vars_os()
            .filter(|(key, _)| key != "TACIT_JOIN_TOKEN")
            .collect();
        let place = [("RUNTIME", &self.dirs.runtime), ("STATE", &self.dirs.state)];
        spawn
            .env
            .extend(place.map(|(what, path)| (format!("TACIT_{what}_DIR").into(), path.into())));
        spawn
            .env
            .extend(token.map(|token| ("TACIT_JOIN_TOKEN".into(), token.into())));
        spawn.die_with_parent = Some(Signal::SIGKILL);
        // A signal from the terminal reaches only this process, which stops the roles in order.
        spawn.group = Group::Own;
        let started = spawn.start().map_err(failed)?;
        let process = started
            .watched()
            .map_err(|e| Failure::Failed(format!("cannot watch `tacit {name}`: {e}")))?;
        Ok(Role {
            name,
            process,
            started: Instant::now(),
            pause: RESTART_MIN,
        })
    }

    fn control_arguments(&self, arguments: &mut Vec<OsString>) {
        if let Some(directory) = &self.args.file {
            arguments.extend(["--file".into(), directory.into()]);
        }
        if let Some(address) = self.args.address {
            arguments.extend(["--address".into(), address.to_string().into()]);
        }
        arguments.extend(self.args.ports.arguments());
    }

    fn node_arguments(&self, arguments: &mut Vec<OsString>) {
        let at = &self.args.at;
        let tuning = &self.args.tuning;
        let options = [
            ("--name", Some(self.node_name())),
            ("--zone", at.zone.clone()),
            ("--region", at.region.clone()),
            (
                "--address",
                self.args.address.map(|address| address.to_string()),
            ),
            (
                "--workers",
                tuning.workers.map(|workers| workers.to_string()),
            ),
            ("--access-log", Some(tuning.access_log.clone())),
        ];
        arguments.extend(self.args.ports.arguments());
        for (option, value) in options {
            arguments.extend(
                value
                    .into_iter()
                    .flat_map(|value| [option.into(), value.into()]),
            );
        }
    }
}

/// Waits until a role answers; its end before that is the error.
async fn wait_until(role: &mut Role, ready: impl AsyncFn() -> bool) -> Result<(), Failure> {
    let name = role.name;
    let poll = async {
        while !ready().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        () = poll => Ok(()),
        status = role.ended() => {
            Err(Failure::Failed(format!("{name} did not start ({}); see above", status?)))
        }
        () = tokio::time::sleep(START) => {
            Err(Failure::TimedOut(format!("{name} does not answer after {START:?}")))
        }
    }
}

//! Workloads that are declared for this node with a command: started here, and started again.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tacit_model::WorkloadName;
use tacit_model::tables::WorkloadRow;
use tacit_sys::spawn::{Directory, StdioFrom};
use tokio::sync::watch;

use crate::control::Control;
use crate::log;
use crate::program::Running;
use crate::run_protocol::RunStatus;
use crate::workloads::{self, NotStarted, Place, Program};

/// First pause before a command that ended is started again; doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// Long enough not to burn a core on a command that cannot work.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// A command that ran this long was well; its next pause is short again.
const STEADY: Duration = Duration::from_secs(30);
/// How long to wait for a certificate before saying so and trying again.
const PATIENCE: Duration = Duration::from_secs(5);

/// What makes a declared workload another one, which is started anew.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Declaration {
    command: Vec<Arc<str>>,
    place: (std::net::IpAddr, tacit_model::SpiffeId),
}

struct Task {
    declaration: Declaration,
    stop: watch::Sender<bool>,
    done: tokio::task::JoinHandle<()>,
}

/// Keeps exactly the declared workloads of this node running, until the node stops.
pub(crate) async fn supervise(control: Rc<Control>) {
    let mut tasks: BTreeMap<WorkloadName, Task> = BTreeMap::new();
    let mut generation = control.generation.subscribe();
    let mut stopping = control.stopping.subscribe();
    loop {
        workloads::refresh_identities(&control);
        let wanted = declared(&control);
        let changed: Vec<WorkloadName> = tasks
            .iter()
            .filter(|(name, task)| wanted.get(*name) != Some(&task.declaration))
            .map(|(name, _)| name.clone())
            .collect();
        for name in changed {
            if let Some(task) = tasks.remove(&name) {
                end(task).await;
            }
        }
        for (name, declaration) in wanted {
            tasks
                .entry(name)
                .or_insert_with_key(|name| start(&control, name, declaration));
        }
        tokio::select! {
            changed = generation.changed() => if changed.is_err() { break },
            _value = stopping.wait_for(|stopping| *stopping) => break,
        }
    }
    let ending: Vec<_> = tasks
        .into_values()
        .map(|task| {
            task.stop.send_replace(true);
            task.done
        })
        .collect();
    for done in ending {
        // A task that panicked has nothing left to end.
        let _joined = done.await;
    }
}

async fn end(task: Task) {
    task.stop.send_replace(true);
    let _joined = task.done.await;
}

fn declared(control: &Control) -> BTreeMap<WorkloadName, Declaration> {
    let snapshot = control.shared.current();
    let own =
        |row: &&Arc<WorkloadRow>| row.node == control.settings.node && !row.command.is_empty();
    let declaration = |row: &Arc<WorkloadRow>| {
        let identity = row.identity(&snapshot.mesh.trust_domain);
        let place = (row.address, identity);
        (
            row.name.clone(),
            Declaration {
                command: row.command.clone(),
                place,
            },
        )
    };
    snapshot
        .workloads
        .values()
        .filter(own)
        .map(declaration)
        .collect()
}

fn start(control: &Rc<Control>, name: &WorkloadName, declaration: Declaration) -> Task {
    let (stop, stopped) = watch::channel(false);
    let (address, identity) = declaration.place.clone();
    let place = Place {
        name: name.clone(),
        address,
        identity,
    };
    let keeper = Keeper {
        control: control.clone(),
        place,
        command: declaration.command.clone(),
    };
    let done = tokio::task::spawn_local(keeper.keep(stopped));
    Task {
        declaration,
        stop,
        done,
    }
}

/// Keeps one command running.
struct Keeper {
    control: Rc<Control>,
    place: Place,
    command: Vec<Arc<str>>,
}

impl Keeper {
    async fn keep(self, mut stop: watch::Receiver<bool>) {
        let mut pause = PAUSE_MIN;
        loop {
            let started = Instant::now();
            let ended = self.run_once(&mut stop).await;
            if *stop.borrow() {
                return;
            }
            let name = &self.place.name;
            match ended {
                Ok(RunStatus::Exited(code)) => {
                    let text = format!("{name} ended with code {code}; again in {pause:?}");
                    log::info("declared", text);
                }
                Ok(RunStatus::Signalled(number)) => {
                    let text = format!("{name} ended by signal {number}; again in {pause:?}");
                    log::info("declared", text);
                }
                Err(why) => log::warn("declared", format!("{name} waits {pause:?}: {why}")),
            }
            if started.elapsed() > STEADY {
                pause = PAUSE_MIN;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _value = stop.wait_for(|stop| *stop) => return,
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Runs the command in a namespace of its own, until it ends or is to stop.
    async fn run_once(&self, stop: &mut watch::Receiver<bool>) -> Result<RunStatus, NotStarted> {
        let control = &self.control;
        workloads::certificate(control, &self.place.identity, PATIENCE).await?;
        let local = workloads::bring_up(control, &self.place, &[], None).await?;
        let started = workloads::start_program(control, &local, self.program()).await;
        let ended = match started {
            Ok(started) => {
                let (name, pid) = (&self.place.name, started.pid());
                log::info("declared", format!("{name} runs as process {pid}"));
                until_ended(started, stop).await
            }
            Err(why) => Err(why),
        };
        workloads::take_down(control, &local).await;
        ended
    }

    fn program(&self) -> Program {
        let settings = &self.control.settings;
        Program {
            command: self
                .command
                .iter()
                .map(|word| OsString::from(&**word))
                .collect(),
            environment: settings.environment.clone(),
            directory: Directory::Path("/".into()),
            stdio: [StdioFrom::Null, StdioFrom::Inherit, StdioFrom::Inherit],
            // The node's own user, who is who started `up`.
            user: None,
        }
    }
}

async fn until_ended(
    started: tacit_sys::spawn::Started,
    stop: &mut watch::Receiver<bool>,
) -> Result<RunStatus, NotStarted> {
    let mut running = Running::new(started).map_err(|e| NotStarted::Machine(e.to_string()))?;
    tokio::select! {
        status = running.ended() => Ok(status),
        _value = stop.wait_for(|stop| *stop) => Ok(running.end().await),
    }
}

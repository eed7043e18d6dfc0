//! Processes of a sample: started in a namespace, an account and on a CPU, and killed.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tacit_sys::NetNs;
use tacit_sys::signals::{self, Signal};
use tacit_sys::spawn::{Group, Spawn, Started, StdioFrom};

use super::accounts::Account;

/// How often a condition is looked at again while waiting.
const LOOK: Duration = Duration::from_millis(10);
/// What programs are looked for in.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Most lines of a log that an error quotes.
const QUOTED: usize = 15;

/// The CPUs that processes are bound to, so that a cross-CPU wake-up happens at the same
/// places with every contender.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cpu {
    /// Load generator and application.
    Ends,
    /// All proxies.
    Proxies,
}

/// A process to start.
pub(crate) struct Job<'a> {
    pub(crate) name: String,
    /// Program and arguments.
    pub(crate) command: Vec<String>,
    pub(crate) environment: Vec<(String, OsString)>,
    pub(crate) netns: &'a NetNs,
    pub(crate) account: &'a Account,
    pub(crate) cpu: Cpu,
    /// The directory of its logs: `NAME.out` and `NAME.err`.
    pub(crate) dir: &'a Path,
}

/// A process that runs.
pub(crate) struct Running {
    name: String,
    started: Started,
    out: PathBuf,
    err: PathBuf,
}

impl Cpu {
    fn list(self) -> &'static str {
        let several = std::thread::available_parallelism().is_ok_and(|count| count.get() > 1);
        match self {
            Self::Proxies if several => "1",
            Self::Proxies | Self::Ends => "0",
        }
    }
}

/// A command that first enters an account and a CPU by itself.
pub(crate) fn placed(account: &Account, cpu: Cpu, command: &[&str]) -> Vec<String> {
    let door = account.door().display().to_string();
    let enter = [
        "sh",
        "-c",
        r#"echo $$ >"$0" && exec "$@""#,
        &door,
        "taskset",
        "-c",
        cpu.list(),
    ];
    enter
        .iter()
        .chain(command)
        .map(|&word| word.to_owned())
        .collect()
}

impl Job<'_> {
    pub(crate) fn start(self) -> Result<Running, String> {
        let words: Vec<&str> = self.command.iter().map(String::as_str).collect();
        let command = placed(self.account, self.cpu, &words);
        let file = |kind: &str| {
            let path = self.dir.join(format!("{}.{kind}", self.name));
            let file = File::create(&path).map_err(|e| format!("{}: {e}", path.display()))?;
            Ok::<_, String>((path, file))
        };
        let (out, stdout) = file("out")?;
        let (err, stderr) = file("err")?;
        let mut spawn = Spawn::new("/bin/sh").args(command.into_iter().skip(1));
        spawn.env = vec![
            ("PATH".into(), PATH.into()),
            ("HOME".into(), self.dir.into()),
        ];
        let own = self
            .environment
            .into_iter()
            .map(|(key, value)| (key.into(), value));
        spawn.env.extend(own);
        spawn.netns = Some(self.netns.clone());
        let to_file = |file: File| StdioFrom::Descriptor(file.into());
        spawn.stdio = [StdioFrom::Null, to_file(stdout), to_file(stderr)];
        spawn.die_with_parent = Some(Signal::SIGKILL);
        spawn.group = Group::Own;
        let started = spawn.start().map_err(|e| format!("{}: {e}", self.name))?;
        Ok(Running {
            name: self.name,
            started,
            out,
            err,
        })
    }

    /// Runs it to its end and returns its output; a failure quotes what it said.
    pub(crate) fn finish(self, patience: Duration) -> Result<String, String> {
        self.start()?.finish(patience)
    }
}

impl Running {
    /// Waits for its end and returns its output; a failure quotes what it said.
    pub(crate) fn finish(mut self, patience: Duration) -> Result<String, String> {
        let mut status = None;
        wait(&format!("the end of {}", self.name), patience, || {
            status = self.started.try_wait().map_err(|e| e.to_string())?;
            Ok(status.is_some())
        })
        .or_else(|e| self.kill().and(Err(e)))?;
        let text = std::fs::read_to_string(&self.out).map_err(|e| e.to_string())?;
        match status {
            Some(status) if status.success() => Ok(text),
            _ => Err(format!(
                "{} failed: {}{}",
                self.name,
                tail(&text),
                self.said()
            )),
        }
    }

    /// An error if it has ended by itself.
    pub(crate) fn check(&mut self) -> Result<(), String> {
        match self.started.try_wait().map_err(|e| e.to_string())? {
            None => Ok(()),
            Some(status) => Err(format!("{} ended ({status}): {}", self.name, self.said())),
        }
    }

    /// The end of what it wrote to standard error.
    pub(crate) fn said(&self) -> String {
        tail(&std::fs::read_to_string(&self.err).unwrap_or_default())
    }

    /// Kills it with its process group. A sample leaves nothing that needs an orderly end.
    pub(crate) fn kill(&mut self) -> Result<(), String> {
        self.started
            .signal_group(Signal::SIGKILL)
            .map_err(|e| e.to_string())?;
        self.started.wait().map(drop).map_err(|e| e.to_string())
    }
}

/// Kills a process that is known by its id only: one in a control group of ours.
pub(crate) fn kill(pid: u32) -> Result<(), String> {
    match signals::open_process(pid) {
        Ok(process) => signals::send(&process, Signal::SIGKILL).map_err(|e| e.to_string()),
        // It has ended since it was listed.
        Err(_) => Ok(()),
    }
}

/// Calls `ready` until it says so, or an error after `patience`.
pub(crate) fn wait(
    what: &str,
    patience: Duration,
    mut ready: impl FnMut() -> Result<bool, String>,
) -> Result<(), String> {
    let until = Instant::now() + patience;
    while !ready()? {
        if Instant::now() > until {
            return Err(format!("waited {patience:?} for {what}"));
        }
        sleep(LOOK);
    }
    Ok(())
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(QUOTED)..].join("\n")
}

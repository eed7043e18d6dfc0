//! Processes of the demo: started on a host, their output read line by line.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::process::ExitStatus;
use std::time::Duration;

use nix::fcntl::OFlag;
use tacit_sys::signals::Signal;
use tacit_sys::spawn::{Bind, Group, Spawn, Started, StdioFrom};
use tacit_sys::{NetNs, SysError};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::unix::pipe;

/// Most that is kept of a command's output, in bytes.
const OUTPUT_LIMIT: u64 = 4 << 20;
/// How long a process may take to end after it was asked to.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// Where and what to start.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    /// A name in `PATH` of `env`, or a path.
    pub(crate) program: OsString,
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<(OsString, OsString)>,
    pub(crate) netns: NetNs,
    pub(crate) binds: Vec<Bind>,
}

/// A finished command.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A running process.
pub(crate) struct Running {
    process: AsyncFd<Started>,
    stdin: pipe::Sender,
    stdout: Lines<BufReader<pipe::Receiver>>,
}

impl Finished {
    /// Both outputs, for an error or for people.
    pub(crate) fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

/// Runs a command to its end, with `stdin` as its input.
pub(crate) async fn finish(job: Job, stdin: &str, patience: Duration) -> io::Result<Finished> {
    let (stderr, errors) = pipe_from_child()?;
    let name = job.program.to_string_lossy().into_owned();
    let mut running = start(job, StdioFrom::Descriptor(stderr))?;
    let written = running.stdin.write_all(stdin.as_bytes()).await;
    let Running {
        process,
        stdin,
        stdout,
    } = running;
    drop(stdin);
    let mut process = process;
    let work = async {
        let (out, err) = tokio::join!(whole(stdout.into_inner()), whole(errors));
        let status = ended(&mut process).await?;
        Ok(Finished {
            status,
            stdout: out?,
            stderr: err?,
        })
    };
    let finished = tokio::time::timeout(patience, work).await;
    let finished: io::Result<Finished> = match finished {
        Ok(finished) => finished,
        Err(_) => {
            kill(&mut process).await?;
            let text = format!("{name} did not end within {patience:?}");
            Err(io::Error::new(io::ErrorKind::TimedOut, text))
        }
    };
    let finished = finished?;
    // A command that fails at once closes its input: then its own words matter, not EPIPE.
    if finished.status.success() {
        written?;
    }
    Ok(finished)
}

/// Starts a process that stays; its standard error goes to `stderr`.
pub(crate) fn start(job: Job, stderr: StdioFrom) -> io::Result<Running> {
    let (stdout, lines) = pipe_from_child()?;
    let (stdin, input) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    let mut spawn = Spawn::new(job.program).args(job.args);
    spawn.env = job.env;
    spawn.netns = Some(job.netns);
    spawn.binds = job.binds;
    spawn.stdio = [
        StdioFrom::Descriptor(stdin),
        StdioFrom::Descriptor(stdout),
        stderr,
    ];
    spawn.die_with_parent = Some(Signal::SIGKILL);
    // A Ctrl-C is for the demo, which then ends what it started in order.
    spawn.group = Group::Own;
    let started = spawn.start().map_err(told)?;
    nix::fcntl::fcntl(&input, nix::fcntl::FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok(Running {
        process: started.watched()?,
        stdin: pipe::Sender::from_owned_fd(input)?,
        stdout: BufReader::new(lines).lines(),
    })
}

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.process.get_ref().pid()
    }

    /// The next line of output; `None` at its end.
    pub(crate) async fn line(&mut self) -> io::Result<Option<String>> {
        self.stdout.next_line().await
    }

    /// Writes a line to its input.
    pub(crate) async fn tell(&mut self, line: &str) -> io::Result<()> {
        self.stdin.write_all(format!("{line}\n").as_bytes()).await
    }

    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        self.process.get_ref().signal(signal).map_err(told)
    }

    /// Asks it to end, and reads its remaining output; kills it when it does not.
    pub(crate) async fn stop(&mut self) -> io::Result<Vec<String>> {
        self.signal(Signal::SIGTERM)?;
        let mut lines = Vec::new();
        let rest = async {
            while let Some(line) = self.stdout.next_line().await? {
                lines.push(line);
            }
            ended(&mut self.process).await
        };
        if tokio::time::timeout(STOP_PATIENCE, rest).await.is_err() {
            kill(&mut self.process).await?;
        }
        Ok(lines)
    }

    /// Waits until it has ended.
    pub(crate) async fn ended(&mut self) -> io::Result<ExitStatus> {
        ended(&mut self.process).await
    }
}

async fn ended(process: &mut AsyncFd<Started>) -> io::Result<ExitStatus> {
    let _ready = process.readable().await?;
    process.get_mut().wait().map_err(told)
}

async fn kill(process: &mut AsyncFd<Started>) -> io::Result<()> {
    process
        .get_ref()
        .signal_group(Signal::SIGKILL)
        .map_err(told)?;
    ended(process).await.map(drop)
}

async fn whole(pipe: impl tokio::io::AsyncRead + Unpin) -> io::Result<String> {
    let mut bytes = Vec::new();
    pipe.take(OUTPUT_LIMIT).read_to_end(&mut bytes).await?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn pipe_from_child() -> io::Result<(OwnedFd, pipe::Receiver)> {
    let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    nix::fcntl::fcntl(&read, nix::fcntl::FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok((write, pipe::Receiver::from_owned_fd(read)?))
}

pub(crate) fn told(error: SysError) -> io::Error {
    io::Error::other(error.to_string())
}

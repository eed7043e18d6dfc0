//! Runs one short-lived tool, inside a network namespace if asked, and keeps what it said.

use std::io::{self, Write};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use crate::{NetNs, SysError};

/// Where system tools live; `PATH` of an ordinary user often lacks the `sbin` ones.
const TOOL_DIRS: [&str; 7] = [
    "/usr/sbin",
    "/sbin",
    "/usr/bin",
    "/bin",
    "/usr/local/sbin",
    "/usr/local/bin",
    "/run/current-system/sw/bin",
];

/// Longest part of a tool's stderr that an error quotes, in bytes: a screenful.
const STDERR_LIMIT: usize = 4096;

/// The full path of a tool, or which package has it.
pub(crate) fn find(program: &str, package: &'static str) -> Result<PathBuf, SysError> {
    TOOL_DIRS
        .iter()
        .map(|dir| PathBuf::from(dir).join(program))
        .find(|path| path.is_file())
        .ok_or_else(|| SysError::Missing {
            program: program.to_owned(),
            package,
        })
}

/// A tool to run once.
pub(crate) struct Tool<'a> {
    pub(crate) program: &'static str,
    pub(crate) package: &'static str,
    pub(crate) args: &'a [&'a str],
    pub(crate) stdin: &'a str,
    /// Descriptors that the tool sees under the same numbers.
    pub(crate) inherit: &'a [BorrowedFd<'a>],
}

impl Tool<'_> {
    /// Runs the tool to its end; returns its standard output.
    pub(crate) fn run(&self, netns: Option<&NetNs>) -> Result<String, SysError> {
        let mut command = Command::new(find(self.program, self.package)?);
        command
            .args(self.args)
            .env_clear()
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        inherit(&mut command, self.inherit);
        let mut start = || spawn_and_wait(&mut command, self.stdin);
        let output = match netns {
            // A child inherits the namespace of the thread that forks it.
            Some(netns) => netns.enter_with(start)?,
            None => start(),
        };
        let output = output.map_err(|e| SysError::call(format!("run `{}`", self.line()), e))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(SysError::Tool {
            command: self.line(),
            status: output.status.to_string(),
            stderr: said.chars().take(STDERR_LIMIT).collect(),
        })
    }

    fn line(&self) -> String {
        format!("{} {}", self.program, self.args.join(" "))
    }
}

fn spawn_and_wait(command: &mut Command, stdin: &str) -> io::Result<Output> {
    let mut child = command.spawn()?;
    let written = match child.stdin.take() {
        Some(mut pipe) => pipe.write_all(stdin.as_bytes()),
        None => Ok(()),
    };
    let output = child.wait_with_output()?;
    // A tool that fails early closes its input: then its own words matter, not EPIPE.
    if output.status.success() {
        written?;
    }
    Ok(output)
}

/// Clears close-on-exec of `fds` in the child only.
fn inherit(command: &mut Command, fds: &[BorrowedFd<'_>]) {
    let numbers: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    if numbers.is_empty() {
        return;
    }
    let clear = move || {
        for number in &numbers {
            // SAFETY: the caller of `run` holds these open until the child is waited for.
            #[expect(
                unsafe_code,
                reason = "a descriptor number made into a borrowed descriptor"
            )]
            let fd = unsafe { BorrowedFd::borrow_raw(*number) };
            fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty()))?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure calls only fcntl(2), which is async-signal-safe,
    // and allocates nothing.
    #[expect(unsafe_code, reason = "runs code between fork and exec")]
    unsafe {
        command.pre_exec(clear);
    }
}

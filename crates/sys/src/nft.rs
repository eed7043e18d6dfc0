//! nftables rulesets of network namespaces, loaded whole or not at all.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::process::{Child, ChildStdin, Command, Stdio};

use crate::command::{Tool, find};
use crate::{NetNs, SysError};

const PROGRAM: &str = "nft";
const PACKAGE: &str = "nftables";

/// Loads a ruleset in nft's language in one transaction: all of it or nothing.
///
/// `netns`: where; `None` is the namespace of the calling thread.
///
/// # Errors
/// `Missing` without the tool; `Tool` with nft's own words, which quote the line.
pub fn load(netns: Option<&NetNs>, ruleset: &str) -> Result<(), SysError> {
    run(netns, &["-f", "-"], ruleset).map(drop)
}

/// Loads a ruleset in nft's JSON form in one transaction.
pub fn load_json(netns: Option<&NetNs>, ruleset: &str) -> Result<(), SysError> {
    run(netns, &["-j", "-f", "-"], ruleset).map(drop)
}

/// All rules with their counters, as nft prints them.
pub fn list(netns: Option<&NetNs>) -> Result<String, SysError> {
    run(netns, &["list", "ruleset"], "")
}

/// All rules with their counters, as JSON.
pub fn list_json(netns: Option<&NetNs>) -> Result<String, SysError> {
    run(netns, &["-j", "list", "ruleset"], "")
}

/// Checks that the tool is installed and that the kernel has what `ruleset` uses; changes nothing.
pub fn check(ruleset: &str) -> Result<(), SysError> {
    run(None, &["-c", "-f", "-"], ruleset).map(drop)
}

/// A table that its loader owns: nobody else can change it, and it is gone when this process is.
///
/// Held by an `nft -i` process, whose netlink socket is the owner.
#[derive(Debug)]
pub struct HeldTable {
    child: Child,
    stdin: ChildStdin,
}

/// How `nft -i` began.
enum Begun {
    /// It ended by itself, having said this.
    Ended(String),
    Holds(ChildStdin),
}

impl HeldTable {
    /// Loads a ruleset whose tables say `flags owner;` and holds it.
    ///
    /// # Errors
    /// As [`load`]; the ruleset is checked first, so that a mistake is quoted.
    pub fn load(netns: Option<&NetNs>, ruleset: &str) -> Result<Self, SysError> {
        run(netns, &["-c", "-f", "-"], ruleset)?;
        let call = |what: &str| {
            let what = what.to_owned();
            move |e: std::io::Error| SysError::call(what, e)
        };
        let file = memory_file(ruleset)?;
        let mut command = Command::new(find(PROGRAM, PACKAGE)?);
        command
            .arg("-i")
            .env_clear()
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        crate::spawn::die_with_parent(&mut command);
        let mut child = crate::spawn::on_lasting_thread(netns.cloned(), move || command.spawn())?
            .map_err(call("start `nft -i`"))?;
        match Self::begin(&mut child, &file) {
            Ok(Begun::Holds(stdin)) => Ok(Self { child, stdin }),
            Ok(Begun::Ended(heard)) => Err(Self::failed(child, heard)),
            Err(error) => {
                // What went wrong before says more than what goes wrong with its end.
                let _ended = child.kill().and_then(|()| child.wait());
                Err(error)
            }
        }
    }

    /// Has the ruleset loaded and waits until it is.
    fn begin(child: &mut Child, file: &File) -> Result<Begun, SysError> {
        let call = |what: &str| {
            let what = what.to_owned();
            move |e: std::io::Error| SysError::call(what, e)
        };
        let pipes = (child.stdin.take(), child.stdout.take());
        let (Some(mut stdin), Some(stdout)) = pipes else {
            return Err(SysError::Invalid {
                what: "`nft -i`".to_owned(),
                why: "it has no pipes".to_owned(),
            });
        };
        // One line makes one transaction. The list after it tells when the first has been done.
        let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
        stdin
            .write_all(format!("include \"{path}\"\nlist tables\n").as_bytes())
            .map_err(call("write to `nft -i`"))?;
        let mut heard = String::new();
        for line in BufReader::new(stdout).lines() {
            let line = line.map_err(call("read from `nft -i`"))?;
            heard.push_str(&line);
            heard.push('\n');
            if line.trim_start().starts_with("table ") {
                return Ok(Begun::Holds(stdin));
            }
        }
        Ok(Begun::Ended(heard))
    }

    fn failed(child: Child, heard: String) -> SysError {
        let (status, stderr) = match child.wait_with_output() {
            Ok(output) => (
                output.status.to_string(),
                String::from_utf8_lossy(&output.stderr).into_owned(),
            ),
            Err(e) => (e.to_string(), String::new()),
        };
        SysError::Tool {
            command: "nft -i".to_owned(),
            status,
            stderr: heard + &stderr,
        }
    }

    /// Sends one more command, on one line, such as `add element ...`; no answer is read.
    pub fn send(&mut self, command: &str) -> Result<(), SysError> {
        self.stdin
            .write_all(format!("{command}\n").as_bytes())
            .map_err(|e| SysError::call("write to `nft -i`", e))
    }

    /// Lets the table go: it is removed, and its process is reaped, when this returns.
    pub fn release(&mut self) -> Result<(), SysError> {
        let call = |e| SysError::call("stop `nft -i`", e);
        self.child.kill().map_err(call)?;
        self.child.wait().map(drop).map_err(call)
    }
}

fn memory_file(text: &str) -> Result<File, SysError> {
    let call = |e: std::io::Error| SysError::call("keep a ruleset in memory", e);
    let fd = nix::sys::memfd::memfd_create("ruleset", nix::sys::memfd::MFdFlags::MFD_CLOEXEC)
        .map_err(|e| call(e.into()))?;
    let mut file = File::from(fd);
    file.write_all(text.as_bytes()).map_err(call)?;
    Ok(file)
}

fn run(netns: Option<&NetNs>, args: &[&str], stdin: &str) -> Result<String, SysError> {
    Tool {
        program: PROGRAM,
        package: PACKAGE,
        args,
        stdin,
        inherit: &[],
    }
    .run(netns)
}

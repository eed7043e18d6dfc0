//! Namespaces of one's own, tried for real: ids, nothing left behind, signals passed on.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test panics to fail, and a skip is said"
)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitCode, Stdio};

use tacit_sys::signals::{Signal, open_process, send};
use tacit_sys::userns::{Isolated, Isolation, is_root, isolate};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    if let Some(role) = args.get(1).and_then(|a| a.strip_prefix("--role=")) {
        return inside(role);
    }
    let rootless = Command::new("unshare").args(["-U", "true"]).status();
    if !is_root() && !rootless.is_ok_and(|s| s.success()) {
        println!("SKIPPED isolate: this machine gives no user namespaces");
        return ExitCode::SUCCESS;
    }
    exit_code_passes_outwards();
    is_root_and_first_inside();
    killing_the_outside_kills_all();
    sigterm_reaches_the_inside();
    println!("isolate: 4 passed");
    ExitCode::SUCCESS
}

fn inside(role: &str) -> ExitCode {
    let all = Isolation {
        user: true,
        mount: true,
        net: true,
        pid: true,
    };
    match isolate(all).expect("isolate") {
        Isolated::Outside { exit_code } => return ExitCode::from(exit_code),
        Isolated::Inside => {}
    }
    match role {
        "exit" => return ExitCode::from(7),
        "look" => {
            let name = |who: &str| fs::read_to_string(format!("/proc/{who}/comm")).unwrap();
            println!("pid={} root={}", std::process::id(), is_root());
            println!("init={}", name("1") == name("self"));
        }
        "sleep" => {
            // A grandchild that nobody would stop but the end of the namespace.
            let orphan = "setsid sleep 1000 & echo ready; exec sleep 1000";
            let _status = Command::new("sh").args(["-c", orphan]).status();
        }
        "trap" => {
            let script = "trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done";
            let status = Command::new("sh").args(["-c", script]).status();
            return ExitCode::from(u8::try_from(status.expect("sh").code().unwrap_or(1)).unwrap());
        }
        other => panic!("no role {other}"),
    }
    ExitCode::SUCCESS
}

fn start(role: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .arg(format!("--role={role}"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn exit_code_passes_outwards() {
    assert_eq!(start("exit").wait().unwrap().code(), Some(7));
}

fn is_root_and_first_inside() {
    let output = start("look").wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("pid=2 root=true"), "{text}");
    assert!(text.contains("init=true"), "{text}");
}

fn killing_the_outside_kills_all() {
    let mut child = start("sleep");
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    let all = descendants(child.id());
    assert!(all.len() >= 4, "init, worker, sh and sleep: {all:?}");
    let watched: Vec<_> = all.iter().filter_map(|p| open_process(*p).ok()).collect();
    assert_eq!(watched.len(), all.len());

    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    for process in &watched {
        wait_for_end(process);
    }
}

fn sigterm_reaches_the_inside() {
    let mut child = start("trap");
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    // The signal goes to the process outside only; the shell inside is three processes further.
    // The worker in between dies of it, so its code is that of the signal.
    send(&open_process(child.id()).unwrap(), Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(128 + 15));
}

/// Waits until a process descriptor is readable: the process has ended.
fn wait_for_end(process: &std::os::fd::OwnedFd) {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;
    let mut fds = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
    let ready = poll(&mut fds, PollTimeout::from(10_000_u16)).unwrap();
    assert_eq!(ready, 1, "a process inside outlived the one outside");
}

fn descendants(of: u32) -> Vec<u32> {
    let mut found = Vec::new();
    let mut open = vec![of];
    while let Some(pid) = open.pop() {
        let path = format!("/proc/{pid}/task/{pid}/children");
        let text = fs::read_to_string(path).unwrap_or_default();
        for child in text.split_whitespace().map(|w| w.parse().unwrap()) {
            found.push(child);
            open.push(child);
        }
    }
    found
}

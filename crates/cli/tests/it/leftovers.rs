//! Whatever stops a demo or a mesh, nothing of it is left on the machine, and the next one works.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::thread;

use tacit_lab::wait_for;

use crate::installed::{Installed, User, not_root, processes_in, users};
use crate::support::{Mesh, text};

/// How people and machines stop things; Ctrl-C is INT to the whole group.
const SIGNALS: [&str; 3] = ["INT", "TERM", "KILL"];
/// A demo that is under way has more: a control plane, four nodes, what supervises them.
const PROCESSES: usize = 8;

#[test]
fn a_demo_that_is_stopped_leaves_nothing() {
    let before = machine();
    for user in users() {
        thread::scope(|scope| {
            for signal in SIGNALS {
                scope.spawn(|| demo_stopped(*user, signal));
            }
        });
    }
    let left = || machine().difference(&before).cloned().collect::<Vec<_>>();
    wait_for("nothing to be left", || left().is_empty())
        .unwrap_or_else(|_| panic!("left on the machine: {:?}", left()));
}

fn demo_stopped(user: User, signal: &str) {
    let installed = Installed::for_user(user);
    let mut demo = start(installed.command(&["demo"]));
    // All but the one outside, which waits for them.
    let under_way = || processes_in(&installed.namespaces()) >= PROCESSES;
    wait_for(&format!("the demo of {user:?}"), under_way).unwrap();
    let namespaces = installed.namespaces();

    send(signal, &demo);
    let status = demo.wait().unwrap();
    match signal {
        "KILL" => assert_eq!(status.signal(), Some(9), "{user:?}"),
        _ => assert_eq!(status.code(), Some(130), "{user:?} {signal}"),
    }
    let gone = || installed.processes() == 0 && processes_in(&namespaces) == 0;
    wait_for(&format!("the end of all after {signal}"), gone).unwrap();
}

#[test]
fn demos_at_once_do_not_meet() {
    let installed: Vec<Installed> = users()
        .iter()
        .flat_map(|user| [Installed::for_user(*user), Installed::for_user(*user)])
        .collect();
    let demos: Vec<Child> = installed
        .iter()
        .map(|installed| start(installed.command(&["demo", "--once", "--act", "access,grants"])))
        .collect();
    for demo in demos {
        let done = demo.wait_with_output().unwrap();
        assert!(done.status.success(), "{}", text(&done.stdout));
    }
    for installed in installed {
        wait_for("the end of all", || installed.processes() == 0).unwrap();
    }
}

#[test]
fn a_rootless_mesh_that_is_stopped_leaves_nothing_and_comes_up_again() {
    let before = machine();
    let installed = Installed::for_user(not_root());
    let run = |arguments: &[&str]| installed.command(arguments).output().unwrap();
    for signal in SIGNALS {
        let mut up = start(installed.command(&["up"]));
        let says_hi = || {
            let hi = run(&["run", "--as", "shop/web", "--", "echo", "hi"]);
            hi.status.success() && text(&hi.stdout) == "hi\n"
        };
        wait_for("a rootless mesh", says_hi).unwrap();
        assert!(installed.processes() > 2, "up, control, node");
        let second = run(&["up"]);
        assert_eq!(second.status.code(), Some(1));
        let said = text(&second.stderr);
        assert!(said.contains("held up already by process"), "{said}");

        send(signal, &up);
        let status = up.wait().unwrap();
        assert_eq!(status.success(), signal != "KILL", "{signal}: {status}");
        wait_for(signal, || installed.processes() == 0).unwrap();
        if signal != "KILL" {
            assert_eq!(sockets(&installed), [""; 0], "after {signal}");
        }
    }
    let left: Vec<String> = machine().difference(&before).cloned().collect();
    assert_eq!(left, [""; 0]);
}

#[test]
fn a_mesh_that_is_stopped_leaves_nothing_and_comes_up_again() {
    let mut mesh = Mesh::up(&[]);
    for signal in SIGNALS {
        let workload = mesh.start(&["--as", "shop/web", "--", "sleep", "60"]);
        let seen = |program: &str, arguments: &[&str]| {
            let output = mesh.machine.command(program, arguments).output().unwrap();
            text(&output.stdout)
        };
        let links = || seen("ip", &["-o", "link"]).lines().count();
        let tables = || seen("nft", &["list", "tables"]);
        let processes = || {
            // The machine's first process buries nobody, so the dead (Z) stay listed.
            let all = seen("ps", &["-eo", "stat=,comm="]);
            let alive = all.lines().filter(|line| !line.starts_with('Z'));
            alive.filter(|line| line.ends_with(" tacit")).count()
        };
        mesh.machine.wait_for("a link", || links() > 1).unwrap();
        assert!(!tables().is_empty() && processes() > 2);

        let pid = seen("cat", &["/run/tacit/default/up.lock"]);
        seen("kill", &["-s", signal, pid.trim()]);
        let nothing = || links() == 1 && tables().is_empty() && processes() == 0;
        mesh.machine.wait_for(signal, nothing).unwrap_or_else(|_| {
            let (links, processes) = (seen("ip", &["-o", "link"]), processes());
            panic!("after {signal}: {links} {} {processes}", tables())
        });
        drop(workload);
        mesh.up_again();
    }
}

fn start(mut command: Command) -> Child {
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        // A group of its own, as a shell gives it.
        .process_group(0)
        .spawn()
        .unwrap()
}

fn send(signal: &str, child: &Child) {
    let whom = match signal {
        "INT" => format!("-{}", child.id()),
        _ => child.id().to_string(),
    };
    let sent = Command::new("kill")
        .args(["-s", signal, "--", &whom])
        .status();
    assert!(sent.unwrap().success());
}

fn sockets(installed: &Installed) -> Vec<String> {
    let entries = fs::read_dir(installed.runtime_dir()).unwrap().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.ends_with(".sock")).collect()
}

/// What a mesh could leave on this machine.
fn machine() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (what, program, arguments) in [
        ("namespace", "ip", ["netns", "list"]),
        ("link", "ip", ["-br", "link"]),
        ("table", "nft", ["list", "tables"]),
    ] {
        let output = Command::new(program).args(arguments).output().unwrap();
        for line in text(&output.stdout).lines() {
            // Further columns are states, which change by themselves.
            let name = match what {
                "link" => line.split_whitespace().next().unwrap_or_default(),
                _ => line,
            };
            found.insert(format!("{what} {name}"));
        }
    }
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let places = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    found.extend(places.map(|place| format!("mount {place}")));
    for directory in ["/run", "/tmp"] {
        for entry in fs::read_dir(directory).unwrap().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with("tacit") {
                found.insert(format!("{directory}/{name}"));
            }
        }
    }
    found
}

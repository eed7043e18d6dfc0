//! Faults of the environment: one clear message that names the remedy, and an exit code.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use tacit_lab::Machine;

use crate::installed::{Installed, User, not_root};
use crate::support::{Mesh, binary, text};

/// Name, what is done to the machine first, and what `tacit up` must say.
const FAULTS: [(&str, &str, &[&str]); 5] = [
    (
        "the port of the node API is taken",
        "listen 15012",
        &["port 15012 is in use", "`tacit down --mesh NAME`"],
    ),
    (
        "the port of the admin API is taken",
        "listen 15017",
        &["port 15017 is in use", "`tacit down --mesh NAME`"],
    ),
    (
        "the port of the metrics is taken",
        "listen 15020",
        &["127.0.0.1:15020", "stop it", "`tacit down --mesh NAME`"],
    ),
    (
        "nft is not installed",
        "for file in /usr/sbin/nft /sbin/nft /usr/bin/nft /bin/nft; do
             [ -f $file ] && mount --bind /dev/null $file; done",
        &["`nft` is not installed", "apt-get install nftables"],
    ),
    (
        "the disk of the state is full",
        "mount -t tmpfs -o size=64k full /var/lib; head -c 1M /dev/zero > /var/lib/x 2> /dev/null",
        &["no space is left for /var/lib/tacit", "free some space"],
    ),
];

/// A shell function: takes a port of the machine and waits until it is taken.
const LISTEN: &str = "
listen() {
    python3 -c 'import socket, sys, time
listener = socket.socket(); listener.bind((\"0.0.0.0\", int(sys.argv[1]))); listener.listen()
open(\"/run/listens\", \"w\"); time.sleep(100)' $1 > /dev/null 2>&1 &
    until [ -e /run/listens ]; do sleep 0.05; done
}
";

#[test]
fn up_says_what_is_wrong_and_what_to_do() {
    for (name, before, wanted) in FAULTS {
        let machine = Machine::start(binary()).unwrap();
        let tacit = binary().display();
        let script = format!("{LISTEN}\n{before}\nexec timeout 60 {tacit} up");
        let output = machine.command("sh", &["-c", &script]).output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{name}: {said}");
        for word in wanted {
            assert!(said.contains(word), "{name}: {word:?} is not in\n{said}");
        }
    }
    // The control run: without a fault the same machine brings a mesh up.
    drop(Mesh::up(&[]));
}

#[test]
fn the_tunnels_port_of_the_machine_is_free_for_others() {
    let hello = include_str!("../../../../examples/hello/hello.yaml");
    let mesh = Mesh::up(&[("hello.yaml", hello)]);
    let listen = ["-m", "http.server", "15008"];
    let listener = mesh.machine.command("python3", &listen);
    let _listener = mesh.machine.start_command(listener).unwrap();
    let server = ["--as", "shop/hello", "--port", "http:8080", "--"];
    let _server = mesh.start(&[&server[..], &["python3", "-m", "http.server", "8080"]].concat());
    mesh.wait_for_url("http://hello.shop/");
}

#[test]
fn a_directory_that_cannot_be_read_is_named() {
    let installed = Installed::for_user(not_root());
    let directory = installed.path().with_file_name("mesh");
    fs::create_dir(&directory).unwrap();
    let mode = |mode| fs::set_permissions(&directory, fs::Permissions::from_mode(mode)).unwrap();
    mode(0o000);
    let shown = directory.display().to_string();
    let up = installed.command(&["up", "-f", &shown]).output().unwrap();
    mode(0o755);
    let said = text(&up.stderr);
    assert_eq!(up.status.code(), Some(2), "{said}");
    for word in [&shown, "Permission denied", "this user may read it"] {
        assert!(said.contains(word), "{word:?} is not in\n{said}");
    }
}

#[test]
fn without_user_namespaces_it_says_which_setting_allows_them() {
    if !tacit_lab::is_root() {
        eprintln!("not shown: only root can make a namespace in which others may make none");
        return;
    }
    let installed = Installed::for_user(User::Own);
    let mut holder = Command::new("unshare")
        .args(["--user", "sleep", "100"])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let pid = holder.id().to_string();
    let own = fs::read_link("/proc/self/ns/user").unwrap();
    let made = || fs::read_link(format!("/proc/{pid}/ns/user")).is_ok_and(|found| found != own);
    tacit_lab::wait_for("a user namespace", made).unwrap();
    for map in ["uid_map", "gid_map"] {
        fs::write(format!("/proc/{pid}/{map}"), "0 0 65536\n").unwrap();
    }
    for arguments in ["up", "demo --once"] {
        let script = format!(
            "echo 0 > /proc/sys/user/max_user_namespaces && export HOME=/nowhere &&
             export XDG_RUNTIME_DIR={home} XDG_STATE_HOME={home} && chmod 777 {home} &&
             exec setpriv --reuid=65534 --regid=65534 --clear-groups {tacit} {arguments}",
            home = installed.home().display(),
            tacit = installed.path().display(),
        );
        let output = Command::new("nsenter")
            .args(["--user", "--target", &pid, "-S", "0", "-G", "0"])
            .args(["sh", "-c", &script])
            .output()
            .unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments}: {said}");
        assert!(
            said.contains("user.max_user_namespaces"),
            "{arguments}: {said}"
        );
    }
    holder.kill().unwrap();
    holder.wait().unwrap();
}

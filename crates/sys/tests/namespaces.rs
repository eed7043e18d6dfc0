//! Namespaces, links, nftables and started processes, tried for real.
#![expect(
    clippy::unwrap_used,
    clippy::unwrap_in_result,
    clippy::print_stdout,
    reason = "a test panics to fail, and a skip is said"
)]

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tacit_sys::link::{Batch, LinkName, Net, Via, exists, show};
use tacit_sys::lock::{Locked, try_lock};
use tacit_sys::nft::{self, HeldTable};
use tacit_sys::packet::PacketSocket;
use tacit_sys::signals::Signal;
use tacit_sys::spawn::{Bind, Capabilities, Directory, Group, Spawn, StdioFrom, User};
use tacit_sys::{NetNs, SysError, fdpass, sockopt, sysctl, userns};

/// Runs a test as root: here, or in this binary started again in namespaces of its own.
fn as_root(name: &str, test: fn()) {
    if userns::is_root() {
        return test();
    }
    let status = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "--mount"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status)
            if Command::new("unshare")
                .arg("-U")
                .arg("true")
                .status()
                .unwrap()
                .success() =>
        {
            panic!("{name} in a user namespace: {status}")
        }
        _ => println!("SKIPPED {name}: this machine gives no user namespaces"),
    }
}

fn name(text: &str) -> LinkName {
    LinkName::try_from(text).unwrap()
}

fn v4(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Two namespaces joined by a veth pair: 10.9.0.1 and 10.9.0.2.
fn pair() -> (NetNs, NetNs) {
    let (a, b) = (NetNs::create().unwrap(), NetNs::create().unwrap());
    let mut batch = Batch::new();
    batch
        .veth(&name("left"), &name("right"), Some(&b))
        .loopback_up()
        .address(&name("left"), Net::new(v4("10.9.0.1"), 24))
        .up(&name("left"));
    batch.run(Some(&a)).unwrap();
    let mut batch = Batch::new();
    batch
        .loopback_up()
        .address(&name("right"), Net::new(v4("10.9.0.2"), 24))
        .up(&name("right"))
        .route(
            Net::new(v4("0.0.0.0"), 0),
            &Via::Router {
                address: v4("10.9.0.1"),
                link: Some(name("right")),
            },
            None,
        );
    batch.run(Some(&b)).unwrap();
    (a, b)
}

fn listen(netns: &NetNs, address: &str) -> TcpListener {
    netns
        .enter_with(|| TcpListener::bind(address))
        .unwrap()
        .unwrap()
}

fn connect(netns: &NetNs, address: SocketAddr) -> std::io::Result<TcpStream> {
    let patience = Duration::from_secs(5);
    netns
        .enter_with(|| TcpStream::connect_timeout(&address, patience))
        .unwrap()
}

#[test]
fn sockets_live_where_they_were_made() {
    as_root("sockets_live_where_they_were_made", || {
        let here = fs::read_link("/proc/thread-self/ns/net").unwrap();
        let (a, b) = pair();
        let server = listen(&b, "10.9.0.2:80");
        connect(&a, "10.9.0.2:80".parse().unwrap()).unwrap();
        server.accept().unwrap();
        assert_eq!(fs::read_link("/proc/thread-self/ns/net").unwrap(), here);
        // Control run: from a namespace without the link there is no way.
        let alone = NetNs::create().unwrap();
        connect(&alone, "10.9.0.2:80".parse().unwrap()).unwrap_err();
    });
}

#[test]
fn a_panic_inside_still_returns_home() {
    as_root("a_panic_inside_still_returns_home", || {
        let here = fs::read_link("/proc/thread-self/ns/net").unwrap();
        let netns = NetNs::create().unwrap();
        let caught = std::panic::catch_unwind(|| netns.enter_with(|| panic!("inside")));
        assert!(caught.is_err());
        assert_eq!(fs::read_link("/proc/thread-self/ns/net").unwrap(), here);
    });
}

#[test]
fn a_failing_batch_names_its_line() {
    as_root("a_failing_batch_names_its_line", || {
        let netns = NetNs::create().unwrap();
        let mut batch = Batch::new();
        batch.loopback_up().up(&name("absent"));
        let error = batch.run(Some(&netns)).unwrap_err().to_string();
        assert!(error.contains("`ip link set dev absent up`"), "{error}");
        assert!(error.contains("Cannot find device"), "{error}");
        assert!(!exists(Some(&netns), &name("absent")).unwrap());
        assert!(exists(Some(&netns), &name("lo")).unwrap());
    });
}

#[test]
fn bridges_proxies_and_routes() {
    as_root("bridges_proxies_and_routes", || {
        let netns = NetNs::create().unwrap();
        let mut batch = Batch::new();
        batch
            .bridge(&name("br"))
            .veth(&name("p0"), &name("p1"), None)
            .enslave(&name("p0"), &name("br"))
            .up(&name("br"))
            .up(&name("p0"))
            .rename(&name("p1"), &name("eth0"))
            .up(&name("eth0"))
            .neighbour_proxy(v4("169.254.1.1"), &name("eth0"))
            .route(Net::host(v4("10.9.9.9")), &Via::Link(name("eth0")), None)
            .route(Net::new(v4("10.8.0.0"), 16), &Via::Unreachable, None);
        batch.run(Some(&netns)).unwrap();
        let routes = show(Some(&netns), &["route"]).unwrap();
        assert!(
            routes.contains("10.9.9.9") && routes.contains("unreachable"),
            "{routes}"
        );
        sysctl::set(Some(&netns), "ipv4.ip_forward", "1").unwrap();
        assert_eq!(sysctl::get(Some(&netns), "ipv4.ip_forward").unwrap(), "1");
    });
}

#[test]
fn captures_every_frame_of_a_link() {
    as_root("captures_every_frame_of_a_link", || {
        let (a, b) = pair();
        let capture = PacketSocket::open(&a, &name("left")).unwrap();
        let server = listen(&b, "10.9.0.2:80");
        let mut client = connect(&a, "10.9.0.2:80".parse().unwrap()).unwrap();
        server.accept().unwrap();
        client.write_all(b"in clear").unwrap();
        let mut buffer = [0; 2048];
        let mut found = false;
        while !found {
            let length = capture
                .receive(&mut buffer, Duration::from_secs(5))
                .unwrap();
            let frame = &buffer[..length.expect("the frame with the text")];
            found = frame.windows(8).any(|part| part == b"in clear");
        }
        let counted = capture.statistics().unwrap();
        assert!(counted.packets >= 4 && counted.lost == 0, "{counted:?}");
    });
}

#[test]
fn link_names() {
    for bad in ["", "sixteen-letters!", "a b", "a/b", "..", "a\nb"] {
        assert!(LinkName::try_from(bad).is_err(), "{bad:?}");
    }
    assert!(LinkName::try_from("fifteen-letters").is_ok());
}

const REDIRECT: &str = "table inet t {
  chain out {
    type nat hook output priority -100; policy accept;
    meta mark != 1337 tcp dport 80 redirect to :15001
  }
}
";

#[test]
fn redirected_connections_know_where_they_went() {
    as_root("redirected_connections_know_where_they_went", || {
        let (a, b) = pair();
        nft::load(Some(&a), REDIRECT).unwrap();
        let proxy = listen(&a, "127.0.0.1:15001");
        let real = listen(&b, "10.9.0.2:80");
        let target = SocketAddr::from((Ipv4Addr::new(10, 9, 0, 2), 80));

        let _client = connect(&a, target).unwrap();
        let (captured, _) = proxy.accept().unwrap();
        assert_eq!(
            sockopt::original_destination(&captured, false).unwrap(),
            target
        );

        // Control run: a marked socket passes by.
        let marked = a
            .enter_with(|| socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None))
            .unwrap()
            .unwrap();
        sockopt::set_mark(&marked, 1337).unwrap();
        marked
            .connect_timeout(&target.into(), Duration::from_secs(5))
            .unwrap();
        let (direct, _) = real.accept().unwrap();
        assert_eq!(direct.local_addr().unwrap(), target);
        let error = sockopt::original_destination(&direct, false).unwrap_err();
        assert!(error.to_string().contains("SO_ORIGINAL_DST"), "{error}");
    });
}

#[test]
fn a_ruleset_loads_whole_or_not_at_all() {
    as_root("a_ruleset_loads_whole_or_not_at_all", || {
        let netns = NetNs::create().unwrap();
        let broken = format!("{REDIRECT}add rule inet absent c accept\n");
        let error = nft::load(Some(&netns), &broken).unwrap_err();
        assert!(matches!(&error, SysError::Tool { stderr, .. } if stderr.contains("absent")));
        assert_eq!(nft::list(Some(&netns)).unwrap(), "");
        nft::load(Some(&netns), REDIRECT).unwrap();
        assert!(nft::list_json(Some(&netns)).unwrap().contains("15001"));
    });
}

#[test]
fn a_held_table_is_its_owners_and_goes_with_it() {
    as_root("a_held_table_is_its_owners_and_goes_with_it", || {
        let netns = NetNs::create().unwrap();
        let ruleset = "table inet held {\n  flags owner;\n  chain c {\n  }\n}\n";
        let mut held = HeldTable::load(Some(&netns), ruleset).unwrap();
        assert!(nft::list(Some(&netns)).unwrap().contains("table inet held"));
        nft::load(Some(&netns), "delete table inet held\n").unwrap_err();
        held.release().unwrap();
        assert_eq!(nft::list(Some(&netns)).unwrap(), "");
        HeldTable::load(Some(&netns), "table inet held { nonsense }").unwrap_err();
    });
}

/// Runs `script` in a shell started as `spawn` says, and returns what it printed.
fn shell(script: &str, change: impl FnOnce(&mut Spawn)) -> String {
    let (read, write) = nix::unistd::pipe().unwrap();
    let mut spawn = Spawn::new("/bin/sh").args(["-c", script]);
    spawn.env = vec![("PATH".into(), "/usr/sbin:/usr/bin:/sbin:/bin".into())];
    spawn.stdio = [
        StdioFrom::Null,
        StdioFrom::Descriptor(write),
        StdioFrom::Inherit,
    ];
    change(&mut spawn);
    let mut started = spawn.start().unwrap();
    let mut text = String::new();
    fs::File::from(read).read_to_string(&mut text).unwrap();
    assert!(started.wait().unwrap().success(), "{text}");
    text
}

#[test]
fn a_started_process_has_what_was_asked_and_no_more() {
    as_root("a_started_process_has_what_was_asked_and_no_more", || {
        let netns = NetNs::create().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let resolver = folder.path().join("resolv.conf");
        fs::write(&resolver, "nameserver 1.2.3.4\n").unwrap();
        let target = PathBuf::from("/etc/resolv.conf");
        let own = fs::read_to_string(&target).unwrap_or_default();
        let script = "cat /etc/resolv.conf; pwd; ls /proc/self/fd | wc -l; \
                      grep -E '^(CapBnd|CapEff|CapInh|NoNewPrivs)' /proc/self/status; \
                      readlink /proc/self/ns/net; echo $HOME.$FOO; ps -o sid= -p $$ | tr -d ' '";
        let at = folder.path().to_path_buf();
        let text = shell(script, move |s| {
            s.netns = Some(netns);
            s.binds = vec![Bind {
                source: resolver,
                target,
            }];
            s.directory = Directory::Path(at);
            s.env.push(("FOO".into(), "bar".into()));
            s.capabilities = Capabilities::DropAll;
            s.no_new_privileges = true;
            s.group = Group::Session;
        });
        assert!(text.starts_with("nameserver 1.2.3.4\n"), "{text}");
        assert!(text.contains(folder.path().to_str().unwrap()), "{text}");
        for line in [
            "CapInh:\t0000000000000000",
            "CapEff:\t0000000000000000",
            "CapBnd:\t0000000000000000",
            "NoNewPrivs:\t1",
            "\n.bar\n",
        ] {
            assert!(text.contains(line), "{line:?} in {text}");
        }
        let home = fs::read_link("/proc/thread-self/ns/net").unwrap();
        assert!(!text.contains(home.to_str().unwrap()), "{text}");
        // What it saw mounted is not mounted here.
        assert_eq!(
            fs::read_to_string("/etc/resolv.conf").unwrap_or_default(),
            own
        );
        // Control run: without the wishes it has none of them.
        let text = shell("grep -E '^(CapBnd|NoNewPrivs)' /proc/self/status", |_| {});
        assert!(!text.contains("CapBnd:\t0000000000000000"), "{text}");
        assert!(text.contains("NoNewPrivs:\t0"), "{text}");
    });
}

#[test]
fn becomes_another_user() {
    if !fs::read_to_string("/proc/self/uid_map")
        .unwrap()
        .contains("4294967295")
    {
        println!("SKIPPED becomes_another_user: a user namespace maps one user only");
        return;
    }
    if !userns::is_root() {
        println!("SKIPPED becomes_another_user: needs real root");
        return;
    }
    let text = shell("id -u; id -g; id -G", |s| {
        s.user = Some(User {
            uid: 4321,
            gid: 4322,
            groups: Some(vec![4323, 4324]),
        });
    });
    assert_eq!(text, "4321\n4322\n4322 4323 4324\n");
}

#[test]
fn a_failed_start_names_its_step() {
    as_root("a_failed_start_names_its_step", || {
        let mut spawn = Spawn::new("/bin/true");
        spawn.binds = vec![Bind {
            source: "/absent".into(),
            target: "/etc/resolv.conf".into(),
        }];
        let error = spawn.start().unwrap_err().to_string();
        assert!(
            error.starts_with("cannot start /bin/true: make its mounts: No such file"),
            "{error}"
        );
        let error = Spawn::new("/absent").start().unwrap_err().to_string();
        assert_eq!(
            error,
            "cannot start /absent: No such file or directory (os error 2)"
        );
    });
}

#[test]
fn a_started_process_outlives_the_thread_that_asked() {
    let started = std::thread::spawn(|| {
        let mut spawn = Spawn::new("/bin/sleep").args(["1000"]);
        spawn.die_with_parent = Some(Signal::SIGKILL);
        spawn.group = Group::Own;
        spawn.start().unwrap()
    });
    let mut started = started.join().unwrap();
    // Had the wish been bound to the thread above, the process would be dying of SIGKILL now.
    started.signal_group(Signal::SIGTERM).unwrap();
    assert_eq!(started.wait().unwrap().signal(), Some(15));
    started.signal(Signal::SIGTERM).unwrap();
}

#[test]
fn descriptors_cross_sockets() {
    let (a, b) = UnixStream::pair().unwrap();
    let (read, write) = nix::unistd::pipe().unwrap();
    assert_eq!(fdpass::send(&a, b"take", &[write.as_fd()]).unwrap(), 4);
    let mut buffer = [0; 16];
    let (count, mut received) = fdpass::receive(&b, &mut buffer).unwrap();
    assert_eq!((count, received.len()), (4, 1));
    let received: OwnedFd = received.remove(0);
    drop(write);
    fs::File::from(received).write_all(b"through").unwrap();
    let mut text = String::new();
    fs::File::from(read).read_to_string(&mut text).unwrap();
    assert_eq!(text, "through");
    let none = fdpass::send(&a, b"plain", &[]).and_then(|_| fdpass::receive(&b, &mut buffer));
    assert_eq!(none.unwrap().1.len(), 0);
    let seventeen = [a.as_fd(); 17];
    fdpass::send(&a, b"x", &seventeen).unwrap_err();
    drop(a);
    assert_eq!(fdpass::receive(&b, &mut buffer).unwrap().0, 0);
}

#[test]
fn peers_are_known() {
    let (a, _b) = UnixStream::pair().unwrap();
    let peer = fdpass::peer_credentials(&a).unwrap();
    assert_eq!(peer.pid, std::process::id());
    assert_eq!(peer.uid, nix::unistd::geteuid().as_raw());
    let mut own: Vec<u32> = nix::unistd::getgroups()
        .unwrap()
        .iter()
        .map(|g| g.as_raw())
        .collect();
    let mut seen = fdpass::peer_groups(&a).unwrap();
    own.sort_unstable();
    seen.sort_unstable();
    assert_eq!(seen, own);
}

#[test]
fn one_holder_of_a_lock() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lock");
    let first = try_lock(&path).unwrap();
    assert!(matches!(first, Locked::Held(_)));
    let second = try_lock(&path).unwrap();
    assert!(
        matches!(second, Locked::ByAnother { pid } if pid == Some(std::process::id())),
        "{second:?}"
    );
    drop(first);
    assert!(matches!(try_lock(&path).unwrap(), Locked::Held(_)));
}

//! Hosts of the demo: network namespaces joined by a bridge, whose links can be cut and whose
//! processes can be killed.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tacit_sys::NetNs;
use tacit_sys::link::{Batch, LinkName, Net};

use crate::process::{Job, told};

/// The hosts' zones, each with its region.
pub(crate) const ZONES: [(&str, &str); 4] = [
    ("us-east-1a", "us-east"),
    ("us-east-1b", "us-east"),
    ("eu-west-1a", "eu-west"),
    ("eu-west-1b", "eu-west"),
];
/// The host that runs the control plane.
pub(crate) const CONTROL: &str = "control";
/// The bridge that joins all hosts.
const BRIDGE: &str = "wire";
/// Where hosts get their addresses: 10.77.0.10 is the first.
const FIRST_ADDRESS: u8 = 10;

/// One host.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) name: &'static str,
    pub(crate) address: IpAddr,
    pub(crate) netns: NetNs,
    /// Its end at the bridge.
    link: LinkName,
    /// Its own files.
    pub(crate) dir: PathBuf,
    /// The binary that its commands named `tacit` mean.
    tacit: PathBuf,
}

/// All hosts and the bridge between them.
#[derive(Debug)]
pub(crate) struct Hosts {
    pub(crate) all: Vec<Host>,
    pub(crate) bridge: LinkName,
    /// Where the bridge is: the namespace of the demo itself.
    pub(crate) netns: NetNs,
}

impl Hosts {
    /// Makes the control host and one host for each zone.
    ///
    /// `dir`: an empty directory for their files. `tacit`: the binary.
    pub(crate) fn make(dir: &Path, tacit: &Path) -> io::Result<Self> {
        let bridge = name(BRIDGE)?;
        let mut batch = Batch::new();
        batch.bridge(&bridge).up(&bridge);
        let mut all = Vec::new();
        let names = [CONTROL].into_iter().chain(ZONES.map(|(zone, _)| zone));
        for (host, last) in names.zip(FIRST_ADDRESS..) {
            let netns = NetNs::create().map_err(told)?;
            let link = name(host)?;
            batch
                .veth(&link, &name("eth0")?, Some(&netns))
                .enslave(&link, &bridge)
                .up(&link);
            let own = dir.join(host);
            fs::create_dir_all(own.join("run"))?;
            fs::create_dir_all(own.join("state"))?;
            let address = Ipv4Addr::new(10, 77, 0, last).into();
            all.push(Host {
                name: host,
                address,
                netns,
                link,
                dir: own,
                tacit: tacit.into(),
            });
        }
        batch.run(None).map_err(told)?;
        for host in &all {
            let eth0 = name("eth0")?;
            let mut batch = Batch::new();
            batch
                .loopback_up()
                .address(&eth0, Net::new(host.address, 24))
                .up(&eth0);
            batch.run(Some(&host.netns)).map_err(told)?;
        }
        let netns = NetNs::current().map_err(told)?;
        Ok(Self { all, bridge, netns })
    }

    pub(crate) fn get(&self, name: &str) -> io::Result<&Host> {
        self.all
            .iter()
            .find(|host| host.name == name)
            .ok_or_else(|| {
                let known: Vec<&str> = self.all.iter().map(|host| host.name).collect();
                io::Error::other(format!("no host {name:?}; there are {}", known.join(", ")))
            })
    }

    pub(crate) fn control(&self) -> io::Result<&Host> {
        self.get(CONTROL)
    }

    /// Cuts a host off, without a word to anybody: frames to and from it vanish.
    pub(crate) fn cut(&self, host: &Host) -> io::Result<()> {
        Batch::new().down(&host.link).run(None).map_err(told)
    }

    /// Joins a host that was cut off.
    pub(crate) fn mend(&self, host: &Host) -> io::Result<()> {
        Batch::new().up(&host.link).run(None).map_err(told)
    }
}

impl Host {
    /// A command on this host. `tacit` is the binary under test; other names are looked up.
    pub(crate) fn job(&self, program: &str, args: &[&str]) -> Job {
        let tacit = program == "tacit";
        Job {
            program: if tacit {
                self.tacit.clone().into_os_string()
            } else {
                program.into()
            },
            args: args.iter().map(|&arg| arg.to_owned()).collect(),
            env: self.env(),
            netns: self.netns.clone(),
            binds: Vec::new(),
        }
    }

    /// The environment of commands on this host: its own directories instead of the machine's.
    fn env(&self) -> Vec<(OsString, OsString)> {
        let at = self
            .tacit
            .parent()
            .unwrap_or_else(|| Path::new("/"))
            .display()
            .to_string();
        let path = format!("{at}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        vec![
            ("PATH".into(), path.into()),
            ("HOME".into(), self.dir.clone().into()),
            ("TACIT_RUNTIME_DIR".into(), self.dir.join("run").into()),
            ("TACIT_STATE_DIR".into(), self.dir.join("state").into()),
        ]
    }
}

/// The children of a process whose command line contains `word`.
pub(crate) fn children_with(parent: u32, word: &str) -> io::Result<Vec<u32>> {
    let mut children = children_by_parent()?.remove(&parent).unwrap_or_default();
    children.retain(|pid| {
        // It may have ended since it was listed.
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0)
            .any(|part| part == word.as_bytes())
    });
    Ok(children)
}

/// Kills one process, and nothing that it started.
pub(crate) fn kill_one(pid: u32) -> io::Result<()> {
    let pid = i32::try_from(pid).map_err(io::Error::other)?;
    kill(Pid::from_raw(pid), Signal::SIGKILL).map_err(Into::into)
}

/// Kills processes with all their descendants, in the order of `roots` and each parent before its
/// children, so that nobody is left to start anything again. Returns how many there were.
pub(crate) fn kill_trees(roots: &[u32]) -> io::Result<usize> {
    let children = children_by_parent()?;
    let mut doomed = Vec::new();
    for root in roots {
        let mut next = doomed.len();
        doomed.push(*root);
        while let Some(parent) = doomed.get(next) {
            doomed.extend(children.get(parent).into_iter().flatten());
            next += 1;
        }
    }
    for pid in &doomed {
        let pid = i32::try_from(*pid).map_err(io::Error::other)?;
        match kill(Pid::from_raw(pid), Signal::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(doomed.len())
}

fn children_by_parent() -> io::Result<BTreeMap<u32, Vec<u32>>> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc")? {
        let Ok(pid) = entry?.file_name().to_string_lossy().parse::<u32>() else {
            continue;
        };
        // It may have ended since it was listed.
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
            continue;
        };
        // The name in parentheses may contain anything; the parent is the second word after it.
        let parent = stat
            .rsplit_once(')')
            .and_then(|(_, rest)| rest.split_whitespace().nth(1));
        if let Some(parent) = parent.and_then(|parent| parent.parse().ok()) {
            children.entry(parent).or_default().push(pid);
        }
    }
    Ok(children)
}

fn name(text: &str) -> io::Result<LinkName> {
    LinkName::try_from(text).map_err(told)
}

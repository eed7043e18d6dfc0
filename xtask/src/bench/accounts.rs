//! CPU time per group of processes, from control groups of either version.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::job;

/// How long killed processes may take to be gone.
const GONE_PATIENCE: Duration = Duration::from_secs(5);

/// Which files a control group has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    /// `cpuacct.usage`, nanoseconds.
    One,
    /// `cpu.stat` with `usage_usec`.
    Two,
}

/// The groups of one sample. They must be removed with [`Accounts::close`].
pub(crate) struct Accounts {
    dir: PathBuf,
    pub(crate) client_proxy: Account,
    pub(crate) server_proxy: Account,
    /// What a mesh runs beside its proxies.
    pub(crate) control: Account,
    pub(crate) application: Account,
    pub(crate) load: Account,
}

/// One group: the CPU time of its processes and of all that they start.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    dir: PathBuf,
    version: Version,
}

impl Accounts {
    pub(crate) fn open() -> Result<Self, String> {
        let mounts = fs::read_to_string("/proc/self/mounts").map_err(|e| e.to_string())?;
        let (root, version) = hierarchy(&mounts)
            .ok_or("no control groups with CPU time: neither cpuacct nor cgroup2 is mounted")?;
        let dir = root.join(format!("tacit-bench-{}", std::process::id()));
        let account = |name: &str| {
            let dir = dir.join(name);
            fs::create_dir_all(&dir).map_err(|e| format!("make {}: {e}", dir.display()))?;
            Ok::<_, String>(Account { dir, version })
        };
        Ok(Self {
            client_proxy: account("client-proxy")?,
            server_proxy: account("server-proxy")?,
            control: account("control")?,
            application: account("application")?,
            load: account("load")?,
            dir,
        })
    }

    fn all(&self) -> [&Account; 5] {
        [
            &self.client_proxy,
            &self.server_proxy,
            &self.control,
            &self.application,
            &self.load,
        ]
    }

    /// The CPU time of all groups.
    pub(crate) fn total(&self) -> Result<Duration, String> {
        self.all().into_iter().map(Account::cpu).sum()
    }

    /// Kills every process in the groups and removes them.
    pub(crate) fn close(self) -> Result<(), String> {
        let until = Instant::now() + GONE_PATIENCE;
        for account in self.all() {
            loop {
                for pid in account.processes()? {
                    job::kill(pid)?;
                }
                match fs::remove_dir(&account.dir) {
                    Ok(()) => break,
                    Err(e) if Instant::now() > until => {
                        return Err(format!("remove {}: {e}", account.dir.display()));
                    }
                    Err(_) => sleep(Duration::from_millis(5)),
                }
            }
        }
        fs::remove_dir(&self.dir).map_err(|e| format!("remove {}: {e}", self.dir.display()))
    }
}

impl Account {
    /// The file into which a process writes its id to belong here.
    pub(crate) fn door(&self) -> PathBuf {
        self.dir.join("cgroup.procs")
    }

    pub(crate) fn processes(&self) -> Result<Vec<u32>, String> {
        let text = read(&self.door())?;
        text.lines()
            .map(|line| line.parse().map_err(|e| format!("{line:?}: {e}")))
            .collect()
    }

    /// The CPU time so far.
    pub(crate) fn cpu(&self) -> Result<Duration, String> {
        match self.version {
            Version::One => {
                let text = read(&self.dir.join("cpuacct.usage"))?;
                let nanoseconds = text.trim().parse().map_err(|e| format!("{text:?}: {e}"))?;
                Ok(Duration::from_nanos(nanoseconds))
            }
            Version::Two => usage(&read(&self.dir.join("cpu.stat"))?),
        }
    }
}

fn usage(stat: &str) -> Result<Duration, String> {
    stat.lines()
        .find_map(|line| line.strip_prefix("usage_usec "))
        .and_then(|number| number.trim().parse().ok())
        .map(Duration::from_micros)
        .ok_or_else(|| format!("no usage_usec in cpu.stat: {stat:?}"))
}

/// Where the hierarchy that counts CPU time is: version 1 if it has `cpuacct`, else version 2.
fn hierarchy(mounts: &str) -> Option<(PathBuf, Version)> {
    let mut second = None;
    for line in mounts.lines() {
        let mut words = line.split(' ').skip(1);
        let (Some(place), Some(kind), Some(options)) = (words.next(), words.next(), words.next())
        else {
            continue;
        };
        match kind {
            "cgroup" if options.split(',').any(|option| option == "cpuacct") => {
                return Some((place.into(), Version::One));
            }
            "cgroup2" => second = Some((place.into(), Version::Two)),
            _ => {}
        }
    }
    second
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_hierarchy_that_counts() {
        let second = "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n";
        assert_eq!(
            hierarchy(second),
            Some(("/sys/fs/cgroup".into(), Version::Two))
        );
        let both = format!("{second}cgroup /sys/fs/cgroup/cpu cgroup rw,cpu,cpuacct 0 0\n");
        assert_eq!(
            hierarchy(&both),
            Some(("/sys/fs/cgroup/cpu".into(), Version::One))
        );
        assert_eq!(hierarchy("proc /proc proc rw 0 0\n"), None);
    }

    #[test]
    fn reads_version_two() {
        let stat = "usage_usec 1500\nuser_usec 1000\nsystem_usec 500\n";
        assert_eq!(usage(stat), Ok(Duration::from_micros(1500)));
        assert!(usage("nr_periods 0\n").is_err());
    }
}

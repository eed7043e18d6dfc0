//! One sample: a contender started from nothing, loaded, measured and killed.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tacit_sys::NetNs;
use tacit_sys::packet::PacketSocket;

use super::accounts::{Account, Accounts};
use super::contender::Contender;
use super::hosts::Hosts;
use super::job::{self, Cpu, Job, Running};
use super::load::{self, Done};
use super::machine::Ticks;
use super::rows::{Series, Work};
use super::{cipher, envoy, haproxy, tacit, ztunnel};

/// How long a contender may take until the first request succeeds.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// What a load may take longer than its time.
const LOAD_PATIENCE: Duration = Duration::from_secs(20);
/// The load before the one that counts: sessions are opened, buffers and caches filled.
const WARM_UP_SECONDS: u32 = 1;

/// What to take a sample of.
pub(crate) struct Order<'a> {
    pub(crate) series: Series,
    pub(crate) contender: Contender,
    pub(crate) program: &'a Path,
    pub(crate) seconds: u32,
    /// The directory of the whole run.
    pub(crate) work: &'a Path,
}

/// Where a contender is started.
pub(crate) struct Stage<'a> {
    pub(crate) order: &'a Order<'a>,
    pub(crate) hosts: Hosts,
    pub(crate) accounts: Accounts,
    /// An empty directory.
    pub(crate) dir: PathBuf,
}

/// A contender that runs, with its applications.
pub(crate) struct Mesh {
    pub(crate) client: Client,
    /// What wrk asks for.
    pub(crate) url: String,
    /// The host and port of iperf3, as the client calls them.
    pub(crate) bulk: (String, u16),
    pub(crate) jobs: Vec<Running>,
}

/// Where the load generators run.
pub(crate) enum Client {
    Namespace(NetNs),
    /// In the network and mount namespaces of a process.
    Workload(u32),
}

/// What a sample came to.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) measured: Vec<Measured>,
    /// The TLS cipher suite between the proxies, as read on the wire.
    pub(crate) cipher: Option<u16>,
}

/// One load of a sample.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    pub(crate) work: Work,
    pub(crate) done: Done,
    /// CPU time of both proxies.
    pub(crate) proxies: Duration,
    /// CPU time of what a mesh runs beside them.
    pub(crate) control: Duration,
    /// CPU time of the whole machine, load generators and applications included.
    pub(crate) machine: Duration,
    /// The share of the machine's CPUs that processes outside of the benchmark used.
    pub(crate) foreign: f64,
    pub(crate) elapsed: Duration,
}

impl Measured {
    /// Nanoseconds of both proxies' CPU per byte or request.
    pub(crate) fn cost(&self) -> f64 {
        self.proxies.as_nanos() as f64 / self.done.amount
    }
}

/// Takes a sample.
pub(crate) fn take(order: &Order<'_>) -> Result<Sample, String> {
    let dir = order.work.join(order.contender.name());
    let told = |e: std::io::Error| format!("{}: {e}", dir.display());
    if dir.exists() {
        fs::remove_dir_all(&dir).map_err(told)?;
    }
    fs::create_dir_all(&dir).map_err(told)?;
    let stage = Stage {
        order,
        hosts: Hosts::make()?,
        accounts: Accounts::open()?,
        dir,
    };
    let taken = stage.take();
    let closed = stage.accounts.close();
    let logs = stage.dir.display();
    let sample = taken.map_err(|e| format!("{}: {e}\n(logs: {logs})", order.contender.name()))?;
    closed.map(|()| sample)
}

impl Stage<'_> {
    fn take(&self) -> Result<Sample, String> {
        let wire = PacketSocket::open(&self.hosts.a, &self.hosts.wire);
        let wire = wire.map_err(|e| e.to_string())?;
        let mut mesh = match self.order.contender {
            Contender::Tacit => tacit::start(self),
            Contender::Ztunnel => ztunnel::start(self),
            Contender::Envoy => envoy::start(self),
            Contender::Haproxy => haproxy::start(self),
        }?;
        self.wait_until_ready(&mut mesh)?;
        let cipher = cipher::read(&wire)?;
        // An open capture costs CPU for every packet.
        drop(wire);
        let mut measured = Vec::new();
        for &work in self.order.series.work() {
            self.load(&mesh, work, WARM_UP_SECONDS)?;
            measured.push(self.measure(&mesh, work)?);
        }
        // All first: the end of one may well be the end of another.
        mesh.jobs.iter_mut().try_for_each(Running::check)?;
        mesh.jobs.iter_mut().try_for_each(Running::kill)?;
        Ok(Sample { measured, cipher })
    }

    /// Asks until an answer comes, which also opens the session between the proxies.
    fn wait_until_ready(&self, mesh: &mut Mesh) -> Result<(), String> {
        let ask = ["curl", "--silent", "--fail", "--max-time", "2", &mesh.url].map(str::to_owned);
        let mut last = String::new();
        let waited = job::wait("the first answer", START_PATIENCE, || {
            mesh.jobs.iter_mut().try_for_each(Running::check)?;
            let answer = self.run_at_client(mesh, "curl", ask.clone().into(), LOAD_PATIENCE);
            last = answer.as_ref().err().cloned().unwrap_or_default();
            Ok(answer.is_ok_and(|text| text == "hello world\n"))
        });
        waited.map_err(|e| {
            let said: Vec<String> = mesh.jobs.iter().map(Running::said).collect();
            format!("{e}: {last}\n{}", said.join("\n"))
        })
    }

    fn measure(&self, mesh: &Mesh, work: Work) -> Result<Measured, String> {
        let accounts = &self.accounts;
        let proxies =
            || Ok::<_, String>(accounts.client_proxy.cpu()? + accounts.server_proxy.cpu()?);
        let ticks = Ticks::now()?;
        let (started, own) = (Instant::now(), accounts.total()?);
        let (proxies_before, control_before) = (proxies()?, accounts.control.cpu()?);
        let done = self.load(mesh, work, self.order.seconds)?;
        let (proxies_after, control_after) = (proxies()?, accounts.control.cpu()?);
        let (elapsed, own) = (started.elapsed(), accounts.total()?.saturating_sub(own));
        let machine = Ticks::now()?.busy_since(ticks);
        let cpus = std::thread::available_parallelism()
            .map_err(|e| e.to_string())?
            .get();
        let foreign = machine.saturating_sub(own).as_secs_f64();
        Ok(Measured {
            work,
            done,
            proxies: proxies_after.saturating_sub(proxies_before),
            control: control_after.saturating_sub(control_before),
            machine,
            foreign: foreign / (elapsed.as_secs_f64() * cpus as f64),
            elapsed,
        })
    }

    fn load(&self, mesh: &Mesh, work: Work, seconds: u32) -> Result<Done, String> {
        let patience = Duration::from_secs(seconds.into()) + LOAD_PATIENCE;
        match work {
            Work::Bulk => {
                let (host, port) = &mesh.bulk;
                let command = load::iperf3(host, *port, seconds);
                load::read_iperf3(&self.run_at_client(mesh, "iperf3", command, patience)?)
            }
            Work::Requests => {
                let command = load::wrk(&mesh.url, seconds);
                load::read_wrk(&self.run_at_client(mesh, "wrk", command, patience)?)
            }
        }
    }

    fn run_at_client(
        &self,
        mesh: &Mesh,
        name: &str,
        command: Vec<String>,
        patience: Duration,
    ) -> Result<String, String> {
        let (netns, command) = match &mesh.client {
            Client::Namespace(netns) => (netns, command),
            Client::Workload(pid) => {
                let enter = [
                    "nsenter",
                    "--net",
                    "--mount",
                    "--target",
                    &pid.to_string(),
                    "--",
                ];
                let enter = enter.map(str::to_owned).into_iter();
                (&self.hosts.a, enter.chain(command).collect())
            }
        };
        let job = Job {
            cpu: Cpu::Ends,
            ..self.job(name, command, netns, &self.accounts.load)
        };
        job.finish(patience)
    }

    /// A job of a proxy, with the environment of the series.
    pub(crate) fn job<'b>(
        &'b self,
        name: &str,
        command: Vec<String>,
        netns: &'b NetNs,
        account: &'b Account,
    ) -> Job<'b> {
        let own = self.order.series.environment();
        let environment = own
            .map(|(key, value)| (key.to_owned(), OsString::from(value)))
            .into_iter()
            .collect();
        let (cpu, dir) = (Cpu::Proxies, self.dir.as_path());
        Job {
            name: name.to_owned(),
            command,
            environment,
            netns,
            account,
            cpu,
            dir,
        }
    }

    /// Writes a configuration file and returns its path.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<String, String> {
        let path = self.dir.join(name);
        fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(path.display().to_string())
    }

    /// Starts an application that is not a workload of Tacit.
    pub(crate) fn start_application(
        &self,
        name: &str,
        command: Vec<String>,
        netns: &NetNs,
    ) -> Result<Running, String> {
        let job = self.job(name, command, netns, &self.accounts.application);
        Job {
            cpu: Cpu::Ends,
            environment: Vec::new(),
            ..job
        }
        .start()
    }
}

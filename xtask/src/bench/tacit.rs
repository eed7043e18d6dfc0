//! Tacit as its users run it: a control plane, two nodes that join it, and programs as workloads.

use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tacit_sys::NetNs;

use super::accounts::Account;
use super::application;
use super::hosts::{HOST_A, HOST_B, use_cubic};
use super::job::{self, Cpu, Job, Running, placed};
use super::rows::Series;
use super::sample::{Client, Mesh, Stage};

/// How long a role may take to answer, and a workload to start.
const PATIENCE: Duration = Duration::from_secs(20);
/// The port of the bulk service.
const BULK_SERVICE_PORT: u16 = 81;

const MESH: &str = "\
apiVersion: tacit.dev/v1alpha1
kind: Mesh
metadata: {name: default}
spec: {trustDomain: bench.example, cluster: bench, rootNamespace: tacit-system}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: bench}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: opaque, namespace: bench}
spec: {selector: {app: opaque}, ports: [{name: tcp, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: bulk, namespace: bench}
spec: {selector: {app: bulk}, ports: [{name: tcp, port: 81, targetPort: 5201}]}
---
apiVersion: tacit.dev/v1alpha1
kind: RetryTimeoutPolicy
metadata: {name: web, namespace: bench}
spec:
  targetRefs: [{group: '', kind: Service, name: web}]
  timeout: {request: 2s, perTry: 600ms, connect: 1s}
  retry: {attempts: 2, on: [ConnectFailure, RefusedStream, ServerError, Reset]}
";

/// One `tacit up` of a sample.
struct Up<'a> {
    stage: &'a Stage<'a>,
    netns: &'a NetNs,
    account: &'a Account,
    /// Its runtime and state directories are in here.
    dir: PathBuf,
    name: &'static str,
}

pub(crate) fn start(stage: &Stage<'_>) -> Result<Mesh, String> {
    let (hosts, accounts) = (&stage.hosts, &stage.accounts);
    let up = |name, netns, account| Up {
        stage,
        netns,
        account,
        dir: stage.dir.join(name),
        name,
    };
    let control = up("control", &hosts.a, &accounts.control);
    let client = up("client", &hosts.a, &accounts.client_proxy);
    let server = up("server", &hosts.b, &accounts.server_proxy);
    let files = stage.dir.join("mesh");
    std::fs::create_dir_all(&files).map_err(|e| format!("{}: {e}", files.display()))?;
    stage.write("mesh/mesh.yaml", MESH)?;
    let (files, address) = (files.display().to_string(), HOST_A.to_string());
    let args = ["up", "--control-only", "-f", &files, "--address", &address];
    let mut jobs = vec![control.tacit("up", &args).start()?];
    answers(&mut jobs, &control.socket("control.sock"))?;
    for (node, address) in [(&client, HOST_A), (&server, HOST_B)] {
        jobs.push(join(&control, node, address)?);
    }
    answers(&mut jobs, &client.socket("node.sock"))?;
    answers(&mut jobs, &server.socket("node.sock"))?;
    let applications = start_applications(&server)?;
    let count = applications.len();
    jobs.extend(applications);
    let sleeper = ["sleep", "1000000"].map(str::to_owned).into();
    jobs.push(client.run("client", None, sleeper, &accounts.load)?);
    let inside = wait_for_processes(&mut jobs, &accounts.load, 1)?;
    let outside = wait_for_processes(&mut jobs, &accounts.application, count)?;
    for pid in inside.iter().chain(&outside) {
        use_cubic(&NetNs::of_process(*pid).map_err(|e| e.to_string())?)?;
    }
    use_cubic(&hosts.a)?;
    use_cubic(&hosts.b)?;
    let wait = [
        "wait",
        "--for",
        "Programmed",
        "retrytimeoutpolicy",
        "bench/web",
    ];
    control.tacit("wait", &wait).finish(PATIENCE * 2)?;
    let service = match stage.order.series {
        Series::L4 | Series::L4PlainCopy => "opaque",
        Series::L7 => "web",
    };
    let client = inside.first().copied().ok_or("the client did not start")?;
    Ok(Mesh {
        client: Client::Workload(client),
        url: format!("http://{service}.bench/"),
        bulk: ("bulk.bench".to_owned(), BULK_SERVICE_PORT),
        jobs,
    })
}

/// Starts a node that joins the mesh of `control`.
fn join(control: &Up<'_>, node: &Up<'_>, address: Ipv4Addr) -> Result<Running, String> {
    let token = control
        .tacit("token", &["token", "--node", node.name])
        .finish(PATIENCE)?;
    let (address, token) = (address.to_string(), token.trim());
    let place = [
        "--node",
        node.name,
        "--zone",
        "bench",
        "--address",
        &address,
    ];
    let cipher = cipher_of(node.stage.order.series);
    let tuning = ["--workers", "1", "--access-log", "off", "--cipher", cipher];
    let args = [&["up"][..], &place, &tuning, &["--join", token]].concat();
    node.tacit("up", &args).start()
}

/// What the rival of the series agrees on with its own kind.
fn cipher_of(series: Series) -> &'static str {
    match series {
        Series::L4 | Series::L4PlainCopy => "aes-256-gcm",
        Series::L7 => "aes-128-gcm",
    }
}

/// L4 is measured on ports that are declared as bytes, L7 on one that is declared as HTTP.
fn start_applications(server: &Up<'_>) -> Result<Vec<Running>, String> {
    let stage = server.stage;
    let nginx = application::nginx(&stage.dir)?;
    let account = &stage.accounts.application;
    Ok(match stage.order.series {
        Series::L4 | Series::L4PlainCopy => vec![
            server.run("opaque", Some("tcp:8080"), nginx, account)?,
            server.run("bulk", Some("tcp:5201"), application::iperf3(), account)?,
        ],
        Series::L7 => vec![server.run("web", Some("http:8080"), nginx, account)?],
    })
}

impl Up<'_> {
    /// A `tacit` command on this host.
    fn tacit(&self, what: &str, args: &[&str]) -> Job<'_> {
        let program = self.stage.order.program.display().to_string();
        let args = args.iter().map(|&arg| arg.to_owned());
        let command = std::iter::once(program).chain(args).collect();
        let name = format!("{}-{what}", self.name);
        let mut job = self.stage.job(&name, command, self.netns, self.account);
        let place = |what: &str| self.dir.join(what).into_os_string();
        job.environment
            .push(("TACIT_RUNTIME_DIR".to_owned(), place("run")));
        job.environment
            .push(("TACIT_STATE_DIR".to_owned(), place("state")));
        job
    }

    /// Runs a program as a workload; it enters `account` and the ends' CPU by itself.
    fn run(
        &self,
        service_account: &str,
        port: Option<&str>,
        command: Vec<String>,
        account: &Account,
    ) -> Result<Running, String> {
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        let command = placed(account, Cpu::Ends, &words);
        let identity = format!("bench/{service_account}");
        let mut args = vec!["run", "--as", &identity, "--name", service_account];
        args.extend(port.into_iter().flat_map(|port| ["--port", port]));
        args.push("--");
        args.extend(command.iter().map(String::as_str));
        self.tacit(service_account, &args).start()
    }

    fn socket(&self, name: &str) -> PathBuf {
        self.dir.join("run").join(name)
    }
}

/// Waits until a socket takes connections.
fn answers(jobs: &mut [Running], socket: &Path) -> Result<(), String> {
    job::wait(&socket.display().to_string(), PATIENCE, || {
        jobs.iter_mut().try_for_each(Running::check)?;
        Ok(UnixStream::connect(socket).is_ok())
    })
}

/// Waits until `count` workloads run in an account; their process ids.
fn wait_for_processes(
    jobs: &mut [Running],
    account: &Account,
    count: usize,
) -> Result<Vec<u32>, String> {
    let mut found = Vec::new();
    job::wait("the workloads", PATIENCE, || {
        jobs.iter_mut().try_for_each(Running::check)?;
        found = account.processes()?;
        Ok(found.len() == count)
    })?;
    Ok(found)
}

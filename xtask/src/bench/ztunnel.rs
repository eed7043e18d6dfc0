//! A pair of stock ztunnels: one in each pod, configured by a file, with its own test authority.

use super::application;
use super::cipher::SERVER_PORT;
use super::hosts::{CLIENT, SERVER, use_cubic};
use super::sample::{Client, Mesh, Stage};

/// The address of the service.
const SERVICE: &str = "10.98.0.1";
/// Its port that leads to iperf3.
const BULK_SERVICE_PORT: u16 = 81;

/// The mark of ztunnel's own sockets is 1337.
const CLIENT_CAPTURE: &str = "table inet capture {
  chain output { type nat hook output priority -100;
    meta mark 1337 accept; ip daddr 127.0.0.0/8 accept; meta l4proto tcp redirect to :15001; }
}
";

pub(crate) fn start(stage: &Stage<'_>) -> Result<Mesh, String> {
    let pods = stage.hosts.pods()?;
    let load = |netns, rules: &str| tacit_sys::nft::load(Some(netns), rules);
    load(&pods.client, CLIENT_CAPTURE).map_err(|e| e.to_string())?;
    load(&pods.server, &server_capture()).map_err(|e| e.to_string())?;
    for netns in [&pods.client, &pods.server, &stage.hosts.a, &stage.hosts.b] {
        use_cubic(netns)?;
    }
    let state = stage.write("state.yaml", &state())?;
    let program = stage.order.program.display().to_string();
    let mut jobs = vec![
        stage.start_application("nginx", application::nginx(&stage.dir)?, &pods.server)?,
        stage.start_application("iperf3-server", application::iperf3(), &pods.server)?,
    ];
    let sides = [
        ("client", &pods.client, &stage.accounts.client_proxy),
        ("server", &pods.server, &stage.accounts.server_proxy),
    ];
    for (name, netns, account) in sides {
        let log = format!("ztunnel-{name}");
        let mut job = stage.job(&log, vec![program.clone()], netns, account);
        let settings = [
            ("PROXY_MODE", "dedicated"),
            ("PROXY_WORKLOAD_INFO", &format!("default/{name}/{name}")),
            ("NODE_NAME", "node"),
            ("XDS_ADDRESS", ""),
            ("LOCAL_XDS_PATH", &state),
            ("FAKE_CA", "true"),
            ("ENABLE_ORIG_SRC", "false"),
            ("PACKET_MARK", "1337"),
            ("ZTUNNEL_WORKER_THREADS", "1"),
            ("RUST_LOG", "error"),
        ];
        job.environment
            .extend(settings.map(|(key, value)| (key.to_owned(), value.into())));
        jobs.push(job.start()?);
    }
    Ok(Mesh {
        client: Client::Namespace(pods.client),
        url: format!("http://{SERVICE}/"),
        bulk: (SERVICE.to_owned(), BULK_SERVICE_PORT),
        jobs,
    })
}

fn server_capture() -> String {
    format!(
        "table inet capture {{
  chain prerouting {{ type nat hook prerouting priority -100;
    tcp dport {SERVER_PORT} accept; meta l4proto tcp ip saddr {CLIENT} redirect to :15006; }}
}}
"
    )
}

fn state() -> String {
    let (http, bulk) = (application::HTTP_PORT, application::BULK_PORT);
    let name = "default/echo.default.svc.cluster.local";
    let ports = format!("{{80: {http}, {BULK_SERVICE_PORT}: {bulk}}}");
    let workload = |who: &str, address, services: &str| {
        format!(
            "- {{uid: c//Pod/default/{who}, name: {who}, namespace: default, \
             serviceAccount: {who}, trustDomain: cluster.local, workloadIps: [{address}], \
             protocol: HBONE, node: node, services: {services}}}\n"
        )
    };
    let client = workload("client", CLIENT, "{}");
    let server = workload("server", SERVER, &format!("{{{name:?}: {ports}}}"));
    format!(
        "workloads:\n{client}{server}services:\n- {{name: echo, namespace: default, \
         hostname: echo.default.svc.cluster.local, vips: [\"/{SERVICE}\"], ports: {ports}, \
         canonical: true}}\npolicies: []\n"
    )
}

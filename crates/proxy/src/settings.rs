//! What a node proxy is told when it starts.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use tacit_model::{Name, NodeName};
use tacit_transport::identity::Cipher;

/// Where the access log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLog {
    /// Appended to this file.
    File(PathBuf),
    /// Nowhere.
    Off,
    /// Standard output.
    Stdout,
}

/// Everything that a node proxy is told. Made once, by the command line.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which mesh of this machine; names the host's nftables table `tacit-MESH`.
    pub mesh: Name,
    /// The node's name, unique in the mesh.
    pub node: NodeName,
    /// The zone in which this machine is; empty if not known.
    pub zone: String,
    /// The region; empty: control finds it by the zone.
    pub region: String,
    /// `tacit1.` and the rest; needed only until the node has joined.
    pub join_token: Option<String>,
    /// Addresses of this machine as other nodes reach it. Empty: found by asking the kernel
    /// which address it would use towards the control plane.
    pub host_addresses: Vec<IpAddr>,
    /// The user who may start any workload: who started `up`.
    pub administrator: u32,
    /// Worker threads, 1-64.
    pub workers: usize,
    /// What sessions to other nodes are encrypted with, if the other node follows.
    pub cipher: Cipher,
    /// Where the access log goes.
    pub access_log: AccessLog,
    /// Where each decision is logged, to be made again by `replay`; absent: nowhere.
    pub decision_log: Option<PathBuf>,
    /// Keys, certificates and the last generation, mode 0700; made if absent.
    pub state_dir: PathBuf,
    /// Where `tacit run` asks. Its directory exists; a stale socket is replaced.
    pub run_socket: PathBuf,
    /// Where `tacit status` asks when the control plane does not answer; as `run_socket`.
    pub status_socket: PathBuf,
    /// Prometheus metrics and `/status`; port 0 lets the kernel choose. Use loopback.
    pub metrics: SocketAddr,
    /// The environment of declared workloads; programs of `tacit run` bring their own.
    pub environment: Vec<(OsString, OsString)>,
    /// The machine's resolver configuration, read for names that are not in the mesh.
    pub resolv_conf: PathBuf,
}

/// Workers are threads with their own pools; more than this only splits sessions further.
pub const MAX_WORKERS: usize = 64;

/// Where the metrics of a machine's only node are served.
pub const METRICS: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 15020);

/// One worker for each two cores, at most 8: the applications need the others.
#[must_use]
pub fn default_workers() -> usize {
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    (cores / 2).clamp(1, 8)
}

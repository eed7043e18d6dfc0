//! What the control plane is told when it starts.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use tacit_model::Name;

/// Everything that the control plane is told. Made once, by the command line.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which mesh of this machine.
    pub mesh: Name,
    /// Where `control.sock` is made; the directory exists.
    pub runtime_dir: PathBuf,
    /// Where `control.redb` is kept, mode 0700; the directory exists.
    pub state_dir: PathBuf,
    /// A directory of YAML that is watched and acts as administrator.
    pub config_dir: Option<PathBuf>,
    /// Where nodes connect (gRPC over TLS); port 15012 unless there is a reason.
    pub nodes_listen: SocketAddr,
    /// Where people with a certificate connect (HTTP over TLS); port 15017.
    pub admin_listen: SocketAddr,
    /// Addresses under which nodes and people reach this machine; they go into join tokens.
    /// Empty: loopback only.
    pub addresses: Vec<IpAddr>,
    /// The user id that may do everything: who started `up`.
    pub administrator: u32,
}

/// Where nodes connect.
pub const NODES_PORT: u16 = 15012;
/// Where people with a certificate connect.
pub const ADMIN_PORT: u16 = 15017;

impl Settings {
    /// The admin API's Unix socket.
    #[must_use]
    pub fn control_socket(&self) -> PathBuf {
        self.runtime_dir.join("control.sock")
    }

    /// The store's file.
    #[must_use]
    pub fn store_file(&self) -> PathBuf {
        self.state_dir.join("control.redb")
    }
}

//! Which mesh a command talks to, and how.

use tacit_control::client::AdminClient;

use crate::args::Global;
use crate::dirs::Dirs;
use crate::failure::Failure;

/// The mesh that is meant.
#[derive(Debug)]
pub(crate) struct Place {
    /// Its name.
    pub(crate) mesh: String,
    server: Server,
}

#[derive(Debug)]
enum Server {
    /// On this machine.
    Local,
    /// Elsewhere, by TLS with a client certificate.
    Remote {
        address: String,
        identity: std::path::PathBuf,
    },
}

impl Place {
    /// Reads the global options.
    pub(crate) fn new(global: &Global) -> Result<Self, Failure> {
        if tacit_model::Name::try_from(global.mesh.as_str()).is_err() {
            return Err(Failure::Usage(format!(
                "--mesh {:?}: {}",
                global.mesh, MESH_NAME
            )));
        }
        let server = match (&global.server, &global.identity) {
            (None, _) => Server::Local,
            (Some(server), Some(identity)) => {
                let Some(address) = server.strip_prefix("tls:") else {
                    return Err(Failure::Usage(format!(
                        "--server {server}: use tls:HOST:PORT"
                    )));
                };
                Server::Remote {
                    address: address.to_owned(),
                    identity: identity.clone(),
                }
            }
            (Some(_), None) => {
                let text = "--server needs --identity DIR, made by `tacit certificate`";
                return Err(Failure::Usage(text.into()));
            }
        };
        Ok(Self {
            mesh: global.mesh.clone(),
            server,
        })
    }

    /// True unless `--server` names another machine.
    pub(crate) fn is_local(&self) -> bool {
        matches!(self.server, Server::Local)
    }

    /// The directories of the mesh on this machine.
    pub(crate) fn dirs(&self) -> Dirs {
        Dirs::reachable(&self.mesh)
    }

    /// A client of the control plane.
    pub(crate) fn client(&self) -> Result<AdminClient, Failure> {
        match &self.server {
            Server::Local => Ok(AdminClient::unix(self.dirs().control_socket())),
            Server::Remote { address, identity } => AdminClient::tls(address, identity)
                .map_err(|e| Failure::Usage(format!("--identity {}: {e}", identity.display()))),
        }
    }
}

const MESH_NAME: &str = "a mesh's name has lower-case letters, digits and '-'";

/// Runs a future to its end on this thread.
pub(crate) fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::Failed(format!("cannot start the runtime: {e}")))?
        .block_on(future)
}

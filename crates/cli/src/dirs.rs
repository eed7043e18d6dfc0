//! Where a mesh keeps its sockets and its state. The only reader of the environment for paths.

use std::env;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// Directories of one mesh of one user.
#[derive(Clone, Debug)]
pub(crate) struct Dirs {
    /// Sockets, the lock and logs; gone after a reboot.
    pub(crate) runtime: PathBuf,
    /// What must survive: CA keys, objects, certificates.
    pub(crate) state: PathBuf,
}

impl Dirs {
    /// The directories that a mesh of this user has.
    pub(crate) fn own(mesh: &str) -> Self {
        // What `up` tells the roles that it starts: inside a user namespace they look like root.
        if let (Some(runtime), Some(state)) = (
            env::var_os("TACIT_RUNTIME_DIR"),
            env::var_os("TACIT_STATE_DIR"),
        ) {
            return Self {
                runtime: runtime.into(),
                state: state.into(),
            };
        }
        let uid = nix::unistd::Uid::effective();
        if uid.is_root() {
            return Self {
                runtime: PathBuf::from("/run/tacit").join(mesh),
                state: PathBuf::from("/var/lib/tacit").join(mesh),
            };
        }
        let runtime = env::var_os("XDG_RUNTIME_DIR").map_or_else(
            || env::temp_dir().join(format!("tacit-{uid}")),
            |dir| PathBuf::from(dir).join("tacit"),
        );
        let state = env::var_os("XDG_STATE_HOME")
            .map(PathBuf::from)
            .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state")))
            .map_or_else(|| runtime.join("state"), |dir| dir.join("tacit"));
        Self {
            runtime: runtime.join(mesh),
            state: state.join(mesh),
        }
    }

    /// The directories of the mesh that a client means: the user's own if it is up, else root's.
    pub(crate) fn reachable(mesh: &str) -> Self {
        let own = Self::own(mesh);
        if own.control_socket().exists() || own.node_socket().exists() {
            return own;
        }
        let system = PathBuf::from("/run/tacit").join(mesh);
        if system.exists() {
            return Self {
                runtime: system,
                state: PathBuf::from("/var/lib/tacit").join(mesh),
            };
        }
        own
    }

    /// Makes both directories; what they hold is for their owner, except the sockets.
    pub(crate) fn make(&self) -> Result<(), Failure> {
        make_dir(&self.runtime, 0o755)?;
        make_dir(&self.state, 0o700)
    }

    /// The admin API.
    pub(crate) fn control_socket(&self) -> PathBuf {
        self.runtime.join("control.sock")
    }

    /// Where `run` asks.
    pub(crate) fn node_socket(&self) -> PathBuf {
        self.runtime.join("node.sock")
    }

    /// Where the node of this machine says how it is.
    pub(crate) fn status_socket(&self) -> PathBuf {
        self.runtime.join("status.sock")
    }

    /// Held by the `up` of this mesh; contains its process id.
    pub(crate) fn lock_file(&self) -> PathBuf {
        self.runtime.join("up.lock")
    }
}

fn make_dir(path: &Path, mode: u32) -> Result<(), Failure> {
    let told = |e: std::io::Error| {
        Failure::Failed(format!("cannot make the directory {}: {e}", path.display()))
    };
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)
        .map_err(told)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(told)
}

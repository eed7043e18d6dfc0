//! Why the control plane could not start, or stopped.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::authority::AuthorityError;
use crate::store::StoreError;

/// Why the control plane could not start, or stopped. The message names the remedy.
#[derive(Debug)]
pub enum ControlError {
    /// The keys of the certificate authority cannot be used.
    Authority(AuthorityError),
    /// The watched directory cannot be read.
    Directory { path: PathBuf, error: String },
    /// A TCP port cannot be listened on.
    Listen {
        address: SocketAddr,
        error: io::Error,
    },
    /// The Unix socket cannot be made.
    Socket { path: PathBuf, error: io::Error },
    /// The store cannot be opened or read.
    Store(StoreError),
    /// A part of the control plane ended, which it must not.
    Stopped { part: &'static str, why: String },
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Authority(error) => write!(f, "{error}"),
            Self::Directory { path, error } => {
                write!(
                    f,
                    "cannot watch {}: {error}; check the path of -f, and that this user may \
                     read it",
                    path.display()
                )
            }
            Self::Listen { address, error } if error.kind() == io::ErrorKind::AddrInUse => {
                write!(
                    f,
                    "port {} is in use; another mesh of this machine, or another program, \
                     listens on it: stop it (`tacit down --mesh NAME`), or give this one other \
                     ports: --port-base 16000",
                    address.port()
                )
            }
            Self::Listen { address, error } => write!(f, "cannot listen on {address}: {error}"),
            Self::Socket { path, error } => {
                write!(f, "cannot make the socket {}: {error}", path.display())
            }
            Self::Store(error) => write!(f, "{error}"),
            Self::Stopped { part, why } => write!(f, "{part} stopped: {why}"),
        }
    }
}

impl std::error::Error for ControlError {}

impl From<StoreError> for ControlError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<AuthorityError> for ControlError {
    fn from(error: AuthorityError) -> Self {
        Self::Authority(error)
    }
}

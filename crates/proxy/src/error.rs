//! Why a node proxy cannot start or go on.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why a node proxy ended. Each says whose fault it is and what helps.
#[derive(Debug)]
pub enum NodeError {
    /// A setting makes no sense: the caller's fault.
    Settings(String),
    /// A file or directory of the node cannot be used.
    State {
        /// Which.
        path: PathBuf,
        /// What the system said, or what is wrong with the content.
        reason: String,
    },
    /// The machine refuses something that a node needs: namespaces, links, nftables, a port.
    Machine {
        /// What was tried.
        doing: String,
        /// What the system said.
        reason: String,
        /// What helps.
        fix: &'static str,
    },
    /// The control plane refused the join.
    Join(String),
}

impl NodeError {
    pub(crate) fn state(path: impl Into<PathBuf>, reason: impl fmt::Display) -> Self {
        Self::State {
            path: path.into(),
            reason: reason.to_string(),
        }
    }

    pub(crate) fn machine(
        doing: impl Into<String>,
        reason: impl fmt::Display,
        fix: &'static str,
    ) -> Self {
        Self::Machine {
            doing: doing.into(),
            reason: reason.to_string(),
            fix,
        }
    }

    pub(crate) fn thread(error: &io::Error) -> Self {
        Self::machine(
            "start a thread",
            error,
            "raise the limit of processes (ulimit -u)",
        )
    }
}

impl fmt::Display for NodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Settings(text) => f.write_str(text),
            Self::State { path, reason } => write!(f, "{}: {reason}", path.display()),
            Self::Machine { doing, reason, fix } => write!(f, "cannot {doing}: {reason}. {fix}"),
            Self::Join(text) => write!(f, "cannot join the mesh: {text}"),
        }
    }
}

impl std::error::Error for NodeError {}

//! What can go wrong between this process and Linux.

use std::fmt;
use std::io;

/// A failure of a system call, of a tool, or of a tool's absence.
///
/// `Display` says what was tried and why it failed; `source` has the cause where there is one.
#[derive(Debug)]
pub enum SysError {
    /// A system call failed. `what` is a phrase such as "create a network namespace".
    Call { what: String, source: io::Error },
    /// A tool ran and failed. `stderr` is what it printed, shortened.
    Tool {
        command: String,
        status: String,
        stderr: String,
    },
    /// A tool is not installed. `package` is its name in Debian.
    Missing {
        program: String,
        package: &'static str,
    },
    /// An argument that Linux would not take, such as a link name of 16 characters.
    Invalid { what: String, why: String },
}

impl SysError {
    /// A failed system call while doing `what`.
    pub fn call(what: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Call {
            what: what.into(),
            source: source.into(),
        }
    }

    /// True when the cause is a missing privilege.
    #[must_use]
    pub fn is_permission(&self) -> bool {
        match self {
            Self::Call { source, .. } => source.kind() == io::ErrorKind::PermissionDenied,
            Self::Tool { stderr, .. } => stderr.contains("Operation not permitted"),
            Self::Missing { .. } | Self::Invalid { .. } => false,
        }
    }
}

impl fmt::Display for SysError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call { what, source } => write!(f, "cannot {what}: {source}"),
            Self::Tool {
                command,
                status,
                stderr,
            } => write!(f, "`{command}` failed ({status}): {}", stderr.trim()),
            Self::Missing { program, package } => write!(
                f,
                "`{program}` is not installed; install the package `{package}` \
                 (Debian: `apt-get install {package}`)"
            ),
            Self::Invalid { what, why } => write!(f, "{what} is not valid: {why}"),
        }
    }
}

impl std::error::Error for SysError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Call { source, .. } => Some(source),
            Self::Tool { .. } | Self::Missing { .. } | Self::Invalid { .. } => None,
        }
    }
}

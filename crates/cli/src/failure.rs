//! Why a subcommand failed, and the exit code that says so.

use std::fmt;
use std::process::ExitCode;

/// A failure as the user sees it: one sentence, and what to do.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Something went wrong here.
    Failed(String),
    /// A program could not be started; the code is the one that shells use.
    NotStarted(u8, String),
    /// The mesh refused.
    Refused(String),
    /// It took too long.
    TimedOut(String),
    /// The arguments make no sense.
    Usage(String),
    /// No mesh answers.
    Unreachable(String),
}

impl Failure {
    /// Documented in `tacit --help`.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Failed(_) => 1,
            Self::NotStarted(code, _) => *code,
            Self::Usage(_) => 2,
            Self::Unreachable(_) => 3,
            Self::Refused(_) => 4,
            Self::TimedOut(_) => 5,
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(text)
            | Self::NotStarted(_, text)
            | Self::Refused(text)
            | Self::TimedOut(text)
            | Self::Usage(text)
            | Self::Unreachable(text) => f.write_str(text),
        }
    }
}

//! The only place that draws random bytes.

use crate::admin::types::{Problem, ProblemKind};

/// Random bytes that nobody can guess.
pub(crate) fn bytes<const N: usize>() -> Result<[u8; N], Problem> {
    let mut bytes = [0; N];
    match aws_lc_rs::rand::fill(&mut bytes) {
        Ok(()) => Ok(bytes),
        Err(_) => Err(Problem {
            kind: ProblemKind::Unavailable,
            message: "the system has no random numbers".into(),
            findings: Vec::new(),
        }),
    }
}

//! One compiled, published state has one number.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A compiled, published state of the mesh. Compares first by epoch, then by number.
///
/// The epoch changes when the store is restored or reset; nodes then join anew.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Generation {
    /// Unix seconds at which the store was created.
    pub epoch: u64,
    /// Counts up with each published change, from 1; a restart of the control plane skips some.
    pub number: u64,
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.number)
    }
}

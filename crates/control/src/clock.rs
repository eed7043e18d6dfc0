//! The only place that reads the clock.

use std::time::{Duration, SystemTime};

/// Time since 1970-01-01T00:00:00Z. A clock before that reads as zero.
pub(crate) fn unix() -> Duration {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
}

/// Seconds since 1970-01-01T00:00:00Z.
pub(crate) fn unix_seconds() -> u64 {
    unix().as_secs()
}

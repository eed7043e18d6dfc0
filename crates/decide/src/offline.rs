//! How long a node may serve without its control plane.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tacit_model::Now;

use crate::denial::{Denial, DenialKind};

/// How old the node's knowledge is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Freshness {
    /// Younger than half of `maxOffline`.
    Fresh,
    /// Older than that: still served, and said so.
    Stale {
        /// Time left until it expires.
        left: Duration,
    },
    /// Older than `maxOffline`: everything is denied.
    Expired,
}

/// Judges the time since `last_contact` against `max_offline`.
///
/// Both clocks are asked and the longer time counts, so that a wall clock that is set back does
/// not prolong it. A process that boots from disk gives the wall-clock time that it stored and
/// its own monotonic time at boot.
#[must_use]
pub fn freshness(last_contact: Now, now: Now, max_offline: Duration) -> Freshness {
    let by_wall = Duration::from_nanos(now.unix_ns.saturating_sub(last_contact.unix_ns));
    let age = by_wall.max(now.since(last_contact));
    if age > max_offline {
        Freshness::Expired
    } else if age >= max_offline / 2 {
        Freshness::Stale {
            left: max_offline.saturating_sub(age),
        }
    } else {
        Freshness::Fresh
    }
}

/// Refuses everything once the node's knowledge has expired: asked for each connection and
/// request, before any other decision.
pub fn admit(freshness: Freshness) -> Result<(), Denial> {
    match freshness {
        Freshness::Fresh | Freshness::Stale { .. } => Ok(()),
        Freshness::Expired => Err(Denial::new(
            DenialKind::Offline,
            "this node has been without the control plane for longer than maxOffline".into(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stale_from_half_and_denied_after_all_of_it() {
        let hour = Duration::from_secs(3600);
        let cases = [
            (0, Freshness::Fresh),
            (1799, Freshness::Fresh),
            (
                1800,
                Freshness::Stale {
                    left: Duration::from_secs(1800),
                },
            ),
            (
                3600,
                Freshness::Stale {
                    left: Duration::ZERO,
                },
            ),
            (3601, Freshness::Expired),
        ];
        for (seconds, expected) in cases {
            let start = Now {
                unix_ns: 77,
                monotonic_ns: 5,
            };
            let now = start.plus(Duration::from_secs(seconds));
            assert_eq!(freshness(start, now, hour), expected, "{seconds}");
            assert_eq!(admit(expected).is_err(), expected == Freshness::Expired);
        }
    }

    #[test]
    fn a_clock_set_back_does_not_prolong_it() {
        let start = Now {
            unix_ns: 1_000_000_000_000,
            monotonic_ns: 0,
        };
        let now = Now {
            unix_ns: 0,
            monotonic_ns: 10_000_000_000,
        };
        let limit = Duration::from_secs(9);
        assert_eq!(freshness(start, now, limit), Freshness::Expired);
    }
}

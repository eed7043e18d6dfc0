//! When a certificate is renewed.

use std::time::Duration;

use tacit_model::{Dice, Now};

/// First pause after a failed renewal; doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause between attempts: soon enough for the shortest sensible lifetime (4 min).
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The validity of a certificate, nanoseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    pub not_before_unix_ns: u64,
    pub not_after_unix_ns: u64,
}

/// What to do about a certificate now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// Renew it; it is still good meanwhile.
    Due,
    /// It may not be used any more. Renew it.
    Expired,
    /// Nothing, for this long.
    Wait(Duration),
}

/// The plan for one certificate; make a new one for each certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    validity: Validity,
    /// No attempt before this moment, nanoseconds since 1970.
    next_unix_ns: u64,
    failures: u32,
}

impl Schedule {
    /// Plans the renewal between 35 % and 45 % of the lifetime, so that a fleet spreads.
    ///
    /// Always before half of it: `maxOffline` may be as long as the other half, and a control
    /// plane that goes away at any moment must leave certificates that last that long.
    #[must_use]
    pub fn new(validity: Validity, dice: Dice) -> Self {
        let Validity {
            not_before_unix_ns: from,
            not_after_unix_ns: to,
        } = validity;
        let lifetime = to.saturating_sub(from);
        let (jitter, _) = dice.below(lifetime / 10 + 1);
        Self {
            validity,
            next_unix_ns: from
                .saturating_add(lifetime / 100 * 35)
                .saturating_add(jitter),
            failures: 0,
        }
    }

    /// What to do now.
    #[must_use]
    pub fn next(&self, now: Now) -> Renewal {
        let wait = self.next_unix_ns.saturating_sub(now.unix_ns);
        if wait > 0 && self.failures > 0 {
            return Renewal::Wait(Duration::from_nanos(wait));
        }
        if now.unix_ns >= self.validity.not_after_unix_ns {
            Renewal::Expired
        } else if wait > 0 {
            Renewal::Wait(Duration::from_nanos(wait))
        } else {
            Renewal::Due
        }
    }

    /// True if the certificate may not be used any more.
    #[must_use]
    pub fn is_expired(&self, now: Now) -> bool {
        now.unix_ns >= self.validity.not_after_unix_ns
    }

    /// An attempt failed: wait for half to all of a pause that doubles with each failure.
    pub fn failed(&mut self, now: Now, dice: Dice) {
        let doubled = FIRST_PAUSE.saturating_mul(1u32.checked_shl(self.failures).unwrap_or(30));
        let most = u64::try_from(doubled.min(LONGEST_PAUSE).as_nanos()).unwrap_or(u64::MAX);
        let (jitter, _) = dice.below(most / 2 + 1);
        self.failures = self.failures.saturating_add(1);
        self.next_unix_ns = now.unix_ns.saturating_add(most / 2).saturating_add(jitter);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn at(seconds: u64) -> Now {
        Now {
            unix_ns: seconds * SECOND,
            monotonic_ns: 0,
        }
    }

    fn schedule(dice: u64) -> Schedule {
        let validity = Validity {
            not_before_unix_ns: 1000 * SECOND,
            not_after_unix_ns: 2000 * SECOND,
        };
        Schedule::new(validity, Dice(dice))
    }

    #[test]
    fn renewed_before_half_of_its_life() {
        let mut earliest = u64::MAX;
        let mut latest = 0;
        for seed in 0..500 {
            let schedule = schedule(seed);
            assert!(matches!(schedule.next(at(1349)), Renewal::Wait(_)));
            assert_eq!(schedule.next(at(1451)), Renewal::Due);
            assert_eq!(schedule.next(at(2000)), Renewal::Expired);
            earliest = earliest.min(schedule.next_unix_ns);
            latest = latest.max(schedule.next_unix_ns);
        }
        assert!(earliest < 1360 * SECOND && latest > 1440 * SECOND);
    }

    #[test]
    fn failures_back_off() {
        let mut schedule = schedule(1);
        let mut now = 1700 * SECOND;
        for most in [1, 2, 4, 8, 16, 30, 30, 30] {
            let moment = Now {
                unix_ns: now,
                monotonic_ns: 0,
            };
            schedule.failed(moment, Dice(now));
            let Renewal::Wait(pause) = schedule.next(moment) else {
                panic!("no pause after a failure");
            };
            let most = Duration::from_secs(most);
            assert!(most / 2 <= pause && pause <= most, "{pause:?} {most:?}");
            now = schedule.next_unix_ns;
        }
        assert!(!schedule.is_expired(at(1999)) && schedule.is_expired(at(2000)));
    }
}

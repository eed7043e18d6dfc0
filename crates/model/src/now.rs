//! Time and chance as plain values, so that a decision can be replayed.

use serde::{Deserialize, Serialize};

/// A reading of both clocks, taken once by the shell that asks for a decision.
///
/// Certificates, tokens and expiries use `unix_ns`; intervals and timers use `monotonic_ns`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Now {
    /// Nanoseconds since 1970-01-01T00:00:00Z.
    pub unix_ns: u64,
    /// Nanoseconds since some fixed moment of this process; never goes back.
    pub monotonic_ns: u64,
}

impl Now {
    /// The same moment, later by `duration`; for tests and timers.
    #[must_use]
    pub fn plus(self, duration: std::time::Duration) -> Self {
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self {
            unix_ns: self.unix_ns.saturating_add(ns),
            monotonic_ns: self.monotonic_ns.saturating_add(ns),
        }
    }

    /// Time that passed between `earlier` and this reading; zero if it is not earlier.
    #[must_use]
    pub fn since(self, earlier: Self) -> std::time::Duration {
        std::time::Duration::from_nanos(self.monotonic_ns.saturating_sub(earlier.monotonic_ns))
    }
}

/// Random numbers drawn by the shell before a decision; the decision only reads them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dice(pub u64);

impl Dice {
    /// The next number of the sequence that this one starts (SplitMix64), and the dice after it.
    #[must_use]
    pub fn roll(self) -> (u64, Self) {
        let state = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31), Self(state))
    }

    /// A number in `0..bound`; 0 if `bound` is 0.
    #[must_use]
    pub fn below(self, bound: u64) -> (u64, Self) {
        let (number, next) = self.roll();
        // The high half of a 128-bit product: unbiased enough for balancing, and never divides.
        let scaled = (u128::from(number) * u128::from(bound)) >> 64;
        (u64::try_from(scaled).unwrap_or(0), next)
    }
}

/// A moment in UTC as RFC 3339 has it, for people.
#[must_use]
pub fn rfc3339(unix_seconds: u64) -> String {
    let (days, second) = (unix_seconds / 86_400, unix_seconds % 86_400);
    // Years are counted from a March, so that the leap day is the last of its year; 400 of them
    // have 146,097 days (Gregorian calendar).
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_shown_in_utc() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_801_353_600, "2027-01-31T00:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(seconds), text);
        }
    }

    #[test]
    fn dice_cover_their_range_and_repeat_from_their_seed() {
        let mut seen = [0u32; 5];
        let mut dice = Dice(7);
        for _ in 0..5000 {
            let (n, next) = dice.below(5);
            seen[usize::try_from(n).unwrap()] += 1;
            dice = next;
        }
        assert!(
            seen.iter().all(|count| (800..1200).contains(count)),
            "{seen:?}"
        );
        assert_eq!(Dice(7).roll(), Dice(7).roll());
        assert_eq!(Dice(1).below(0).0, 0);
    }
}

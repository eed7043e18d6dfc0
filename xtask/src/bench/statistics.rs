//! Medians of paired ratios and how far they can be trusted.

/// How often the pairs are drawn anew. More changes the third digit of a bound.
const DRAWS: usize = 10_000;

/// A median and the 95 % interval around it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Interval {
    pub(crate) low: f64,
    pub(crate) median: f64,
    pub(crate) high: f64,
}

/// The middle value; `None` of nothing.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        length if length % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

/// The median with its bootstrap interval; `None` of nothing.
///
/// The draws come from a fixed sequence: the same values give the same interval.
pub(crate) fn bootstrap(values: &[f64]) -> Option<Interval> {
    let whole = median(values)?;
    let mut chance = Chance(0x7461_6369_7400_0001);
    let mut medians = Vec::with_capacity(DRAWS);
    for _ in 0..DRAWS {
        let drawn: Vec<f64> = values
            .iter()
            .map(|_| values[chance.below(values.len())])
            .collect();
        medians.push(median(&drawn)?);
    }
    medians.sort_by(f64::total_cmp);
    let at = |per_mille: usize| medians[(DRAWS - 1) * per_mille / 1000];
    Some(Interval {
        low: at(25),
        median: whole,
        high: at(975),
    })
}

/// A small generator of numbers (SplitMix64).
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 to `limit` - 1. `limit` is small, so the bias of a remainder is none.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn an_interval_holds_the_median_and_narrows_with_more_pairs() {
        let spread = |count: usize| -> Vec<f64> {
            (0..count).map(|n| 1.0 + (n % 10) as f64 / 10.0).collect()
        };
        let few = bootstrap(&spread(10)).unwrap();
        let many = bootstrap(&spread(200)).unwrap();
        assert!(few.low < few.median && few.median < few.high);
        assert!(many.high - many.low < few.high - few.low);
        let same = bootstrap(&[0.7; 5]).unwrap();
        assert_eq!((same.low, same.high), (0.7, 0.7));
    }

    #[test]
    fn chance_reaches_every_number() {
        let mut chance = Chance(1);
        let mut seen = [false; 5];
        (0..200).for_each(|_| seen[chance.below(5)] = true);
        assert_eq!(seen, [true; 5]);
    }
}

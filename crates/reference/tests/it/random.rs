//! Random numbers that repeat from their seed.

use serde_json::{Map, Value};

/// A sequence of numbers (SplitMix64).
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// The sequence of one world of a run.
    pub(crate) fn new(seed: u64, world: u64) -> Self {
        let mut first = Self(seed ^ world.wrapping_mul(0xD134_2543_DE82_EF95));
        first.next();
        first
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound.max(1)).unwrap()).unwrap()
    }

    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())].clone()
    }

    /// One or two different ones.
    pub(crate) fn some<T: Clone + PartialEq>(&mut self, choices: &[T]) -> Vec<T> {
        let mut found = vec![self.of(choices)];
        let other = self.of(choices);
        if self.one_in(2) && found[0] != other {
            found.push(other);
        }
        found
    }
}

/// A mapping that is filled field by field.
#[derive(Default)]
pub(crate) struct Fields(Map<String, Value>);

impl Fields {
    pub(crate) fn put(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.to_owned(), value.into());
    }

    /// Puts a field once in `n` times.
    pub(crate) fn maybe<V: Into<Value>>(
        &mut self,
        random: &mut Random,
        n: usize,
        name: &str,
        value: impl FnOnce(&mut Random) -> V,
    ) {
        if random.one_in(n) {
            let value = value(random);
            self.put(name, value);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn done(self) -> Value {
        Value::Object(self.0)
    }
}

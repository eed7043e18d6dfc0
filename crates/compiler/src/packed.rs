//! Builds persistent maps of many entries at once, without gaps.

use imbl::{OrdMap, OrdSet};

/// A map of entries that come in the order of their keys.
///
/// A leaf that is full is split in the middle, so entries in order would leave every leaf half
/// empty. Every other one first, each of the others finds a free place: half the memory.
pub(crate) fn map<K: Ord + Clone, V: Clone>(
    entries: impl IntoIterator<Item = (K, V)>,
) -> OrdMap<K, V> {
    let (mut map, mut others) = (OrdMap::new(), Vec::new());
    let mut entries = entries.into_iter();
    while let Some((key, value)) = entries.next() {
        map.insert(key, value);
        others.extend(entries.next());
    }
    for (key, value) in others {
        map.insert(key, value);
    }
    map
}

/// The same for a set.
pub(crate) fn set<K: Ord + Clone>(entries: impl IntoIterator<Item = K>) -> OrdSet<K> {
    let (mut set, mut others) = (OrdSet::new(), Vec::new());
    let mut entries = entries.into_iter();
    while let Some(entry) = entries.next() {
        set.insert(entry);
        others.extend(entries.next());
    }
    set.extend(others);
    set
}

#[cfg(test)]
mod tests {
    #[test]
    fn nothing_is_lost() {
        for count in [0_u32, 1, 2, 3, 1_000, 1_001] {
            let entries = || (0..count).map(|number| (number, number * 2));
            assert_eq!(super::map(entries()), entries().collect());
            assert_eq!(super::set(0..count), (0..count).collect());
        }
    }
}

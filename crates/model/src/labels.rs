//! Labels of workloads and services, and the selectors that match them.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Labels of an object, ordered by key. At most 64 (a limit of the parser, to bound class keys).
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Labels(pub BTreeMap<Arc<str>, Arc<str>>);

impl Labels {
    /// Builds labels from pairs; a later pair replaces an earlier one of the same key.
    pub fn from_pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        Self(
            pairs
                .into_iter()
                .map(|(k, v)| (k.into(), v.into()))
                .collect(),
        )
    }

    /// The value of `key`, if present.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(AsRef::as_ref)
    }

    /// True if each of `wanted` is present with the same value. Empty `wanted` matches nothing:
    /// an empty selector is an error at the border, and here it must not mean "all".
    #[must_use]
    pub fn contain(&self, wanted: &Self) -> bool {
        !wanted.0.is_empty()
            && wanted
                .0
                .iter()
                .all(|(key, value)| self.0.get(key) == Some(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_selector_matches_nothing() {
        let labels = Labels::from_pairs([("app", "web"), ("tier", "front")]);
        assert!(labels.contain(&Labels::from_pairs([("app", "web")])));
        assert!(!labels.contain(&Labels::from_pairs([("app", "api")])));
        assert!(!labels.contain(&Labels::default()));
    }
}

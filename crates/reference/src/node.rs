//! A field of a document that may be absent.

use std::collections::BTreeMap;

use serde_json::Value;

/// A field, or nothing where there is none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node<'v>(pub(crate) Option<&'v Value>);

impl<'v> Node<'v> {
    pub(crate) fn of(value: &'v Value) -> Self {
        Self(Some(value))
    }

    /// The field of this name.
    pub(crate) fn at(self, name: &str) -> Self {
        Self(self.0.and_then(|value| value.get(name)))
    }

    pub(crate) fn is_there(self) -> bool {
        self.0.is_some()
    }

    pub(crate) fn text(self) -> Option<&'v str> {
        self.0.and_then(Value::as_str)
    }

    /// True if it is this text.
    pub(crate) fn is(self, text: &str) -> bool {
        self.text() == Some(text)
    }

    pub(crate) fn is_true(self) -> bool {
        self.0.and_then(Value::as_bool) == Some(true)
    }

    pub(crate) fn number(self) -> Option<i64> {
        self.0.and_then(Value::as_i64)
    }

    /// The items of a list; none if there is no list.
    pub(crate) fn items(self) -> impl Iterator<Item = Self> + Clone {
        let items = self.0.and_then(Value::as_array);
        items.into_iter().flatten().map(Self::of)
    }

    /// The texts of a list; none if there is no list.
    pub(crate) fn texts(self) -> impl Iterator<Item = &'v str> + Clone {
        self.items().filter_map(Self::text)
    }

    /// The numbers of a list.
    pub(crate) fn numbers(self) -> impl Iterator<Item = i64> {
        self.items().filter_map(Self::number)
    }

    /// The texts of a mapping.
    pub(crate) fn pairs(self) -> BTreeMap<&'v str, &'v str> {
        let map = self.0.and_then(Value::as_object).into_iter().flatten();
        map.filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
            .collect()
    }

    /// A duration in milliseconds: whole numbers with `h`, `m`, `s` or `ms`.
    pub(crate) fn milliseconds(self) -> Option<i64> {
        let mut total = 0;
        let mut rest = self.text()?;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit())?;
            let number: i64 = rest[..digits].parse().ok()?;
            let letters = &rest[digits..];
            let end = letters.find(|c: char| c.is_ascii_digit());
            let unit = &letters[..end.unwrap_or(letters.len())];
            total += number
                * match unit {
                    "h" => 3_600_000,
                    "m" => 60_000,
                    "s" => 1000,
                    "ms" => 1,
                    _ => return None,
                };
            rest = &letters[unit.len()..];
        }
        Some(total)
    }

    /// A size in bytes, with `Ki` or `Mi` or without.
    pub(crate) fn bytes(self) -> Option<i64> {
        let text = self.text()?;
        let (digits, factor) = match text.strip_suffix("Ki") {
            Some(digits) => (digits, 1024),
            None => match text.strip_suffix("Mi") {
                Some(digits) => (digits, 1024 * 1024),
                None => (text, 1),
            },
        };
        Some(digits.parse::<i64>().ok()? * factor)
    }

    /// True if every pair of `wanted` is among the pairs of this one; nothing wanted matches
    /// nothing.
    pub(crate) fn has_labels(self, wanted: Node<'_>) -> bool {
        let (own, wanted) = (self.pairs(), wanted.pairs());
        !wanted.is_empty()
            && wanted
                .iter()
                .all(|(key, value)| own.get(key) == Some(value))
    }
}

//! Decodes the tree of a document into typed fields, and reports every problem with its field.

use std::collections::BTreeMap;

use crate::parse::Problem;
use crate::policy_test::{RequestText, SlashName};
use crate::suggest::nearest;
use crate::tree::{Node, Value};
use crate::values::{BadText, DurationText, PortRef, SizeText, TimeText, quoted};

/// A problem, before file and snippet are added.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    pub(crate) problem: Problem,
    pub(crate) at: (u32, u32),
    pub(crate) field: String,
    pub(crate) message: String,
    pub(crate) fix: String,
}

/// Collects the problems of one document.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    path: String,
    pub(crate) reports: Vec<Report>,
    /// Problems of the document, the ones that are not in `reports` included.
    pub(crate) problems: usize,
}

/// Most problems that are reported of one document: more do not help to repair it, and a
/// document of nothing but unknown fields must not multiply its size in messages.
pub(crate) const REPORTS_MAX: usize = 100;

/// Reads a value of a type from a node. `None` means that a problem was reported.
pub(crate) trait Decode: Sized {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self>;

    /// What a field is when it is not written; `None` if it must be written.
    fn absent() -> Option<Self> {
        None
    }

    /// True if there is such a field below a value of this type. Items of lists have no path.
    fn has_field(path: &[&str]) -> bool {
        path.is_empty()
    }
}

impl Decoder {
    /// Reports a problem of the current field.
    pub(crate) fn report(
        &mut self,
        problem: Problem,
        at: (u32, u32),
        message: String,
        fix: String,
    ) {
        self.problems += 1;
        if self.problems <= REPORTS_MAX {
            self.reports.push(Report {
                problem,
                at,
                field: self.path.clone(),
                message,
                fix,
            });
        }
    }

    /// Works on the field `key` of the current one.
    pub(crate) fn inside<T>(&mut self, key: &str, work: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.path.len();
        push_key(&mut self.path, key);
        let result = work(self);
        self.path.truncate(before);
        result
    }

    fn inside_item<T>(&mut self, index: usize, work: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.path.len();
        push_index(&mut self.path, index);
        let result = work(self);
        self.path.truncate(before);
        result
    }

    /// Reports that `node` is not what was expected.
    fn wrong_type(&mut self, node: &Node, expected: &str, fix: String) {
        let message = if matches!(node.value, Value::Null) {
            format!("expected {expected}, found no value")
        } else {
            format!("expected {expected}, found {}", node.describe())
        };
        self.report(Problem::WrongType, node.at, message, fix);
    }

    /// Reports that the field `key` of `node` is not written.
    pub(crate) fn missing(&mut self, node: &Node, key: &str) {
        let message = format!("missing field `{key}`");
        let fix = format!("add `{key}`");
        self.inside(key, |d| {
            d.report(Problem::MissingField, node.at, message, fix);
        });
    }

    /// The node itself if it is a mapping.
    pub(crate) fn expect_mapping<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n Node> {
        if matches!(node.value, Value::Mapping(_)) {
            return Some(node);
        }
        let fix = match node.value {
            Value::Null => "give it a value, or remove it".to_owned(),
            Value::Bool(_)
            | Value::Mapping(_)
            | Value::Number(_)
            | Value::Sequence(_)
            | Value::Text(_) => "write fields, one on each line, or in braces".to_owned(),
        };
        self.wrong_type(node, what, fix);
        None
    }

    /// The node itself if it is a mapping; its fields that are not `known` are reported.
    pub(crate) fn mapping<'n>(&mut self, node: &'n Node, known: &[&str]) -> Option<&'n Node> {
        self.mapping_with_ignored(node, known, &[])
    }

    /// The same; fields of `ignored` may be there and are not looked at.
    pub(crate) fn mapping_with_ignored<'n>(
        &mut self,
        node: &'n Node,
        known: &[&str],
        ignored: &[&str],
    ) -> Option<&'n Node> {
        self.expect_mapping(node, "fields")?;
        let Value::Mapping(entries) = &node.value else {
            return None;
        };
        for entry in entries {
            let key = entry.key.as_str();
            if known.contains(&key) || ignored.contains(&key) {
                continue;
            }
            if self.problems >= REPORTS_MAX {
                self.problems += 1;
                continue;
            }
            let fix = match nearest(key, known.iter().copied()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None if known.is_empty() => "remove it: there are no fields here".to_owned(),
                None => format!("known fields here: {}", known.join(", ")),
            };
            let message = format!("unknown field {}", quoted(key));
            self.inside(key, |d| {
                d.report(Problem::UnknownField, entry.at, message, fix);
            });
        }
        Some(node)
    }

    /// The field `key` of a mapping, or what the type says of an absent one.
    pub(crate) fn field<T: Decode>(&mut self, node: &Node, key: &str) -> Option<T> {
        match node.get(key) {
            Some(found) => self.inside(key, |d| T::decode(found, d)),
            None => {
                let absent = T::absent();
                if absent.is_none() {
                    self.missing(node, key);
                }
                absent
            }
        }
    }

    /// The text of a node, however it was written; numbers and words need quotes.
    fn text<'n>(&mut self, node: &'n Node, expected: &str) -> Option<&'n str> {
        let fix = match &node.value {
            Value::Text(text) => return Some(text),
            Value::Number(number) => format!("put it in quotes: \"{number}\""),
            Value::Bool(value) => format!("put it in quotes: \"{value}\""),
            Value::Null => "give it a value, or remove it".to_owned(),
            Value::Mapping(_) | Value::Sequence(_) => format!("write {expected}"),
        };
        self.wrong_type(node, expected, fix);
        None
    }

    fn notation<'n, T>(&mut self, node: &'n Node, expected: &str) -> Option<T>
    where
        T: TryFrom<&'n str, Error = BadText>,
    {
        // A plain number is as good as text here: the notation says whether it needs a unit.
        let text = match &node.value {
            Value::Number(number) => number.as_str(),
            Value::Bool(_)
            | Value::Mapping(_)
            | Value::Null
            | Value::Sequence(_)
            | Value::Text(_) => self.text(node, expected)?,
        };
        match T::try_from(text) {
            Ok(value) => Some(value),
            Err(BadText { message, fix }) => {
                self.report(Problem::WrongValue, node.at, message, fix.to_owned());
                None
            }
        }
    }

    fn number<T: TryFrom<i128>>(&mut self, node: &Node, least: i128, most: i128) -> Option<T> {
        let expected = format!("a whole number from {least} to {most}");
        let fix = match &node.value {
            Value::Number(number) => {
                let value = whole(number).filter(|value| (least..=most).contains(value));
                if let Some(value) = value.and_then(|value| T::try_from(value).ok()) {
                    return Some(value);
                }
                format!("write {expected}")
            }
            Value::Text(text) if whole(text).is_some() => "remove the quotes".to_owned(),
            Value::Null => "give it a value, or remove it".to_owned(),
            Value::Bool(_) | Value::Mapping(_) | Value::Sequence(_) | Value::Text(_) => {
                format!("write {expected}")
            }
        };
        self.wrong_type(node, &expected, fix);
        None
    }

    /// One of some words, for the enums of the API.
    pub(crate) fn word(&mut self, node: &Node, words: &[&str]) -> Option<usize> {
        let choice = format!("one of {}", words.join(", "));
        let Value::Text(text) = &node.value else {
            self.wrong_type(node, &choice, format!("write {choice}"));
            return None;
        };
        if let Some(index) = words.iter().position(|word| *word == text) {
            return Some(index);
        }
        let fix = match nearest(text, words.iter().copied()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("write {choice}"),
        };
        let message = format!("unknown value {}", quoted(text));
        self.report(Problem::WrongValue, node.at, message, fix);
        None
    }
}

/// Adds `.key` to a path, or `["key"]` if it is not a plain word.
pub(crate) fn push_key(path: &mut String, key: &str) {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !key.is_empty() && key.chars().all(plain) {
        if !path.is_empty() {
            path.push('.');
        }
        path.push_str(key);
    } else {
        path.push('[');
        path.push_str(&quoted(key));
        path.push(']');
    }
}

/// Adds `[index]` to a path.
pub(crate) fn push_index(path: &mut String, index: usize) {
    path.push('[');
    path.push_str(&index.to_string());
    path.push(']');
}

fn whole(text: &str) -> Option<i128> {
    let (digits, radix) = match text.get(..2) {
        Some("0x") => (&text[2..], 16),
        Some("0o") => (&text[2..], 8),
        _ => (text, 10),
    };
    i128::from_str_radix(digits, radix).ok()
}

impl Decode for String {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        decoder.text(node, "text").map(str::to_owned)
    }
}

impl Decode for bool {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        if let Value::Bool(value) = node.value {
            return Some(value);
        }
        let fix = match &node.value {
            Value::Text(text) if ["yes", "on", "true"].contains(&text.as_str()) => "write true",
            Value::Text(text) if ["no", "off", "false"].contains(&text.as_str()) => "write false",
            Value::Bool(_)
            | Value::Mapping(_)
            | Value::Null
            | Value::Number(_)
            | Value::Sequence(_)
            | Value::Text(_) => "write true or false",
        };
        decoder.wrong_type(node, "true or false", fix.to_owned());
        None
    }
}

macro_rules! numbers {
    ($($number:ty),*) => {
        $(impl Decode for $number {
            fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
                decoder.number(node, i128::from(<$number>::MIN), i128::from(<$number>::MAX))
            }
        })*
    };
}
numbers!(u16, u32, i32);

macro_rules! notations {
    ($($type:ty: $expected:literal;)*) => {
        $(impl Decode for $type {
            fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
                decoder.notation(node, $expected)
            }
        })*
    };
}
notations! {
    DurationText: "a duration such as 600ms";
    RequestText: "a request such as GET http://payments.shop/";
    SizeText: "a size such as 64Ki";
    SlashName: "a namespace and a name such as shop/frontend";
    TimeText: "a time such as 2027-01-31T00:00:00Z";
}

impl Decode for PortRef {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        if let Value::Text(name) = &node.value {
            return Some(Self::Name(name.clone()));
        }
        u16::decode(node, decoder).map(Self::Number)
    }
}

impl<T: Decode> Decode for Option<T> {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        T::decode(node, decoder).map(Some)
    }

    fn absent() -> Option<Self> {
        Some(None)
    }

    fn has_field(path: &[&str]) -> bool {
        T::has_field(path)
    }
}

impl<T: Decode> Decode for Vec<T> {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        let Value::Sequence(items) = &node.value else {
            let fix = match node.value {
                Value::Null => "give it a value, or remove it".to_owned(),
                Value::Bool(_)
                | Value::Mapping(_)
                | Value::Number(_)
                | Value::Sequence(_)
                | Value::Text(_) => "put it in square brackets, or begin it with `- `".to_owned(),
            };
            decoder.wrong_type(node, "a list", fix);
            return None;
        };
        let decoded: Vec<Option<T>> = items
            .iter()
            .enumerate()
            .map(|(index, item)| decoder.inside_item(index, |d| T::decode(item, d)))
            .collect();
        decoded.into_iter().collect()
    }
}

impl<T: Decode> Decode for BTreeMap<String, T> {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        decoder.expect_mapping(node, "keys with values")?;
        let Value::Mapping(entries) = &node.value else {
            return None;
        };
        let decoded: Vec<Option<(String, T)>> = entries
            .iter()
            .map(|entry| {
                let value = decoder.inside(&entry.key, |d| T::decode(&entry.value, d));
                value.map(|value| (entry.key.clone(), value))
            })
            .collect();
        decoded.into_iter().collect()
    }

    fn has_field(path: &[&str]) -> bool {
        path.split_first()
            .is_none_or(|(_, rest)| T::has_field(rest))
    }
}

/// Declares a struct whose fields are read from a mapping: `field: Type = "yamlName"`.
macro_rules! fields {
    (
        $(#[$meta:meta])* pub struct $name:ident {
            $( $(#[$field_meta:meta])* $field:ident: $type:ty = $key:literal, )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
        pub struct $name {
            $(
                $(#[$field_meta])*
                #[serde(rename = $key, skip_serializing_if = "crate::decode::Skip::skip")]
                pub $field: $type,
            )*
        }

        impl crate::decode::Decode for $name {
            fn decode(
                node: &crate::tree::Node, decoder: &mut crate::decode::Decoder,
            ) -> Option<Self> {
                decoder.mapping(node, &[$($key),*])?;
                // All fields are read before the first missing one ends it.
                $( let $field = decoder.field(node, $key); )*
                Some(Self { $( $field: $field?, )* })
            }

            fn has_field(path: &[&str]) -> bool {
                match path {
                    [] => true,
                    $( [$key, rest @ ..] => <$type as crate::decode::Decode>::has_field(rest), )*
                    _ => false,
                }
            }
        }

        impl crate::decode::Skip for $name {}
    };
}
pub(crate) use fields;

/// Declares an enum that is written as one of its names.
macro_rules! words {
    ($(#[$meta:meta])* pub enum $name:ident { $($word:ident),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
        pub enum $name { $(#[doc = "As it is written."] $word,)* }

        impl $name {
            /// Every value.
            pub const ALL: &[Self] = &[$(Self::$word,)*];

            /// As it is written.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$word => stringify!($word),)* }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl crate::decode::Decode for $name {
            fn decode(
                node: &crate::tree::Node, decoder: &mut crate::decode::Decoder,
            ) -> Option<Self> {
                let index = decoder.word(node, &[$(stringify!($word)),*])?;
                Self::ALL.get(index).copied()
            }
        }

        impl crate::decode::Skip for $name {}
    };
}
pub(crate) use words;

/// Whether a field is left out when an object is printed: only what is absent.
pub(crate) trait Skip {
    fn skip(&self) -> bool {
        false
    }
}

impl<T> Skip for Option<T> {
    fn skip(&self) -> bool {
        self.is_none()
    }
}

impl<T> Skip for Vec<T> {}
impl<T> Skip for BTreeMap<String, T> {}
impl Skip for RequestText {}
impl Skip for SlashName {}
impl Skip for String {}
impl Skip for u16 {}
impl Skip for u32 {}
impl Skip for DurationText {}
impl Skip for TimeText {}

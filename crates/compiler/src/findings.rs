//! What the compiler says about what is written: kinds of findings, and how one is made.

use tacit_api::parse::Problem;
use tacit_api::{Kind, Located, Object, ObjectKey, SyntaxError};
use tacit_model::finding::{Finding, Position, Severity};
use tacit_model::{Namespace, ObjectRef};

mod codes;
mod page;

pub use codes::*;
pub use page::{Example, GROUPS, Group, example, meaning, page};

/// A kind of finding. The page `docs/findings.md` is made of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    /// `TCT1xxx`; never given to anything else later.
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What it is, a few words.
    pub title: &'static str,
    /// Why it happens.
    pub cause: &'static str,
    /// What to do about it.
    pub fix: &'static str,
    /// What it looks like.
    pub shown: Shown,
}

/// How a kind of finding is shown to somebody who asks what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// By a file with objects that have the finding, and the same without it.
    Example(&'static str),
    /// By words: why no objects can be written down that always have it.
    Circumstance(&'static str),
}

/// The code with this number.
#[must_use]
pub fn code(number: &str) -> Option<&'static Code> {
    CODES.iter().find(|code| code.code == number)
}

/// Collects the findings about one object.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    object: &'a Located<Object>,
    pub(crate) findings: Vec<Finding>,
}

impl<'a> Report<'a> {
    pub(crate) fn new(object: &'a Located<Object>) -> Self {
        Self {
            object,
            findings: Vec::new(),
        }
    }

    /// The object's name as people say it: `shop/web`.
    pub(crate) fn name(&self) -> String {
        let key = self.object.value.key();
        match key.namespace {
            Some(namespace) => format!("{namespace}/{}", key.name),
            None => key.name,
        }
    }

    /// The object's namespace.
    pub(crate) fn namespace(&self) -> Option<Namespace> {
        let metadata = self.object.value.metadata();
        metadata.namespace.as_deref()?.try_into().ok()
    }

    /// Adds a finding about a field; its fix is the one of the code unless `fix` says better.
    pub(crate) fn add(&mut self, code: Code, field: &str, message: String, fix: Option<String>) {
        self.findings
            .push(at(self.object, code, field, message, fix));
    }

    /// Adds a finding with the fix of its code.
    pub(crate) fn say(&mut self, code: Code, field: &str, message: impl Into<String>) {
        self.add(code, field, message.into(), None);
    }
}

/// A finding about a field of an object; its fix is the one of the code unless `fix` says better.
#[must_use]
pub fn at(
    object: &Located<Object>,
    code: Code,
    field: &str,
    message: String,
    fix: Option<String>,
) -> Finding {
    let (position, snippet) = object.find(field);
    Finding {
        code: code.code.into(),
        severity: code.severity,
        object: object_ref(&object.value.key()),
        field: field.into(),
        position: Some(Position {
            file: position.file,
            line: position.line,
            column: position.column,
        }),
        message,
        fix: fix.unwrap_or_else(|| code.fix.to_owned()),
        snippet,
    }
}

/// What could not be read, as a finding.
pub(crate) fn of_syntax(error: &SyntaxError) -> Finding {
    let code = match error.problem {
        Problem::DuplicateKey => DUPLICATE_KEY,
        Problem::MissingField => MISSING_FIELD,
        Problem::NotText => NOT_TEXT,
        Problem::NotYaml => NOT_YAML,
        Problem::TooLarge => TOO_LARGE,
        Problem::UnknownField => UNKNOWN_FIELD,
        Problem::UnknownKind => UNKNOWN_KIND,
        Problem::WrongType => WRONG_TYPE,
        Problem::WrongValue => WRONG_VALUE,
    };
    Finding {
        code: code.code.into(),
        severity: code.severity,
        object: error.object.as_ref().and_then(object_ref),
        field: error.field.as_str().into(),
        position: Some(Position {
            file: error.position.file.clone(),
            line: error.position.line,
            column: error.position.column,
        }),
        message: error.message.clone(),
        fix: error.fix.clone(),
        snippet: error.snippet.clone(),
    }
}

/// The object as the model names it; nothing if its names are invalid, which is a finding.
#[must_use]
pub fn object_ref(key: &ObjectKey) -> Option<ObjectRef> {
    let namespace = match &key.namespace {
        Some(namespace) => Some(namespace.as_str().try_into().ok()?),
        None => None,
    };
    Some(ObjectRef {
        kind: key.kind.as_str().into(),
        namespace,
        name: key.name.as_str().try_into().ok()?,
    })
}

/// The key of the object that a reference names, if there is such a kind.
pub(crate) fn object_key(object: &ObjectRef) -> Option<ObjectKey> {
    Some(ObjectKey {
        kind: Kind::from_name(&object.kind)?,
        namespace: object
            .namespace
            .as_ref()
            .map(|name| name.as_str().to_owned()),
        name: object.name.as_str().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_rise_and_are_unique() {
        let numbers: Vec<&str> = CODES.iter().map(|code| code.code).collect();
        let mut sorted = numbers.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(numbers, sorted);
        assert!(code("TCT1004").is_some() && code("TCT9999").is_none());
    }
}

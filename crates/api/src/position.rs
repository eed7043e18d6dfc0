//! Where in a file something is written.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// A place in a file. Lines and columns count from 1, columns in characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The file as the caller named it.
    pub file: Arc<str>,
    /// The line.
    pub line: u32,
    /// The column.
    pub column: u32,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// The position of every field of one document: field path → (line, column) in the file.
///
/// A path looks like `spec.retry.attempts` or `spec.rules[0].to[1]`; a key that is not a plain
/// word is quoted: `metadata.labels["example.com/team"]`. A scalar is where its value is, a
/// mapping or list is where its key is, an item of a list is where it begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Positions(pub BTreeMap<String, (u32, u32)>);

impl Positions {
    /// The position of `path`, or of the nearest enclosing field that is written: a field that
    /// is missing is reported where it would have to be.
    #[must_use]
    pub fn nearest(&self, path: &str) -> Option<(u32, u32)> {
        let mut rest = path;
        loop {
            if let Some(found) = self.0.get(rest) {
                return Some(*found);
            }
            let cut = rest.rfind(['.', '['])?;
            rest = &rest[..cut];
        }
    }
}

/// The text of one document, for the line under a caret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The file as the caller named it.
    pub file: Arc<str>,
    /// The line of the file on which `text` begins, from 1.
    pub first_line: u32,
    /// The document, without its `---` line.
    pub text: Arc<str>,
}

/// Longest line that a snippet shows, in characters: what fits a wide terminal.
const SNIPPET_MAX: usize = 160;

impl Source {
    /// The line of the file with this number, at most 160 characters, if it is in the document.
    #[must_use]
    pub fn line(&self, number: u32) -> Option<String> {
        let index = usize::try_from(number.checked_sub(self.first_line)?).ok()?;
        let line = self.text.lines().nth(index)?;
        Some(line.chars().take(SNIPPET_MAX).collect())
    }

    /// A position in this file.
    #[must_use]
    pub fn at(&self, (line, column): (u32, u32)) -> Position {
        Position {
            file: Arc::clone(&self.file),
            line,
            column,
        }
    }
}

/// A value with where it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    /// Where each of its fields is.
    pub positions: Arc<Positions>,
    /// The text it came from.
    pub source: Source,
}

impl<T> Located<T> {
    /// The position and the source line of a field, or of what encloses it; the start of the
    /// document for an empty path.
    #[must_use]
    pub fn find(&self, path: &str) -> (Position, Option<String>) {
        let nearest = self.positions.nearest(path);
        let (line, column) = nearest
            .or_else(|| self.positions.nearest("kind"))
            .unwrap_or((self.source.first_line, 1));
        (self.source.at((line, column)), self.source.line(line))
    }
}

//! Reads a file of one or more YAML or JSON documents into objects and errors.

use std::fmt;
use std::sync::Arc;

use crate::decode::{Decoder, REPORTS_MAX, Report};
use crate::object::{self, Object, ObjectKey};
use crate::policy_test::{self, PolicyTest};
use crate::position::{Located, Position, Source};
use crate::tree::{self, BadTree, Node, Value};

/// Largest file: ten thousand objects of usual size are about 10 MiB; more is no configuration.
pub const FILE_MAX: usize = 32 << 20;

/// Largest document: the API server of Kubernetes takes no larger object either (1.5 MiB).
pub const DOCUMENT_MAX: usize = 1 << 20;

/// Most documents of one file: bounds the memory for positions and errors.
pub const DOCUMENTS_MAX: usize = 10_000;

/// What sort of problem it is, so that the compiler can give it a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Problem {
    /// The same key twice in one mapping.
    DuplicateKey,
    /// A field that must be written is not.
    MissingField,
    /// Not UTF-8 text.
    NotText,
    /// Not YAML, or a part of YAML that is not supported.
    NotYaml,
    /// Over a limit.
    TooLarge,
    /// A field that the kind does not have.
    UnknownField,
    /// A kind or version that does not exist.
    UnknownKind,
    /// A list where text is expected, and the like.
    WrongType,
    /// The right type, but no such value.
    WrongValue,
}

/// Something that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// What sort of problem it is.
    pub problem: Problem,
    /// Where it is.
    pub position: Position,
    /// The field, for example `spec.retry.attempts`; empty if it is about the whole document.
    pub field: String,
    /// The line of the file that the position points at.
    pub snippet: Option<String>,
    /// What is wrong, one sentence without a full stop.
    pub message: String,
    /// What to do about it.
    pub fix: String,
    /// The object, if its kind and name could be read.
    pub object: Option<ObjectKey>,
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.position, self.message, self.fix)
    }
}

impl std::error::Error for SyntaxError {}

/// What a file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    /// Objects without any error, in the order of the file.
    pub objects: Vec<Located<Object>>,
    /// PolicyTests without any error, in the order of the file. They are no objects of the mesh.
    pub tests: Vec<Located<PolicyTest>>,
    /// Errors, in the order of the file.
    pub errors: Vec<SyntaxError>,
}

/// Reads documents, separated by `---` lines. An error in one does not hide the others.
#[must_use]
pub fn parse(file: &str, text: &str) -> Parsed {
    parse_bytes(file, text.as_bytes())
}

/// The same for bytes that may not be text at all.
#[must_use]
pub fn parse_bytes(file: &str, bytes: &[u8]) -> Parsed {
    let file: Arc<str> = file.into();
    let mut parsed = Parsed::default();
    if bytes.len() > FILE_MAX {
        let message = format!(
            "the file has {} bytes; at most {FILE_MAX} are read",
            bytes.len()
        );
        let fix = "split it; a mesh of ten thousand objects needs about 10 MiB".to_owned();
        parsed.errors.push(file_error(&file, 1, message, fix));
        return parsed;
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut documents = 0;
    for chunk in split(bytes) {
        if is_blank(chunk.bytes) {
            continue;
        }
        documents += 1;
        if documents > DOCUMENTS_MAX {
            let message = format!("more than {DOCUMENTS_MAX} documents in one file");
            let fix = "split the file; the documents from here on are not read".to_owned();
            parsed
                .errors
                .push(file_error(&file, chunk.first_line, message, fix));
            break;
        }
        parse_document(&file, &chunk, &mut parsed);
    }
    parsed
}

/// One document's bytes.
struct Chunk<'a> {
    first_line: u32,
    bytes: &'a [u8],
}

/// Splits at the lines that begin with `---` or `...`: YAML forbids such lines inside any value,
/// so an error in one document cannot move the border of the next.
fn split(bytes: &[u8]) -> Vec<Chunk<'_>> {
    let mut chunks = Vec::new();
    let (mut start, mut start_line, mut offset) = (0, 1, 0);
    for (line_number, line) in (1_u32..).zip(bytes.split_inclusive(|byte| *byte == b'\n')) {
        let marker = line.starts_with(b"---") || line.starts_with(b"...");
        let ends = line.get(3).is_none_or(u8::is_ascii_whitespace);
        if marker && ends {
            chunks.push(Chunk {
                first_line: start_line,
                bytes: &bytes[start..offset],
            });
            // Content may follow on the marker's own line: blanks keep its column.
            (start, start_line) = (offset, line_number);
        }
        offset += line.len();
    }
    chunks.push(Chunk {
        first_line: start_line,
        bytes: &bytes[start..],
    });
    chunks
}

/// True if there is nothing but its marker, blanks and comments.
fn is_blank(bytes: &[u8]) -> bool {
    let body = bytes
        .strip_prefix(b"---")
        .or_else(|| bytes.strip_prefix(b"..."))
        .unwrap_or(bytes);
    body.split(|byte| *byte == b'\n').all(|line| {
        let line = line.trim_ascii();
        line.is_empty() || line.starts_with(b"#")
    })
}

fn file_error(file: &Arc<str>, line: u32, message: String, fix: String) -> SyntaxError {
    SyntaxError {
        problem: Problem::TooLarge,
        position: Position {
            file: Arc::clone(file),
            line,
            column: 1,
        },
        field: String::new(),
        snippet: None,
        message,
        fix,
        object: None,
    }
}

fn parse_document(file: &Arc<str>, chunk: &Chunk<'_>, parsed: &mut Parsed) {
    if chunk.bytes.len() > DOCUMENT_MAX {
        let length = chunk.bytes.len();
        let message = format!("the document has {length} bytes; at most {DOCUMENT_MAX} are read");
        let fix = "split it into several objects".to_owned();
        let error = file_error(file, chunk.first_line, message, fix);
        parsed.errors.push(error);
        return;
    }
    let text = match text_of(chunk.bytes) {
        Ok(text) => text,
        Err(not_text) => {
            parsed.errors.push(not_text.error(file, chunk));
            return;
        }
    };
    let source = Source {
        file: Arc::clone(file),
        first_line: chunk.first_line,
        text: text.into(),
    };
    match tree::read(text, chunk.first_line) {
        Ok(None) => {}
        Ok(Some(root)) => decode_document(&root, &source, parsed),
        Err(bad) => parsed.errors.push(bad_tree(bad, &source)),
    }
}

/// Why bytes are not text that can be read.
struct NotText<'a> {
    /// What stands before.
    valid: &'a [u8],
    message: &'static str,
    fix: &'static str,
}

/// The text of a document. YAML ends a line at a lone carriage return and most editors do not:
/// people and parser would mean different lines, so there may be none.
fn text_of(bytes: &[u8]) -> Result<&str, NotText<'_>> {
    let text = std::str::from_utf8(bytes).map_err(|error| NotText {
        valid: &bytes[..error.valid_up_to()],
        message: "not UTF-8 text",
        fix: "save the file as UTF-8; if it is no YAML file, take it out of the directory",
    })?;
    let mut returns = text.match_indices('\r');
    let lone = returns.find(|(at, _)| bytes.get(at + 1) != Some(&b'\n'));
    match lone {
        None => Ok(text),
        Some((at, _)) => Err(NotText {
            valid: &bytes[..at],
            message: "a carriage return without a line feed",
            fix: "save the file with LF or CR LF at the ends of lines",
        }),
    }
}

impl NotText<'_> {
    fn error(self, file: &Arc<str>, chunk: &Chunk<'_>) -> SyntaxError {
        let valid = String::from_utf8_lossy(self.valid);
        let lines = u32::try_from(valid.matches('\n').count()).unwrap_or(u32::MAX);
        let last = valid.rsplit('\n').next().unwrap_or_default();
        let column = u32::try_from(last.chars().count()).unwrap_or(u32::MAX);
        SyntaxError {
            problem: Problem::NotText,
            position: Position {
                file: Arc::clone(file),
                line: chunk.first_line.saturating_add(lines),
                column: column.saturating_add(1),
            },
            field: String::new(),
            snippet: None,
            message: self.message.to_owned(),
            fix: self.fix.to_owned(),
            object: None,
        }
    }
}

fn bad_tree(bad: BadTree, source: &Source) -> SyntaxError {
    let BadTree {
        problem,
        at,
        message,
        fix,
    } = bad;
    let report = Report {
        problem,
        at,
        field: String::new(),
        message,
        fix,
    };
    syntax_error(report, source, None)
}

fn syntax_error(report: Report, source: &Source, object: Option<ObjectKey>) -> SyntaxError {
    SyntaxError {
        problem: report.problem,
        position: source.at(report.at),
        field: report.field,
        snippet: source.line(report.at.0),
        message: report.message,
        fix: report.fix,
        object,
    }
}

/// A document is one object, or a `List` of them as Kubernetes prints it.
fn decode_document(root: &Node, source: &Source, parsed: &mut Parsed) {
    let is_list = root
        .get("kind")
        .is_some_and(|kind| matches!(&kind.value, Value::Text(text) if text == "List"));
    let mut decoder = Decoder::default();
    let before = parsed.errors.len();
    match root.get("items").map(|items| &items.value) {
        Some(Value::Sequence(items)) if is_list => {
            for item in items {
                decode_object(item, source, &mut decoder, parsed);
            }
        }
        _ => decode_object(root, source, &mut decoder, parsed),
    }
    parsed.errors[before..].sort_by(|a, b| a.position.cmp(&b.position));
    if decoder.problems > REPORTS_MAX {
        let more = decoder.problems - REPORTS_MAX;
        let message = format!("{more} more problems in this document");
        let fix = "correct the others first".to_owned();
        parsed
            .errors
            .push(file_error(&source.file, source.first_line, message, fix));
    }
}

fn decode_object(node: &Node, source: &Source, decoder: &mut Decoder, parsed: &mut Parsed) {
    let before = decoder.problems;
    if policy_test::is_test(node) {
        decode_test(node, source, decoder, parsed);
        return;
    }
    let decoded = object::decode(node, decoder);
    // An object with any error is not used: half of what somebody wrote is not what they meant.
    if let (Some(value), true) = (decoded.object, decoder.problems == before) {
        parsed.objects.push(Located {
            value,
            positions: Arc::new(node.positions()),
            source: source.clone(),
        });
    }
    for report in decoder.reports.drain(..) {
        let error = syntax_error(report, source, decoded.key.clone());
        parsed.errors.push(error);
    }
}

fn decode_test(node: &Node, source: &Source, decoder: &mut Decoder, parsed: &mut Parsed) {
    let before = decoder.problems;
    let decoded = policy_test::decode(node, decoder);
    if let (Some(value), true) = (decoded, decoder.problems == before) {
        parsed.tests.push(Located {
            value,
            positions: Arc::new(node.positions()),
            source: source.clone(),
        });
    }
    let reports = decoder.reports.drain(..);
    let errors = reports.map(|report| syntax_error(report, source, None));
    parsed.errors.extend(errors);
}

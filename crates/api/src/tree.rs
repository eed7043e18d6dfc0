//! One YAML document as a tree in which every node knows its position.

use std::collections::{BTreeMap, BTreeSet};

use granit_parser::{Event, Options, Parser, ScalarStyle, ScanError, Span};

use crate::decode::{push_index, push_key};
use crate::parse::Problem;
use crate::position::Positions;
use crate::values::quoted;

/// Deepest nesting: our kinds need about ten levels, and decoding recurses.
pub(crate) const DEPTH_MAX: usize = 40;

/// Most nodes of a document, aliases counted as often as they are used: more than a sensible
/// object has, and the memory that a small document can make us use stays bounded.
pub(crate) const NODES_MAX: usize = 100_000;

/// A value and where it is: a scalar where it begins, a collection where its key is.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) at: (u32, u32),
    pub(crate) value: Value,
}

#[derive(Clone, Debug)]
pub(crate) enum Value {
    Bool(bool),
    Mapping(Vec<Entry>),
    Null,
    /// As written: the type of the field decides how it is read.
    Number(String),
    Sequence(Vec<Node>),
    Text(String),
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) at: (u32, u32),
    pub(crate) key: String,
    pub(crate) value: Node,
}

/// Why a document is no tree.
#[derive(Debug)]
pub(crate) struct BadTree {
    pub(crate) problem: Problem,
    pub(crate) at: (u32, u32),
    pub(crate) message: String,
    pub(crate) fix: String,
}

impl Node {
    /// The value of `key`, if this is a mapping that has it.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        let Value::Mapping(entries) = &self.value else {
            return None;
        };
        entries
            .iter()
            .find(|entry| entry.key == key)
            .map(|entry| &entry.value)
    }

    /// True if it is this text.
    pub(crate) fn is_text(&self, wanted: &str) -> bool {
        matches!(&self.value, Value::Text(text) if text == wanted)
    }

    /// What it is, for messages.
    pub(crate) fn describe(&self) -> String {
        match &self.value {
            Value::Bool(value) => format!("{value}"),
            Value::Mapping(_) => "fields".to_owned(),
            Value::Null => "no value".to_owned(),
            Value::Number(number) => format!("the number {number}"),
            Value::Sequence(_) => "a list".to_owned(),
            Value::Text(text) => format!("the text {}", quoted(text)),
        }
    }

    /// The positions of all fields below this node.
    pub(crate) fn positions(&self) -> Positions {
        let mut positions = Positions::default();
        self.add_positions(&mut String::new(), &mut positions);
        positions
    }

    fn add_positions(&self, path: &mut String, positions: &mut Positions) {
        if !path.is_empty() {
            positions.0.insert(path.clone(), self.at);
        }
        let before = path.len();
        match &self.value {
            Value::Mapping(entries) => {
                for entry in entries {
                    push_key(path, &entry.key);
                    entry.value.add_positions(path, positions);
                    path.truncate(before);
                }
            }
            Value::Sequence(items) => {
                for (index, item) in items.iter().enumerate() {
                    push_index(path, index);
                    item.add_positions(path, positions);
                    path.truncate(before);
                }
            }
            Value::Bool(_) | Value::Null | Value::Number(_) | Value::Text(_) => {}
        }
    }
}

/// A collection that is not complete yet.
struct Open {
    at: (u32, u32),
    anchor: usize,
    /// Nodes in it so far.
    size: usize,
    contents: Contents,
}

enum Contents {
    Mapping {
        entries: Vec<Entry>,
        /// The keys of `entries`, so that a duplicate is found without a walk.
        keys: BTreeSet<String>,
        /// The key whose value comes next.
        key: Option<(String, (u32, u32))>,
    },
    Sequence(Vec<Node>),
}

/// Builds the tree from the parser's events.
struct Builder {
    first_line: u32,
    open: Vec<Open>,
    /// Nodes that have an anchor, with how many nodes they are.
    anchors: BTreeMap<usize, (Node, usize)>,
    /// Nodes made so far, copies included.
    made: usize,
    root: Option<Node>,
}

/// Reads one document. `first_line` is the line of the file on which `text` begins. `None` if
/// there is nothing but comments.
pub(crate) fn read(text: &str, first_line: u32) -> Result<Option<Node>, BadTree> {
    let mut options = Options::default();
    options.flow_nesting_limit = DEPTH_MAX;
    options.block_nesting_limit = DEPTH_MAX;
    options.disallow_directives = true;
    options.set_emit_comments(false);
    let mut builder = Builder {
        first_line,
        open: Vec::new(),
        anchors: BTreeMap::new(),
        made: 0,
        root: None,
    };
    for next in Parser::new_from_str_with_options(text, options) {
        let (event, span) = next.map_err(|error| scan_error(&error, first_line))?;
        builder.event(event, span)?;
    }
    Ok(builder.root)
}

fn scan_error(error: &ScanError, first_line: u32) -> BadTree {
    const NOTATION: &str = "correct the notation here, or in the line before";
    let (marker, info) = (error.marker(), error.info());
    let says = |part| info.contains(part);
    let (problem, fix) = if says("recursion limit") {
        (
            Problem::TooLarge,
            "no field of any kind is that deep; remove the nesting",
        )
    } else if says("unexpected character") {
        (
            Problem::NotText,
            "remove the character; if it is no YAML file, take it out",
        )
    } else if says("directives") {
        (Problem::NotYaml, "remove the line that begins with %")
    } else if says("tab") {
        (Problem::NotYaml, "indent with spaces")
    } else {
        (Problem::NotYaml, NOTATION)
    };
    let message = if problem == Problem::TooLarge {
        format!("nested deeper than {DEPTH_MAX} levels")
    } else {
        format!("not valid YAML: {info}")
    };
    BadTree {
        problem,
        at: place(first_line, marker.line(), marker.col()),
        message,
        fix: fix.to_owned(),
    }
}

/// The parser counts lines from 1 and columns from 0, both inside the document.
fn place(first_line: u32, line: usize, column: usize) -> (u32, u32) {
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let line = number(line.saturating_sub(1)).saturating_add(first_line);
    (line, number(column).saturating_add(1))
}

impl Builder {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the parser may learn new events; only those of nodes have a meaning here"
    )]
    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), BadTree> {
        let at = place(self.first_line, span.start.line(), span.start.col());
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                if tag.is_some() {
                    return Err(no_tags(at));
                }
                let value = scalar(&text, style);
                self.made(1, at)?;
                self.keep(Node { at, value }, 1, anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                let contents = Contents::Sequence(Vec::new());
                self.begin(at, anchor, tag.is_some(), contents)
            }
            Event::MappingStart(_, anchor, tag) => {
                let contents = Contents::Mapping {
                    entries: Vec::new(),
                    keys: BTreeSet::new(),
                    key: None,
                };
                self.begin(at, anchor, tag.is_some(), contents)
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(at),
            Event::Alias(anchor) => {
                let Some((node, size)) = self.anchors.get(&anchor).cloned() else {
                    let message = "an alias inside its own anchor".to_owned();
                    return Err(not_supported(at, message, "write the value out"));
                };
                self.made(size, at)?;
                self.keep(node, size, 0)
            }
            Event::DocumentStart(..) if self.root.is_some() => {
                let message = "more than one document between two `---` lines".to_owned();
                Err(not_supported(
                    at,
                    message,
                    "separate documents with a `---` line",
                ))
            }
            _ => Ok(()),
        }
    }

    fn begin(
        &mut self,
        at: (u32, u32),
        anchor: usize,
        tagged: bool,
        contents: Contents,
    ) -> Result<(), BadTree> {
        if tagged {
            return Err(no_tags(at));
        }
        if self.open.len() >= DEPTH_MAX {
            return Err(BadTree {
                problem: Problem::TooLarge,
                at,
                message: format!("nested deeper than {DEPTH_MAX} levels"),
                fix: "no field of any kind is that deep; remove the nesting".to_owned(),
            });
        }
        self.made(1, at)?;
        self.open.push(Open {
            at,
            anchor,
            size: 1,
            contents,
        });
        Ok(())
    }

    fn end(&mut self, at: (u32, u32)) -> Result<(), BadTree> {
        let Some(open) = self.open.pop() else {
            return Err(not_supported(
                at,
                "an end without a start".to_owned(),
                "remove it",
            ));
        };
        let value = match open.contents {
            Contents::Mapping { entries, .. } => Value::Mapping(entries),
            Contents::Sequence(items) => Value::Sequence(items),
        };
        let node = Node { at: open.at, value };
        self.keep(node, open.size, open.anchor)
    }

    /// Counts nodes against the limit.
    fn made(&mut self, nodes: usize, at: (u32, u32)) -> Result<(), BadTree> {
        self.made += nodes;
        if self.made <= NODES_MAX {
            return Ok(());
        }
        Err(BadTree {
            problem: Problem::TooLarge,
            at,
            message: format!("more than {NODES_MAX} values in one document"),
            fix: "split it into several documents, and write aliases out".to_owned(),
        })
    }

    /// Puts a complete node where it belongs.
    fn keep(&mut self, mut node: Node, size: usize, anchor: usize) -> Result<(), BadTree> {
        if anchor != 0 {
            self.made(size, node.at)?;
            self.anchors.insert(anchor, (node.clone(), size));
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node).filter(|node| !matches!(node.value, Value::Null));
            return Ok(());
        };
        open.size += size;
        match &mut open.contents {
            Contents::Sequence(items) => items.push(node),
            Contents::Mapping { entries, keys, key } => match key.take() {
                None => *key = Some((key_text(&node)?, node.at)),
                Some((key, at)) => {
                    if !keys.insert(key.clone()) {
                        return Err(duplicate(&key, at));
                    }
                    if matches!(
                        node.value,
                        Value::Mapping(_) | Value::Sequence(_) | Value::Null
                    ) {
                        node.at = at;
                    }
                    entries.push(Entry {
                        at,
                        key,
                        value: node,
                    });
                }
            },
        }
        Ok(())
    }
}

fn key_text(node: &Node) -> Result<String, BadTree> {
    match &node.value {
        Value::Text(text) | Value::Number(text) => Ok(text.clone()),
        Value::Bool(value) => Ok(value.to_string()),
        Value::Mapping(_) | Value::Null | Value::Sequence(_) => {
            let message = format!("a key must be text, found {}", node.describe());
            Err(not_supported(node.at, message, "write a field name"))
        }
    }
}

fn duplicate(key: &str, at: (u32, u32)) -> BadTree {
    BadTree {
        problem: Problem::DuplicateKey,
        at,
        message: format!("{} is written twice", quoted(key)),
        fix: "keep one of them".to_owned(),
    }
}

fn no_tags(at: (u32, u32)) -> BadTree {
    let message = "YAML tags are not supported".to_owned();
    not_supported(
        at,
        message,
        "remove the tag; put text that looks like a number in quotes",
    )
}

fn not_supported(at: (u32, u32), message: String, fix: &str) -> BadTree {
    BadTree {
        problem: Problem::NotYaml,
        at,
        message,
        fix: fix.to_owned(),
    }
}

/// The core schema of YAML 1.2: `yes`, `no`, `on` and `off` are text.
fn scalar(text: &str, style: ScalarStyle) -> Value {
    if style != ScalarStyle::Plain {
        return Value::Text(text.to_owned());
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ if is_number(text) => Value::Number(text.to_owned()),
        _ => Value::Text(text.to_owned()),
    }
}

/// Whole numbers, `0x` and `0o` numbers, and decimals with exponents, infinities included.
pub(crate) fn is_number(text: &str) -> bool {
    let all = |digits: &str, ok: fn(&u8) -> bool| {
        !digits.is_empty() && digits.bytes().all(|byte| ok(&byte))
    };
    if let Some(digits) = text.strip_prefix("0x") {
        return all(digits, u8::is_ascii_hexdigit);
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return all(digits, |byte| (b'0'..=b'7').contains(byte));
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    match unsigned {
        ".inf" | ".Inf" | ".INF" => true,
        ".nan" | ".NaN" | ".NAN" => unsigned == text,
        _ => {
            // Rust's own notation is the same but for its words, which have no digit first.
            let first = unsigned.trim_start_matches('.').bytes().next();
            first.is_some_and(|byte| byte.is_ascii_digit()) && unsigned.parse::<f64>().is_ok()
        }
    }
}

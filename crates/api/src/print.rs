//! Prints objects as YAML or JSON that reads back to the same object.

use serde_json::{Map, Value};

use crate::object::Object;
use crate::tree::is_number;

/// The object as JSON.
///
/// # Errors
///
/// None of our types makes one.
pub fn to_json(object: &Object) -> Result<Value, serde_json::Error> {
    let kind = object.kind();
    let mut map = Map::new();
    map.insert("apiVersion".to_owned(), kind.api_version().into());
    map.insert("kind".to_owned(), kind.as_str().into());
    map.insert(
        "metadata".to_owned(),
        serde_json::to_value(object.metadata())?,
    );
    map.insert("spec".to_owned(), object.spec_json()?);
    Ok(Value::Object(map))
}

/// The object as one YAML document, without `---`, ending in a line feed.
///
/// # Errors
///
/// None of our types makes one.
pub fn to_yaml(object: &Object) -> Result<String, serde_json::Error> {
    Ok(yaml(&to_json(object)?))
}

/// Any JSON value as indented JSON text that every YAML reader takes, too: characters that YAML
/// calls not printable are escaped.
#[must_use]
pub fn json(value: &Value) -> String {
    let mut out = String::new();
    for c in format!("{value:#}").chars() {
        // Such a character is always inside a string; JSON escapes line feeds there itself.
        if c != '\n' && !is_printable(c) {
            out.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            out.push(c);
        }
    }
    out
}

/// False for controls, line separators, the byte order mark, and what is no character: none of
/// them is above U+FFFF.
fn is_printable(c: char) -> bool {
    let separator = matches!(
        c,
        '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}'
    );
    !c.is_control() && !separator
}

/// Any JSON value as YAML in block style, ending in a line feed.
#[must_use]
pub fn yaml(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => mapping(map, 0, &mut out),
        Value::Array(items) if !items.is_empty() => sequence(items, 0, &mut out),
        Value::Array(_)
        | Value::Bool(_)
        | Value::Null
        | Value::Number(_)
        | Value::Object(_)
        | Value::String(_) => {
            out.push_str(&scalar(value));
            out.push('\n');
        }
    }
    out
}

/// Writes the entries of a mapping; the first line begins where `out` ends.
fn mapping(map: &Map<String, Value>, indent: usize, out: &mut String) {
    for (index, (key, value)) in map.iter().enumerate() {
        if index > 0 {
            out.push_str(&" ".repeat(indent));
        }
        out.push_str(&text(key));
        out.push(':');
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                out.push('\n');
                out.push_str(&" ".repeat(indent + 2));
                mapping(inner, indent + 2, out);
            }
            Value::Array(items) if !items.is_empty() => {
                out.push('\n');
                out.push_str(&" ".repeat(indent));
                sequence(items, indent, out);
            }
            Value::Array(_)
            | Value::Bool(_)
            | Value::Null
            | Value::Number(_)
            | Value::Object(_)
            | Value::String(_) => {
                out.push(' ');
                out.push_str(&scalar_at(value, indent + 2));
                out.push('\n');
            }
        }
    }
}

/// Writes the items of a list; the first line begins where `out` ends.
fn sequence(items: &[Value], indent: usize, out: &mut String) {
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push_str(&" ".repeat(indent));
        }
        out.push_str("- ");
        match item {
            Value::Object(inner) if !inner.is_empty() => mapping(inner, indent + 2, out),
            Value::Array(inner) if !inner.is_empty() => sequence(inner, indent + 2, out),
            Value::Array(_)
            | Value::Bool(_)
            | Value::Null
            | Value::Number(_)
            | Value::Object(_)
            | Value::String(_) => {
                out.push_str(&scalar_at(item, indent + 2));
                out.push('\n');
            }
        }
    }
}

/// A scalar whose further lines, if it has any, stand at `indent`.
fn scalar_at(value: &Value, indent: usize) -> String {
    match value {
        Value::String(string) if is_block(string) => {
            let margin = format!("\n{}", " ".repeat(indent));
            let lines = string.lines().map(|line| format!("{margin}{line}"));
            format!("|-{}", lines.collect::<String>())
        }
        Value::Array(_)
        | Value::Bool(_)
        | Value::Null
        | Value::Number(_)
        | Value::Object(_)
        | Value::String(_) => scalar(value),
    }
}

/// True for several lines that no reader takes otherwise than they stand there.
fn is_block(string: &str) -> bool {
    let plain = |line: &str| line.trim() == line && !line.is_empty();
    let lines = string.split('\n');
    string.contains('\n')
        && lines.clone().all(plain)
        && string.chars().all(|c| c == '\n' || is_printable(c))
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(string) => text(string),
        // Empty here: the callers write the others.
        Value::Array(_) => "[]".to_owned(),
        Value::Object(_) => "{}".to_owned(),
        Value::Bool(_) | Value::Null | Value::Number(_) => value.to_string(),
    }
}

/// A text, in double quotes unless every YAML reader takes it for the same text without.
fn text(string: &str) -> String {
    // Words that YAML 1.1 or 1.2 readers take for something else.
    const WORDS: &[&str] = &["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let first = |c: char| c.is_ascii_alphanumeric() || c == '/' || c == '_';
    let later = |c: char| first(c) || matches!(c, '-' | '.' | '/' | '+');
    let plain = string.starts_with(first)
        && string.chars().all(later)
        && !WORDS.contains(&string.to_ascii_lowercase().as_str())
        && !is_number(string)
        // Dates and the like of YAML 1.1 begin with a digit and have only these characters.
        && string.contains(|c: char| c.is_ascii_alphabetic());
    if plain {
        return string.to_owned();
    }
    double_quoted(string)
}

/// Double quotes with the escapes that YAML and JSON share.
fn double_quoted(string: &str) -> String {
    let mut out = String::with_capacity(string.len() + 2);
    out.push('"');
    for c in string.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if !is_printable(c) => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

//! The one place that prints: data on standard output, words about it on standard error.

use std::io::{self, Write};

use crate::args::Format;
use crate::failure::Failure;

/// Data: may be piped into another program.
pub(crate) fn data(text: &str) {
    // A closed pipe (`tacit get | head`) is the reader's choice, not an error.
    let _ = writeln!(io::stdout().lock(), "{}", text.trim_end_matches('\n'));
}

/// Progress and hints.
pub(crate) fn note(text: &str) {
    // As for data.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// What went wrong.
pub(crate) fn complain(text: &str) {
    // As for data.
    let _ = writeln!(io::stderr().lock(), "tacit: {text}");
}

/// A value as JSON, indented.
pub(crate) fn json(value: &impl serde::Serialize) -> Result<String, Failure> {
    serde_json::to_string_pretty(value)
        .map_err(|e| Failure::Failed(format!("the answer cannot be shown as JSON: {e}")))
}

/// A value as YAML.
pub(crate) fn yaml(value: &impl serde::Serialize) -> Result<String, Failure> {
    let value = serde_json::to_value(value)
        .map_err(|e| Failure::Failed(format!("the answer cannot be shown as YAML: {e}")))?;
    Ok(tacit_api::print::yaml(&value))
}

/// A value as the format says; the table is made only if it is wanted.
pub(crate) fn formatted(
    format: Format,
    value: &impl serde::Serialize,
    table: impl FnOnce() -> String,
) -> Result<String, Failure> {
    match format {
        Format::Json => json(value),
        Format::Table => Ok(table()),
        Format::Yaml => yaml(value),
    }
}

/// Rows under their headings, columns as wide as needed.
pub(crate) fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = headings.iter().map(|h| h.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> = cells
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        padded.join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(&mut headings.iter().copied())];
    lines.extend(
        rows.iter()
            .map(|row| line(&mut row.iter().map(String::as_str))),
    );
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align() {
        let rows = vec![
            vec!["a".into(), "long".into()],
            vec!["wide".into(), String::new()],
        ];
        assert_eq!(table(&["X", "Y"], &rows), "X     Y\na     long\nwide");
    }
}

//! The one place that prints: data on standard output, words about it on standard error.
#![expect(clippy::print_stderr, reason = "the command line speaks here")]

use std::io::{self, Write};

use crate::failure::Failure;

/// Data: may be piped into another program.
pub(crate) fn data(text: &str) {
    // A closed pipe (`tacit get | head`) is the reader's choice, not an error.
    let _ = writeln!(io::stdout().lock(), "{}", text.trim_end_matches('\n'));
}

/// Progress and hints.
pub(crate) fn note(text: &str) {
    eprintln!("{text}");
}

/// What went wrong.
pub(crate) fn complain(text: &str) {
    eprintln!("tacit: {text}");
}

/// A value as JSON, indented.
pub(crate) fn json(value: &impl serde::Serialize) -> Result<String, Failure> {
    serde_json::to_string_pretty(value)
        .map_err(|e| Failure::Failed(format!("the answer cannot be shown as JSON: {e}")))
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

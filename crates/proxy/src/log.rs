//! Plain lines on standard error about the node itself: time, level, place, text.

use std::fmt::{self, Write as _};
use std::io::Write as _;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// What happened, as expected.
pub(crate) fn info(at: &str, text: impl fmt::Display) {
    line("info", at, &text);
}

/// Something is not as it should be; the node goes on.
pub(crate) fn warn(at: &str, text: impl fmt::Display) {
    line("warn", at, &text);
}

fn line(level: &str, at: &str, text: &dyn fmt::Display) {
    let now = OffsetDateTime::now_utc();
    let millis = u32::from(now.millisecond()) * 1_000_000;
    let time = now.replace_nanosecond(millis).unwrap_or(now);
    let time = time.format(&Rfc3339).unwrap_or_default();
    let text = printable(&text.to_string());
    // A broken standard error must not end the data plane; there is nowhere else to say it.
    let _ = writeln!(std::io::stderr().lock(), "{time} {level} {at}: {text}");
}

/// A peer's words may be in a text; control characters must not reach a terminal.
fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            let _ = write!(out, "{}", c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(printable("a\u{1b}[31mb\nc"), "a\\u{1b}[31mb\\nc");
        assert_eq!(printable("grün"), "grün");
    }
}

//! The one canonical form of a request path.
//!
//! Rules about paths are matched against this form, and it is what is forwarded, so that no two
//! readings of one path exist. What it means:
//!
//! * Escapes of letters, digits, `-._~` and `!$&'()*,:=@` are decoded. `%2F` is a slash. Other
//!   escapes stay, in upper case; `;` and `+` stay as they were written, since servers tell them
//!   from their escapes.
//! * Characters that may not stand in a path are escaped.
//! * Runs of slashes are one slash; `.` and `..` are removed, escaped or not.
//! * Refused: an invalid escape, NUL, a backslash or its escape, control characters, `?` and `#`,
//!   and a path that does not begin with a slash.

use std::fmt;

/// Why a path has no canonical form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathError {
    /// A backslash or its escape, which some servers take for a slash.
    Backslash,
    /// A control character, `?` or `#`.
    Character,
    /// A percent sign without two hexadecimal digits.
    Escape,
    /// A NUL byte or its escape.
    Nul,
    /// It does not begin with a slash.
    Relative,
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Backslash => "it has a backslash",
            Self::Character => "it has a character that cannot stand in a path",
            Self::Escape => "it has a percent sign without two hexadecimal digits",
            Self::Nul => "it has a NUL",
            Self::Relative => "it does not begin with a slash",
        })
    }
}

impl std::error::Error for PathError {}

/// The canonical form of a path without query. `canonical(canonical(p)) == canonical(p)`.
pub fn canonical(path: &str) -> Result<String, PathError> {
    if !path.starts_with('/') {
        return Err(PathError::Relative);
    }
    Ok(remove_dot_segments(&decode(path.as_bytes())?))
}

/// Decodes and encodes byte by byte. The result is ASCII.
fn decode(path: &[u8]) -> Result<String, PathError> {
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            push_raw(&mut out, *first)?;
            continue;
        }
        let [high, low, tail @ ..] = rest else {
            return Err(PathError::Escape);
        };
        rest = tail;
        let (Some(high), Some(low)) = (hex(*high), hex(*low)) else {
            return Err(PathError::Escape);
        };
        match high * 16 + low {
            0 => return Err(PathError::Nul),
            b'\\' => return Err(PathError::Backslash),
            byte if byte == b'/' || is_decoded(byte) => out.push(char::from(byte)),
            byte => push_escape(&mut out, byte),
        }
    }
    Ok(out)
}

fn push_raw(out: &mut String, byte: u8) -> Result<(), PathError> {
    match byte {
        0 => return Err(PathError::Nul),
        b'\\' => return Err(PathError::Backslash),
        0x01..=0x1f | 0x7f | b'?' | b'#' => return Err(PathError::Character),
        b'/' | b';' | b'+' => out.push(char::from(byte)),
        byte if is_decoded(byte) => out.push(char::from(byte)),
        byte => push_escape(out, byte),
    }
    Ok(())
}

/// Bytes whose escape means the same as the byte.
fn is_decoded(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*,:=@".contains(&byte)
}

fn push_escape(out: &mut String, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.push('%');
    out.push(char::from(DIGITS[usize::from(byte >> 4)]));
    out.push(char::from(DIGITS[usize::from(byte & 15)]));
}

/// The byte that two hexadecimal digits stand for.
pub(crate) fn byte(high: u8, low: u8) -> Option<u8> {
    Some(hex(high)? * 16 + hex(low)?)
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// Removes empty, `.` and `..` segments; a path that ended in one of them ends in a slash.
fn remove_dot_segments(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut ends_in_slash = true;
    for segment in path.split('/').skip(1) {
        ends_in_slash = matches!(segment, "" | "." | "..");
        match segment {
            "" | "." => {}
            ".." => drop(kept.pop()),
            segment => kept.push(segment),
        }
    }
    let mut out = String::with_capacity(path.len());
    for segment in &kept {
        out.push('/');
        out.push_str(segment);
    }
    if ends_in_slash {
        out.push('/');
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_meaning() {
        let good = [
            ("/", "/"),
            ("//", "/"),
            ("/a//b", "/a/b"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/../../b", "/b"),
            ("/a/..", "/"),
            ("/a/b/..", "/a/"),
            ("/a/b/.", "/a/b/"),
            ("/a/", "/a/"),
            ("/%61", "/a"),
            ("/%2e%2E/b", "/b"),
            ("/a/%2e%2e%2fb", "/b"),
            ("/a%2fb", "/a/b"),
            ("/a%2F%2Fb", "/a/b"),
            ("/%252e%252e/b", "/%252e%252e/b"),
            ("/v1/x%3adelete", "/v1/x:delete"),
            ("/a%3Bb;c", "/a%3Bb;c"),
            ("/a%2bb+c", "/a%2Bb+c"),
            ("/é", "/%C3%A9"),
            ("/%c3%a9", "/%C3%A9"),
            ("/a b", "/a%20b"),
            ("/...", "/..."),
        ];
        for (given, expected) in good {
            assert_eq!(canonical(given).as_deref(), Ok(expected), "{given:?}");
        }
    }

    #[test]
    fn refused() {
        let bad = [
            ("", PathError::Relative),
            ("a", PathError::Relative),
            ("*", PathError::Relative),
            ("/%", PathError::Escape),
            ("/%4", PathError::Escape),
            ("/%zz", PathError::Escape),
            ("/%00", PathError::Nul),
            ("/\0", PathError::Nul),
            ("/a\\b", PathError::Backslash),
            ("/a%5cb", PathError::Backslash),
            ("/a#b", PathError::Character),
            ("/a?b", PathError::Character),
            ("/a\nb", PathError::Character),
        ];
        for (given, expected) in bad {
            assert_eq!(canonical(given), Err(expected), "{given:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]
        #[test]
        fn canonical_is_a_fixed_point(path in "/(\\PC|%[0-9a-fA-F]{2}|[./%;+]){0,24}") {
            if let Ok(once) = canonical(&path) {
                prop_assert_eq!(canonical(&once), Ok(once.clone()));
                prop_assert!(once.starts_with('/') && !once.contains("//"));
                prop_assert!(!once.split('/').any(|s| s == "." || s == ".."));
                prop_assert!(once.is_ascii());
            }
        }
    }
}

//! PEM text of certificates and keys, as files of people hold them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Characters of a line (RFC 7468).
const LINE: usize = 64;

/// Each DER as one block.
pub fn encode(label: &str, ders: &[Vec<u8>]) -> String {
    let mut text = String::new();
    for der in ders {
        text.push_str(&format!("-----BEGIN {label}-----\n"));
        let body = STANDARD.encode(der);
        let mut rest = body.as_str();
        while !rest.is_empty() {
            let (line, after) = rest.split_at(rest.len().min(LINE));
            text.push_str(line);
            text.push('\n');
            rest = after;
        }
        text.push_str(&format!("-----END {label}-----\n"));
    }
    text
}

/// The DER of each block with this label. The error is for people.
pub fn decode(label: &str, text: &str) -> Result<Vec<Vec<u8>>, String> {
    let (begin, end) = (
        format!("-----BEGIN {label}-----"),
        format!("-----END {label}-----"),
    );
    let mut ders = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once(&begin) {
        let (body, after) = after
            .split_once(&end)
            .ok_or_else(|| format!("a {label} block has no end"))?;
        let body: String = body.split_whitespace().collect();
        ders.push(
            STANDARD
                .decode(body)
                .map_err(|error| format!("a {label} block: {error}"))?,
        );
        rest = after;
    }
    Ok(ders)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_come_back() {
        let ders = vec![(0..=255).collect::<Vec<u8>>(), vec![1, 2, 3]];
        let text = encode("CERTIFICATE", &ders);
        assert!(text.lines().all(|line| line.len() <= 64));
        assert_eq!(decode("CERTIFICATE", &text).unwrap(), ders);
        assert_eq!(decode("PRIVATE KEY", &text).unwrap(), Vec::<Vec<u8>>::new());
        assert!(decode("CERTIFICATE", "-----BEGIN CERTIFICATE-----\n????\n").is_err());
    }
}

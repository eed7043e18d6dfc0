//! The caller's own deadline, from its headers, honoured and passed on.

use std::time::Duration;

use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::headers::REQUEST_TIMEOUT;

const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// Most digits that gRPC allows; also bounds our own form.
const MOST_DIGITS: usize = 8;

/// How long the caller waits at most, if it says so in a way that can be read. The shorter of
/// `grpc-timeout` and `x-request-timeout` counts.
pub(crate) fn of_caller(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let grpc = text(GRPC_TIMEOUT).and_then(grpc);
    let own = text(REQUEST_TIMEOUT).and_then(duration);
    match (grpc, own) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// Tells the callee how much of the caller's own deadline is left. Adds nothing that the caller
/// did not say.
pub(crate) fn pass_on(headers: &mut HeaderMap, left: Duration) {
    let ms = left.as_millis().clamp(1, 99_999_999);
    for (name, unit) in [(GRPC_TIMEOUT, "m"), (REQUEST_TIMEOUT, "ms")] {
        if headers.contains_key(&name)
            && let Ok(value) = HeaderValue::try_from(format!("{ms}{unit}"))
        {
            headers.insert(name, value);
        }
    }
}

/// `grpc-timeout`: at most 8 digits and one unit of `H M S m u n`.
fn grpc(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

/// A Gateway API duration (GEP-2257): one to four groups of digits with a unit `h m s ms`.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut sum = Duration::ZERO;
    for _ in 0..4 {
        let end = rest.find(|c: char| !c.is_ascii_digit())?;
        let unit_end = rest[end..].find(|c: char| c.is_ascii_digit());
        let (group, after) = rest.split_at(unit_end.map_or(rest.len(), |at| end + at));
        let (number, unit) = split(group)?;
        sum += match unit {
            "h" => Duration::from_secs(number * 3600),
            "m" => Duration::from_secs(number * 60),
            "s" => Duration::from_secs(number),
            "ms" => Duration::from_millis(number),
            _ => return None,
        };
        rest = after;
        if rest.is_empty() {
            return Some(sum);
        }
    }
    None
}

fn split(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let number = text[..end].parse().ok()?;
    (end <= MOST_DIGITS).then(|| (number, &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms() {
        let ms = |n| Some(Duration::from_millis(n));
        for (text, expected) in [
            ("5S", ms(5000)),
            ("250m", ms(250)),
            ("1H", ms(3_600_000)),
            ("123456789m", None),
            ("5", None),
            ("m", None),
            ("5s", None),
            ("-5S", None),
        ] {
            assert_eq!(grpc(text), expected, "{text}");
        }
        for (text, expected) in [
            ("5s", ms(5000)),
            ("1m30s", ms(90_000)),
            ("250ms", ms(250)),
            ("1h1m1s1ms", ms(3_661_001)),
            ("5", None),
            ("", None),
            ("5s 6s", None),
            ("1s1s1s1s1s", None),
        ] {
            assert_eq!(duration(text), expected, "{text}");
        }
    }

    #[test]
    fn the_shorter_counts_and_the_rest_is_passed_on() {
        let mut headers = HeaderMap::new();
        assert_eq!(of_caller(&headers), None);
        headers.insert(REQUEST_TIMEOUT, HeaderValue::from_static("2s"));
        headers.insert(GRPC_TIMEOUT, HeaderValue::from_static("900m"));
        assert_eq!(of_caller(&headers), Some(Duration::from_millis(900)));
        pass_on(&mut headers, Duration::from_millis(450));
        assert_eq!(headers[REQUEST_TIMEOUT], "450ms");
        assert_eq!(headers[GRPC_TIMEOUT], "450m");
        let mut none = HeaderMap::new();
        pass_on(&mut none, Duration::from_secs(1));
        assert!(none.is_empty());
    }
}

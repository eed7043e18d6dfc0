//! Values with a notation of their own: durations, sizes, times, ports by number or name.

use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Why a text is not a value of this notation, and what to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadText {
    /// What is wrong, without a full stop.
    pub message: String,
    /// What to write.
    pub fix: &'static str,
}

macro_rules! text_value {
    ($(#[$doc:meta])* $name:ident, $value:ty, $get:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name {
            text: String,
            value: $value,
        }

        impl $name {
            /// As it was written.
            #[must_use]
            pub fn text(&self) -> &str {
                &self.text
            }

            /// What it means.
            #[must_use]
            pub fn $get(&self) -> $value {
                self.value
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.text)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.text)
            }
        }
    };
}

text_value!(
    /// A duration as GEP-2257 has it: one to four of `h m s ms` with up to five digits each,
    /// for example `600ms` or `1m30s`.
    DurationText, Duration, duration
);
text_value!(
    /// A size in bytes, plain or with `K M G Ki Mi Gi`, for example `64Ki`.
    SizeText, u64, bytes
);
text_value!(
    /// A time as RFC 3339 has it, for example `2027-01-31T00:00:00Z`.
    TimeText, i64, unix_seconds
);

impl TryFrom<&str> for DurationText {
    type Error = BadText;

    fn try_from(text: &str) -> Result<Self, BadText> {
        let value = duration(text).ok_or_else(|| BadText {
            message: format!("{} is not a duration", quoted(text)),
            fix: "write whole numbers with h, m, s or ms, for example 600ms or 1m30s",
        })?;
        Ok(Self {
            text: text.to_owned(),
            value,
        })
    }
}

/// Up to four parts, each of up to five digits and a unit; GEP-2257 lets units come in any order.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    let mut parts = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        parts += 1;
        if parts > 4 || !(1..=5).contains(&digits) {
            return None;
        }
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        // `ms` first: `m` is its prefix.
        let units = [("ms", 1), ("h", 3_600_000), ("m", 60_000), ("s", 1000)];
        let (unit, milliseconds) = units.into_iter().find(|(unit, _)| rest.starts_with(unit))?;
        total += Duration::from_millis(number * milliseconds);
        rest = &rest[unit.len()..];
    }
    (parts > 0).then_some(total)
}

impl TryFrom<&str> for SizeText {
    type Error = BadText;

    fn try_from(text: &str) -> Result<Self, BadText> {
        let value = size(text).ok_or_else(|| BadText {
            message: format!("{} is not a size", quoted(text)),
            fix: "write a whole number of bytes, with K, M, G, Ki, Mi or Gi if you like: 64Ki",
        })?;
        Ok(Self {
            text: text.to_owned(),
            value,
        })
    }
}

fn size(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text[..digits].parse().ok()?;
    let factor: u64 = match &text[digits..] {
        "" => 1,
        "K" => 1000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(factor)
}

impl TryFrom<&str> for TimeText {
    type Error = BadText;

    fn try_from(text: &str) -> Result<Self, BadText> {
        let time = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| BadText {
            message: format!("{} is not a time", quoted(text)),
            fix: "write date, time and zone as RFC 3339 has them, for example 2027-01-31T00:00:00Z",
        })?;
        Ok(Self {
            text: text.to_owned(),
            value: time.unix_timestamp(),
        })
    }
}

/// A port of a workload, by number or by name (Kubernetes' `IntOrString`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum PortRef {
    /// 1-65535.
    Number(u16),
    /// The name of a port of the workload.
    Name(String),
}

/// A text in quotes, shortened so that a message stays readable.
pub(crate) fn quoted(text: &str) -> String {
    const MAX: usize = 60;
    let short: String = text.chars().take(MAX).collect();
    let dots = if short.len() < text.len() { "…" } else { "" };
    format!("{short:?}{dots}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, milliseconds) in [
            ("600ms", Some(600)),
            ("1m30s", Some(90_000)),
            ("0s", Some(0)),
            ("1h", Some(3_600_000)),
            ("1h1m1s1ms", Some(3_661_001)),
            ("99999h", Some(99_999 * 3_600_000)),
            ("", None),
            ("5", None),
            ("s", None),
            ("1.5s", None),
            ("-1s", None),
            ("1d", None),
            ("1 s", None),
            ("1S", None),
            ("123456s", None),
            ("1s1s1s1s1s", None),
            ("1s٣", None),
        ] {
            let parsed = DurationText::try_from(text).ok();
            let expected = milliseconds.map(Duration::from_millis);
            assert_eq!(parsed.map(|d| d.duration()), expected, "{text:?}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", Some(0)),
            ("64Ki", Some(65_536)),
            ("1M", Some(1_000_000)),
            ("1Gi", Some(1 << 30)),
            ("", None),
            ("Ki", None),
            ("1.5Ki", None),
            ("1k", None),
            ("-1", None),
            ("99999999999999999Gi", None),
        ] {
            let parsed = SizeText::try_from(text).ok();
            assert_eq!(parsed.map(|s| s.bytes()), bytes, "{text:?}");
        }
    }

    #[test]
    fn times() {
        for (text, seconds) in [
            ("1970-01-01T00:00:10Z", Some(10)),
            ("1970-01-01T01:00:10+01:00", Some(10)),
            ("2027-01-31T00:00:00Z", Some(1_801_353_600)),
            ("2027-01-31", None),
            ("tomorrow", None),
            ("2027-02-30T00:00:00Z", None),
        ] {
            let parsed = TimeText::try_from(text).ok();
            assert_eq!(parsed.map(|t| t.unix_seconds()), seconds, "{text:?}");
        }
    }
}

//! What the load generator prints: one JSON object per line.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One line of output.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Line {
    /// A command that was not understood.
    Complaint(String),
    /// What ended since the last live line.
    Live(Live),
    /// A whole phase.
    Report(Report),
}

/// What ended since the last live line.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Live {
    pub phase: String,
    pub ok: u64,
    pub failed: u64,
    pub cut: u64,
    /// Good answers by the zone that gave them.
    pub zones: BTreeMap<String, u64>,
    /// Milliseconds that the slowest took.
    pub slowest_ms: u64,
}

/// A phase: every request that started in it, each with exactly one ending.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    pub phase: String,
    /// Milliseconds since 1970 at its start.
    pub started_unix_ms: u64,
    pub seconds: f64,
    /// By method.
    pub methods: BTreeMap<String, Tally>,
    /// By the zone that answered well.
    pub zones: BTreeMap<String, Share>,
    pub latency: Latency,
    /// Requests that started more than 100 ms later than the rate wanted.
    pub late: u64,
    /// Requests without an ending when the report was made; 0 unless something is broken.
    pub unfinished: u64,
    /// The first failures, at most [`MAX_FAILURES`].
    pub failures: Vec<Failed>,
}

/// Failures that a report lists one by one.
pub const MAX_FAILURES: usize = 200;

/// Endings of the requests of one method.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tally {
    /// All that ended.
    pub sent: u64,
    /// Answered 2xx, whole, with the request's own id.
    pub ok: u64,
    /// Whole answers by status, 2xx among them.
    pub status: BTreeMap<u16, u64>,
    /// Not connected.
    pub connect: u64,
    /// Given up before an answer began.
    pub timeout: u64,
    /// Broken before an answer began.
    pub reset: u64,
    /// The answer began and did not end.
    pub cut: u64,
    /// Answered with another request's id.
    pub mismatched: u64,
}

impl Tally {
    /// Requests that failed before a good answer began: neither good nor cut midway.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.sent - self.ok - self.cut
    }

    /// Share of good answers, in percent; 0 without requests.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
    pub fn success_percent(&self) -> f64 {
        if self.sent == 0 {
            return 0.0;
        }
        self.ok as f64 * 100.0 / self.sent as f64
    }
}

/// What one zone served.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Share {
    pub ok: u64,
    /// When its first and last good answer ended, in milliseconds since 1970.
    pub first_unix_ms: u64,
    pub last_unix_ms: u64,
}

/// Milliseconds until the end of the answer, good answers only.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Latency {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub max: f64,
}

/// One failure.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failed {
    pub id: String,
    pub method: String,
    pub started_unix_ms: u64,
    pub after_ms: u64,
    pub how: How,
}

/// How one request ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum How {
    Good { zone: Option<String> },
    Status(u16),
    Connect,
    Timeout,
    Reset,
    Cut,
    Mismatched,
}

impl Report {
    /// Endings of one method; zeros when there were none.
    #[must_use]
    pub fn method(&self, method: &str) -> Tally {
        self.methods.get(method).cloned().unwrap_or_default()
    }

    /// Good answers of a zone.
    #[must_use]
    pub fn zone(&self, zone: &str) -> u64 {
        self.zones.get(zone).map_or(0, |share| share.ok)
    }
}

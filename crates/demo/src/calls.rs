//! Calls as a node's access log tells them, for what the load generator cannot see.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// One line of an access log: a request that has ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Call {
    /// True at the caller's node (a request), false at the callee's (a try).
    pub(crate) at_source: bool,
    /// Milliseconds since 1970.
    pub(crate) started: f64,
    pub(crate) ended: f64,
    /// The zone that served, or that was tried last.
    pub(crate) zone: Option<String>,
    /// How many tries were made (source), or which one this is (destination).
    pub(crate) tries: u32,
    pub(crate) method: String,
    /// How it ended: `complete`, or what went wrong and why.
    pub(crate) ending: String,
    /// The caller's verified identity.
    pub(crate) identity: Option<String>,
}

impl Call {
    pub(crate) fn is_complete(&self) -> bool {
        self.ending == "complete"
    }
}

#[derive(Deserialize)]
struct Line {
    time: String,
    reporter: String,
    kind: String,
    source: Party,
    destination: Party,
    service: Option<String>,
    method: Option<String>,
    tries: Option<u32>,
    duration_ms: f64,
    ending: String,
    reason: Option<String>,
}

#[derive(Deserialize)]
struct Party {
    identity: Option<String>,
    locality: Option<String>,
}

/// Reads the requests to `service` (`NAME.NAMESPACE`) that started at `since` or later, in
/// milliseconds since 1970.
pub(crate) fn read(log: &Path, service: &str, since: f64) -> io::Result<Vec<Call>> {
    let mut calls = Vec::new();
    for line in BufReader::new(File::open(log)?).lines() {
        let line = line?;
        let call = parse(&line, service).map_err(|e| unreadable(log, &line, &e))?;
        calls.extend(call.filter(|call| call.started >= since));
    }
    Ok(calls)
}

fn unreadable(log: &Path, line: &str, why: &str) -> io::Error {
    let text = format!("{}: {line}: {why}", log.display());
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// Follows an access log from where it ends now.
pub(crate) struct Tail {
    log: PathBuf,
    file: File,
    /// The beginning of a line whose end has not been written yet.
    rest: String,
}

impl Tail {
    pub(crate) fn open(log: PathBuf) -> io::Result<Self> {
        let mut file = File::open(&log)?;
        file.seek(SeekFrom::End(0))?;
        let rest = String::new();
        Ok(Self { log, file, rest })
    }

    /// Requests to `service` that have been written since the last call.
    pub(crate) fn more(&mut self, service: &str) -> io::Result<Vec<Call>> {
        self.file.read_to_string(&mut self.rest)?;
        let whole = self.rest.rfind('\n').map_or(0, |end| end + 1);
        let tail = self.rest.split_off(whole);
        let lines = std::mem::replace(&mut self.rest, tail);
        let parse = |line| parse(line, service).map_err(|e| unreadable(&self.log, line, &e));
        lines
            .lines()
            .filter_map(|line| parse(line).transpose())
            .collect()
    }
}

fn parse(line: &str, service: &str) -> Result<Option<Call>, String> {
    let line: Line = serde_json::from_str(line).map_err(|e| e.to_string())?;
    if line.kind != "request" || line.service.as_deref() != Some(service) {
        return Ok(None);
    }
    let (Some(method), Some(tries)) = (line.method, line.tries) else {
        return Err("a request without method or tries".to_owned());
    };
    let started = millis(&line.time)?;
    Ok(Some(Call {
        at_source: line.reporter == "source",
        started,
        ended: started + line.duration_ms,
        zone: line.destination.locality.and_then(|place| zone_of(&place)),
        tries,
        method,
        ending: match line.reason {
            Some(reason) => format!("{}: {reason}", line.ending),
            None => line.ending,
        },
        identity: line.source.identity,
    }))
}

/// Milliseconds since 1970, now.
pub(crate) fn unix_ms() -> f64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    since.as_secs_f64() * 1000.0
}

/// The zone of `CLUSTER/REGION/ZONE`.
fn zone_of(place: &str) -> Option<String> {
    place.split('/').nth(2).map(str::to_owned)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "milliseconds since 1970 fit 2^52"
)]
fn millis(time: &str) -> Result<f64, String> {
    let time = OffsetDateTime::parse(time, &Rfc3339).map_err(|e| e.to_string())?;
    Ok(time.unix_timestamp_nanos() as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn lines() {
        let line = r#"{"time":"1970-01-01T00:00:01.5Z","id":"x","reporter":"source",
            "kind":"request","source":{"identity":"spiffe://d/ns/shop/sa/web"},
            "destination":{"locality":"demo/us-east/us-east-1a"},"service":"payments.shop",
            "method":"GET","path":"/","status":200,"tries":2,"duration_ms":2.5,
            "bytes_sent":0,"bytes_received":0,"ending":"complete"}"#;
        let call = parse(line, "payments.shop").unwrap().unwrap();
        assert_eq!((call.started, call.ended, call.tries), (1500.0, 1502.5, 2));
        assert_eq!(call.zone.as_deref(), Some("us-east-1a"));
        assert!(call.at_source && call.is_complete());
        assert_eq!(parse(line, "ledger.shop").unwrap(), None);
        parse("not json", "payments.shop").unwrap_err();
    }
}

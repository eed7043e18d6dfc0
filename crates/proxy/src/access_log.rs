//! The access log: one JSON line for each connection or request, written by a thread of its own.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use serde::Serialize;
use tacit_model::event::{Ending, Event, EventKind, Fault, Party, Reporter};
use tacit_model::fault::Injected;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::error::NodeError;
use crate::settings::AccessLog;

/// Lines that may wait for the disk: about 8 MiB. More are dropped and counted, because a slow
/// disk must not slow the traffic down.
const QUEUE: usize = 16 * 1024;

/// Takes events without blocking.
#[derive(Clone, Debug)]
pub(crate) struct AccessLogWriter {
    lines: Option<SyncSender<Event>>,
    dropped: Arc<AtomicU64>,
}

impl AccessLogWriter {
    /// Opens the log and starts its thread, which ends with the last writer.
    pub(crate) fn start(to: &AccessLog) -> Result<Self, NodeError> {
        let dropped = Arc::new(AtomicU64::new(0));
        let out: Box<dyn Write + Send> = match to {
            AccessLog::Off => {
                return Ok(Self {
                    lines: None,
                    dropped,
                });
            }
            AccessLog::Stdout => Box::new(io::stdout()),
            AccessLog::File(path) => {
                let file = OpenOptions::new()
                    .create(true)
                    .append(true)
                    .mode(0o640)
                    .open(path);
                Box::new(file.map_err(|e| NodeError::state(path, e))?)
            }
        };
        let (lines, queue) = sync_channel(QUEUE);
        let lost = dropped.clone();
        std::thread::Builder::new()
            .name("access-log".into())
            .spawn(move || write_all(&queue, out, &lost))
            .map_err(|e| NodeError::thread(&e))?;
        Ok(Self {
            lines: Some(lines),
            dropped,
        })
    }

    /// Hands the event to the writer thread; drops and counts it if the queue is full.
    pub(crate) fn log(&self, event: Event) {
        let Some(lines) = &self.lines else { return };
        match lines.try_send(event) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Lines that were dropped since the start.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// Writes what waits in one call, then waits again: batches form by themselves under load.
fn write_all(queue: &Receiver<Event>, mut out: Box<dyn Write + Send>, dropped: &AtomicU64) {
    let mut buffer = Vec::new();
    while let Ok(first) = queue.recv() {
        buffer.clear();
        let mut lines = 1;
        append(&mut buffer, &first);
        while lines < 256
            && let Ok(event) = queue.try_recv()
        {
            append(&mut buffer, &event);
            lines += 1;
        }
        if out.write_all(&buffer).and_then(|()| out.flush()).is_err() {
            // A full disk: the lines are lost and counted, the next ones may fit again.
            dropped.fetch_add(lines, Ordering::Relaxed);
        }
    }
}

fn append(buffer: &mut Vec<u8>, event: &Event) {
    // Serialising plain data into memory cannot fail.
    if serde_json::to_writer(&mut *buffer, &Line::new(event)).is_ok() {
        buffer.push(b'\n');
    }
}

/// One line. Field names are stable: people's tools read them.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    id: &'a str,
    reporter: &'static str,
    kind: &'static str,
    source: PartyLine,
    destination: PartyLine,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<String>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    request: Option<RequestLine<'a>>,
    duration_ms: f64,
    bytes_sent: u64,
    bytes_received: u64,
    ending: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<String>,
    /// What an `Audit` policy would have refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    audit: Option<AuditLine<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    injected: Option<InjectedLine>,
}

#[derive(Serialize)]
struct AuditLine<'a> {
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<String>,
}

#[derive(Serialize)]
struct InjectedLine {
    #[serde(skip_serializing_if = "Option::is_none")]
    delay_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    abort: Option<u16>,
    by: Vec<String>,
}

impl InjectedLine {
    fn new(injected: &Injected) -> Self {
        let Injected { delay, abort } = injected;
        let by = delay.iter().map(|delay| delay.from.to_string());
        let by = by.chain(abort.iter().map(|abort| abort.from.to_string()));
        Self {
            delay_ms: delay
                .as_ref()
                .and_then(|delay| u64::try_from(delay.value.as_millis()).ok()),
            abort: abort.as_ref().map(|abort| abort.value),
            by: by.collect(),
        }
    }
}

#[derive(Serialize)]
struct RequestLine<'a> {
    method: &'a str,
    path: &'a str,
    status: u16,
    tries: u32,
    #[serde(skip_serializing_if = "is_zero")]
    over_budget: u32,
}

#[derive(Serialize)]
struct PartyLine {
    #[serde(skip_serializing_if = "Option::is_none")]
    workload: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    locality: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the shape that serde asks for"
)]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl PartyLine {
    fn new(party: &Party) -> Self {
        Self {
            workload: party.workload.as_ref().map(ToString::to_string),
            identity: party.identity.as_ref().map(ToString::to_string),
            locality: party.locality.as_ref().map(ToString::to_string),
            address: party.address.as_ref().map(ToString::to_string),
        }
    }
}

impl<'a> Line<'a> {
    fn new(event: &'a Event) -> Self {
        let (ending, reason, by) = match &event.ending {
            Ending::Complete => ("complete", None, None),
            Ending::Denied { reason, by } => (
                "denied",
                Some(reason.as_str()),
                by.as_ref().map(ToString::to_string),
            ),
            Ending::Failed { fault, reason } => (fault_word(*fault), Some(reason.as_str()), None),
        };
        let (kind, request) = match &event.kind {
            EventKind::Connection => ("connection", None),
            EventKind::Request {
                method,
                path,
                status,
                tries,
                over_budget,
            } => (
                "request",
                Some(RequestLine {
                    method,
                    path,
                    status: *status,
                    tries: *tries,
                    over_budget: *over_budget,
                }),
            ),
        };
        Self {
            time: rfc3339(event.started_unix_ns),
            id: &event.id,
            reporter: reporter_word(event.reporter),
            kind,
            source: PartyLine::new(&event.source),
            destination: PartyLine::new(&event.destination),
            service: event.service.as_ref().map(ToString::to_string),
            request,
            duration_ms: (event.duration.as_secs_f64() * 1e6).round() / 1e3,
            bytes_sent: event.bytes_sent,
            bytes_received: event.bytes_received,
            ending,
            reason,
            by,
            audit: event.audit.as_ref().map(|audited| AuditLine {
                reason: &audited.reason,
                by: audited.by.as_ref().map(ToString::to_string),
            }),
            injected: event.injected.as_deref().map(InjectedLine::new),
        }
    }
}

/// `source` or `destination`.
pub(crate) fn reporter_word(reporter: Reporter) -> &'static str {
    match reporter {
        Reporter::Destination => "destination",
        Reporter::Source => "source",
    }
}

fn fault_word(fault: Fault) -> &'static str {
    match fault {
        Fault::ClientGone => "client_gone",
        Fault::Connect => "connect_failed",
        Fault::Injected => "injected",
        Fault::NoEndpoint => "no_endpoint",
        Fault::Protocol => "protocol_error",
        Fault::Reset => "reset",
        Fault::Timeout => "timeout",
        Fault::Tls => "tls_failed",
    }
}

fn rfc3339(unix_ns: u64) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(unix_ns))
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use std::time::Duration;
    use tacit_model::event::Audited;
    use tacit_model::provenance::{ObjectRef, Provenance};
    use tacit_model::{Locality, ServiceName, Sourced, SpiffeId, WorkloadName};

    fn event(ending: Ending, kind: EventKind) -> Event {
        let party = |name: &str, address: &str| Party {
            workload: WorkloadName::parse("shop", name).ok(),
            identity: SpiffeId::try_from(&*format!("spiffe://mesh.local/ns/shop/sa/{name}")).ok(),
            locality: Some(Locality {
                cluster: "east".into(),
                region: "r1".into(),
                zone: "z1".into(),
            }),
            address: address.parse().ok(),
        };
        Event {
            id: "0af7651916cd43dd8448eb211c80319c".into(),
            reporter: Reporter::Source,
            source: party("web", "10.96.1.2:40000"),
            destination: party("payments", "10.96.2.3:15008"),
            service: ServiceName::parse("shop", "payments").ok(),
            started_unix_ns: 1_760_000_000_123_456_789,
            duration: Duration::from_micros(12_345),
            ending,
            audit: None,
            injected: None,
            bytes_sent: 10,
            bytes_received: 2000,
            kind,
        }
    }

    fn check(event: &Event, expected: &Expect) {
        let mut line = Vec::new();
        append(&mut line, event);
        let value: serde_json::Value = serde_json::from_slice(&line).expect("one JSON value");
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        assert!(value.is_object());
        expected.assert_eq(&String::from_utf8(line).expect("UTF-8"));
    }

    #[test]
    fn a_request_that_fails_on_purpose() {
        let by = |path: &str| Provenance::Field {
            object: ObjectRef {
                kind: "FaultPolicy".into(),
                namespace: "shop".try_into().ok(),
                name: "chaos".try_into().expect("a name"),
            },
            path: path.into(),
        };
        let kind = EventKind::Request {
            method: "GET".into(),
            path: "/".into(),
            status: 503,
            tries: 0,
            over_budget: 0,
        };
        let ending = Ending::Failed {
            fault: Fault::Injected,
            reason: "answered 503 on purpose".into(),
        };
        let injected = Injected {
            delay: Some(Sourced {
                value: Duration::from_millis(1500),
                from: by("spec.delay"),
            }),
            abort: Some(Sourced {
                value: 503,
                from: by("spec.abort"),
            }),
        };
        let event = Event {
            injected: Some(Box::new(injected)),
            ..event(ending, kind)
        };
        check(
            &event,
            &expect![[r#"
            {"time":"2025-10-09T08:53:20.123456789Z","id":"0af7651916cd43dd8448eb211c80319c","reporter":"source","kind":"request","source":{"workload":"shop/web","identity":"spiffe://mesh.local/ns/shop/sa/web","locality":"east/r1/z1","address":"10.96.1.2:40000"},"destination":{"workload":"shop/payments","identity":"spiffe://mesh.local/ns/shop/sa/payments","locality":"east/r1/z1","address":"10.96.2.3:15008"},"service":"payments.shop","method":"GET","path":"/","status":503,"tries":0,"duration_ms":12.345,"bytes_sent":10,"bytes_received":2000,"ending":"injected","reason":"answered 503 on purpose","injected":{"delay_ms":1500,"abort":503,"by":["FaultPolicy/shop/chaos spec.delay","FaultPolicy/shop/chaos spec.abort"]}}
        "#]],
        );
    }

    #[test]
    fn a_denied_request() {
        let by = Provenance::Field {
            object: ObjectRef {
                kind: "AccessPolicy".into(),
                namespace: "shop".try_into().ok(),
                name: "ledger".try_into().expect("a name"),
            },
            path: "spec.rules[0]".into(),
        };
        let kind = EventKind::Request {
            method: "GET".into(),
            path: "/a\u{1b}\n\"b".into(),
            status: 403,
            tries: 1,
            over_budget: 0,
        };
        let ending = Ending::Denied {
            reason: "no rule matches".into(),
            by: Some(by),
        };
        check(
            &event(ending, kind),
            &expect![[r#"
            {"time":"2025-10-09T08:53:20.123456789Z","id":"0af7651916cd43dd8448eb211c80319c","reporter":"source","kind":"request","source":{"workload":"shop/web","identity":"spiffe://mesh.local/ns/shop/sa/web","locality":"east/r1/z1","address":"10.96.1.2:40000"},"destination":{"workload":"shop/payments","identity":"spiffe://mesh.local/ns/shop/sa/payments","locality":"east/r1/z1","address":"10.96.2.3:15008"},"service":"payments.shop","method":"GET","path":"/a\u001b\n\"b","status":403,"tries":1,"duration_ms":12.345,"bytes_sent":10,"bytes_received":2000,"ending":"denied","reason":"no rule matches","by":"AccessPolicy/shop/ledger spec.rules[0]"}
        "#]],
        );
    }

    #[test]
    fn what_an_audit_policy_would_have_refused() {
        let audit = Some(Audited {
            reason: "no rule matches".into(),
            by: Some(Provenance::Default),
        });
        let event = Event {
            audit,
            ..event(Ending::Complete, EventKind::Connection)
        };
        check(
            &event,
            &expect![[r#"
            {"time":"2025-10-09T08:53:20.123456789Z","id":"0af7651916cd43dd8448eb211c80319c","reporter":"source","kind":"connection","source":{"workload":"shop/web","identity":"spiffe://mesh.local/ns/shop/sa/web","locality":"east/r1/z1","address":"10.96.1.2:40000"},"destination":{"workload":"shop/payments","identity":"spiffe://mesh.local/ns/shop/sa/payments","locality":"east/r1/z1","address":"10.96.2.3:15008"},"service":"payments.shop","duration_ms":12.345,"bytes_sent":10,"bytes_received":2000,"ending":"complete","audit":{"reason":"no rule matches","by":"default"}}
        "#]],
        );
    }

    #[test]
    fn a_complete_connection() {
        check(
            &event(Ending::Complete, EventKind::Connection),
            &expect![[r#"
            {"time":"2025-10-09T08:53:20.123456789Z","id":"0af7651916cd43dd8448eb211c80319c","reporter":"source","kind":"connection","source":{"workload":"shop/web","identity":"spiffe://mesh.local/ns/shop/sa/web","locality":"east/r1/z1","address":"10.96.1.2:40000"},"destination":{"workload":"shop/payments","identity":"spiffe://mesh.local/ns/shop/sa/payments","locality":"east/r1/z1","address":"10.96.2.3:15008"},"service":"payments.shop","duration_ms":12.345,"bytes_sent":10,"bytes_received":2000,"ending":"complete"}
        "#]],
        );
    }

    #[test]
    fn a_full_queue_drops_and_counts() {
        let (lines, queue) = sync_channel(1);
        let writer = AccessLogWriter {
            lines: Some(lines),
            dropped: Arc::default(),
        };
        for _ in 0..3 {
            writer.log(event(Ending::Complete, EventKind::Connection));
        }
        assert_eq!(writer.dropped(), 2);
        assert!(queue.try_recv().is_ok());
    }
}

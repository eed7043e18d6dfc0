//! Prometheus metrics: Istio's names for traffic, `tacit_*` for the node itself.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::sync::{Mutex, PoisonError};

use hashbrown::{Equivalent, HashMap};
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabel, EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tacit_model::event::{Ending, Event, EventKind, Fault, Party, Reporter};
use tacit_model::{Locality, ServiceName, SpiffeId, WorkloadName};

use crate::access_log::reporter_word;

/// Label sets of traffic metrics. Each comes from the inventory of the mesh, never from a
/// header, but workloads come and go; beyond this all further ones are counted as one.
const MAX_SERIES: usize = 2000;

/// Upper bounds in milliseconds, as Istio has them, up to a minute.
const BUCKETS: [f64; 14] = [
    0.5, 1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0, 10_000.0,
    60_000.0,
];

/// One party of a call, in labels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct PartyLabels {
    workload: Option<WorkloadName>,
    identity: Option<SpiffeId>,
    locality: Option<Locality>,
}

/// What the metrics of a call are told apart by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CallLabels {
    reporter: Reporter,
    source: PartyLabels,
    destination: PartyLabels,
    service: Option<ServiceName>,
    outcome: Outcome,
}

/// The part of the labels that differs between kinds of traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Outcome {
    /// A connection that has just begun.
    Opened,
    Closed(&'static str),
    Request {
        status: u16,
        flags: &'static str,
        /// On purpose.
        delayed: bool,
    },
}

impl CallLabels {
    fn new(event: &Event, outcome: Outcome) -> Self {
        let party = |party: &Party| PartyLabels {
            workload: party.workload.clone(),
            identity: party.identity.clone(),
            locality: party.locality.clone(),
        };
        Self {
            reporter: event.reporter,
            source: party(&event.source),
            destination: party(&event.destination),
            service: event.service.clone(),
            outcome,
        }
    }

    /// Where everything beyond [`MAX_SERIES`] is counted.
    fn other(&self) -> Self {
        Self {
            reporter: self.reporter,
            source: PartyLabels::default(),
            destination: PartyLabels::default(),
            service: None,
            outcome: self.outcome,
        }
    }
}

/// The labels of an event, not copied: what a series is found by.
struct LabelsOf<'a> {
    event: &'a Event,
    outcome: Outcome,
}

/// As `CallLabels` derives it.
impl Hash for LabelsOf<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Self { event, outcome } = self;
        event.reporter.hash(state);
        for party in [&event.source, &event.destination] {
            party.workload.hash(state);
            party.identity.hash(state);
            party.locality.hash(state);
        }
        event.service.hash(state);
        outcome.hash(state);
    }
}

impl Equivalent<CallLabels> for LabelsOf<'_> {
    fn equivalent(&self, labels: &CallLabels) -> bool {
        let Self { event, outcome } = self;
        let same = |party: &Party, labels: &PartyLabels| {
            party.workload == labels.workload
                && party.identity == labels.identity
                && party.locality == labels.locality
        };
        *outcome == labels.outcome
            && event.reporter == labels.reporter
            && event.service == labels.service
            && same(&event.source, &labels.source)
            && same(&event.destination, &labels.destination)
    }
}

fn flags(ending: &Ending) -> &'static str {
    match ending {
        Ending::Complete => "-",
        Ending::Denied { .. } => "DENY",
        Ending::Failed { fault, .. } => match fault {
            Fault::ClientGone => "CLIENT_GONE",
            Fault::Connect => "CONNECT",
            Fault::NoEndpoint => "NO_ENDPOINT",
            Fault::Injected => "INJECTED",
            Fault::Protocol => "PROTOCOL",
            Fault::Reset => "RESET",
            Fault::Timeout => "TIMEOUT",
            Fault::Tls => "TLS_FAILURE",
        },
    }
}

fn unknown<T: fmt::Display>(value: Option<T>) -> String {
    value.map_or_else(|| "unknown".to_owned(), |value| value.to_string())
}

impl EncodeLabelSet for PartyLabelsOf<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        let Self { side, party } = self;
        let workload = party.workload.as_ref();
        let account = party.identity.as_ref().map(|id| &id.service_account);
        let mut put = |name: &str, value: String| {
            (format!("{side}_{name}").as_str(), value.as_str()).encode(encoder.encode_label())
        };
        put("workload", unknown(workload.map(|w| &w.name)))?;
        put(
            "workload_namespace",
            unknown(workload.map(|w| &w.namespace)),
        )?;
        put("canonical_service", unknown(account))?;
        put("principal", unknown(party.identity.as_ref()))?;
        if let Some(locality) = &party.locality {
            put("cluster", locality.cluster.to_string())?;
            put("region", locality.region.to_string())?;
            put("zone", locality.zone.to_string())?;
        }
        Ok(())
    }
}

/// A party with the prefix of its labels.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct PartyLabelsOf<'a> {
    side: &'static str,
    party: &'a PartyLabels,
}

impl EncodeLabelSet for CallLabels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        ("reporter", reporter_word(self.reporter)).encode(encoder.encode_label())?;
        PartyLabelsOf {
            side: "source",
            party: &self.source,
        }
        .encode(encoder)?;
        PartyLabelsOf {
            side: "destination",
            party: &self.destination,
        }
        .encode(encoder)?;
        let service = self.service.as_ref();
        let mut put = |name: &str, value: &str| (name, value).encode(encoder.encode_label());
        put(
            "destination_service",
            &unknown(service.map(ServiceName::fqdn)),
        )?;
        put(
            "destination_service_name",
            &unknown(service.map(|s| &s.name)),
        )?;
        put(
            "destination_service_namespace",
            &unknown(service.map(|s| &s.namespace)),
        )?;
        let secured = self.source.identity.is_some() && self.destination.identity.is_some();
        put(
            "connection_security_policy",
            if secured { "mutual_tls" } else { "unknown" },
        )?;
        match self.outcome {
            Outcome::Opened => put("request_protocol", "tcp"),
            Outcome::Closed(flags) => {
                put("request_protocol", "tcp")?;
                put("response_flags", flags)
            }
            Outcome::Request {
                status,
                flags,
                delayed,
            } => {
                put("request_protocol", "http")?;
                put("response_code", &status.to_string())?;
                match (flags, delayed) {
                    (flags, false) => put("response_flags", flags),
                    ("-", true) => put("response_flags", "DELAYED"),
                    (flags, true) => put("response_flags", &format!("{flags},DELAYED")),
                }
            }
        }
    }
}

/// A label with one name, for small sets of fixed words.
type Word = [(&'static str, &'static str); 1];

fn durations() -> Histogram {
    Histogram::new(BUCKETS)
}

/// All metrics of the process. Cheap to update from any thread.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<CallLabels, Counter>,
    duration: Family<CallLabels, Histogram, fn() -> Histogram>,
    opened: Family<CallLabels, Counter>,
    closed: Family<CallLabels, Counter>,
    sent: Family<CallLabels, Counter>,
    received: Family<CallLabels, Counter>,
    denied: Family<Word, Counter>,
    rate_limited: Family<Word, Counter>,
    injected: Family<Word, Counter>,
    audit_denied: Counter,
    over_budget: Counter,
    bad_peers: Family<Word, Counter>,
    pub(crate) outside_connections: Counter,
    pub(crate) probes_refused: Counter,
    pub(crate) refused_connections: Counter,
    pub(crate) closed_by_policy: Counter,
    pub(crate) generation_number: Gauge<u64, AtomicU64>,
    pub(crate) offline_seconds: Gauge<i64, AtomicI64>,
    pub(crate) stale: Gauge<i64, AtomicI64>,
    pub(crate) log_lines_dropped: Gauge<u64, AtomicU64>,
    pub(crate) decisions_lost: Gauge<u64, AtomicU64>,
    known: Mutex<HashMap<CallLabels, Series>>,
}

/// The metrics of one label set, found once and then only added to.
#[derive(Clone, Debug)]
enum Series {
    Opened(Counter),
    Closed {
        closed: Counter,
        sent: Counter,
        received: Counter,
    },
    Requests {
        requests: Counter,
        duration: Histogram,
    },
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::default(),
            requests: Family::default(),
            duration: Family::new_with_constructor(durations),
            opened: Family::default(),
            closed: Family::default(),
            sent: Family::default(),
            received: Family::default(),
            denied: Family::default(),
            rate_limited: Family::default(),
            injected: Family::default(),
            audit_denied: Counter::default(),
            over_budget: Counter::default(),
            bad_peers: Family::default(),
            outside_connections: Counter::default(),
            probes_refused: Counter::default(),
            refused_connections: Counter::default(),
            closed_by_policy: Counter::default(),
            generation_number: Gauge::default(),
            offline_seconds: Gauge::default(),
            stale: Gauge::default(),
            log_lines_dropped: Gauge::default(),
            decisions_lost: Gauge::default(),
            known: Mutex::default(),
        };
        metrics.register_traffic();
        metrics.register_node();
        metrics
    }

    fn register_traffic(&mut self) {
        let istio = self.registry.sub_registry_with_prefix("istio");
        istio.register(
            "requests",
            "Requests (source) or tries (destination)",
            self.requests.clone(),
        );
        let help = "Time until the end of the response, in milliseconds";
        istio.register("request_duration_milliseconds", help, self.duration.clone());
        istio.register(
            "tcp_connections_opened",
            "Opaque connections begun",
            self.opened.clone(),
        );
        istio.register(
            "tcp_connections_closed",
            "Opaque connections ended",
            self.closed.clone(),
        );
        istio.register(
            "tcp_sent_bytes",
            "Bytes towards the caller",
            self.sent.clone(),
        );
        istio.register(
            "tcp_received_bytes",
            "Bytes towards the callee",
            self.received.clone(),
        );
    }

    fn register_node(&mut self) {
        let node = self.registry.sub_registry_with_prefix("tacit");
        let help = "Connections and requests refused by policy, by reporter";
        node.register("denied", help, self.denied.clone());
        let help = "Requests refused since a rate was reached, by reporter";
        node.register("rate_limited", help, self.rate_limited.clone());
        let help = "Requests that policies delayed or aborted on purpose, by fault";
        node.register("faults_injected", help, self.injected.clone());
        let help = "Connections and requests that policies in Audit mode would have refused";
        node.register("audit_denied", help, self.audit_denied.clone());
        let help = "Further tries that a retry budget refused";
        node.register("over_budget", help, self.over_budget.clone());
        let help = "Peers that could not prove who they are, or broke the protocol";
        node.register("bad_peers", help, self.bad_peers.clone());
        let help = "Unmeshed connections passed to what is not in the mesh";
        node.register(
            "outside_connections",
            help,
            self.outside_connections.clone(),
        );
        let help = "Health probes that access of the callee refused, so that they say nothing";
        node.register("probes_refused", help, self.probes_refused.clone());
        let help = "Connections closed at once because a limit was reached";
        node.register(
            "refused_connections",
            help,
            self.refused_connections.clone(),
        );
        let help = "Live connections closed because a policy change denies them";
        node.register(
            "connections_closed_by_policy",
            help,
            self.closed_by_policy.clone(),
        );
        let help = "Number of the generation in force";
        node.register("generation_number", help, self.generation_number.clone());
        let help = "Seconds since the control plane was last heard";
        node.register("offline_seconds", help, self.offline_seconds.clone());
        let help = "1: the control plane has been silent too long; 2: so long that all is denied";
        node.register("stale", help, self.stale.clone());
        let help = "Access log lines dropped since the start because the disk was too slow";
        node.register("access_log_dropped", help, self.log_lines_dropped.clone());
        let help = "Decision log lines lost since the start because the disk was too slow";
        node.register("decision_log_lost", help, self.decisions_lost.clone());
    }

    /// Counts a finished connection or request.
    pub(crate) fn count(&self, event: &Event) {
        if let Ending::Denied { .. } = event.ending {
            let word = [("reporter", reporter_word(event.reporter))];
            self.denied.get_or_create(&word).inc();
            // What the application itself answers is no denial.
            if let EventKind::Request { status: 429, .. } = event.kind {
                self.rate_limited.get_or_create(&word).inc();
            }
        }
        if event.audit.is_some() {
            self.audit_denied.inc();
        }
        let injected = event.injected.as_deref();
        let delayed = injected.is_some_and(|injected| injected.delay.is_some());
        if delayed {
            self.injected.get_or_create(&[("fault", "delay")]).inc();
        }
        if injected.is_some_and(|injected| injected.abort.is_some()) {
            self.injected.get_or_create(&[("fault", "abort")]).inc();
        }
        let flags = flags(&event.ending);
        let outcome = match &event.kind {
            EventKind::Connection => Outcome::Closed(flags),
            EventKind::Request {
                status,
                over_budget,
                ..
            } => {
                self.over_budget.inc_by(u64::from(*over_budget));
                Outcome::Request {
                    status: *status,
                    flags,
                    delayed,
                }
            }
        };
        match self.series(&LabelsOf { event, outcome }) {
            Series::Closed {
                closed,
                sent,
                received,
            } => {
                closed.inc();
                sent.inc_by(event.bytes_received);
                received.inc_by(event.bytes_sent);
            }
            Series::Requests { requests, duration } => {
                requests.inc();
                duration.observe(event.duration.as_secs_f64() * 1000.0);
            }
            Series::Opened(opened) => drop(opened.inc()),
        }
    }

    /// Counts an opaque connection that begins; `event` is what is known of it so far.
    pub(crate) fn count_opened(&self, event: &Event) {
        let outcome = Outcome::Opened;
        if let Series::Opened(opened) = self.series(&LabelsOf { event, outcome }) {
            opened.inc();
        }
    }

    /// Counts a peer that broke the rules of the protocol; `how` is one of a few fixed words.
    /// True for the first of its kind, which is worth a line in the log.
    pub(crate) fn count_bad_peer(&self, how: &'static str) -> bool {
        self.bad_peers.get_or_create(&[("how", how)]).inc() == 0
    }

    fn series(&self, wanted: &LabelsOf<'_>) -> Series {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(series) = known.get(wanted) {
            return series.clone();
        }
        let labels = CallLabels::new(wanted.event, wanted.outcome);
        let labels = if known.len() < MAX_SERIES {
            labels
        } else {
            labels.other()
        };
        let series = match labels.outcome {
            Outcome::Opened => Series::Opened(self.opened.get_or_create_owned(&labels)),
            Outcome::Closed(_) => Series::Closed {
                closed: self.closed.get_or_create_owned(&labels),
                sent: self.sent.get_or_create_owned(&labels),
                received: self.received.get_or_create_owned(&labels),
            },
            Outcome::Request { .. } => Series::Requests {
                requests: self.requests.get_or_create_owned(&labels),
                duration: self.duration.get_or_create_owned(&labels),
            },
        };
        // The few label sets of `other` may go beyond the limit.
        known.insert(labels, series.clone());
        series
    }

    /// All metrics as OpenMetrics text.
    pub(crate) fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tacit_model::fault::Injected;
    use tacit_model::{Provenance, Sourced};

    fn event(source: &str, kind: EventKind, ending: Ending) -> Event {
        Event {
            id: "1".into(),
            reporter: Reporter::Source,
            source: Party {
                workload: WorkloadName::parse("shop", source).ok(),
                identity: SpiffeId::try_from("spiffe://mesh.local/ns/shop/sa/web").ok(),
                ..Party::default()
            },
            destination: Party::default(),
            service: ServiceName::parse("shop", "payments").ok(),
            started_unix_ns: 0,
            duration: Duration::from_millis(7),
            ending,
            audit: None,
            injected: None,
            bytes_sent: 3,
            bytes_received: 5,
            kind,
        }
    }

    fn request(status: u16) -> EventKind {
        EventKind::Request {
            method: "GET".into(),
            path: "/".into(),
            status,
            tries: 2,
            over_budget: 1,
        }
    }

    fn value(text: &str, name: &str) -> f64 {
        text.lines()
            .filter(|line| line.starts_with(name))
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
            .sum()
    }

    #[test]
    fn counts_requests_and_bytes() {
        let metrics = Metrics::new();
        let denied = Ending::Denied {
            reason: "no".into(),
            by: None,
        };
        metrics.count(&event("web", request(200), Ending::Complete));
        metrics.count(&event("web", request(403), denied.clone()));
        metrics.count(&event("web", request(429), denied));
        metrics.count(&event("web", request(429), Ending::Complete));
        metrics.count(&event("web", EventKind::Connection, Ending::Complete));
        metrics.count_opened(&event("web", EventKind::Connection, Ending::Complete));
        let text = metrics.text().expect("encodes");
        for (name, expected) in [
            ("istio_requests_total{", 4.0),
            ("istio_request_duration_milliseconds_count{", 4.0),
            ("istio_tcp_connections_opened_total{", 1.0),
            ("istio_tcp_connections_closed_total{", 1.0),
            ("istio_tcp_sent_bytes_total{", 5.0),
            ("istio_tcp_received_bytes_total{", 3.0),
            ("tacit_denied_total{", 2.0),
            ("tacit_rate_limited_total{", 1.0),
            ("tacit_over_budget_total ", 4.0),
        ] {
            assert!(
                (value(&text, name) - expected).abs() < 1e-9,
                "{name} in\n{text}"
            );
        }
        assert!(
            text.contains("response_code=\"403\",response_flags=\"DENY\""),
            "{text}"
        );
        assert!(text.contains("source_workload=\"web\",source_workload_namespace=\"shop\""));
        assert!(text.contains("destination_service=\"payments.shop.svc.cluster.local\""));
    }

    #[test]
    fn what_was_made_on_purpose_is_told_apart() {
        let metrics = Metrics::new();
        let injected = |delayed: bool, aborted: bool| {
            let by = Provenance::Default;
            Some(Box::new(Injected {
                delay: delayed.then(|| Sourced {
                    value: Duration::from_secs(1),
                    from: by.clone(),
                }),
                abort: aborted.then(|| Sourced {
                    value: 503,
                    from: by.clone(),
                }),
            }))
        };
        let failed = |fault| Ending::Failed {
            fault,
            reason: "no".into(),
        };
        for (ending, injected) in [
            (failed(Fault::Injected), injected(false, true)),
            (failed(Fault::Injected), injected(true, true)),
            (failed(Fault::Timeout), injected(true, false)),
            (Ending::Complete, injected(true, false)),
            (failed(Fault::Timeout), None),
        ] {
            metrics.count(&Event {
                injected,
                ..event("web", request(503), ending)
            });
        }
        let text = metrics.text().expect("encodes");
        for flags in [
            "INJECTED",
            "INJECTED,DELAYED",
            "TIMEOUT,DELAYED",
            "DELAYED",
            "TIMEOUT",
        ] {
            let label = format!("response_flags=\"{flags}\"");
            let series = text
                .lines()
                .filter(|line| line.starts_with("istio_requests_total{"));
            assert_eq!(
                series.filter(|line| line.contains(&label)).count(),
                1,
                "{flags}"
            );
        }
        for (name, expected) in [
            ("tacit_faults_injected_total{fault=\"delay\"}", 3.0),
            ("tacit_faults_injected_total{fault=\"abort\"}", 2.0),
        ] {
            assert!(
                (value(&text, name) - expected).abs() < 1e-9,
                "{name} in\n{text}"
            );
        }
    }

    #[test]
    fn series_are_bounded() {
        let metrics = Metrics::new();
        let calls = MAX_SERIES + 500;
        for number in 0..calls {
            metrics.count(&event(
                &format!("w{number}"),
                request(200),
                Ending::Complete,
            ));
        }
        let text = metrics.text().expect("encodes");
        let lines = text
            .lines()
            .filter(|line| line.starts_with("istio_requests_total{"));
        assert_eq!(lines.count(), MAX_SERIES + 1);
        let counted = value(&text, "istio_requests_total{");
        assert!((counted - calls as f64).abs() < 1e-9, "none is lost");
    }
}

//! Subscribers of what happened: metrics, the access log, and the rates that control is told.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use tacit_model::event::{Ending, Event, EventKind, Reporter};
use tacit_model::{Namespace, ServiceAccount, ServiceName};

use crate::access_log::AccessLogWriter;
use crate::metrics::Metrics;

/// Pairs of caller and service whose rates are reported; a node has fewer callers than this
/// times services in any sensible mesh, and `status` shows the busiest anyway.
const MAX_PAIRS: usize = 10_000;

/// Who calls what, for live rates.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Pair {
    pub(crate) namespace: Namespace,
    pub(crate) service_account: ServiceAccount,
    pub(crate) service: ServiceName,
}

/// Counts since the node started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) requests: u64,
    /// Those that the caller saw fail: refused, no response, or 5xx.
    pub(crate) failures: u64,
}

/// Where every connection and request is reported. Shared by all threads; never blocks.
#[derive(Debug)]
pub(crate) struct Events {
    pub(crate) metrics: Metrics,
    log: AccessLogWriter,
    traffic: Mutex<BTreeMap<Pair, Counts>>,
}

impl Events {
    pub(crate) fn new(log: AccessLogWriter) -> Self {
        Self {
            metrics: Metrics::new(),
            log,
            traffic: Mutex::default(),
        }
    }

    /// A connection or request ended.
    pub(crate) fn finished(&self, event: Event) {
        self.metrics.count(&event);
        self.count_traffic(&event);
        self.log.log(event);
    }

    /// An opaque connection begins.
    pub(crate) fn opened(&self, so_far: &Event) {
        self.metrics.count_opened(so_far);
    }

    fn count_traffic(&self, event: &Event) {
        let (Reporter::Source, Some(identity), Some(service)) =
            (event.reporter, &event.source.identity, &event.service)
        else {
            return;
        };
        let pair = Pair {
            namespace: identity.namespace.clone(),
            service_account: identity.service_account.clone(),
            service: service.clone(),
        };
        let failed = match (&event.ending, &event.kind) {
            (_, EventKind::Request { status, .. }) if *status >= 500 || *status == 403 => true,
            (_, EventKind::Request { status, .. }) => *status == 0,
            (Ending::Complete, EventKind::Connection) => false,
            (Ending::Denied { .. } | Ending::Failed { .. }, EventKind::Connection) => true,
        };
        let mut traffic = self.traffic.lock().unwrap_or_else(PoisonError::into_inner);
        if traffic.len() >= MAX_PAIRS && !traffic.contains_key(&pair) {
            return;
        }
        let counts = traffic.entry(pair).or_default();
        counts.requests += 1;
        counts.failures += u64::from(failed);
    }

    /// All rates since the start.
    pub(crate) fn traffic(&self) -> Vec<(Pair, Counts)> {
        let traffic = self.traffic.lock().unwrap_or_else(PoisonError::into_inner);
        traffic
            .iter()
            .map(|(pair, counts)| (pair.clone(), *counts))
            .collect()
    }

    /// All metrics as text.
    pub(crate) fn text(&self) -> Result<String, std::fmt::Error> {
        self.metrics.log_lines_dropped.set(self.log.dropped());
        self.metrics.text()
    }
}

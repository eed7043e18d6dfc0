//! The endpoint that serves a try, for as long as it does.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use tacit_decide::retry::TryOutcome;
use tacit_decide::state::InFlight;
use tacit_model::Snapshot;
use tacit_model::tables::ServiceRow;

use crate::worker::Worker;

/// Counts as load on its endpoint while it is held, and tells how its try went.
pub(crate) struct Serving {
    worker: Rc<Worker>,
    snapshot: Arc<Snapshot>,
    /// Of the request.
    id: Arc<str>,
    service: Arc<ServiceRow>,
    endpoint: SocketAddr,
    _in_flight: InFlight,
}

impl Serving {
    pub(super) fn new(
        worker: Rc<Worker>,
        (snapshot, id): (Arc<Snapshot>, Arc<str>),
        service: Arc<ServiceRow>,
        endpoint: SocketAddr,
        in_flight: InFlight,
    ) -> Self {
        Self {
            worker,
            snapshot,
            id,
            service,
            endpoint,
            _in_flight: in_flight,
        }
    }

    /// The endpoint's health learns from the outcome.
    pub(crate) fn report(&self, outcome: &TryOutcome) {
        let now = (self.worker.clock)();
        let decider = self.worker.decider(&self.snapshot, &self.id);
        decider.on_result(&self.service, self.endpoint, outcome, now);
    }
}

//! Requests of one connection that are under way, and the one event that each ends in.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use http::{HeaderMap, Version, request};
use tacit_model::event::{Audited, Ending, Event, EventKind, Fault, Party, Reporter};
use tacit_model::fault::Injected;
use tacit_model::{Now, ServiceName};

use crate::answer::text;
use crate::headers;
use crate::worker::Worker;

/// Longest path in an event; the rest is cut off.
const LONGEST_PATH: usize = 1024;

/// One request under way. Its counts are written by the bodies as they pass.
pub(crate) struct Flight {
    pub(crate) id: Arc<str>,
    pub(crate) method: Arc<str>,
    pub(crate) path: Arc<str>,
    /// In which protocol the caller asked.
    pub(crate) version: Version,
    pub(crate) started: Now,
    /// Body bytes from the caller.
    pub(crate) sent: Cell<u64>,
    /// Body bytes to the caller.
    pub(crate) received: Cell<u64>,
    /// Tries made (source), or which try this is (destination).
    pub(crate) tries: Cell<u32>,
    /// Further tries that the budget refused.
    pub(crate) over_budget: Cell<u32>,
    /// Status of the response to the caller.
    pub(crate) status: Cell<u16>,
    /// The service that was called.
    pub(crate) service: RefCell<Option<ServiceName>>,
    /// Who serves it.
    pub(crate) destination: RefCell<Party>,
    /// What an `Audit` policy would have refused.
    pub(crate) audit: RefCell<Option<Audited>>,
    /// What a FaultPolicy did to it.
    pub(crate) injected: RefCell<Option<Box<Injected>>>,
}

impl Flight {
    /// Says in an answer what was done to its request on purpose.
    pub(crate) fn mark(&self, answer: &mut HeaderMap) {
        if let Some(injected) = &*self.injected.borrow() {
            answer.insert(headers::FAULT, text(&injected.to_string()));
        }
    }
}

/// What the events of one connection have in common, and its requests under way.
///
/// A caller that goes away makes hyper drop the request's future and body. Nothing runs then;
/// instead, whoever holds the connection looks for requests that nobody works on any more.
pub(crate) struct Flights {
    worker: Rc<Worker>,
    reporter: Reporter,
    source: Party,
    spoken: Cell<Option<Version>>,
    under_way: RefCell<Vec<Rc<Flight>>>,
}

impl Flights {
    pub(crate) fn new(worker: Rc<Worker>, reporter: Reporter, source: Party) -> Self {
        Self {
            worker,
            reporter,
            source,
            spoken: Cell::new(None),
            under_way: RefCell::new(Vec::new()),
        }
    }

    /// A request begins.
    pub(crate) fn begin(
        &self,
        id: Arc<str>,
        head: &request::Parts,
        destination: Party,
    ) -> Rc<Flight> {
        let path = head.uri.path_and_query().map_or("", |path| path.as_str());
        let method = self.worker.method_name(&head.method);
        self.spoken.set(Some(head.version));
        self.start(id, (method, cut(path).into(), head.version), destination)
    }

    /// Something that could not be read as a request begins.
    pub(crate) fn begin_unreadable(&self, id: Arc<str>, destination: Party) -> Rc<Flight> {
        self.start(id, ("".into(), "".into(), Version::default()), destination)
    }

    /// The protocol of the latest request; `None`: there was none.
    pub(crate) fn spoken(&self) -> Option<Version> {
        self.spoken.get()
    }

    fn start(
        &self,
        id: Arc<str>,
        (method, path, version): (Arc<str>, Arc<str>, Version),
        destination: Party,
    ) -> Rc<Flight> {
        let flight = Rc::new(Flight {
            id,
            method,
            path,
            version,
            started: (self.worker.clock)(),
            sent: Cell::new(0),
            received: Cell::new(0),
            tries: Cell::new(0),
            over_budget: Cell::new(0),
            status: Cell::new(0),
            service: RefCell::new(None),
            destination: RefCell::new(destination),
            audit: RefCell::new(None),
            injected: RefCell::new(None),
        });
        self.under_way.borrow_mut().push(Rc::clone(&flight));
        flight
    }

    /// A request ends: emits its event, unless that was done before.
    pub(crate) fn finish(&self, flight: &Rc<Flight>, ending: Ending) {
        let position = {
            let under_way = self.under_way.borrow();
            under_way.iter().position(|other| Rc::ptr_eq(other, flight))
        };
        if let Some(position) = position {
            self.under_way.borrow_mut().swap_remove(position);
            self.emit(flight, ending);
        }
    }

    /// Ends the requests that nobody works on any more: their caller went away.
    pub(crate) fn sweep(&self) {
        let gone = |flight: &Rc<Flight>| Rc::strong_count(flight) == 1;
        self.end_where(gone, Fault::ClientGone, "the caller went away");
    }

    /// Ends all requests: the connection is gone.
    pub(crate) fn close(&self, fault: Fault, reason: &str) {
        self.end_where(|_| true, fault, reason);
    }

    fn end_where(&self, gone: impl Fn(&Rc<Flight>) -> bool, fault: Fault, reason: &str) {
        loop {
            let position = self.under_way.borrow().iter().position(&gone);
            let Some(position) = position else { return };
            let flight = self.under_way.borrow_mut().swap_remove(position);
            self.emit(&flight, failed(fault, reason));
        }
    }

    fn emit(&self, flight: &Flight, ending: Ending) {
        (self.worker.events)(Event {
            id: Arc::clone(&flight.id),
            reporter: self.reporter,
            source: self.source.clone(),
            // Nobody needs them after the event.
            destination: flight.destination.take(),
            service: flight.service.take(),
            started_unix_ns: flight.started.unix_ns,
            duration: (self.worker.clock)().since(flight.started),
            ending,
            audit: flight.audit.take(),
            // The answer says it, too, and may be made after the event.
            injected: flight.injected.borrow().clone(),
            bytes_sent: flight.sent.get(),
            bytes_received: flight.received.get(),
            kind: EventKind::Request {
                method: Arc::clone(&flight.method),
                path: Arc::clone(&flight.path),
                status: flight.status.get(),
                tries: flight.tries.get(),
                over_budget: flight.over_budget.get(),
            },
        });
    }
}

/// The ending of a request that went wrong.
pub(crate) fn failed(fault: Fault, reason: impl Into<String>) -> Ending {
    Ending::Failed {
        fault,
        reason: reason.into(),
    }
}

fn cut(path: &str) -> &str {
    &path[..path.floor_char_boundary(LONGEST_PATH)]
}

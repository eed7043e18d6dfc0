//! What one worker thread has: its pool, its HTTP halves, its live connections.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use tacit_decide::Decider;
use tacit_decide::health::SessionSign;
use tacit_decide::record::Entry;
use tacit_model::event::{Audited, Ending, Event, EventKind, Party, Reporter};
use tacit_model::tables::WorkloadRow;
use tacit_model::{Dice, ServiceName, Snapshot};
use tacit_transport::hbone::{AcceptorSettings, PoolSettings, SessionChange, SessionEvent};
use tacit_transport::{Acceptor, Pool};
use tokio::sync::watch;

use super::local::Local;
use super::registry::Registry;
use crate::shared::{Closed, Shared};

/// One per worker thread; everything in it stays there.
pub(crate) struct Context {
    pub(crate) shared: Arc<Shared>,
    pub(crate) pool: Pool,
    pub(crate) acceptor: Acceptor,
    pub(crate) http: Rc<tacit_http::Worker>,
    pub(crate) registry: Registry,
    /// Connections that are being served.
    pub(crate) live: Cell<usize>,
    /// Turns true when the worker drains.
    pub(crate) draining: watch::Sender<bool>,
    closing: watch::Sender<bool>,
    dice: Rc<Cell<Dice>>,
    decisions: Option<Box<dyn Fn(Entry)>>,
}

impl Context {
    /// Must be called inside the worker's `LocalSet`.
    pub(crate) fn new(shared: Arc<Shared>, seed: Dice) -> Rc<Self> {
        let dice = Rc::new(Cell::new(seed));
        let (draining, drain) = watch::channel(false);
        let sessions = shared.clone();
        let on_session = move |event: SessionEvent| tell_state(&sessions, &event);
        let store = shared.identities.clone();
        Rc::new(Self {
            pool: Pool::new(store.clone(), PoolSettings::default(), on_session),
            acceptor: Acceptor::new(store, AcceptorSettings::default()),
            http: tacit_http::Worker::new(http_settings(&shared, &dice, drain)),
            registry: Registry::default(),
            live: Cell::new(0),
            draining,
            closing: watch::Sender::new(false),
            dice,
            decisions: told(&shared),
            shared,
        })
    }

    /// What ends the HTTP connections of a workload at once.
    pub(crate) fn stop_of(&self, local: &Arc<Local>) -> tacit_http::Stop {
        let (local, mut closing) = (local.clone(), self.closing.subscribe());
        Box::pin(async move {
            tokio::select! {
                () = local.stopped() => "the workload ended".into(),
                // Its sender goes with the worker.
                _closed = closing.wait_for(|closing| *closing) => "the node stops".into(),
            }
        })
    }

    /// Breaks what has not ended when the worker ends.
    pub(crate) fn break_all(&self) {
        self.registry.close_all("the node stops");
        self.closing.send_replace(true);
    }

    /// Decides for one connection by its snapshot.
    pub(crate) fn decider<'a>(
        &'a self,
        snapshot: &'a Arc<Snapshot>,
        id: &'a Arc<str>,
    ) -> Decider<'a> {
        Decider {
            snapshot,
            state: &self.shared.state,
            id,
            log: self.decisions.as_deref(),
        }
    }

    /// The snapshot, if the connection may pass by it.
    pub(crate) fn open(&self, id: &Arc<str>) -> Result<Arc<Snapshot>, Closed> {
        self.shared
            .open_if(|snapshot, freshness| self.decider(snapshot, id).admit(freshness))
    }

    /// Fresh random numbers.
    pub(crate) fn dice(&self) -> Dice {
        roll(&self.dice)
    }

    /// An id that nobody has used: 128 random bits.
    pub(crate) fn new_id(&self) -> Arc<str> {
        let (high, dice) = self.dice().roll();
        let (low, _) = dice.roll();
        format!("{high:016x}{low:016x}").into()
    }
}

fn roll(dice: &Cell<Dice>) -> Dice {
    let (number, next) = dice.get().roll();
    dice.set(next);
    Dice(number)
}

/// Takes decisions, if there is a log of them.
fn told(shared: &Arc<Shared>) -> Option<Box<dyn Fn(Entry)>> {
    shared.decisions.as_ref()?;
    let shared = shared.clone();
    Some(Box::new(move |entry| {
        if let Some(log) = &shared.decisions {
            log.tell(entry);
        }
    }))
}

fn http_settings(
    shared: &Arc<Shared>,
    dice: &Rc<Cell<Dice>>,
    drain: watch::Receiver<bool>,
) -> tacit_http::Settings {
    let (snapshots, clock, events) = (shared.clone(), shared.clone(), shared.clone());
    let (fresh, silent, dice) = (shared.clone(), shared.clone(), dice.clone());
    tacit_http::Settings {
        snapshot: Box::new(move || snapshots.current()),
        state: shared.state.clone(),
        clock: Box::new(move || clock.now()),
        dice: Box::new(move || roll(&dice)),
        freshness: Box::new(move || fresh.freshness()),
        control_stale: Box::new(move || silent.control_is_silent()),
        events: Box::new(move |event| events.events.finished(event)),
        decisions: told(shared),
        drain,
    }
}

/// What happens to sessions tells which addresses are reachable.
fn tell_state(shared: &Shared, event: &SessionEvent) {
    let sign = match event.change {
        SessionChange::Alive | SessionChange::New => SessionSign::Up,
        SessionChange::LostBroken | SessionChange::LostSilent => SessionSign::Lost,
        SessionChange::Ended => return,
    };
    shared.state.on_session(event.peer.ip(), sign, shared.now());
}

/// An opaque connection on its way to its one event.
pub(crate) struct Record {
    pub(crate) id: Arc<str>,
    pub(crate) reporter: Reporter,
    pub(crate) source: Party,
    pub(crate) destination: Party,
    pub(crate) service: Option<ServiceName>,
    /// What an `Audit` policy would have refused.
    pub(crate) audit: Option<Audited>,
    started: tacit_model::Now,
}

impl Record {
    pub(crate) fn new(
        context: &Context,
        id: Arc<str>,
        reporter: Reporter,
        source: Party,
        destination: Party,
    ) -> Self {
        let started = context.shared.now();
        Self {
            id,
            reporter,
            source,
            destination,
            service: None,
            audit: None,
            started,
        }
    }

    fn event(&self, context: &Context, ending: Ending, sent: u64, received: u64) -> Event {
        Event {
            id: self.id.clone(),
            reporter: self.reporter,
            source: self.source.clone(),
            destination: self.destination.clone(),
            service: self.service.clone(),
            started_unix_ns: self.started.unix_ns,
            duration: context.shared.now().since(self.started),
            ending,
            audit: self.audit.clone(),
            injected: None,
            bytes_sent: sent,
            bytes_received: received,
            kind: EventKind::Connection,
        }
    }

    /// The connection stands.
    pub(crate) fn opened(&self, context: &Context) {
        context
            .shared
            .events
            .opened(&self.event(context, Ending::Complete, 0, 0));
    }

    /// The connection ended; `sent` is towards the callee.
    pub(crate) fn finish(self, context: &Context, ending: Ending, sent: u64, received: u64) {
        let event = self.event(context, ending, sent, received);
        context.shared.events.finished(event);
    }
}

/// A workload as a party of a call.
pub(crate) fn party(snapshot: &Snapshot, row: &WorkloadRow, port: u16) -> Party {
    Party {
        workload: Some(row.name.clone()),
        identity: Some(row.identity(&snapshot.mesh.trust_domain)),
        locality: Some(row.locality.clone()),
        address: Some((row.address, port).into()),
    }
}

/// The row of a workload of this node.
pub(crate) fn row<'a>(snapshot: &'a Snapshot, local: &Local) -> Option<&'a Arc<WorkloadRow>> {
    snapshot.workloads.get(&local.name)
}

//! What one worker thread lends to all its HTTP connections.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use http::Method;
use tacit_decide::offline::Freshness;
use tacit_decide::record::Entry;
use tacit_decide::{Decider, State};
use tacit_model::event::Event;
use tacit_model::{Dice, Now, Snapshot, SpiffeId, WorkloadName};
use tokio::sync::watch;

use crate::connections::Connections;
use crate::limits;

/// What the proxy gives to a worker's HTTP halves.
pub struct Settings {
    /// The current snapshot; asked once for each request, so that a policy change applies to the
    /// next request of open connections.
    pub snapshot: Box<dyn Fn() -> Arc<Snapshot>>,
    /// Health, budgets and breakers of this process.
    pub state: Arc<State>,
    /// Both clocks.
    pub clock: Box<dyn Fn() -> Now>,
    /// Fresh random numbers.
    pub dice: Box<dyn Fn() -> Dice>,
    /// How old the node's knowledge is; asked for each request.
    pub freshness: Box<dyn Fn() -> Freshness>,
    /// True while the control plane cannot be reached; asked for each try.
    pub control_stale: Box<dyn Fn() -> bool>,
    /// Takes each request's one event.
    pub events: Box<dyn Fn(Event)>,
    /// Takes each decision with all that it was made from; absent: nobody wants them.
    pub decisions: Option<Box<dyn Fn(Entry)>>,
    /// True once the worker drains: requests under way are finished, then connections close.
    pub drain: watch::Receiver<bool>,
}

/// One worker's part of the HTTP halves. Lives and stays on one thread.
pub struct Worker {
    pub(crate) snapshot: Box<dyn Fn() -> Arc<Snapshot>>,
    pub(crate) state: Arc<State>,
    pub(crate) clock: Box<dyn Fn() -> Now>,
    pub(crate) dice: Box<dyn Fn() -> Dice>,
    pub(crate) freshness: Box<dyn Fn() -> Freshness>,
    pub(crate) control_stale: Box<dyn Fn() -> bool>,
    pub(crate) events: Box<dyn Fn(Event)>,
    decisions: Option<Box<dyn Fn(Entry)>>,
    pub(crate) drain: watch::Receiver<bool>,
    /// To server halves.
    pub(crate) inner: Rc<Connections<InnerKey>>,
    /// To applications on this node.
    pub(crate) applications: Rc<Connections<ApplicationKey>>,
    methods: Vec<(Method, Arc<str>)>,
}

/// What requests must have in common to share a connection to a server half. Source workloads
/// never share: their certificates differ, or may from the next renewal on.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct InnerKey {
    pub(crate) source: WorkloadName,
    pub(crate) endpoint: SocketAddr,
    pub(crate) identity: SpiffeId,
}

/// What requests must have in common to share a connection to an application: it sees the
/// caller's address.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct ApplicationKey {
    pub(crate) caller: IpAddr,
    pub(crate) application: SocketAddr,
}

impl Worker {
    /// Must be called, and used, inside the worker's `LocalSet`.
    #[must_use]
    pub fn new(settings: Settings) -> Rc<Self> {
        let Settings {
            snapshot,
            state,
            clock,
            dice,
            freshness,
            control_stale,
            events,
            decisions,
            drain,
        } = settings;
        let common = [
            Method::DELETE,
            Method::GET,
            Method::HEAD,
            Method::OPTIONS,
            Method::PATCH,
            Method::POST,
            Method::PUT,
        ];
        Rc::new(Self {
            snapshot,
            state,
            clock,
            dice,
            freshness,
            control_stale,
            events,
            decisions,
            inner: Connections::new(limits::INNER_IDLE, drain.clone()),
            applications: Connections::new(limits::APPLICATION_IDLE, drain.clone()),
            drain,
            methods: common.map(|m| (m.clone(), m.as_str().into())).into(),
        })
    }

    /// Decides for one request by its snapshot.
    pub(crate) fn decider<'a>(
        &'a self,
        snapshot: &'a Arc<Snapshot>,
        id: &'a Arc<str>,
    ) -> Decider<'a> {
        Decider {
            snapshot,
            state: &self.state,
            id,
            log: self.decisions.as_deref(),
        }
    }

    /// The method as shared text, without an allocation for common ones.
    pub(crate) fn method_name(&self, method: &Method) -> Arc<str> {
        let known = self.methods.iter().find(|(known, _)| known == method);
        known.map_or_else(|| method.as_str().into(), |(_, name)| Arc::clone(name))
    }

    /// A request id that nobody has used: 128 random bits.
    pub(crate) fn new_id(&self) -> Arc<str> {
        let (high, dice) = (self.dice)().roll();
        let (low, _) = dice.roll();
        format!("{high:016x}{low:016x}").into()
    }
}

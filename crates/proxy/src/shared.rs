//! What all threads of the node share: the snapshot in force, state, identities, events.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use tacit_decide::offline::{self, Freshness};
use tacit_decide::{Denial, State};
use tacit_model::tables::{DefaultAccess, Egress, MeshRow};
use tacit_model::{
    Dice, Generation, Namespace, Now, Row, RowKey, Snapshot, Sourced, Tables, TrustDomain,
};
use tacit_transport::IdentityStore;

use crate::decision_log::DecisionLog;
use crate::error::NodeError;
use crate::events::Events;

/// Why nothing may pass at the moment.
#[derive(Debug)]
pub(crate) enum Closed {
    /// No generation has arrived yet.
    NoGeneration,
    /// The control plane has been silent for too long.
    Denied(Denial),
}

impl std::fmt::Display for Closed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoGeneration => f.write_str("the node has no configuration yet"),
            Self::Denied(denial) => write!(f, "{denial}"),
        }
    }
}

const FRESH: u64 = 0;
const EXPIRED: u64 = u64::MAX;

/// The control plane answers a report each second; after this long it is taken to be gone.
const SILENT: Duration = Duration::from_secs(3);

/// One per process.
pub(crate) struct Shared {
    snapshot: ArcSwap<Snapshot>,
    /// [`FRESH`], [`EXPIRED`], or 1 and the seconds left.
    freshness: AtomicU64,
    last_heard: Mutex<Now>,
    pub(crate) state: Arc<State>,
    pub(crate) identities: IdentityStore,
    pub(crate) resolvers: Vec<SocketAddr>,
    pub(crate) events: Events,
    pub(crate) decisions: Option<DecisionLog>,
    connections: AtomicUsize,
    most_connections: usize,
    clock: Instant,
    /// What the wall clock showed when `clock` began, in nanoseconds since 1970.
    epoch: AtomicU64,
}

/// One connection's place; give it back with [`Shared::leave`].
#[derive(Debug)]
pub(crate) struct Place(());

impl Shared {
    pub(crate) fn new(
        nothing_yet: Snapshot,
        (events, decisions): (Events, Option<DecisionLog>),
        resolvers: Vec<SocketAddr>,
        most_connections: usize,
        identities: IdentityStore,
    ) -> Arc<Self> {
        let clock = Instant::now();
        Arc::new(Self {
            snapshot: ArcSwap::from_pointee(nothing_yet),
            freshness: AtomicU64::new(FRESH),
            last_heard: Mutex::default(),
            state: Arc::new(State::default()),
            identities,
            resolvers,
            events,
            decisions,
            connections: AtomicUsize::new(0),
            most_connections,
            epoch: AtomicU64::new(epoch(clock)),
            clock,
        })
    }

    /// The snapshot in force, however old. Before the first generation it is one that denies
    /// everything.
    pub(crate) fn current(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// The snapshot, if anything may pass by it.
    pub(crate) fn open(&self) -> Result<Arc<Snapshot>, Closed> {
        self.open_if(|_, freshness| offline::admit(freshness))
    }

    /// The snapshot, if `admit` lets anything pass by it and it is one.
    pub(crate) fn open_if(
        &self,
        admit: impl FnOnce(&Arc<Snapshot>, Freshness) -> Result<(), Denial>,
    ) -> Result<Arc<Snapshot>, Closed> {
        let snapshot = self.current();
        admit(&snapshot, self.freshness()).map_err(Closed::Denied)?;
        if snapshot.generation == Generation::default() {
            return Err(Closed::NoGeneration);
        }
        Ok(snapshot)
    }

    /// Puts a snapshot in force for every decision from now on.
    pub(crate) fn put_in_force(&self, snapshot: Arc<Snapshot>) {
        self.events
            .metrics
            .generation_number
            .set(snapshot.generation.number);
        self.snapshot.store(snapshot);
    }

    /// How old the node's knowledge is, as last judged.
    pub(crate) fn freshness(&self) -> Freshness {
        match self.freshness.load(Ordering::Relaxed) {
            FRESH => Freshness::Fresh,
            EXPIRED => Freshness::Expired,
            left => Freshness::Stale {
                left: Duration::from_secs(left - 1),
            },
        }
    }

    /// Judges how old the node's knowledge is; returns the former judgement and the new one.
    pub(crate) fn judge_freshness(&self) -> (Freshness, Freshness) {
        self.set_clock();
        let former = self.freshness();
        let snapshot = self.current();
        if snapshot.generation == Generation::default() {
            return (former, former);
        }
        let now = self.now();
        let last = self.last_heard();
        let fresh = offline::freshness(last, now, snapshot.mesh.max_offline);
        let (number, stale) = match fresh {
            Freshness::Fresh => (FRESH, 0),
            Freshness::Stale { left } => ((left.as_secs() + 1).min(EXPIRED - 1), 1),
            Freshness::Expired => (EXPIRED, 2),
        };
        self.freshness.store(number, Ordering::Relaxed);
        let metrics = &self.events.metrics;
        metrics.stale.set(stale);
        let silent = now.unix_ns.saturating_sub(last.unix_ns) / 1_000_000_000;
        metrics
            .offline_seconds
            .set(i64::try_from(silent).unwrap_or(i64::MAX));
        (former, fresh)
    }

    /// The control plane was heard at this moment.
    pub(crate) fn heard(&self, at: Now) {
        *self
            .last_heard
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = at;
    }

    /// When the control plane was last heard; `Now::default()`: never.
    pub(crate) fn last_heard(&self) -> Now {
        *self
            .last_heard
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// True while the control plane cannot be reached.
    pub(crate) fn control_is_silent(&self) -> bool {
        self.now().since(self.last_heard()) > SILENT
    }

    /// Both clocks, for the price of one: the wall clock goes on from where it was set last.
    pub(crate) fn now(&self) -> Now {
        let monotonic_ns = whole(self.clock.elapsed());
        Now {
            unix_ns: self.epoch.load(Ordering::Relaxed) + monotonic_ns,
            monotonic_ns,
        }
    }

    /// Follows a wall clock that somebody has set.
    fn set_clock(&self) {
        let epoch = epoch(self.clock);
        self.epoch.store(epoch, Ordering::Relaxed);
    }

    /// Takes a place for a connection; `None`: the process serves as many as it has descriptors
    /// for.
    pub(crate) fn enter(&self) -> Option<Place> {
        let taken = self.connections.fetch_add(1, Ordering::Relaxed);
        if taken < self.most_connections {
            return Some(Place(()));
        }
        self.connections.fetch_sub(1, Ordering::Relaxed);
        self.events.metrics.refused_connections.inc();
        None
    }

    /// Gives a place back.
    pub(crate) fn leave(&self, place: Place) {
        let Place(()) = place;
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// Connections at this moment.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

/// Random numbers to start a worker's dice from.
pub(crate) fn seed() -> Result<Dice, aws_lc_rs::error::Unspecified> {
    let mut bytes = [0; 8];
    aws_lc_rs::rand::fill(&mut bytes)?;
    Ok(Dice(u64::from_ne_bytes(bytes)))
}

/// What is in force before the first generation: a mesh in which nobody may do anything.
pub(crate) fn nothing_yet(trust_domain: &TrustDomain) -> Result<Snapshot, NodeError> {
    let root = Namespace::try_from("tacit-system");
    let mesh = MeshRow {
        trust_domain: trust_domain.clone(),
        cluster: "".into(),
        default_access: Sourced::default_of(DefaultAccess::Deny),
        egress: Sourced::default_of(Egress::Deny),
        certificate_lifetime: Duration::ZERO,
        max_offline: Duration::ZERO,
        root_namespace: root.map_err(|e| NodeError::Settings(e.to_string()))?,
        addresses: Vec::new(),
    };
    let mut tables = Tables::default();
    tables.0.insert(RowKey::Mesh, Row::Mesh(Arc::new(mesh)));
    Snapshot::build(Generation::default(), &tables).map_err(|e| NodeError::Settings(e.to_string()))
}

/// What the wall clock showed when `clock` began.
fn epoch(clock: Instant) -> u64 {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH);
    whole(unix.unwrap_or_default()).saturating_sub(whole(clock.elapsed()))
}

fn whole(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

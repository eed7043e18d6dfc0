//! One session that the pool holds: its room, its state, its heartbeat.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use h2::PingPong;
use h2::client::SendRequest;
use tacit_model::NodeName;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::Key;
use crate::certificate::Validity;
use crate::hbone::session::Liveness;
use crate::hbone::settings::Body;
use crate::stream::Slot;

pub(super) struct Held {
    pub(super) key: Key,
    pub(super) host: Option<NodeName>,
    pub(super) live: Rc<Liveness>,
    pub(super) beat: RefCell<Beat>,
    /// Absent once the session takes no more streams; the session ends with its last stream.
    sender: RefCell<Option<SendRequest<Body>>>,
    active: Arc<AtomicUsize>,
    idle_since: Cell<Instant>,
    /// While both certificates hold.
    certificates: Validity,
    driver: RefCell<Option<AbortHandle>>,
    /// Its end was reported already.
    pub(super) over: Cell<bool>,
}

/// The state of a session's heartbeat.
pub(super) struct Beat {
    pub(super) pings: PingPong,
    /// When the ping was sent that is not answered yet.
    pub(super) waiting_since: Option<Instant>,
    pub(super) last_sent: Instant,
    /// Ping now, whatever the traffic: a neighbour was lost.
    pub(super) suspected: bool,
    /// A ping was not answered in time.
    pub(super) missed: bool,
}

impl Held {
    pub(super) fn new(
        key: Key,
        host: Option<NodeName>,
        live: Rc<Liveness>,
        sender: SendRequest<Body>,
        pings: PingPong,
        certificates: Validity,
    ) -> Self {
        let now = Instant::now();
        Self {
            key,
            host,
            live,
            beat: RefCell::new(Beat {
                pings,
                waiting_since: None,
                last_sent: now,
                suspected: false,
                missed: false,
            }),
            sender: RefCell::new(Some(sender)),
            active: Arc::default(),
            idle_since: Cell::new(now),
            certificates,
            driver: RefCell::default(),
            over: Cell::new(false),
        }
    }

    pub(super) fn set_driver(&self, driver: AbortHandle) {
        *self.driver.borrow_mut() = Some(driver);
    }

    /// True if one more stream may be opened.
    pub(super) fn has_room(&self, most: usize) -> bool {
        let sender = self.sender.borrow();
        let Some(sender) = sender.as_ref() else {
            return false;
        };
        self.certificates.holds_now() && self.active() < most.min(sender.current_max_send_streams())
    }

    pub(super) fn take(&self) -> Slot {
        Slot::take(&self.active)
    }

    pub(super) fn active(&self) -> usize {
        self.active.load(Ordering::Relaxed)
    }

    /// Since when it has no stream; `None` while it has.
    pub(super) fn idle_since(&self, now: Instant) -> Option<Instant> {
        if self.active() > 0 {
            self.idle_since.set(now);
            return None;
        }
        Some(self.idle_since.get())
    }

    pub(super) fn sender(&self) -> Option<SendRequest<Body>> {
        self.sender.borrow().clone()
    }

    /// Takes no more streams; ends with its last one.
    pub(super) fn retire(&self) {
        self.sender.borrow_mut().take();
    }

    pub(super) fn is_retired(&self) -> bool {
        self.sender.borrow().is_none()
    }

    /// Breaks the session and all its streams now.
    pub(super) fn abandon(&self) {
        self.over.set(true);
        self.retire();
        if let Some(driver) = self.driver.borrow().as_ref() {
            driver.abort();
        }
    }
}

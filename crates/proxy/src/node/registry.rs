//! Live opaque connections of one worker, to look at again when the policy changes.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;

use tacit_decide::ConnectionPermit;
use tacit_model::Snapshot;
use tacit_transport::{Closer, Closing};

use super::judge;
use super::local::Local;

/// A live connection, with all that its verdict depends on.
#[derive(Clone)]
pub(crate) enum Live {
    /// To an application of this node.
    Inbound {
        local: Arc<Local>,
        permit: ConnectionPermit,
    },
    /// From an application of this node.
    Outbound {
        local: Arc<Local>,
        to: std::net::SocketAddr,
    },
}

impl Live {
    pub(crate) fn local(&self) -> &Arc<Local> {
        match self {
            Self::Inbound { local, .. } | Self::Outbound { local, .. } => local,
        }
    }

    /// Why it may not go on under this snapshot, if so.
    fn refusal(&self, snapshot: &Snapshot) -> Option<String> {
        match self {
            Self::Inbound { permit, .. } => judge::inbound(snapshot, permit),
            Self::Outbound { local, to } => judge::outbound(snapshot, local, *to),
        }
    }
}

/// All live opaque connections of a worker.
#[derive(Default)]
pub(crate) struct Registry {
    next: Cell<u64>,
    live: RefCell<BTreeMap<u64, (Live, Closer)>>,
}

/// The entry of one connection; give it back with [`Registry::leave`].
#[derive(Debug)]
pub(crate) struct Entry(u64);

impl Registry {
    pub(crate) fn enter(&self, live: Live) -> (Entry, Closing) {
        let (closer, closing) = Closer::new();
        let number = self.next.get();
        self.next.set(number + 1);
        self.live.borrow_mut().insert(number, (live, closer));
        (Entry(number), closing)
    }

    pub(crate) fn leave(&self, entry: Entry) {
        self.live.borrow_mut().remove(&entry.0);
    }

    /// Closes exactly the connections that the snapshot denies; returns how many.
    pub(crate) fn look_again(&self, snapshot: &Snapshot) -> usize {
        let mut closed = 0;
        for (live, closer) in self.live.borrow().values() {
            if let Some(reason) = live.refusal(snapshot) {
                closer.fire(&reason);
                closed += 1;
            }
        }
        closed
    }

    /// Closes all.
    pub(crate) fn close_all(&self, reason: &str) {
        for (_, closer) in self.live.borrow().values() {
            closer.fire(reason);
        }
    }

    /// Closes those of one workload.
    pub(crate) fn close_workload(&self, local: &Arc<Local>, reason: &str) {
        for (live, closer) in self.live.borrow().values() {
            if Arc::ptr_eq(live.local(), local) {
                closer.fire(reason);
            }
        }
    }
}

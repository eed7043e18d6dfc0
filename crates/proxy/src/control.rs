//! What the tasks of the control thread share.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use tacit_model::{Generation, Snapshot, Tables, WorkloadName};
use tacit_wire::proto::control::node_api_client::NodeApiClient;
use tokio::sync::{Notify, Semaphore, watch};
use tonic::transport::Channel;

use crate::identities::Identities;
use crate::join::Membership;
use crate::node::host::Host;
use crate::node::local::Local;
use crate::node::routes::Routes;
use crate::sealed::Seal;
use crate::settings::Settings;
use crate::shared::Shared;
use crate::state_dir::StateDir;
use crate::worker::{Order, Workers};

/// The node API of the control plane.
pub(crate) type Client = NodeApiClient<Channel>;

/// A workload of this node as the control thread knows it.
#[derive(Clone, Debug)]
pub(crate) struct Hosted {
    pub(crate) local: Arc<Local>,
    /// How it was registered, if `tacit run` started it; declared workloads are not.
    pub(crate) registration: Option<Rc<tacit_wire::proto::control::RegisterWorkloadRequest>>,
}

/// One per process; lives on the control thread.
pub(crate) struct Control {
    pub(crate) settings: Settings,
    pub(crate) shared: Arc<Shared>,
    pub(crate) dir: StateDir,
    pub(crate) seal: Seal,
    pub(crate) workers: Workers,
    pub(crate) membership: RefCell<Membership>,
    pub(crate) identities: Identities,
    pub(crate) host_addresses: Vec<IpAddr>,
    pub(crate) host: RefCell<Host>,
    pub(crate) routes: RefCell<Routes>,
    pub(crate) hosted: RefCell<BTreeMap<WorkloadName, Hosted>>,
    /// Ports that accept connections, as last seen.
    pub(crate) ready: RefCell<BTreeMap<WorkloadName, BTreeSet<u16>>>,
    /// False where the kernel lets nobody set groups (a rootless user namespace).
    pub(crate) may_set_groups: bool,
    /// Places for requests of `tacit run` that are being read.
    pub(crate) run_requests: Semaphore,
    /// The control plane, while it can be reached.
    pub(crate) client: watch::Sender<Option<Client>>,
    /// The generation in force; changes wake who waits for rows.
    pub(crate) generation: watch::Sender<Option<Generation>>,
    /// What is to be kept on disk next.
    pub(crate) to_keep: watch::Sender<Option<(Generation, Tables)>>,
    /// Some port of a workload began or ceased to accept connections.
    pub(crate) readiness: Notify,
    /// Turns true when the node stops.
    pub(crate) stopping: watch::Sender<bool>,
}

impl Control {
    /// Puts a snapshot in force; returns when every worker decides by it and has looked at its
    /// live connections again.
    pub(crate) async fn put_in_force(&self, snapshot: Arc<Snapshot>) {
        let generation = snapshot.generation;
        self.shared.put_in_force(snapshot);
        self.workers.all_done(Order::LookAgain).await;
        self.generation.send_replace(Some(generation));
    }

    /// Waits until the snapshot in force passes `test`, at most as long as `patience`.
    pub(crate) async fn snapshot_with(
        &self,
        patience: std::time::Duration,
        test: impl Fn(&Snapshot) -> bool,
    ) -> Option<Arc<Snapshot>> {
        let mut generation = self.generation.subscribe();
        let found = async {
            loop {
                let snapshot = self.shared.current();
                if test(&snapshot) {
                    return Some(snapshot);
                }
                if generation.changed().await.is_err() {
                    return None;
                }
            }
        };
        tokio::time::timeout(patience, found).await.ok().flatten()
    }

    /// The control plane, waiting for it at most as long as `patience`.
    pub(crate) async fn client_within(&self, patience: std::time::Duration) -> Option<Client> {
        let mut client = self.client.subscribe();
        let found = async {
            client
                .wait_for(Option::is_some)
                .await
                .ok()
                .and_then(|c| c.clone())
        };
        tokio::time::timeout(patience, found).await.ok().flatten()
    }
}

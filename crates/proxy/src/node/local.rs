//! A workload that runs on this node: its name, identity, namespace and sockets.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use tacit_model::{SpiffeId, WorkloadName};
use tacit_transport::{SocketFactory, Source};
use tokio::sync::watch;

use super::capture;
use super::namespace::Namespace;

/// A workload of this node, as long as it lives.
#[derive(Debug)]
pub(crate) struct Local {
    pub(crate) name: WorkloadName,
    pub(crate) identity: SpiffeId,
    pub(crate) namespace: Namespace,
    stopped: watch::Sender<bool>,
}

impl Local {
    pub(crate) fn new(name: WorkloadName, identity: SpiffeId, namespace: Namespace) -> Arc<Self> {
        let (stopped, _) = watch::channel(false);
        Arc::new(Self {
            name,
            identity,
            namespace,
            stopped,
        })
    }

    pub(crate) fn address(&self) -> IpAddr {
        self.namespace.address
    }

    /// Ends everything that belongs to it.
    pub(crate) fn stop(&self) {
        self.stopped.send_replace(true);
    }

    /// Waits until it is stopped.
    pub(crate) async fn stopped(&self) {
        let mut stopped = self.stopped.subscribe();
        // The sender lives in `self`: it cannot be gone while we wait.
        let _value = stopped.wait_for(|stopped| *stopped).await;
    }

    /// On whose behalf the client half dials.
    pub(crate) fn source(self: &Arc<Self>) -> Source {
        Source {
            identity: self.identity.clone(),
            address: self.address(),
            sockets: Rc::new(OwnSockets(self.clone())),
        }
    }

    /// Sockets towards the application, in the name of `caller`.
    pub(crate) fn sockets_as(self: &Arc<Self>, caller: IpAddr) -> Rc<dyn SocketFactory> {
        // Loopback and the workload itself are no far addresses: nothing is to be pretended.
        if caller.is_loopback() || caller == self.address() {
            return Rc::new(OwnSockets(self.clone()));
        }
        Rc::new(CallerSockets {
            local: self.clone(),
            caller,
        })
    }
}

/// Sockets that leave the workload's namespace with its own address.
struct OwnSockets(Arc<Local>);

impl SocketFactory for OwnSockets {
    fn tcp_socket(&self, to: SocketAddr) -> io::Result<socket2::Socket> {
        self.0.namespace.dialler(to)
    }
}

/// Sockets that show the application its caller's address.
struct CallerSockets {
    local: Arc<Local>,
    caller: IpAddr,
}

impl SocketFactory for CallerSockets {
    fn tcp_socket(&self, to: SocketAddr) -> io::Result<socket2::Socket> {
        self.local.namespace.dialler_as(self.caller, to)
    }
}

/// True for ports on which the proxy itself listens inside each workload: a call to them would
/// come back to us for ever.
pub(crate) fn is_proxy_port(port: u16) -> bool {
    [
        capture::OUTBOUND_PORT,
        capture::INBOUND_PORT,
        capture::DNS_PORT,
        tacit_transport::hbone::HBONE_PORT,
    ]
    .contains(&port)
}

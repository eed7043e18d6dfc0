//! What every part of the control plane reads: the published state, nodes, the authority.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tacit_model::{NodeName, TrustDomain};
use tacit_transport::own::OwnAcceptor;
use tokio::sync::watch;
use tonic::Status;

use crate::attend::Attendance;
use crate::authority::{Authority, AuthorityError, control_id};
use crate::clock;
use crate::engine::{Handle, Published};
use crate::roster::Roster;
use crate::settings::Settings;
use crate::store::records::Ready;

/// Shared by all tasks.
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) engine: Handle,
    pub(crate) roster: Roster,
    pub(crate) authority: Authority,
    pub(crate) attendance: Attendance,
    published: watch::Receiver<Arc<Published>>,
    acceptor: Mutex<OwnAcceptor>,
}

impl Shared {
    /// Puts the parts together; makes the first certificate of our own.
    pub(crate) fn new(
        settings: Settings,
        engine: Handle,
        authority: Authority,
        published: watch::Receiver<Arc<Published>>,
    ) -> Result<Self, AuthorityError> {
        let acceptor = Mutex::new(own_acceptor(&settings, &authority, &published.borrow())?);
        Ok(Self {
            settings,
            engine,
            roster: Roster::new(),
            authority,
            attendance: Attendance::default(),
            published,
            acceptor,
        })
    }

    /// The newest published state.
    pub(crate) fn published(&self) -> Arc<Published> {
        self.published.borrow().clone()
    }

    /// Wakes up at each published state.
    pub(crate) fn watch(&self) -> watch::Receiver<Arc<Published>> {
        self.published.clone()
    }

    /// With the newest certificate of our own.
    pub(crate) fn acceptor(&self) -> OwnAcceptor {
        self.acceptor
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Makes a new certificate of our own.
    pub(crate) fn renew_own(&self) -> Result<(), AuthorityError> {
        let next = own_acceptor(&self.settings, &self.authority, &self.published())?;
        *self.acceptor.lock().unwrap_or_else(PoisonError::into_inner) = next;
        Ok(())
    }

    /// For whom, and for how long, certificates are made now.
    pub(crate) fn certificates(&self) -> Result<(TrustDomain, Duration), Status> {
        let published = self.published();
        let mesh = published.snapshot.as_ref().map(|snapshot| &snapshot.mesh);
        let mesh = mesh.ok_or_else(|| Status::unavailable("there is no generation yet"))?;
        Ok((mesh.trust_domain.clone(), mesh.certificate_lifetime))
    }

    /// True if a report changes the readiness of a workload of this node.
    pub(crate) fn ready_differs(&self, node: &NodeName, report: &Ready) -> bool {
        let published = self.published();
        let Some(snapshot) = published.snapshot.as_ref() else {
            return false;
        };
        let mut rows = snapshot.workloads.values().filter(|row| row.node == *node);
        let ports = |ready: &Ready, name| ready.get(name).cloned().unwrap_or_default();
        rows.any(|row| ports(report, &row.name) != ports(&published.ready, &row.name))
    }

    /// One line for whoever looks after the control plane.
    #[expect(
        clippy::print_stderr,
        reason = "the control plane's log is its standard error"
    )]
    #[expect(
        clippy::unused_self,
        reason = "who logs has this at hand; a sink may follow"
    )]
    pub(crate) fn log(&self, text: &str) {
        eprintln!("tacit control: {text}");
    }
}

fn own_acceptor(
    settings: &Settings,
    authority: &Authority,
    published: &Published,
) -> Result<OwnAcceptor, AuthorityError> {
    let bad = |why: String| AuthorityError::BadKeys(why);
    let mesh = published.snapshot.as_ref().map(|snapshot| &snapshot.mesh);
    let mesh = mesh.ok_or_else(|| bad("there is no generation yet".into()))?;
    let id = control_id(mesh.trust_domain.clone()).map_err(|error| bad(error.to_string()))?;
    let lifetime = mesh.certificate_lifetime;
    let own = authority.issue_own(&id, &settings.addresses, lifetime, clock::unix())?;
    OwnAcceptor::new(&own, &authority.roots()).map_err(|error| bad(error.to_string()))
}

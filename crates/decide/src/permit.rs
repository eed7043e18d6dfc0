//! Permits: only a decision makes them; dialling, relaying and forwarding ask for them.

use std::net::SocketAddr;

use tacit_model::tables::Protocol;
use tacit_model::{SpiffeId, WorkloadName};

use crate::authorize::Peer;
use crate::denial::Denial;

/// Leave to open one HBONE stream to one endpoint.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub struct DialPermit {
    pub(crate) endpoint: SocketAddr,
    pub(crate) expected: SpiffeId,
    pub(crate) source: WorkloadName,
}

impl DialPermit {
    /// Address of the callee and the port of its application: the authority of the CONNECT.
    #[must_use]
    pub fn endpoint(&self) -> SocketAddr {
        self.endpoint
    }

    /// The identity that the peer must prove.
    #[must_use]
    pub fn expected(&self) -> &SpiffeId {
        &self.expected
    }

    /// The workload on whose behalf it is.
    #[must_use]
    pub fn source(&self) -> &WorkloadName {
        &self.source
    }
}

/// Leave to open one plain connection to what is not in the mesh.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub struct OutsidePermit {
    pub(crate) address: SocketAddr,
}

impl OutsidePermit {
    /// Where it goes.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Leave to pass one connection to the local application as bytes.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionPermit {
    pub(crate) workload: WorkloadName,
    pub(crate) port: u16,
    pub(crate) peer: Peer,
    pub(crate) audit: Option<Denial>,
}

impl ConnectionPermit {
    /// The workload that is called.
    #[must_use]
    pub fn workload(&self) -> &WorkloadName {
        &self.workload
    }

    /// The port of its application.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Who calls.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The refusal that there would have been if policies in `Audit` mode were enforced. To be
    /// logged.
    #[must_use]
    pub fn audit(&self) -> Option<&Denial> {
        self.audit.as_ref()
    }
}

/// Leave to read requests from one connection and to ask for each of them.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InspectPermit {
    pub(crate) workload: WorkloadName,
    pub(crate) port: u16,
    pub(crate) peer: Peer,
    pub(crate) protocol: Protocol,
}

impl InspectPermit {
    /// The workload that is called.
    #[must_use]
    pub fn workload(&self) -> &WorkloadName {
        &self.workload
    }

    /// The port of its application.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Who calls.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// What the port is declared to speak. `Tcp` means that only a policy asks for HTTP here.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }
}

/// Access lets one request pass. [`crate::rate`] is asked next.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub struct RequestPermit {
    pub(crate) path: Option<String>,
    pub(crate) audit: Option<Denial>,
}

impl RequestPermit {
    /// The canonical path, if a rule about paths was looked at. The request must then be
    /// forwarded with this path (and its own query), so that what was checked is what is served.
    /// `None`: forward the path as received.
    #[must_use]
    pub fn path(&self) -> Option<&str> {
        self.path.as_deref()
    }

    /// The refusal that there would have been if policies in `Audit` mode were enforced. To be
    /// logged.
    #[must_use]
    pub fn audit(&self) -> Option<&Denial> {
        self.audit.as_ref()
    }
}

/// Leave to forward one request to the local application.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub struct ForwardPermit {
    pub(crate) request: RequestPermit,
}

impl ForwardPermit {
    /// As [`RequestPermit::path`] has it.
    #[must_use]
    pub fn path(&self) -> Option<&str> {
        self.request.path()
    }
}

//! The compiled mesh as normalised rows: what the compiler produces and the planes exchange.
//!
//! Rows refer to each other by key, never by value, so that a change touches few rows. Tables
//! hold `Arc`s: a copy of the tables shares every row that did not change.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use imbl::OrdMap;
use imbl::ordmap::DiffItem;
use serde::{Deserialize, Serialize};

use crate::access::{Action, Cidr, Mode, Rule};
use crate::failover::Failover;
use crate::fault::FaultLayer;
use crate::identity::{SpiffeId, TrustDomain};
use crate::labels::Labels;
use crate::locality::Locality;
use crate::names::{
    Name, Namespace, NodeName, PolicyName, ServiceAccount, ServiceName, WorkloadName, WorkspaceName,
};
use crate::provenance::{ObjectRef, Provenance, Sourced};
use crate::rate::RateLimits;
use crate::resilience::Layer;
use crate::route::{RouteKey, RouteRow};

/// What holds when no AccessPolicy speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultAccess {
    /// Any authenticated peer that isolation lets through.
    Authenticated,
    /// Nobody.
    Deny,
}

/// TCP to what is not in the mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Egress {
    Allow,
    Deny,
}

/// The mesh itself; there is exactly one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeshRow {
    pub trust_domain: TrustDomain,
    pub cluster: Arc<str>,
    pub default_access: Sourced<DefaultAccess>,
    pub egress: Sourced<Egress>,
    /// Lifetime of workload certificates.
    pub certificate_lifetime: Duration,
    /// How long a node serves without the control plane.
    pub max_offline: Duration,
    /// Where policies have mesh scope.
    pub root_namespace: Namespace,
    /// The mesh's own addresses: one that lies inside and has no row is not outside the mesh.
    pub addresses: Vec<AddressRange>,
}

/// Addresses that the mesh gives away itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressRange {
    pub holds: Holds,
    pub range: Sourced<Cidr>,
}

/// What has addresses of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// Virtual addresses of services.
    Services,
    /// Addresses of workloads: the mesh's range, or a node's subnet from an earlier one.
    Workloads,
}

/// A namespace that has a workload, a service or a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceRow {
    pub namespace: Namespace,
    /// Who may call its workloads, as far as isolation goes.
    pub tenancy: Tenancy,
}

/// What a namespace belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tenancy {
    /// Claimed by more than one workspace: belongs to neither and is denied, visibly.
    Contested(Vec<WorkspaceName>),
    /// Of one workspace.
    Member {
        workspace: WorkspaceName,
        /// Strict isolation: only members, and callers of these workspaces to these services.
        isolation: Option<Isolation>,
    },
    /// Of no workspace: open.
    Unclaimed,
}

/// Strict isolation of a workspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Isolation {
    /// Workspaces that import, and which of our services they import (by service).
    pub importers: BTreeMap<WorkspaceName, BTreeSet<ServiceName>>,
    /// The object and field that ask for it.
    pub from: Provenance,
}

/// Workloads that look alike to every selector: the unit that policies attach to.
///
/// The key holds only labels that some selector mentions.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClassKey {
    pub namespace: Namespace,
    pub labels: Labels,
    pub service_account: ServiceAccount,
}

/// A class with what applies to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassRow {
    pub key: Arc<ClassKey>,
    /// Services that select it, in the order of names, each once.
    pub services: Vec<ServiceName>,
    /// Access policies that apply to it.
    pub access: Vec<AccessAttachment>,
}

/// An access policy attached to a class.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AccessAttachment {
    pub policy: PolicyName,
    /// Through a Service: only that service's target ports. Absent: every port.
    pub through: Option<ServiceName>,
}

/// What travels on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Protocol {
    /// Declared HTTP/1.1 or h2c: framed as HTTP from its first byte.
    Http,
    /// Declared opaque, or not declared: relayed as bytes.
    Tcp,
}

/// A port that a workload declares.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WorkloadPort {
    /// Empty if it has no name.
    pub name: Arc<str>,
    pub port: u16,
    pub protocol: Protocol,
}

/// A port of a workload's machine that leads to a port of the workload (`run --publish`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PublishedPort {
    /// On the machine.
    pub at: SocketAddr,
    /// Of the workload.
    pub target: u16,
}

/// One pod, VM or process with an identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadRow {
    pub name: WorkloadName,
    /// Shared by the workloads of the class.
    pub class: Arc<ClassKey>,
    pub address: IpAddr,
    pub node: NodeName,
    pub locality: Locality,
    /// Shared by workloads of a class that declare the same.
    pub ports: Arc<[WorkloadPort]>,
    /// Where else it is reached: what is sent there is sent to it.
    pub published: Vec<PublishedPort>,
    /// Ports that accept connections, as its node reports. A port that is in no service is not
    /// watched and not listed.
    pub ready: BTreeSet<u16>,
    /// Requests per second that it can take, if known.
    pub capacity: Option<u32>,
    /// A command that its node starts, if it is a declared workload.
    pub command: Vec<Arc<str>>,
}

/// A port of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Empty if it has no name.
    pub name: Arc<str>,
    pub port: u16,
    pub target: TargetPort,
    pub protocol: Protocol,
}

/// Which port of the workload a service port means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetPort {
    /// The workload's port with this name.
    Named(Arc<str>),
    Number(u16),
}

/// A name and ports with endpoints. Endpoints are the workloads of the classes that list it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceRow {
    pub name: ServiceName,
    /// Virtual address.
    pub address: IpAddr,
    pub ports: Vec<ServicePort>,
    /// Sorted by precedence; `decide` takes the first that applies, field by field.
    pub resilience: Vec<Layer>,
    /// Absent: all ready endpoints of the own cluster, equal.
    pub failover: Option<Failover>,
    /// How many requests each workload behind it takes; absent: any.
    pub rate: Option<RateLimits>,
    /// Failures made on purpose, sorted: the first that applies to the caller wins each field.
    pub faults: Vec<FaultLayer>,
}

/// An access policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessRow {
    pub name: PolicyName,
    pub action: Action,
    pub mode: Mode,
    pub rules: Vec<Rule>,
    /// Set when the object has no valid version: every request to its targets is denied, with
    /// this reason.
    pub broken: Option<Arc<str>>,
}

/// Who may start workloads of an identity on a node (`Run` grants of Workspaces).
///
/// The administrator (who started `up`) may always; that needs no row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunGrantRow {
    /// Key: the workspace and the index of the grant in it.
    pub workspace: WorkspaceName,
    pub index: u32,
    /// User ids of the subjects (`Mesh.subjects`) that the grant names.
    pub uids: BTreeSet<u32>,
    /// Group ids likewise.
    pub gids: BTreeSet<u32>,
    /// True: every user of the node's machine (the group `system:local`).
    pub everyone: bool,
    /// Namespaces in which workloads may be started.
    pub namespaces: BTreeSet<Namespace>,
    /// Unix seconds after which it no longer holds.
    pub until: Option<u64>,
}

/// A row of any table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Row {
    Access(Arc<AccessRow>),
    Class(Arc<ClassRow>),
    Mesh(Arc<MeshRow>),
    Namespace(Arc<NamespaceRow>),
    Route(Arc<RouteRow>),
    RunGrant(Arc<RunGrantRow>),
    Service(Arc<ServiceRow>),
    Workload(Arc<WorkloadRow>),
}

/// The key of a row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RowKey {
    Access(PolicyName),
    Class(Arc<ClassKey>),
    Mesh,
    Namespace(Namespace),
    Route(RouteKey),
    RunGrant(WorkspaceName, u32),
    Service(ServiceName),
    Workload(WorkloadName),
}

impl Row {
    /// The key under which it is stored.
    #[must_use]
    pub fn key(&self) -> RowKey {
        match self {
            Self::Access(row) => RowKey::Access(row.name.clone()),
            Self::Class(row) => RowKey::Class(row.key.clone()),
            Self::Mesh(_) => RowKey::Mesh,
            Self::Namespace(row) => RowKey::Namespace(row.namespace.clone()),
            Self::Route(row) => RowKey::Route(row.key.clone()),
            Self::RunGrant(row) => RowKey::RunGrant(row.workspace.clone(), row.index),
            Self::Service(row) => RowKey::Service(row.name.clone()),
            Self::Workload(row) => RowKey::Workload(row.name.clone()),
        }
    }
}

/// A change of tables. A key is in at most one of the two lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableDelta {
    /// New and changed rows.
    pub upserts: Vec<Row>,
    /// Keys of rows that are gone.
    pub removes: Vec<RowKey>,
}

impl TableDelta {
    /// True if nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.upserts.is_empty() && self.removes.is_empty()
    }
}

/// All rows of a mesh, or of one node's view of it. A copy is a pointer, and a change copies one
/// path: many generations can be kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables(pub OrdMap<RowKey, Row>);

impl Tables {
    /// Applies a change.
    pub fn apply(&mut self, delta: TableDelta) {
        for key in delta.removes {
            self.0.remove(&key);
        }
        for row in delta.upserts {
            self.0.insert(row.key(), row);
        }
    }

    /// The row of a service.
    #[must_use]
    pub fn service(&self, name: &ServiceName) -> Option<&Arc<ServiceRow>> {
        let Row::Service(row) = self.0.get(&RowKey::Service(name.clone()))? else {
            return None;
        };
        Some(row)
    }

    /// The classes of a namespace, which stand together.
    pub fn classes_in(&self, namespace: &Namespace) -> impl Iterator<Item = &Arc<ClassRow>> {
        let first = ClassKey {
            namespace: namespace.clone(),
            labels: Labels::default(),
            service_account: ServiceAccount::least(),
        };
        let there = self.0.range(RowKey::Class(Arc::new(first))..);
        there.map_while(move |(_, row)| {
            let Row::Class(row) = row else { return None };
            (row.key.namespace == *namespace).then_some(row)
        })
    }

    /// The workloads of a namespace, likewise.
    pub fn workloads_in(&self, namespace: &Namespace) -> impl Iterator<Item = &Arc<WorkloadRow>> {
        let first = WorkloadName::new(namespace.clone(), Name::least());
        let there = self.0.range(RowKey::Workload(first)..);
        there.map_while(move |(_, row)| {
            let Row::Workload(row) = row else { return None };
            (row.name.namespace == *namespace).then_some(row)
        })
    }

    /// The change that turns `self` into `next`.
    #[must_use]
    pub fn diff(&self, next: &Self) -> TableDelta {
        if self.0.is_empty() {
            let upserts = next.0.values().cloned().collect();
            let removes = Vec::new();
            return TableDelta { upserts, removes };
        }
        let mut delta = TableDelta::default();
        // What two tables share is not looked at.
        for change in self.0.diff(&next.0) {
            match change {
                DiffItem::Add(_, row) | DiffItem::Update { new: (_, row), .. } => {
                    delta.upserts.push(row.clone());
                }
                DiffItem::Remove(key, _) => delta.removes.push(key.clone()),
            }
        }
        delta
    }
}

impl WorkloadRow {
    /// Its identity in this mesh.
    #[must_use]
    pub fn identity(&self, trust_domain: &TrustDomain) -> SpiffeId {
        SpiffeId {
            trust_domain: trust_domain.clone(),
            namespace: self.class.namespace.clone(),
            service_account: self.class.service_account.clone(),
        }
    }
}

impl ServicePort {
    /// The port of `workload` that this port means, if it has one.
    #[must_use]
    pub fn target_on(&self, workload: &WorkloadRow) -> Option<u16> {
        match &self.target {
            TargetPort::Number(number) => Some(*number),
            TargetPort::Named(name) => workload
                .ports
                .iter()
                .find(|port| port.name == *name)
                .map(|port| port.port),
        }
    }
}

impl AccessRow {
    /// The object it came from.
    #[must_use]
    pub fn object(&self) -> ObjectRef {
        ObjectRef {
            kind: "AccessPolicy".into(),
            namespace: Some(self.name.namespace.clone()),
            name: self.name.name.clone(),
        }
    }
}

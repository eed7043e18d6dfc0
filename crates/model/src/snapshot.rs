//! Tables with their references closed and indexed: what decisions read.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::candidates::Candidates;
use crate::generation::Generation;
use crate::names::{Namespace, PolicyName, ServiceName, WorkloadName};
use crate::policies::Policies;
use crate::route::{Action, BackendTo, Candidate, RouteKey, RouteRow};
use crate::tables::{
    AccessAttachment, AccessRow, ClassKey, ClassRow, MeshRow, NamespaceRow, Row, RunGrantRow,
    ServiceRow, Tables, WorkloadRow,
};

/// An immutable, closed state: each reference in it resolves. Cheap to share, never changed.
#[derive(Debug)]
pub struct Snapshot {
    /// Which generation it is.
    pub generation: Generation,
    /// The mesh.
    pub mesh: Arc<MeshRow>,
    /// Services by name.
    pub services: BTreeMap<ServiceName, Arc<ServiceRow>>,
    /// Workloads by name.
    pub workloads: BTreeMap<WorkloadName, Arc<WorkloadRow>>,
    /// Classes by key.
    pub classes: BTreeMap<Arc<ClassKey>, Arc<ClassRow>>,
    /// Access policies by name.
    pub access: BTreeMap<PolicyName, Arc<AccessRow>>,
    /// Namespaces by name.
    pub namespaces: BTreeMap<Namespace, Arc<NamespaceRow>>,
    /// Routes by route, parent and port.
    pub routes: BTreeMap<RouteKey, Arc<RouteRow>>,
    /// Run grants.
    pub run_grants: Vec<Arc<RunGrantRow>>,
    service_by_address: HashMap<IpAddr, ServiceName>,
    workload_by_address: HashMap<IpAddr, WorkloadName>,
    published: HashMap<SocketAddr, (WorkloadName, u16)>,
    endpoints: HashMap<ServiceName, Vec<Arc<WorkloadRow>>>,
    candidates: HashMap<ServiceName, Candidates>,
    policies: HashMap<Arc<ClassKey>, Arc<Policies>>,
    has_rates: bool,
}

/// Why tables are not a state that may be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotClosed {
    /// No Mesh row.
    NoMesh,
    /// A row names one that is not there.
    Missing {
        /// The row that refers.
        row: String,
        /// What it refers to.
        wanted: String,
    },
    /// Two rows claim one address.
    AddressTwice(IpAddr),
}

impl fmt::Display for NotClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMesh => f.write_str("the tables have no Mesh row"),
            Self::Missing { row, wanted } => write!(f, "{row} refers to {wanted}, not present"),
            Self::AddressTwice(address) => write!(f, "two rows claim the address {address}"),
        }
    }
}

impl std::error::Error for NotClosed {}

impl Snapshot {
    /// Closes the tables, or says what is missing. Linear in the number of rows.
    pub fn build(generation: Generation, tables: &Tables) -> Result<Self, NotClosed> {
        let mut mesh = None;
        let (mut services, mut workloads) = (BTreeMap::new(), BTreeMap::new());
        let (mut classes, mut access) = (BTreeMap::new(), BTreeMap::new());
        let (mut namespaces, mut run_grants) = (BTreeMap::new(), Vec::new());
        let mut routes = BTreeMap::new();
        for row in tables.0.values() {
            match row {
                Row::Access(row) => drop(access.insert(row.name.clone(), row.clone())),
                Row::Class(row) => drop(classes.insert(row.key.clone(), row.clone())),
                Row::Mesh(row) => mesh = Some(row.clone()),
                Row::Namespace(row) => drop(namespaces.insert(row.namespace.clone(), row.clone())),
                Row::Route(row) => drop(routes.insert(row.key.clone(), row.clone())),
                Row::RunGrant(row) => run_grants.push(row.clone()),
                Row::Service(row) => drop(services.insert(row.name.clone(), row.clone())),
                Row::Workload(row) => drop(workloads.insert(row.name.clone(), row.clone())),
            }
        }
        let mut snapshot = Self {
            generation,
            mesh: mesh.ok_or(NotClosed::NoMesh)?,
            services,
            workloads,
            classes,
            access,
            namespaces,
            routes,
            run_grants,
            service_by_address: HashMap::new(),
            workload_by_address: HashMap::new(),
            published: HashMap::new(),
            endpoints: HashMap::new(),
            candidates: HashMap::new(),
            policies: HashMap::new(),
            has_rates: false,
        };
        snapshot.close_classes()?;
        snapshot.index_services()?;
        snapshot.index_workloads()?;
        snapshot.index_routes()?;
        Ok(snapshot)
    }

    fn close_classes(&mut self) -> Result<(), NotClosed> {
        let mut shared: HashMap<&[AccessAttachment], Arc<Policies>> = HashMap::new();
        let mut of_classes = HashMap::new();
        for class in self.classes.values() {
            let row = || format!("class of {}", class.key.namespace);
            for service in &class.services {
                if !self.services.contains_key(service) {
                    return Err(missing(row(), format!("Service {service}")));
                }
            }
            let policies = match shared.get(class.access.as_slice()) {
                Some(policies) => Arc::clone(policies),
                None => {
                    let made = self.policies_of(&class.access);
                    let made = Arc::new(made.map_err(|wanted| missing(row(), wanted))?);
                    shared.insert(&class.access, Arc::clone(&made));
                    made
                }
            };
            of_classes.insert(class.key.clone(), policies);
            if !self.namespaces.contains_key(&class.key.namespace) {
                return Err(missing(row(), format!("namespace {}", class.key.namespace)));
            }
        }
        self.policies = of_classes;
        Ok(())
    }

    /// The error says what is not present.
    fn policies_of(&self, attached: &[AccessAttachment]) -> Result<Policies, String> {
        let resolved = attached.iter().map(|attachment| {
            let policy = self.access.get(&attachment.policy);
            let policy = policy.ok_or_else(|| format!("AccessPolicy {}", attachment.policy))?;
            let found = attachment.through.as_ref().map(|name| {
                let service = self.services.get(name).cloned();
                service.ok_or_else(|| format!("Service {name}"))
            });
            Ok((Arc::clone(policy), found.transpose()?))
        });
        Ok(Policies::new(resolved.collect::<Result<_, String>>()?))
    }

    fn index_services(&mut self) -> Result<(), NotClosed> {
        self.has_rates = self.services.values().any(|row| row.rate.is_some());
        for service in self.services.values() {
            let twice = self
                .service_by_address
                .insert(service.address, service.name.clone());
            if twice.is_some() {
                return Err(NotClosed::AddressTwice(service.address));
            }
        }
        Ok(())
    }

    fn index_workloads(&mut self) -> Result<(), NotClosed> {
        for workload in self.workloads.values() {
            let Some(class) = self.classes.get(&workload.class) else {
                return Err(missing(
                    format!("workload {}", workload.name),
                    "its class".into(),
                ));
            };
            for service in &class.services {
                self.endpoints
                    .entry(service.clone())
                    .or_default()
                    .push(workload.clone());
            }
            let twice = self
                .workload_by_address
                .insert(workload.address, workload.name.clone());
            if twice.is_some() {
                return Err(NotClosed::AddressTwice(workload.address));
            }
            for port in &workload.published {
                // A machine has one owner of a port. Rows of two who claim it are of two moments,
                // and no reason to refuse the whole state: the first by name has it.
                let owner = (workload.name.clone(), port.target);
                self.published.entry(port.at).or_insert(owner);
            }
        }
        Ok(())
    }

    fn index_routes(&mut self) -> Result<(), NotClosed> {
        let mut by_parent: HashMap<ServiceName, Vec<Candidate>> = HashMap::new();
        for route in self.routes.values() {
            let known = |service| self.services.contains_key(service);
            let parent = &route.key.parent;
            let backends = route.rules.iter().flat_map(|rule| match &rule.action {
                Action::Forward(backends) => backends.as_slice(),
                Action::Redirect(_) => &[],
            });
            let services = backends.filter_map(|backend| match &backend.to {
                BackendTo::Service { service, .. } => Some(service),
                BackendTo::Broken(_) => None,
            });
            for service in [parent].into_iter().chain(services) {
                if !known(service) {
                    let row = route.key.route.to_string();
                    return Err(missing(row, format!("Service {service}")));
                }
            }
            let candidates = by_parent.entry(parent.clone()).or_default();
            candidates.extend(Candidate::all_of(route));
        }
        let indexed = by_parent.into_iter();
        self.candidates = indexed
            .map(|(parent, all)| (parent, Candidates::new(all)))
            .collect();
        Ok(())
    }

    /// The rows that it was built from.
    #[must_use]
    pub fn tables(&self) -> Tables {
        let rows = [Row::Mesh(self.mesh.clone())]
            .into_iter()
            .chain(self.services.values().cloned().map(Row::Service))
            .chain(self.workloads.values().cloned().map(Row::Workload))
            .chain(self.classes.values().cloned().map(Row::Class))
            .chain(self.access.values().cloned().map(Row::Access))
            .chain(self.namespaces.values().cloned().map(Row::Namespace))
            .chain(self.routes.values().cloned().map(Row::Route))
            .chain(self.run_grants.iter().cloned().map(Row::RunGrant));
        Tables(rows.map(|row| (row.key(), row)).collect())
    }

    /// The service with this virtual address.
    #[must_use]
    pub fn service_at(&self, address: IpAddr) -> Option<&Arc<ServiceRow>> {
        self.services.get(self.service_by_address.get(&address)?)
    }

    /// The workload with this address.
    #[must_use]
    pub fn workload_at(&self, address: IpAddr) -> Option<&Arc<WorkloadRow>> {
        self.workloads.get(self.workload_by_address.get(&address)?)
    }

    /// The workload that a port of a machine leads to, and the port of it.
    #[must_use]
    pub fn published_at(&self, at: SocketAddr) -> Option<(&Arc<WorkloadRow>, u16)> {
        let (name, target) = self.published.get(&at)?;
        Some((self.workloads.get(name)?, *target))
    }

    /// The workloads behind a service, ready or not, by name.
    #[must_use]
    pub fn endpoints(&self, service: &ServiceName) -> &[Arc<WorkloadRow>] {
        self.endpoints.get(service).map_or(&[], Vec::as_slice)
    }

    /// Every match of every route at a service, the one that comes first first.
    #[must_use]
    pub fn route_candidates(&self, parent: &ServiceName) -> &[Candidate] {
        self.routes_at(parent).map_or(&[], Candidates::all)
    }

    /// The matches at a service by path, if it has routes.
    #[must_use]
    pub fn routes_at(&self, parent: &ServiceName) -> Option<&Candidates> {
        // Most meshes' services have none, and this is asked for each request.
        if self.candidates.is_empty() {
            return None;
        }
        self.candidates.get(parent)
    }

    /// The access policies of a class, in its order; nothing for a class that is not there.
    #[must_use]
    pub fn access_of(&self, class: &ClassKey) -> Option<&Policies> {
        self.policies.get(class).map(AsRef::as_ref)
    }

    /// True if some service limits the rate of requests.
    #[must_use]
    pub fn has_rates(&self) -> bool {
        self.has_rates
    }

    /// The class of a workload of this snapshot.
    #[must_use]
    pub fn class_of(&self, workload: &WorkloadRow) -> Option<&Arc<ClassRow>> {
        self.classes.get(&workload.class)
    }
}

fn missing(row: String, wanted: String) -> NotClosed {
    NotClosed::Missing { row, wanted }
}

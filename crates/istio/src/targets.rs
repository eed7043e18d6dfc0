//! What an access policy applies to, as the namespaces and selectors of AuthorizationPolicies.

use std::collections::{BTreeMap, BTreeSet};

use tacit_api::{Object, Policy};
use tacit_compiler::{Closeness, Hit};
use tacit_model::labels::Labels;
use tacit_model::tables::{AccessRow, Protocol, WorkloadRow};
use tacit_model::{Namespace, ServiceName};

use crate::operations::Ports;
use crate::world::World;

/// One place where an AuthorizationPolicy stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    /// The whole mesh, or the workloads with these labels in all of it.
    Mesh(Option<Labels>),
    /// Everything in a namespace.
    Namespace(Namespace),
    /// The workloads behind a Service, on its ports.
    Service(ServiceName),
    /// Workloads of a namespace by labels.
    Workloads(Namespace, Labels),
}

impl Target {
    /// The namespace of the emitted object.
    pub(crate) fn namespace<'w>(&'w self, world: &World<'w>) -> &'w Namespace {
        match self {
            Self::Mesh(_) => world.root,
            Self::Namespace(namespace) | Self::Workloads(namespace, _) => namespace,
            Self::Service(name) => &name.namespace,
        }
    }

    /// True if it is in Istio's root namespace, where no object holds for that namespace only.
    pub(crate) fn is_in_root(&self, world: &World<'_>) -> bool {
        !matches!(self, Self::Mesh(_)) && self.namespace(world) == world.root
    }

    /// The labels that the emitted object selects by; nothing: every workload.
    pub(crate) fn selector(&self, world: &World<'_>) -> Option<Labels> {
        match self {
            Self::Mesh(labels) => labels.clone(),
            Self::Namespace(_) => None,
            Self::Service(name) => Some(world.selector(name)),
            Self::Workloads(_, labels) => Some(labels.clone()),
        }
    }

    /// True if it applies to a workload, on some port at least.
    pub(crate) fn has(&self, workload: &WorkloadRow, world: &World<'_>) -> bool {
        let class = &workload.class;
        match self {
            Self::Mesh(labels) => labels.as_ref().is_none_or(|l| class.labels.contain(l)),
            Self::Namespace(namespace) => class.namespace == *namespace,
            Self::Service(name) => {
                let class = world.s.class_of(workload);
                class.is_some_and(|class| class.services.contains(name))
            }
            Self::Workloads(namespace, labels) => {
                class.namespace == *namespace && class.labels.contain(labels)
            }
        }
    }

    /// What is known about its ports.
    pub(crate) fn ports(&self, world: &World<'_>) -> Ports {
        let mut ports = Ports::default();
        if let Self::Service(name) = self {
            let targets = world.target_ports(name);
            ports.only = targets
                .unknown
                .is_none()
                .then(|| targets.numbers.keys().copied().collect());
            ports.known = targets.numbers;
        }
        for workload in world
            .s
            .workloads
            .values()
            .filter(|row| self.has(row, world))
        {
            merge(&mut ports, world.ports_of(workload));
        }
        // Workloads that are there say more than a Service; without any, it is what is known.
        let empty = |name: &&ServiceName| world.s.endpoints(name).is_empty();
        for name in world.s.services.keys().filter(empty) {
            if self.may_have_behind(name, world) {
                merge(&mut ports, world.target_ports(name).numbers);
            }
        }
        ports
    }

    /// True if workloads behind a Service may be among the target, as far as labels tell.
    fn may_have_behind(&self, name: &ServiceName, world: &World<'_>) -> bool {
        match self {
            Self::Mesh(None) => true,
            Self::Mesh(Some(labels)) => compatible(labels, &world.selector(name)),
            Self::Namespace(namespace) => name.namespace == *namespace,
            Self::Service(_) => false,
            Self::Workloads(namespace, labels) => {
                name.namespace == *namespace && compatible(labels, &world.selector(name))
            }
        }
    }
}

fn merge(ports: &mut Ports, of_workload: BTreeMap<u16, Protocol>) {
    for (port, protocol) in of_workload {
        let known = ports.known.entry(port).or_insert(protocol);
        if *known != protocol {
            // Where it is not HTTP, conditions on requests must not count.
            *known = Protocol::Tcp;
            ports.mixed.insert(port);
        }
    }
}

/// True if one workload can have both sets of labels.
pub(crate) fn compatible(a: &Labels, b: &Labels) -> bool {
    a.0.iter()
        .all(|(key, value)| b.0.get(key).is_none_or(|other| other == value))
}

/// True if every workload with the labels `of` has the labels `wanted`, too.
pub(crate) fn implies(of: &Labels, wanted: &Labels) -> bool {
    of.contain(wanted)
}

/// The targets of a policy.
pub(crate) fn targets(world: &World<'_>, row: &AccessRow, hits: &[Hit]) -> BTreeSet<Target> {
    let mut found = BTreeSet::new();
    for hit in hits {
        match hit {
            Hit::All {
                closeness: Closeness::Mesh,
                ..
            } => {
                found.insert(Target::Mesh(None));
            }
            Hit::All {
                object, namespaces, ..
            } => {
                found.extend(namespaces.iter().cloned().map(Target::Namespace));
                if &*object.kind == "Workspace" {
                    let members = world.compiler.workspace_members().iter();
                    let own = members.filter(|(name, _)| name.as_str() == object.name.as_str());
                    let own = own.flat_map(|(_, namespaces)| namespaces);
                    found.extend(own.cloned().map(Target::Namespace));
                }
            }
            Hit::Service { name, .. } => {
                found.insert(Target::Service(name.clone()));
            }
            // Not for AccessPolicies.
            Hit::Route { .. } => {}
            Hit::Workloads { labels, .. } if is_mesh_wide(world, row, labels) => {
                found.insert(Target::Mesh(Some(labels.clone())));
            }
            Hit::Workloads { namespaces, labels } => {
                let each =
                    |namespace: &Namespace| Target::Workloads(namespace.clone(), labels.clone());
                found.extend(namespaces.iter().map(each));
            }
        }
    }
    found
}

/// True if a policy of mesh scope selects these labels in every namespace, those of tomorrow too.
fn is_mesh_wide(world: &World<'_>, row: &AccessRow, labels: &Labels) -> bool {
    let Some(Object::AccessPolicy(policy)) = world.object(&row.object()).map(|found| &found.value)
    else {
        return false;
    };
    let mut selectors = policy.spec.targeting().selectors.unwrap_or_default().iter();
    row.name.namespace == world.s.mesh.root_namespace
        && selectors.any(|selector| {
            let pairs = selector.match_labels.iter();
            let pairs = pairs.map(|(k, v)| (k.as_str(), v.as_str()));
            selector.all_namespaces == Some(true)
                && selector.kind == "Workload"
                && Labels::from_pairs(pairs) == *labels
        })
}

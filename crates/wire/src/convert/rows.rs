//! Mesh, namespaces, classes, workloads, services and run grants as messages.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use tacit_model::labels::Labels;
use tacit_model::tables::{
    AccessAttachment, AddressRange, ClassKey, ClassRow, DefaultAccess, Egress, Holds, Isolation,
    MeshRow, NamespaceRow, Protocol, PublishedPort, RunGrantRow, ServicePort, ServiceRow,
    TargetPort, Tenancy, WorkloadPort, WorkloadRow,
};
use tacit_model::{ServiceName, Sourced, WorkspaceName};

use super::{
    Invalid, Problem, Wire, list_from, list_to, name, names, narrow, numbers, optional, plain_enum,
    required, texts,
};
use crate::proto::mesh as p;

plain_enum!(DefaultAccess, DefaultAccess, "default_access", { Authenticated, Deny });
plain_enum!(Holds, Holds, "holds", { Services, Workloads });
plain_enum!(Egress, Egress, "egress", { Allow, Deny });
plain_enum!(Protocol, Protocol, "protocol", { Http, Tcp });

impl Wire for MeshRow {
    type Proto = p::Mesh;

    fn to_wire(&self) -> p::Mesh {
        let Self {
            trust_domain,
            cluster,
            default_access,
            egress,
            certificate_lifetime,
            max_offline,
            root_namespace,
            addresses,
        } = self;
        p::Mesh {
            trust_domain: trust_domain.to_string(),
            cluster: cluster.to_string(),
            default_access: default_access.value.to_wire(),
            default_access_from: Some(default_access.from.to_wire()),
            egress: egress.value.to_wire(),
            egress_from: Some(egress.from.to_wire()),
            certificate_lifetime: Some(certificate_lifetime.to_wire()),
            max_offline: Some(max_offline.to_wire()),
            root_namespace: root_namespace.to_string(),
            addresses: list_to(addresses),
        }
    }

    fn from_wire(proto: p::Mesh) -> Result<Self, Invalid> {
        let p::Mesh {
            trust_domain,
            cluster,
            default_access,
            default_access_from,
            egress,
            egress_from,
            certificate_lifetime,
            max_offline,
            root_namespace,
            addresses,
        } = proto;
        Ok(Self {
            trust_domain: name("trust_domain", &trust_domain)?,
            cluster: cluster.into(),
            default_access: Sourced {
                value: Wire::from_wire(default_access)?,
                from: required("default_access_from", default_access_from)?,
            },
            egress: Sourced {
                value: Wire::from_wire(egress)?,
                from: required("egress_from", egress_from)?,
            },
            certificate_lifetime: required("certificate_lifetime", certificate_lifetime)?,
            max_offline: required("max_offline", max_offline)?,
            root_namespace: name("root_namespace", &root_namespace)?,
            addresses: list_from(addresses)?,
        })
    }
}

impl Wire for AddressRange {
    type Proto = p::AddressRange;

    fn to_wire(&self) -> p::AddressRange {
        let Self { holds, range } = self;
        p::AddressRange {
            holds: holds.to_wire(),
            range: Some(range.value.to_wire()),
            range_from: Some(range.from.to_wire()),
        }
    }

    fn from_wire(proto: p::AddressRange) -> Result<Self, Invalid> {
        let p::AddressRange {
            holds,
            range,
            range_from,
        } = proto;
        Ok(Self {
            holds: Wire::from_wire(holds)?,
            range: Sourced {
                value: required("range", range)?,
                from: required("range_from", range_from)?,
            },
        })
    }
}

impl Wire for Isolation {
    type Proto = p::Isolation;

    fn to_wire(&self) -> p::Isolation {
        let Self { importers, from } = self;
        let importer =
            |(workspace, services): (&WorkspaceName, &BTreeSet<ServiceName>)| p::Importer {
                workspace: workspace.to_string(),
                services: list_to(services),
            };
        p::Isolation {
            importers: importers.iter().map(importer).collect(),
            from: Some(from.to_wire()),
        }
    }

    fn from_wire(proto: p::Isolation) -> Result<Self, Invalid> {
        let p::Isolation { importers, from } = proto;
        let importer =
            |p::Importer {
                 workspace,
                 services,
             }| { Ok((name("workspace", &workspace)?, list_from(services)?)) };
        Ok(Self {
            importers: importers
                .into_iter()
                .map(importer)
                .collect::<Result<BTreeMap<_, _>, _>>()?,
            from: required("from", from)?,
        })
    }
}

impl Wire for Tenancy {
    type Proto = p::Tenancy;

    fn to_wire(&self) -> p::Tenancy {
        let kind = match self {
            Self::Contested(workspaces) => p::tenancy::Kind::Contested(p::tenancy::Contested {
                workspaces: workspaces.iter().map(ToString::to_string).collect(),
            }),
            Self::Member {
                workspace,
                isolation,
            } => p::tenancy::Kind::Member(p::tenancy::Member {
                workspace: workspace.to_string(),
                isolation: isolation.as_ref().map(Wire::to_wire),
            }),
            Self::Unclaimed => p::tenancy::Kind::Unclaimed(p::tenancy::Unclaimed {}),
        };
        p::Tenancy { kind: Some(kind) }
    }

    fn from_wire(proto: p::Tenancy) -> Result<Self, Invalid> {
        let p::Tenancy { kind } = proto;
        Ok(
            match kind.ok_or_else(|| Invalid::new("tenancy", Problem::Missing))? {
                p::tenancy::Kind::Contested(p::tenancy::Contested { workspaces }) => {
                    let texts = workspaces.iter();
                    Self::Contested(
                        texts
                            .map(|text| name("workspaces", text))
                            .collect::<Result<_, _>>()?,
                    )
                }
                p::tenancy::Kind::Member(p::tenancy::Member {
                    workspace,
                    isolation,
                }) => Self::Member {
                    workspace: name("workspace", &workspace)?,
                    isolation: optional(isolation)?,
                },
                p::tenancy::Kind::Unclaimed(p::tenancy::Unclaimed {}) => Self::Unclaimed,
            },
        )
    }
}

impl Wire for NamespaceRow {
    type Proto = p::Namespace;

    fn to_wire(&self) -> p::Namespace {
        let Self { namespace, tenancy } = self;
        p::Namespace {
            namespace: namespace.to_string(),
            tenancy: Some(tenancy.to_wire()),
        }
    }

    fn from_wire(proto: p::Namespace) -> Result<Self, Invalid> {
        let p::Namespace { namespace, tenancy } = proto;
        Ok(Self {
            namespace: name("namespace", &namespace)?,
            tenancy: required("tenancy", tenancy)?,
        })
    }
}

impl Wire for Labels {
    type Proto = Vec<p::Label>;

    fn to_wire(&self) -> Vec<p::Label> {
        let label = |(key, value): (&std::sync::Arc<str>, &std::sync::Arc<str>)| p::Label {
            key: key.to_string(),
            value: value.to_string(),
        };
        self.0.iter().map(label).collect()
    }

    fn from_wire(proto: Vec<p::Label>) -> Result<Self, Invalid> {
        let label = |p::Label { key, value }| (key.into(), value.into());
        Ok(Self(proto.into_iter().map(label).collect()))
    }
}

impl Wire for ClassKey {
    type Proto = p::ClassKey;

    fn to_wire(&self) -> p::ClassKey {
        let Self {
            namespace,
            labels,
            service_account,
        } = self;
        p::ClassKey {
            namespace: namespace.to_string(),
            labels: labels.to_wire(),
            service_account: service_account.to_string(),
        }
    }

    fn from_wire(proto: p::ClassKey) -> Result<Self, Invalid> {
        let p::ClassKey {
            namespace,
            labels,
            service_account,
        } = proto;
        Ok(Self {
            namespace: name("namespace", &namespace)?,
            labels: Wire::from_wire(labels)?,
            service_account: name("service_account", &service_account)?,
        })
    }
}

impl Wire for AccessAttachment {
    type Proto = p::AccessAttachment;

    fn to_wire(&self) -> p::AccessAttachment {
        let Self { policy, through } = self;
        p::AccessAttachment {
            policy: Some(policy.to_wire()),
            through: through.as_ref().map(Wire::to_wire),
        }
    }

    fn from_wire(proto: p::AccessAttachment) -> Result<Self, Invalid> {
        let p::AccessAttachment { policy, through } = proto;
        Ok(Self {
            policy: required("policy", policy)?,
            through: optional(through)?,
        })
    }
}

impl Wire for ClassRow {
    type Proto = p::Class;

    fn to_wire(&self) -> p::Class {
        let Self {
            key,
            services,
            access,
        } = self;
        p::Class {
            key: Some(key.to_wire()),
            services: list_to(services),
            access: list_to(access),
        }
    }

    fn from_wire(proto: p::Class) -> Result<Self, Invalid> {
        let p::Class {
            key,
            services,
            access,
        } = proto;
        let services: BTreeSet<ServiceName> = list_from(services)?;
        Ok(Self {
            key: required("key", key)?,
            services: services.into_iter().collect(),
            access: list_from(access)?,
        })
    }
}

impl Wire for WorkloadPort {
    type Proto = p::WorkloadPort;

    fn to_wire(&self) -> p::WorkloadPort {
        let Self {
            name,
            port,
            protocol,
        } = self;
        p::WorkloadPort {
            name: name.to_string(),
            port: u32::from(*port),
            protocol: protocol.to_wire(),
        }
    }

    fn from_wire(proto: p::WorkloadPort) -> Result<Self, Invalid> {
        let p::WorkloadPort {
            name,
            port,
            protocol,
        } = proto;
        Ok(Self {
            name: name.into(),
            port: narrow("port", port)?,
            protocol: Wire::from_wire(protocol)?,
        })
    }
}

impl Wire for PublishedPort {
    type Proto = p::PublishedPort;

    fn to_wire(&self) -> p::PublishedPort {
        let Self { at, target } = self;
        p::PublishedPort {
            address: at.ip().to_wire(),
            port: u32::from(at.port()),
            target: u32::from(*target),
        }
    }

    fn from_wire(proto: p::PublishedPort) -> Result<Self, Invalid> {
        let p::PublishedPort {
            address,
            port,
            target,
        } = proto;
        Ok(Self {
            at: SocketAddr::new(Wire::from_wire(address)?, narrow("port", port)?),
            target: narrow("target", target)?,
        })
    }
}

impl Wire for WorkloadRow {
    type Proto = p::Workload;

    fn to_wire(&self) -> p::Workload {
        let Self {
            name,
            class,
            address,
            node,
            locality,
            ports,
            published,
            ready,
            capacity,
            command,
        } = self;
        p::Workload {
            name: Some(name.to_wire()),
            class: Some(class.to_wire()),
            address: address.to_wire(),
            node: node.to_string(),
            locality: Some(locality.to_wire()),
            ports: list_to(&**ports),
            published: list_to(published),
            ready: ready.iter().copied().map(u32::from).collect(),
            capacity: *capacity,
            command: command.iter().map(ToString::to_string).collect(),
        }
    }

    fn from_wire(proto: p::Workload) -> Result<Self, Invalid> {
        let p::Workload {
            name: own,
            class,
            address,
            node,
            locality,
            ports,
            published,
            ready,
            capacity,
            command,
        } = proto;
        Ok(Self {
            name: required("name", own)?,
            class: required("class", class)?,
            address: Wire::from_wire(address)?,
            node: name("node", &node)?,
            locality: required("locality", locality)?,
            ports: list_from(ports)?,
            published: list_from(published)?,
            ready: numbers("ready", ready)?,
            capacity,
            command: command.into_iter().map(Into::into).collect(),
        })
    }
}

impl Wire for ServicePort {
    type Proto = p::ServicePort;

    fn to_wire(&self) -> p::ServicePort {
        let Self {
            name,
            port,
            target,
            protocol,
        } = self;
        let target = match target {
            TargetPort::Named(name) => p::service_port::Target::TargetName(name.to_string()),
            TargetPort::Number(number) => p::service_port::Target::TargetNumber(u32::from(*number)),
        };
        p::ServicePort {
            name: name.to_string(),
            port: u32::from(*port),
            protocol: protocol.to_wire(),
            target: Some(target),
        }
    }

    fn from_wire(proto: p::ServicePort) -> Result<Self, Invalid> {
        let p::ServicePort {
            name,
            port,
            protocol,
            target,
        } = proto;
        let target = match target.ok_or_else(|| Invalid::new("target", Problem::Missing))? {
            p::service_port::Target::TargetName(name) => TargetPort::Named(name.into()),
            p::service_port::Target::TargetNumber(number) => {
                TargetPort::Number(narrow("target_number", number)?)
            }
        };
        Ok(Self {
            name: name.into(),
            port: narrow("port", port)?,
            target,
            protocol: Wire::from_wire(protocol)?,
        })
    }
}

impl Wire for ServiceRow {
    type Proto = p::Service;

    fn to_wire(&self) -> p::Service {
        let Self {
            name,
            address,
            ports,
            resilience,
            failover,
            rate,
            faults,
        } = self;
        p::Service {
            name: Some(name.to_wire()),
            address: address.to_wire(),
            ports: list_to(ports),
            resilience: list_to(resilience),
            failover: failover.as_ref().map(Wire::to_wire),
            rate: rate.as_ref().map(Wire::to_wire),
            faults: list_to(faults),
        }
    }

    fn from_wire(proto: p::Service) -> Result<Self, Invalid> {
        let p::Service {
            name,
            address,
            ports,
            resilience,
            failover,
            rate,
            faults,
        } = proto;
        Ok(Self {
            name: required("name", name)?,
            address: Wire::from_wire(address)?,
            ports: list_from(ports)?,
            resilience: list_from(resilience)?,
            failover: optional(failover)?,
            rate: optional(rate)?,
            faults: list_from(faults)?,
        })
    }
}

impl Wire for RunGrantRow {
    type Proto = p::RunGrant;

    fn to_wire(&self) -> p::RunGrant {
        let Self {
            workspace,
            index,
            uids,
            gids,
            namespaces,
            until,
            everyone,
        } = self;
        p::RunGrant {
            workspace: workspace.to_string(),
            index: *index,
            uids: uids.iter().copied().collect(),
            gids: gids.iter().copied().collect(),
            namespaces: texts(namespaces),
            until: *until,
            everyone: *everyone,
        }
    }

    fn from_wire(proto: p::RunGrant) -> Result<Self, Invalid> {
        let p::RunGrant {
            workspace,
            index,
            uids,
            gids,
            namespaces,
            until,
            everyone,
        } = proto;
        Ok(Self {
            workspace: name("workspace", &workspace)?,
            index,
            uids: uids.into_iter().collect(),
            gids: gids.into_iter().collect(),
            namespaces: names("namespaces", &namespaces)?,
            until,
            everyone,
        })
    }
}

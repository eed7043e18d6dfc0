//! Access rules as messages.

use tacit_model::access::{Action, Cidr, From, Mode, PathPattern, Rule, To};
use tacit_model::tables::AccessRow;
use tacit_model::{Namespace, ServiceAccount, TrustDomain, WorkspaceName};

use super::{
    Invalid, Problem, Wire, list_from, list_to, name, names, narrow, numbers, plain_enum, required,
    shared, texts,
};
use crate::proto::mesh as p;

plain_enum!(Action, Action, "action", { Allow, Deny });
plain_enum!(Mode, Mode, "mode", { Audit, Enforce });

impl Wire for Cidr {
    type Proto = p::Cidr;

    fn to_wire(&self) -> p::Cidr {
        let Self { network, prefix } = self;
        p::Cidr {
            network: network.to_wire(),
            prefix: u32::from(*prefix),
        }
    }

    fn from_wire(proto: p::Cidr) -> Result<Self, Invalid> {
        let p::Cidr { network, prefix } = proto;
        let longest = if network.len() == 4 { 32 } else { 128 };
        if prefix > longest {
            return Err(Invalid::new("prefix", Problem::OutOfRange(prefix.into())));
        }
        Ok(Self {
            network: Wire::from_wire(network)?,
            prefix: narrow("prefix", prefix)?,
        })
    }
}

impl Wire for From {
    type Proto = p::From;

    fn to_wire(&self) -> p::From {
        let Self {
            namespaces,
            service_accounts,
            workspaces,
            trust_domain,
            cidrs,
            except,
            unauthenticated,
        } = self;
        p::From {
            namespaces: namespaces
                .as_ref()
                .map(|set| p::Strings { values: texts(set) }),
            service_accounts: service_accounts.as_ref().map(|set| p::NamespacedSet {
                values: list_to(set),
            }),
            workspaces: workspaces
                .as_ref()
                .map(|set| p::Strings { values: texts(set) }),
            trust_domain: trust_domain.as_ref().map(TrustDomain::to_string),
            cidrs: cidrs.as_ref().map(|set| p::Cidrs {
                values: list_to(set),
            }),
            except: list_to(except),
            unauthenticated: *unauthenticated,
        }
    }

    fn from_wire(proto: p::From) -> Result<Self, Invalid> {
        let p::From {
            namespaces,
            service_accounts,
            workspaces,
            trust_domain,
            cidrs,
            except,
            unauthenticated,
        } = proto;
        Ok(Self {
            namespaces: namespaces
                .map(|set| names::<Namespace>("namespaces", &set.values))
                .transpose()?,
            service_accounts: service_accounts
                .map(|set| list_from::<(Namespace, ServiceAccount), _>(set.values))
                .transpose()?,
            workspaces: workspaces
                .map(|set| names::<WorkspaceName>("workspaces", &set.values))
                .transpose()?,
            trust_domain: trust_domain
                .map(|text| name("trust_domain", &text))
                .transpose()?,
            cidrs: cidrs.map(|set| list_from(set.values)).transpose()?,
            except: list_from(except)?,
            unauthenticated,
        })
    }
}

impl Wire for PathPattern {
    type Proto = p::PathPattern;

    fn to_wire(&self) -> p::PathPattern {
        let kind = match self {
            Self::Exact(path) => p::path_pattern::Kind::Exact(path.to_string()),
            Self::Prefix(path) => p::path_pattern::Kind::Prefix(path.to_string()),
        };
        p::PathPattern { kind: Some(kind) }
    }

    fn from_wire(proto: p::PathPattern) -> Result<Self, Invalid> {
        let p::PathPattern { kind } = proto;
        match kind.ok_or_else(|| Invalid::new("kind", Problem::Missing))? {
            p::path_pattern::Kind::Exact(path) => Ok(Self::Exact(path.into())),
            p::path_pattern::Kind::Prefix(path) => Ok(Self::Prefix(path.into())),
        }
    }
}

impl Wire for To {
    type Proto = p::To;

    fn to_wire(&self) -> p::To {
        let Self {
            ports,
            methods,
            paths,
            hosts,
        } = self;
        p::To {
            ports: ports.as_ref().map(|set| p::Numbers {
                values: set.iter().copied().map(u32::from).collect(),
            }),
            methods: methods
                .as_ref()
                .map(|set| p::Strings { values: texts(set) }),
            paths: paths.as_ref().map(|set| p::Paths {
                values: list_to(set),
            }),
            hosts: hosts.as_ref().map(|set| p::Strings { values: texts(set) }),
        }
    }

    fn from_wire(proto: p::To) -> Result<Self, Invalid> {
        let p::To {
            ports,
            methods,
            paths,
            hosts,
        } = proto;
        Ok(Self {
            ports: ports.map(|set| numbers("ports", set.values)).transpose()?,
            methods: methods.map(|set| shared(set.values)),
            paths: paths.map(|set| list_from(set.values)).transpose()?,
            hosts: hosts.map(|set| shared(set.values)),
        })
    }
}

impl Wire for Rule {
    type Proto = p::Rule;

    fn to_wire(&self) -> p::Rule {
        let Self { from, to, path } = self;
        p::Rule {
            from: list_to(from),
            to: list_to(to),
            path: path.to_string(),
        }
    }

    fn from_wire(proto: p::Rule) -> Result<Self, Invalid> {
        let p::Rule { from, to, path } = proto;
        Ok(Self {
            from: list_from(from)?,
            to: list_from(to)?,
            path: path.into(),
        })
    }
}

impl Wire for AccessRow {
    type Proto = p::Access;

    fn to_wire(&self) -> p::Access {
        let Self {
            name,
            action,
            mode,
            rules,
            broken,
        } = self;
        p::Access {
            name: Some(name.to_wire()),
            action: action.to_wire(),
            mode: mode.to_wire(),
            rules: list_to(rules),
            broken: broken.as_ref().map(ToString::to_string),
        }
    }

    fn from_wire(proto: p::Access) -> Result<Self, Invalid> {
        let p::Access {
            name,
            action,
            mode,
            rules,
            broken,
        } = proto;
        Ok(Self {
            name: required("name", name)?,
            action: Wire::from_wire(action)?,
            mode: Wire::from_wire(mode)?,
            rules: list_from(rules)?,
            broken: broken.map(Into::into),
        })
    }
}

//! Callers of access rules as sources of an AuthorizationPolicy.

use std::collections::BTreeSet;

use serde_json::{Map, Value};
use tacit_model::access::{Action, From};
use tacit_model::identity::TrustDomain;
use tacit_model::{Namespace, ServiceAccount, WorkspaceName};

use crate::object::texts;
use crate::world::World;

/// The trust domain that Istio replaces by its own in principals.
const LOCAL: &str = "cluster.local";

/// Whom an entry names.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// Every caller, with a certificate or without.
    Anybody,
    /// Nobody can be all that it asks for.
    Nobody,
    /// These principals, in Istio's form.
    Principals(BTreeSet<String>),
    /// Callers without a certificate.
    Unauthenticated,
}

/// Whom an entry names by identity.
pub(crate) fn who(world: &World<'_>, from: &From, action: Action) -> Who {
    let From {
        namespaces,
        service_accounts,
        workspaces,
        trust_domain,
        cidrs: _,
        except: _,
        unauthenticated,
    } = from;
    let named = namespaces.is_some() || service_accounts.is_some() || workspaces.is_some();
    if *unauthenticated {
        let contradictory = named || trust_domain.is_some();
        return if contradictory {
            Who::Nobody
        } else {
            Who::Unauthenticated
        };
    }
    if !named {
        return match (trust_domain, action) {
            (Some(domain), _) => Who::Principals([format!("{domain}/*")].into()),
            (None, Action::Allow) => Who::Principals(["*".to_owned()].into()),
            (None, Action::Deny) => Who::Anybody,
        };
    }
    let local = &world.s.mesh.trust_domain;
    let domain = trust_domain.as_ref().unwrap_or(local);
    if is_pointer(world, from) {
        return match action {
            Action::Allow => Who::Nobody,
            Action::Deny => Who::Principals([format!("{domain}/*")].into()),
        };
    }
    let members = workspaces.as_ref().map(|names| members(world, names));
    if members.is_some() && domain != local {
        return Who::Nobody;
    }
    let may = |namespace: &Namespace| {
        namespaces
            .as_ref()
            .is_none_or(|set| set.contains(namespace))
            && members.as_ref().is_none_or(|set| set.contains(namespace))
    };
    let found: BTreeSet<String> = match (service_accounts, namespaces, &members) {
        (Some(accounts), _, _) => {
            let accounts = accounts.iter().filter(|(namespace, _)| may(namespace));
            accounts
                .map(|(ns, account)| principal(domain, ns, account))
                .collect()
        }
        (None, Some(set), _) | (None, None, Some(set)) => {
            let set = set.iter().filter(|namespace| may(namespace));
            set.map(|namespace| everyone_in(domain, namespace))
                .collect()
        }
        (None, None, None) => BTreeSet::new(),
    };
    if found.is_empty() {
        Who::Nobody
    } else {
        Who::Principals(found)
    }
}

/// True if an entry names identities of another domain by the name that Istio takes for the
/// local one, whatever that is. Only a pattern for the whole domain means what it says.
pub(crate) fn is_pointer(world: &World<'_>, from: &From) -> bool {
    let named = from.namespaces.is_some() || from.service_accounts.is_some();
    let domain = from.trust_domain.as_ref();
    named
        && domain
            .is_some_and(|domain| domain.as_str() == LOCAL && *domain != world.s.mesh.trust_domain)
}

fn principal(domain: &TrustDomain, namespace: &Namespace, account: &ServiceAccount) -> String {
    format!("{domain}/ns/{namespace}/sa/{account}")
}

/// Every identity of a namespace. Istio's own `namespaces` would take those of other trust
/// domains, too.
pub(crate) fn everyone_in(domain: &TrustDomain, namespace: &Namespace) -> String {
    format!("{domain}/ns/{namespace}/sa/*")
}

/// The namespaces of these workspaces.
fn members(world: &World<'_>, names: &BTreeSet<WorkspaceName>) -> BTreeSet<Namespace> {
    let all = world.compiler.workspace_members();
    let found = names.iter().filter_map(|name| all.get(name));
    found.flatten().cloned().collect()
}

/// The source of an entry: nothing if nobody is meant, an empty one if everybody is.
pub(crate) fn source(world: &World<'_>, from: &From, action: Action) -> Option<Map<String, Value>> {
    let mut source = Map::new();
    match who(world, from, action) {
        Who::Anybody => {}
        Who::Nobody => return None,
        Who::Principals(names) => {
            source.insert("principals".to_owned(), texts(names));
        }
        Who::Unauthenticated => {
            source.insert("notPrincipals".to_owned(), texts(["*"]));
        }
    }
    if let Some(ranges) = &from.cidrs {
        source.insert("ipBlocks".to_owned(), texts(ranges));
    }
    if !from.except.is_empty() {
        source.insert("notIpBlocks".to_owned(), texts(&from.except));
    }
    Some(source)
}

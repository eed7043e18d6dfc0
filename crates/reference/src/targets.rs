//! What policies apply to.

use crate::mesh::{Object, Reference};
use crate::node::Node;
use crate::tenants::Scope;

/// How closely a target is named. The closest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Closeness {
    Rule,
    Route,
    Name,
    Selector,
    Namespace,
    Workspace,
    Mesh,
}

/// Which targets a policy has.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Targets<'w> {
    /// All of its scope.
    Everything(Object<'w>),
    /// Those that it writes.
    Written(Object<'w>),
}

impl<'w> Reference<'w> {
    /// How closely a policy names a Service; nothing if it does not apply to it.
    pub(crate) fn closeness(&self, policy: &Object<'_>, service: &Object<'_>) -> Option<Closeness> {
        let spec = policy.spec;
        let by_ref = spec.at("targetRefs").items().filter_map(|target| {
            let is_it = target.at("kind").is("Service")
                && policy.namespace == service.namespace
                && target.at("name").is(service.name);
            if is_it {
                return Some(Closeness::Name);
            }
            self.ref_covers(policy, target, service.namespace)
        });
        let by_labels = spec.at("targetSelectors").items().filter_map(|target| {
            let found = target.at("kind").is("Service")
                && self.looks_in(policy, target, service.namespace)
                && service.labels.has_labels(target.at("matchLabels"));
            found.then_some(Closeness::Selector)
        });
        let all = self.all_covers(policy, service.namespace);
        by_ref.chain(by_labels).chain(all).min()
    }

    /// `targetAll`.
    fn all_covers(&self, policy: &Object<'_>, namespace: &str) -> Option<Closeness> {
        let covers =
            policy.spec.at("targetAll").is_there() && self.reaches(policy.namespace, namespace);
        covers.then(|| match self.scope(policy.namespace) {
            Scope::Mesh => Closeness::Mesh,
            Scope::Workspace => Closeness::Workspace,
            Scope::Namespace => Closeness::Namespace,
        })
    }

    /// A reference to a whole namespace, workspace or mesh.
    fn ref_covers(
        &self,
        policy: &Object<'_>,
        target: Node<'_>,
        namespace: &str,
    ) -> Option<Closeness> {
        let name = target.at("name").text()?;
        let own = policy.namespace;
        let scope = self.scope(own);
        match target.at("kind").text()? {
            "Namespace" => {
                (name == namespace && self.reaches(own, namespace)).then_some(Closeness::Namespace)
            }
            "Workspace" => {
                let permitted = match scope {
                    Scope::Mesh => true,
                    Scope::Workspace => self.workspace_of(own) == Some(name),
                    Scope::Namespace => false,
                };
                (permitted && self.workspace_of(namespace) == Some(name))
                    .then_some(Closeness::Workspace)
            }
            "Mesh" => (scope == Scope::Mesh).then_some(Closeness::Mesh),
            _ => None,
        }
    }

    /// True if a selector of a policy looks in a namespace, and may.
    fn looks_in(&self, policy: &Object<'_>, selector: Node<'_>, namespace: &str) -> bool {
        let named = selector.at("namespaces");
        let looks = if selector.at("allNamespaces").is_true() {
            true
        } else if named.is_there() {
            named.texts().any(|name| name == namespace)
        } else {
            policy.namespace == namespace
        };
        looks && self.reaches(policy.namespace, namespace)
    }

    /// True if an AccessPolicy covers all ports of a workload.
    pub(crate) fn covers(&self, targets: &Targets<'_>, workload: &Object<'_>) -> bool {
        let policy = match targets {
            Targets::Everything(policy) => {
                return self.reaches(policy.namespace, workload.namespace);
            }
            Targets::Written(policy) => policy,
        };
        let spec = policy.spec;
        let by_ref = spec.at("targetRefs").items().any(|target| {
            self.ref_covers(policy, target, workload.namespace)
                .is_some()
        });
        let by_labels = spec.at("targetSelectors").items().any(|target| {
            target.at("kind").is("Workload")
                && self.looks_in(policy, target, workload.namespace)
                && workload.labels.has_labels(target.at("matchLabels"))
        });
        by_ref || by_labels || self.all_covers(policy, workload.namespace).is_some()
    }

    /// True if an AccessPolicy covers the ports of a Service on its workloads.
    pub(crate) fn covers_service(&self, targets: &Targets<'_>, service: &Object<'_>) -> bool {
        match targets {
            Targets::Everything(_) => false,
            Targets::Written(policy) => matches!(
                self.closeness(policy, service),
                Some(Closeness::Name | Closeness::Selector)
            ),
        }
    }
}

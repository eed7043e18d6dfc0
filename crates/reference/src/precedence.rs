//! The table of precedence: who may say what first.

use std::cmp::{Ordering, Reverse};

use crate::mesh::{Object, Reference};
use crate::mutation::Mutation;
use crate::node::Node;
use crate::targets::Closeness;
use crate::tenants::{Owner, Scope};

/// Something that sets values at one service.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source<'w> {
    pub(crate) object: Object<'w>,
    pub(crate) standing: Standing,
    pub(crate) closeness: Closeness,
    /// What holds the values: a spec, `defaults` or a rule of a route.
    pub(crate) values: Node<'w>,
    pub(crate) from: Node<'w>,
    pub(crate) priority: i64,
    /// The rule of the route, if it is one.
    pub(crate) rule: Option<usize>,
}

/// The first line of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Standing {
    Override(Scope),
    Policy,
    WorkspaceDefaults,
    MeshDefaults,
}

impl<'w> Reference<'w> {
    /// The policies of a kind and the `defaults` that apply to a service, sorted. `rule` is the
    /// rule of a route that is followed.
    pub(crate) fn sources(
        &self,
        kind: &str,
        service: &Object<'w>,
        rule: Option<(&Object<'w>, usize)>,
    ) -> Vec<Source<'w>> {
        let policies = self.of_kind(kind).filter_map(|policy| {
            let at_route = rule.and_then(|rule| self.closeness_to_rule(policy, rule));
            let closeness = at_route.or_else(|| self.closeness(policy, service))?;
            Some(self.policy(policy, closeness))
        });
        let mut sources: Vec<Source<'w>> = policies.collect();
        sources.extend(self.defaults(service.namespace));
        let own = rule.filter(|_| kind == "RetryTimeoutPolicy");
        sources.extend(own.and_then(|(route, index)| self.of_rule(route, index)));
        sources.sort_by(|a, b| self.compare(a, b));
        sources
    }

    fn policy(&self, policy: &Object<'w>, closeness: Closeness) -> Source<'w> {
        let overrides = policy.spec.at("enforcement").is("Override");
        Source {
            object: *policy,
            standing: if overrides {
                Standing::Override(self.scope(policy.namespace))
            } else {
                Standing::Policy
            },
            closeness,
            values: policy.spec,
            from: policy.spec.at("from"),
            priority: policy.spec.at("priority").number().unwrap_or(0),
            rule: None,
        }
    }

    /// `defaults` of the Workspace and of the Mesh.
    fn defaults(&self, namespace: &str) -> impl Iterator<Item = Source<'w>> {
        let workspace = match self.owner(namespace) {
            Owner::Workspace(found) => Some((*found, Standing::WorkspaceDefaults)),
            Owner::Contested | Owner::Nobody => None,
        };
        let mesh = self.of_kind("Mesh").next();
        let mesh = mesh.map(|found| (*found, Standing::MeshDefaults));
        let found = workspace.into_iter().chain(mesh);
        found.filter_map(|(object, standing)| {
            let values = object.spec.at("defaults");
            values.is_there().then_some(Source {
                object,
                standing,
                closeness: Closeness::Mesh,
                values,
                from: Node(None),
                priority: 0,
                rule: None,
            })
        })
    }

    /// What a rule of a route says itself counts as a namespace policy on that rule.
    fn of_rule(&self, route: &Object<'w>, index: usize) -> Option<Source<'w>> {
        if self.is_wrong(Mutation::RouteOwnIgnored) {
            return None;
        }
        let values = route.spec.at("rules").items().nth(index)?;
        Some(Source {
            object: *route,
            standing: Standing::Policy,
            closeness: Closeness::Rule,
            values,
            from: Node(None),
            priority: 0,
            rule: Some(index),
        })
    }

    /// How closely a policy names a rule of a route.
    fn closeness_to_rule(
        &self,
        policy: &Object<'_>,
        (route, index): (&Object<'_>, usize),
    ) -> Option<Closeness> {
        let rule = route.spec.at("rules").items().nth(index);
        let name = rule.and_then(|rule| rule.at("name").text());
        let targets = policy.spec.at("targetRefs").items();
        let named = targets.filter_map(|target| {
            let is_it = policy.namespace == route.namespace
                && target.at("kind").is(route.kind)
                && target.at("name").is(route.name);
            let section = target.at("sectionName").text();
            match section {
                _ if !is_it => None,
                None => Some(Closeness::Route),
                Some(_) => (section == name).then_some(Closeness::Rule),
            }
        });
        named.min()
    }

    fn compare(&self, a: &Source<'_>, b: &Source<'_>) -> Ordering {
        let (of_a, of_b) = (&a.object, &b.object);
        let has_from = |source: &Source<'_>| source.from.is_there();
        let mut priority = a.priority.cmp(&b.priority).reverse();
        if self.is_wrong(Mutation::LowPriorityFirst) {
            priority = priority.reverse();
        }
        let mut by_name = (of_a.namespace, of_a.name).cmp(&(of_b.namespace, of_b.name));
        if self.is_wrong(Mutation::LaterNameFirst) {
            by_name = by_name.reverse();
        }
        let by_from = if self.is_wrong(Mutation::FromNotCloser) {
            Ordering::Equal
        } else {
            Reverse(has_from(a)).cmp(&Reverse(has_from(b)))
        };
        self.standing(a.standing)
            .cmp(&self.standing(b.standing))
            .then(self.close(a.closeness).cmp(&self.close(b.closeness)))
            .then(by_from)
            .then(priority)
            .then(by_name)
            // A route before a policy of the same name.
            .then(a.object.kind.cmp(b.object.kind))
    }

    /// The place in the first line of the table; the least comes first.
    fn standing(&self, standing: Standing) -> i32 {
        use Mutation::{DefaultsFirst, InnerOverrideFirst, MeshDefaultsFirst, OverrideIgnored};
        let inner_first = self.is_wrong(InnerOverrideFirst);
        match standing {
            Standing::Override(_) if self.is_wrong(OverrideIgnored) => 3,
            Standing::Override(Scope::Mesh) => {
                if inner_first {
                    2
                } else {
                    0
                }
            }
            Standing::Override(Scope::Workspace) => 1,
            Standing::Override(Scope::Namespace) => {
                if inner_first {
                    0
                } else {
                    2
                }
            }
            Standing::Policy => 3,
            Standing::WorkspaceDefaults if self.is_wrong(DefaultsFirst) => -2,
            Standing::MeshDefaults if self.is_wrong(DefaultsFirst) => -1,
            Standing::WorkspaceDefaults => 4,
            Standing::MeshDefaults if self.is_wrong(MeshDefaultsFirst) => 3,
            Standing::MeshDefaults => 5,
        }
    }

    /// The closeness, or the next one where two are taken for one.
    fn close(&self, closeness: Closeness) -> Closeness {
        let (from, to) = match self.wrong {
            Some(Mutation::RuleAsRoute) => (Closeness::Rule, Closeness::Route),
            Some(Mutation::RouteAsService) => (Closeness::Route, Closeness::Name),
            Some(Mutation::NameAsSelector) => (Closeness::Name, Closeness::Selector),
            Some(Mutation::SelectorAsNamespace) => (Closeness::Selector, Closeness::Namespace),
            Some(Mutation::NamespaceAsWorkspace) => (Closeness::Namespace, Closeness::Workspace),
            Some(Mutation::WorkspaceAsMesh) => (Closeness::Workspace, Closeness::Mesh),
            Some(_) | None => return closeness,
        };
        if closeness == from { to } else { closeness }
    }
}

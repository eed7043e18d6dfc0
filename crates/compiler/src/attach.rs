//! Which policy comes first: the only code of precedence.
//!
//! AccessPolicies are not ranked: they combine.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use tacit_api::policy::Enforcement;
use tacit_model::{Name, Namespace, ObjectRef, Provenance, ServiceName};

use crate::targets::{Closeness, Hit, Scope};

/// One line of the table of precedence: what is compared, and what comes first.
pub struct Criterion {
    /// What is compared.
    pub compared: &'static str,
    /// What comes first.
    pub first: &'static str,
}

/// The table. Two policies are compared line by line; the first line that tells them apart
/// decides. `Rank` has a field for each line.
pub const PRECEDENCE: &[Criterion] = &[
    Criterion {
        compared: "where it stands",
        first: "a policy with `enforcement: Override`, of the mesh before one of a workspace \
                before one of a namespace; then other policies; then `defaults` of the Workspace; \
                then `defaults` of the Mesh",
    },
    Criterion {
        compared: "how closely the target is named",
        first: "a rule of a route, then a route, then a Service by name, then by labels, then \
                all of a namespace, of a workspace, of the mesh; what a rule of a route says \
                itself counts as a policy of its namespace on that rule",
    },
    Criterion {
        compared: "`from`",
        first: "with `from` before without",
    },
    Criterion {
        compared: "`priority`",
        first: "the higher; 0 if it is not written",
    },
    Criterion {
        compared: "namespace and name",
        first: "the earlier in the alphabet (files have no age); a route before a policy of the \
                same name",
    },
];

/// The first line of the table: where a value stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Standing {
    /// A policy that inner scopes cannot change; outer scopes first.
    Override(Layerage),
    /// A policy.
    Policy,
    /// `defaults` of the Workspace.
    WorkspaceDefaults,
    /// `defaults` of the Mesh.
    MeshDefaults,
}

/// A scope without its name, so that two workspaces compare equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Layerage {
    Mesh,
    Workspace,
    Namespace,
}

/// The place of one policy among those that hit one service. The least comes first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    standing: Standing,
    closeness: Closeness,
    without_from: bool,
    priority: Reverse<i32>,
    /// Namespace and name, whatever the kind; then a route before a policy of the same name.
    name: (Option<Namespace>, Name),
    object: ObjectRef,
}

/// Namespace and name.
fn name_of(object: &ObjectRef) -> (Option<Namespace>, Name) {
    (object.namespace.clone(), object.name.clone())
}

/// What of a policy decides its rank.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    pub(crate) object: ObjectRef,
    pub(crate) scope: Scope,
    pub(crate) enforcement: Option<Enforcement>,
    pub(crate) priority: Option<i32>,
    pub(crate) has_from: bool,
}

impl Claim {
    /// The rank at a target that is named this closely.
    pub(crate) fn rank(&self, closeness: Closeness) -> Rank {
        let standing = match (self.enforcement, &self.scope) {
            (Some(Enforcement::Override), Scope::Mesh) => Standing::Override(Layerage::Mesh),
            (Some(Enforcement::Override), Scope::Workspace(_)) => {
                Standing::Override(Layerage::Workspace)
            }
            (Some(Enforcement::Override), Scope::Namespace) => {
                Standing::Override(Layerage::Namespace)
            }
            (Some(Enforcement::Default) | None, _) => Standing::Policy,
        };
        Rank {
            standing,
            closeness,
            without_from: !self.has_from,
            priority: Reverse(self.priority.unwrap_or(0)),
            name: name_of(&self.object),
            object: self.object.clone(),
        }
    }
}

/// The rank of the `defaults` of a Workspace or of the Mesh.
pub(crate) fn defaults_rank(object: ObjectRef, standing: Standing) -> Rank {
    Rank {
        standing,
        closeness: Closeness::Mesh,
        without_from: true,
        priority: Reverse(0),
        name: name_of(&object),
        object,
    }
}

/// The services that targets hit, each with the closest naming.
pub(crate) fn services_hit(
    hits: &[Hit],
    services: &BTreeSet<ServiceName>,
) -> BTreeMap<ServiceName, Closeness> {
    let mut found: BTreeMap<ServiceName, Closeness> = BTreeMap::new();
    let mut hit = |name: &ServiceName, closeness: Closeness| {
        let before = found.entry(name.clone()).or_insert(closeness);
        *before = closeness.min(*before);
    };
    for target in hits {
        match target {
            Hit::All {
                namespaces,
                closeness,
                ..
            } => {
                for name in namespaces.iter().flat_map(|to| services_in(services, to)) {
                    hit(name, *closeness);
                }
            }
            Hit::Service { name, closeness } => hit(name, *closeness),
            Hit::Route { .. } | Hit::Workloads { .. } => {}
        }
    }
    found
}

/// The services of one namespace, which stand together.
fn services_in<'s>(
    services: &'s BTreeSet<ServiceName>,
    namespace: &'s Namespace,
) -> impl Iterator<Item = &'s ServiceName> {
    let first = ServiceName::new(namespace.clone(), Name::least());
    services
        .range(first..)
        .take_while(move |name| name.namespace == *namespace)
}

/// One policy at one service: its fields, by name, and whether only some callers get them.
#[derive(Clone, Debug)]
pub(crate) struct Contribution {
    pub(crate) object: ObjectRef,
    /// The fields that resolve by themselves, for example `retry.attempts`.
    pub(crate) fields: BTreeSet<&'static str>,
    pub(crate) for_everybody: bool,
}

/// Which fields of which policy lose to which other, at one service.
///
/// `ranked` are all contributions to the service, the first first. A field loses if an earlier
/// contribution for everybody sets it too.
pub(crate) fn losses(ranked: &[Contribution]) -> Vec<Loss> {
    let mut decided: BTreeMap<&'static str, &ObjectRef> = BTreeMap::new();
    let mut losses = Vec::new();
    for contribution in ranked {
        let mut winners: BTreeMap<ObjectRef, BTreeSet<&'static str>> = BTreeMap::new();
        for field in &contribution.fields {
            if let Some(winner) = decided.get(field) {
                winners.entry((*winner).clone()).or_default().insert(field);
            }
        }
        let lost: usize = winners.values().map(BTreeSet::len).sum();
        losses.push(Loss {
            object: contribution.object.clone(),
            all: lost == contribution.fields.len() && lost > 0,
            winners,
        });
        if contribution.for_everybody {
            for field in &contribution.fields {
                decided.entry(field).or_insert(&contribution.object);
            }
        }
    }
    losses
}

/// What one policy loses at one service.
#[derive(Clone, Debug)]
pub(crate) struct Loss {
    pub(crate) object: ObjectRef,
    /// True if every field loses.
    pub(crate) all: bool,
    /// The fields that each winner takes.
    pub(crate) winners: BTreeMap<ObjectRef, BTreeSet<&'static str>>,
}

/// A field of an object as the origin of a value.
pub(crate) fn origin(object: &ObjectRef, path: impl Into<std::sync::Arc<str>>) -> Provenance {
    Provenance::Field {
        object: object.clone(),
        path: path.into(),
    }
}

/// The table as Markdown, for the documentation.
#[must_use]
pub fn page() -> String {
    let mut page = String::from(
        "# Precedence\n\nWhen several policies set the same field of one service, they are \
         compared line by line; the first line that tells them apart decides. Each field is \
         decided by itself; `limits` of a RateLimitPolicy are one field, so the list of the \
         first policy is all that holds. AccessPolicies are not ranked: they combine. This \
         page is generated from `crates/compiler/src/attach.rs`.\n\n\
         | compared | comes first |\n|---|---|\n",
    );
    for Criterion { compared, first } in PRECEDENCE {
        // Writing to a String cannot fail.
        let _ = writeln!(page, "| {compared} | {first} |");
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(name: &str, scope: Scope) -> Claim {
        let object = ObjectRef {
            kind: "RetryTimeoutPolicy".into(),
            namespace: Some("shop".try_into().unwrap()),
            name: name.try_into().unwrap(),
        };
        Claim {
            object,
            scope,
            enforcement: None,
            priority: None,
            has_from: false,
        }
    }

    /// The table of precedence, line by line: each entry comes before all that follow it.
    #[test]
    fn the_table() {
        let plain = |name| claim(name, Scope::Namespace);
        let over = |name, scope| Claim {
            enforcement: Some(Enforcement::Override),
            ..claim(name, scope)
        };
        let from = Claim {
            has_from: true,
            ..plain("z")
        };
        let high = Claim {
            priority: Some(5),
            ..plain("z")
        };
        let low = Claim {
            priority: Some(-5),
            ..plain("a")
        };
        let route = |name| {
            let mut claim = plain(name);
            claim.object.kind = "HTTPRoute".into();
            claim
        };
        let object = plain("a").object;
        let workspace = Scope::Workspace("w".try_into().unwrap());
        let order = [
            over("z", Scope::Mesh).rank(Closeness::Mesh),
            over("z", workspace).rank(Closeness::Mesh),
            over("z", Scope::Namespace).rank(Closeness::Mesh),
            plain("a").rank(Closeness::Rule),
            route("b").rank(Closeness::Rule),
            plain("b").rank(Closeness::Rule),
            plain("z").rank(Closeness::Route),
            from.rank(Closeness::Name),
            high.rank(Closeness::Name),
            plain("a").rank(Closeness::Name),
            plain("b").rank(Closeness::Name),
            low.rank(Closeness::Name),
            from.rank(Closeness::Selector),
            plain("a").rank(Closeness::Selector),
            high.rank(Closeness::Namespace),
            high.rank(Closeness::Workspace),
            claim("a", Scope::Mesh).rank(Closeness::Mesh),
            defaults_rank(object.clone(), Standing::WorkspaceDefaults),
            defaults_rank(object, Standing::MeshDefaults),
        ];
        for (index, pair) in order.windows(2).enumerate() {
            assert!(
                pair[0] < pair[1],
                "line {index} does not come before the next"
            );
        }
    }

    #[test]
    fn the_page_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/precedence.md");
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(path, page()).expect("docs/precedence.md can be written");
        }
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            written == page(),
            "docs/precedence.md is old; BLESS=1 cargo test rewrites it"
        );
    }

    #[test]
    fn a_field_loses_only_to_an_earlier_one_for_everybody() {
        let contribution = |name, fields: &[&'static str], for_everybody| Contribution {
            object: claim(name, Scope::Namespace).object,
            fields: fields.iter().copied().collect(),
            for_everybody,
        };
        let losses = losses(&[
            contribution("some", &["a"], false),
            contribution("all", &["a", "b"], true),
            contribution("none-left", &["a", "b"], true),
            contribution("half", &["b", "c"], true),
        ]);
        let all: Vec<bool> = losses.iter().map(|loss| loss.all).collect();
        assert_eq!(all, [false, false, true, false]);
        assert_eq!(losses[3].winners.len(), 1);
    }
}

//! Whether one access rule matches everything that another one matches. "No" may mean "not known".

use std::collections::BTreeSet;

use tacit_model::access::{Action, Cidr, From, PathPattern, Rule, To};
use tacit_model::{Namespace, TrustDomain};

use super::callers::within;

/// A rule and what a match does: who an entry without names means depends on it.
pub(super) type Ruled<'r> = (&'r Rule, Action);

/// True if every call that `small` matches is one that `large` matches.
pub(super) fn covers(large: Ruled<'_>, small: Ruled<'_>) -> bool {
    let ((large, large_action), (small, small_action)) = (large, small);
    // An empty list means any.
    let from = large.from.is_empty()
        || !small.from.is_empty()
            && small.from.iter().all(|inner| {
                let outer =
                    |outer: &From| from_covers((outer, large_action), (inner, small_action));
                large.from.iter().any(outer)
            });
    let to = large.to.is_empty()
        || !small.to.is_empty()
            && small
                .to
                .iter()
                .all(|inner| large.to.iter().any(|outer| to_covers(outer, inner)));
    from && to
}

/// Whose names an entry speaks of.
#[derive(PartialEq, Eq)]
enum Domain<'a> {
    Any,
    Local,
    Other(&'a TrustDomain),
}

fn named(from: &From) -> bool {
    from.namespaces.is_some() || from.service_accounts.is_some() || from.workspaces.is_some()
}

fn domain(from: &From) -> Domain<'_> {
    match &from.trust_domain {
        Some(domain) => Domain::Other(domain),
        None if named(from) => Domain::Local,
        None => Domain::Any,
    }
}

/// True if callers without a certificate match: an entry of a Deny that names no identity means
/// them, too.
fn plain((from, action): (&From, Action)) -> bool {
    let no_identity = !named(from) && from.trust_domain.is_none();
    no_identity && (from.unauthenticated || action == Action::Deny)
}

fn from_covers(large: (&From, Action), small: (&From, Action)) -> bool {
    let (outer, inner) = (large.0, small.0);
    let with_certificate = inner.unauthenticated
        || !outer.unauthenticated
            && (domain(outer) == Domain::Any || domain(outer) == domain(inner))
            && subset(outer.namespaces.as_ref(), namespaces(inner).as_ref())
            && subset(
                outer.service_accounts.as_ref(),
                inner.service_accounts.as_ref(),
            )
            && subset(outer.workspaces.as_ref(), inner.workspaces.as_ref());
    let without = !plain(small) || plain(large);
    with_certificate && without && ranges(outer, inner)
}

/// The namespaces that callers must be in, also if only their service accounts say so.
fn namespaces(from: &From) -> Option<BTreeSet<Namespace>> {
    let accounts = from.service_accounts.as_ref();
    let accounts = accounts.map(|set| set.iter().map(|(home, _)| home.clone()).collect());
    from.namespaces.clone().or(accounts)
}

fn ranges(outer: &From, inner: &From) -> bool {
    let inside = |range: &Cidr, set: &BTreeSet<Cidr>| set.iter().any(|other| within(other, range));
    let cidrs = match (&outer.cidrs, &inner.cidrs) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(outer), Some(inner)) => inner.iter().all(|range| inside(range, outer)),
    };
    cidrs
        && outer
            .except
            .iter()
            .all(|range| inside(range, &inner.except))
}

fn to_covers(outer: &To, inner: &To) -> bool {
    let paths = match (&outer.paths, &inner.paths) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(outer), Some(inner)) => inner
            .iter()
            .all(|path| outer.iter().any(|other| path_covers(other, path))),
    };
    paths
        && subset(outer.ports.as_ref(), inner.ports.as_ref())
        && subset(outer.methods.as_ref(), inner.methods.as_ref())
        && subset(outer.hosts.as_ref(), inner.hosts.as_ref())
}

fn path_covers(outer: &PathPattern, inner: &PathPattern) -> bool {
    match (outer, inner) {
        (PathPattern::Exact(outer), PathPattern::Exact(inner)) => outer == inner,
        (PathPattern::Exact(_), PathPattern::Prefix(_)) => false,
        (PathPattern::Prefix(outer), PathPattern::Exact(inner) | PathPattern::Prefix(inner)) => {
            inner.starts_with(&**outer)
        }
    }
}

/// True if `inner` is no larger; absent means any.
fn subset<T: Ord>(outer: Option<&BTreeSet<T>>, inner: Option<&BTreeSet<T>>) -> bool {
    match (outer, inner) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(outer), Some(inner)) => inner.is_subset(outer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use tacit_api::{Object, parse};

    /// The one rule of a policy in the namespace `shop`, from its YAML.
    fn rule(action: &str, rule: &str) -> (Rule, Action) {
        let text = format!(
            "apiVersion: tacit.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {{name: a, namespace: \
             shop}}\nspec: {{targetAll: {{}}, action: {action}, rules: [{rule}]}}\n"
        );
        let parsed = parse("a.yaml", &text);
        assert!(parsed.errors.is_empty(), "{rule}: {:?}", parsed.errors);
        let Object::AccessPolicy(policy) = &parsed.objects[0].value else {
            panic!("{rule}");
        };
        let name = tacit_model::PolicyName::parse("shop", "a").unwrap();
        let row = crate::access::row(name, &policy.spec);
        (row.rules[0].clone(), row.action)
    }

    /// Action and rule that cover, action and rule that are covered or not.
    const CASES: [(&str, &str, &str, &str, bool); 26] = [
        ("Allow", "{}", "Allow", "{}", true),
        (
            "Deny",
            "{}",
            "Allow",
            "{from: [{unauthenticated: true}]}",
            true,
        ),
        // Absent callers of an Allow are those with a certificate.
        (
            "Allow",
            "{}",
            "Allow",
            "{from: [{unauthenticated: true}]}",
            false,
        ),
        ("Allow", "{}", "Deny", "{}", false),
        ("Allow", "{}", "Allow", "{from: [{namespaces: [a]}]}", true),
        (
            "Allow",
            "{}",
            "Allow",
            "{from: [{namespaces: [a], trustDomain: x.y}]}",
            true,
        ),
        ("Allow", "{from: [{namespaces: [a]}]}", "Allow", "{}", false),
        (
            "Allow",
            "{from: [{namespaces: [a, b]}]}",
            "Allow",
            "{from: [{namespaces: [b]}]}",
            true,
        ),
        (
            "Allow",
            "{from: [{namespaces: [a]}]}",
            "Allow",
            "{from: [{namespaces: [a, b]}]}",
            false,
        ),
        (
            "Allow",
            "{from: [{namespaces: [a]}]}",
            "Allow",
            "{from: [{namespaces: [a], trustDomain: x.y}]}",
            false,
        ),
        (
            "Allow",
            "{from: [{namespaces: [a]}]}",
            "Allow",
            "{from: [{serviceAccounts: [a/b]}]}",
            true,
        ),
        (
            "Allow",
            "{from: [{namespaces: [a]}]}",
            "Allow",
            "{from: [{serviceAccounts: [b]}]}",
            false,
        ),
        (
            "Allow",
            "{from: [{namespaces: [shop]}]}",
            "Allow",
            "{from: [{serviceAccounts: [b]}]}",
            true,
        ),
        (
            "Allow",
            "{from: [{workspaces: [w]}]}",
            "Allow",
            "{from: [{namespaces: [a]}]}",
            false,
        ),
        (
            "Allow",
            "{from: [{cidrs: [10.0.0.0/8]}]}",
            "Allow",
            "{from: [{cidrs: [10.1.0.0/16]}]}",
            true,
        ),
        (
            "Allow",
            "{from: [{cidrs: [10.1.0.0/16]}]}",
            "Allow",
            "{from: [{cidrs: [10.0.0.0/8]}]}",
            false,
        ),
        (
            "Allow",
            "{from: [{cidrs: [10.0.0.0/8], except: [10.1.0.0/16]}]}",
            "Allow",
            "{from: [{cidrs: [10.0.0.0/8]}]}",
            false,
        ),
        (
            "Allow",
            "{from: [{cidrs: [10.0.0.0/8], except: [10.1.0.0/16]}]}",
            "Allow",
            "{from: [{cidrs: [10.0.0.0/8], except: [10.0.0.0/9]}]}",
            true,
        ),
        // In a Deny, an entry of ranges alone means callers without a certificate, too.
        (
            "Deny",
            "{from: [{cidrs: [10.0.0.0/8]}]}",
            "Deny",
            "{from: [{cidrs: [10.0.0.0/8]}]}",
            true,
        ),
        (
            "Allow",
            "{from: [{cidrs: [10.0.0.0/8]}]}",
            "Deny",
            "{from: [{cidrs: [10.0.0.0/8]}]}",
            false,
        ),
        (
            "Deny",
            "{to: [{ports: [80, 81]}]}",
            "Allow",
            "{to: [{ports: [80], methods: [GET]}]}",
            true,
        ),
        (
            "Deny",
            "{to: [{ports: [80], methods: [GET]}]}",
            "Allow",
            "{to: [{ports: [80]}]}",
            false,
        ),
        (
            "Deny",
            "{to: [{paths: [/a/*]}]}",
            "Allow",
            "{to: [{paths: [/a/b, /a/c/*]}]}",
            true,
        ),
        (
            "Deny",
            "{to: [{paths: [/a/*]}]}",
            "Allow",
            "{to: [{paths: [/a]}]}",
            false,
        ),
        (
            "Deny",
            "{to: [{paths: [/a]}]}",
            "Allow",
            "{to: [{paths: [/a*]}]}",
            false,
        ),
        (
            "Deny",
            "{to: [{ports: [80]}, {ports: [81]}]}",
            "Allow",
            "{to: [{ports: [81]}]}",
            true,
        ),
    ];

    #[test]
    fn rules_that_cover_others() {
        for (large_action, large, small_action, small, expected) in CASES {
            let ((a, a_does), (b, b_does)) = (rule(large_action, large), rule(small_action, small));
            let case = format!("{large_action} {large} / {small_action} {small}");
            assert_eq!(covers((&a, a_does), (&b, b_does)), expected, "{case}");
        }
    }
}

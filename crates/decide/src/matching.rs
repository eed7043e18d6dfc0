//! Whether one peer and one request match what a rule says about callers and operations.

use std::net::IpAddr;

use tacit_model::access::{Action, From, PathPattern, To};
use tacit_model::tables::Tenancy;
use tacit_model::{Namespace, Snapshot, SpiffeId, WorkspaceName};

/// Who calls, as a rule sees it.
#[derive(Clone, Copy)]
pub(crate) struct Caller<'a> {
    pub(crate) identity: Option<&'a SpiffeId>,
    pub(crate) address: IpAddr,
}

/// A request, as a rule sees it.
#[derive(Clone, Copy)]
pub(crate) struct Operation<'a> {
    pub(crate) method: &'a str,
    /// Canonical.
    pub(crate) path: &'a str,
    /// Lower case, without port.
    pub(crate) host: &'a str,
}

/// How far a rule is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Matched {
    No,
    /// It depends on the request, which is not known yet.
    OnRequest,
    Yes,
}

/// The workspace that a namespace belongs to. A contested namespace belongs to none.
pub(crate) fn workspace_of<'a>(
    s: &'a Snapshot,
    namespace: &Namespace,
) -> Option<&'a WorkspaceName> {
    match &s.namespaces.get(namespace)?.tenancy {
        Tenancy::Member { workspace, .. } => Some(workspace),
        Tenancy::Contested(_) | Tenancy::Unclaimed => None,
    }
}

/// True if `caller` is one of `from`.
///
/// An entry means authenticated callers, or with `unauthenticated` the others only. An entry of
/// a Deny that names no identity (only address ranges) means every caller: whoever writes it
/// wants the range refused, with or without a certificate.
pub(crate) fn from_matches(s: &Snapshot, from: &From, action: Action, caller: Caller<'_>) -> bool {
    let From {
        namespaces,
        service_accounts,
        workspaces,
        trust_domain,
        cidrs,
        except,
        unauthenticated,
    } = from;
    let in_range = cidrs
        .as_ref()
        .is_none_or(|ranges| ranges.iter().any(|range| range.contains(caller.address)));
    if !in_range || except.iter().any(|range| range.contains(caller.address)) {
        return false;
    }
    let named = namespaces.is_some() || service_accounts.is_some() || workspaces.is_some();
    let Some(identity) = caller.identity else {
        let no_identity_asked = !named && trust_domain.is_none();
        return no_identity_asked && (*unauthenticated || action == Action::Deny);
    };
    if *unauthenticated {
        return false;
    }
    // Names are of the local trust domain unless another one is given; workspaces always are.
    let local = &s.mesh.trust_domain;
    let domain_fits = match trust_domain {
        Some(wanted) => identity.trust_domain == *wanted,
        None => !named || identity.trust_domain == *local,
    };
    let account = (&identity.namespace, &identity.service_account);
    let in_workspace = |wanted: &std::collections::BTreeSet<WorkspaceName>| {
        identity.trust_domain == *local
            && workspace_of(s, &identity.namespace).is_some_and(|own| wanted.contains(own))
    };
    domain_fits
        && namespaces
            .as_ref()
            .is_none_or(|set| set.contains(&identity.namespace))
        && service_accounts
            .as_ref()
            .is_none_or(|set| set.iter().any(|(ns, sa)| (ns, sa) == account))
        && workspaces.as_ref().is_none_or(in_workspace)
}

/// Whether `port` and `operation` (if known) are what `to` says.
pub(crate) fn to_matches(to: &To, port: u16, operation: Option<Operation<'_>>) -> Matched {
    let To {
        ports,
        methods,
        paths,
        hosts,
    } = to;
    if ports.as_ref().is_some_and(|ports| !ports.contains(&port)) {
        return Matched::No;
    }
    if !to.needs_request() {
        return Matched::Yes;
    }
    let Some(operation) = operation else {
        return Matched::OnRequest;
    };
    let method = methods
        .as_ref()
        .is_none_or(|set| set.iter().any(|method| **method == *operation.method));
    let path = paths.as_ref().is_none_or(|set| {
        set.iter()
            .any(|pattern| path_matches(pattern, operation.path))
    });
    let host = hosts.as_ref().is_none_or(|set| {
        set.iter()
            .any(|pattern| host_matches(pattern, operation.host))
    });
    if method && path && host {
        Matched::Yes
    } else {
        Matched::No
    }
}

fn path_matches(pattern: &PathPattern, path: &str) -> bool {
    match pattern {
        PathPattern::Exact(exact) => **exact == *path,
        PathPattern::Prefix(prefix) => path.starts_with(&**prefix),
    }
}

fn host_matches(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix('*') {
        // `*.` stands for one or more labels, so the dot must have something before it.
        Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
        None => pattern == host,
    }
}

/// A host for matching: lower case, without port, brackets and final dot.
pub(crate) fn normal_host(host: &str) -> String {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => host.split(':').next().unwrap_or(host),
    };
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        let cases = [
            ("a.example.com", "A.Example.com:80", true),
            ("a.example.com", "a.example.com.", true),
            ("*.example.com", "a.b.example.com", true),
            ("*.example.com", "example.com", false),
            ("*.example.com", ".example.com", false),
            ("*.example.com", "aexample.com", false),
            ("::1", "[::1]:8080", true),
        ];
        for (pattern, host, expected) in cases {
            let got = host_matches(pattern, &normal_host(host));
            assert_eq!(got, expected, "{pattern} {host}");
        }
    }
}

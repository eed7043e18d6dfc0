//! Who may call what: access rules after checking.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::identity::TrustDomain;
use crate::names::{Namespace, ServiceAccount, WorkspaceName};

/// What a matching rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// One of the Allows that apply must match.
    Allow,
    /// A match denies, whatever else allows.
    Deny,
}

/// Whether a policy blocks or only says what it would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// Decides and logs; never blocks, and never triggers the implicit denial.
    Audit,
    /// Blocks.
    Enforce,
}

/// An address range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    /// Any address inside; host bits are zero.
    pub network: IpAddr,
    /// How many leading bits count.
    pub prefix: u8,
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

impl Cidr {
    /// True if `address` lies inside. An IPv4-mapped IPv6 address counts as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let bits = |a: IpAddr| match a.to_canonical() {
            IpAddr::V4(v4) => (u128::from(u32::from(v4)) << 96, true),
            IpAddr::V6(v6) => (u128::from(v6), false),
        };
        let ((network, n4), (candidate, c4)) = (bits(self.network), bits(address));
        let mask = u128::MAX
            .checked_shl(128 - u32::from(self.prefix))
            .unwrap_or(0);
        n4 == c4 && (network & mask) == (candidate & mask)
    }
}

/// Callers: all given conditions apply. Absent means any.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct From {
    /// Namespaces, one of which the caller must be in.
    pub namespaces: Option<BTreeSet<Namespace>>,
    /// Service accounts with their namespace: a bare one was resolved by the compiler.
    pub service_accounts: Option<BTreeSet<(Namespace, ServiceAccount)>>,
    /// Workspaces, one of which the caller's namespace must belong to.
    pub workspaces: Option<BTreeSet<WorkspaceName>>,
    /// The trust domain; absent means the local one.
    pub trust_domain: Option<TrustDomain>,
    /// Source address ranges.
    pub cidrs: Option<BTreeSet<Cidr>>,
    /// Source address ranges that do not match, whatever `cidrs` says.
    pub except: BTreeSet<Cidr>,
    /// True if it names callers without a certificate (and only those).
    pub unauthenticated: bool,
}

/// A pattern of a path: the whole of it, or a prefix ending in `/*` or `*`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PathPattern {
    /// Exactly this canonical path.
    Exact(Arc<str>),
    /// This canonical prefix and anything after it.
    Prefix(Arc<str>),
}

/// What is called: all given conditions apply. Absent means any.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct To {
    /// Ports of the workload (not of the service).
    pub ports: Option<BTreeSet<u16>>,
    /// HTTP methods, upper case. L7.
    pub methods: Option<BTreeSet<Arc<str>>>,
    /// Canonical paths. L7.
    pub paths: Option<BTreeSet<PathPattern>>,
    /// Host names without port, lower case; a leading `*.` matches one or more labels. L7.
    pub hosts: Option<BTreeSet<Arc<str>>>,
}

impl To {
    /// True if it can only be decided with a request in hand.
    #[must_use]
    pub fn needs_request(&self) -> bool {
        self.methods.is_some() || self.paths.is_some() || self.hosts.is_some()
    }
}

/// One rule: any of `from`, and any of `to`. Empty lists mean "any" here; the compiler refuses
/// written empty lists, and an absent `from` of an Allow became `From::default()`, which is any
/// authenticated peer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rule {
    /// Callers; empty: every peer, authenticated or not (only in a Deny).
    pub from: Vec<From>,
    /// Operations; empty: everything.
    pub to: Vec<To>,
    /// The field path of the rule in its object, for example `spec.rules[0]`.
    pub path: Arc<str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let cidr = |n: &str, prefix| Cidr {
            network: n.parse().unwrap(),
            prefix,
        };
        let ten = cidr("10.0.0.0", 8);
        assert!(ten.contains("10.255.0.1".parse().unwrap()));
        assert!(ten.contains("::ffff:10.0.0.1".parse().unwrap()));
        assert!(!ten.contains("11.0.0.1".parse().unwrap()));
        assert!(!ten.contains("::10".parse().unwrap()));
        assert!(cidr("0.0.0.0", 0).contains("1.2.3.4".parse().unwrap()));
        assert!(cidr("1.2.3.4", 32).contains("1.2.3.4".parse().unwrap()));
        assert!(cidr("fd00::", 8).contains("fd12::1".parse().unwrap()));
    }
}

//! One caller of every sort that the rules of two states can tell apart.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use tacit_decide::Peer;
use tacit_decide::why::{Source, caller};
use tacit_model::access::{Cidr, From};
use tacit_model::{Locality, Namespace, ServiceAccount, Snapshot, SpiffeId, TrustDomain};

use super::Both;
use crate::call::Caller;

/// Whose identity it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Domain {
    /// The mesh's own, whatever its name is.
    Local,
    Other(TrustDomain),
}

/// Whom a sort stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stands {
    Account(Domain, Namespace, ServiceAccount),
    /// Accounts of a namespace that are not mentioned.
    Others(Domain, Namespace),
    /// Those of namespaces that are not mentioned.
    Elsewhere(Domain),
    /// Those of trust domains that are not mentioned.
    OtherDomains,
    /// Callers without a certificate.
    Nobody,
}

/// A sort of caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sort {
    /// `None`: without a certificate.
    identity: Option<(Domain, Namespace, ServiceAccount)>,
    stands: Stands,
    address: IpAddr,
    /// For people.
    pub(super) label: String,
    /// True if it can have a client half: it is of the mesh.
    pub(super) is_local: bool,
}

impl Sort {
    /// The caller in one of the states; `None` if its names make none, which valid ones do not do.
    pub(super) fn caller(&self, s: &Snapshot) -> Option<Caller> {
        let local = &s.mesh.trust_domain;
        let (row, id) = match &self.identity {
            Some((domain, namespace, account)) => {
                let id = SpiffeId {
                    trust_domain: match domain {
                        Domain::Local => local.clone(),
                        Domain::Other(other) => other.clone(),
                    },
                    namespace: namespace.clone(),
                    service_account: account.clone(),
                };
                let source = Source::Identity(id.clone(), Locality::default());
                let mut row = caller(s, &source).ok()?.0;
                Arc::make_mut(&mut row).address = self.address;
                (row, Some(id))
            }
            None => {
                let id = SpiffeId {
                    trust_domain: local.clone(),
                    namespace: Namespace::try_from("none").ok()?,
                    service_account: ServiceAccount::try_from("none").ok()?,
                };
                (
                    caller(s, &Source::Identity(id, Locality::default()))
                        .ok()?
                        .0,
                    None,
                )
            }
        };
        let peer = Peer {
            identity: id,
            address: SocketAddr::new(self.address, 0),
        };
        Some(Caller { row, peer })
    }
}

/// What the rules of both states say of callers.
#[derive(Default)]
struct Mentioned {
    accounts: BTreeSet<(Namespace, ServiceAccount)>,
    namespaces: BTreeSet<Namespace>,
    domains: BTreeSet<TrustDomain>,
    ranges: BTreeSet<Cidr>,
}

impl Mentioned {
    fn of(both: Both<'_>) -> Self {
        let mut all = Self::default();
        for state in both.states() {
            let s = &state.snapshot;
            for row in s.workloads.values() {
                let class = &row.class;
                all.accounts
                    .insert((class.namespace.clone(), class.service_account.clone()));
            }
            all.namespaces.extend(s.namespaces.keys().cloned());
            let rules = s.access.values().flat_map(|row| &row.rules);
            rules
                .flat_map(|rule| &rule.from)
                .for_each(|from| all.add(from));
            let rules = || s.routes.values().flat_map(|row| &row.rules);
            let of_rules = rules().flat_map(|rule| rule.resilience.iter().flatten());
            let layers = s.services.values().flat_map(|row| &row.resilience);
            let routes = s.routes.values();
            all.namespaces
                .extend(routes.map(|row| row.namespace.clone()));
            let of_faults = s.services.values().flat_map(|row| &row.faults);
            let of_faults = of_faults.filter_map(|layer| layer.callers.as_ref());
            layers
                .chain(of_rules)
                .filter_map(|layer| layer.callers.as_ref())
                .chain(of_faults)
                .flatten()
                .for_each(|f| all.add(f));
        }
        let of_accounts: Vec<Namespace> = all.accounts.iter().map(|(ns, _)| ns.clone()).collect();
        all.namespaces.extend(of_accounts);
        all
    }

    fn add(&mut self, from: &From) {
        self.accounts
            .extend(from.service_accounts.iter().flatten().cloned());
        self.namespaces
            .extend(from.namespaces.iter().flatten().cloned());
        self.domains.extend(from.trust_domain.clone());
        self.ranges
            .extend(from.cidrs.iter().flatten().chain(&from.except).copied());
    }

    /// Names that nobody mentions, as `x0`, `x1`, ...
    fn other<T: for<'a> TryFrom<&'a str>>(is_known: impl Fn(&T) -> bool) -> Option<T> {
        let mut names = (0..).map(|number: u32| format!("x{number}"));
        names.find_map(|name| T::try_from(&name).ok().filter(|name| !is_known(name)))
    }
}

/// One caller of every sort.
pub(super) fn all(both: Both<'_>) -> Vec<Sort> {
    let mentioned = Mentioned::of(both);
    let addresses = addresses(&mentioned.ranges);
    let mut sorts = Vec::new();
    let mut add = |identity: Option<(Domain, Namespace, ServiceAccount)>, stands, label: &str| {
        for address in &addresses {
            let at = piece(&mentioned.ranges, *address);
            sorts.push(Sort {
                is_local: matches!(&identity, Some((Domain::Local, _, _))),
                identity: identity.clone(),
                stands: Stands::clone(&stands),
                address: *address,
                label: format!("{label}{at}"),
            });
        }
    };
    for one in identities(&mentioned) {
        add(one.id(Domain::Local), one.stands(Domain::Local), &one.label);
        for domain in &mentioned.domains {
            let label = format!("{} of {domain}", one.label);
            let domain = || Domain::Other(domain.clone());
            add(one.id(domain()), one.stands(domain()), &label);
        }
    }
    // Names of a domain that no rule mentions match nothing: one of them stands for all.
    let locals = locals(both);
    let known = |d: &TrustDomain| mentioned.domains.contains(d) || locals.contains(d);
    if let (Some(domain), Some(one)) = (Mentioned::other(known), identities(&mentioned).pop()) {
        let id = one.id(Domain::Other(domain));
        add(id, Stands::OtherDomains, "any other trust domain");
    }
    add(None, Stands::Nobody, "callers without a certificate");
    sorts
}

fn locals(both: Both<'_>) -> [TrustDomain; 2] {
    both.states()
        .map(|state| state.snapshot.mesh.trust_domain.clone())
}

/// All sorts, and which of them stands for a caller.
pub(super) struct Sorts {
    all: Vec<Sort>,
    ranges: BTreeSet<Cidr>,
    locals: [TrustDomain; 2],
}

impl Sorts {
    pub(super) fn new(both: Both<'_>) -> Self {
        Self {
            all: all(both),
            ranges: Mentioned::of(both).ranges,
            locals: locals(both),
        }
    }

    /// The sort of a caller; each has one.
    pub(super) fn of(&self, identity: Option<&SpiffeId>, address: IpAddr) -> Option<&Sort> {
        let pieces = pieces(&self.ranges, address);
        let here = |stands: &Stands| {
            let mut found = self.all.iter().filter(|sort| sort.stands == *stands);
            found.find(|sort| pieces == self::pieces(&self.ranges, sort.address))
        };
        let Some(id) = identity else {
            return here(&Stands::Nobody);
        };
        let domain = match self.locals.contains(&id.trust_domain) {
            true => Domain::Local,
            false => Domain::Other(id.trust_domain.clone()),
        };
        let (namespace, account) = (id.namespace.clone(), id.service_account.clone());
        here(&Stands::Account(domain.clone(), namespace.clone(), account))
            .or_else(|| here(&Stands::Others(domain.clone(), namespace)))
            .or_else(|| here(&Stands::Elsewhere(domain)))
            .or_else(|| here(&Stands::OtherDomains))
    }
}

/// An account that stands for itself or for others.
struct Identity {
    namespace: Namespace,
    account: ServiceAccount,
    stands: fn(Domain, Namespace, ServiceAccount) -> Stands,
    label: String,
}

impl Identity {
    #[expect(clippy::unnecessary_wraps, reason = "a caller may have none")]
    fn id(&self, domain: Domain) -> Option<(Domain, Namespace, ServiceAccount)> {
        Some((domain, self.namespace.clone(), self.account.clone()))
    }

    fn stands(&self, domain: Domain) -> Stands {
        (self.stands)(domain, self.namespace.clone(), self.account.clone())
    }
}

/// Each account that is mentioned, another one of each namespace, and one of another namespace.
fn identities(mentioned: &Mentioned) -> Vec<Identity> {
    let mut all: Vec<Identity> = Vec::new();
    for (namespace, account) in &mentioned.accounts {
        all.push(Identity {
            namespace: namespace.clone(),
            account: account.clone(),
            stands: Stands::Account,
            label: format!("{namespace}/{account}"),
        });
    }
    let elsewhere = Mentioned::other(|ns: &Namespace| mentioned.namespaces.contains(ns));
    for namespace in mentioned.namespaces.iter().chain(&elsewhere) {
        let known = |account: &ServiceAccount| {
            let key = (namespace.clone(), account.clone());
            mentioned.accounts.contains(&key)
        };
        let is_known = mentioned.namespaces.contains(namespace);
        let other = Mentioned::other(known);
        all.extend(other.map(|account| Identity {
            namespace: namespace.clone(),
            account,
            stands: match is_known {
                true => |domain, namespace, _| Stands::Others(domain, namespace),
                false => |domain, _, _| Stands::Elsewhere(domain),
            },
            label: match is_known {
                true => format!("other accounts of {namespace}"),
                false => "accounts of other namespaces".to_owned(),
            },
        }));
    }
    all
}

/// One address of each piece into which ranges cut all addresses.
fn addresses(ranges: &BTreeSet<Cidr>) -> Vec<IpAddr> {
    let mut points = BTreeSet::from([IpAddr::V4(Ipv4Addr::UNSPECIFIED)]);
    if !ranges.is_empty() {
        points.insert(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    }
    for range in ranges {
        points.insert(range.network);
        points.extend(behind(range));
    }
    let mut seen = BTreeSet::new();
    points
        .into_iter()
        .filter(|address| seen.insert(pieces(ranges, *address)))
        .collect()
}

/// Which ranges hold an address.
fn pieces(ranges: &BTreeSet<Cidr>, address: IpAddr) -> Vec<bool> {
    let holds = ranges.iter().map(|range| range.contains(address));
    holds.collect()
}

/// The piece of an address in words. Of ranges that hold it, one is inside the next.
fn piece(ranges: &BTreeSet<Cidr>, address: IpAddr) -> String {
    if ranges.is_empty() {
        return String::new();
    }
    let around = ranges.iter().filter(|range| range.contains(address));
    match around.max_by_key(|range| range.prefix) {
        Some(range) => format!(" from {range}"),
        None => " from other addresses".to_owned(),
    }
}

/// The first address behind a range.
fn behind(range: &Cidr) -> Option<IpAddr> {
    match range.network {
        IpAddr::V4(network) => {
            let size = 1u64.checked_shl(32u32.checked_sub(range.prefix.into())?)?;
            let next = u64::from(u32::from(network)).checked_add(size)?;
            Some(IpAddr::V4(u32::try_from(next).ok()?.into()))
        }
        IpAddr::V6(network) => {
            let size = 1u128.checked_shl(128u32.checked_sub(range.prefix.into())?)?;
            Some(IpAddr::V6(u128::from(network).checked_add(size)?.into()))
        }
    }
}

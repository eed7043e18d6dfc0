//! The matches of all routes at one parent, found by path in the order of precedence.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::names::Namespace;
use crate::route::{Candidate, PathMatch, RouteKind};
use crate::tables::Protocol;

/// Every match at a parent.
///
/// Matches of an exact path come before all others, and those of a longer prefix before those of a
/// shorter one. Of two prefixes of one path one is longer, so the matches that may fit a path are
/// those of the path itself, then those of each of its prefixes from the longest on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Candidates {
    /// The one that comes first first.
    all: Vec<Candidate>,
    /// Indexes of `all`.
    exact: HashMap<Arc<str>, Vec<usize>>,
    prefix: HashMap<Arc<str>, Vec<usize>>,
    /// Whose routes there are, at which port, and of which kinds.
    holders: BTreeSet<(Option<u16>, Namespace, RouteKind)>,
}

impl Candidates {
    /// Of these matches, in whatever order.
    #[must_use]
    pub fn new(mut all: Vec<Candidate>) -> Self {
        all.sort_by_cached_key(Candidate::rank);
        let mut found = Self::default();
        for (index, candidate) in all.iter().enumerate() {
            let route = &candidate.route;
            let holder = (route.key.port, route.namespace.clone(), route.key.kind());
            found.holders.insert(holder);
            let Some(conditions) = candidate.conditions() else {
                continue;
            };
            let (by_text, text) = match &conditions.path {
                PathMatch::Exact(path) => (&mut found.exact, path),
                PathMatch::Prefix(path) => (&mut found.prefix, path),
            };
            by_text.entry(Arc::clone(text)).or_default().push(index);
        }
        found.all = all;
        found
    }

    /// All of them, the one that comes first first.
    #[must_use]
    pub fn all(&self) -> &[Candidate] {
        &self.all
    }

    /// True if some route is for ports of this protocol.
    #[must_use]
    pub fn has_for(&self, protocol: Protocol) -> bool {
        let mut kinds = self.holders.iter().map(|(.., kind)| kind);
        kinds.any(|kind| kind.protocol() == protocol)
    }

    /// The kind of route that counts for a namespace at a port; nothing if it has no route there.
    #[must_use]
    pub fn kind_at(
        &self,
        namespace: &Namespace,
        port: u16,
        protocol: Protocol,
    ) -> Option<RouteKind> {
        let has = |port, kind| self.holders.contains(&(port, namespace.clone(), kind));
        let kinds = match protocol {
            Protocol::Http => &[RouteKind::Grpc, RouteKind::Http][..],
            Protocol::Tcp => &[RouteKind::Tcp][..],
        };
        let here = |kind: &&RouteKind| has(None, **kind) || has(Some(port), **kind);
        kinds.iter().find(here).copied()
    }

    /// Those that count at a port for somebody, the one that comes first first.
    pub fn holding(&self, port: u16, protocol: Protocol) -> impl Iterator<Item = &Candidate> {
        self.all.iter().filter(move |found| {
            let route = &found.route;
            let kind = || self.kind_at(&route.namespace, port, protocol);
            route.key.port.is_none_or(|of| of == port) && kind() == Some(route.key.kind())
        })
    }

    /// Those whose path fits a canonical one, the one that comes first first.
    pub fn at<'a>(&'a self, path: &str) -> impl Iterator<Item = &'a Candidate> {
        let slashes = path.rmatch_indices('/').map(|(at, _)| &path[..at]);
        let prefixes = std::iter::once(path).chain(slashes);
        let of_prefixes = prefixes.filter_map(|prefix| self.prefix.get(prefix));
        let found = self.exact.get(path).into_iter().chain(of_prefixes);
        found.flatten().filter_map(|index| self.all.get(*index))
    }
}

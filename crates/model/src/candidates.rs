//! The matches of all routes at one parent, found by path in the order of precedence.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::names::Namespace;
use crate::route::{Candidate, PathMatch};

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
    /// Whose routes there are, at which port, and whether they are GRPCRoutes.
    holders: BTreeSet<(Option<u16>, Namespace, bool)>,
}

impl Candidates {
    /// Of these matches, in whatever order.
    #[must_use]
    pub fn new(mut all: Vec<Candidate>) -> Self {
        all.sort_by_cached_key(Candidate::rank);
        let mut found = Self::default();
        for (index, candidate) in all.iter().enumerate() {
            let route = &candidate.route;
            let holder = (route.key.port, route.namespace.clone(), route.key.is_grpc());
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

    /// True if a namespace has a route at this port.
    #[must_use]
    pub fn has_of(&self, namespace: &Namespace, port: u16) -> bool {
        self.has(namespace, port, false) || self.has_grpc(namespace, port)
    }

    /// True if a namespace has a GRPCRoute at this port: its other routes do not count there.
    #[must_use]
    pub fn has_grpc(&self, namespace: &Namespace, port: u16) -> bool {
        self.has(namespace, port, true)
    }

    fn has(&self, namespace: &Namespace, port: u16, is_grpc: bool) -> bool {
        let has = |port| self.holders.contains(&(port, namespace.clone(), is_grpc));
        has(None) || has(Some(port))
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

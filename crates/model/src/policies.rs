//! The access policies of a class: which apply to a port, and their rules found by path.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, OnceLock};

use crate::access::{Action, PathPattern, Rule};
use crate::tables::{AccessRow, ServiceRow, WorkloadRow};

/// The policies of a class, in its order. Classes with the same list share one of these.
#[derive(Debug, Default)]
pub struct Policies {
    all: Vec<Applied>,
    /// Made when the first request asks: most lists of a snapshot never decide on most nodes.
    index: OnceLock<Index>,
}

/// A policy and the ports that it is about.
#[derive(Clone, Debug)]
pub struct Applied {
    /// The policy.
    pub row: Arc<AccessRow>,
    /// Through Services: only the target ports of these. Absent: every port.
    pub through: Option<Vec<Arc<ServiceRow>>>,
}

impl Applied {
    /// True if it is about `port` of `local`.
    #[must_use]
    pub fn applies(&self, local: &WorkloadRow, port: u16) -> bool {
        self.through.as_ref().is_none_or(|services| {
            let mut ports = services.iter().flat_map(|service| &service.ports);
            ports.any(|declared| declared.target_on(local) == Some(port))
        })
    }
}

/// A rule that may match.
#[derive(Clone, Copy, Debug)]
pub struct Clause<'a> {
    /// Its place among the rules of its action in the class: the least that matches decides.
    pub order: u32,
    /// Its policy.
    pub policy: &'a Applied,
    /// The rule.
    pub rule: &'a Rule,
}

impl Policies {
    /// Of these attachments. Neighbours of one policy become one: it is reached through several
    /// Services.
    #[must_use]
    pub fn new(attached: Vec<(Arc<AccessRow>, Option<Arc<ServiceRow>>)>) -> Self {
        let mut all: Vec<Applied> = Vec::with_capacity(attached.len());
        for (row, through) in attached {
            match all.last_mut().filter(|last| last.row.name == row.name) {
                Some(last) => match (&mut last.through, through) {
                    (Some(services), Some(service)) => services.push(service),
                    (through, _) => *through = None,
                },
                None => all.push(Applied {
                    row,
                    through: through.map(|service| vec![service]),
                }),
            }
        }
        Self {
            all,
            index: OnceLock::new(),
        }
    }

    /// All of them, in order.
    #[must_use]
    pub fn all(&self) -> &[Applied] {
        &self.all
    }

    /// Every rule of `action` whose path can fit a canonical one, in no particular order; other
    /// conditions remain to be compared. A rule can be among them twice.
    pub fn at<'a>(&'a self, action: Action, path: &str) -> impl Iterator<Item = Clause<'a>> {
        let found = match action {
            Action::Allow => &self.index().allow,
            Action::Deny => &self.index().deny,
        };
        found.at(path).filter_map(|order| {
            let (policy, rule) = *found.rules.get(usize::try_from(order).ok()?)?;
            let policy = self.all.get(policy)?;
            Some(Clause {
                order,
                policy,
                rule: policy.row.rules.get(rule)?,
            })
        })
    }

    /// True if a rule of a policy that is about this port looks at the path of its requests.
    #[must_use]
    pub fn looks_at_paths(&self, local: &WorkloadRow, port: u16) -> bool {
        let mut looked = self.index().looks_at_paths.iter();
        looked.any(|(policy, ports)| {
            let fits = ports.as_ref().is_none_or(|ports| ports.contains(&port));
            let policy = self.all.get(*policy);
            fits && policy.is_some_and(|policy| policy.applies(local, port))
        })
    }

    fn index(&self) -> &Index {
        self.index.get_or_init(|| Index::of(&self.all))
    }
}

/// The rules of the policies, found by path.
#[derive(Debug)]
struct Index {
    allow: ByPath,
    deny: ByPath,
    /// Policies that look at paths, and at which ports; absent: at every one.
    looks_at_paths: Vec<(usize, Option<BTreeSet<u16>>)>,
}

impl Index {
    fn of(all: &[Applied]) -> Self {
        let looks = all.iter().enumerate();
        Self {
            allow: ByPath::of(all, Action::Allow),
            deny: ByPath::of(all, Action::Deny),
            looks_at_paths: looks
                .filter_map(|(at, policy)| Some((at, path_ports(&policy.row.rules)?)))
                .collect(),
        }
    }
}

/// `None`: no rule looks at paths. `Some(None)`: some do at every port.
fn path_ports(rules: &[Rule]) -> Option<Option<BTreeSet<u16>>> {
    let to = rules.iter().flat_map(|rule| &rule.to);
    let ports: Vec<_> = to
        .filter(|to| to.paths.is_some())
        .map(|to| &to.ports)
        .collect();
    let all = ports.iter().copied().flatten().flatten().copied();
    match ports.as_slice() {
        [] => None,
        some if some.iter().any(|ports| ports.is_none()) => Some(None),
        _ => Some(Some(all.collect())),
    }
}

/// The rules of one action. The numbers are indexes of `rules`.
#[derive(Debug, Default)]
struct ByPath {
    /// Index of the policy, and of the rule in it: in the order in which they are tried.
    rules: Vec<(usize, usize)>,
    /// Rules that do not look at paths in one of their `to`.
    always: Vec<u32>,
    exact: HashMap<Arc<str>, Vec<u32>>,
    /// Sorted by text.
    prefixes: Vec<Prefix>,
}

#[derive(Debug)]
struct Prefix {
    text: Arc<str>,
    rules: Vec<u32>,
    /// The longest other prefix that begins this one.
    shorter: Option<usize>,
}

impl ByPath {
    fn of(all: &[Applied], action: Action) -> Self {
        let mut made = Self::default();
        let mut prefixes: BTreeMap<Arc<str>, Vec<u32>> = BTreeMap::new();
        for (policy, applied) in all.iter().enumerate() {
            if applied.row.action != action {
                continue;
            }
            for (at, rule) in applied.row.rules.iter().enumerate() {
                // 4 billion rules do not fit into the memory of a node.
                let order = u32::try_from(made.rules.len()).unwrap_or(u32::MAX);
                made.rules.push((policy, at));
                made.add(order, rule, &mut prefixes);
            }
        }
        made.prefixes = nested(prefixes);
        made
    }

    fn add(&mut self, order: u32, rule: &Rule, prefixes: &mut BTreeMap<Arc<str>, Vec<u32>>) {
        let without = rule.to.iter().any(|to| to.paths.is_none());
        if rule.to.is_empty() || without {
            self.always.push(order);
            return;
        }
        for pattern in rule.to.iter().filter_map(|to| to.paths.as_ref()).flatten() {
            let rules = match pattern {
                PathPattern::Exact(path) => self.exact.entry(Arc::clone(path)).or_default(),
                PathPattern::Prefix(prefix) => prefixes.entry(Arc::clone(prefix)).or_default(),
            };
            rules.push(order);
        }
    }

    fn at(&self, path: &str) -> impl Iterator<Item = u32> {
        // What begins the path is not behind it in the order of texts, and whatever stands between
        // the two begins with it as well: so each such prefix is the last one that is not behind
        // the path, or begins that one.
        let behind = self.prefixes.partition_point(|one| *one.text <= *path);
        let last = behind.checked_sub(1);
        let chain = std::iter::successors(last.and_then(|at| self.prefixes.get(at)), |one| {
            self.prefixes.get(one.shorter?)
        });
        let of_prefixes = chain
            .skip_while(|one| !path.starts_with(&*one.text))
            .flat_map(|one| &one.rules);
        let exact = self.exact.get(path).into_iter().flatten();
        exact.chain(of_prefixes).chain(&self.always).copied()
    }
}

/// Sorted, each with the longest other one that begins it.
fn nested(prefixes: BTreeMap<Arc<str>, Vec<u32>>) -> Vec<Prefix> {
    let mut made: Vec<Prefix> = Vec::with_capacity(prefixes.len());
    for (text, rules) in prefixes {
        let mut shorter = made.len().checked_sub(1);
        while let Some(one) = shorter.and_then(|at| made.get(at)) {
            if text.starts_with(&*one.text) {
                break;
            }
            shorter = one.shorter;
        }
        made.push(Prefix {
            text,
            rules,
            shorter,
        });
    }
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_of_a_path() {
        let texts = ["", "/", "/a", "/a/", "/a/b/", "/ab", "/b/", "/a/b/c/d"];
        let numbered = texts.iter().zip(0..);
        let prefixes = numbered.map(|(text, order)| ((*text).into(), vec![order]));
        let by_path = ByPath {
            prefixes: nested(prefixes.collect()),
            ..ByPath::default()
        };
        for path in [
            "",
            "/",
            "/a",
            "/a/",
            "/a/b",
            "/a/b/c",
            "/ab/",
            "/abc",
            "/b",
            "/b/",
            "/c",
            "/a/b/c/d/e",
        ] {
            let mut found: Vec<u32> = by_path.at(path).collect();
            found.sort_unstable();
            let plain = texts.iter().zip(0..);
            let plain = plain.filter(|(text, _)| path.starts_with(*text));
            let plain: Vec<u32> = plain.map(|(_, order)| order).collect();
            assert_eq!(found, plain, "{path}");
        }
    }
}

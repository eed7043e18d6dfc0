//! The requests that the rules of routes tell apart, with the policies of their backends.
//!
//! Which rule comes first for a request is a pair, one rule of each state. Headers and parameters
//! that neither of the two asks for could only make an earlier rule match. So what each pair asks
//! for together, and nothing more, is all that has to be tried, not every combination. Policies see
//! the path that a rule made: what they ask of it is carried back through each change of a prefix.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tacit_model::access::{PathPattern, To as Condition};
use tacit_model::route::{Action, Candidate, PathChange, PathMatch, RouteMatch, RouteRule};

use super::super::requests::{Fields, Mentioned};

/// What is looked at by routes of both states, and by policies behind them.
pub(super) fn mentioned<'a>(
    routes: [&[&Candidate]; 2],
    conditions: impl Iterator<Item = &'a Condition>,
) -> Mentioned {
    let mut all = Mentioned::of(conditions);
    let candidates = || routes.into_iter().flatten();
    let rules = || candidates().filter_map(|found| Some((found.conditions()?, found.rule()?)));
    for (asked, rule) in rules() {
        all.methods.extend(asked.method.clone());
        let hosts = asked.headers.iter().filter(|(name, _)| &**name == "host");
        all.exact_hosts
            .extend(hosts.map(|(_, value)| value.clone()));
        // Where one state writes a host or a path and the other leaves it, only this one is alike.
        all.exact_hosts.extend(written_host(rule));
        let whole = path_changes(rule).filter_map(|change| match change {
            PathChange::Full(path) => Some(PathPattern::Exact(path.clone())),
            PathChange::Prefix(_) => None,
        });
        all.paths.extend(whole);
    }
    if candidates().any(|found| found.route.key.is_grpc()) {
        all.methods.insert("POST".into());
    }
    let seen_behind: Vec<PathPattern> = all.paths.iter().cloned().collect();
    for (asked, rule) in rules() {
        for change in path_changes(rule) {
            let back = |seen| carried_back(seen, &asked.path, change);
            all.paths.extend(seen_behind.iter().filter_map(back));
        }
        all.paths.extend(path_patterns(&asked.path));
    }
    all.fields = fields(routes);
    all
}

fn written_host(rule: &RouteRule) -> Option<Arc<str>> {
    match &rule.action {
        Action::Redirect(redirect) => redirect.host.clone(),
        Action::Forward(_) => rule.changes.host.clone(),
    }
}

fn path_changes(rule: &RouteRule) -> impl Iterator<Item = &PathChange> {
    let redirect = match &rule.action {
        Action::Redirect(redirect) => redirect.path.as_ref(),
        Action::Forward(_) => None,
    };
    rule.changes.path.iter().chain(redirect)
}

/// A match of a path in patterns: whole segments are the path itself, and what begins so with a
/// slash.
fn path_patterns(path: &PathMatch) -> Vec<PathPattern> {
    match path {
        PathMatch::Exact(path) => vec![PathPattern::Exact(path.clone())],
        PathMatch::Prefix(prefix) => {
            let below = PathPattern::Prefix(format!("{prefix}/").into());
            let itself = PathPattern::Exact(prefix.clone());
            match prefix.is_empty() {
                true => vec![below],
                false => vec![itself, below],
            }
        }
    }
}

/// The paths that fit `seen` after the change; nothing if it does not depend on the path.
fn carried_back(seen: &PathPattern, asked: &PathMatch, change: &PathChange) -> Option<PathPattern> {
    let (PathMatch::Prefix(prefix), PathChange::Prefix(replacement)) = (asked, change) else {
        return None;
    };
    let (text, is_exact) = match seen {
        PathPattern::Exact(path) => (path, true),
        PathPattern::Prefix(path) => (path, false),
    };
    let rest = text.strip_prefix(&**replacement)?;
    if !(rest.is_empty() || rest.starts_with('/')) {
        return None;
    }
    let path: Arc<str> = format!("{prefix}{rest}").into();
    match (path.is_empty(), is_exact) {
        (true, _) => None,
        (false, true) => Some(PathPattern::Exact(path)),
        (false, false) => Some(PathPattern::Prefix(path)),
    }
}

/// Headers and parameters that a match asks for, besides the host.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Wanted {
    headers: BTreeMap<Arc<str>, Arc<str>>,
    query: BTreeMap<Arc<str>, Arc<str>>,
}

impl Wanted {
    fn of(asked: &RouteMatch, is_grpc: bool) -> Self {
        let mut wanted = match is_grpc {
            true => Self::call(),
            false => Self::default(),
        };
        let headers = asked.headers.iter().filter(|(name, _)| &**name != "host");
        // What a rule asks for itself counts, so it comes last.
        wanted.headers.extend(headers.cloned());
        wanted.query.extend(asked.query.iter().cloned());
        wanted
    }

    /// A call of gRPC.
    fn call() -> Self {
        let of_kind = ("content-type".into(), "application/grpc".into());
        Self {
            headers: BTreeMap::from([of_kind]),
            query: BTreeMap::new(),
        }
    }

    /// Both together; nothing if no request has both.
    fn and(&self, other: &Self) -> Option<Self> {
        Some(Self {
            headers: joined(&self.headers, &other.headers)?,
            query: joined(&self.query, &other.query)?,
        })
    }

    fn fields(&self) -> Fields {
        let encoded =
            |(name, value): (&Arc<str>, &Arc<str>)| format!("{}={}", escaped(name), escaped(value));
        let query: Vec<String> = self.query.iter().map(encoded).collect();
        let headers = self.headers.iter();
        let mut words: Vec<String> = headers
            .map(|(name, value)| format!("{name}: {value}"))
            .collect();
        words.extend(query.iter().map(|pair| format!("?{pair}")));
        Fields {
            headers: self.headers.clone(),
            query: query.join("&"),
            label: match words.is_empty() {
                true => "no header or parameter of a rule".to_owned(),
                false => words.join(" and "),
            },
        }
    }
}

fn joined(
    a: &BTreeMap<Arc<str>, Arc<str>>,
    b: &BTreeMap<Arc<str>, Arc<str>>,
) -> Option<BTreeMap<Arc<str>, Arc<str>>> {
    let contradicts = a
        .iter()
        .any(|(name, value)| b.get(name).is_some_and(|other| other != value));
    let both = a
        .iter()
        .chain(b)
        .map(|(name, value)| (name.clone(), value.clone()));
    (!contradicts).then(|| both.collect())
}

fn escaped(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

/// What a match of one state, or none, and one of the other, or none, ask for together.
fn fields([old, new]: [&[&Candidate]; 2]) -> Vec<Fields> {
    let wanted = |candidates: &[&Candidate]| {
        let asked = candidates.iter().filter_map(|found| {
            let is_grpc = found.route.key.is_grpc();
            Some(Wanted::of(found.conditions()?, is_grpc))
        });
        let mut all: BTreeSet<Wanted> = asked.collect();
        all.insert(Wanted::default());
        // A call of gRPC that no rule matches is answered otherwise than other requests.
        if candidates.iter().any(|found| found.route.key.is_grpc()) {
            all.insert(Wanted::call());
        }
        all
    };
    let (old, new) = (wanted(old), wanted(new));
    let pairs = old.iter().flat_map(|a| new.iter().filter_map(|b| a.and(b)));
    let all: BTreeSet<Wanted> = pairs.collect();
    all.iter().map(Wanted::fields).collect()
}

//! One request of every sort that the rules about a destination can tell apart.

use std::collections::BTreeSet;
use std::sync::Arc;

use tacit_model::access::{PathPattern, To};

/// A method, a path or a host, with what it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    value: String,
    label: String,
}

/// All requests that can be told apart: every combination of the parts.
#[derive(Clone, Debug)]
pub(super) struct Requests {
    methods: Vec<Part>,
    paths: Vec<Part>,
    hosts: Vec<Part>,
}

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Index {
    method: usize,
    path: usize,
    host: usize,
}

/// Pairs of a path and a host.
type PathsAndHosts = BTreeSet<(usize, usize)>;

/// Its values.
pub(super) struct Request<'a> {
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    pub(super) host: &'a str,
}

impl Requests {
    /// The requests that these conditions tell apart.
    pub(super) fn new<'a>(conditions: impl Iterator<Item = &'a To>) -> Self {
        let (mut methods, mut paths, mut hosts) =
            (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for to in conditions {
            methods.extend(to.methods.iter().flatten().cloned());
            paths.extend(to.paths.iter().flatten().cloned());
            hosts.extend(to.hosts.iter().flatten().cloned());
        }
        Self {
            methods: method_parts(&methods),
            paths: path_parts(&paths),
            hosts: host_parts(&hosts),
        }
    }

    /// Every one of them.
    pub(super) fn all(&self) -> impl Iterator<Item = Index> {
        (0..self.methods.len()).flat_map(move |method| {
            (0..self.paths.len()).flat_map(move |path| {
                (0..self.hosts.len()).map(move |host| Index { method, path, host })
            })
        })
    }

    pub(super) fn get(&self, index: Index) -> Request<'_> {
        Request {
            method: &self.methods[index.method].value,
            path: &self.paths[index.path].value,
            host: &self.hosts[index.host].value,
        }
    }

    /// Some of them in words; empty if they are all. Each line is a product of its parts.
    pub(super) fn shown(&self, some: &BTreeSet<Index>) -> Vec<String> {
        if some.len() == self.methods.len() * self.paths.len() * self.hosts.len() {
            return Vec::new();
        }
        // Those of one method and host have a set of paths; methods with the same sets are told
        // together.
        let mut lines: Vec<(BTreeSet<usize>, PathsAndHosts)> = Vec::new();
        for method in 0..self.methods.len() {
            let of: PathsAndHosts = some
                .iter()
                .filter(|index| index.method == method)
                .map(|index| (index.path, index.host))
                .collect();
            if of.is_empty() {
                continue;
            }
            match lines.iter_mut().find(|(_, known)| *known == of) {
                Some((methods, _)) => drop(methods.insert(method)),
                None => lines.push((BTreeSet::from([method]), of)),
            }
        }
        lines
            .iter()
            .map(|(methods, of)| self.line(methods, of))
            .collect()
    }

    fn line(&self, methods: &BTreeSet<usize>, of: &PathsAndHosts) -> String {
        let words = |parts: &[Part], some: &BTreeSet<usize>, all: &str| {
            if some.len() == parts.len() {
                return all.to_owned();
            }
            let labels: Vec<&str> = some
                .iter()
                .map(|index| parts[*index].label.as_str())
                .collect();
            labels.join(", ")
        };
        let methods = words(&self.methods, methods, "any method");
        if of.len() == self.paths.len() * self.hosts.len() {
            return methods;
        }
        let paths: BTreeSet<usize> = of.iter().map(|(path, _)| *path).collect();
        let hosts: BTreeSet<usize> = of.iter().map(|(_, host)| *host).collect();
        if of.len() == paths.len() * hosts.len() {
            let mut line = methods;
            if paths.len() < self.paths.len() {
                line.push_str(&format!(" {}", words(&self.paths, &paths, "")));
            }
            if hosts.len() < self.hosts.len() {
                line.push_str(&format!(" with host {}", words(&self.hosts, &hosts, "")));
            }
            return line;
        }
        let each = of.iter().map(|(path, host)| {
            let (path, host) = (&self.paths[*path].label, &self.hosts[*host].label);
            format!("{path} with host {host}")
        });
        format!("{methods} {}", each.collect::<Vec<_>>().join("; "))
    }
}

/// A word that no text contains, so that what it is appended to fits nothing more.
fn fresh<'a>(texts: impl Iterator<Item = &'a str> + Clone) -> String {
    let mut words = (0..).map(|number: u32| format!("x{number}"));
    let found = words.find(|word| !texts.clone().any(|text| text.contains(word.as_str())));
    found.unwrap_or_default()
}

fn method_parts(mentioned: &BTreeSet<Arc<str>>) -> Vec<Part> {
    let part = |method: &Arc<str>| Part {
        value: method.to_string(),
        label: method.to_string(),
    };
    let mut parts: Vec<Part> = mentioned.iter().map(part).collect();
    let lower: Vec<String> = mentioned.iter().map(|m| m.to_ascii_lowercase()).collect();
    let word = fresh(lower.iter().map(String::as_str)).to_ascii_uppercase();
    parts.push(Part {
        value: word,
        label: "other methods".to_owned(),
    });
    parts
}

fn path_parts(mentioned: &BTreeSet<PathPattern>) -> Vec<Part> {
    if mentioned.is_empty() {
        return vec![Part {
            value: "/".to_owned(),
            label: String::new(),
        }];
    }
    let text = |pattern: &'_ PathPattern| match pattern {
        PathPattern::Exact(path) | PathPattern::Prefix(path) => path.clone(),
    };
    let texts: Vec<Arc<str>> = mentioned.iter().map(text).collect();
    let word = fresh(texts.iter().map(AsRef::as_ref));
    let part = |pattern: &PathPattern| match pattern {
        PathPattern::Exact(path) => Part {
            value: path.to_string(),
            label: path.to_string(),
        },
        PathPattern::Prefix(path) => Part {
            value: format!("{path}{word}"),
            label: format!("{path}*"),
        },
    };
    let mut parts: Vec<Part> = mentioned.iter().map(part).collect();
    let all = mentioned.contains(&PathPattern::Prefix("/".into()));
    if !all {
        parts.push(Part {
            value: format!("/{word}"),
            label: "other paths".to_owned(),
        });
    }
    parts.push(Part {
        value: "/%".to_owned(),
        label: "paths without a canonical form".to_owned(),
    });
    parts
}

fn host_parts(mentioned: &BTreeSet<Arc<str>>) -> Vec<Part> {
    if mentioned.is_empty() {
        return vec![Part {
            value: "host".to_owned(),
            label: String::new(),
        }];
    }
    let word = fresh(mentioned.iter().map(AsRef::as_ref));
    let part = |pattern: &Arc<str>| Part {
        value: match pattern.strip_prefix('*') {
            Some(suffix) => format!("{word}{suffix}"),
            None => pattern.to_string(),
        },
        label: pattern.to_string(),
    };
    let mut parts: Vec<Part> = mentioned.iter().map(part).collect();
    parts.push(Part {
        value: word,
        label: "other hosts".to_owned(),
    });
    parts.push(Part {
        value: String::new(),
        label: "no host".to_owned(),
    });
    parts
}

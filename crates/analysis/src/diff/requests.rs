//! One request of every sort that the rules about a destination can tell apart.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tacit_model::access::{PathPattern, To};

/// A method, a path or a host, with what it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    value: String,
    label: String,
}

/// Headers and query parameters that come together, with what they stand for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fields {
    /// Lower-case names with their values.
    pub(super) headers: BTreeMap<Arc<str>, Arc<str>>,
    /// As it is sent.
    pub(super) query: String,
    pub(super) label: String,
}

/// All requests that can be told apart: every combination of the parts.
#[derive(Clone, Debug)]
pub(super) struct Requests {
    methods: Vec<Part>,
    paths: Vec<Part>,
    hosts: Vec<Part>,
    fields: Vec<Fields>,
}

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Index {
    method: usize,
    rest: Rest,
}

/// All of a request besides its method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rest {
    path: usize,
    host: usize,
    fields: usize,
}

/// Pairs of a host and fields.
type Others = BTreeSet<(usize, usize)>;

/// Its values.
pub(super) struct Request<'a> {
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    pub(super) host: &'a str,
    pub(super) fields: &'a Fields,
}

/// What rules look at.
#[derive(Clone, Debug, Default)]
pub(super) struct Mentioned {
    pub(super) methods: BTreeSet<Arc<str>>,
    pub(super) paths: BTreeSet<PathPattern>,
    /// Patterns, for hosts without their case and port.
    pub(super) hosts: BTreeSet<Arc<str>>,
    /// Hosts that count letter by letter.
    pub(super) exact_hosts: BTreeSet<Arc<str>>,
    /// Without any, nothing looks at headers and parameters.
    pub(super) fields: Vec<Fields>,
}

impl Mentioned {
    /// What conditions of policies look at.
    pub(super) fn of<'a>(conditions: impl Iterator<Item = &'a To>) -> Self {
        let mut all = Self::default();
        for to in conditions {
            all.methods.extend(to.methods.iter().flatten().cloned());
            all.paths.extend(to.paths.iter().flatten().cloned());
            all.hosts.extend(to.hosts.iter().flatten().cloned());
        }
        all
    }
}

impl Requests {
    /// The requests that rules tell apart.
    pub(super) fn new(mentioned: &Mentioned) -> Self {
        let Mentioned {
            methods,
            paths,
            hosts,
            exact_hosts,
            fields,
        } = mentioned;
        Self {
            methods: method_parts(methods),
            paths: path_parts(paths),
            hosts: host_parts(hosts, exact_hosts),
            fields: match fields.is_empty() {
                true => vec![Fields::default()],
                false => fields.clone(),
            },
        }
    }

    /// How many they are.
    pub(super) fn len(&self) -> usize {
        self.methods.len() * self.rest_len()
    }

    fn rest_len(&self) -> usize {
        self.paths.len() * self.hosts.len() * self.fields.len()
    }

    /// Every one of them.
    pub(super) fn all(&self) -> impl Iterator<Item = Index> {
        let (hosts, fields) = (self.hosts.len(), self.fields.len());
        (0..self.len()).map(move |number| Index {
            method: number / self.rest_len(),
            rest: Rest {
                path: number / (fields * hosts) % self.paths.len(),
                host: number / fields % hosts,
                fields: number % fields,
            },
        })
    }

    pub(super) fn get(&self, Index { method, rest }: Index) -> Request<'_> {
        Request {
            method: &self.methods[method].value,
            path: &self.paths[rest.path].value,
            host: &self.hosts[rest.host].value,
            fields: &self.fields[rest.fields],
        }
    }

    /// Some of them in words; empty if they are all. Each line is a product of its parts.
    pub(super) fn shown(&self, some: &BTreeSet<Index>) -> Vec<String> {
        if some.len() == self.len() {
            return Vec::new();
        }
        // Methods with the same sets of all the rest are told together.
        let mut by_method: BTreeMap<usize, BTreeSet<Rest>> = BTreeMap::new();
        for index in some {
            by_method
                .entry(index.method)
                .or_default()
                .insert(index.rest);
        }
        let mut lines: Vec<(BTreeSet<usize>, BTreeSet<Rest>)> = Vec::new();
        for (method, of) in by_method {
            match lines.iter_mut().find(|(_, known)| *known == of) {
                Some((methods, _)) => drop(methods.insert(method)),
                None => lines.push((BTreeSet::from([method]), of)),
            }
        }
        let each = lines.iter().flat_map(|(methods, of)| {
            let names = || self.methods.iter().map(|part| part.label.as_str());
            let methods = words(names(), methods).unwrap_or_else(|| "any method".to_owned());
            let parts = self.products(of);
            parts.into_iter().map(move |of| self.line(&methods, &of))
        });
        each.collect()
    }

    /// Sets of which each is a product of paths, hosts and fields: one if that is enough, else
    /// one for all paths that come with the same of the others.
    fn products(&self, of: &BTreeSet<Rest>) -> Vec<BTreeSet<Rest>> {
        let is_product = |of: &BTreeSet<Rest>| {
            let [paths, hosts, fields] = parts(of);
            of.len() == paths.len() * hosts.len() * fields.len()
        };
        if is_product(of) {
            return vec![of.clone()];
        }
        let mut by_path: BTreeMap<usize, Others> = BTreeMap::new();
        for rest in of {
            let others = by_path.entry(rest.path).or_default();
            others.insert((rest.host, rest.fields));
        }
        let mut together: Vec<(Others, BTreeSet<Rest>)> = Vec::new();
        for (path, others) in by_path {
            let mine = of.iter().filter(|rest| rest.path == path).copied();
            match together.iter_mut().find(|(known, _)| *known == others) {
                Some((_, all)) => all.extend(mine),
                None => together.push((others, mine.collect())),
            }
        }
        let sets = together.into_iter().flat_map(|(_, all)| {
            if is_product(&all) {
                return vec![all];
            }
            let mut by_fields: BTreeMap<usize, BTreeSet<Rest>> = BTreeMap::new();
            for rest in all {
                by_fields.entry(rest.fields).or_default().insert(rest);
            }
            by_fields.into_values().collect()
        });
        sets.collect()
    }

    fn line(&self, methods: &str, of: &BTreeSet<Rest>) -> String {
        let [paths, hosts, fields] = parts(of);
        let labels = |parts: &'_ [Part]| {
            let labels = parts.iter().map(|part| part.label.clone());
            labels.collect::<Vec<_>>()
        };
        let shown = |parts: &[Part], some| words(labels(parts).iter().map(String::as_str), some);
        let mut line = methods.to_owned();
        if let Some(paths) = shown(&self.paths, &paths) {
            line.push_str(&format!(" {paths}"));
        }
        if let Some(hosts) = shown(&self.hosts, &hosts) {
            line.push_str(&format!(" with host {hosts}"));
        }
        let names = self.fields.iter().map(|fields| fields.label.as_str());
        if let Some(fields) = words(names, &fields) {
            line.push_str(&format!(" with {fields}"));
        }
        line
    }
}

/// The paths, the hosts and the fields of some requests.
fn parts(of: &BTreeSet<Rest>) -> [BTreeSet<usize>; 3] {
    let each = |part: fn(&Rest) -> usize| of.iter().map(part).collect();
    [each(|r| r.path), each(|r| r.host), each(|r| r.fields)]
}

/// The labels of some; nothing if they are all.
fn words<'a>(labels: impl Iterator<Item = &'a str>, some: &BTreeSet<usize>) -> Option<String> {
    let labels: Vec<&str> = labels.collect();
    if some.len() == labels.len() {
        return None;
    }
    let shown = labels
        .iter()
        .enumerate()
        .filter(|(at, _)| some.contains(at));
    let shown: Vec<&str> = shown.map(|(_, label)| *label).collect();
    Some(shown.join(", "))
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

fn host_parts(patterns: &BTreeSet<Arc<str>>, exact: &BTreeSet<Arc<str>>) -> Vec<Part> {
    if patterns.is_empty() && exact.is_empty() {
        return vec![Part {
            value: "host".to_owned(),
            label: String::new(),
        }];
    }
    let word = fresh(patterns.iter().chain(exact).map(AsRef::as_ref));
    let part = |pattern: &Arc<str>| match pattern.strip_prefix('*') {
        Some(suffix) => Part {
            value: format!("{word}{suffix}"),
            label: pattern.to_string(),
        },
        // The final dot makes it another text with the same meaning.
        None if exact.contains(pattern) => Part {
            value: format!("{pattern}."),
            label: format!("{pattern} written otherwise"),
        },
        None => Part {
            value: pattern.to_string(),
            label: pattern.to_string(),
        },
    };
    let itself = |host: &Arc<str>| Part {
        value: host.to_string(),
        label: host.to_string(),
    };
    let mut parts: Vec<Part> = exact.iter().map(itself).collect();
    parts.extend(patterns.iter().map(part));
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

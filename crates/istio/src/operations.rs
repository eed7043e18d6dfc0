//! What access rules say about requests, as operations of an AuthorizationPolicy.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Map, Value};
use tacit_model::access::{Action, PathPattern, To};
use tacit_model::tables::Protocol;

use crate::object::texts;

/// What is known about the ports of a target.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ports {
    /// Only these ports are meant; absent: every one.
    pub(crate) only: Option<BTreeSet<u16>>,
    /// What is known of the ports that workloads and Services name.
    pub(crate) known: BTreeMap<u16, Protocol>,
    /// Ports that are HTTP at some workloads of the target only; known as TCP.
    pub(crate) mixed: BTreeSet<u16>,
}

impl Ports {
    /// Ports on which Istio and Tacit both read requests.
    fn http(&self) -> BTreeSet<u16> {
        let known = self.known.keys().copied();
        known.filter(|port| self.is_http(*port)).collect()
    }

    pub(crate) fn is_http(&self, port: u16) -> bool {
        self.known.get(&port) == Some(&Protocol::Http)
    }

    /// `wanted` as far as the target has them; nothing if it has none.
    fn of_target(&self, wanted: &BTreeSet<u16>) -> Option<BTreeSet<u16>> {
        let found: BTreeSet<u16> = match &self.only {
            Some(only) => wanted.intersection(only).copied().collect(),
            None => wanted.clone(),
        };
        (!found.is_empty()).then_some(found)
    }
}

/// One operation. Nothing set: everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Operation {
    pub(crate) ports: Option<BTreeSet<u16>>,
    not_ports: Option<BTreeSet<u16>>,
    methods: Option<BTreeSet<Arc<str>>>,
    paths: Option<Vec<String>>,
    hosts: Option<Vec<String>>,
}

impl Operation {
    /// On these ports.
    pub(crate) fn on(ports: BTreeSet<u16>) -> Self {
        Self {
            ports: Some(ports),
            ..Self::default()
        }
    }

    /// On every port but these.
    pub(crate) fn not_on(ports: BTreeSet<u16>) -> Self {
        Self {
            not_ports: Some(ports).filter(|ports| !ports.is_empty()),
            ..Self::default()
        }
    }

    /// True if it means everything.
    pub(crate) fn is_everything(&self) -> bool {
        *self == Self::default()
    }

    /// True if it has conditions on requests.
    pub(crate) fn needs_request(&self) -> bool {
        self.methods.is_some() || self.paths.is_some() || self.hosts.is_some()
    }

    /// As an item of `to`.
    pub(crate) fn into_value(self) -> Value {
        let mut operation = Map::new();
        let mut add = |name: &str, list: Option<Value>| {
            if let Some(list) = list {
                operation.insert(name.to_owned(), list);
            }
        };
        add("ports", self.ports.map(texts));
        add("notPorts", self.not_ports.map(texts));
        add("methods", self.methods.map(texts));
        add("paths", self.paths.map(texts));
        add("hosts", self.hosts.map(texts));
        serde_json::json!({"operation": operation})
    }
}

/// The operations of a rule at a target; nothing if it can match nothing there.
pub(crate) fn operations(rule: &[To], action: Action, ports: &Ports) -> Vec<Operation> {
    if rule.is_empty() {
        return vec![match &ports.only {
            Some(only) => Operation::on(only.clone()),
            None => Operation::default(),
        }];
    }
    let found = rule.iter().flat_map(|to| operation(to, action, ports));
    found.collect()
}

fn operation(to: &To, action: Action, ports: &Ports) -> Vec<Operation> {
    let on = match &to.ports {
        Some(wanted) => match ports.of_target(wanted) {
            Some(found) => Some(found),
            None => return Vec::new(),
        },
        None => ports.only.clone(),
    };
    if !to.needs_request() {
        return vec![Operation {
            ports: on,
            ..Operation::default()
        }];
    }
    if to.ports.is_some() {
        // Naming the ports makes them HTTP.
        return vec![conditions(to, action, on)];
    }
    let http = match &on {
        Some(on) => ports.http().intersection(on).copied().collect(),
        None => ports.http(),
    };
    let readable = (!http.is_empty()).then(|| conditions(to, action, Some(http.clone())));
    match action {
        // Where requests cannot be read, an Allow with conditions never matches ...
        Action::Allow => readable.into_iter().collect(),
        // ... and a Deny always does.
        Action::Deny => {
            let rest = match on {
                Some(on) => {
                    let rest: BTreeSet<u16> = on.difference(&http).copied().collect();
                    (!rest.is_empty()).then(|| Operation::on(rest))
                }
                None => Some(Operation::not_on(http)),
            };
            readable.into_iter().chain(rest).collect()
        }
    }
}

fn conditions(to: &To, action: Action, on: Option<BTreeSet<u16>>) -> Operation {
    let To {
        ports: _,
        methods,
        paths,
        hosts: names,
    } = to;
    Operation {
        ports: on,
        not_ports: None,
        methods: methods.clone(),
        paths: paths.as_ref().map(|set| set.iter().map(path).collect()),
        hosts: names.as_ref().and_then(|set| hosts(set, action)),
    }
}

fn path(pattern: &PathPattern) -> String {
    match pattern {
        PathPattern::Exact(path) => path.to_string(),
        PathPattern::Prefix(prefix) => format!("{prefix}*"),
    }
}

/// True if a host can only be said more strictly than it is meant.
pub(crate) fn is_wildcard(host: &str) -> bool {
    host.starts_with('*')
}

/// Istio compares the whole header, with its port and its final dot. Nothing: every host, for a
/// Deny that could otherwise be passed by writing a port.
fn hosts(names: &BTreeSet<Arc<str>>, action: Action) -> Option<Vec<String>> {
    if action == Action::Deny && names.iter().any(|name| is_wildcard(name)) {
        return None;
    }
    let mut found = Vec::new();
    for name in names {
        found.push(name.to_string());
        if !is_wildcard(name) {
            found.extend([
                format!("{name}:*"),
                format!("{name}."),
                format!("{name}.:*"),
            ]);
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(ports: &[u16], method: &str) -> To {
        To {
            ports: (!ports.is_empty()).then(|| ports.iter().copied().collect()),
            methods: (!method.is_empty()).then(|| [method.into()].into()),
            ..To::default()
        }
    }

    #[test]
    fn where_requests_cannot_be_read() {
        let ports = Ports {
            known: [(80, Protocol::Http), (81, Protocol::Tcp)].into(),
            ..Ports::default()
        };
        let get = to(&[], "GET");
        let found = |to: &To, action, ports: &Ports| {
            let found = operations(std::slice::from_ref(to), action, ports);
            Value::Array(found.into_iter().map(Operation::into_value).collect()).to_string()
        };
        assert_eq!(
            found(&get, Action::Allow, &ports),
            r#"[{"operation":{"methods":["GET"],"ports":["80"]}}]"#
        );
        assert_eq!(
            found(&get, Action::Deny, &ports),
            r#"[{"operation":{"methods":["GET"],"ports":["80"]}},{"operation":{"notPorts":["80"]}}]"#
        );
        assert_eq!(
            found(&get, Action::Deny, &Ports::default()),
            r#"[{"operation":{}}]"#
        );
        let service = Ports {
            only: Some([81].into()),
            ..ports
        };
        assert_eq!(found(&get, Action::Allow, &service), "[]");
        assert_eq!(
            found(&get, Action::Deny, &service),
            r#"[{"operation":{"ports":["81"]}}]"#
        );
        assert_eq!(found(&to(&[80], ""), Action::Deny, &service), "[]");
    }
}

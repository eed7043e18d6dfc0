//! Istio's objects under construction: names, provenance, and the order in which they are printed.

use std::collections::BTreeSet;
use std::fmt::Display;

use serde_json::{Map, Value, json};

use crate::PROVENANCE;

/// The kinds that are emitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    AuthorizationPolicy,
    DestinationRule,
    PeerAuthentication,
    VirtualService,
}

impl Kind {
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::AuthorizationPolicy => ("security.istio.io/v1", "AuthorizationPolicy"),
            Self::DestinationRule => ("networking.istio.io/v1", "DestinationRule"),
            Self::PeerAuthentication => ("security.istio.io/v1", "PeerAuthentication"),
            Self::VirtualService => ("networking.istio.io/v1", "VirtualService"),
        }
    }
}

/// One object of Istio.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    kind: Kind,
    namespace: String,
    name: String,
    spec: Map<String, Value>,
    /// Lines `emitted field: origin`.
    from: Vec<String>,
    /// Istio logs what it would do, and does not do it.
    dry_run: bool,
}

impl Draft {
    pub(crate) fn new(kind: Kind, namespace: impl Display, name: impl Display) -> Self {
        Self {
            kind,
            namespace: namespace.to_string(),
            name: name.to_string(),
            spec: Map::new(),
            from: Vec::new(),
            dry_run: false,
        }
    }

    /// Sets a field of the spec.
    pub(crate) fn set(&mut self, field: &str, value: Value) {
        self.spec.insert(field.to_owned(), value);
    }

    /// Says where an emitted field came from.
    pub(crate) fn note(&mut self, field: impl Display, origin: impl Display) {
        self.from.push(format!("{field}: {origin}"));
    }

    /// Makes it one that only says what it would do.
    pub(crate) fn dry_run(&mut self) {
        self.dry_run = true;
    }

    fn into_value(self) -> Value {
        let (version, kind) = self.kind.words();
        let mut annotations = Map::new();
        if self.dry_run {
            annotations.insert("istio.io/dry-run".to_owned(), "true".into());
        }
        annotations.insert(PROVENANCE.to_owned(), self.from.join("\n").into());
        json!({
            "apiVersion": version,
            "kind": kind,
            "metadata": {
                "name": self.name,
                "namespace": self.namespace,
                "labels": {"app.kubernetes.io/managed-by": "tacit"},
                "annotations": annotations,
            },
            "spec": self.spec,
        })
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Objects(Vec<Draft>);

impl Objects {
    pub(crate) fn add(&mut self, draft: Draft) {
        self.0.push(draft);
    }

    pub(crate) fn extend(&mut self, drafts: impl IntoIterator<Item = Draft>) {
        self.0.extend(drafts);
    }

    /// The objects by kind, namespace and name. Names are made of names that may have dots, so two
    /// of them can meet: the later one gets a number.
    pub(crate) fn finish(mut self) -> Vec<Value> {
        let key = |draft: &Draft| (draft.kind, draft.namespace.clone(), draft.name.clone());
        let mut taken = BTreeSet::new();
        for draft in &mut self.0 {
            let wanted = draft.name.clone();
            let mut number = 2;
            while !taken.insert(key(draft)) {
                draft.name = format!("{wanted}-{number}");
                number += 1;
            }
        }
        self.0.sort_by_key(key);
        self.0.into_iter().map(Draft::into_value).collect()
    }
}

/// A list of texts.
pub(crate) fn texts(items: impl IntoIterator<Item = impl Display>) -> Value {
    let items = items.into_iter();
    Value::Array(items.map(|item| item.to_string().into()).collect())
}

/// A time as every reader of Istio's objects takes it: seconds with a fraction.
pub(crate) fn seconds(time: std::time::Duration) -> String {
    let (whole, nanos) = (time.as_secs(), time.subsec_nanos());
    if nanos == 0 {
        return format!("{whole}s");
    }
    let fraction = format!("{nanos:09}");
    format!("{whole}.{}s", fraction.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times() {
        for (millis, text) in [
            (0, "0s"),
            (600, "0.6s"),
            (1000, "1s"),
            (3_600_025, "3600.025s"),
        ] {
            assert_eq!(seconds(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn names_stay_apart() {
        let mut objects = Objects::default();
        for _ in 0..3 {
            objects.add(Draft::new(Kind::AuthorizationPolicy, "a", "b"));
        }
        let names: Vec<String> = objects
            .finish()
            .iter()
            .map(|object| object["metadata"]["name"].to_string())
            .collect();
        assert_eq!(names, ["\"b\"", "\"b-2\"", "\"b-3\""]);
    }
}

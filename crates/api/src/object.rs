//! The kinds of objects, their metadata and their keys.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::access::AccessPolicy;
use crate::decode::{Decode, Decoder};
use crate::failover::FailoverPolicy;
use crate::fault::FaultPolicy;
use crate::grpc_route::GRPCRoute;
use crate::http_route::HTTPRoute;
use crate::mesh::Mesh;
use crate::parse::Problem;
use crate::policy_test;
use crate::rate_limit::RateLimitPolicy;
use crate::retry_timeout::RetryTimeoutPolicy;
use crate::service::Service;
use crate::suggest::nearest;
use crate::tcp_route::TCPRoute;
use crate::tree::{Node, Value};
use crate::values::quoted;
use crate::workload::Workload;
use crate::workspace::Workspace;

/// The namespace of an object that names none.
pub const DEFAULT_NAMESPACE: &str = "default";

/// The group and version of our own kinds.
pub const API_VERSION: &str = "tacit.dev/v1alpha1";

/// Most labels of one object: they bound the keys of workload classes.
pub const LABELS_MAX: usize = 64;

/// Fields of `metadata` that servers write. They may be present, so that what was read from a
/// server can be written back, and mean nothing here.
const SERVER_WRITTEN: &[&str] = &[
    "creationTimestamp",
    "finalizers",
    "generation",
    "managedFields",
    "ownerReferences",
    "resourceVersion",
    "uid",
];

macro_rules! object {
    ($(#[$doc:meta])* $name:ident { $spec:ident }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name {
            /// Name, namespace, labels, annotations.
            pub metadata: crate::object::Metadata,
            /// What it says.
            pub spec: $spec,
        }

        impl crate::object::HasSpec for $name {
            type Spec = $spec;
        }
    };
}
pub(crate) use object;

/// The type of the spec of a kind.
pub(crate) trait HasSpec {
    type Spec: Decode;
}

macro_rules! kinds {
    ($($kind:ident: $version:expr, $namespaced:literal;)*) => {
        /// The kinds of objects.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind { $($kind,)* }

        impl Kind {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$kind,)*];

            /// As it is written.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$kind => stringify!($kind),)* }
            }

            /// Group and version, as written in `apiVersion`.
            #[must_use]
            pub fn api_version(self) -> &'static str {
                match self { $(Self::$kind => $version,)* }
            }

            /// True if objects of this kind have this field, for example `spec.retry.attempts`.
            /// Items of lists have no path.
            #[must_use]
            pub fn has_field(self, path: &str) -> bool {
                let parts: Vec<&str> = path.split('.').collect();
                match (parts.as_slice(), self) {
                    $((["spec", rest @ ..], Self::$kind) => {
                        <$kind as HasSpec>::Spec::has_field(rest)
                    })*
                    _ => false,
                }
            }

            /// False for the kinds that live outside namespaces.
            #[must_use]
            pub fn is_namespaced(self) -> bool {
                match self { $(Self::$kind => $namespaced,)* }
            }
        }

        /// An object of any kind.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Object { $($kind($kind),)* }

        impl Object {
            /// Its kind.
            #[must_use]
            pub fn kind(&self) -> Kind {
                match self { $(Self::$kind(_) => Kind::$kind,)* }
            }

            /// Its metadata.
            #[must_use]
            pub fn metadata(&self) -> &Metadata {
                match self { $(Self::$kind(object) => &object.metadata,)* }
            }

            /// Its spec as JSON, with the names and the nesting of the YAML; absent fields are
            /// absent.
            ///
            /// # Errors
            ///
            /// None of our types makes one.
            pub fn spec_json(&self) -> Result<serde_json::Value, serde_json::Error> {
                match self { $(Self::$kind(object) => serde_json::to_value(&object.spec),)* }
            }

            fn decode_spec(
                kind: Kind, metadata: Metadata, spec: &Node, decoder: &mut Decoder,
            ) -> Option<Self> {
                match kind {
                    $(Kind::$kind => Some(Self::$kind($kind {
                        metadata,
                        spec: Decode::decode(spec, decoder)?,
                    })),)*
                }
            }
        }
    };
}

kinds! {
    AccessPolicy: API_VERSION, true;
    FailoverPolicy: API_VERSION, true;
    FaultPolicy: API_VERSION, true;
    GRPCRoute: "gateway.networking.k8s.io/v1", true;
    HTTPRoute: "gateway.networking.k8s.io/v1", true;
    Mesh: API_VERSION, false;
    RateLimitPolicy: API_VERSION, true;
    RetryTimeoutPolicy: API_VERSION, true;
    Service: "v1", true;
    TCPRoute: "gateway.networking.k8s.io/v1alpha2", true;
    Workload: API_VERSION, true;
    Workspace: API_VERSION, false;
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Kind {
    /// The kind with exactly this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.as_str() == name)
    }
}

/// Which object: kind, namespace (absent for the kinds outside namespaces), name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// The kind.
    pub kind: Kind,
    /// The namespace.
    pub namespace: Option<String>,
    /// The name.
    pub name: String,
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{}/{namespace}/{}", self.kind, self.name),
            None => write!(f, "{}/{}", self.kind, self.name),
        }
    }
}

/// Name, namespace, labels, annotations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Metadata {
    /// The name.
    pub name: String,
    /// The namespace: `default` if none was written, absent for the kinds outside namespaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Object {
    /// Which object it is.
    #[must_use]
    pub fn key(&self) -> ObjectKey {
        ObjectKey {
            kind: self.kind(),
            namespace: self.metadata().namespace.clone(),
            name: self.metadata().name.clone(),
        }
    }
}

/// An object, or as much of its key as could be read.
pub(crate) struct Decoded {
    pub(crate) object: Option<Object>,
    pub(crate) key: Option<ObjectKey>,
}

/// Reads one object from a document or an item of a List.
pub(crate) fn decode(node: &Node, decoder: &mut Decoder) -> Decoded {
    const KEYS: &[&str] = &["apiVersion", "kind", "metadata", "spec", "status"];
    let nothing = Decoded {
        object: None,
        key: None,
    };
    let Some(kind) = decode_kind(node, decoder) else {
        return nothing;
    };
    // The kind is known now, so the node is a mapping.
    let Some(document) = decoder.mapping(node, KEYS) else {
        return nothing;
    };
    check_version(kind.as_str(), kind.api_version(), node, decoder);
    let metadata = match node.get("metadata") {
        Some(found) => decoder.inside("metadata", |d| decode_metadata(kind, found, d)),
        None => {
            decoder.missing(node, "metadata");
            None
        }
    };
    let key = key(kind, node);
    let Some(spec) = document.get("spec") else {
        decoder.missing(node, "spec");
        return Decoded { object: None, key };
    };
    // Decoded even without a name, so that all problems are reported at once.
    let named = metadata.is_some();
    let object = decoder.inside("spec", |d| {
        Object::decode_spec(kind, metadata.unwrap_or_default(), spec, d)
    });
    Decoded {
        object: object.filter(|_| named),
        key,
    }
}

/// The key, even if other metadata is wrong: who keeps the last good version asks for it.
fn key(kind: Kind, node: &Node) -> Option<ObjectKey> {
    let metadata = node.get("metadata")?;
    let text = |key: &str| match &metadata.get(key)?.value {
        Value::Text(text) => Some(text.clone()),
        Value::Bool(_)
        | Value::Mapping(_)
        | Value::Null
        | Value::Number(_)
        | Value::Sequence(_) => None,
    };
    let namespace = match (kind.is_namespaced(), metadata.get("namespace")) {
        (false, _) => None,
        (true, None) => Some(DEFAULT_NAMESPACE.to_owned()),
        (true, Some(_)) => Some(text("namespace")?),
    };
    Some(ObjectKey {
        kind,
        namespace,
        name: text("name")?,
    })
}

fn decode_kind(node: &Node, decoder: &mut Decoder) -> Option<Kind> {
    let known = || {
        let kinds = Kind::ALL.iter().map(|kind| kind.as_str());
        kinds.chain([policy_test::KIND])
    };
    let name: String = {
        decoder.expect_mapping(node, "an object with apiVersion, kind, metadata and spec")?;
        let Some(found) = node.get("kind") else {
            decoder.missing(node, "kind");
            return None;
        };
        decoder.inside("kind", |d| Decode::decode(found, d))?
    };
    if let Some(kind) = Kind::from_name(&name) {
        return Some(kind);
    }
    let at = node.get("kind").map_or(node.at, |found| found.at);
    let fix = match nearest(&name, known()) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("known kinds: {}", known().collect::<Vec<_>>().join(", ")),
    };
    let message = format!("unknown kind {}", quoted(&name));
    decoder.inside("kind", |d| d.report(Problem::UnknownKind, at, message, fix));
    None
}

/// Reports an `apiVersion` of `kind` that is not `wanted`.
pub(crate) fn check_version(kind: &str, wanted: &str, node: &Node, decoder: &mut Decoder) {
    let Some(found) = node.get("apiVersion") else {
        decoder.missing(node, "apiVersion");
        return;
    };
    let version: Option<String> = decoder.inside("apiVersion", |d| Decode::decode(found, d));
    if let Some(version) = version.filter(|version| version != wanted) {
        let message = format!("unknown apiVersion {} of {kind}", quoted(&version));
        let fix = format!("write apiVersion: {wanted}");
        decoder.inside("apiVersion", |d| {
            d.report(Problem::UnknownKind, found.at, message, fix);
        });
    }
}

fn decode_metadata(kind: Kind, node: &Node, decoder: &mut Decoder) -> Option<Metadata> {
    const KEYS: &[&str] = &["name", "namespace", "labels", "annotations"];
    decoder.mapping_with_ignored(node, KEYS, SERVER_WRITTEN)?;
    let name: Option<String> = decoder.field(node, "name");
    let written: Option<Option<String>> = decoder.field(node, "namespace");
    let labels: Option<Option<BTreeMap<String, String>>> = decoder.field(node, "labels");
    let annotations: Option<Option<BTreeMap<String, String>>> = decoder.field(node, "annotations");
    let namespace = match (kind.is_namespaced(), written?) {
        (true, written) => Some(written.unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned())),
        (false, None) => None,
        (false, Some(_)) => {
            let at = node.get("namespace").map_or(node.at, |found| found.at);
            let message = format!("a {kind} lives in no namespace");
            let fix = "remove the field".to_owned();
            decoder.inside("namespace", |d| {
                d.report(Problem::WrongValue, at, message, fix);
            });
            return None;
        }
    };
    let labels = labels?.unwrap_or_default();
    if labels.len() > LABELS_MAX {
        let at = node.get("labels").map_or(node.at, |found| found.at);
        let message = format!("{} labels are more than {LABELS_MAX}", labels.len());
        let fix = "keep what no selector needs in annotations".to_owned();
        decoder.inside("labels", |d| d.report(Problem::TooLarge, at, message, fix));
        return None;
    }
    Some(Metadata {
        name: name?,
        namespace,
        labels,
        annotations: annotations?.unwrap_or_default(),
    })
}

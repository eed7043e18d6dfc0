//! Where a value came from: which object and which field of it.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::names::{Name, Namespace};

/// An object that people wrote, as `Kind/namespace/name` (no namespace if cluster-scoped).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectRef {
    /// The kind, for example `AccessPolicy`.
    pub kind: Arc<str>,
    /// The namespace; absent for `Mesh` and `Workspace`.
    pub namespace: Option<Namespace>,
    /// The name.
    pub name: Name,
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{}/{}/{}", self.kind, namespace, self.name),
            None => write!(f, "{}/{}", self.kind, self.name),
        }
    }
}

/// Object and field path of a value. The line is looked up in the generation's source, so that
/// a changed comment touches no row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Provenance {
    /// Nobody set it: the documented default of this version.
    Default,
    /// A field of an object, for example `spec.retry.attempts` or `spec.rules[0].to[1]`.
    Field {
        /// The object.
        object: ObjectRef,
        /// The path inside it.
        path: Arc<str>,
    },
}

impl fmt::Display for Provenance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Field { object, path } => write!(f, "{object} {path}"),
        }
    }
}

/// A value and where it came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sourced<T> {
    /// The value.
    pub value: T,
    /// Its origin.
    pub from: Provenance,
}

impl<T> Sourced<T> {
    /// A value that nobody set.
    pub fn default_of(value: T) -> Self {
        Self {
            value,
            from: Provenance::Default,
        }
    }
}

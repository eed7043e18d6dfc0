//! Conditions of an object: accepted or not, in force or not, and why.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::provenance::ObjectRef;

/// The kinds of condition (GEP-713, and our own `Armed`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ConditionKind {
    /// The object was understood and takes part.
    Accepted,
    /// A FailoverPolicy has somewhere to go and a signal to go by.
    Armed,
    /// Every enforcement point that it concerns acknowledged it.
    Programmed,
    /// Every backend that a route names can be used (Gateway API).
    ResolvedRefs,
}

/// Why a condition is as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Reason {
    Accepted,
    Armed,
    BackendNotFound,
    Conflicted,
    Invalid,
    NoAlternative,
    NoHealthSignal,
    NotExported,
    NotPermitted,
    NotPermittedThere,
    NotSupported,
    Overridden,
    PartiallyProgrammed,
    Programmed,
    Reconciling,
    ResolvedRefs,
    TargetNotFound,
}

/// One condition of an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// Which.
    pub kind: ConditionKind,
    /// True or False.
    pub status: bool,
    /// The reason, one word.
    pub reason: Reason,
    /// The reason, for people. A losing policy's message names the winner.
    pub message: String,
}

/// What the compiler says of one object. `Programmed` is added by the control plane, which
/// knows the acknowledgements.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectStatus {
    /// The object.
    pub object: ObjectRef,
    /// Its conditions, by kind.
    pub conditions: Vec<Condition>,
    /// Objects that it applies to, for people: `Service/shop/payments`.
    pub targets: Vec<ObjectRef>,
    /// True if an earlier version of it is in force instead of what is written now.
    pub last_good_in_force: bool,
    /// FailoverPolicy: for each client locality the order with endpoint counts, one line each.
    pub order: Vec<Arc<str>>,
}

impl ObjectStatus {
    /// An object of which there is no more to say than that it is accepted.
    #[must_use]
    pub fn accepted(object: ObjectRef) -> Self {
        Self {
            object,
            conditions: vec![Condition {
                kind: ConditionKind::Accepted,
                status: true,
                reason: Reason::Accepted,
                message: Default::default(),
            }],
            targets: Vec::new(),
            last_good_in_force: false,
            order: Vec::new(),
        }
    }

    /// True if there is no more to say than that.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        *self == Self::accepted(self.object.clone())
    }
}

//! What is written and what was observed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde_json::Value;

/// All that answers depend on.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// What is written, each key once.
    pub documents: Vec<Document>,
    /// The ports of each workload, by `namespace/name`, that accept connections.
    pub ready: BTreeMap<String, BTreeSet<u16>>,
    /// What callers have learnt of endpoints, one alternative each.
    pub illnesses: Vec<Illness>,
}

/// One object.
#[derive(Clone, Debug)]
pub struct Document {
    /// What is written now.
    pub written: Written,
    /// The last version that was valid.
    pub last_good: Option<Value>,
}

/// What is written under one key.
#[derive(Clone, Debug)]
pub enum Written {
    /// It can be read, and a rule of the API forbids it.
    Refused(Value),
    /// Two files have it.
    Twice(Value),
    /// It cannot be read; what is here tells its key only.
    Unreadable(Value),
    /// It is valid by itself.
    Valid(Value),
}

impl Written {
    /// The document, for its key.
    #[must_use]
    pub fn document(&self) -> &Value {
        match self {
            Self::Refused(found)
            | Self::Twice(found)
            | Self::Unreadable(found)
            | Self::Valid(found) => found,
        }
    }

    /// The same state with another document.
    #[must_use]
    pub fn with(&self, document: Value) -> Self {
        match self {
            Self::Refused(_) => Self::Refused(document),
            Self::Twice(_) => Self::Twice(document),
            Self::Unreadable(_) => Self::Unreadable(document),
            Self::Valid(_) => Self::Valid(document),
        }
    }
}

/// What a caller's node learnt, oldest first, all at one moment.
pub type Illness = Vec<Ill>;

/// The results of some tries at one endpoint.
#[derive(Clone, Debug)]
pub struct Ill {
    /// The workload, `namespace/name`.
    pub workload: String,
    /// The service that was called, `namespace/name`.
    pub service: String,
    /// The port of the application.
    pub port: u16,
    /// How the tries ended.
    pub sign: Sign,
    /// How many there were.
    pub times: u32,
}

/// How a try ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// No connection could be made.
    Connect,
    /// An answer with this status.
    Status(u16),
    /// `perTry` ran out.
    Timeout,
}

/// Who calls, from where.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The namespace of its workload.
    pub namespace: String,
    /// Its service account.
    pub account: String,
    /// What the callee sees of that.
    pub proof: Proof,
    /// Its address.
    pub address: IpAddr,
    /// Its region; empty if not known.
    pub region: String,
    /// Its zone; empty if not known.
    pub zone: String,
}

/// How a caller is known to a callee.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// A certificate of another trust domain.
    Foreign(String),
    /// A certificate of the mesh.
    Local,
    /// No certificate.
    None,
}

//! The control plane's end of delta discovery for one node: a view in, responses out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use tacit_model::{Generation, TableDelta};

use crate::encoded::{COMMIT_TYPE_URL, Encoded, ResourceKey, Table, commit_resource};
use crate::proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource};

/// Bytes of rows in one response: well below the 4 MiB that gRPC clients accept by default.
const RESPONSE_BYTES: usize = 1 << 20;

/// The rows that one node (or many alike) should have.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// Which generation they are.
    pub generation: Generation,
    rows: BTreeMap<ResourceKey, Arc<Encoded>>,
}

impl View {
    /// Moves on to another generation. Only the changed rows are encoded.
    pub fn apply(&mut self, generation: Generation, delta: &TableDelta) {
        for key in &delta.removes {
            self.rows.remove(&ResourceKey::of(key));
        }
        for row in &delta.upserts {
            let encoded = Arc::new(Encoded::new(row));
            self.rows.insert(encoded.key.clone(), encoded);
        }
        self.generation = generation;
    }

    /// How many rows it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// True if it has no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

/// One stream of one node.
#[derive(Debug, Default)]
pub struct Session {
    subscribed: BTreeSet<Table>,
    /// True once the commit is subscribed, which is the last of the subscriptions.
    open: bool,
    /// What the node has, or will have when everything sent has arrived.
    known: BTreeMap<ResourceKey, Arc<str>>,
    /// At most one generation is on its way: a slow node gets the newest, not each.
    in_flight: Option<Flight>,
    /// True once a commit was sent on this stream.
    greeted: bool,
    acknowledged: Option<Generation>,
    refused: Option<(Generation, String)>,
    nonces: u64,
}

#[derive(Debug)]
struct Flight {
    nonce: String,
    generation: Generation,
}

/// What a request means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The generation is in force on the node.
    Acknowledged(Generation),
    /// Nothing to do.
    Nothing,
    /// All subscriptions are known: publish.
    Opened,
    /// The node keeps what it had.
    Refused(Generation, String),
}

/// The client broke the protocol; the stream must be closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProtocolError {
    /// Rows by name: only whole tables can be subscribed.
    ByName(String),
    /// A type that is not served here.
    UnknownType(String),
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ByName(type_url) => {
                write!(
                    f,
                    "{type_url:?} can only be subscribed as a whole, not by resource names"
                )
            }
            Self::UnknownType(type_url) => write!(f, "type {type_url:?} is not served"),
        }
    }
}

impl std::error::Error for ProtocolError {}

impl Session {
    /// A stream on which nothing was said yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The newest generation that the node has in force, if any was acknowledged on this stream.
    #[must_use]
    pub fn acknowledged(&self) -> Option<Generation> {
        self.acknowledged
    }

    /// The generation that the node refused, and its reason, until it accepts another.
    #[must_use]
    pub fn refused(&self) -> Option<&(Generation, String)> {
        self.refused.as_ref()
    }

    /// Takes one request in.
    pub fn receive(&mut self, request: DeltaDiscoveryRequest) -> Result<Heard, ProtocolError> {
        let DeltaDiscoveryRequest {
            node: _,
            type_url,
            resource_names_subscribe,
            resource_names_unsubscribe,
            initial_resource_versions,
            response_nonce,
            error_detail,
        } = request;
        let wildcard = |names: &[String]| names.iter().all(|name| name == "*");
        if !wildcard(&resource_names_subscribe) || !wildcard(&resource_names_unsubscribe) {
            return Err(ProtocolError::ByName(type_url));
        }
        let table = match Table::of_type_url(&type_url) {
            Some(table) => Some(table),
            None if type_url == COMMIT_TYPE_URL => None,
            None => return Err(ProtocolError::UnknownType(type_url)),
        };
        let reason = error_detail.map(|status| status.message);
        match (table, response_nonce.is_empty()) {
            (Some(table), true) => {
                self.subscribe(table, initial_resource_versions);
                Ok(Heard::Nothing)
            }
            (None, true) if self.open => Ok(Heard::Nothing),
            (None, true) => {
                self.open = true;
                Ok(Heard::Opened)
            }
            // Rows count when their commit is answered.
            (Some(_), false) => Ok(Heard::Nothing),
            (None, false) => Ok(self.answered(&response_nonce, reason)),
        }
    }

    fn subscribe(&mut self, table: Table, versions: BTreeMap<String, String>) {
        self.subscribed.insert(table);
        for (name, version) in versions {
            self.known.insert(
                ResourceKey {
                    table,
                    name: name.into(),
                },
                version.into(),
            );
        }
    }

    fn answered(&mut self, nonce: &str, reason: Option<String>) -> Heard {
        let Some(flight) = self.in_flight.take_if(|flight| flight.nonce == nonce) else {
            return Heard::Nothing;
        };
        match reason {
            None => {
                self.acknowledged = Some(flight.generation);
                self.refused = None;
                Heard::Acknowledged(flight.generation)
            }
            Some(reason) => {
                self.refused = Some((flight.generation, reason.clone()));
                Heard::Refused(flight.generation, reason)
            }
        }
    }

    /// The responses that bring the node to `view`; none while a generation is on its way or
    /// when the node has all of it already, which then counts as acknowledged.
    pub fn publish(&mut self, view: &View) -> Vec<DeltaDiscoveryResponse> {
        if !self.open || self.in_flight.is_some() {
            return Vec::new();
        }
        let mut responses = Vec::new();
        for table in self.subscribed.clone() {
            self.publish_table(table, view, &mut responses);
        }
        if responses.is_empty() && self.greeted {
            if self.refused.is_none() {
                self.acknowledged = self.acknowledged.max(Some(view.generation));
            }
            return responses;
        }
        let nonce = self.nonce();
        self.greeted = true;
        self.in_flight = Some(Flight {
            nonce: nonce.clone(),
            generation: view.generation,
        });
        responses.push(DeltaDiscoveryResponse {
            system_version_info: view.generation.to_string(),
            resources: vec![commit_resource(view.generation)],
            type_url: COMMIT_TYPE_URL.to_owned(),
            nonce,
            removed_resources: Vec::new(),
        });
        responses
    }

    fn publish_table(
        &mut self,
        table: Table,
        view: &View,
        responses: &mut Vec<DeltaDiscoveryResponse>,
    ) {
        let mut batch: Vec<Resource> = Vec::new();
        let mut bytes = 0;
        for (key, row) in view.rows.iter().filter(|(key, _)| key.table == table) {
            if self.known.get(key) == Some(&row.version) {
                continue;
            }
            self.known.insert(key.clone(), row.version.clone());
            if bytes + row.value.len() > RESPONSE_BYTES && !batch.is_empty() {
                let full = std::mem::take(&mut batch);
                responses.push(self.response(table, view.generation, full, Vec::new()));
                bytes = 0;
            }
            bytes += row.value.len();
            batch.push(row.resource());
        }
        let gone: Vec<ResourceKey> = self
            .known
            .keys()
            .filter(|key| key.table == table && !view.rows.contains_key(key))
            .cloned()
            .collect();
        for key in &gone {
            self.known.remove(key);
        }
        if !batch.is_empty() || !gone.is_empty() {
            let removed = gone.into_iter().map(|key| key.name.to_string()).collect();
            responses.push(self.response(table, view.generation, batch, removed));
        }
    }

    fn response(
        &mut self,
        table: Table,
        generation: Generation,
        resources: Vec<Resource>,
        removed_resources: Vec<String>,
    ) -> DeltaDiscoveryResponse {
        DeltaDiscoveryResponse {
            system_version_info: generation.to_string(),
            resources,
            type_url: table.type_url().to_owned(),
            nonce: self.nonce(),
            removed_resources,
        }
    }

    fn nonce(&mut self) -> String {
        self.nonces += 1;
        self.nonces.to_string()
    }
}

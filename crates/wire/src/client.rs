//! A node's end of delta discovery: stages what arrives and commits closed generations.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use tacit_model::{Generation, NodeId, Row, RowKey, Snapshot, TableDelta, Tables};

use crate::encoded::{
    COMMIT_NAME, COMMIT_TYPE_URL, Encoded, ResourceKey, Table, decode, decode_commit,
};
use crate::proto::discovery::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node, Resource, Status,
};

/// Rows that are held between two commits, at most: bounds what a broken server can make us keep.
const MAX_STAGED: usize = 1_000_000;
/// `google.rpc.Code.INVALID_ARGUMENT`, the code of a refusal.
const INVALID_ARGUMENT: i32 = 3;

/// What a node is subscribed to, what it holds, and what is on its way.
#[derive(Debug)]
pub struct Subscription {
    node: NodeId,
    generation: Option<Generation>,
    tables: Tables,
    /// Of the committed rows.
    held: BTreeMap<ResourceKey, Held>,
    /// Since the last commit; `None` is a removal.
    staged: BTreeMap<ResourceKey, Option<(Row, Arc<str>)>>,
    /// Rows that could not be read, until another version of them arrives.
    rejected: BTreeMap<ResourceKey, String>,
}

#[derive(Clone, Debug)]
struct Held {
    key: RowKey,
    version: Arc<str>,
}

/// What a response led to.
#[derive(Debug)]
pub struct Received {
    /// To be sent. When a generation was committed: after it was put in force, because the
    /// control plane counts it as enforced from then on.
    pub reply: DeltaDiscoveryRequest,
    /// What happened.
    pub outcome: Outcome,
}

/// What a response led to.
#[derive(Debug)]
pub enum Outcome {
    /// A generation is complete.
    Committed(Update),
    /// The generation cannot be used; the last one stays. The reason is for people.
    Refused(String),
    /// Rows are kept until their commit.
    Staged,
}

/// A new closed state.
#[derive(Debug)]
pub struct Update {
    /// Which one.
    pub generation: Generation,
    /// What changed since the last one; empty if only the number did.
    pub delta: TableDelta,
    /// The whole of it.
    pub snapshot: Arc<Snapshot>,
}

/// The server broke the protocol; the stream must be closed and opened anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProtocolError {
    /// An older generation than the one that is held.
    Backwards { held: Generation, sent: Generation },
    /// The commit cannot be read.
    BadCommit(String),
    /// The store was reset or restored: the node has to join anew.
    OtherEpoch { held: Generation, sent: Generation },
    /// More rows than [`Subscription`] keeps between two commits.
    TooManyRows,
    /// A type that was not subscribed.
    UnknownType(String),
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Backwards { held, sent } => {
                write!(
                    f,
                    "the control plane sent generation {sent}, older than {held}"
                )
            }
            Self::BadCommit(reason) => write!(f, "the commit cannot be read: {reason}"),
            Self::OtherEpoch { held, sent } => write!(
                f,
                "the control plane's store is another one (generation {sent}, held {held}): \
                 join this node anew"
            ),
            Self::TooManyRows => {
                write!(f, "more than {MAX_STAGED} rows came without a commit")
            }
            Self::UnknownType(type_url) => write!(f, "type {type_url:?} was not subscribed"),
        }
    }
}

impl std::error::Error for ProtocolError {}

impl Subscription {
    /// A node that holds nothing yet.
    #[must_use]
    pub fn new(node: NodeId) -> Self {
        Self {
            node,
            generation: None,
            tables: Tables::default(),
            held: BTreeMap::new(),
            staged: BTreeMap::new(),
            rejected: BTreeMap::new(),
        }
    }

    /// A node that booted from its last good generation.
    #[must_use]
    pub fn restored(node: NodeId, generation: Generation, tables: Tables) -> Self {
        let held = tables.0.values().map(|row| {
            let Encoded {
                key,
                version,
                value: _,
            } = Encoded::new(row);
            (
                key,
                Held {
                    key: row.key(),
                    version,
                },
            )
        });
        Self {
            held: held.collect(),
            generation: Some(generation),
            tables,
            ..Self::new(node)
        }
    }

    /// The last committed generation.
    #[must_use]
    pub fn generation(&self) -> Option<Generation> {
        self.generation
    }

    /// The rows of it.
    #[must_use]
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// The first messages of a new stream. What was staged on an earlier stream is forgotten;
    /// the server learns which rows are held and sends the difference.
    pub fn connect(&mut self) -> Vec<DeltaDiscoveryRequest> {
        self.staged.clear();
        self.rejected.clear();
        let node = Node {
            id: self.node.to_string(),
            ..Node::default()
        };
        let subscribe = |type_url: &str, initial_resource_versions| DeltaDiscoveryRequest {
            node: Some(node.clone()),
            type_url: type_url.to_owned(),
            initial_resource_versions,
            ..DeltaDiscoveryRequest::default()
        };
        let versions = |table| {
            let rows = self.held.iter().filter(|(key, _)| key.table == table);
            rows.map(|(key, held)| (key.name.to_string(), held.version.to_string()))
                .collect()
        };
        let tables = Table::ALL.into_iter();
        let mut requests: Vec<_> = tables
            .map(|table| subscribe(table.type_url(), versions(table)))
            .collect();
        // The commit is last: from then on the server knows all subscriptions.
        let commit = self
            .generation
            .map(|held| (COMMIT_NAME.to_owned(), held.to_string()));
        requests.push(subscribe(COMMIT_TYPE_URL, commit.into_iter().collect()));
        requests
    }

    /// Takes one response in.
    pub fn receive(&mut self, response: DeltaDiscoveryResponse) -> Result<Received, ProtocolError> {
        let DeltaDiscoveryResponse {
            system_version_info: _,
            resources,
            type_url,
            nonce,
            removed_resources,
        } = response;
        let outcome = if type_url == COMMIT_TYPE_URL {
            self.commit(&resources)?
        } else {
            let table = Table::of_type_url(&type_url)
                .ok_or_else(|| ProtocolError::UnknownType(type_url.clone()))?;
            self.stage(table, resources, removed_resources)?
        };
        let error_detail = match &outcome {
            Outcome::Refused(reason) => Some(Status {
                code: INVALID_ARGUMENT,
                message: reason.clone(),
            }),
            Outcome::Committed(_) | Outcome::Staged => None,
        };
        let reply = DeltaDiscoveryRequest {
            type_url,
            response_nonce: nonce,
            error_detail,
            ..DeltaDiscoveryRequest::default()
        };
        Ok(Received { reply, outcome })
    }

    fn stage(
        &mut self,
        table: Table,
        resources: Vec<Resource>,
        removed: Vec<String>,
    ) -> Result<Outcome, ProtocolError> {
        let mut problems = Vec::new();
        for Resource {
            version,
            resource,
            name,
        } in resources
        {
            let value = resource.map(|any| any.value).unwrap_or_default();
            let key = ResourceKey {
                table,
                name: name.as_str().into(),
            };
            match decode(table, &name, &value) {
                Ok(row) => {
                    self.rejected.remove(&key);
                    self.staged.insert(key, Some((row, version.into())));
                }
                Err(invalid) => {
                    let problem = format!("{} {name}: {invalid}", table.type_url());
                    problems.push(problem.clone());
                    self.rejected.insert(key, problem);
                }
            }
        }
        for name in removed {
            let key = ResourceKey {
                table,
                name: name.into(),
            };
            self.rejected.remove(&key);
            self.staged.insert(key, None);
        }
        if self.staged.len() + self.rejected.len() > MAX_STAGED {
            return Err(ProtocolError::TooManyRows);
        }
        Ok(if problems.is_empty() {
            Outcome::Staged
        } else {
            Outcome::Refused(problems.join("; "))
        })
    }

    fn commit(&mut self, resources: &[Resource]) -> Result<Outcome, ProtocolError> {
        let [
            Resource {
                resource: Some(any),
                ..
            },
        ] = resources
        else {
            let count = resources.len();
            return Err(ProtocolError::BadCommit(format!(
                "{count} resources instead of one"
            )));
        };
        let sent = decode_commit(&any.value)
            .map_err(|invalid| ProtocolError::BadCommit(invalid.to_string()))?;
        if let Some(held) = self.generation {
            if held.epoch != sent.epoch {
                return Err(ProtocolError::OtherEpoch { held, sent });
            }
            if sent < held {
                return Err(ProtocolError::Backwards { held, sent });
            }
        }
        if let Some(problem) = self.rejected.values().next() {
            let count = self.rejected.len();
            return Ok(Outcome::Refused(format!(
                "{count} rows cannot be read: {problem}"
            )));
        }
        Ok(self.close(sent))
    }

    /// Tries the staged rows on top of the committed ones; keeps them staged if that is no state.
    fn close(&mut self, generation: Generation) -> Outcome {
        let mut delta = TableDelta::default();
        for (key, change) in &self.staged {
            match (change, self.held.get(key)) {
                (Some((row, _)), _) => delta.upserts.push(row.clone()),
                (None, Some(held)) => delta.removes.push(held.key.clone()),
                // A removal of what was never held: the server was told of a row that a later
                // response replaced.
                (None, None) => {}
            }
        }
        let mut next = self.tables.clone();
        next.apply(delta.clone());
        match Snapshot::build(generation, &next) {
            Ok(snapshot) => {
                self.keep(generation, next);
                Outcome::Committed(Update {
                    generation,
                    delta,
                    snapshot: Arc::new(snapshot),
                })
            }
            Err(open) => Outcome::Refused(format!("generation {generation}: {open}")),
        }
    }

    fn keep(&mut self, generation: Generation, tables: Tables) {
        for (resource, change) in std::mem::take(&mut self.staged) {
            match change {
                Some((row, version)) => {
                    self.held.insert(
                        resource,
                        Held {
                            key: row.key(),
                            version,
                        },
                    );
                }
                None => {
                    self.held.remove(&resource);
                }
            }
        }
        self.tables = tables;
        self.generation = Some(generation);
    }
}

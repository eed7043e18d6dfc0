//! What the engine can be asked for.

use std::collections::BTreeSet;
use std::net::IpAddr;

use tacit_api::ObjectKey;
use tacit_compiler::grants::{Caller, Subject};
use tacit_model::hosting::MayHost;
use tacit_model::labels::Labels;
use tacit_model::tables::PublishedPort;
use tacit_model::{
    Generation, Locality, Name, Namespace, NodeName, ServiceAccount, SpiffeId, WorkloadName,
};
use tokio::sync::oneshot;

use super::DirectoryRead;
use crate::admin::types::{ApplyResponse, JoinTokenResponse, Problem, ProblemKind};
use crate::store::records::{Ready, RunPort};

/// Where the answer goes.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, Problem>>;
/// What remains to be done when the batch is published, or has failed.
pub(crate) type Then = Box<dyn FnOnce(Result<Generation, Problem>) + Send>;

/// One command in the queue.
pub(crate) struct Ask(pub(crate) Command);

/// Everything that can change.
pub(crate) enum Command {
    /// Files of the watched directory changed.
    Directory(DirectoryRead),
    /// Somebody applies or deletes objects of the API.
    Edit(Actor, EditKind, Reply<ApplyResponse>),
    /// A node that has joined connects.
    Hello(HelloAsk, Reply<Joined>),
    /// A node joins with a token.
    Join(JoinAsk, Reply<Joined>),
    /// Ports of a node's workloads became ready or stopped being so.
    Ready(NodeName, Ready),
    /// A workload of `tacit run` begins.
    Register(RegisterAsk, Reply<Registered>),
    /// A node leaves for good.
    RemoveNode(NodeName, Reply<()>),
    /// Something expires about now.
    Tick,
    /// A join token is wanted.
    Token(NodeName, MayHost, Reply<JoinTokenResponse>),
    /// A workload of `tacit run` ended.
    Unregister(NodeName, WorkloadName, Reply<()>),
}

/// Who asks for an edit.
#[derive(Clone, Debug)]
pub(crate) struct Actor {
    pub(crate) caller: Caller,
    /// As somebody else: needs an `Impersonate` grant.
    pub(crate) acting_as: Option<Subject>,
    pub(crate) dry_run: bool,
}

/// What is edited.
#[derive(Clone, Debug)]
pub(crate) enum EditKind {
    Apply { file: String, text: String },
    Delete(ObjectKey),
}

/// A node with a token.
#[derive(Clone, Debug)]
pub(crate) struct JoinAsk {
    pub(crate) secret: String,
    pub(crate) node: NodeName,
    pub(crate) locality: Locality,
    pub(crate) host_addresses: Vec<IpAddr>,
}

/// A node that connects again.
#[derive(Clone, Debug)]
pub(crate) struct HelloAsk {
    pub(crate) node: NodeName,
    pub(crate) locality: Locality,
    pub(crate) host_addresses: Vec<IpAddr>,
    pub(crate) living: BTreeSet<WorkloadName>,
}

/// What a node is told when it joins or connects again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Joined {
    pub(crate) subnet: String,
    pub(crate) epoch: u64,
}

/// A workload of `tacit run`.
#[derive(Clone, Debug)]
pub(crate) struct RegisterAsk {
    pub(crate) node: NodeName,
    pub(crate) namespace: Namespace,
    pub(crate) service_account: ServiceAccount,
    pub(crate) labels: Labels,
    pub(crate) region: String,
    pub(crate) zone: String,
    pub(crate) ports: Vec<RunPort>,
    pub(crate) name: Option<Name>,
    pub(crate) address: Option<IpAddr>,
    /// Ports of its machine that lead to ports of it.
    pub(crate) published: Vec<PublishedPort>,
    pub(crate) uid: u32,
    pub(crate) gids: BTreeSet<u32>,
}

/// It may begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Registered {
    pub(crate) name: WorkloadName,
    pub(crate) address: IpAddr,
    pub(crate) identity: SpiffeId,
}

/// A refusal without findings.
pub(crate) fn problem(kind: ProblemKind, message: impl Into<String>) -> Problem {
    Problem {
        kind,
        message: message.into().into(),
        findings: Vec::new(),
    }
}

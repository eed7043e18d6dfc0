//! The JSON of the admin API; server and client share these types.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tacit_model::finding::Finding;
use tacit_model::hosting::MayHost;
use tacit_model::status::ObjectStatus;
use tacit_model::trace::Trace;
use tacit_model::{Generation, NodeName, ObjectRef, ServiceName};

/// `POST /v1/apply`: creates or changes the objects of a YAML text.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApplyRequest {
    /// One or more YAML documents.
    pub text: String,
    /// What the text is called in findings, for example a file's name.
    pub file: String,
    /// True: say what would happen and change nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// As if `user:NAME` or `group:NAME` asked; needs an `Impersonate` grant.
    #[serde(default, rename = "as", skip_serializing_if = "Option::is_none")]
    pub acting_as: Option<String>,
}

/// The answer of `apply` and `delete`, also when they are refused.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApplyResponse {
    /// What happened to each object; empty if nothing was applied.
    pub objects: Vec<Applied>,
    /// What is wrong with the text or its objects; errors mean that nothing was applied.
    pub findings: Vec<Finding>,
    /// The generation in which it is; absent if nothing was applied.
    pub generation: Option<Generation>,
}

/// What happened to an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Applied {
    pub object: ObjectRef,
    pub change: Change,
}

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Change {
    Configured,
    Created,
    Deleted,
    Unchanged,
}

/// Who may change an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Owner {
    /// `tacit apply` and `tacit delete`.
    Api,
    /// The watched directory.
    Directory,
    /// `tacit run`: it ends with its process.
    Run,
}

/// `GET /v1/objects[/KIND[/NAMESPACE]/NAME]`: an object as it is written, with its status.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListedObject {
    pub object: ObjectRef,
    pub owner: Owner,
    /// The object as JSON: apiVersion, kind, metadata, spec.
    pub manifest: serde_json::Value,
    /// Absent for kinds that have none.
    pub status: Option<ObjectStatus>,
}

/// `GET /v1/status`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MeshStatus {
    /// The mesh's name on this machine.
    pub mesh: String,
    pub trust_domain: String,
    /// The published generation.
    pub generation: Generation,
    pub nodes: Vec<NodeStatus>,
    pub services: Vec<ServiceStatus>,
    pub workloads: Vec<WorkloadStatus>,
    /// How many findings there are, by severity word.
    pub findings: BTreeMap<String, u64>,
    /// The worst of them in full.
    pub problems: Vec<Finding>,
    /// Set when nothing can be changed now, with the reason.
    pub read_only: Option<String>,
}

/// One enrolled node.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    pub name: NodeName,
    pub region: String,
    pub zone: String,
    /// CIDR of the addresses of its workloads.
    pub subnet: String,
    pub connected: bool,
    /// Seconds since it was last heard of; absent: not since this control plane started.
    pub silent_seconds: Option<u64>,
    /// The newest generation that it has in force, as it said last.
    pub acknowledged: Option<Generation>,
    /// Why it did not take the newest.
    pub refused: Option<String>,
    /// Certificates that it holds.
    pub certificates: Vec<CertificateStatus>,
}

/// One certificate that a node holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateStatus {
    pub identity: String,
    /// Seconds since 1970.
    pub not_after: u64,
}

/// One service.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceStatus {
    pub service: ServiceName,
    pub address: String,
    /// Workloads behind it.
    pub endpoints: u32,
    /// Those of them that have a ready port of the service.
    pub ready: u32,
    /// What its callers do now.
    pub callers: Vec<CallerRate>,
}

/// Live rates of one caller of a service, over the last seconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CallerRate {
    /// `namespace/service-account`.
    pub source: String,
    pub requests_per_second: f64,
    pub failures_per_second: f64,
}

/// One workload.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadStatus {
    pub namespace: String,
    pub name: String,
    pub service_account: String,
    pub node: NodeName,
    pub region: String,
    pub zone: String,
    pub address: String,
    /// Ports that accept connections.
    pub ready: Vec<u16>,
}

/// `POST /v1/why`: what would happen to a call.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WhyRequest {
    /// A workload's `NAMESPACE/NAME`, or an identity's `NAMESPACE/SERVICE-ACCOUNT`.
    pub source: String,
    /// For example `http://ledger.shop/accounts/1` or `tcp://db.shop:5432`.
    pub url: String,
    /// The HTTP method.
    pub method: String,
    /// Names and values of headers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    /// The zone of the caller, if no workload of it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
}

/// What would happen.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WhyResponse {
    /// True if the call would be let through.
    pub allowed: bool,
    /// One sentence.
    pub verdict: String,
    /// The steps, in order.
    pub trace: Trace,
    /// For each step with an origin: where that is written, `FILE:LINE:COLUMN`, by its position
    /// in `trace`.
    pub lines: BTreeMap<usize, SourceLine>,
    /// The generation that decided.
    pub generation: Generation,
    /// The node that answered; absent: computed here, and what depends on a node's state is
    /// assumed.
    pub answered_by: Option<NodeName>,
}

/// Where a field is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceLine {
    /// `FILE:LINE:COLUMN`.
    pub position: String,
    /// The text of the line.
    pub text: Option<String>,
}

/// `GET /v1/wait?for=Programmed&object=KIND/NAMESPACE/NAME&timeout=SECONDS`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WaitResponse {
    /// True if the condition holds; false: the time ran out.
    pub met: bool,
    /// The object's status at the end.
    pub status: ObjectStatus,
}

/// `POST /v1/join-token`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JoinTokenRequest {
    /// The node that may join with it.
    pub node: NodeName,
    /// What the node may host, `NAMESPACE/SERVICEACCOUNT` each; `*/*` for everything.
    pub identities: MayHost,
}

/// A token for one node, once, for one hour.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinTokenResponse {
    /// One word; see [`JoinToken`].
    pub token: String,
    /// Seconds since 1970.
    pub expires: u64,
}

/// What a join token carries: `tacit1.` and the base64url of this as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinToken {
    /// `IP:PORT` of the control plane's node API.
    pub addresses: Vec<String>,
    /// SHA-256 of the root certificate, hexadecimal: the only root that the node accepts.
    pub ca_sha256: String,
    pub secret: String,
    pub node: NodeName,
    /// What the node may host: for people; control believes only its own record of it.
    pub identities: MayHost,
    /// Of the mesh, for the node's first identity.
    pub trust_domain: String,
}

/// `POST /v1/certificate`: a certificate for a person or a pipeline.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CertificateRequest {
    /// What `Mesh.subjects` knows the person by.
    pub common_name: String,
    /// PKCS#10 as base64 of DER. Only its public key is used.
    pub csr: String,
}

/// A person's certificate.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateResponse {
    /// PEM, the leaf first.
    pub chain: String,
    /// PEM of the roots that vouch for the control plane.
    pub roots: String,
}

/// `GET /v1/generation`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GenerationResponse {
    /// The newest published one; absent before the first.
    pub generation: Option<Generation>,
}

/// `GET /v1/findings`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FindingsResponse {
    pub findings: Vec<Finding>,
}

/// `GET /v1/objects`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectsResponse {
    pub objects: Vec<ListedObject>,
}

/// The body of every answer that is not 2xx.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    pub kind: ProblemKind,
    /// What happened and what to do, for people.
    pub message: Arc<str>,
    /// What is wrong with the text that was sent.
    #[serde(default)]
    pub findings: Vec<Finding>,
}

/// Whose fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ProblemKind {
    /// The request cannot be understood: 400.
    BadRequest,
    /// The object belongs to another owner: 409.
    Conflict,
    /// The caller may not: 403.
    Forbidden,
    /// The text has errors: 422.
    Invalid,
    /// No such thing: 404.
    NotFound,
    /// The control plane cannot do it now: 503.
    Unavailable,
}

impl ProblemKind {
    /// The HTTP status.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::Conflict => 409,
            Self::Invalid => 422,
            Self::Unavailable => 503,
        }
    }
}

//! The admin API's other end, for the command line: over the Unix socket, or TLS from afar.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tacit_model::hosting::MayHost;
use tacit_model::{Generation, ObjectRef};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;

use crate::admin::types::{
    ApplyRequest, ApplyResponse, CertificateRequest, CertificateResponse, FindingsResponse,
    GenerationResponse, JoinTokenRequest, JoinTokenResponse, ListedObject, MeshStatus,
    ObjectsResponse, Problem, WaitResponse, WhyRequest, WhyResponse,
};

mod tls;

pub use tls::BadIdentity;

/// Answers are read up to this size: the objects of a large mesh.
const ANSWER_MAX: usize = 256 << 20;
/// An answer that takes longer never comes; `wait` has its own time on top.
const PATIENCE: Duration = Duration::from_secs(30);

/// A client of one control plane. Each request has its own connection.
#[derive(Debug)]
pub struct AdminClient {
    way: Way,
}

#[derive(Debug)]
enum Way {
    Tls(tls::Remote),
    Unix(PathBuf),
}

/// Why there is no answer, or which one there is.
#[derive(Debug)]
pub enum ClientError {
    /// The answer is not what was expected.
    Garbled(String),
    /// The control plane refused, and says why.
    Refused(Problem),
    /// No answer in time.
    TimedOut,
    /// The control plane cannot be reached.
    Unreachable(String),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Garbled(why) => write!(f, "the control plane's answer makes no sense: {why}"),
            Self::Refused(problem) => f.write_str(&problem.message),
            Self::TimedOut => f.write_str("the control plane did not answer in time"),
            Self::Unreachable(why) => write!(f, "cannot reach the control plane: {why}"),
        }
    }
}

impl std::error::Error for ClientError {}

impl AdminClient {
    /// By the socket of this machine; who asks is known by the user id.
    #[must_use]
    pub fn unix(socket: PathBuf) -> Self {
        Self {
            way: Way::Unix(socket),
        }
    }

    /// By TLS: `HOST:PORT`, and a directory with `person.crt`, `person.key` and `roots.crt`.
    pub fn tls(address: &str, identity: &Path) -> Result<Self, BadIdentity> {
        Ok(Self {
            way: Way::Tls(tls::Remote::read(address, identity)?),
        })
    }

    /// Creates or changes objects.
    pub async fn apply(&self, request: &ApplyRequest) -> Result<ApplyResponse, ClientError> {
        self.post("/v1/apply", request).await
    }

    /// Deletes an object that the API owns.
    pub async fn delete(&self, object: &ObjectRef) -> Result<ApplyResponse, ClientError> {
        self.ask(Method::DELETE, &object_path(object), None, PATIENCE)
            .await
    }

    /// Objects: all, of one kind (any case), or one by name.
    pub async fn objects(
        &self,
        kind: Option<&str>,
        namespace: Option<&str>,
        name: Option<&str>,
    ) -> Result<Vec<ListedObject>, ClientError> {
        let mut path = "/v1/objects".to_owned();
        for part in [kind, namespace, name].into_iter().flatten() {
            path.push('/');
            path.push_str(part);
        }
        let answer: ObjectsResponse = self.read(&path).await?;
        Ok(answer.objects)
    }

    /// Nodes, services, workloads, live rates.
    pub async fn status(&self) -> Result<MeshStatus, ClientError> {
        self.read("/v1/status").await
    }

    /// What is wrong with the objects in force.
    pub async fn findings(&self) -> Result<FindingsResponse, ClientError> {
        self.read("/v1/findings").await
    }

    /// Waits until a condition (for example `Programmed`) of an object is True.
    pub async fn wait(
        &self,
        condition: &str,
        object: &ObjectRef,
        time: Duration,
    ) -> Result<WaitResponse, ClientError> {
        let milliseconds = time.as_millis();
        let path = format!("/v1/wait?for={condition}&object={object}&milliseconds={milliseconds}");
        self.ask(Method::GET, &path, None, time.saturating_add(PATIENCE))
            .await
    }

    /// What would happen to a call, and why.
    pub async fn why(&self, request: &WhyRequest) -> Result<WhyResponse, ClientError> {
        self.post("/v1/why", request).await
    }

    /// A one-time token with which a node joins, to host these identities only.
    pub async fn join_token(&self, node: &str, identities: MayHost) -> Result<String, ClientError> {
        let node = node
            .try_into()
            .map_err(|error: tacit_model::names::InvalidName| {
                ClientError::Garbled(error.to_string())
            })?;
        let made: JoinTokenResponse = self
            .post("/v1/join-token", &JoinTokenRequest { node, identities })
            .await?;
        Ok(made.token)
    }

    /// Takes a node out of the mesh for good.
    pub async fn remove_node(&self, node: &str) -> Result<(), ClientError> {
        let path = format!("/v1/nodes/{node}");
        let _: serde_json::Value = self.ask(Method::DELETE, &path, None, PATIENCE).await?;
        Ok(())
    }

    /// A certificate for a person; the key stays with the caller.
    pub async fn certificate(
        &self,
        request: &CertificateRequest,
    ) -> Result<CertificateResponse, ClientError> {
        self.post("/v1/certificate", request).await
    }

    /// The newest published generation.
    pub async fn generation(&self) -> Result<Option<Generation>, ClientError> {
        let answer: GenerationResponse = self.read("/v1/generation").await?;
        Ok(answer.generation)
    }

    async fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.ask(Method::GET, path, None, PATIENCE).await
    }

    async fn post<B: Serialize + Sync, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).map_err(|e| ClientError::Garbled(e.to_string()))?;
        self.ask(Method::POST, path, Some(body), PATIENCE).await
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
        patience: Duration,
    ) -> Result<T, ClientError> {
        let exchange = async {
            match &self.way {
                Way::Unix(path_of_socket) => {
                    let stream = UnixStream::connect(path_of_socket).await.map_err(|error| {
                        let shown = path_of_socket.display();
                        ClientError::Unreachable(format!("{shown}: {error}; is the mesh up?"))
                    })?;
                    exchange(stream, false, request(method, path, body)?).await
                }
                Way::Tls(remote) => {
                    let stream = remote.connect().await?;
                    let http2 = stream.is_http2();
                    exchange(stream, http2, request(method, path, body)?).await
                }
            }
        };
        let (status, body) = tokio::time::timeout(patience, exchange)
            .await
            .map_err(|_| ClientError::TimedOut)??;
        understand(status, &body)
    }
}

fn object_path(object: &ObjectRef) -> String {
    let ObjectRef {
        kind,
        namespace,
        name,
    } = object;
    match namespace {
        Some(namespace) => format!("/v1/objects/{kind}/{namespace}/{name}"),
        None => format!("/v1/objects/{kind}/{name}"),
    }
}

fn request(
    method: Method,
    path: &str,
    body: Option<Vec<u8>>,
) -> Result<Request<Full<Bytes>>, ClientError> {
    Request::builder()
        .method(method)
        // HTTP/2 wants the host in the target; the name of a mesh's control plane is this.
        .uri(format!("http://control{path}"))
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body.unwrap_or_default())))
        .map_err(|error| ClientError::Garbled(error.to_string()))
}

/// One request on one connection, which ends when its sender is dropped; an error of the
/// connection is an error of the request too.
async fn exchange<S>(
    stream: S,
    http2: bool,
    request: Request<Full<Bytes>>,
) -> Result<(StatusCode, Bytes), ClientError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let broken = |error: hyper::Error| ClientError::Unreachable(error.to_string());
    let io = TokioIo::new(stream);
    let answer = if http2 {
        let executor = TokioExecutor::new();
        let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io)
            .await
            .map_err(broken)?;
        tokio::spawn(connection);
        sender.send_request(request).await.map_err(broken)?
    } else {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io)
            .await
            .map_err(broken)?;
        tokio::spawn(connection);
        sender
            .send_request(in_origin_form(request))
            .await
            .map_err(broken)?
    };
    let status = answer.status();
    let body = Limited::new(answer.into_body(), ANSWER_MAX)
        .collect()
        .await
        .map_err(|error| ClientError::Unreachable(error.to_string()))?;
    Ok((status, body.to_bytes()))
}

/// HTTP/1.1 to a server that is no proxy: the path in the target, the host in its header.
fn in_origin_form(mut request: Request<Full<Bytes>>) -> Request<Full<Bytes>> {
    let mut parts = http::uri::Parts::default();
    parts.path_and_query = request.uri().path_and_query().cloned();
    if let Ok(uri) = http::Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
    let host = http::HeaderValue::from_static("control");
    request.headers_mut().insert(http::header::HOST, host);
    request
}

fn understand<T: DeserializeOwned>(status: StatusCode, body: &[u8]) -> Result<T, ClientError> {
    let garbled = |error: serde_json::Error| ClientError::Garbled(format!("{status}: {error}"));
    if status.is_success() {
        serde_json::from_slice(body).map_err(garbled)
    } else {
        Err(ClientError::Refused(
            serde_json::from_slice(body).map_err(garbled)?,
        ))
    }
}

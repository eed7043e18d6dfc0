//! A control plane on loopback, and a node that speaks the wire protocol to it.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tacit_control::admin::types::{ApplyRequest, ApplyResponse, JoinToken};
use tacit_control::client::{AdminClient, ClientError};
use tacit_control::{ControlError, Settings};
use tacit_model::hosting::MayHost;
use tacit_model::{NodeId, NodeName, TrustDomain};
use tacit_transport::key::PrivateKey;
use tacit_transport::own::{Connector, OwnIdentity};
use tacit_wire::client::{Outcome, Subscription, Update};
use tacit_wire::proto::control::node_api_client::NodeApiClient;
use tacit_wire::proto::control::{HelloRequest, JoinRequest, SignRequest};
use tacit_wire::proto::discovery::DeltaDiscoveryRequest;
use tacit_wire::proto::discovery::aggregated_discovery_service_client as ads;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};

/// Nothing here takes long; a test that hangs should say so.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const SHOP: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}
";

/// A running control plane.
pub(crate) struct Mesh {
    pub(crate) settings: Settings,
    dir: Option<tempfile::TempDir>,
    running: JoinHandle<Result<(), ControlError>>,
    /// Its own, so that it can end as a process does.
    runtime: Option<Runtime>,
}

fn free_port() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap()
}

impl Mesh {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::start_in(dir, None).await
    }

    pub(crate) async fn start_in(dir: tempfile::TempDir, config_dir: Option<PathBuf>) -> Self {
        let settings = Settings {
            mesh: "test".try_into().unwrap(),
            runtime_dir: dir.path().to_path_buf(),
            state_dir: dir.path().to_path_buf(),
            config_dir,
            nodes_listen: free_port(),
            admin_listen: free_port(),
            addresses: Vec::new(),
            administrator: nix::unistd::Uid::effective().as_raw(),
        };
        Self::start_with(settings, dir).await
    }

    async fn start_with(settings: Settings, dir: tempfile::TempDir) -> Self {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let running = runtime.spawn(tacit_control::run(settings.clone()));
        let mesh = Self {
            settings,
            dir: Some(dir),
            running,
            runtime: Some(runtime),
        };
        let client = mesh.client();
        let answers = async {
            while client.generation().await.is_err() {
                assert!(!mesh.running.is_finished(), "the control plane ended");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, answers).await.unwrap();
        mesh
    }

    /// Ends it as a crash would (nothing is told to anybody), and starts it again.
    pub(crate) async fn crash_and_restart(mut self) -> Self {
        let (settings, dir) = (self.settings.clone(), self.dir.take().unwrap());
        let runtime = self.runtime.take().unwrap();
        let ended = move || runtime.shutdown_timeout(PATIENCE);
        tokio::task::spawn_blocking(ended).await.unwrap();
        // The engine's thread lets go of the store once nobody can ask it any more.
        let free = async {
            let file = settings.store_file();
            while std::fs::File::open(&file).unwrap().try_lock().is_err() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(PATIENCE, free).await.unwrap();
        Self::start_with(settings, dir).await
    }

    /// Where this mesh keeps its files.
    pub(crate) fn path(&self) -> &Path {
        self.dir.as_ref().unwrap().path()
    }

    pub(crate) fn client(&self) -> AdminClient {
        AdminClient::unix(self.settings.control_socket())
    }

    pub(crate) async fn apply(&self, text: &str) -> Result<ApplyResponse, ClientError> {
        apply(&self.client(), text).await
    }

    pub(crate) async fn token(&self, node: &str) -> JoinToken {
        self.token_for(node, MayHost::any()).await
    }

    pub(crate) async fn token_for(&self, node: &str, identities: MayHost) -> JoinToken {
        use base64::Engine as _;
        let token = self.client().join_token(node, identities).await.unwrap();
        let body = token.strip_prefix("tacit1.").unwrap();
        let json = base64::engine::general_purpose::URL_SAFE_NO_PAD
            .decode(body)
            .unwrap();
        serde_json::from_slice(&json).unwrap()
    }
}

pub(crate) async fn apply(client: &AdminClient, text: &str) -> Result<ApplyResponse, ClientError> {
    let request = ApplyRequest {
        text: text.into(),
        file: "test.yaml".into(),
        dry_run: false,
        acting_as: None,
    };
    client.apply(&request).await
}

/// gRPC over a connection that the connector makes.
pub(crate) async fn channel(connector: Connector, to: SocketAddr) -> Result<Channel, String> {
    let dial = tower::service_fn(move |_: http::Uri| {
        let connector = connector.clone();
        async move {
            let stream = connector.connect(to).await.map_err(std::io::Error::other)?;
            Ok::<_, std::io::Error>(TokioIo::new(stream))
        }
    });
    let endpoint = Endpoint::from_static("http://control");
    endpoint
        .connect_with_connector(dial)
        .await
        .map_err(|error| format!("{error:?}"))
}

impl Drop for Mesh {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A node that has joined.
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) subnet: String,
    pub(crate) roots: Vec<Vec<u8>>,
    pub(crate) key: Vec<u8>,
    pub(crate) chain: Vec<Vec<u8>>,
    to: SocketAddr,
}

pub(crate) fn control_of(trust_domain: &TrustDomain) -> NodeId {
    NodeId {
        trust_domain: trust_domain.clone(),
        name: "control".try_into().unwrap(),
    }
}

fn digest(hex: &str) -> [u8; 32] {
    let byte = |index: usize| u8::from_str_radix(&hex[2 * index..2 * index + 2], 16).unwrap();
    std::array::from_fn(byte)
}

impl Node {
    pub(crate) async fn join(token: &JoinToken, name: &str) -> Result<Self, String> {
        let to: SocketAddr = token.addresses[0].parse().unwrap();
        let trust_domain: TrustDomain = token.trust_domain.as_str().try_into().unwrap();
        let control = control_of(&trust_domain);
        let connector = Connector::pinned(digest(&token.ca_sha256), control);
        let mut api = NodeApiClient::new(channel(connector, to).await?);
        let name: NodeName = name.try_into().unwrap();
        let id = NodeId { trust_domain, name };
        let key = PrivateKey::generate().unwrap();
        let request = JoinRequest {
            secret: token.secret.clone(),
            csr: key.request_for_node(&id).unwrap(),
            node: id.name.to_string(),
            locality: None,
            host_addresses: vec![vec![127, 0, 0, 1]],
        };
        let joined = api
            .join(request)
            .await
            .map_err(|s| s.message().to_owned())?
            .into_inner();
        assert_eq!(joined.trust_domain, id.trust_domain.as_str());
        Ok(Self {
            id,
            subnet: joined.subnet,
            roots: joined.roots,
            key: key.to_pkcs8(),
            chain: joined.chain,
            to,
        })
    }

    pub(crate) async fn channel(&self) -> Result<Channel, String> {
        let key = PrivateKey::from_pkcs8(&self.key).unwrap();
        let identity = OwnIdentity {
            key,
            chain: self.chain.clone(),
        };
        let control = control_of(&self.id.trust_domain);
        let connector = Connector::mutual(&identity, &self.roots, control).unwrap();
        channel(connector, self.to).await
    }

    pub(crate) async fn api(&self) -> NodeApiClient<Channel> {
        NodeApiClient::new(self.channel().await.unwrap())
    }

    pub(crate) async fn hello(&self) {
        let mut api = self.api().await;
        api.hello(HelloRequest::default()).await.unwrap();
    }

    pub(crate) async fn sign(&self, identity: &str) -> Result<Vec<Vec<u8>>, tonic::Status> {
        let key = PrivateKey::generate().unwrap();
        let csr = key.request_for_name("whatever").unwrap();
        let request = SignRequest {
            csr,
            identity: identity.to_owned(),
        };
        let signed = self.api().await.sign(request).await?.into_inner();
        assert_eq!(signed.roots, self.roots);
        Ok(signed.chain)
    }

    /// Opens a discovery stream.
    pub(crate) async fn discover(&self, subscription: Subscription) -> Discovery {
        let channel = self.channel().await.unwrap();
        let (requests, receiver) = mpsc::channel(64);
        let mut subscription = subscription;
        for request in subscription.connect() {
            requests.send(request).await.unwrap();
        }
        let mut client = ads::AggregatedDiscoveryServiceClient::new(channel);
        let receiver = ReceiverStream::new(receiver);
        let responses = client
            .delta_aggregated_resources(receiver)
            .await
            .unwrap()
            .into_inner();
        Discovery {
            subscription,
            requests,
            responses,
        }
    }
}

/// A discovery stream with its state.
pub(crate) struct Discovery {
    pub(crate) subscription: Subscription,
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: tonic::Streaming<tacit_wire::proto::discovery::DeltaDiscoveryResponse>,
}

impl Discovery {
    /// The next generation; acknowledged.
    pub(crate) async fn generation(&mut self) -> Update {
        let next = async {
            loop {
                let response = self.responses.message().await.unwrap().unwrap();
                let received = self.subscription.receive(response).unwrap();
                self.requests.send(received.reply).await.unwrap();
                match received.outcome {
                    Outcome::Committed(update) => return update,
                    Outcome::Refused(reason) => panic!("{reason}"),
                    Outcome::Staged => {}
                }
            }
        };
        tokio::time::timeout(PATIENCE, next).await.unwrap()
    }
}

pub(crate) fn refusal(error: ClientError) -> tacit_control::admin::types::Problem {
    match error {
        ClientError::Refused(problem) => problem,
        other @ (ClientError::Garbled(_) | ClientError::TimedOut | ClientError::Unreachable(_)) => {
            panic!("{other}")
        }
    }
}

pub(crate) fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}

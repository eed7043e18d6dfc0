//! The node API's port: TLS, then discovery and calls of nodes as gRPC.

mod ads;
mod node_api;

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tacit_model::NodeId;
use tacit_transport::own::{OwnStream, PeerCertificate};
use tacit_wire::proto::control::node_api_server::NodeApiServer;
use tacit_wire::proto::discovery::aggregated_discovery_service_server as ads_server;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::transport::server::Connected;
use tonic::{Extensions, Status};

use crate::error::ControlError;
use crate::listen;
use crate::shared::Shared;

/// A node whose machine died is found out within two of these.
const KEEPALIVE: Duration = Duration::from_secs(5);
/// The largest message of a node: the versions of 100,000 rows are about 10 MB.
const MESSAGE_MAX: usize = 64 << 20;
/// Connections that were accepted and are not served yet.
const QUEUE: usize = 64;

/// Serves nodes until the listener fails.
pub(crate) async fn serve(shared: Arc<Shared>, listener: TcpListener) -> ControlError {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let accepting = listen::accept(shared.clone(), listener, move |stream| {
        let sender = sender.clone();
        async move {
            // The server ended; so does the listener soon.
            let _ = sender.send(Ok::<_, io::Error>(NodeStream(stream))).await;
        }
    });
    let discovery = ads_server::AggregatedDiscoveryServiceServer::new(ads::Ads {
        shared: shared.clone(),
    })
    .max_decoding_message_size(MESSAGE_MAX);
    let api = NodeApiServer::new(node_api::Api { shared }).max_decoding_message_size(MESSAGE_MAX);
    let serving = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .add_service(discovery)
        .add_service(api)
        .serve_with_incoming(ReceiverStream::new(receiver));
    let why = tokio::select! {
        () = accepting => "its listener ended".to_owned(),
        served = serving => served.err().map_or_else(|| "it ended".to_owned(), |e| e.to_string()),
    };
    ControlError::Stopped {
        part: "the node API",
        why,
    }
}

/// Who called, as its certificate proves, and from where.
#[derive(Clone, Debug)]
struct Peer {
    certificate: PeerCertificate,
    address: IpAddr,
}

/// The node that called; anybody else is refused.
fn calling_node(extensions: &Extensions, shared: &Shared) -> Result<NodeId, Status> {
    let certificate = extensions.get::<Peer>().map(|peer| &peer.certificate);
    let Some(PeerCertificate::Node(id)) = certificate else {
        return Err(Status::unauthenticated(
            "only a node that has joined may ask this",
        ));
    };
    let published = shared.published();
    let ours = published
        .snapshot
        .as_ref()
        .is_some_and(|snapshot| snapshot.mesh.trust_domain == id.trust_domain);
    if !ours || !published.nodes.contains_key(&id.name) {
        let name = &id.name;
        let text = format!("node {name} is not enrolled; join it with a token (`tacit token`)");
        return Err(Status::permission_denied(text));
    }
    Ok(id.clone())
}

/// A TLS connection as the gRPC server takes it.
struct NodeStream(OwnStream);

impl Connected for NodeStream {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        Peer {
            certificate: self.0.peer().clone(),
            address: self.0.remote().ip().to_canonical(),
        }
    }
}

impl AsyncRead for NodeStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(cx, buf)
    }
}

impl AsyncWrite for NodeStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(cx, data)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(cx)
    }
}

//! Strangers at every port: nothing else is affected.

use std::net::SocketAddr;

use tacit_control::ControlError;
use tacit_transport::own::Connector;
use tacit_wire::proto::control::node_api_client::NodeApiClient;
use tacit_wire::proto::control::{HelloRequest, JoinRequest};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use crate::mesh::{Mesh, Node, SHOP, channel, control_of};

async fn shout(to: SocketAddr, bytes: &[u8]) {
    let mut stream = TcpStream::connect(to).await.unwrap();
    // It may hang up at any time.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_is_hung_up_on_and_others_are_served() {
    let mesh = Mesh::start().await;
    for port in [mesh.settings.nodes_listen, mesh.settings.admin_listen] {
        shout(port, b"GET / HTTP/1.1\r\n\r\n").await;
        shout(port, &[0xff; 5000]).await;
        drop(TcpStream::connect(port).await.unwrap());
    }
    let socket = mesh.settings.control_socket();
    let mut local = UnixStream::connect(&socket).await.unwrap();
    local.write_all(b"\x00\x01garbage\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = local.read_to_end(&mut answer).await;
    drop(UnixStream::connect(&socket).await.unwrap());

    Node::join(&mesh.token("a").await, "a").await.unwrap();
    mesh.apply(SHOP).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_certificate_only_joining_is_open() {
    let mesh = Mesh::start().await;
    let token = mesh.token("a").await;
    let digest = |hex: &str| -> [u8; 32] {
        std::array::from_fn(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap())
    };
    let control = control_of(&token.trust_domain.as_str().try_into().unwrap());
    let to = mesh.settings.nodes_listen;
    let pinned = Connector::pinned(digest(&token.ca_sha256), control.clone());
    let mut api = NodeApiClient::new(channel(pinned, to).await.unwrap());
    let status = api.hello(HelloRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unauthenticated);
    let status = api.join(JoinRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::InvalidArgument);
    // A root that is not the token's is not believed.
    let mut other = digest(&token.ca_sha256);
    other[0] ^= 1;
    assert!(
        channel(Connector::pinned(other, control), to)
            .await
            .is_err()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_control_plane_says_why_it_does_not_start() {
    let mesh = Mesh::start().await;
    let error = tacit_control::run(mesh.settings.clone()).await.unwrap_err();
    assert!(matches!(error, ControlError::Store(_)), "{error}");
    let dir = tempfile::tempdir().unwrap();
    let mut settings = mesh.settings.clone();
    settings.state_dir = dir.path().to_path_buf();
    let error = tacit_control::run(settings).await.unwrap_err();
    assert!(matches!(error, ControlError::Listen { .. }), "{error}");
    assert!(error.to_string().contains("in use"), "{error}");
    mesh.apply(SHOP).await.unwrap();
}

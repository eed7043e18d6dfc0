//! Joining by a pinned root, mutual TLS with a node's identity, and who is refused.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::testing::{Ca, LOCALHOST, expired, id, run};

fn node(name: &str) -> NodeId {
    NodeId::try_from(format!("spiffe://test.mesh/tacit/node/{name}").as_str()).unwrap()
}

fn identity(ca: &Ca, request: impl FnOnce(&PrivateKey) -> Vec<u8>) -> OwnIdentity {
    let key = PrivateKey::generate().unwrap();
    let chain = ca.sign(request(&key), |_| {});
    OwnIdentity { key, chain }
}

fn node_identity(ca: &Ca, name: &str) -> OwnIdentity {
    identity(ca, |key| key.request_for_node(&node(name)).unwrap())
}

/// Both ends of one handshake, after a byte went each way.
async fn meet(
    server: &OwnAcceptor,
    client: &Connector,
) -> (Result<OwnStream, OwnError>, Result<OwnStream, OwnError>) {
    let listener = TcpListener::bind((LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let far = async {
        let mut stream = server.accept(listener.accept().await.unwrap().0).await?;
        stream.write_all(b"!").await.map_err(OwnError::Connect)?;
        Ok(stream)
    };
    let near = async {
        let mut stream = client.connect(address).await?;
        stream.read_exact(&mut [0; 1]).await.map_err(failed)?;
        Ok(stream)
    };
    tokio::join!(near, far)
}

#[test]
fn a_stranger_joins_by_the_fingerprint_of_the_root() {
    run(async {
        let ca = Ca::new();
        let roots = [ca.root.clone()];
        let server = OwnAcceptor::new(&node_identity(&ca, "control"), &roots).unwrap();
        let pin = tls::sha256(&ca.root);
        let (near, far) = meet(&server, &Connector::pinned(pin, node("control"))).await;
        let near = near.unwrap();
        assert_eq!(near.peer(), &PeerCertificate::Node(node("control")));
        assert_eq!(near.peer_chain().last(), Some(&ca.root));
        assert!(near.is_http2());
        assert_eq!(far.unwrap().peer(), &PeerCertificate::None);

        let other_pin = tls::sha256(&Ca::new().root);
        let (near, _) = meet(&server, &Connector::pinned(other_pin, node("control"))).await;
        assert!(matches!(near, Err(OwnError::Tls(_))), "{near:?}");
        let (near, _) = meet(&server, &Connector::pinned(pin, node("else"))).await;
        assert!(matches!(near, Err(OwnError::Tls(_))), "{near:?}");
    });
}

#[test]
fn a_pinned_root_that_signed_nothing_proves_nothing() {
    run(async {
        let (ca, mallory) = (Ca::new(), Ca::new());
        let mut forged = node_identity(&mallory, "control");
        // The real root is public: anybody can show it.
        forged.chain.push(ca.root.clone());
        let server = OwnAcceptor::new(&forged, &[mallory.root]).unwrap();
        let connector = Connector::pinned(tls::sha256(&ca.root), node("control"));
        let (near, _) = meet(&server, &connector).await;
        assert!(matches!(near, Err(OwnError::Tls(_))), "{near:?}");
    });
}

#[test]
fn control_knows_who_calls() {
    run(async {
        let ca = Ca::new();
        let roots = [ca.root.clone()];
        let server = OwnAcceptor::new(&node_identity(&ca, "control"), &roots).unwrap();
        let workload = |key: &PrivateKey| key.request_for_workload(&id("a")).unwrap();
        let person = |key: &PrivateKey| key.request_for_name("alice").unwrap();
        let cases = [
            (
                node_identity(&ca, "host-a"),
                PeerCertificate::Node(node("host-a")),
            ),
            (identity(&ca, workload), PeerCertificate::Workload(id("a"))),
            (
                identity(&ca, person),
                PeerCertificate::CommonName("alice".to_owned()),
            ),
        ];
        for (identity, expected) in cases {
            let client = Connector::mutual(&identity, &roots, node("control")).unwrap();
            let (near, far) = meet(&server, &client).await;
            near.unwrap();
            assert_eq!(far.unwrap().peer(), &expected);
        }
    });
}

#[test]
fn foreign_and_expired_certificates_are_refused() {
    run(async {
        let ca = Ca::new();
        let roots = [ca.root.clone()];
        let server = OwnAcceptor::new(&node_identity(&ca, "control"), &roots).unwrap();
        let stranger = node_identity(&Ca::new(), "host-a");
        let key = PrivateKey::generate().unwrap();
        let chain = ca.sign(key.request_for_node(&node("host-a")).unwrap(), expired);
        for identity in [stranger, OwnIdentity { key, chain }] {
            let client = Connector::mutual(&identity, &roots, node("control")).unwrap();
            let (near, far) = meet(&server, &client).await;
            assert!(matches!(near, Err(OwnError::Tls(_))), "{near:?}");
            assert!(matches!(far, Err(OwnError::Tls(_))), "{far:?}");
        }
    });
}

#[test]
fn the_stream_can_cross_threads() {
    fn is_send<T: Send + 'static>() {}
    is_send::<OwnStream>();
}

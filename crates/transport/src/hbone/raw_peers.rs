//! Peers that speak TLS or HTTP/2, but not as HBONE wants it.

use std::net::SocketAddr;
use std::sync::Arc;

use http::Request;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::AcceptError;
use crate::testing::{LOCALHOST, Mesh, expired, id, run};
use crate::tls;

/// The certificate that a raw peer shows.
#[derive(Clone, Copy)]
enum Shown {
    Expired,
    Good,
    None,
}

/// A TLS connection to the mesh's server.
async fn dial(mesh: &Mesh, shown: Shown) -> TlsStream<TcpStream> {
    let store = mesh.ca.store("test.mesh", &[id("client")]);
    if matches!(shown, Shown::Expired) {
        mesh.ca.enrol_with(&store, &id("client"), expired);
    }
    let known = &store.entry(&id("client")).unwrap().configs.client;
    let mut config = rustls::ClientConfig::clone(known);
    if matches!(shown, Shown::None) {
        config.client_auth_cert_resolver = Arc::new(NoCertificate);
    }
    let address = SocketAddr::new(LOCALHOST, mesh.server.port);
    let tcp = TcpStream::connect(address).await.unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    connector.connect(tls::no_name(), tcp).await.unwrap()
}

#[derive(Debug)]
struct NoCertificate;

impl rustls::client::ResolvesClientCert for NoCertificate {
    fn resolve(
        &self,
        _hints: &[&[u8]],
        _schemes: &[rustls::SignatureScheme],
    ) -> Option<Arc<rustls::sign::CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

#[test]
fn a_peer_without_a_good_certificate_is_refused() {
    run(async {
        let mut mesh = Mesh::start().await;
        for (shown, word) in [(Shown::None, "no certificates"), (Shown::Expired, "xpired")] {
            let _tls = dial(&mesh, shown).await;
            let error = mesh.server.errors.recv().await.unwrap();
            let told = matches!(&error, AcceptError::Tls(why) if why.contains(word));
            assert!(told, "{error}");
        }
        // Control run: with a good one, the handshake succeeds and only silence is left.
        let _tls = dial(&mesh, Shown::Good).await;
        assert_eq!(mesh.server.errors.recv().await, Some(AcceptError::Timeout));
    });
}

#[test]
fn a_peer_that_speaks_no_http2_is_refused() {
    run(async {
        let mut mesh = Mesh::start().await;
        let mut tls = dial(&mesh, Shown::Good).await;
        tls.write_all(&[b'x'; 1000]).await.unwrap();
        tls.flush().await.unwrap();
        let error = mesh.server.errors.recv().await.unwrap();
        assert!(matches!(error, AcceptError::NotHttp2(_)), "{error}");
        mesh.pair().await;
    });
}

async fn answer(request: Request<()>) -> u16 {
    let mesh = Mesh::start().await;
    let (mut sender, connection) = h2::client::handshake(dial(&mesh, Shown::Good).await)
        .await
        .unwrap();
    tokio::task::spawn_local(async move { drop(connection.await) });
    let (answer, _send) = sender.send_request(request, false).unwrap();
    answer.await.unwrap().status().as_u16()
}

#[test]
fn what_is_no_connect_to_an_address_is_answered_400() {
    let cases = [
        Request::get("https://10.0.0.1:80/").body(()).unwrap(),
        Request::connect("10.0.0.1").body(()).unwrap(),
        Request::connect("host:port0").body(()).unwrap(),
        Request::connect("user@10.0.0.1:80").body(()).unwrap(),
    ];
    for request in cases {
        let shown = format!("{} {}", request.method(), request.uri());
        assert_eq!(run(answer(request)), 400, "{shown}");
    }
}

//! Our record layer against the TLS library's own, in both roles.

use std::sync::Arc;

use rustls::{ClientConfig, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::*;
use crate::testing::{Ca, id, run, tcp_pair};
use crate::tls;

fn configs() -> (Arc<ClientConfig>, Arc<ServerConfig>) {
    let store = Ca::new().store("test.mesh", &[id("a")]);
    let entry = store.entry(&id("a")).unwrap();
    (
        Arc::clone(&entry.configs.client),
        Arc::clone(&entry.configs.server),
    )
}

/// Ours and the library's end of one connection.
async fn pair(
    ours_dials: bool,
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
) -> (SecureStream, TlsStream<TcpStream>) {
    let (near, far) = tcp_pair().await;
    if ours_dials {
        let theirs = TlsAcceptor::from(server);
        let (ours, theirs) =
            tokio::join!(tls::handshake::connect(near, client), theirs.accept(far));
        (
            SecureStream::new(ours.unwrap()).unwrap(),
            theirs.unwrap().into(),
        )
    } else {
        let theirs = TlsConnector::from(client);
        let (ours, theirs) = tokio::join!(
            tls::handshake::accept(near, server),
            theirs.connect(tls::no_name(), far)
        );
        (
            SecureStream::new(ours.unwrap()).unwrap(),
            theirs.unwrap().into(),
        )
    }
}

/// The socket, without a word of good-bye.
fn raw(stream: TlsStream<TcpStream>) -> TcpStream {
    match stream {
        TlsStream::Client(stream) => stream.into_inner().0,
        TlsStream::Server(stream) => stream.into_inner().0,
    }
}

fn text(length: usize) -> Vec<u8> {
    (0..length)
        .map(|i| u8::try_from(i * 7 % 253).unwrap())
        .collect()
}

async fn carry(
    from: &mut (impl AsyncWrite + Unpin),
    to: &mut (impl AsyncRead + Unpin),
    length: usize,
) {
    let data = text(length);
    let mut received = vec![0; length];
    let (sent, got) = tokio::join!(
        async {
            from.write_all(&data).await?;
            from.flush().await
        },
        to.read_exact(&mut received)
    );
    sent.unwrap();
    got.unwrap();
    assert!(received == data, "{length} bytes changed on the way");
}

#[test]
fn it_speaks_with_the_library_in_both_roles() {
    run(async {
        for ours_dials in [true, false] {
            let (client, server) = configs();
            let (mut ours, mut theirs) = pair(ours_dials, client, server).await;
            assert_eq!(ours.alpn(), Some(&b"h2"[..]));
            for length in [1, 2, 100, 16_383, 16_384, 16_385, 100_000, 3_000_000] {
                carry(&mut ours, &mut theirs, length).await;
                carry(&mut theirs, &mut ours, length).await;
            }
        }
    });
}

#[test]
fn keys_change_on_both_sides() {
    run(async {
        for ours_dials in [true, false] {
            let (client, server) = configs();
            let (mut ours, mut theirs) = pair(ours_dials, client, server).await;
            for _ in 0..3 {
                ours.change_keys().unwrap();
                carry(&mut ours, &mut theirs, 50_000).await;
                carry(&mut theirs, &mut ours, 50_000).await;
                match &mut theirs {
                    TlsStream::Client(stream) => stream.get_mut().1.refresh_traffic_keys(),
                    TlsStream::Server(stream) => stream.get_mut().1.refresh_traffic_keys(),
                }
                .unwrap();
                carry(&mut theirs, &mut ours, 50_000).await;
                carry(&mut ours, &mut theirs, 50_000).await;
            }
        }
    });
}

#[test]
fn tickets_are_ignored() {
    run(async {
        let (client, server) = configs();
        let mut generous = ServerConfig::clone(&server);
        generous.send_tls13_tickets = 4;
        generous.session_storage = rustls::server::ServerSessionMemoryCache::new(8);
        let (mut ours, mut theirs) = pair(true, client, Arc::new(generous)).await;
        carry(&mut theirs, &mut ours, 1000).await;
        carry(&mut ours, &mut theirs, 1000).await;
    });
}

#[test]
fn an_end_is_an_end_only_with_a_close_notify() {
    run(async {
        let (client, server) = configs();
        let (mut ours, mut theirs) = pair(true, client.clone(), server.clone()).await;
        theirs.write_all(b"bye").await.unwrap();
        theirs.shutdown().await.unwrap();
        let mut received = Vec::new();
        ours.read_to_end(&mut received).await.unwrap();
        assert_eq!(received, b"bye");
        ours.write_all(b"bye too").await.unwrap();
        ours.shutdown().await.unwrap();
        assert!(ours.write_all(b"more").await.is_err());
        received.clear();
        theirs.read_to_end(&mut received).await.unwrap();
        assert_eq!(received, b"bye too");

        let (mut ours, theirs) = pair(true, client, server).await;
        drop(raw(theirs));
        let error = ours.read(&mut [0; 1]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    });
}

#[test]
fn garbage_after_the_handshake_is_an_error_after_the_good_bytes() {
    run(async {
        let (client, server) = configs();
        let (mut ours, mut theirs) = pair(true, client, server).await;
        theirs.write_all(b"good").await.unwrap();
        theirs.flush().await.unwrap();
        let mut tcp = raw(theirs);
        tcp.write_all(&[23, 3, 3, 0, 40]).await.unwrap();
        tcp.write_all(&[0; 40]).await.unwrap();
        let mut received = [0; 4];
        ours.read_exact(&mut received).await.unwrap();
        assert_eq!(&received, b"good");
        let error = ours.read(&mut received).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
    });
}

#[test]
fn an_idle_stream_owns_no_buffer() {
    run(async {
        let (client, server) = configs();
        let (mut ours, mut theirs) = pair(true, client, server).await;
        carry(&mut ours, &mut theirs, 1_000_000).await;
        carry(&mut theirs, &mut ours, 1_000_000).await;
        let mut one = [0; 1];
        let idle = std::future::poll_fn(|cx| {
            let mut buf = ReadBuf::new(&mut one);
            Poll::Ready(Pin::new(&mut ours).poll_read(cx, &mut buf).is_pending())
        });
        assert!(idle.await);
        assert_eq!(ours.receiving.buffer.capacity(), 0);
        assert_eq!(ours.sending.buffer.capacity(), 0);
    });
}

//! Our records against those of the library, both ways, and against peers that misbehave.

use std::io::ErrorKind;
use std::sync::Arc;

use rustls::ClientConnection;
use tacit_model::TrustDomain;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::identity::{Entry, IdentityStore};
use crate::testing::{Ca, LOCALHOST, id, run};
use crate::tls::record::OVERHEAD;
use crate::tls::{Cipher, Configs, accept, connect, no_name};

/// Lengths around the borders of records and buffers.
const LENGTHS: [usize; 12] = [
    1, 9, 17, 4_095, 16_383, 16_384, 16_385, 32_768, 65_536, 262_153, 400_000, 1_000_003,
];

fn entry() -> Arc<Entry> {
    let store = Ca::new().store("test.mesh", &[id("a")]);
    store.entry(&id("a")).unwrap()
}

async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((LOCALHOST, 0)).await.unwrap();
    let dialled = TcpStream::connect(listener.local_addr().unwrap());
    let (dialled, accepted) = tokio::join!(dialled, listener.accept());
    (dialled.unwrap(), accepted.unwrap().0)
}

/// Two of ours: the dialling one and the accepting one.
async fn ours(configs: &Configs) -> (TlsStream, TlsStream) {
    let (near, far) = sockets().await;
    let (near, far) = tokio::join!(connect(near, configs), accept(far, configs));
    (near.unwrap(), far.unwrap())
}

/// Ours as the server of the library's client.
async fn library_dials(
    configs: &Configs,
) -> (tokio_rustls::client::TlsStream<TcpStream>, TlsStream) {
    let (near, far) = sockets().await;
    let connector = TlsConnector::from(Arc::clone(&configs.client));
    let (near, far) = tokio::join!(connector.connect(no_name(), near), accept(far, configs));
    (near.unwrap(), far.unwrap())
}

fn bytes(count: usize, salt: usize) -> Vec<u8> {
    let byte = |at: usize| ((at.wrapping_mul(31) ^ (at >> 8)) + salt).to_le_bytes()[0];
    (0..count).map(byte).collect()
}

async fn send_all(stream: &mut (impl AsyncWrite + Unpin), salt: usize) {
    for length in LENGTHS {
        stream.write_all(&bytes(length, salt)).await.unwrap();
        stream.flush().await.unwrap();
    }
    stream.shutdown().await.unwrap();
}

async fn receive_all(stream: &mut (impl AsyncRead + Unpin), salt: usize, at_once: usize) {
    let mut received = Vec::new();
    let mut buffer = vec![0; at_once];
    loop {
        match stream.read(&mut buffer).await.unwrap() {
            0 => break,
            count => received.extend_from_slice(&buffer[..count]),
        }
    }
    let sent: Vec<u8> = LENGTHS
        .iter()
        .flat_map(|&length| bytes(length, salt))
        .collect();
    assert!(received == sent, "read {at_once} at once");
}

/// Sends and receives everything both ways at the same time.
async fn exchange(
    near: impl AsyncRead + AsyncWrite + Unpin,
    far: impl AsyncRead + AsyncWrite + Unpin,
    at_once: usize,
) {
    let (mut near_read, mut near_write) = tokio::io::split(near);
    let (mut far_read, mut far_write) = tokio::io::split(far);
    tokio::join!(
        send_all(&mut near_write, 1),
        send_all(&mut far_write, 2),
        receive_all(&mut near_read, 2, at_once),
        receive_all(&mut far_read, 1, at_once),
    );
}

#[test]
fn the_library_understands_us_and_we_understand_it() {
    let entry = entry();
    run(async {
        for at_once in [1, 1_000, 16_401, 300_000] {
            let (near, far) = library_dials(&entry.configs).await;
            exchange(near, far, at_once).await;

            let (near, far) = sockets().await;
            let acceptor = TlsAcceptor::from(Arc::clone(&entry.configs.server));
            let near = connect(near, &entry.configs);
            let (near, far) = tokio::join!(near, acceptor.accept(far));
            exchange(near.unwrap(), far.unwrap(), at_once).await;

            let (near, far) = ours(&entry.configs).await;
            exchange(near, far, at_once).await;
        }
    });
}

#[test]
fn the_larger_cipher_works_too() {
    let ca = Ca::new();
    let store = IdentityStore::preferring(Cipher::Aes256Gcm);
    let trust_domain = TrustDomain::try_from("test.mesh").unwrap();
    let roots = std::slice::from_ref(&ca.root);
    store.set_bundle(trust_domain, roots).unwrap();
    ca.enrol(&store, &id("a"));
    let entry = store.entry(&id("a")).unwrap();
    run(async {
        let (near, far) = library_dials(&entry.configs).await;
        let suite = near.get_ref().1.negotiated_cipher_suite().unwrap().suite();
        assert_eq!(suite, rustls::CipherSuite::TLS13_AES_256_GCM_SHA384);
        exchange(near, far, 20_000).await;
    });
}

#[test]
fn the_handshake_says_who_the_peer_is() {
    let entry = entry();
    run(async {
        let (near, far) = ours(&entry.configs).await;
        for stream in [near, far] {
            assert_eq!(stream.agreed().alpn.as_deref(), Some(&b"h2"[..]));
            assert_eq!(stream.agreed().peer_certificates.len(), 2);
        }
    });
}

#[test]
fn data_that_comes_with_the_handshake_is_delivered() {
    let entry = entry();
    run(async {
        let (mut near, far) = sockets().await;
        let client = async {
            let config = Arc::clone(&entry.configs.client);
            let mut client = ClientConnection::new(config, no_name()).unwrap();
            let mut flight = Vec::new();
            while client.is_handshaking() {
                while client.wants_write() {
                    client.write_tls(&mut flight).unwrap();
                }
                near.write_all(&flight).await.unwrap();
                flight.clear();
                let mut received = vec![0; 16_384];
                let count = near.read(&mut received).await.unwrap();
                client.read_tls(&mut &received[..count]).unwrap();
                client.process_new_packets().unwrap();
            }
            io::Write::write_all(&mut client.writer(), b"early").unwrap();
            while client.wants_write() {
                client.write_tls(&mut flight).unwrap();
            }
            near.write_all(&flight).await.unwrap();
        };
        let (far, ()) = tokio::join!(accept(far, &entry.configs), client);
        let mut received = [0; 5];
        far.unwrap().read_exact(&mut received).await.unwrap();
        assert_eq!(&received, b"early");
    });
}

#[test]
fn keys_are_renewed_when_the_peer_wishes() {
    let entry = entry();
    run(async {
        let (mut near, mut far) = library_dials(&entry.configs).await;
        for round in 0..100_u8 {
            // Asks us to renew ours as well.
            near.get_mut().1.refresh_traffic_keys().unwrap();
            near.write_all(&[round]).await.unwrap();
            near.flush().await.unwrap();
            assert_eq!(far.read_u8().await.unwrap(), round);
            far.write_all(&[round, round]).await.unwrap();
            far.flush().await.unwrap();
            assert_eq!(near.read_u16().await.unwrap().to_be_bytes(), [round; 2]);
            assert_eq!(far.sending.sealer.sealed(), 1, "a key of its own");
        }
    });
}

#[test]
fn a_wish_for_new_keys_is_met_even_if_we_send_nothing() {
    let entry = entry();
    run(async {
        let (mut near, mut far) = library_dials(&entry.configs).await;
        near.get_mut().1.refresh_traffic_keys().unwrap();
        near.write_all(b"x").await.unwrap();
        near.flush().await.unwrap();
        let before = far.sending.sealer.sealed();
        far.write_all(b"y").await.unwrap();
        assert_eq!(far.sending.sealer.sealed(), before + 1);
        far.flush().await.unwrap();
        assert_eq!(far.read_u8().await.unwrap(), b'x');
        assert_eq!(far.sending.sealer.sealed(), 0, "the next key is in use");
        assert!(far.sending.window.is_empty(), "and the peer was told");
    });
}

#[test]
fn no_key_seals_more_records_than_it_may() {
    let entry = entry();
    run(async {
        let (near, mut far) = library_dials(&entry.configs).await;
        far.sending.records_per_key = 5;
        exchange(near, far, 10_000).await;
        let (mut near, mut far) = ours(&entry.configs).await;
        near.sending.records_per_key = 3;
        far.sending.records_per_key = 2;
        exchange(&mut near, &mut far, 10_000).await;
        assert!(near.sending.sealer.sealed() <= 3 && far.sending.sealer.sealed() <= 2);
    });
}

#[test]
fn only_a_close_notify_ends_a_stream() {
    let entry = entry();
    run(async {
        let (mut near, mut far) = ours(&entry.configs).await;
        near.write_all(b"last").await.unwrap();
        near.shutdown().await.unwrap();
        let mut received = Vec::new();
        far.read_to_end(&mut received).await.unwrap();
        assert_eq!(received, b"last");
        far.write_all(b"our direction goes on").await.unwrap();
        assert_eq!(
            near.write(b"x").await.unwrap_err().kind(),
            ErrorKind::BrokenPipe
        );

        let (mut near, mut far) = ours(&entry.configs).await;
        near.write_all(b"cut").await.unwrap();
        near.flush().await.unwrap();
        drop(near);
        let error = far.read_to_end(&mut Vec::new()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    });
}

#[test]
fn an_idle_stream_owns_no_buffer() {
    let entry = entry();
    run(async {
        let (mut near, mut far) = ours(&entry.configs).await;
        near.write_all(&[7; 100_000]).await.unwrap();
        near.flush().await.unwrap();
        far.read_exact(&mut [0; 100_000]).await.unwrap();
        let mut more = [0; 1];
        let nothing = std::future::poll_fn(|cx| {
            let polled = Pin::new(&mut far).poll_read(cx, &mut ReadBuf::new(&mut more));
            Poll::Ready(polled.is_pending())
        });
        assert!(nothing.await);
        assert!(!near.sending.window.owns_memory() && !far.receiving.window.owns_memory());
    });
}

/// What a peer with good keys sends, and what we make of it.
struct Misdeed {
    what: &'static str,
    records: Vec<(ContentType, Vec<u8>)>,
    refused_as: AlertDescription,
}

fn misdeeds() -> Vec<Misdeed> {
    use ContentType::{Alert, ApplicationData, Handshake, Heartbeat};
    let misdeed = |what, records, refused_as| Misdeed {
        what,
        records,
        refused_as,
    };
    let unexpected = AlertDescription::UnexpectedMessage;
    let key_update = || (Handshake, vec![24, 0, 0, 1, 0]);
    vec![
        misdeed(
            "empty records",
            vec![(ApplicationData, vec![]); 33],
            unexpected,
        ),
        misdeed("no content type", vec![(0.into(), vec![0; 9])], unexpected),
        misdeed("a heartbeat", vec![(Heartbeat, vec![1])], unexpected),
        misdeed("half an alert", vec![(Alert, vec![2])], unexpected),
        misdeed(
            "a second hello",
            vec![(Handshake, vec![1, 0, 0, 0])],
            unexpected,
        ),
        misdeed(
            "a ticket to a server",
            vec![(Handshake, vec![4, 0, 0, 0])],
            unexpected,
        ),
        misdeed(
            "a huge message",
            vec![(Handshake, vec![4, 1, 0, 0])],
            unexpected,
        ),
        misdeed(
            "a wish that is none",
            vec![(Handshake, vec![24, 0, 0, 1, 2])],
            AlertDescription::IllegalParameter,
        ),
        misdeed(
            "a message behind a key update",
            vec![(Handshake, vec![24, 0, 0, 1, 0, 24, 0, 0, 1, 0])],
            unexpected,
        ),
        misdeed(
            "data within a message",
            vec![(Handshake, vec![24, 0, 0]), (ApplicationData, vec![1])],
            unexpected,
        ),
        misdeed(
            "data with the old key",
            vec![key_update(), (ApplicationData, vec![1])],
            AlertDescription::BadRecordMac,
        ),
    ]
}

#[test]
fn a_peer_that_misbehaves_is_told_so_and_cut_off() {
    let entry = entry();
    run(async {
        // Into the reader's memory, and in place.
        for at_once in [20_000, 1] {
            for misdeed in misdeeds() {
                let (mut near, mut far) = ours(&entry.configs).await;
                for (kind, content) in &misdeed.records {
                    near.sending.seal_message(*kind, content).unwrap();
                }
                near.flush().await.unwrap();
                let error = far.read(&mut vec![0; at_once]).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::InvalidData, "{}", misdeed.what);
                let again = far.read(&mut [0; 9]).await.unwrap_err();
                assert_eq!(again.kind(), ErrorKind::InvalidData, "{}", misdeed.what);
                let told = near
                    .read(&mut [0; 9])
                    .await
                    .unwrap_err()
                    .into_inner()
                    .unwrap();
                let told = told.downcast::<Error>().unwrap();
                let expected = Error::AlertReceived(misdeed.refused_as);
                assert_eq!(*told, expected, "{}", misdeed.what);
            }
        }
    });
}

#[test]
fn what_a_good_peer_may_send_is_taken() {
    use ContentType::{Alert, ApplicationData, Handshake};
    let entry = entry();
    let good: [&[(ContentType, &[u8])]; 4] = [
        &[(ApplicationData, b""), (ApplicationData, b"x")],
        // A message in two records, then the next key.
        &[
            (Handshake, &[4, 0, 0]),
            (Handshake, &[2, 1, 2]),
            (ApplicationData, b"x"),
        ],
        // Two tickets in one record.
        &[
            (Handshake, &[4, 0, 0, 0, 4, 0, 0, 1, 9]),
            (ApplicationData, b"x"),
        ],
        &[(Alert, &[1, 90]), (ApplicationData, b"x")],
    ];
    run(async {
        for records in good {
            let (mut near, mut far) = ours(&entry.configs).await;
            for (kind, content) in records {
                far.sending.seal_message(*kind, content).unwrap();
            }
            far.flush().await.unwrap();
            assert_eq!(near.read_u8().await.unwrap(), b'x', "{records:?}");
        }
    });
}

#[test]
fn every_changed_bit_is_noticed() {
    let entry = entry();
    run(async {
        for at in 0..OVERHEAD + 3 {
            let (mut near, mut far) = ours(&entry.configs).await;
            near.sending
                .seal_message(ContentType::ApplicationData, b"abc")
                .unwrap();
            near.sending.window.filled_mut()[at] ^= 1;
            near.shutdown().await.unwrap();
            let error = far.read(&mut [0; 100]).await.unwrap_err();
            // A length that is too long waits for bytes that never come.
            let cut = at == 3 || at == 4;
            let expected = [ErrorKind::InvalidData, ErrorKind::UnexpectedEof];
            assert!(
                expected[..=usize::from(cut)].contains(&error.kind()),
                "byte {at}"
            );
        }
    });
}

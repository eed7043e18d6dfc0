//! Measures CPU per byte and per message of both hops over loopback; ignored unless asked for.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener as StdListener, TcpStream as StdStream};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::hbone::PoolSettings;
use crate::relay::{Closing, RelayLimits, relay};
use crate::stream::Stream;
use crate::testing::*;
use crate::tls;

const BULK: u64 = 2 << 30;
const MESSAGES: u32 = 20_000;

/// CPU time of this thread.
fn cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

/// Runs both hops in front of the application at `application`. Returns the client's port and,
/// per hop, where its CPU time arrives after one connection ended.
fn hops(application: SocketAddr) -> (u16, mpsc::Receiver<Duration>, mpsc::Receiver<Duration>) {
    let ca = Ca::new();
    let servers = ca.store("test.mesh", &[id("server")]);
    let clients = ca.store("test.mesh", &[id("client")]);
    let (tell_hbone, hbone) = mpsc::channel();
    let (tell_in, inbound) = mpsc::channel();
    let (tell_out, outbound) = mpsc::channel();
    let (tell_port, port) = mpsc::channel();
    thread::spawn(move || {
        run(async move {
            let mut server = Server::start(servers, id("server")).await;
            tell_hbone.send(server.port).unwrap();
            let far = server.stream().await;
            let tcp = tokio::net::TcpStream::connect(application).await.unwrap();
            tcp.set_nodelay(true).unwrap();
            let start = cpu();
            let limits = RelayLimits::default();
            relay(far, Stream::from_tcp(tcp), limits, Closing::never()).await;
            tell_in.send(cpu() - start).unwrap();
        });
    });
    thread::spawn(move || {
        run(async move {
            let port = hbone.recv().unwrap();
            let (pool, _) = pool(
                clients,
                PoolSettings {
                    port,
                    ..PoolSettings::default()
                },
            );
            let listener = TcpListener::bind((LOCALHOST, 0)).await.unwrap();
            tell_port
                .send(listener.local_addr().unwrap().port())
                .unwrap();
            let (tcp, _) = listener.accept().await.unwrap();
            tcp.set_nodelay(true).unwrap();
            let near = open(&pool).await.unwrap();
            let start = cpu();
            let limits = RelayLimits::default();
            relay(Stream::from_tcp(tcp), near, limits, Closing::never()).await;
            tell_out.send(cpu() - start).unwrap();
        });
    });
    (port.recv().unwrap(), outbound, inbound)
}

fn report(what: &str, unit: &str, count: f64, wall: Duration, out: Duration, inside: Duration) {
    let per = |time: Duration| time.as_secs_f64() * 1e9 / count;
    println!(
        "{what}: outbound {:.3} ns/{unit}, inbound {:.3} ns/{unit}, wall {:.3} ns/{unit}",
        per(out),
        per(inside),
        per(wall)
    );
}

/// One direction of one TLS connection, both ends in threads of their own.
async fn tls_send(mut stream: impl AsyncWriteExt + Unpin) -> Duration {
    let data = vec![7; 64 * 1024];
    let start = cpu();
    for _ in 0..BULK / data.len() as u64 {
        stream.write_all(&data).await.unwrap();
    }
    stream.shutdown().await.unwrap();
    cpu() - start
}

async fn tls_receive(mut stream: impl AsyncReadExt + Unpin) -> Duration {
    let mut buffer = vec![0; 64 * 1024];
    let start = cpu();
    while stream.read(&mut buffer).await.unwrap() > 0 {}
    cpu() - start
}

#[test]
#[ignore = "a measurement, not a test"]
#[expect(clippy::cast_precision_loss, reason = "for people to read")]
fn tls_of_the_library_and_ours() {
    let store = Ca::new().store("test.mesh", &[id("a")]);
    let entry = store.entry(&id("a")).unwrap();
    for ours in [false, true, false, true] {
        let listener = StdListener::bind((LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (there, here) = (Arc::clone(&entry), Arc::clone(&entry));
        let start = Instant::now();
        let receiving = thread::spawn(move || {
            run(async move {
                let (tcp, _) = TcpListener::from_std(listener)
                    .unwrap()
                    .accept()
                    .await
                    .unwrap();
                if ours {
                    return tls_receive(tls::accept(tcp, &there.configs).await.unwrap()).await;
                }
                let acceptor = TlsAcceptor::from(Arc::clone(&there.configs.server));
                tls_receive(acceptor.accept(tcp).await.unwrap()).await
            })
        });
        let sent = run(async move {
            let tcp = tokio::net::TcpStream::connect(address).await.unwrap();
            if ours {
                return tls_send(tls::connect(tcp, &here.configs).await.unwrap()).await;
            }
            let connector = TlsConnector::from(Arc::clone(&here.configs.client));
            tls_send(connector.connect(tls::no_name(), tcp).await.unwrap()).await
        });
        let received = receiving.join().unwrap();
        let what = if ours {
            "TLS, ours"
        } else {
            "TLS, the library's"
        };
        report(what, "B", BULK as f64, start.elapsed(), sent, received);
    }
}

#[test]
#[ignore = "a measurement, not a test"]
#[expect(clippy::cast_precision_loss, reason = "for people to read")]
fn bulk() {
    let listener = StdListener::bind((LOCALHOST, 0)).unwrap();
    let application = listener.local_addr().unwrap();
    let sink = thread::spawn(move || {
        let (mut tcp, _) = listener.accept().unwrap();
        let mut buffer = vec![0; 256 * 1024];
        let mut total = 0;
        loop {
            match tcp.read(&mut buffer).unwrap() {
                0 => return total,
                count => total += count as u64,
            }
        }
    });
    let (port, outbound, inbound) = hops(application);
    let mut tcp = StdStream::connect((LOCALHOST, port)).unwrap();
    let buffer = vec![7; 256 * 1024];
    let start = Instant::now();
    for _ in 0..BULK / buffer.len() as u64 {
        tcp.write_all(&buffer).unwrap();
    }
    tcp.shutdown(Shutdown::Both).unwrap();
    assert_eq!(sink.join().unwrap(), BULK);
    let wall = start.elapsed();
    let (out, inside) = (outbound.recv().unwrap(), inbound.recv().unwrap());
    report("bulk", "B", BULK as f64, wall, out, inside);
}

#[test]
#[ignore = "a measurement, not a test"]
fn messages() {
    let listener = StdListener::bind((LOCALHOST, 0)).unwrap();
    let application = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (mut tcp, _) = listener.accept().unwrap();
        tcp.set_nodelay(true).unwrap();
        let mut buffer = [0; 1024];
        while tcp.read_exact(&mut buffer).is_ok() {
            tcp.write_all(&buffer).unwrap();
        }
    });
    let (port, outbound, inbound) = hops(application);
    let mut tcp = StdStream::connect((LOCALHOST, port)).unwrap();
    tcp.set_nodelay(true).unwrap();
    let mut buffer = [7; 1024];
    let start = Instant::now();
    for _ in 0..MESSAGES {
        tcp.write_all(&buffer).unwrap();
        tcp.read_exact(&mut buffer).unwrap();
    }
    let wall = start.elapsed();
    tcp.shutdown(Shutdown::Both).unwrap();
    let (out, inside) = (outbound.recv().unwrap(), inbound.recv().unwrap());
    report(
        "1 KiB there and back",
        "message",
        f64::from(MESSAGES),
        wall,
        out,
        inside,
    );
}

//! Pools, sessions and bad peers, over loopback.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tacit_model::SpiffeId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::dial::{DialError, DialFault, Phase};
use crate::identity::IdentityStore;
use crate::stream::{Broken, Stream};
use crate::testing::*;

async fn echo_works(near: &mut Stream, far: &mut Stream) {
    near.write_all(b"hello").await.unwrap();
    let mut data = [0; 5];
    far.read_exact(&mut data).await.unwrap();
    assert_eq!(&data, b"hello");
}

fn changes(mesh: &Mesh) -> Vec<SessionChange> {
    mesh.events
        .borrow()
        .iter()
        .map(|event| event.change)
        .collect()
}

#[test]
fn the_server_sees_the_proven_caller_and_where_it_wants_to_go() {
    run(async {
        let mut mesh = Mesh::start().await;
        let (near, ()) = tokio::join!(open(&mesh.pool), async {
            let request = mesh.server.requests.recv().await.unwrap();
            assert_eq!(request.peer().identity, Some(id("client")));
            assert_eq!(
                request.authority(),
                &Authority::Address(([127, 0, 0, 1], 8080).into())
            );
            let trace = request.header("traceparent");
            assert_eq!(trace, Some("00-0af7651916cd43dd8448eb211c80319c-1-00"));
            assert_eq!(request.header("baggage"), None);
            drop(accept(request));
        });
        assert!(near.unwrap().is_mutual_tls());
    });
}

#[test]
fn many_callers_share_one_handshake() {
    run(async {
        let mut mesh = Mesh::start().await;
        let opens = (0..50).map(|_| tokio::task::spawn_local(open_owned(&mesh)));
        let opens: Vec<_> = opens.collect();
        let mut far = Vec::new();
        for _ in 0..50 {
            far.push(mesh.server.stream().await);
        }
        for open in opens {
            open.await.unwrap().unwrap();
        }
        assert_eq!(mesh.pool.sessions(), 1);
        assert_eq!(changes(&mesh), [SessionChange::New]);
    });
}

fn open_owned(mesh: &Mesh) -> impl Future<Output = Result<Stream, DialError>> + 'static {
    let pool = mesh.pool.clone();
    async move { open(&pool).await }
}

#[test]
fn a_full_session_gets_company_and_is_used_again() {
    run(async {
        let mut mesh = Mesh::with(|settings| settings.streams_per_session = 10).await;
        let mut pairs = Vec::new();
        for _ in 0..25 {
            pairs.push(mesh.pair().await);
        }
        assert_eq!(mesh.pool.sessions(), 3);
        pairs.clear();
        for _ in 0..30 {
            pairs.push(mesh.pair().await);
        }
        assert_eq!(
            mesh.pool.sessions(),
            3,
            "ended streams gave their places back"
        );
    });
}

#[test]
fn identities_and_addresses_share_no_session() {
    run(async {
        let mut mesh = Mesh::start().await;
        let _first = mesh.pair().await;
        let mut other = source(id("client"));
        other.address = [10, 0, 0, 9].into();
        let request = open_request();
        let opened = mesh.pool.open(&other, dial_permit(id("server")), &request);
        let (near, _far) = tokio::join!(opened, mesh.server.stream());
        near.unwrap();
        assert_eq!(mesh.pool.sessions(), 2);
        mesh.pool.close_source([10, 0, 0, 9].into());
        assert_eq!(mesh.pool.sessions(), 1);
    });
}

#[test]
fn a_refusal_says_status_and_reason() {
    run(async {
        let mut mesh = Mesh::start().await;
        let cases = [
            (Refusal::BadRequest, 400),
            (Refusal::Denied, 401),
            (Refusal::Forbidden, 403),
            (Refusal::Unavailable, 503),
        ];
        for (refusal, status) in cases {
            let (near, ()) = tokio::join!(open(&mesh.pool), async {
                let request = mesh.server.requests.recv().await.unwrap();
                request.refuse(refusal, "shop/api: no\u{e9} rule allows\r\nx: y");
            });
            let refusal = Some("shop/api: no? rule allows??x: y".to_owned());
            assert_eq!(
                near.err().unwrap().fault,
                DialFault::PeerRefused { status, refusal }
            );
        }
        assert_eq!(mesh.pool.sessions(), 1, "a refusal costs no session");
    });
}

#[test]
fn no_answer_is_a_timeout_and_costs_no_session() {
    run(async {
        let mut mesh = Mesh::start().await;
        let mut ask = open_request();
        ask.answer_timeout = Duration::from_millis(200);
        let from = source(id("client"));
        let late = mesh.pool.open(&from, dial_permit(id("server")), &ask).await;
        assert_eq!(late.err().unwrap().fault, DialFault::Timeout(Phase::Answer));
        drop(mesh.server.request().await);
        let (mut near, mut far) = mesh.pair().await;
        echo_works(&mut near, &mut far).await;
        assert_eq!(mesh.pool.sessions(), 1);
    });
}

#[test]
fn a_draining_server_finishes_streams_and_new_ones_go_elsewhere() {
    run(async {
        let mut mesh = Mesh::start().await;
        let (mut near, mut far) = mesh.pair().await;
        mesh.server.drain();
        let (mut second, mut second_far) = mesh.pair().await;
        echo_works(&mut second, &mut second_far).await;
        // Until the peer's GOAWAY has arrived, the old session takes streams, and serves them.
        while mesh.events.borrow().len() < 2 {
            let (mut near, mut far) = mesh.pair().await;
            echo_works(&mut near, &mut far).await;
        }
        echo_works(&mut near, &mut far).await;
        assert_eq!(changes(&mesh)[..2], [SessionChange::New; 2]);
        near.shutdown().await.unwrap();
        far.shutdown().await.unwrap();
        assert_eq!(near.read(&mut [0; 1]).await.unwrap(), 0);
        drop((near, far, second, second_far));
        let ended = || changes(&mesh).contains(&SessionChange::Ended);
        until("the drained session ends in order", ended).await;
        assert!(!changes(&mesh).contains(&SessionChange::LostBroken));
    });
}

#[test]
fn a_draining_pool_opens_nothing_and_finishes_the_rest() {
    run(async {
        let mut mesh = Mesh::start().await;
        let (mut near, mut far) = mesh.pair().await;
        mesh.pool.drain();
        assert!(mesh.open().await.is_err());
        echo_works(&mut near, &mut far).await;
        drop((near, far));
        until("the last session ends", || mesh.pool.sessions() == 0).await;
    });
}

#[test]
fn an_idle_session_is_released() {
    run(async {
        let mut mesh = Mesh::with(|s| s.idle_release = Duration::from_millis(100)).await;
        let (near, far) = mesh.pair().await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(
            mesh.pool.sessions(),
            1,
            "a session with a stream is not idle"
        );
        drop((near, far));
        until("the idle session is gone", || mesh.pool.sessions() == 0).await;
    });
}

/// Carries bytes between the pool and the server until it is frozen or cut, and counts them.
struct Middle {
    port: u16,
    frozen: tokio::sync::watch::Sender<bool>,
    carried: Rc<Cell<usize>>,
}

impl Middle {
    async fn start(to: u16) -> Self {
        let listener = TcpListener::bind((LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (frozen, mut is_frozen) = tokio::sync::watch::channel(false);
        let carried: Rc<Cell<usize>> = Rc::default();
        let count = Rc::clone(&carried);
        tokio::task::spawn_local(async move {
            let (mut near, _) = listener.accept().await.unwrap();
            let mut far = TcpStream::connect((LOCALHOST, to)).await.unwrap();
            let (near_read, near_write) = near.split();
            let (far_read, far_write) = far.split();
            tokio::select! {
                () = carry(near_read, far_write, &count) => {}
                () = carry(far_read, near_write, &count) => {}
                // The sender is gone: cut. Frozen: keep the sockets, move nothing.
                thawed = is_frozen.wait_for(|frozen| *frozen) => if thawed.is_err() { return },
            }
            let _forever = (near, far);
            while is_frozen.changed().await.is_ok() {}
        });
        Self {
            port,
            frozen,
            carried,
        }
    }
}

async fn carry(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    count: &Cell<usize>,
) {
    let mut data = vec![0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut data).await {
        count.set(count.get() + length);
        to.write_all(&data[..length]).await.unwrap();
    }
}

fn impatient(settings: &mut PoolSettings) {
    settings.heartbeat.interval = Duration::from_millis(100);
    settings.heartbeat.lost_after = Duration::from_millis(400);
}

async fn mesh_through_middle(change: impl FnOnce(&mut PoolSettings)) -> (Mesh, Middle) {
    let mut mesh = Mesh::start().await;
    let middle = Middle::start(mesh.server.port).await;
    let store = mesh.ca.store("test.mesh", &[id("client")]);
    let mut settings = PoolSettings {
        port: middle.port,
        ..PoolSettings::default()
    };
    change(&mut settings);
    (mesh.pool, mesh.events) = pool(store, settings);
    (mesh, middle)
}

#[test]
fn a_silent_session_breaks_its_streams() {
    run(async {
        let (mut mesh, middle) = mesh_through_middle(impatient).await;
        let (mut near, mut far) = mesh.pair().await;
        echo_works(&mut near, &mut far).await;
        // Control run: as long as the peer answers, nothing is lost.
        tokio::time::sleep(Duration::from_secs(1)).await;
        echo_works(&mut near, &mut far).await;
        assert_eq!(changes(&mesh), [SessionChange::New]);
        middle.frozen.send(true).unwrap();
        near.write_all(b"into the silence").await.unwrap();
        let error = near.read(&mut [0; 1]).await.unwrap_err();
        assert_eq!(Broken::find(&error), Some(Broken::SessionLost));
        assert_eq!(
            changes(&mesh),
            [SessionChange::New, SessionChange::LostSilent]
        );
        assert_eq!(mesh.pool.sessions(), 0);
    });
}

#[test]
fn a_quiet_session_is_left_in_peace() {
    run(async {
        let (mut mesh, middle) = mesh_through_middle(|settings| {
            settings.heartbeat.interval = Duration::from_millis(50);
            settings.heartbeat.busy = Duration::from_millis(300);
        })
        .await;
        let (mut near, mut far) = mesh.pair().await;
        echo_works(&mut near, &mut far).await;
        let after_traffic = middle.carried.get();
        // Control run: while there is traffic, there are pings.
        until("the busy session is pinged", || {
            middle.carried.get() > after_traffic
        })
        .await;
        // Pings are no traffic: ten intervals without one must come.
        let mut before = 0;
        while before != middle.carried.get() {
            before = middle.carried.get();
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        echo_works(&mut near, &mut far).await;
        let after_traffic = middle.carried.get();
        until("traffic wakes the heartbeat", || {
            middle.carried.get() > after_traffic
        })
        .await;
    });
}

#[test]
fn a_cut_session_breaks_its_streams() {
    run(async {
        let (mut mesh, middle) = mesh_through_middle(impatient).await;
        let (mut near, mut far) = mesh.pair().await;
        echo_works(&mut near, &mut far).await;
        drop(middle);
        let error = near.read(&mut [0; 1]).await.unwrap_err();
        assert_eq!(Broken::find(&error), Some(Broken::SessionLost));
        until("the loss is told", || changes(&mesh).len() == 2).await;
        assert_eq!(
            changes(&mesh),
            [SessionChange::New, SessionChange::LostBroken]
        );
    });
}

#[test]
fn a_silent_peer_fails_an_open_that_waits() {
    run(async {
        let (mut mesh, middle) = mesh_through_middle(impatient).await;
        let (_near, _far) = mesh.pair().await;
        middle.frozen.send(true).unwrap();
        let fault = mesh.open().await.err().unwrap().fault;
        assert_eq!(fault, DialFault::SessionLost);
    });
}

/// Dials with another store or another expectation; the fault.
async fn fault_of(
    store: IdentityStore,
    port: u16,
    expected: SpiffeId,
    from: SpiffeId,
) -> DialFault {
    let settings = PoolSettings {
        port,
        ..PoolSettings::default()
    };
    let (pool, events) = pool(store, settings);
    let request = open_request();
    let fault = pool
        .open(&source(from), dial_permit(expected), &request)
        .await;
    until("a refused session leaves the pool", || pool.sessions() == 0).await;
    let fault = fault.err().unwrap().fault;
    let new = |e: &SessionEvent| e.change == SessionChange::New;
    let is_refused_late = fault == DialFault::Tls;
    assert!(is_refused_late || !events.borrow().iter().any(new));
    fault
}

#[test]
fn the_dialler_believes_only_the_expected_identity() {
    run(async {
        let mut mesh = Mesh::start().await;
        let (good, port) = (
            mesh.ca.store("test.mesh", &[id("client")]),
            mesh.server.port,
        );
        let wrong_id = fault_of(good.clone(), port, id("other"), id("client")).await;
        assert_eq!(wrong_id, DialFault::Tls);
        let stranger = Ca::new().store("test.mesh", &[id("client")]);
        let unknown_root = fault_of(stranger, port, id("server"), id("client")).await;
        assert_eq!(unknown_root, DialFault::Tls);
        let nobody = fault_of(good.clone(), port, id("server"), id("absent")).await;
        assert_eq!(nobody, DialFault::NoIdentity);
        // Control run: the same server serves who expects it.
        let (mut near, mut far) = mesh.pair().await;
        echo_works(&mut near, &mut far).await;
    });
}

#[test]
fn the_dialler_survives_what_is_no_proxy() {
    run(async {
        let ca = Ca::new();
        let store = ca.store("test.mesh", &[id("client")]);
        let garbage = TcpListener::bind((LOCALHOST, 0)).await.unwrap();
        let port = garbage.local_addr().unwrap().port();
        let talk = async {
            let (mut tcp, _) = garbage.accept().await.unwrap();
            tcp.write_all(b"HTTP/1.1 200 OK\r\n\r\nthis is no TLS at all")
                .await
                .unwrap();
            tcp
        };
        let (fault, tcp) = tokio::join!(
            fault_of(store.clone(), port, id("server"), id("client")),
            talk
        );
        assert_eq!(fault, DialFault::Tls);
        drop(tcp);
        let close = async { drop(garbage.accept().await.unwrap()) };
        let (fault, ()) = tokio::join!(
            fault_of(store.clone(), port, id("server"), id("client")),
            close
        );
        assert_eq!(fault, DialFault::ConnectFailed);
        drop(garbage);
        let fault = fault_of(store, port, id("server"), id("client")).await;
        assert_eq!(fault, DialFault::ConnectFailed);
    });
}

/// The error that the server counts, and that it still serves others after it.
async fn served_after(mesh: &mut Mesh) -> AcceptError {
    let error = mesh.server.errors.recv().await.unwrap();
    let (mut near, mut far) = mesh.pair().await;
    echo_works(&mut near, &mut far).await;
    error
}

fn is_tls(error: &AcceptError, word: &str) -> bool {
    matches!(error, AcceptError::Tls(why) if why.contains(word))
}

#[test]
fn the_server_survives_raw_garbage() {
    run(async {
        let mut mesh = Mesh::start().await;
        let address = SocketAddr::new(LOCALHOST, mesh.server.port);
        let mut garbage = TcpStream::connect(address).await.unwrap();
        garbage
            .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .unwrap();
        assert!(matches!(served_after(&mut mesh).await, AcceptError::Tls(_)));
        drop(TcpStream::connect(address).await.unwrap());
        assert_eq!(served_after(&mut mesh).await, AcceptError::Closed);
        let silent = TcpStream::connect(address).await.unwrap();
        assert_eq!(served_after(&mut mesh).await, AcceptError::Timeout);
        drop((garbage, silent));
    });
}

#[test]
fn the_server_believes_only_its_trust_domains() {
    run(async {
        let mut mesh = Mesh::start().await;
        let port = mesh.server.port;
        let foreign = id_in("other.mesh", "client");
        let store = mesh.ca.store("test.mesh", std::slice::from_ref(&foreign));
        let fault = fault_of(store, port, id("server"), foreign).await;
        assert_eq!(fault, DialFault::Tls);
        let error = served_after(&mut mesh).await;
        assert!(is_tls(&error, "UnknownIssuer"), "{error}");
        // What has ended is not even shown.
        let store = mesh.ca.store("test.mesh", &[]);
        mesh.ca.enrol_with(&store, &id("client"), expired);
        let fault = fault_of(store, port, id("server"), id("client")).await;
        assert_eq!(fault, DialFault::NoIdentity);
    });
}

#[test]
fn a_root_can_be_rotated_under_live_sessions() {
    run(async {
        let mut mesh = Mesh::start().await;
        let (mut near, mut far) = mesh.pair().await;
        let next = Ca::new();
        let both = [mesh.ca.root.clone(), next.root.clone()];
        let trust_domain = id("x").trust_domain;
        let clients = mesh.ca.store("test.mesh", &[id("client")]);
        clients.set_bundle(trust_domain.clone(), &both).unwrap();
        let servers = next.store("test.mesh", &[id("server")]);
        servers.set_bundle(trust_domain, &both).unwrap();
        mesh.server = Server::start(servers, id("server")).await;
        let settings = PoolSettings {
            port: mesh.server.port,
            ..PoolSettings::default()
        };
        let (new_pool, _) = pool(clients, settings);
        let (again, far_again) = tokio::join!(open(&new_pool), mesh.server.stream());
        echo_works(&mut again.unwrap(), &mut { far_again }).await;
        echo_works(&mut near, &mut far).await;
    });
}

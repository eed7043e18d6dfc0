//! What the tests share: a certificate authority, a small mesh on loopback, pairs of streams.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use tacit_decide::{ConnectionPermit, ConnectionVerdict, DialPermit, Peer, WorkloadTarget};
use tacit_model::labels::Labels;
use tacit_model::tables::{
    ClassKey, ClassRow, DefaultAccess, Egress, MeshRow, NamespaceRow, Protocol, Tenancy,
    WorkloadRow,
};
use tacit_model::{
    Generation, Locality, Provenance, Row, Snapshot, Sourced, SpiffeId, TableDelta, Tables,
    TrustDomain, WorkloadName,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::dial::{SocketFactory, Source};
use crate::hbone::{
    AcceptError, Acceptor, AcceptorSettings, Admission, ConnectRequest, Drain, OpenRequest, Pool,
    PoolSettings, SessionEvent,
};
use crate::identity::{IdentityStore, PrivateKey};
use crate::stream::Stream;

pub(crate) const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Far beyond what any step takes; a test that needs it has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let tasks = tokio::task::LocalSet::new();
    let limited = async { tokio::time::timeout(4 * PATIENCE, test).await.unwrap() };
    tasks.block_on(&runtime, limited)
}

pub(crate) fn id(service_account: &str) -> SpiffeId {
    id_in("test.mesh", service_account)
}

pub(crate) fn id_in(trust_domain: &str, service_account: &str) -> SpiffeId {
    let text = format!("spiffe://{trust_domain}/ns/shop/sa/{service_account}");
    SpiffeId::try_from(text).unwrap()
}

/// A root that signs whatever it is asked.
pub(crate) struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) root: Vec<u8>,
}

impl Ca {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "test root");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let root = params.self_signed(&key).unwrap().der().to_vec();
        Self {
            issuer: Issuer::new(params, key),
            root,
        }
    }

    /// Signs a request; `change` may spoil it.
    pub(crate) fn sign(
        &self,
        request: Vec<u8>,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Vec<Vec<u8>> {
        let mut request = CertificateSigningRequestParams::from_der(&request.into()).unwrap();
        request.params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        change(&mut request.params);
        let leaf = request.signed_by(&self.issuer).unwrap();
        vec![leaf.der().to_vec(), self.root.clone()]
    }

    /// Gives `store` a certificate for `id`.
    pub(crate) fn enrol(&self, store: &IdentityStore, id: &SpiffeId) {
        self.enrol_with(store, id, |_| {});
    }

    pub(crate) fn enrol_with(
        &self,
        store: &IdentityStore,
        id: &SpiffeId,
        change: impl FnOnce(&mut CertificateParams),
    ) {
        let key = PrivateKey::generate().unwrap();
        let chain = self.sign(key.request_for_workload(id).unwrap(), change);
        store.put(id.clone(), &key, &chain).unwrap();
    }

    /// A store that believes this root for `trust_domain` and has these identities.
    pub(crate) fn store(&self, trust_domain: &str, ids: &[SpiffeId]) -> IdentityStore {
        let store = IdentityStore::new();
        let trust_domain = TrustDomain::try_from(trust_domain).unwrap();
        store
            .set_bundle(trust_domain, std::slice::from_ref(&self.root))
            .unwrap();
        for id in ids {
            self.enrol(&store, id);
        }
        store
    }
}

pub(crate) fn expired(params: &mut CertificateParams) {
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2020, 1, 2);
}

/// Sockets without a namespace or mark.
pub(crate) struct PlainSockets;

impl SocketFactory for PlainSockets {
    fn tcp_socket(&self, to: SocketAddr) -> io::Result<socket2::Socket> {
        socket2::Socket::new(
            socket2::Domain::for_address(to),
            socket2::Type::STREAM,
            None,
        )
    }
}

pub(crate) fn source(identity: SpiffeId) -> Source {
    Source {
        identity,
        address: LOCALHOST,
        sockets: Rc::new(PlainSockets),
    }
}

pub(crate) fn open_request() -> OpenRequest {
    OpenRequest {
        host: None,
        connect_timeout: PATIENCE,
        answer_timeout: PATIENCE,
        headers: vec![(
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-1-00".to_owned(),
        )],
    }
}

/// A mesh in which `identity` runs on loopback.
fn snapshot(identity: &SpiffeId) -> (Snapshot, WorkloadRow) {
    let from = || Provenance::Default;
    let mesh = MeshRow {
        trust_domain: identity.trust_domain.clone(),
        cluster: "test".into(),
        default_access: Sourced {
            value: DefaultAccess::Authenticated,
            from: from(),
        },
        egress: Sourced {
            value: Egress::Allow,
            from: from(),
        },
        certificate_lifetime: Duration::from_secs(3600),
        max_offline: Duration::from_secs(1800),
        root_namespace: "mesh".try_into().unwrap(),
        addresses: Vec::new(),
    };
    let workload = WorkloadRow {
        name: WorkloadName::parse("shop", "one").unwrap(),
        class: Arc::new(ClassKey {
            namespace: identity.namespace.clone(),
            labels: Labels::default(),
            service_account: identity.service_account.clone(),
        }),
        address: LOCALHOST,
        node: "here".try_into().unwrap(),
        locality: Locality::default(),
        ports: Arc::default(),
        published: Vec::new(),
        ready: BTreeSet::default(),
        capacity: None,
        command: Vec::new(),
    };
    let mut tables = Tables::default();
    let class = ClassRow {
        key: workload.class.clone(),
        services: Vec::new(),
        access: Vec::new(),
    };
    let rows = vec![
        Row::Mesh(mesh.into()),
        Row::Namespace(
            NamespaceRow {
                namespace: "shop".try_into().unwrap(),
                tenancy: Tenancy::Unclaimed,
            }
            .into(),
        ),
        Row::Class(class.into()),
        Row::Workload(workload.clone().into()),
    ];
    tables.apply(TableDelta {
        upserts: rows,
        removes: Vec::new(),
    });
    (
        Snapshot::build(Generation::default(), &tables).unwrap(),
        workload,
    )
}

pub(crate) fn dial_permit(identity: SpiffeId) -> DialPermit {
    let (snapshot, workload) = snapshot(&identity);
    let target = WorkloadTarget {
        workload: workload.clone().into(),
        port: 8080,
        protocol: Protocol::Tcp,
    };
    tacit_decide::permit_workload(&snapshot, &workload, &target)
}

pub(crate) fn connection_permit(peer: &Peer) -> ConnectionPermit {
    let (snapshot, workload) = snapshot(&id("server"));
    let verdict = tacit_decide::authorize_connection(&snapshot, &workload, 8080, peer);
    let ConnectionVerdict::Allow(permit) = verdict else {
        panic!("{verdict:?}");
    };
    permit
}

pub(crate) fn accept(request: ConnectRequest) -> Stream {
    let permit = connection_permit(request.peer());
    request.accept(Admission::Whole(&permit)).unwrap()
}

/// An HBONE server for `server` on loopback, whose sessions are served until the test ends.
pub(crate) struct Server {
    pub(crate) port: u16,
    pub(crate) requests: mpsc::UnboundedReceiver<ConnectRequest>,
    pub(crate) errors: mpsc::UnboundedReceiver<AcceptError>,
    drains: Rc<RefCell<Vec<Drain>>>,
}

impl Server {
    pub(crate) async fn start(store: IdentityStore, identity: SpiffeId) -> Self {
        let settings = AcceptorSettings {
            handshake_timeout: Duration::from_secs(3),
        };
        let acceptor = Acceptor::new(store, settings);
        let listener = TcpListener::bind((LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (tell_request, requests) = mpsc::unbounded_channel();
        let (tell_error, errors) = mpsc::unbounded_channel();
        let drains: Rc<RefCell<Vec<Drain>>> = Rc::default();
        let for_sessions = Rc::clone(&drains);
        tokio::task::spawn_local(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let (acceptor, identity) = (acceptor.clone(), identity.clone());
                let (tell_request, tell_error) = (tell_request.clone(), tell_error.clone());
                let drains = Rc::clone(&for_sessions);
                tokio::task::spawn_local(async move {
                    match acceptor.accept(tcp, &identity).await {
                        Err(error) => tell_error.send(error).unwrap_or(()),
                        Ok(mut session) => {
                            drains.borrow_mut().push(session.drain());
                            while let Ok(Some(request)) = session.next().await {
                                tell_request.send(request).unwrap_or(());
                            }
                        }
                    }
                });
            }
        });
        Self {
            port,
            requests,
            errors,
            drains,
        }
    }

    pub(crate) fn drain(&self) {
        self.drains.borrow().iter().for_each(Drain::start);
    }

    pub(crate) async fn request(&mut self) -> ConnectRequest {
        self.requests.recv().await.unwrap()
    }

    pub(crate) async fn stream(&mut self) -> Stream {
        accept(self.request().await)
    }
}

/// A client and a server that believe each other.
pub(crate) struct Mesh {
    pub(crate) ca: Ca,
    pub(crate) pool: Pool,
    pub(crate) server: Server,
    pub(crate) events: Rc<RefCell<Vec<SessionEvent>>>,
}

impl Mesh {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// `change` adapts the pool's settings, whose port is the server's.
    pub(crate) async fn with(change: impl FnOnce(&mut PoolSettings)) -> Self {
        let ca = Ca::new();
        let server_store = ca.store("test.mesh", &[id("server")]);
        let server = Server::start(server_store, id("server")).await;
        let store = ca.store("test.mesh", &[id("client")]);
        let mut settings = PoolSettings {
            port: server.port,
            ..PoolSettings::default()
        };
        change(&mut settings);
        let (pool, events) = pool(store, settings);
        Self {
            ca,
            pool,
            server,
            events,
        }
    }

    pub(crate) async fn open(&self) -> Result<Stream, crate::DialError> {
        open(&self.pool).await
    }

    pub(crate) async fn pair(&mut self) -> (Stream, Stream) {
        let (near, far) = tokio::join!(open(&self.pool), self.server.stream());
        (near.unwrap(), far)
    }
}

pub(crate) async fn open(pool: &Pool) -> Result<Stream, crate::DialError> {
    let request = open_request();
    pool.open(&source(id("client")), dial_permit(id("server")), &request)
        .await
}

pub(crate) fn pool(
    store: IdentityStore,
    settings: PoolSettings,
) -> (Pool, Rc<RefCell<Vec<SessionEvent>>>) {
    let events: Rc<RefCell<Vec<SessionEvent>>> = Rc::default();
    let log = Rc::clone(&events);
    let pool = Pool::new(store, settings, move |event| log.borrow_mut().push(event));
    (pool, events)
}

pub(crate) async fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((LOCALHOST, 0)).await.unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap());
    let (near, far) = tokio::join!(near, listener.accept());
    (near.unwrap(), far.unwrap().0)
}

/// Waits until `condition` holds.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let start = tokio::time::Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

//! A worker whose endpoints are loopback sockets, and callers that speak to its halves.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use tacit_decide::offline::Freshness;
use tacit_decide::{ConnectionVerdict, Peer, State, authorize_connection};
use tacit_http::{
    ClientHalf, DialAsk, ServerHalf, Settings, Worker, serve_client_half, serve_server_half,
};
use tacit_model::event::{Event, EventKind, Party, Reporter};
use tacit_model::{Dice, Now, Snapshot, SpiffeId};
use tacit_transport::dial::SocketFactory;
use tacit_transport::{DialError, DialFault, Stream};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::LocalSet;

use crate::app::{Body, Local};
use crate::mesh;

/// What is behind an endpoint's address.
#[derive(Clone, Copy)]
pub(crate) enum Behind {
    /// An application, without a server half.
    Plain(SocketAddr),
    /// An application behind its server half.
    Half(SocketAddr),
    /// Nothing answers.
    Silence,
}

/// A worker with all that surrounds it.
pub(crate) struct Rig {
    pub(crate) worker: Rc<Worker>,
    pub(crate) events: Rc<RefCell<Vec<Event>>>,
    pub(crate) snapshot: Rc<RefCell<Arc<Snapshot>>>,
    pub(crate) fresh: Rc<Cell<Freshness>>,
    pub(crate) drain: watch::Sender<bool>,
    /// Connections dialled, by endpoint.
    pub(crate) dialled: Rc<RefCell<Vec<SocketAddr>>>,
    behind: Rc<RefCell<HashMap<SocketAddr, Behind>>>,
}

/// Runs a test on a worker thread's kind of runtime; no test takes longer than 20 s.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, async {
        tokio::time::timeout(Duration::from_secs(20), test)
            .await
            .unwrap();
    });
}

struct Loopback;

impl SocketFactory for Loopback {
    fn tcp_socket(&self, to: SocketAddr) -> io::Result<socket2::Socket> {
        let domain = socket2::Domain::for_address(to);
        socket2::Socket::new(domain, socket2::Type::STREAM, None)
    }
}

impl Rig {
    pub(crate) fn new(snapshot: Snapshot, behind: &[Behind]) -> Rc<Self> {
        let events = Rc::new(RefCell::new(Vec::new()));
        let snapshot = Rc::new(RefCell::new(Arc::new(snapshot)));
        let fresh = Rc::new(Cell::new(Freshness::Fresh));
        let (drain, drained) = watch::channel(false);
        let behind = (0u8..).map(mesh::endpoint).zip(behind.iter().copied());
        let worker = Worker::new(Settings {
            snapshot: {
                let snapshot = Rc::clone(&snapshot);
                Box::new(move || Arc::clone(&snapshot.borrow()))
            },
            state: Arc::new(State::new()),
            clock: clock(),
            dice: dice(),
            freshness: {
                let fresh = Rc::clone(&fresh);
                Box::new(move || fresh.get())
            },
            control_stale: Box::new(|| false),
            decisions: None,
            events: {
                let events = Rc::clone(&events);
                Box::new(move |event| events.borrow_mut().push(event))
            },
            drain: drained,
        });
        Rc::new(Self {
            worker,
            events,
            snapshot,
            fresh,
            drain,
            dialled: Rc::default(),
            behind: Rc::new(RefCell::new(behind.collect())),
        })
    }

    /// A connection of the application, captured by a client half.
    pub(crate) async fn connect(self: &Rc<Self>) -> TcpStream {
        self.connect_to(mesh::SERVICE).await
    }

    pub(crate) async fn connect_to(self: &Rc<Self>, to: SocketAddr) -> TcpStream {
        let (ours, theirs) = pair().await;
        let rig = Rc::clone(self);
        let half = ClientHalf {
            worker: Rc::clone(&self.worker),
            source: mesh::workload("frontend"),
            caller: Party {
                workload: Some(mesh::workload("frontend")),
                ..Party::default()
            },
            to,
            dial: Rc::new(move |ask| Box::pin(Rc::clone(&rig).dial(ask))),
        };
        let serving = serve_client_half(Stream::from_tcp(theirs), half, never());
        tokio::task::spawn_local(serving);
        ours
    }

    async fn dial(self: Rc<Self>, ask: DialAsk) -> Result<Stream, DialError> {
        let endpoint = ask.permit.endpoint();
        self.dialled.borrow_mut().push(endpoint);
        let behind = self.behind.borrow()[&endpoint];
        let failed = |error: io::Error| DialError {
            fault: DialFault::ConnectFailed,
            peer: endpoint,
            detail: error.to_string(),
        };
        match behind {
            Behind::Silence => std::future::pending().await,
            Behind::Plain(address) => {
                let socket = TcpStream::connect(address).await.map_err(failed)?;
                Ok(Stream::from_tcp(socket))
            }
            Behind::Half(address) => {
                let identity = "spiffe://test/ns/shop/sa/frontend".try_into().unwrap();
                Ok(Stream::from_tcp(
                    self.reach(endpoint, address, Some(identity)).await,
                ))
            }
        }
    }

    /// A connection accepted by a server half in front of the application at `address`.
    pub(crate) async fn reach(
        &self,
        endpoint: SocketAddr,
        address: SocketAddr,
        identity: Option<SpiffeId>,
    ) -> TcpStream {
        let (ours, theirs) = pair().await;
        let snapshot = Arc::clone(&self.snapshot.borrow());
        let local = snapshot.workload_at(endpoint.ip()).unwrap();
        let peer = Peer {
            identity: identity.clone(),
            address: (mesh::caller(), 40_000).into(),
        };
        let verdict = authorize_connection(&snapshot, local, endpoint.port(), &peer);
        let ConnectionVerdict::InspectRequests(permit) = verdict else {
            panic!("{verdict:?}");
        };
        let half = ServerHalf {
            worker: Rc::clone(&self.worker),
            permit,
            caller: Party {
                identity,
                address: Some(peer.address),
                ..Party::default()
            },
            callee: Party {
                workload: Some(local.name.clone()),
                ..Party::default()
            },
            service: Some(mesh::service()),
            caller_address: mesh::caller(),
            application: address,
            sockets: Rc::new(Loopback),
        };
        let serving = serve_server_half(Stream::from_tcp(theirs), half, never());
        tokio::task::spawn_local(serving);
        ours
    }

    /// The events of one half so far, as `METHOD status tries ending`.
    pub(crate) fn said(&self, reporter: Reporter) -> Vec<String> {
        let events = self.events.borrow();
        let events = events.iter().filter(|event| event.reporter == reporter);
        events.map(describe).collect()
    }

    /// Waits until a half has said this many events.
    pub(crate) async fn until_said(&self, reporter: Reporter, count: usize) -> Vec<String> {
        while self.said(reporter).len() < count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.said(reporter)
    }
}

fn describe(event: &Event) -> String {
    use tacit_model::event::Ending;
    let EventKind::Request {
        method,
        status,
        tries,
        ..
    } = &event.kind
    else {
        panic!("{event:?}");
    };
    let ending = match &event.ending {
        Ending::Complete => "Complete".to_owned(),
        Ending::Denied { .. } => "Denied".to_owned(),
        Ending::Failed { fault, .. } => format!("{fault:?}"),
    };
    format!("{method} {status} {tries} {ending}")
}

pub(crate) fn never() -> tacit_http::Stop {
    Box::pin(std::future::pending())
}

fn clock() -> Box<dyn Fn() -> Now> {
    let start = Instant::now();
    Box::new(move || Now::default().plus(start.elapsed()))
}

fn dice() -> Box<dyn Fn() -> Dice> {
    let dice = Cell::new(Dice(7));
    Box::new(move || {
        let (number, next) = dice.get().roll();
        dice.set(next);
        Dice(number)
    })
}

/// Both ends of a loopback connection.
pub(crate) async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let connecting = TcpStream::connect(listener.local_addr().unwrap());
    let (ours, theirs) = tokio::join!(connecting, listener.accept());
    (ours.unwrap(), theirs.unwrap().0)
}

/// An HTTP/1.1 client on a connection.
pub(crate) async fn http1(socket: TcpStream) -> http1::SendRequest<Body> {
    let (sender, connection) = http1::handshake(TokioIo::new(socket)).await.unwrap();
    tokio::task::spawn_local(connection.with_upgrades());
    sender
}

/// An HTTP/2 client on a connection, with prior knowledge.
pub(crate) async fn http2(socket: TcpStream) -> http2::SendRequest<Body> {
    let (sender, connection) = http2::handshake(Local, TokioIo::new(socket)).await.unwrap();
    tokio::task::spawn_local(connection);
    sender
}

/// A request to the service.
pub(crate) fn request(method: &str, path: &str, body: Body) -> Request<Body> {
    let builder = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "payments");
    builder.body(body).unwrap()
}

/// Status and body of a response.
pub(crate) async fn read(response: Response<Incoming>) -> (u16, String) {
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

//! HTTP connections that are kept open to callees, so that a request seldom opens one.

use std::cell::{Cell, RefCell};
use std::hash::Hash;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::time::Duration;

use hashbrown::HashMap;
use http::{Request, Response, Version};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tacit_transport::{DialError, DialFault, Stream};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::executor::LocalExecutor;
use crate::limits;
use crate::request_body::RequestBody;

/// HTTP connections of one worker, by whom they lead to.
pub(crate) struct Connections<K> {
    slots: RefCell<HashMap<K, Rc<Slot>>>,
    /// How long an unused connection is kept.
    idle: Duration,
    /// True once no connection is worth keeping.
    drain: watch::Receiver<bool>,
    /// A task looks for connections that were unused for too long.
    sweeping: Cell<bool>,
}

/// The connections to one place.
#[derive(Default)]
struct Slot {
    http1: RefCell<Vec<Idle>>,
    http2: RefCell<Vec<Shared>>,
    /// Somebody opens an HTTP/2 connection; the others wait for the result.
    opening: RefCell<Option<watch::Receiver<Option<Opened>>>>,
}

type Opened = Result<Shared, DialError>;

struct Idle {
    sender: http1::SendRequest<RequestBody>,
    since: Instant,
}

/// An HTTP/2 connection; many requests use it at once.
#[derive(Clone)]
struct Shared {
    sender: http2::SendRequest<RequestBody>,
    /// One clone for each request that uses it, and one that the slot keeps.
    users: Rc<Cell<Instant>>,
}

/// A connection to send one request on.
pub(crate) struct Lease {
    wire: Wire,
}

enum Wire {
    Http1 {
        sender: http1::SendRequest<RequestBody>,
        home: Rc<Slot>,
    },
    Http2(Shared),
}

impl Lease {
    /// Sends the request and waits for the response headers. A request that was not written at
    /// all comes back inside the error.
    pub(crate) async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, TrySendError<Request<RequestBody>>> {
        match &mut self.wire {
            Wire::Http1 { sender, .. } => sender.try_send_request(request).await,
            Wire::Http2(shared) => shared.sender.try_send_request(request).await,
        }
    }

    /// Keeps the connection for the next request, after a complete response.
    pub(crate) fn give_back(self) {
        match self.wire {
            Wire::Http1 { sender, home } => {
                let mut idle = home.http1.borrow_mut();
                if !sender.is_closed() && idle.len() < limits::IDLE_PER_CALLEE {
                    let since = Instant::now();
                    idle.push(Idle { sender, since });
                }
            }
            Wire::Http2(shared) => shared.users.set(Instant::now()),
        }
    }
}

impl<K: Eq + Hash + Clone + 'static> Connections<K> {
    pub(crate) fn new(idle: Duration, drain: watch::Receiver<bool>) -> Rc<Self> {
        Rc::new(Self {
            slots: RefCell::new(HashMap::new()),
            idle,
            drain,
            sweeping: Cell::new(false),
        })
    }

    /// An open connection to `key` that speaks `version`, if there is one that can take a request.
    pub(crate) async fn reuse(&self, key: &K, version: Version) -> Option<Lease> {
        let slot = self.slots.borrow().get(key).cloned()?;
        let wire = if version == Version::HTTP_2 {
            Wire::Http2(slot.open_http2()?)
        } else {
            let sender = slot.idle_http1(self.idle).await?;
            Wire::Http1 { sender, home: slot }
        };
        Some(Lease { wire })
    }

    /// A new connection to `key` that speaks `version`. Requests that need an HTTP/2 connection
    /// at the same time share one.
    pub(crate) async fn open<F>(
        self: &Rc<Self>,
        key: &K,
        version: Version,
        dial: impl FnOnce() -> F,
    ) -> Result<Lease, DialError>
    where
        F: Future<Output = Result<Stream, DialError>>,
    {
        let slot = self.slot(key);
        self.start_sweeping();
        let wire = if version == Version::HTTP_2 {
            Wire::Http2(slot.shared_http2(dial).await?)
        } else {
            let sender = new_http1(dial().await?).await?;
            Wire::Http1 { sender, home: slot }
        };
        Ok(Lease { wire })
    }

    fn slot(&self, key: &K) -> Rc<Slot> {
        let mut slots = self.slots.borrow_mut();
        if let Some(slot) = slots.get(key) {
            return Rc::clone(slot);
        }
        Rc::clone(slots.entry(key.clone()).or_default())
    }

    /// Starts the one task that drops unused connections; it ends when none are left.
    fn start_sweeping(self: &Rc<Self>) {
        if !self.sweeping.replace(true) {
            tokio::task::spawn_local(sweep(Rc::downgrade(self)));
        }
    }

    /// Drops what was unused for too long; true if anything is left.
    fn drop_unused(&self) -> bool {
        let now = Instant::now();
        let drains = *self.drain.borrow();
        let fresh = |since: Instant| !drains && now.duration_since(since) < self.idle;
        let mut slots = self.slots.borrow_mut();
        slots.retain(|_, slot| {
            let mut http1 = slot.http1.borrow_mut();
            let mut http2 = slot.http2.borrow_mut();
            http1.retain(|idle| !idle.sender.is_closed() && fresh(idle.since));
            http2.retain(|shared| {
                let used = Rc::strong_count(&shared.users) > 1;
                !shared.sender.is_closed() && (used || fresh(shared.users.get()))
            });
            !http1.is_empty() || !http2.is_empty() || Rc::strong_count(slot) > 1
        });
        !slots.is_empty()
    }
}

async fn sweep<K: Eq + Hash + Clone + 'static>(connections: Weak<Connections<K>>) {
    loop {
        tokio::time::sleep(limits::SWEEP).await;
        let Some(connections) = connections.upgrade() else {
            return;
        };
        if !connections.drop_unused() {
            connections.sweeping.set(false);
            return;
        }
    }
}

impl Slot {
    /// The connection that was used last and can take a request at once.
    async fn idle_http1(&self, longest: Duration) -> Option<http1::SendRequest<RequestBody>> {
        let mut looked = false;
        loop {
            let idle = self.pop_ready()?;
            let unused = idle.since.elapsed();
            if unused >= longest {
                continue;
            }
            // A connection that lay idle may have been closed by its peer; one turn of the
            // reactor shows what has already arrived.
            if looked || unused < limits::SURELY_OPEN {
                return Some(idle.sender);
            }
            self.http1.borrow_mut().push(idle);
            tokio::task::yield_now().await;
            looked = true;
        }
    }

    fn pop_ready(&self) -> Option<Idle> {
        let mut idle = self.http1.borrow_mut();
        let position = idle.iter().rposition(|idle| idle.sender.is_ready())?;
        Some(idle.remove(position))
    }

    /// Opens an HTTP/2 connection, or waits for somebody else who does.
    async fn shared_http2<F>(&self, dial: impl FnOnce() -> F) -> Result<Shared, DialError>
    where
        F: Future<Output = Result<Stream, DialError>>,
    {
        loop {
            let waiting = self.opening.borrow().clone();
            let Some(mut waiting) = waiting else { break };
            match waiting.wait_for(Option::is_some).await.as_deref() {
                Ok(Some(Err(error))) => return Err(error.clone()),
                // It is among the open ones now, perhaps already full.
                Ok(_) => {}
                // Whoever opened it was cancelled; this request opens one itself.
                Err(_) => drop(self.opening.borrow_mut().take()),
            }
            if let Some(shared) = self.open_http2() {
                return Ok(shared);
            }
        }
        let (announce, waiting) = watch::channel(None);
        *self.opening.borrow_mut() = Some(waiting);
        let opened = match dial().await {
            Ok(stream) => new_http2(stream).await,
            Err(error) => Err(error),
        };
        if let Ok(shared) = &opened {
            self.http2.borrow_mut().push(shared.clone());
        }
        self.opening.borrow_mut().take();
        announce.send_replace(Some(opened.clone()));
        opened
    }

    fn open_http2(&self) -> Option<Shared> {
        let mut open = self.http2.borrow_mut();
        open.retain(|shared| !shared.sender.is_closed());
        let room = |shared: &&Shared| Rc::strong_count(&shared.users) <= limits::STREAMS_USED;
        open.iter().find(room).cloned()
    }
}

async fn new_http1(stream: Stream) -> Result<http1::SendRequest<RequestBody>, DialError> {
    let peer = stream.remote();
    let (sender, connection) = http1::Builder::new()
        .max_headers(limits::HEADERS)
        .max_buf_size(limits::HEADER_BYTES)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| broken(peer, &error))?;
    tokio::task::spawn_local(async move {
        // Its errors reach whoever waits for a response on it.
        let _ = connection.with_upgrades().await;
    });
    Ok(sender)
}

async fn new_http2(stream: Stream) -> Result<Shared, DialError> {
    let peer = stream.remote();
    let (sender, connection) = http2::Builder::new(LocalExecutor::default())
        .timer(TokioTimer::new())
        .max_header_list_size(limits::HEADER_LIST_BYTES)
        .initial_stream_window_size(limits::STREAM_WINDOW)
        .initial_connection_window_size(limits::CONNECTION_WINDOW)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| broken(peer, &error))?;
    tokio::task::spawn_local(async move {
        // Its errors reach whoever waits for a response on it.
        let _ = connection.await;
    });
    Ok(Shared {
        sender,
        users: Rc::new(Cell::new(Instant::now())),
    })
}

/// The connection was made, but closed before HTTP began: no request was sent.
fn broken(peer: SocketAddr, error: &hyper::Error) -> DialError {
    DialError {
        fault: DialFault::SessionLost,
        peer,
        detail: error.to_string(),
    }
}

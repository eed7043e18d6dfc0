//! Applications to call: well-behaved ones made with hyper, and scripted ones that are not.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};

/// A whole answer of an application that is scripted byte by byte.
pub(crate) const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

pub(crate) type Body = BoxBody<Bytes, std::io::Error>;

pub(crate) fn body(text: impl Into<Bytes>) -> Body {
    Full::new(text.into())
        .map_err(|never| match never {})
        .boxed()
}

/// A response with a body.
pub(crate) fn response(status: u16, text: impl Into<Bytes>) -> Response<Body> {
    Response::builder().status(status).body(body(text)).unwrap()
}

/// What reached an application, in order: method, path, `x-tacit-try`, body.
#[derive(Clone, Default)]
pub(crate) struct Seen {
    pub(crate) requests: Rc<RefCell<Vec<String>>>,
    pub(crate) connections: Rc<Cell<usize>>,
}

impl Seen {
    pub(crate) fn note(&self, line: String) -> usize {
        self.requests.borrow_mut().push(line);
        self.requests.borrow().len()
    }

    pub(crate) fn count(&self) -> usize {
        self.requests.borrow().len()
    }
}

#[derive(Clone)]
pub(crate) struct Local;

impl<F: Future + 'static> Executor<F> for Local {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move { drop(future.await) });
    }
}

/// Serves with `answer`, HTTP/1.1 or HTTP/2 with prior knowledge, upgrades included.
pub(crate) async fn serve<F, A>(seen: &Seen, answer: A) -> SocketAddr
where
    A: Fn(Request<Incoming>) -> F + 'static,
    F: Future<Output = Response<Body>> + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (seen, answer) = (seen.clone(), Rc::new(answer));
    tokio::task::spawn_local(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            seen.connections.set(seen.connections.get() + 1);
            let answer = Rc::clone(&answer);
            let service = service_fn(move |request| {
                let answered = answer(request);
                async move { Ok::<_, Infallible>(answered.await) }
            });
            tokio::task::spawn_local(async move {
                let builder = auto::Builder::new(Local);
                let io = TokioIo::new(socket);
                let _ = builder.serve_connection_with_upgrades(io, service).await;
            });
        }
    });
    address
}

/// Notes each request with its body, then answers with the status that `script` gives for the
/// first, second … request.
pub(crate) async fn scripted(seen: &Seen, script: impl Fn(usize) -> u16 + 'static) -> SocketAddr {
    let (noted, script) = (seen.clone(), Rc::new(script));
    serve(seen, move |request| {
        let (noted, script) = (noted.clone(), Rc::clone(&script));
        async move {
            let line = describe(request).await;
            let number = noted.note(line);
            response(script(number), format!("answer {number}"))
        }
    })
    .await
}

/// Method, path and body of a request.
pub(crate) async fn describe(request: Request<Incoming>) -> String {
    let (head, body) = request.into_parts();
    let tried = head
        .headers
        .get("x-tacit-try")
        .map_or("-", |v| v.to_str().unwrap());
    let mut line = format!("{} {} try {tried}", head.method, head.uri.path());
    if let Ok(body) = body.collect().await
        && let text = body.to_bytes()
        && !text.is_empty()
    {
        line.push_str(&format!(" {}", String::from_utf8_lossy(&text)));
    }
    line
}

/// Accepts connections and gives each to `act` with its number, from 1.
pub(crate) async fn raw<F, A>(act: A) -> SocketAddr
where
    A: Fn(usize, TcpStream) -> F + 'static,
    F: Future<Output = ()> + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::task::spawn_local(async move {
        for number in 1.. {
            let (socket, _) = listener.accept().await.unwrap();
            tokio::task::spawn_local(act(number, socket));
        }
    });
    address
}

/// Reads until the head of a request, or of a response, is complete; `None` at the end.
pub(crate) async fn read_head(socket: &mut TcpStream) -> Option<String> {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        let byte = socket.read_u8().await.ok()?;
        text.push(byte);
    }
    Some(String::from_utf8(text).unwrap())
}

/// An address that refuses connections.
pub(crate) async fn closed() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

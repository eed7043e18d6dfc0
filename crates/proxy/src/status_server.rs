//! Metrics and a short status over HTTP, for this machine only: on a loopback port for scrapers,
//! and on a Unix socket for `tacit status` while the control plane is away.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tacit_decide::offline::Freshness;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixListener;
use tokio::sync::Semaphore;

use crate::control::Control;
use crate::error::NodeError;
use crate::log;
use crate::status_client::{NodeStatus, NodeWorkload};

/// Scrapers and people at once.
const MAX_CONNECTIONS: usize = 32;
/// How long a connection may be silent.
const IDLE: Duration = Duration::from_secs(30);

type Body = http_body_util::Full<bytes::Bytes>;

/// Binds the address; port 0 lets the kernel choose.
pub(crate) fn bind(at: SocketAddr) -> Result<TcpListener, NodeError> {
    let told = |e: std::io::Error| {
        let fix = "another program, or another mesh of this machine, listens there: stop it \
                   (`tacit down --mesh NAME`), or give this node others: --port-base 16000";
        NodeError::machine(format!("serve metrics on {at}"), e, fix)
    };
    let listener = TcpListener::bind(at).map_err(told)?;
    listener.set_nonblocking(true).map_err(told)?;
    Ok(listener)
}

/// Serves for ever, on both.
pub(crate) async fn serve(control: Rc<Control>, listener: TcpListener, local: UnixListener) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return log::warn("status", error),
    };
    let places = Rc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let (control, places) = (control.clone(), places.clone());
        let failed = tokio::select! {
            accepted = listener.accept() => {
                accepted.map(|(stream, _)| spawn(control, places, stream)).is_err()
            }
            accepted = local.accept() => {
                accepted.map(|(stream, _)| spawn(control, places, stream)).is_err()
            }
        };
        if failed {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

fn spawn<S>(control: Rc<Control>, places: Rc<Semaphore>, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    tokio::task::spawn_local(async move {
        let Ok(_place) = places.try_acquire() else {
            return;
        };
        let service = service_fn(move |request| {
            let response = answer(&control, &request);
            async move { Ok::<_, Infallible>(response) }
        });
        let mut server = http1::Builder::new();
        server.timer(TokioTimer::new()).header_read_timeout(IDLE);
        // What breaks here concerns this one scraper.
        let _ended = server.serve_connection(TokioIo::new(stream), service).await;
    });
}

fn answer(control: &Control, request: &Request<Incoming>) -> Response<Body> {
    if request.method() != Method::GET {
        return plain(
            StatusCode::METHOD_NOT_ALLOWED,
            "text/plain",
            "only GET\n".into(),
        );
    }
    match request.uri().path() {
        "/metrics" => match control.shared.events.text() {
            Ok(text) => {
                let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                plain(StatusCode::OK, kind, text)
            }
            Err(error) => failed(&error),
        },
        "/status" => match serde_json::to_string_pretty(&status(control)) {
            Ok(text) => plain(StatusCode::OK, "application/json", text),
            Err(error) => failed(&error),
        },
        _ => plain(
            StatusCode::NOT_FOUND,
            "text/plain",
            "try /metrics or /status\n".into(),
        ),
    }
}

fn failed(error: &dyn std::fmt::Display) -> Response<Body> {
    plain(
        StatusCode::INTERNAL_SERVER_ERROR,
        "text/plain",
        format!("{error}\n"),
    )
}

fn plain(status: StatusCode, kind: &'static str, text: String) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static(kind),
    );
    response
}

fn status(control: &Control) -> NodeStatus {
    let ready = control.ready.borrow();
    let hosted = control.hosted.borrow();
    let workloads = hosted.values().map(|hosted| NodeWorkload {
        name: hosted.local.name.to_string(),
        address: hosted.local.address(),
        identity: hosted.local.identity.to_string(),
        ready: ready
            .get(&hosted.local.name)
            .into_iter()
            .flatten()
            .copied()
            .collect(),
    });
    let (configuration, left) = match control.shared.freshness() {
        Freshness::Fresh => ("Fresh", None),
        Freshness::Stale { left } => ("Stale", Some(left.as_secs())),
        Freshness::Expired => ("Expired", Some(0)),
    };
    NodeStatus {
        node: control.settings.node.to_string(),
        generation: control.shared.current().generation.to_string(),
        configuration: configuration.to_owned(),
        seconds_until_denied: left,
        control_connected: control.client.borrow().is_some(),
        connections: control.shared.connections(),
        workloads: workloads.collect(),
    }
}

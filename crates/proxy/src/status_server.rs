//! Metrics and a short status over HTTP, for this machine only.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use tacit_decide::offline::Freshness;
use tokio::sync::Semaphore;

use crate::control::Control;
use crate::error::NodeError;
use crate::log;

/// Scrapers and people at once.
const MAX_CONNECTIONS: usize = 32;
/// How long a connection may be silent.
const IDLE: Duration = Duration::from_secs(30);

type Body = http_body_util::Full<bytes::Bytes>;

/// What `/status` answers.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    node: String,
    generation: String,
    /// `Fresh`, `Stale` or `Expired`.
    configuration: &'static str,
    control_connected: bool,
    connections: usize,
    workloads: Vec<Workload>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Workload {
    name: String,
    address: std::net::IpAddr,
    identity: String,
    ready: Vec<u16>,
}

/// Binds the address; port 0 lets the kernel choose.
pub(crate) fn bind(at: SocketAddr) -> Result<TcpListener, NodeError> {
    let told = |e: std::io::Error| {
        let fix = "another process uses the port; choose another one for metrics";
        NodeError::machine(format!("serve metrics on {at}"), e, fix)
    };
    let listener = TcpListener::bind(at).map_err(told)?;
    listener.set_nonblocking(true).map_err(told)?;
    Ok(listener)
}

/// Serves for ever.
pub(crate) async fn serve(control: Rc<Control>, listener: TcpListener) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return log::warn("status", error),
    };
    let places = Rc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (control, places) = (control.clone(), places.clone());
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
}

fn metrics_text(control: &Control) -> Result<String, std::fmt::Error> {
    let events = &control.shared.events;
    if let Some(log) = &control.shared.decisions {
        events.metrics.decisions_lost.set(log.lost());
    }
    events.text()
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
        "/metrics" => match metrics_text(control) {
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

fn status(control: &Control) -> Status {
    let ready = control.ready.borrow();
    let hosted = control.hosted.borrow();
    let workloads = hosted.values().map(|hosted| Workload {
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
    Status {
        node: control.settings.node.to_string(),
        generation: control.shared.current().generation.to_string(),
        configuration: match control.shared.freshness() {
            Freshness::Fresh => "Fresh",
            Freshness::Stale { .. } => "Stale",
            Freshness::Expired => "Expired",
        },
        control_connected: control.client.borrow().is_some(),
        connections: control.shared.connections(),
        workloads: workloads.collect(),
    }
}

//! The admin API: HTTP with JSON, over the Unix socket and over TLS, for the command line.

mod routes;
pub mod types;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tacit_compiler::grants::Caller;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::Semaphore;

use crate::error::ControlError;
use crate::shared::Shared;
use crate::{listen, who};
use types::Problem;

/// Local connections at once: people and scripts; more wait their turn.
const CONNECTIONS: usize = 256;
/// A client that sends no request in this time only holds a place.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// After an error of the listener itself, for example no file descriptors left.
const PAUSE: Duration = Duration::from_millis(100);

/// Makes the socket; anybody may connect, and each request is judged by who asks.
pub(crate) fn bind(path: &Path) -> Result<UnixListener, ControlError> {
    let failed = |error| ControlError::Socket {
        path: path.to_path_buf(),
        error,
    };
    match std::fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666)).map_err(failed)?;
    Ok(listener)
}

/// Serves the socket for ever.
pub(crate) async fn serve_local(shared: Arc<Shared>, listener: UnixListener) -> ControlError {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else {
            return ControlError::Stopped {
                part: "the admin API",
                why: "no places".into(),
            };
        };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let shared = shared.clone();
        tokio::spawn(async move {
            local_connection(shared, stream).await;
            drop(place);
        });
    }
}

async fn local_connection(shared: Arc<Shared>, stream: UnixStream) {
    let caller = who::local(&stream);
    connection(shared, stream, caller).await;
}

/// Serves people with certificates for ever.
pub(crate) async fn serve_remote(shared: Arc<Shared>, listener: TcpListener) -> ControlError {
    let of_connection = shared.clone();
    listen::accept(shared, listener, move |stream| {
        let shared = of_connection.clone();
        async move {
            let caller = who::remote(stream.peer());
            connection(shared, stream, caller).await;
        }
    })
    .await;
    ControlError::Stopped {
        part: "the admin API over TLS",
        why: "its listener ended".into(),
    }
}

async fn connection<S>(shared: Arc<Shared>, stream: S, caller: Result<Caller, Problem>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let (shared, caller) = (shared.clone(), caller.clone());
        async move { Ok::<_, std::convert::Infallible>(answer(&shared, caller, request).await) }
    });
    let mut server = auto::Builder::new(TokioExecutor::new());
    server
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT);
    server
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(HEADER_TIMEOUT);
    // A client that breaks off has nobody left to be told.
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(
    shared: &Shared,
    caller: Result<Caller, Problem>,
    request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    let outcome = match caller {
        Ok(caller) => routes::route(shared, caller, request).await,
        Err(problem) => Err(problem),
    };
    let (status, body) = match outcome {
        Ok(body) => (200, body),
        Err(problem) => (
            problem.kind.status(),
            serde_json::to_vec(&problem).unwrap_or_default(),
        ),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() =
        http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    let json = http::HeaderValue::from_static("application/json");
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, json);
    response
}

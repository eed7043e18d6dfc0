//! Serves HTTP on one connection with hyper: protocol detection, limits, draining, upgrades.

use std::cell::RefCell;
use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;

use http::{Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tacit_model::event::Fault;
use tacit_transport::{Dormant, Stream};
use tokio::sync::watch;

use crate::executor::LocalExecutor;
use crate::flight::Flights;
use crate::limits;
use crate::response_body::ResponseBody;
use crate::strict::{Notes, Strict};

/// What goes on after a 101, until both sides are done.
pub(crate) type Afterwards = Pin<Box<dyn Future<Output = ()>>>;

/// Where a request leaves what is to be done after its 101.
pub(crate) type Upgrades = RefCell<Option<Afterwards>>;

/// How a connection ended.
pub(crate) enum Served {
    /// The caller closed it, or we did after a drain.
    Closed,
    /// What arrived was not HTTP, or broke its rules; an HTTP/1 caller was answered 400.
    NotHttp(String),
}

/// Ends when a connection must be closed at once, with the reason.
pub type Stop = Pin<Box<dyn Future<Output = Arc<str>>>>;

/// Serves requests on `stream` with `answer` until its caller closes it, or `drain` turns true
/// and the requests under way are done, or `stop` ends. Ends after the last event of `flights`.
pub(crate) async fn serve<F, A>(
    stream: Stream,
    flights: &Rc<Flights>,
    upgrades: &Upgrades,
    (mut drain, stop): (watch::Receiver<bool>, Stop),
    answer: A,
) -> Served
where
    A: Fn(Request<Incoming>) -> F,
    F: Future<Output = Response<ResponseBody>> + 'static,
{
    let notes = Arc::new(Notes::default());
    let service = service_fn(|request| {
        let (answered, notes) = (answer(request), Arc::clone(&notes));
        async move {
            let response = answered.await;
            if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                notes.switch();
            }
            Ok::<_, Infallible>(response)
        }
    });
    let builder = builder(flights);
    let stream = TokioIo::new(Strict::new(stream, Arc::clone(&notes)));
    let connection = builder.serve_connection_with_upgrades(stream, service);
    let served = async {
        let mut connection = pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = Dormant::new(time_to_close(&mut drain, flights)) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        let afterwards = upgrades.borrow_mut().take();
        if let Some(afterwards) = afterwards {
            afterwards.await;
        }
        ended
    };
    let ended = tokio::select! {
        ended = served => ended,
        reason = Dormant::new(stop) => {
            flights.close(Fault::Reset, &reason);
            return Served::Closed;
        }
    };
    flights.close(Fault::ClientGone, "the caller went away");
    match ended.err().and_then(|error| not_http(&*error)) {
        Some(reason) => Served::NotHttp(notes.broken().map_or(reason, ToOwned::to_owned)),
        None => Served::Closed,
    }
}

/// Ends when no further request shall be taken.
///
/// That is when the worker drains; but an HTTP/1 connection that is closed between two requests
/// may close under the next one. So each answer says `connection: close` while the worker drains,
/// and only a connection that still lies unused after a while is closed from our side. It is also
/// when the first request does not come: hyper's own limit begins with its first byte.
async fn time_to_close(drain: &mut watch::Receiver<bool>, flights: &Flights) {
    let drains = async {
        // Never ends if nobody can ask any more.
        if drain.wait_for(|drain| *drain).await.is_err() {
            std::future::pending::<()>().await;
        }
        if flights.spoken() != Some(Version::HTTP_2) {
            tokio::time::sleep(limits::DRAIN_UNUSED).await;
        }
    };
    let silent = async {
        tokio::time::sleep(limits::KEEP_ALIVE).await;
        if flights.spoken().is_some() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = drains => {}
        () = silent => {}
    }
}

fn builder(flights: &Rc<Flights>) -> auto::Builder<LocalExecutor> {
    let mut builder = auto::Builder::new(LocalExecutor::sweeping(Rc::clone(flights)));
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::KEEP_ALIVE)
        .max_headers(limits::HEADERS)
        .max_buf_size(limits::HEADER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits::STREAMS)
        .max_header_list_size(limits::HEADER_LIST_BYTES)
        .max_pending_accept_reset_streams(limits::PENDING_RESETS)
        .max_local_error_reset_streams(limits::LOCAL_RESETS)
        .initial_stream_window_size(limits::STREAM_WINDOW)
        .initial_connection_window_size(limits::CONNECTION_WINDOW);
    builder
}

/// The reason, if the caller broke the protocol (and not the connection).
fn not_http(error: &(dyn Error + Send + Sync + 'static)) -> Option<String> {
    let error = error.downcast_ref::<hyper::Error>()?;
    let h2 = error
        .source()
        .and_then(|source| source.downcast_ref::<h2::Error>());
    let broken = error.is_parse() || h2.is_some_and(|error| error.is_library());
    broken.then(|| match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    })
}

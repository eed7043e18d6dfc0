//! Makes the checks that `decide` asks for: sessions to the unreachable, and HTTP probes.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tacit_decide::health::{ProbeAsk, ProbeKind};
use tacit_transport::hbone::OpenRequest;
use tacit_transport::{DialError, DialFault, Stream};

use super::context::{Context, row};
use super::local::Local;
use crate::control::Control;
use crate::log;
use crate::worker::Order;

/// Between two looks for due probes, as `decide` expects.
const LOOK: Duration = Duration::from_millis(100);
/// How long a session or an answer may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// A check and on whose behalf it is made.
#[derive(Debug)]
pub(crate) struct ProbeOrder {
    ask: ProbeAsk,
    local: Arc<Local>,
}

/// Hands due probes to the workers, for ever. Without a workload of this node there is nobody
/// who calls, so nothing is checked.
pub(crate) async fn watch(control: Rc<Control>) {
    loop {
        tokio::time::sleep(LOOK).await;
        let prober = control
            .hosted
            .borrow()
            .values()
            .next()
            .map(|hosted| hosted.local.clone());
        let (Some(local), Ok(snapshot)) = (prober, control.shared.open()) else {
            continue;
        };
        for ask in control
            .shared
            .state
            .due_probes(&snapshot, control.shared.now())
        {
            let local = local.clone();
            control
                .workers
                .to_next(Order::Probe(ProbeOrder { ask, local }))
                .await;
        }
    }
}

/// What a check found.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Ill,
    /// Nothing about the endpoint: we could not ask, or the session alone is of interest.
    Nothing,
    /// Tacit itself refused the call: access of the callee, not health.
    Refused(String),
    Well,
}

/// Makes one check and tells the state.
pub(crate) async fn probe(context: Rc<Context>, order: ProbeOrder) {
    let ProbeOrder { ask, local } = order;
    let (state, now) = (&context.shared.state, || context.shared.now());
    match check(&context, &ask, &local).await {
        Found::Nothing => {}
        Found::Ill => state.on_probe(&ask, false, now()),
        Found::Well => state.on_probe(&ask, true, now()),
        Found::Refused(why) => {
            context.shared.events.metrics.probes_refused.inc();
            if state.on_probe_refused(&ask) {
                let (endpoint, identity) = (ask.endpoint, &local.identity);
                log::warn(
                    "health",
                    format!(
                        "the health probe of {endpoint} as {identity} is refused ({why}) and says \
                         nothing: let an AccessPolicy allow it, or remove health.probe of the \
                         FailoverPolicy"
                    ),
                );
            }
        }
    }
}

async fn check(context: &Context, ask: &ProbeAsk, local: &Arc<Local>) -> Found {
    let Ok(snapshot) = context.shared.open() else {
        return Found::Nothing;
    };
    let Some(prober) = row(&snapshot, local) else {
        return Found::Nothing;
    };
    let permit = ask.permit(&snapshot, prober);
    let request = OpenRequest {
        host: Some(ask.workload.node.clone()),
        connect_timeout: PATIENCE,
        answer_timeout: PATIENCE,
        headers: Vec::new(),
    };
    let opened = context.pool.open(&local.source(), permit, &request).await;
    match (&ask.kind, opened) {
        (ProbeKind::Session, opened) => session_stands(&opened),
        (ProbeKind::Http { path, .. }, Ok(stream)) => {
            let answer = get(stream, path, ask.endpoint.to_string());
            let answer = tokio::time::timeout(PATIENCE, answer).await;
            answer.unwrap_or(Found::Ill)
        }
        (ProbeKind::Http { .. }, Err(error)) => not_opened(&error.fault),
    }
}

/// An answer of any kind, also a refusal, came over a session that stands.
fn session_stands(opened: &Result<Stream, DialError>) -> Found {
    match opened {
        Ok(_) => Found::Well,
        Err(error) => match error.fault {
            DialFault::PeerRefused { .. } => Found::Well,
            DialFault::NoIdentity => Found::Nothing,
            DialFault::ConnectFailed
            | DialFault::SessionLost
            | DialFault::Timeout(_)
            | DialFault::Tls => Found::Ill,
        },
    }
}

/// What it means for an HTTP probe that no stream came about.
fn not_opened(fault: &DialFault) -> Found {
    match fault {
        DialFault::NoIdentity => Found::Nothing,
        DialFault::PeerRefused {
            status: status @ (401 | 403 | 429),
            ..
        } => Found::Refused(format!("the connection was answered {status}")),
        DialFault::PeerRefused { .. }
        | DialFault::ConnectFailed
        | DialFault::SessionLost
        | DialFault::Timeout(_)
        | DialFault::Tls => Found::Ill,
    }
}

/// Well if the answer to `GET path` is 2xx.
async fn get(stream: Stream, path: &str, host: String) -> Found {
    let request = http::Request::get(path)
        .header(http::header::HOST, host)
        .header(http::header::USER_AGENT, "tacit-probe")
        .body(Empty::<bytes::Bytes>::new());
    let (Ok(request), Ok((mut sender, connection))) =
        (request, http1::handshake(TokioIo::new(stream)).await)
    else {
        return Found::Ill;
    };
    tokio::select! {
        // Answers arrive only while the connection is driven; it ends only by breaking.
        _broken = connection => Found::Ill,
        answer = sender.send_request(request) => {
            answer.map_or(Found::Ill, |answer| answered(answer.status(), answer.headers()))
        }
    }
}

/// The callee's node marks its own refusals; an application cannot.
fn answered(status: http::StatusCode, headers: &http::HeaderMap) -> Found {
    match headers.get(tacit_http::headers::REFUSAL) {
        Some(why) => Found::Refused(String::from_utf8_lossy(why.as_bytes()).into_owned()),
        None if status.is_success() => Found::Well,
        None => Found::Ill,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_application_s_own_answer_tells_of_its_health() {
        let of = |status: u16, refusal: Option<&str>| {
            let mut headers = http::HeaderMap::new();
            if let Some(why) = refusal {
                let value = http::HeaderValue::from_str(why).expect("text");
                headers.insert(tacit_http::headers::REFUSAL, value);
            }
            answered(
                http::StatusCode::from_u16(status).expect("a status"),
                &headers,
            )
        };
        assert_eq!(of(200, None), Found::Well);
        assert_eq!(of(204, None), Found::Well);
        for ill in [302, 403, 404, 429, 500, 503] {
            assert_eq!(of(ill, None), Found::Ill, "{ill} by the application");
        }
        let refused = || Found::Refused("no Allow matches".into());
        for status in [403, 429, 503] {
            assert_eq!(of(status, Some("no Allow matches")), refused(), "{status}");
        }
    }
}

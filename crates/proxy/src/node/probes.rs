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

/// Makes one check and tells the state.
pub(crate) async fn probe(context: Rc<Context>, order: ProbeOrder) {
    let ProbeOrder { ask, local } = order;
    let Some(is_well) = is_well(&context, &ask, &local).await else {
        return;
    };
    context
        .shared
        .state
        .on_probe(&ask, is_well, context.shared.now());
}

/// `None`: nothing was learnt about the endpoint.
async fn is_well(context: &Context, ask: &ProbeAsk, local: &Arc<Local>) -> Option<bool> {
    let snapshot = context.shared.open().ok()?;
    let permit = ask.permit(&snapshot, row(&snapshot, local)?);
    let request = OpenRequest {
        host: Some(ask.workload.node.clone()),
        connect_timeout: PATIENCE,
        answer_timeout: PATIENCE,
        headers: Vec::new(),
    };
    let opened = context.pool.open(&local.source(), permit, &request).await;
    match &ask.kind {
        ProbeKind::Session => session_stands(&opened),
        ProbeKind::Http { path, .. } => match opened {
            Ok(stream) => {
                let host = ask.endpoint.to_string();
                let answer = tokio::time::timeout(PATIENCE, get(stream, path, host));
                Some(answer.await.is_ok_and(|well| well))
            }
            Err(DialError {
                fault: DialFault::NoIdentity,
                ..
            }) => None,
            Err(_) => Some(false),
        },
    }
}

/// An answer of any kind, also a refusal, came over a session that stands.
fn session_stands(opened: &Result<Stream, DialError>) -> Option<bool> {
    match opened {
        Ok(_) => Some(true),
        Err(error) => match error.fault {
            DialFault::PeerRefused { .. } => Some(true),
            DialFault::NoIdentity => None,
            DialFault::ConnectFailed
            | DialFault::SessionLost
            | DialFault::Timeout(_)
            | DialFault::Tls => Some(false),
        },
    }
}

/// True if the answer to `GET path` is 2xx.
async fn get(stream: Stream, path: &str, host: String) -> bool {
    let request = http::Request::get(path)
        .header(http::header::HOST, host)
        .header(http::header::USER_AGENT, "tacit-probe")
        .body(Empty::<bytes::Bytes>::new());
    let (Ok(request), Ok((mut sender, connection))) =
        (request, http1::handshake(TokioIo::new(stream)).await)
    else {
        return false;
    };
    tokio::select! {
        // Answers arrive only while the connection is driven; it ends only by breaking.
        _broken = connection => false,
        answer = sender.send_request(request) => {
            answer.is_ok_and(|answer| answer.status().is_success())
        }
    }
}

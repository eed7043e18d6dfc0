//! Accepts connections of one workload and deals each once to a worker, where it stays.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use super::context::Context;
use super::local::Local;
use super::{inbound, outbound};
use crate::log;
use crate::worker::{Dealt, Deck, Role};

/// Pause after a failed accept: without it, a lack of descriptors would burn a core.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts until the workload ends or the worker drains.
pub(crate) async fn run(
    context: Rc<Context>,
    deck: Rc<Deck>,
    local: Arc<Local>,
    role: Role,
    listener: std::net::TcpListener,
) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            log::warn("accept", format!("{role:?} of {}: {error}", local.name));
            return;
        }
    };
    let mut draining = context.draining.subscribe();
    tokio::select! {
        () = local.stopped() => {}
        _ended = draining.wait_for(|draining| *draining) => {}
        () = accept_all(&context, &deck, &local, role, &listener) => {}
    }
}

async fn accept_all(
    context: &Rc<Context>,
    deck: &Deck,
    local: &Arc<Local>,
    role: Role,
    listener: &TcpListener,
) {
    let mut said = false;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => match deck.deal(&context.shared, local, role, stream) {
                Dealt::Here(stream) => serve(context, local.clone(), role, stream),
                Dealt::Elsewhere => {}
            },
            Err(error) => {
                if !said {
                    said = true;
                    log::warn("accept", format!("{role:?} of {}: {error}", local.name));
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Serves a connection that another worker accepted.
pub(crate) fn serve_dealt(
    context: &Rc<Context>,
    local: Arc<Local>,
    role: Role,
    stream: std::net::TcpStream,
) {
    match TcpStream::from_std(stream) {
        Ok(stream) => serve(context, local, role, stream),
        Err(error) => log::warn("accept", format!("{role:?} of {}: {error}", local.name)),
    }
}

/// Serves one connection on this worker, in a task of its own.
fn serve(context: &Rc<Context>, local: Arc<Local>, role: Role, stream: TcpStream) {
    let Some(place) = context.shared.enter() else {
        return;
    };
    // Without it, small messages wait; a socket that is broken already says so when it is read.
    let _set = stream.set_nodelay(true);
    let context = context.clone();
    context.live.set(context.live.get() + 1);
    tokio::task::spawn_local(async move {
        match role {
            Role::Outbound => outbound::serve(&context, &local, stream).await,
            Role::Hbone => inbound::serve_session(&context, &local, stream).await,
            Role::Plain => inbound::serve_redirected(&context, &local, stream).await,
            Role::Published { target } => {
                inbound::serve_published(&context, &local, target, stream).await;
            }
        }
        context.live.set(context.live.get() - 1);
        context.shared.leave(place);
    });
}

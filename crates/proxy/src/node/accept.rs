//! Accepts connections of one workload and deals each once to a worker, where it stays.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::unix::AsyncFd;

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
    listener: TcpListener,
) {
    let listener = match AsyncFd::new(listener) {
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
    listener: &AsyncFd<TcpListener>,
) {
    let mut said = false;
    loop {
        match accept_one(listener).await {
            Ok(stream) => match deck.deal(&context.shared, local, role, stream) {
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

async fn accept_one(listener: &AsyncFd<TcpListener>) -> io::Result<TcpStream> {
    loop {
        let mut ready = listener.readable().await?;
        match ready.try_io(|listener| listener.get_ref().accept()) {
            Ok(accepted) => return accepted.map(|(stream, _)| stream),
            Err(_would_block) => {}
        }
    }
}

/// Serves one connection on this worker, in a task of its own.
pub(crate) fn serve(context: &Rc<Context>, local: Arc<Local>, role: Role, stream: TcpStream) {
    let Some(place) = context.shared.enter() else { return };
    let stream = match into_tokio(stream) {
        Ok(stream) => stream,
        Err(error) => {
            log::warn("accept", format!("{role:?} of {}: {error}", local.name));
            context.shared.leave(place);
            return;
        }
    };
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

fn into_tokio(stream: TcpStream) -> io::Result<tokio::net::TcpStream> {
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    tokio::net::TcpStream::from_std(stream)
}

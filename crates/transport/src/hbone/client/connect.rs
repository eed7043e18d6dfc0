//! Makes a new session for the pool: TCP, TLS, HTTP/2, in a task that all waiting callers share.

use std::rc::Rc;
use std::time::Duration;

use tacit_model::NodeName;

use super::held::Held;
use super::{Inner, Key, OpenRequest, SessionChange, heartbeat};
use crate::certificate::Validity;
use crate::dial::{self, DialError, DialFault, Phase, Source};
use crate::hbone::session::{self, Secured, TlsFault};
use crate::hbone::settings;

/// Starts the making of a session; who waits for it is told by the target.
pub(super) fn start(pool: &Rc<Inner>, key: Key, from: Source, request: &OpenRequest) {
    let pool = Rc::clone(pool);
    let host = request.host.clone();
    let timeout = request.connect_timeout;
    // Not a part of the first caller: if that one goes away, the others still wait.
    tokio::task::spawn_local(async move {
        let made = make(&pool, &key, &from, host, timeout).await;
        finish(&pool, &key, made);
    });
}

async fn make(
    pool: &Rc<Inner>,
    key: &Key,
    from: &Source,
    host: Option<NodeName>,
    timeout: Duration,
) -> Result<Rc<Held>, DialError> {
    if pool.draining.get() {
        return Err(DialError::new(
            DialFault::SessionLost,
            key.peer,
            "this proxy is draining",
        ));
    }
    let entry = pool.store.entry(&key.source);
    let entry =
        entry.ok_or_else(|| DialError::new(DialFault::NoIdentity, key.peer, &key.source))?;
    if !entry.validity().holds_now() {
        let why = format!("the certificate of {} has ended", key.source);
        return Err(DialError::new(DialFault::NoIdentity, key.peer, why));
    }
    let tcp = dial::connect(&*from.sockets, key.peer, timeout).await?;
    session::set_options(&tcp)
        .map_err(|error| DialError::new(DialFault::ConnectFailed, key.peer, error))?;
    let limit = pool.settings.handshake_timeout;
    let handshake = session::connect(tcp, &entry.configs, Rc::clone(&pool.wake));
    let secured = tokio::time::timeout(limit, handshake).await.map_err(|_| {
        let why = format!("no TLS session after {limit:?}");
        DialError::new(DialFault::Timeout(Phase::Handshake), key.peer, why)
    })?;
    let secured = secured.map_err(|fault| match fault {
        TlsFault::Closed(why) => DialError::new(DialFault::ConnectFailed, key.peer, why),
        TlsFault::Refused(why) => DialError::new(DialFault::Tls, key.peer, why),
    })?;
    if secured.peer != key.expected {
        let why = format!("it is {}, expected {}", secured.peer, key.expected);
        return Err(DialError::new(DialFault::Tls, key.peer, why));
    }
    let certificates = entry.validity().and(secured.validity);
    begin(pool, key, host, secured, certificates).await
}

/// Begins HTTP/2 and the task that moves the session.
async fn begin(
    pool: &Rc<Inner>,
    key: &Key,
    host: Option<NodeName>,
    secured: Secured,
    certificates: Validity,
) -> Result<Rc<Held>, DialError> {
    let lost =
        |error: &dyn std::fmt::Display| DialError::new(DialFault::SessionLost, key.peer, error);
    let handshake = settings::client().handshake(secured.io).await;
    let (sender, mut connection) = handshake.map_err(|error| lost(&error))?;
    let pings = connection
        .ping_pong()
        .ok_or_else(|| lost(&"it cannot be watched"))?;
    let session = Held::new(key.clone(), host, secured.live, sender, pings, certificates);
    let session = Rc::new(session);
    let weak = (Rc::downgrade(pool), Rc::downgrade(&session));
    let driver = tokio::task::spawn_local(async move {
        let broken = connection.await.is_err();
        if let (Some(pool), Some(session)) = (weak.0.upgrade(), weak.1.upgrade()) {
            ended(&pool, &session, broken);
        }
    });
    session.set_driver(driver.abort_handle());
    Ok(session)
}

fn finish(pool: &Rc<Inner>, key: &Key, made: Result<Rc<Held>, DialError>) {
    let mut targets = pool.targets.borrow_mut();
    let Some(target) = targets.get_mut(key) else {
        // The source was closed meanwhile.
        if let Ok(session) = made {
            session.abandon();
        }
        return;
    };
    target.connecting = false;
    let waiting = std::mem::take(&mut target.waiting);
    if let Ok(session) = &made {
        target.sessions.push(Rc::clone(session));
    } else if target.sessions.is_empty() {
        targets.remove(key);
    }
    drop(targets);
    if let Ok(session) = &made {
        pool.emit(session, SessionChange::New);
        heartbeat::watch(pool);
    }
    for tell in waiting {
        let told = made.as_ref().map_err(Clone::clone).map(|session| {
            let room = session.has_room(pool.settings.streams_per_session);
            room.then(|| (Rc::clone(session), session.take()))
        });
        // Who stopped waiting needs no answer, and its place is free again.
        drop(tell.send(told));
    }
}

/// The session's driver has finished on its own.
fn ended(pool: &Inner, session: &Rc<Held>, broken: bool) {
    pool.remove(session);
    if session.over.replace(true) {
        return;
    }
    let lost = broken || (session.active() > 0 && !session.is_retired());
    session.retire();
    let change = if lost {
        SessionChange::LostBroken
    } else {
        SessionChange::Ended
    };
    pool.emit(session, change);
    if lost {
        heartbeat::suspect_neighbours(pool, session);
    }
}

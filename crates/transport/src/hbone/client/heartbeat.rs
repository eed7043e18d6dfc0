//! Watches the pool's sessions: pings the busy ones, breaks the silent ones, releases the idle.

use std::rc::{Rc, Weak};
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::time::Instant;

use super::held::{Beat, Held};
use super::{Heartbeat, Inner, SessionChange};

/// Between looks at a session whose ping is not answered yet.
const LOOK: Duration = Duration::from_millis(100);
/// Longest sleep: bounds how long this task outlives its pool.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// This late means that this thread itself stood still; that is not the peers' silence.
const LATE: Duration = Duration::from_millis(200);

/// What to do about a session.
enum Finding {
    /// Nothing until then.
    Fine(Instant),
    /// It has had no stream for long.
    Idle,
    Silent,
}

/// Starts the watch, if it does not run yet; else wakes it.
pub(super) fn watch(pool: &Rc<Inner>) {
    if pool.watching.replace(true) {
        pool.wake.notify_one();
        return;
    }
    let weak = Rc::downgrade(pool);
    let wake = Rc::clone(&pool.wake);
    tokio::task::spawn_local(async move {
        let mut planned = Instant::now();
        let mut forgive_until = planned;
        while let Some(next) = round(&weak, planned, &mut forgive_until) {
            planned = next;
            tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                () = wake.notified() => planned = Instant::now(),
            }
        }
    });
}

/// Looks at every session once; `None` when the pool is gone.
fn round(pool: &Weak<Inner>, planned: Instant, forgive_until: &mut Instant) -> Option<Instant> {
    let pool = pool.upgrade()?;
    let now = Instant::now();
    if now > planned + LATE {
        *forgive_until = now + pool.settings.heartbeat.interval / 2;
    }
    let forgiving = now < *forgive_until;
    let mut next = now + LONGEST_SLEEP;
    for session in all(&pool) {
        match look(&pool, &session, now) {
            Finding::Fine(at) => next = next.min(at),
            Finding::Silent if forgiving => next = next.min(*forgive_until),
            Finding::Silent => lose(&pool, &session),
            Finding::Idle => {
                session.retire();
                pool.remove(&session);
            }
        }
    }
    Some(next.max(now + Duration::from_millis(1)))
}

fn all(pool: &Inner) -> Vec<Rc<Held>> {
    let targets = pool.targets.borrow();
    targets
        .values()
        .flat_map(|target| target.sessions.iter().map(Rc::clone))
        .collect()
}

fn look(pool: &Inner, session: &Held, now: Instant) -> Finding {
    let settings = &pool.settings.heartbeat;
    let mut beat = session.beat.borrow_mut();
    if let Some(since) = beat.waiting_since {
        let mut context = Context::from_waker(Waker::noop());
        if beat.pings.poll_pong(&mut context).is_pending() {
            let heard = session.live.last_read();
            let silent =
                now >= heard + settings.lost_after && now >= since + settings.lost_after * 3 / 4;
            if silent {
                return Finding::Silent;
            }
            beat.missed |= now >= since.max(heard) + settings.interval;
            return Finding::Fine(now + LOOK);
        }
        beat.waiting_since = None;
        if std::mem::take(&mut beat.missed) {
            pool.emit(session, SessionChange::Alive);
        }
    }
    let idle_since = session.idle_since(now);
    if let Some(since) = idle_since
        && now >= since + pool.settings.idle_release
    {
        return Finding::Idle;
    }
    let next_ping = next_ping(settings, session, &beat, now);
    if next_ping.is_some_and(|at| at <= now) {
        beat.suspected = false;
        beat.last_sent = now;
        // It fails only when the session is ending, which its driver reports.
        if beat.pings.send_ping(h2::Ping::opaque()).is_ok() {
            beat.waiting_since = Some(now);
        }
        return Finding::Fine(now + LOOK);
    }
    let busy = now < session.live.last_traffic() + settings.busy;
    session.live.asleep.set(!busy);
    let release = idle_since.map_or(now + LONGEST_SLEEP, |at| at + pool.settings.idle_release);
    Finding::Fine(next_ping.map_or(release, |at| at.min(release)))
}

/// When the next ping is due, if one is.
fn next_ping(settings: &Heartbeat, session: &Held, beat: &Beat, now: Instant) -> Option<Instant> {
    if beat.suspected {
        return Some(now);
    }
    if now < session.live.last_traffic() + settings.busy {
        return Some(beat.last_sent + settings.interval);
    }
    let quiet = beat.last_sent.max(session.live.last_read()) + settings.quiet_interval;
    (session.active() > 0).then_some(quiet)
}

fn lose(pool: &Inner, session: &Rc<Held>) {
    pool.remove(session);
    session.abandon();
    pool.emit(session, SessionChange::LostSilent);
    suspect_neighbours(pool, session);
}

/// A lost session says something about the others to the same machine: ask them at once.
pub(super) fn suspect_neighbours(pool: &Inner, lost: &Held) {
    for session in all(pool) {
        let same_host = lost.host.is_some() && session.host == lost.host;
        if same_host || session.key.peer.ip() == lost.key.peer.ip() {
            session.beat.borrow_mut().suspected = true;
        }
    }
    pool.wake.notify_one();
}

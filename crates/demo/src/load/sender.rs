//! Sends requests at a rate, over connections that are used again.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::Full;
use serde::Deserialize;
use tokio::sync::{Semaphore, watch};

use super::LoadArgs;
use super::phase::{Begun, Phase};
use super::report::How;
use crate::client::{Answer, Connection, Failure, Target};
use crate::sample::ID_HEADER;

/// Idle connections that are kept; more are closed.
const MAX_IDLE: usize = 256;

pub(super) struct Sender {
    args: LoadArgs,
    target: Target,
    idle: Mutex<VecDeque<Connection>>,
    opened: AtomicUsize,
}

/// What the sample application answers; another application's answer has none of it.
#[derive(Default, Deserialize)]
struct Said {
    id: Option<String>,
    zone: Option<String>,
}

impl Sender {
    pub(super) fn new(args: LoadArgs, target: Target) -> Arc<Self> {
        Arc::new(Self {
            args,
            target,
            idle: Mutex::default(),
            opened: AtomicUsize::new(0),
        })
    }

    /// Starts requests until their number is reached; returns when the last has ended.
    pub(super) async fn pace(
        self: Arc<Self>,
        rate: watch::Receiver<u32>,
        phase: watch::Receiver<Arc<Phase>>,
    ) {
        let places = Arc::new(Semaphore::new(self.args.concurrency));
        let mut due = Instant::now();
        let mut number = 0;
        while self.args.requests.is_none_or(|all| number < all) {
            number += 1;
            let rate = *rate.borrow();
            match Duration::from_secs(1).checked_div(rate) {
                Some(pause) => due += pause,
                None => due = Instant::now(),
            }
            tokio::time::sleep_until(due.into()).await;
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            let phase = Arc::clone(&phase.borrow());
            phase.begin(if rate == 0 {
                Duration::ZERO
            } else {
                due.elapsed()
            });
            let sender = Arc::clone(&self);
            tokio::spawn(async move {
                sender.one(number, &phase).await;
                drop(place);
            });
        }
        let all = u32::try_from(self.args.concurrency).unwrap_or(u32::MAX);
        drop(places.acquire_many(all).await);
    }

    async fn one(&self, number: u64, phase: &Phase) {
        let post = self.args.post_every > 0 && number.is_multiple_of(self.args.post_every);
        let begun = Begun {
            id: format!("{}-{number}", self.args.name),
            method: if post { Method::POST } else { Method::GET },
            started: Instant::now(),
        };
        let how = match self.exchange(&begun).await {
            Ok(answer) => judge(&answer, &begun.id),
            Err(Failure::Connect) => How::Connect,
            Err(Failure::Timeout) => How::Timeout,
            Err(Failure::Reset) => How::Reset,
            Err(Failure::Cut) => How::Cut,
        };
        phase.end(&begun, how);
    }

    async fn exchange(&self, begun: &Begun) -> Result<Answer, Failure> {
        let deadline = begun.started + Duration::from_millis(self.args.timeout_ms);
        let mut request = self.request(begun).map_err(|_| Failure::Connect)?;
        loop {
            let mut connection = match self.take_idle() {
                Some(connection) => connection,
                None => {
                    let turn = self.opened.fetch_add(1, Ordering::Relaxed);
                    Connection::open(&self.target, turn, deadline).await?
                }
            };
            match connection.send(request, deadline).await {
                Ok(result) => {
                    if result.is_ok() {
                        self.give_back(connection);
                    }
                    return result;
                }
                // An idle connection had ended meanwhile: nothing was sent, so take another.
                Err(unsent) => request = *unsent,
            }
        }
    }

    fn request(&self, begun: &Begun) -> http::Result<Request<Full<Bytes>>> {
        let body = if begun.method == Method::POST {
            Bytes::from(self.args.body.clone())
        } else {
            Bytes::new()
        };
        Request::builder()
            .method(begun.method.clone())
            .uri(self.target.path.as_str())
            .header(header::HOST, self.target.authority())
            .header(ID_HEADER, begun.id.as_str())
            .body(Full::new(body))
    }

    /// The connection that was idle for longest, so that all of them are used in turn.
    fn take_idle(&self) -> Option<Connection> {
        if self.opened.load(Ordering::Relaxed) < self.args.connections {
            return None;
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(connection) = idle.pop_front() {
            if connection.is_usable() {
                return Some(connection);
            }
        }
        None
    }

    fn give_back(&self, connection: Connection) {
        if self.args.no_keep_alive {
            return;
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE {
            idle.push_back(connection);
        }
    }
}

fn judge(answer: &Answer, id: &str) -> How {
    if !answer.status.is_success() {
        return How::Status(answer.status.as_u16());
    }
    // Not JSON: an application that is not ours answered, and says neither zone nor id.
    let said: Said = serde_json::from_slice(&answer.body).unwrap_or_default();
    match said.id {
        Some(other) if other != id => How::Mismatched,
        _ => How::Good { zone: said.zone },
    }
}

//! Whether a request is tried again, after what pause, and within which budget.
//!
//! The rules, in order: a refusal by Tacit, an answer that began, and our own faults are final. A
//! request whose first byte was sent is repeated only if its method is idempotent or the policy
//! says `nonIdempotent`. A try that provably never reached the application is repeated once
//! outside the budget, and so is an idempotent one that was lost with its endpoint, if `Reset`
//! is in `on`. Everything else asks the policy, then the budget. All tries end at the deadline.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tacit_model::resilience::{Backoff, Budget, Resilience, RetryOn};
use tacit_model::{Dice, Now, Provenance, ServiceName, WorkloadName};

use crate::record::Leg;
use crate::state::{State, reached};
use crate::view::Seen;

/// How much of a request had been sent when its try ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Sent {
    /// Not one byte.
    Nothing,
    /// At least one byte, perhaps all.
    Something,
}

/// How one try ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TryOutcome {
    /// The node answered, but its application does not accept connections; nothing was sent.
    ApplicationRefused,
    /// The connection broke after the response headers had gone to the caller.
    BrokenAfterHeaders,
    /// No session with the endpoint's address; nothing was sent.
    ConnectFailed,
    /// Our own fault, for example no certificate; nothing was sent.
    OwnFault,
    /// `perTry` ran out before the response headers.
    PerTryTimeout { sent: Sent },
    /// A Tacit proxy refused it (401 to CONNECT; 403, 429 with its mark).
    RefusedByTacit,
    /// The peer refused the stream before working on it.
    RefusedStream,
    /// All time for the request ran out.
    RequestTimeout { sent: Sent },
    /// The connection broke before the response headers.
    Reset {
        sent: Sent,
        /// True if the session broke with it: the endpoint became unreachable.
        session_lost: bool,
    },
    /// The response headers arrived, with this status.
    Status(u16),
}

/// What to do after a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RetryDecision {
    /// Try again after this pause.
    Again {
        pause: Duration,
        /// True if the budget was not asked.
        outside_budget: bool,
    },
    /// What came is the result.
    GiveUp(GiveUp),
}

/// Why it is not tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum GiveUp {
    /// The tries that the policy allows are used up.
    Attempts,
    /// The body is gone and cannot be sent again.
    Body,
    /// The budget has no further try for it. Counted.
    Budget,
    /// The time for all tries is over, or would be after the pause.
    Deadline,
    /// It succeeded, or ended in a way that is passed on.
    Final,
    /// The first byte was sent, and the method may not be repeated.
    NotRepeatable,
    /// The policy does not name this outcome or method.
    NotAsked,
}

/// One request on its way through its tries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    leg: Leg,
    method: String,
    deadline: Option<Now>,
    /// Tries after the first.
    further: u32,
    used_never_sent: bool,
    used_lost: bool,
}

impl Progress {
    /// Begins a request and counts it in the budget of `source` towards `service`.
    ///
    /// `caller_limit` is the caller's own deadline, if it gave one; the shorter time counts.
    pub fn begin(
        state: &State,
        r: &Resilience,
        leg: Leg,
        method: &str,
        caller_limit: Option<Duration>,
        now: Now,
    ) -> Self {
        Self::begin_seen(state, r, leg, method, caller_limit, now, None)
    }

    /// Like [`Progress::begin`], and tells what it read and wrote to `seen`.
    pub(crate) fn begin_seen(
        state: &State,
        r: &Resilience,
        leg: Leg,
        method: &str,
        caller_limit: Option<Duration>,
        now: Now,
        seen: Option<&mut Seen>,
    ) -> Self {
        let policy = Some(r.request.value).filter(|limit| !limit.is_zero());
        let limit = match (policy, caller_limit) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let key = (leg.source.clone(), leg.service.clone());
        let count = |window: &mut BudgetWindow| window.request(&r.budget.value, now);
        with_budget(state, &key, seen, count);
        Self {
            leg,
            method: method.to_owned(),
            deadline: limit.map(|limit| now.plus(limit)),
            further: 0,
            used_never_sent: false,
            used_lost: false,
        }
    }

    /// When all tries must have ended; `None`: no limit.
    #[must_use]
    pub fn deadline(&self) -> Option<Now> {
        self.deadline
    }

    /// How long the next try may take until its response headers, and which outcome it is when
    /// that time runs out; `None`: no limit.
    #[must_use]
    pub fn try_limit(&self, r: &Resilience, now: Now) -> Option<TryLimit> {
        let left = self.deadline.map(|deadline| deadline.since(now));
        let per_try = Some(r.per_try.value).filter(|limit| !limit.is_zero());
        match (left, per_try) {
            (Some(left), Some(per_try)) if per_try < left => Some(TryLimit::PerTry(per_try)),
            (Some(left), _) => Some(TryLimit::Request(left)),
            (None, Some(per_try)) => Some(TryLimit::PerTry(per_try)),
            (None, None) => None,
        }
    }

    /// Who calls what.
    pub(crate) fn leg(&self) -> &Leg {
        &self.leg
    }

    /// Tries made so far, the first included.
    #[must_use]
    pub fn tries(&self) -> u32 {
        self.further.saturating_add(1)
    }
}

/// Which limit ends a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TryLimit {
    /// `perTry`: the outcome is `PerTryTimeout`.
    PerTry(Duration),
    /// The rest of the time for all tries: the outcome is `RequestTimeout`.
    Request(Duration),
}

/// Decides after a try. `Again` counts the further try as made.
///
/// `body_replayable`: everything of the request's body that was read so far can be sent again
/// (true for a request without body, or when nothing of it was read).
pub fn after_try(
    r: &Resilience,
    state: &State,
    progress: &mut Progress,
    outcome: &TryOutcome,
    body_replayable: bool,
    now: Now,
    dice: Dice,
) -> RetryDecision {
    let try_ended = (outcome, body_replayable);
    after_try_seen(r, state, progress, try_ended, now, dice, None)
}

/// Like [`after_try`], and tells what it read and wrote to `seen`.
pub(crate) fn after_try_seen(
    r: &Resilience,
    state: &State,
    progress: &mut Progress,
    (outcome, body_replayable): (&TryOutcome, bool),
    now: Now,
    dice: Dice,
    seen: Option<&mut Seen>,
) -> RetryDecision {
    match consider(r, progress, outcome, body_replayable, now) {
        Consider::GiveUp(why) => RetryDecision::GiveUp(why),
        Consider::Free(kind) => {
            match kind {
                Free::NeverSent => progress.used_never_sent = true,
                Free::Lost => progress.used_lost = true,
            }
            progress.further += 1;
            RetryDecision::Again {
                pause: Duration::ZERO,
                outside_budget: true,
            }
        }
        Consider::Budgeted => budgeted(r, state, progress, now, dice, seen),
    }
}

fn budgeted(
    r: &Resilience,
    state: &State,
    progress: &mut Progress,
    now: Now,
    dice: Dice,
    seen: Option<&mut Seen>,
) -> RetryDecision {
    let pause = pause(&r.backoff.value, progress.further, dice);
    let too_late = |deadline: Now| reached(deadline, now.plus(pause));
    if progress.deadline.is_some_and(too_late) {
        return RetryDecision::GiveUp(GiveUp::Deadline);
    }
    let leg = &progress.leg;
    let key = (leg.source.clone(), leg.service.clone());
    let take = |window: &mut BudgetWindow| window.take(&r.budget.value, now);
    if !with_budget(state, &key, seen, take) {
        return RetryDecision::GiveUp(GiveUp::Budget);
    }
    progress.further += 1;
    RetryDecision::Again {
        pause,
        outside_budget: false,
    }
}

/// Acts on the window; what was read and written is copied under the same lock.
fn with_budget<T>(
    state: &State,
    key: &(WorkloadName, ServiceName),
    seen: Option<&mut Seen>,
    act: impl FnOnce(&mut BudgetWindow) -> T,
) -> T {
    let Some(seen) = seen else {
        return state.with_budget(key, act);
    };
    state.with_budget(key, |window| {
        seen.before.budget(key, window);
        let result = act(window);
        seen.after.budget(key, window);
        result
    })
}

enum Consider {
    Budgeted,
    Free(Free),
    GiveUp(GiveUp),
}

enum Free {
    /// An idempotent request lost because its endpoint became unreachable.
    Lost,
    /// It provably never reached the application.
    NeverSent,
}

/// Everything but the budget and the pause.
fn consider(
    r: &Resilience,
    progress: &Progress,
    outcome: &TryOutcome,
    body_replayable: bool,
    now: Now,
) -> Consider {
    let failure = match classify(outcome) {
        Class::Final => return Consider::GiveUp(GiveUp::Final),
        Class::TimedOut => return Consider::GiveUp(GiveUp::Deadline),
        Class::Failure(failure) => failure,
    };
    if progress
        .deadline
        .is_some_and(|deadline| reached(deadline, now))
    {
        return Consider::GiveUp(GiveUp::Deadline);
    }
    let when = &r.when.value;
    let asked = failure.on.iter().any(|on| when.on.contains(on))
        || failure
            .status
            .is_some_and(|status| when.codes.contains(&status));
    if let (Some(_), false) = (failure.status, asked) {
        // An answer that the policy does not name is the result, whatever its status.
        return Consider::GiveUp(GiveUp::Final);
    }
    let idempotent = is_idempotent(&progress.method);
    if failure.sent == Sent::Something && !idempotent && !r.methods.value.non_idempotent {
        return Consider::GiveUp(GiveUp::NotRepeatable);
    }
    if !body_replayable {
        return Consider::GiveUp(GiveUp::Body);
    }
    // `attempts: 0` that somebody wrote switches everything off, the free tries too.
    let attempts = r.attempts.value;
    let switched_off = attempts == 0 && r.attempts.from != Provenance::Default;
    if !switched_off && progress.further < attempts.max(1) {
        if failure.sent == Sent::Nothing && !progress.used_never_sent {
            return Consider::Free(Free::NeverSent);
        }
        let lost = failure.endpoint_lost && idempotent && when.on.contains(&RetryOn::Reset);
        if lost && attempts > 0 && !progress.used_lost {
            return Consider::Free(Free::Lost);
        }
    }
    let only = r.methods.value.only.as_ref();
    let method_fits = only.is_none_or(|set| set.iter().any(|m| **m == *progress.method));
    if !asked || !method_fits {
        return Consider::GiveUp(GiveUp::NotAsked);
    }
    if progress.further >= attempts {
        return Consider::GiveUp(GiveUp::Attempts);
    }
    Consider::Budgeted
}

/// What kind of outcome it is.
enum Class {
    Failure(Failure),
    Final,
    TimedOut,
}

struct Failure {
    /// Names of it in `retry.on`.
    on: &'static [RetryOn],
    status: Option<u16>,
    sent: Sent,
    endpoint_lost: bool,
}

fn classify(outcome: &TryOutcome) -> Class {
    let failure = |on, sent| {
        Class::Failure(Failure {
            on,
            status: None,
            sent,
            endpoint_lost: false,
        })
    };
    match *outcome {
        TryOutcome::BrokenAfterHeaders | TryOutcome::OwnFault | TryOutcome::RefusedByTacit => {
            Class::Final
        }
        TryOutcome::RequestTimeout { .. } => Class::TimedOut,
        TryOutcome::ApplicationRefused | TryOutcome::ConnectFailed => {
            failure(&[RetryOn::ConnectFailure], Sent::Nothing)
        }
        TryOutcome::RefusedStream => failure(&[RetryOn::RefusedStream], Sent::Nothing),
        TryOutcome::PerTryTimeout { sent } => failure(&[RetryOn::DeadlineExceeded], sent),
        TryOutcome::Reset { sent, session_lost } => Class::Failure(Failure {
            on: &[RetryOn::Reset],
            status: None,
            sent,
            endpoint_lost: session_lost,
        }),
        TryOutcome::Status(status) => Class::Failure(Failure {
            on: match status {
                502..=504 => &[RetryOn::GatewayError, RetryOn::ServerError],
                500..=599 => &[RetryOn::ServerError],
                _ => &[],
            },
            status: Some(status),
            sent: Sent::Something,
            endpoint_lost: false,
        }),
    }
}

/// Methods that RFC 9110 section 9.2.2 calls idempotent. Names are case-sensitive.
#[must_use]
pub fn is_idempotent(method: &str) -> bool {
    matches!(
        method,
        "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE"
    )
}

/// Full jitter: uniform in `[0, min(max, base * 2^n)]`.
fn pause(backoff: &Backoff, n: u32, dice: Dice) -> Duration {
    let doubled = backoff
        .base
        .saturating_mul(1u32.checked_shl(n).unwrap_or(u32::MAX));
    let bound = u64::try_from(doubled.min(backoff.max).as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(dice.below(bound.saturating_add(1)).0)
}

/// Parts that the interval of a budget is counted in: the window moves in steps of 5 %.
const PARTS: u64 = 20;

/// Requests and further tries of one client workload towards one service.
///
/// A further try is allowed while the window has room, else while the reserve of
/// `minPerSecond` has; the reserve holds what one second brings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BudgetWindow {
    /// Newest last; at most [`PARTS`], each one part of the interval long.
    parts: VecDeque<Part>,
    /// In billionths of a try, so that short times count.
    reserve: Option<(u128, Now)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Part {
    /// Start of the part, in parts since the clock's beginning.
    number: u64,
    requests: u64,
    further: u64,
}

const BILLION: u128 = 1_000_000_000;

impl BudgetWindow {
    fn request(&mut self, budget: &Budget, now: Now) {
        self.part(budget, now).requests += 1;
    }

    /// Takes one further try if there is one.
    fn take(&mut self, budget: &Budget, now: Now) -> bool {
        let reserve = self.refill(budget, now);
        self.part(budget, now);
        let requests: u64 = self.parts.iter().map(|part| part.requests).sum();
        let further: u64 = self.parts.iter().map(|part| part.further).sum();
        let room = requests.saturating_mul(u64::from(budget.retry_percent));
        let in_window = (further + 1).saturating_mul(100) <= room;
        if !in_window {
            if reserve < BILLION {
                return false;
            }
            self.reserve = Some((reserve - BILLION, now));
        }
        self.part(budget, now).further += 1;
        true
    }

    fn refill(&mut self, budget: &Budget, now: Now) -> u128 {
        let rate = u128::from(budget.min_per_second);
        let full = rate * BILLION;
        let reserve = match self.reserve {
            None => full,
            Some((left, at)) => (left + rate * now.since(at).as_nanos()).min(full),
        };
        self.reserve = Some((reserve, now));
        reserve
    }

    /// The part of now; forgets what has left the window.
    fn part(&mut self, budget: &Budget, now: Now) -> &mut Part {
        let interval = u64::try_from(budget.interval.as_nanos()).unwrap_or(u64::MAX);
        let number = now.monotonic_ns / (interval / PARTS).max(1);
        while self
            .parts
            .front()
            .is_some_and(|part| part.number + PARTS <= number)
        {
            self.parts.pop_front();
        }
        // Another interval after a policy change numbers parts otherwise: begin afresh then.
        if self.parts.back().is_some_and(|part| part.number > number) {
            self.parts.clear();
        }
        if self.parts.back().is_none_or(|part| part.number != number) {
            self.parts.push_back(Part {
                number,
                ..Part::default()
            });
        }
        let last = self.parts.len() - 1;
        &mut self.parts[last]
    }
}

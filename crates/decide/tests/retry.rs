//! Further tries: which outcomes, which methods, the budget, pauses and the deadline.

use std::collections::BTreeSet;
use std::time::Duration;

use tacit_decide::State;
use tacit_decide::record::Leg;
use tacit_decide::retry::{
    GiveUp, Progress, RetryDecision, Sent, TryLimit, TryOutcome, after_try, is_idempotent,
};
use tacit_model::resilience::{Backoff, Budget, Resilience, RetryMethods, RetryOn, RetryWhen};
use tacit_model::{Dice, Name, Now, ObjectRef, Provenance, ServiceName, Sourced, WorkloadName};

use crate::world::{millis, seconds, service_name};

const SENT: Sent = Sent::Something;
const LOST: TryOutcome = TryOutcome::Reset {
    sent: SENT,
    session_lost: true,
};
const RESET: TryOutcome = TryOutcome::Reset {
    sent: SENT,
    session_lost: false,
};

fn written<T>(value: T) -> Sourced<T> {
    let from = Provenance::Field {
        object: ObjectRef {
            kind: "RetryTimeoutPolicy".into(),
            namespace: None,
            name: Name::try_from("p").unwrap(),
        },
        path: "spec.retry".into(),
    };
    Sourced { value, from }
}

/// `attempts` further tries on everything that a policy can name, and 418.
fn on_all(attempts: u32) -> Resilience {
    let when = RetryWhen {
        on: [
            RetryOn::ConnectFailure,
            RetryOn::DeadlineExceeded,
            RetryOn::GatewayError,
            RetryOn::RefusedStream,
            RetryOn::Reset,
        ]
        .into(),
        codes: [418].into(),
    };
    Resilience {
        attempts: written(attempts),
        when: written(when),
        ..Resilience::default()
    }
}

struct Request {
    r: Resilience,
    state: State,
    progress: Progress,
    dice: Dice,
}

fn leg(source: &WorkloadName, service: &ServiceName) -> Leg {
    Leg {
        source: source.clone(),
        service: service.clone(),
        rule: None,
    }
}

fn route() -> (WorkloadName, ServiceName) {
    (
        WorkloadName::parse("shop", "web-1").unwrap(),
        service_name("payments", "shop"),
    )
}

impl Request {
    fn new(r: &Resilience, method: &str) -> Self {
        let state = State::new();
        let (source, service) = route();
        let to = leg(&source, &service);
        let progress = Progress::begin(&state, r, to, method, None, seconds(0));
        Self {
            r: r.clone(),
            state,
            progress,
            dice: Dice(3),
        }
    }

    fn after(&mut self, outcome: TryOutcome, now: Now) -> RetryDecision {
        self.after_with_body(outcome, true, now)
    }

    fn after_with_body(&mut self, outcome: TryOutcome, replay: bool, now: Now) -> RetryDecision {
        self.dice = self.dice.roll().1;
        after_try(
            &self.r,
            &self.state,
            &mut self.progress,
            &outcome,
            replay,
            now,
            self.dice,
        )
    }

    /// One letter for each of the outcomes: `f`ree, `b`udgeted, or why not.
    fn run(&mut self, outcomes: &[TryOutcome]) -> String {
        let letter = |decision| match decision {
            RetryDecision::Again {
                outside_budget: true,
                ..
            } => 'f',
            RetryDecision::Again { .. } => 'b',
            RetryDecision::GiveUp(why) => match why {
                GiveUp::Attempts => 'A',
                GiveUp::Body => 'Y',
                GiveUp::Budget => 'B',
                GiveUp::Deadline => 'D',
                GiveUp::Final => 'F',
                GiveUp::NotRepeatable => 'R',
                GiveUp::NotAsked => 'N',
            },
        };
        outcomes
            .iter()
            .map(|outcome| letter(self.after(*outcome, seconds(0))))
            .collect()
    }
}

const CONNECT: TryOutcome = TryOutcome::ConnectFailed;
const BUSY: TryOutcome = TryOutcome::Status(503);

fn outcome(word: &str) -> TryOutcome {
    match word {
        "broken-answer" => TryOutcome::BrokenAfterHeaders,
        "connect" => CONNECT,
        "app-refused" => TryOutcome::ApplicationRefused,
        "stream-refused" => TryOutcome::RefusedStream,
        "by-tacit" => TryOutcome::RefusedByTacit,
        "own-fault" => TryOutcome::OwnFault,
        "lost" => LOST,
        "reset" => RESET,
        "reset-unsent" => TryOutcome::Reset {
            sent: Sent::Nothing,
            session_lost: false,
        },
        "per-try" => TryOutcome::PerTryTimeout { sent: SENT },
        "request" => TryOutcome::RequestTimeout { sent: SENT },
        status => TryOutcome::Status(status.parse().unwrap()),
    }
}

/// Attempts (`-`: nobody wrote any), method, outcomes of the tries | what is done after each:
/// the letters of `Request::run`.
const TABLE: &str = "
    - POST connect connect            | fA
    - GET 503                         | F
    - GET lost                        | N
    - GET reset-unsent                | f
    0 GET connect                     | A
    2 GET 503 503 503                 | bbA
    2 GET connect connect connect     | fbA
    3 GET lost connect lost 503       | ffbA
    3 GET reset                       | b
    3 POST 503                        | R
    3 POST lost                       | R
    3 POST per-try                    | R
    3 POST connect connect 503        | fbR
    3 POST reset-unsent               | f
    3 PATCH stream-refused            | f
    3 PATCH app-refused               | f
    3 GET 418                         | b
    3 GET 500                         | F
    3 GET 200                         | F
    3 GET 404                         | F
    3 GET by-tacit                    | F
    3 GET own-fault                   | F
    3 GET broken-answer               | F
    3 GET request                     | D
    3 GET per-try                     | b
    3 get 503                         | R
";

#[test]
fn what_is_tried_again() {
    for line in TABLE.trim().lines() {
        let (given, expected) = line.split_once('|').unwrap();
        let mut words = given.split_whitespace();
        let r = match words.next().unwrap() {
            "-" => Resilience::default(),
            attempts => on_all(attempts.parse().unwrap()),
        };
        let method = words.next().unwrap();
        let outcomes: Vec<TryOutcome> = words.map(outcome).collect();
        assert_eq!(
            Request::new(&r, method).run(&outcomes),
            expected.trim(),
            "{line}"
        );
    }
}

#[test]
fn methods_widen_and_narrow() {
    let mut r = on_all(3);
    r.methods = written(RetryMethods {
        non_idempotent: true,
        only: None,
    });
    assert_eq!(Request::new(&r, "POST").run(&[BUSY, LOST]), "bb");
    r.methods = written(RetryMethods {
        non_idempotent: false,
        only: Some(["GET".into()].into()),
    });
    assert_eq!(Request::new(&r, "GET").run(&[BUSY]), "b");
    assert_eq!(Request::new(&r, "PUT").run(&[BUSY]), "N");
    assert_eq!(Request::new(&r, "PUT").run(&[CONNECT]), "f");
    for method in ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"] {
        assert!(is_idempotent(method));
    }
    for method in ["POST", "PATCH", "CONNECT", "", "Get"] {
        assert!(!is_idempotent(method));
    }
}

#[test]
fn a_body_that_is_gone_ends_it() {
    let mut request = Request::new(&on_all(3), "PUT");
    let decision = request.after_with_body(BUSY, false, seconds(0));
    assert_eq!(decision, RetryDecision::GiveUp(GiveUp::Body));
}

#[test]
fn pauses_are_full_jitter_within_bounds() {
    let mut r = on_all(100);
    r.budget.value.retry_percent = 100;
    r.budget.value.min_per_second = 1000;
    r.backoff = written(Backoff {
        base: Duration::from_millis(25),
        max: Duration::from_millis(250),
    });
    let mut longest = [Duration::ZERO; 6];
    for seed in 0..300 {
        let mut request = Request::new(&r, "GET");
        request.dice = Dice(seed * 7919);
        for (n, longest) in longest.iter_mut().enumerate() {
            let RetryDecision::Again { pause, .. } = request.after(BUSY, seconds(0)) else {
                panic!("not tried again");
            };
            let bound = Duration::from_millis([25, 50, 100, 200, 250, 250][n]);
            assert!(pause <= bound, "{n} {pause:?}");
            *longest = (*longest).max(pause);
        }
    }
    for (n, longest) in longest.iter().enumerate() {
        let bound = Duration::from_millis([25, 50, 100, 200, 250, 250][n]);
        assert!(*longest > bound * 9 / 10, "{n} {longest:?}");
    }
}

#[test]
fn all_tries_obey_the_deadline() {
    let mut r = on_all(100);
    r.request = written(Duration::from_secs(2));
    r.per_try = written(Duration::from_millis(600));
    let mut request = Request::new(&r, "GET");
    assert_eq!(request.progress.deadline(), Some(seconds(2)));
    let limit = |request: &Request, now| request.progress.try_limit(&r, now);
    let (per_try, rest) = (Duration::from_millis(600), Duration::from_millis(500));
    assert_eq!(limit(&request, millis(0)), Some(TryLimit::PerTry(per_try)));
    assert_eq!(limit(&request, millis(1500)), Some(TryLimit::Request(rest)));
    let late = request.after(BUSY, millis(1999));
    let too_late = request.after(CONNECT, millis(2000));
    assert!(
        matches!(late, RetryDecision::GiveUp(GiveUp::Deadline)),
        "{late:?}"
    );
    assert_eq!(too_late, RetryDecision::GiveUp(GiveUp::Deadline));
    let (source, service) = route();
    let to = || leg(&source, &service);
    let sooner = Some(Duration::from_secs(1));
    let progress = Progress::begin(&request.state, &r, to(), "GET", sooner, seconds(0));
    assert_eq!(progress.deadline(), Some(seconds(1)));
    let none = Resilience::default();
    let progress = Progress::begin(&request.state, &none, to(), "GET", None, seconds(0));
    assert_eq!(
        (progress.deadline(), progress.try_limit(&none, seconds(0))),
        (None, None)
    );
}

/// A small source of random numbers for the properties below.
struct Random(Dice);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        let (number, next) = self.0.below(bound);
        self.0 = next;
        number
    }
}

fn any_outcome(random: &mut Random) -> TryOutcome {
    let sent = if random.below(2) == 0 {
        Sent::Nothing
    } else {
        SENT
    };
    match random.below(10) {
        0 => TryOutcome::ApplicationRefused,
        1 => TryOutcome::BrokenAfterHeaders,
        2 => CONNECT,
        3 => TryOutcome::PerTryTimeout { sent },
        4 => TryOutcome::RefusedByTacit,
        5 => TryOutcome::RefusedStream,
        6 => TryOutcome::Reset {
            sent,
            session_lost: random.below(2) == 0,
        },
        _ => TryOutcome::Status([200, 418, 500, 503][usize::try_from(random.below(4)).unwrap()]),
    }
}

fn was_sent(outcome: &TryOutcome) -> bool {
    match outcome {
        TryOutcome::Status(_) | TryOutcome::BrokenAfterHeaders => true,
        TryOutcome::PerTryTimeout { sent } | TryOutcome::RequestTimeout { sent } => *sent == SENT,
        TryOutcome::Reset { sent, .. } => *sent == SENT,
        _ => false,
    }
}

#[test]
fn a_non_idempotent_request_is_never_repeated_after_its_first_byte() {
    let mut random = Random(Dice(99));
    let (mut repeated, mut gave_up) = (0, 0);
    for _ in 0..20_000 {
        let mut r = on_all(u32::try_from(random.below(5)).unwrap());
        r.budget.value.retry_percent = 100;
        let on: BTreeSet<RetryOn> = r
            .when
            .value
            .on
            .iter()
            .filter(|_| random.below(3) > 0)
            .copied()
            .collect();
        r.when.value.on = on;
        let idempotent = random.below(2) == 0;
        let mut request = Request::new(&r, if idempotent { "GET" } else { "POST" });
        for _ in 0..6 {
            let outcome = any_outcome(&mut random);
            let again = matches!(
                request.after(outcome, seconds(0)),
                RetryDecision::Again { .. }
            );
            if again && was_sent(&outcome) {
                assert!(idempotent, "{outcome:?}");
                repeated += 1;
            }
            assert!(!again || outcome != TryOutcome::RefusedByTacit);
            if !again {
                gave_up += 1;
                break;
            }
        }
        assert!(request.progress.tries() <= 1 + r.attempts.value.max(1));
    }
    // The control: idempotent ones are repeated.
    assert!(repeated > 1000 && gave_up > 1000, "{repeated} {gave_up}");
}

#[test]
fn the_budget_is_never_exceeded() {
    let mut random = Random(Dice(5));
    for case in 0..40 {
        let budget = Budget {
            retry_percent: u32::try_from(random.below(101)).unwrap(),
            interval: Duration::from_secs(1 + random.below(20)),
            min_per_second: u32::try_from(random.below(12)).unwrap(),
        };
        let mut r = on_all(100);
        r.budget = written(budget);
        let state = State::new();
        let (source, service) = route();
        let (mut now, mut requests, mut taken, mut refused) = (seconds(0), 0u64, 0u64, 0u64);
        for n in 0..5000 {
            let pause = if random.below(50) == 0 {
                3_000
            } else {
                random.below(20)
            };
            now = now.plus(Duration::from_millis(pause));
            let to = leg(&source, &service);
            let mut progress = Progress::begin(&state, &r, to, "GET", None, now);
            requests += 1;
            for _ in 0..random.below(6) {
                let dice = Dice(n);
                match after_try(&r, &state, &mut progress, &BUSY, true, now, dice) {
                    RetryDecision::Again { .. } => taken += 1,
                    RetryDecision::GiveUp(why) => {
                        assert_eq!(why, GiveUp::Budget);
                        refused += 1;
                    }
                }
            }
            let percent = requests * u64::from(budget.retry_percent) / 100;
            let elapsed = now.since(seconds(0)).as_millis();
            let reserve = u128::from(budget.min_per_second) * (elapsed + 1000) / 1000;
            let most = u128::from(percent) + reserve;
            assert!(
                u128::from(taken) <= most,
                "case {case} {budget:?} {taken} > {most}"
            );
        }
        assert!(
            refused > 0 || budget.retry_percent > 90,
            "case {case} {budget:?}"
        );
    }
}

#[test]
fn the_reserve_serves_the_first_requests_and_refills() {
    let mut r = on_all(100);
    r.budget = written(Budget {
        retry_percent: 0,
        interval: Duration::from_secs(10),
        min_per_second: 2,
    });
    let mut request = Request::new(&r, "GET");
    assert_eq!(request.run(&[BUSY, BUSY, BUSY]), "bbB");
    let again = |request: &mut Request, now| {
        matches!(request.after(BUSY, now), RetryDecision::Again { .. })
    };
    assert!(!again(&mut request, millis(400)));
    assert!(again(&mut request, millis(600)));
    assert!(!again(&mut request, millis(700)));
    assert!(again(&mut request, seconds(100)) && again(&mut request, seconds(100)));
    assert!(!again(&mut request, seconds(100)));
}

#[test]
fn clients_and_services_have_budgets_of_their_own() {
    let mut r = on_all(100);
    r.budget = written(Budget {
        retry_percent: 0,
        interval: Duration::from_secs(10),
        min_per_second: 1,
    });
    let state = State::new();
    let (source, service) = route();
    let other = WorkloadName::parse("shop", "web-2").unwrap();
    let take = |source: &WorkloadName| {
        let to = leg(source, &service);
        let mut progress = Progress::begin(&state, &r, to, "GET", None, seconds(0));
        after_try(&r, &state, &mut progress, &BUSY, true, seconds(0), Dice(0))
    };
    assert!(matches!(take(&source), RetryDecision::Again { .. }));
    assert_eq!(take(&source), RetryDecision::GiveUp(GiveUp::Budget));
    assert!(matches!(take(&other), RetryDecision::Again { .. }));
}

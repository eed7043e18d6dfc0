//! Rates of requests: the bucket against a naive one, keys, several limits, threads, replay.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tacit_decide::rate::{KEY_BYTES, MOST_KEYS};
use tacit_decide::record::{Decision, Entry, Record};
use tacit_decide::replay::again;
use tacit_decide::{
    ConnectionVerdict, Decider, Denial, DenialKind, Peer, RefusalStatus, RequestHead, State,
    authorize_connection, authorize_request, limit_request,
};
use tacit_model::rate::{RateKey, RateLimit, RateLimits};
use tacit_model::tables::Protocol;
use tacit_model::{Dice, Now, ObjectRef, Snapshot, WorkloadName};

use crate::world::{World, millis, peer, shop};

fn limit(requests: u32, seconds: u64, burst: u32, key: &[RateKey]) -> RateLimit {
    RateLimit {
        requests: NonZeroU32::new(requests).unwrap(),
        per: Duration::from_secs(seconds),
        burst: NonZeroU32::new(burst).unwrap(),
        key: key.to_vec(),
    }
}

fn limits(name: &str, limits: &[RateLimit]) -> RateLimits {
    RateLimits {
        policy: ObjectRef {
            kind: "RateLimitPolicy".into(),
            namespace: Some("shop".try_into().unwrap()),
            name: name.try_into().unwrap(),
        },
        limits: limits.to_vec(),
    }
}

/// The shop, with a policy on its service.
fn limited(all: &[RateLimit]) -> World {
    let mut world = shop(1);
    world.change_service("payments", "shop", |row| {
        row.rate = Some(limits("calm", all))
    });
    world
}

/// The workload that is called.
const CALLED: &str = "shop/payments-a-1";

/// Calls to one port of one workload.
struct Calls<'a> {
    s: &'a Snapshot,
    state: &'a State,
    port: u16,
}

impl Calls<'_> {
    fn ask(&self, from: &Peer, headers: &[(&str, &str)], now: Now) -> Result<(), Denial> {
        let mut workloads = self.s.workloads.values();
        let Some(local) = workloads.find(|row| row.name.to_string() == CALLED) else {
            panic!("there is no {CALLED}");
        };
        let verdict = authorize_connection(self.s, local, self.port, from);
        let ConnectionVerdict::InspectRequests(inspect) = verdict else {
            panic!("{verdict:?}");
        };
        let head = RequestHead {
            method: "GET",
            path: "/",
            host: "payments.shop",
        };
        let Ok(permit) = authorize_request(self.s, &inspect, &head) else {
            panic!("access denies it");
        };
        let headers: BTreeMap<&str, &str> = headers.iter().copied().collect();
        let header = |name: &str| headers.get(name).map(|value| (*value).to_owned());
        limit_request(self.s, self.state, (&inspect, permit), &header, now).map(drop)
    }

    /// How many of `count` requests at one moment pass.
    fn passing(&self, from: &Peer, headers: &[(&str, &str)], now: Now, count: u32) -> usize {
        let asked = (0..count).map(|_| self.ask(from, headers, now));
        asked.filter(Result::is_ok).count()
    }
}

fn calls<'a>(s: &'a Snapshot, state: &'a State) -> Calls<'a> {
    Calls {
        s,
        state,
        port: 8080,
    }
}

fn wait(refused: Result<(), Denial>) -> u64 {
    match refused.unwrap_err().kind {
        DenialKind::OverRate { retry_after } => retry_after,
        other => panic!("{other:?}"),
    }
}

/// Tokens as whole numbers, filled step by step.
struct Naive {
    level: u64,
    filled: u64,
}

#[test]
fn a_bucket_does_as_a_naive_one() {
    // 100 in a second are one in 10 ms.
    let (requests, burst, step) = (100, 7, 10);
    let (s, state) = (
        limited(&[limit(requests, 1, burst, &[])]).build(),
        State::new(),
    );
    let (from, calls) = (peer("edge", "web"), calls(&s, &state));
    let mut naive = Naive {
        level: u64::from(burst) * step,
        filled: 0,
    };
    let (mut now, mut dice, mut seen) = (0, Dice(3), [0, 0]);
    for _ in 0..5000 {
        let (pause, next) = dice.below(20);
        dice = next;
        now += pause;
        naive.level = (naive.level + now - naive.filled).min(u64::from(burst) * step);
        naive.filled = now;
        let passes = naive.level >= step;
        if passes {
            naive.level -= step;
        }
        let asked = calls.ask(&from, &[], millis(now));
        assert_eq!(asked.is_ok(), passes, "at {now} ms");
        seen[usize::from(passes)] += 1;
    }
    assert!(seen.iter().all(|count| *count > 200), "{seen:?}");
}

#[test]
fn a_burst_passes_at_once_and_the_rest_is_told_when() {
    let (s, state) = (limited(&[limit(2, 60, 5, &[])]).build(), State::new());
    let (from, calls) = (peer("edge", "web"), calls(&s, &state));
    assert_eq!(calls.passing(&from, &[], millis(0), 20), 5);
    let denial = calls.ask(&from, &[], millis(0)).unwrap_err();
    assert_eq!(
        denial.to_string(),
        "workload shop/payments-a-1 takes at most 2 requests per 60s, 5 at once \
         (RateLimitPolicy/shop/calm spec.limits[0])"
    );
    assert_eq!(denial.kind.status(), RefusalStatus::Http(429));
    // One in 30 s; the last millisecond still rounds up to a second.
    assert_eq!(wait(Err(denial)), 30);
    assert_eq!(wait(calls.ask(&from, &[], millis(29_999))), 1);
    assert_eq!(calls.passing(&from, &[], millis(30_000), 20), 1);
    // Nothing more than the burst is saved up.
    assert_eq!(calls.passing(&from, &[], millis(1_000_000), 20), 5);
    // The control: without the policy, all pass.
    let (open, state) = (shop(1).build(), State::new());
    assert_eq!(
        self::calls(&open, &state).passing(&from, &[], millis(0), 20),
        20
    );
}

#[test]
fn keys_are_counted_apart() {
    let (one, two) = (peer("edge", "web"), peer("edge", "job"));
    let by = |key: &[RateKey]| limited(&[limit(1, 60, 2, key)]).build();
    let user = || RateKey::Header("x-user".into());
    let now = millis(0);

    let (s, state) = (by(&[RateKey::Identity]), State::new());
    let of = calls(&s, &state);
    assert_eq!(of.passing(&one, &[], now, 9), 2);
    assert_eq!(of.passing(&two, &[("x-user", "a")], now, 9), 2);
    assert_eq!(of.passing(&two, &[("x-user", "b")], now, 9), 0);

    let (s, state) = (by(&[user()]), State::new());
    let of = calls(&s, &state);
    assert_eq!(of.passing(&one, &[("x-user", "a")], now, 9), 2);
    assert_eq!(of.passing(&two, &[("x-user", "a")], now, 9), 0);
    // An empty value and none are two keys.
    assert_eq!(of.passing(&two, &[("x-user", "")], now, 9), 2);
    assert_eq!(of.passing(&two, &[], now, 9), 2);
    let long = "ä".repeat(KEY_BYTES);
    let longer = format!("{long}b");
    assert_eq!(of.passing(&two, &[("x-user", &long)], now, 9), 2);
    assert_eq!(of.passing(&two, &[("x-user", &longer)], now, 9), 0);

    let (s, state) = (by(&[RateKey::Identity, user()]), State::new());
    let of = calls(&s, &state);
    assert_eq!(of.passing(&one, &[("x-user", "a")], now, 9), 2);
    assert_eq!(of.passing(&one, &[("x-user", "b")], now, 9), 2);
    assert_eq!(of.passing(&two, &[("x-user", "a")], now, 9), 2);
}

#[test]
fn invented_keys_share_one_bucket_once_there_is_no_room() {
    let key = [RateKey::Header("x-user".into())];
    let (s, state) = (limited(&[limit(1, 60, 1, &key)]).build(), State::new());
    let (from, of) = (peer("edge", "web"), calls(&s, &state));
    let pass = |number: usize, now| {
        let name = number.to_string();
        of.ask(&from, &[("x-user", &name)], now).is_ok()
    };
    let passed = (0..MOST_KEYS + 500).filter(|number| pass(*number, millis(0)));
    assert_eq!(passed.count(), MOST_KEYS + 1);
    // One that is known still has its own bucket; after a minute all are full, and there is room.
    assert!(pass(7, millis(60_000)) && !pass(7, millis(60_000)));
    let passed = (0..500).filter(|number| pass(MOST_KEYS + 1000 + *number, millis(60_000)));
    assert_eq!(passed.count(), 500);
}

#[test]
fn a_request_takes_a_token_of_each_limit_or_of_none() {
    let both = [
        limit(1, 60, 3, &[]),
        limit(1, 3600, 1, &[RateKey::Identity]),
    ];
    let (s, state) = (limited(&both).build(), State::new());
    let of = calls(&s, &state);
    let from = |account| peer("edge", account);
    assert_eq!(of.passing(&from("a"), &[], millis(0), 9), 1);
    // What the second limit refused took nothing of the first.
    assert_eq!(of.passing(&from("b"), &[], millis(0), 9), 1);
    assert_eq!(of.passing(&from("c"), &[], millis(0), 9), 1);
    assert_eq!(wait(of.ask(&from("d"), &[], millis(0))), 60);
    // Both refuse: the longer wait is told.
    let denial = of.ask(&from("a"), &[], millis(0)).unwrap_err();
    let by = denial.by.clone().unwrap().to_string();
    assert_eq!(by, "RateLimitPolicy/shop/calm spec.limits[1]");
    assert_eq!(wait(Err(denial)), 3600);
}

#[test]
fn each_service_that_leads_to_the_port_counts_and_a_policy_counts_once() {
    let from = peer("edge", "web");
    let mut world = limited(&[limit(1, 60, 4, &[])]);
    world.service("bulk", "shop", 2, &[("http", 80, 8080, Protocol::Http)]);
    world.service("other", "shop", 3, &[("http", 80, 9090, Protocol::Http)]);
    world.also_behind("payments", "bulk", "shop");
    world.also_behind("payments", "other", "shop");
    let pass = |world: &World, port| {
        let (s, state) = (world.build(), State::new());
        let calls = Calls {
            s: &s,
            state: &state,
            port,
        };
        calls.passing(&from, &[], millis(0), 9)
    };
    assert_eq!(pass(&world, 8080), 4);
    assert_eq!(pass(&world, 9090), 9, "no limit leads there");
    world.change_service("bulk", "shop", |row| {
        row.rate = Some(limits("calm", &[limit(1, 60, 4, &[])]));
    });
    assert_eq!(pass(&world, 8080), 4, "the same policy at two services");
    world.change_service("bulk", "shop", |row| {
        row.rate = Some(limits("tight", &[limit(1, 60, 3, &[])]));
    });
    assert_eq!(pass(&world, 8080), 3);
    world.change_service("other", "shop", |row| {
        row.rate = Some(limits("tight", &[limit(1, 60, 1, &[])]));
    });
    assert_eq!(pass(&world, 9090), 1);
}

#[test]
fn a_changed_limit_begins_anew_and_one_that_is_gone_is_forgotten() {
    let from = peer("edge", "web");
    let slow = limited(&[limit(1, 3600, 1, &[])]).build();
    let quick = limited(&[limit(10, 1, 10, &[])]).build();
    let state = State::new();
    assert_eq!(calls(&slow, &state).passing(&from, &[], millis(0), 9), 1);
    assert_eq!(calls(&quick, &state).passing(&from, &[], millis(1), 20), 10);
    state.retain(&quick);
    assert_eq!(calls(&quick, &state).passing(&from, &[], millis(1), 20), 0);
    state.retain(&shop(1).build());
    assert_eq!(calls(&quick, &state).passing(&from, &[], millis(1), 20), 10);
}

const THREADS: usize = 4;
const REQUESTS: usize = 500;
const BURST: u32 = 321;

/// What one thread asks, as the proxy's workers do.
fn worker(s: &Arc<Snapshot>, state: &State, thread: usize, told: &Mutex<Vec<Record>>) -> usize {
    let log = |entry: Entry| told.lock().unwrap().push(entry.record);
    let (local, from) = (
        &s.workloads[&WorkloadName::parse("shop", "payments-a-1").unwrap()],
        peer("edge", "web"),
    );
    let head = RequestHead {
        method: "GET",
        path: "/",
        host: "payments.shop",
    };
    let pass = |number: &usize| {
        let id = format!("{thread}-{number}").into();
        let decider = Decider {
            snapshot: s,
            state,
            id: &id,
            log: Some(&log),
        };
        let verdict = decider.authorize_connection(local, 8080, &from);
        let ConnectionVerdict::InspectRequests(inspect) = verdict else {
            panic!("{verdict:?}");
        };
        let permit = decider.authorize_request(&inspect, &head).unwrap();
        let of = (&inspect, permit);
        let user = (number % 3).to_string();
        let header = |_: &str| Some(user.clone());
        decider.limit_request(of, &header, millis(5)).is_ok()
    };
    (0..REQUESTS).filter(pass).count()
}

#[test]
fn threads_share_the_buckets_and_each_record_decides_alone() {
    let key = [RateKey::Header("x-user".into())];
    let all = [limit(1, 60, BURST, &[]), limit(1, 60, BURST / 3, &key)];
    let (s, state) = (Arc::new(limited(&all).build()), State::new());
    let told = Mutex::new(Vec::new());
    let passed: usize = std::thread::scope(|scope| {
        let (s, state, told) = (&s, &state, &told);
        let mut workers = Vec::new();
        for thread in 0..THREADS {
            workers.push(scope.spawn(move || worker(s, state, thread, told)));
        }
        workers.into_iter().map(|one| one.join().unwrap()).sum()
    });
    assert_eq!(passed, usize::try_from(BURST).unwrap());
    let text = serde_json::to_string(&told.into_inner().unwrap()).unwrap();
    let mut records: Vec<Record> = serde_json::from_str(&text).unwrap();
    records.retain(|record| record.decision.kind() == "rate");
    assert_eq!(records.len(), THREADS * REQUESTS);
    let differ = |records: &[Record]| {
        let differs = |record: &&Record| again(&s, record).as_ref() != Ok(*record);
        records.iter().filter(differs).count()
    };
    assert_eq!(differ(&records), 0);
    // The control: at another moment another decision comes out, or another state.
    for record in &mut records {
        if let Decision::Rate(decided) = &mut record.decision {
            decided.asked.now = millis(3_600_000);
        }
    }
    assert!(differ(&records) >= THREADS * REQUESTS - passed);
}

#[test]
fn what_found_no_room_is_decided_again_too() {
    let key = [RateKey::Header("x-user".into())];
    let s = Arc::new(limited(&[limit(1, 60, 1, &key)]).build());
    let (state, from) = (State::new(), peer("edge", "web"));
    // The worker's keys are 0, 1 and 2: they find no room, and share a bucket.
    for number in 3..MOST_KEYS + 3 {
        let asked = calls(&s, &state).ask(&from, &[("x-user", &number.to_string())], millis(0));
        assert!(asked.is_ok());
    }
    let told = Mutex::new(Vec::new());
    assert_eq!(worker(&s, &state, 0, &told), 1);
    let told = told.into_inner().unwrap();
    let rates: Vec<&Record> = told
        .iter()
        .filter(|record| record.decision.kind() == "rate")
        .collect();
    assert_eq!(rates.len(), REQUESTS);
    for record in rates {
        assert_eq!(again(&s, record).as_ref(), Ok(record));
    }
}

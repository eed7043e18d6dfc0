//! Decisions of several threads over one state, each made again alone from its record.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tacit_decide::health::SessionSign;
use tacit_decide::record::{Decision, Entry, Leg, Record};
use tacit_decide::replay::again;
use tacit_decide::retry::{RetryDecision, Sent, TryOutcome};
use tacit_decide::{Ask, Decider, State};
use tacit_model::resilience::{Budget, Fields, Layer, RetryOn, RetryWhen};
use tacit_model::{Dice, Now, Snapshot, Sourced};

use crate::world::{Client, failover, millis, shop};

const THREADS: u64 = 4;
const REQUESTS: u64 = 1500;

/// Three tries, and few of them over a second.
fn retries() -> Layer {
    let when = RetryWhen {
        on: [RetryOn::GatewayError, RetryOn::Reset].into(),
        codes: [503].into(),
    };
    let budget = Budget {
        retry_percent: 20,
        interval: Duration::from_secs(1),
        min_per_second: 3,
    };
    Layer {
        callers: None,
        fields: Fields {
            request: Some(Sourced::default_of(Duration::from_secs(2))),
            per_try: Some(Sourced::default_of(Duration::from_millis(300))),
            attempts: Some(Sourced::default_of(3)),
            when: Some(Sourced::default_of(when)),
            budget: Some(Sourced::default_of(budget)),
            ..Fields::default()
        },
    }
}

fn outcome(number: u64) -> TryOutcome {
    let (sent, session_lost) = (Sent::Something, number.is_multiple_of(2));
    match number {
        0..3 => TryOutcome::ApplicationRefused,
        3..8 => TryOutcome::ConnectFailed,
        8..20 => TryOutcome::Reset { sent, session_lost },
        20..40 => TryOutcome::PerTryTimeout { sent },
        40..200 => TryOutcome::Status(503),
        _ => TryOutcome::Status(200),
    }
}

/// What one thread does: requests with their tries, and news of sessions between them.
fn requests(snapshot: &Arc<Snapshot>, state: &State, seed: u64, told: &Mutex<Vec<Record>>) {
    let log = |entry: Entry| told.lock().unwrap().push(entry.record);
    let client = Client::new(snapshot, state);
    let mut dice = Dice(seed);
    let mut roll = |bound| {
        let (number, next) = dice.below(bound);
        dice = next;
        number
    };
    let mut under_way = Vec::new();
    for request in 0..REQUESTS {
        let id = format!("{seed}-{request}").into();
        let decider = Decider {
            snapshot,
            state,
            id: &id,
            log: Some(&log),
        };
        let now = |later| millis(request * 50 + later);
        let r = decider.effective(&client.service, None, &client.source);
        let leg = Leg {
            source: client.source.name.clone(),
            service: client.service.name.clone(),
            rule: None,
        };
        let mut progress = decider.begin(&r, leg, "GET", None, now(0));
        let mut tried = Vec::new();
        loop {
            let ask = Ask {
                source: &client.source,
                service: &client.service,
                port: &client.service.ports[0],
                tried: &tried,
                control_stale: false,
            };
            let Ok(choice) = decider.choose(&ask, now(1), Dice(roll(u64::MAX))) else {
                break;
            };
            tried.push(choice.tried());
            let ended = outcome(roll(1000));
            decider.on_result(&choice.service, choice.endpoint, &ended, now(2));
            under_way.push(choice.in_flight);
            let chance = Dice(roll(u64::MAX));
            match decider.after_try(&r, &mut progress, (&ended, true), now(3), chance) {
                RetryDecision::Again { .. } => {}
                RetryDecision::GiveUp(_) => break,
            }
        }
        under_way.drain(..under_way.len().saturating_sub(8));
        learn_of_sessions(state, now(4), roll(100));
    }
}

fn learn_of_sessions(state: &State, now: Now, number: u64) {
    let last = u8::try_from(1 + number % 3).unwrap();
    for zone in 1..=3 {
        let sign = if number == 0 {
            SessionSign::Lost
        } else {
            SessionSign::Up
        };
        state.on_session([10, 0, zone, last].into(), sign, now);
    }
}

fn differ(snapshot: &Arc<Snapshot>, records: &[Record]) -> usize {
    let differs = |record: &&Record| again(snapshot, record).as_ref() != Ok(*record);
    records.iter().filter(differs).count()
}

#[test]
fn what_threads_decide_together_each_record_decides_alone() {
    let mut world = shop(3);
    world.change_service("payments", "shop", |row| {
        row.failover = Some(failover());
        row.resilience.push(retries());
    });
    let (snapshot, state) = (Arc::new(world.build()), State::new());
    let told = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for seed in 1..=THREADS {
            let (snapshot, state, told) = (&snapshot, &state, &told);
            scope.spawn(move || requests(snapshot, state, seed, told));
        }
    });
    let records = told.into_inner().unwrap();
    let text = serde_json::to_string(&records).unwrap();
    let mut records: Vec<Record> = serde_json::from_str(&text).unwrap();
    for kind in ["effective", "begin", "choose", "learn", "after_try"] {
        let count = records.iter().filter(|r| r.decision.kind() == kind).count();
        assert!(count >= 3000, "{count} of {kind}");
    }
    assert_eq!(differ(&snapshot, &records), 0);

    // The control: what is changed is noticed.
    for record in &mut records {
        if let Decision::Choose(decided) = &mut record.decision {
            decided.asked.dice = decided.asked.dice.roll().1;
        }
    }
    let differ = differ(&snapshot, &records);
    assert!(differ > 100, "{differ}");
    println!("{} records; with other dice {differ} differ", records.len());
}

#[test]
fn a_record_of_another_mesh_cannot_be_decided_again() {
    let snapshot = Arc::new(shop(1).build());
    let (state, told) = (State::new(), Mutex::new(Vec::new()));
    requests(&snapshot, &state, 1, &told);
    let record = told.into_inner().unwrap().remove(0);
    let other = Arc::new(crate::world::World::new().build());
    let unfit = again(&other, &record).unwrap_err();
    assert_eq!(
        unfit.to_string(),
        "its generation has no workload shop/web-1"
    );
}

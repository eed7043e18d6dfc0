//! Failures made on purpose: whom they befall, how many, until when, and the same again.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tacit_decide::fault::{holding, inject};
use tacit_decide::record::{Decision, Entry, Record};
use tacit_decide::replay::again;
use tacit_decide::{Decider, State};
use tacit_model::access::From;
use tacit_model::fault::{Abort, Delay, FaultLayer, Injected};
use tacit_model::{Dice, Now, ObjectRef, Provenance, Snapshot, Sourced, WorkloadName};

use crate::world::{namespace, seconds, service_name, shop};

/// When the faults of these tests end, after the beginning of time.
const END: u64 = 1_000_100;

fn by<T>(policy: &str, value: T) -> Sourced<T> {
    let from = Provenance::Field {
        object: ObjectRef {
            kind: "FaultPolicy".into(),
            namespace: Some(namespace("shop")),
            name: policy.try_into().unwrap(),
        },
        path: "spec".into(),
    };
    Sourced { value, from }
}

fn delay(policy: &str, share_percent: u32) -> Sourced<Delay> {
    let time = Duration::from_secs(2);
    by(
        policy,
        Delay {
            time,
            share_percent,
        },
    )
}

fn abort(policy: &str, share_percent: u32) -> Sourced<Abort> {
    by(
        policy,
        Abort {
            status: 503,
            share_percent,
        },
    )
}

fn layer(delay: Option<Sourced<Delay>>, abort: Option<Sourced<Abort>>) -> FaultLayer {
    FaultLayer {
        callers: None,
        until: END,
        delay,
        abort,
    }
}

fn with(layers: Vec<FaultLayer>) -> Arc<Snapshot> {
    let mut world = shop(1);
    world.change_service("payments", "shop", |row| row.faults = layers);
    Arc::new(world.build())
}

/// What befalls as many requests of a workload at one moment: how many waited, how many got an
/// answer, and how many both.
fn befallen(s: &Snapshot, caller: &str, now: Now, count: u64) -> [usize; 3] {
    let service = &s.services[&service_name("payments", "shop")];
    let source = &s.workloads[&WorkloadName::parse("shop", caller).unwrap()];
    let mut counts = [0; 3];
    for number in 0..count {
        let injected = inject(s, service, source, now, Dice(number * 7919));
        counts[0] += usize::from(injected.delay.is_some());
        counts[1] += usize::from(injected.abort.is_some());
        counts[2] += usize::from(injected.delay.is_some() && injected.abort.is_some());
    }
    counts
}

#[test]
fn the_share_befalls_and_the_two_are_apart() {
    let s = with(vec![layer(Some(delay("a", 20)), Some(abort("a", 50)))]);
    let [waited, answered, both] = befallen(&s, "web-1", seconds(0), 10_000);
    assert!((1800..2200).contains(&waited), "{waited}");
    assert!((4700..5300).contains(&answered), "{answered}");
    assert!((850..1150).contains(&both), "{both}");
    let all = with(vec![layer(Some(delay("a", 100)), Some(abort("a", 100)))]);
    assert_eq!(befallen(&all, "web-1", seconds(0), 1000), [1000; 3]);
    let none = with(vec![layer(Some(delay("a", 0)), Some(abort("a", 0)))]);
    assert_eq!(befallen(&none, "web-1", seconds(0), 1000), [0; 3]);
    assert_eq!(
        befallen(&with(Vec::new()), "web-1", seconds(0), 1000),
        [0; 3]
    );
}

#[test]
fn each_field_is_decided_by_itself_for_the_caller_until_the_end() {
    let web = From {
        service_accounts: Some([(namespace("shop"), "web".try_into().unwrap())].into()),
        ..From::default()
    };
    let s = with(vec![
        FaultLayer {
            callers: Some(vec![web]),
            until: END - 50,
            ..layer(None, Some(abort("web", 100)))
        },
        layer(Some(delay("all", 100)), Some(abort("all", 0))),
    ]);
    let found = |caller: &str, after: u64| {
        let service = &s.services[&service_name("payments", "shop")];
        let source = &s.workloads[&WorkloadName::parse("shop", caller).unwrap()];
        let faults = holding(&s, service, source, seconds(after));
        (faults.delay, faults.abort)
    };
    assert_eq!(
        found("web-1", 0),
        (Some(delay("all", 100)), Some(abort("web", 100)))
    );
    assert_eq!(
        found("payments-a-1", 0),
        (Some(delay("all", 100)), Some(abort("all", 0)))
    );
    // The first ends, then the other.
    assert_eq!(
        found("web-1", 49),
        (Some(delay("all", 100)), Some(abort("web", 100)))
    );
    assert_eq!(
        found("web-1", 50),
        (Some(delay("all", 100)), Some(abort("all", 0)))
    );
    assert_eq!(
        found("web-1", 99),
        (Some(delay("all", 100)), Some(abort("all", 0)))
    );
    assert_eq!(found("web-1", 100), (None, None));
    assert_eq!(befallen(&s, "web-1", seconds(0), 9), [9; 3]);
    assert_eq!(befallen(&s, "web-1", seconds(100), 9), [0; 3]);
}

#[test]
fn each_record_decides_alone_and_nothing_is_told_without_a_policy() {
    let told = Mutex::new(Vec::new());
    let log = |entry: Entry| told.lock().unwrap().push(entry.record);
    let (state, id) = (State::new(), "1".into());
    let ask = |s: &Arc<Snapshot>, number: u64| {
        let decider = Decider {
            snapshot: s,
            state: &state,
            id: &id,
            log: Some(&log),
        };
        let service = &s.services[&service_name("payments", "shop")];
        let source = &s.workloads[&WorkloadName::parse("shop", "web-1").unwrap()];
        decider.inject(service, source, seconds(0), Dice(number * 7919))
    };
    assert_eq!(ask(&with(Vec::new()), 1), Injected::default());
    assert_eq!(told.lock().unwrap().len(), 0);
    let s = with(vec![layer(Some(delay("a", 20)), Some(abort("a", 50)))]);
    let injected: Vec<Injected> = (0..500).map(|number| ask(&s, number)).collect();
    let text = serde_json::to_string(&told.into_inner().unwrap()).unwrap();
    let mut records: Vec<Record> = serde_json::from_str(&text).unwrap();
    assert_eq!(records.len(), injected.len());
    let differ = |records: &[Record]| {
        let differs = |record: &&Record| again(&s, record).as_ref() != Ok(*record);
        records.iter().filter(differs).count()
    };
    assert_eq!(differ(&records), 0);
    // The control: with another chance, or when it is over, something else comes out.
    for record in &mut records {
        if let Decision::Inject(decided) = &mut record.decision {
            decided.asked.now = seconds(100);
        }
    }
    let befallen = injected.iter().filter(|one| **one != Injected::default());
    assert_eq!(differ(&records), befallen.count());
    assert!(differ(&records) > 200);
}

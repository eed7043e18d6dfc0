//! Order, weights, spilling, failing back and the choice of endpoints.

use std::collections::BTreeSet;
use std::time::Duration;

use tacit_decide::failover::{armed, table_line};
use tacit_decide::health::SessionSign;
use tacit_decide::retry::TryOutcome;
use tacit_decide::{DenialKind, State, Tried};
use tacit_model::failover::{ClientOrder, Failover, Step, WhenNoneHealthy};
use tacit_model::locality::Place;
use tacit_model::status::Reason;
use tacit_model::tables::Protocol;
use tacit_model::{Locality, Sourced};

use crate::world::{
    Client, WorkloadSpec, World, at, counts, failover, places, region, seconds, service_name, shop,
    zone,
};

fn with(each: u8, change: impl FnOnce(&mut Failover)) -> World {
    let mut world = shop(each);
    let mut policy = failover();
    change(&mut policy);
    world.change_service("payments", "shop", |row| row.failover = Some(policy));
    world
}

fn lose(state: &State, zone: u8, each: u8, second: u64) {
    for i in 1..=each {
        let address = [10, 0, zone, i].into();
        state.on_session(address, SessionSign::Lost, seconds(second));
    }
}

fn find(state: &State, zone: u8, each: u8, second: u64) {
    for i in 1..=each {
        state.on_session([10, 0, zone, i].into(), SessionSign::Up, seconds(second));
    }
}

/// Within a fifth of what is expected of 1000.
fn roughly(count: Option<&u32>, expected: u32) -> bool {
    let count = count.copied().unwrap_or(0);
    count.abs_diff(expected) <= 60
}

#[test]
fn without_a_policy_all_are_equal() {
    let (s, state) = (shop(2).build(), State::new());
    let zones = Client::new(&s, &state).zones(1000, seconds(0));
    for zone in ["a", "b", "c"] {
        assert!(roughly(zones.get(zone), 333), "{zones:?}");
    }
}

#[test]
fn the_order_holds_top_down_and_a_dead_place_gets_nothing() {
    let world = with(2, |_| {});
    let (s, state) = (world.build(), State::new());
    let mut client = Client::new(&s, &state);
    assert_eq!(client.zones(500, seconds(0)), counts([("a", 500)]));
    lose(&state, 1, 2, 1);
    assert_eq!(client.zones(500, seconds(1)), counts([("b", 500)]));
    lose(&state, 2, 2, 2);
    assert_eq!(client.zones(500, seconds(2)), counts([("c", 500)]));
    lose(&state, 3, 2, 3);
    assert_eq!(client.zones(500, seconds(3)), counts([("none", 500)]));
}

#[test]
fn same_is_relative_to_the_client_and_the_most_specific_order_wins() {
    let world = with(1, |policy| {
        policy.orders = vec![
            ClientOrder {
                clients: Place {
                    region: region("r1").region,
                    ..Place::default()
                },
                steps: vec![places(&[(zone("c"), 1)])],
            },
            ClientOrder {
                clients: Place {
                    region: region("r1").region,
                    zone: zone("b").zone,
                    ..Place::default()
                },
                steps: vec![places(&[(zone("same"), 1)])],
            },
        ];
    });
    let (s, state) = (world.build(), State::new());
    for (client_at, expected) in [
        (at("r1", "a"), "c"),
        (at("r1", "b"), "b"),
        (at("r2", "c"), "c"),
        (at("r9", "x"), "any"),
    ] {
        let mut client = Client::new(&s, &state);
        let mut source = (*client.source).clone();
        source.locality = client_at.clone();
        client.source = source.into();
        let zones = client.zones(200, seconds(0));
        if expected == "any" {
            assert_eq!(zones.len(), 3, "{zones:?}");
        } else {
            assert_eq!(zones, counts([(expected, 200)]), "{client_at}");
        }
    }
}

#[test]
fn weights_share_a_step() {
    let world = with(3, |policy| {
        let step = places(&[(zone("a"), 80), (zone("b"), 20)]);
        policy.order = Sourced::default_of(vec![step, places(&[(zone("c"), 1)])]);
    });
    let (s, state) = (world.build(), State::new());
    let mut client = Client::new(&s, &state);
    let zones = client.zones(1000, seconds(0));
    assert!(
        roughly(zones.get("a"), 800) && roughly(zones.get("b"), 200),
        "{zones:?}"
    );
    // A place that is gone leaves its share to the others of its step, while they fit.
    lose(&state, 2, 1, 1);
    lose(&state, 1, 3, 1);
    let zones = client.zones(1000, seconds(1));
    assert!(!zones.contains_key("a"), "{zones:?}");
}

#[test]
fn nothing_leaves_the_order() {
    let world = with(1, |policy| {
        policy.order = Sourced::default_of(vec![places(&[(zone("b"), 1)])]);
    });
    let (s, state) = (world.build(), State::new());
    let mut client = Client::new(&s, &state);
    assert_eq!(client.zones(100, seconds(0)), counts([("b", 100)]));
    lose(&state, 2, 1, 0);
    client.control_stale = true;
    assert_eq!(client.zones(100, seconds(0)), counts([("none", 100)]));
    let denial = client.choose(&[], seconds(0)).unwrap_err();
    assert_eq!(denial.kind, DenialKind::NoEndpoint);
    assert!(denial.reason.contains("1 unreachable"), "{denial}");
}

#[test]
fn another_service_is_the_fallback() {
    let mut world = with(1, |policy| {
        let lite = Step::Service(service_name("payments-lite", "shop"));
        policy.order = Sourced::default_of(vec![places(&[(zone("a"), 1)]), lite]);
    });
    world.service(
        "payments-lite",
        "shop",
        2,
        &[("http", 80, 8080, Protocol::Http)],
    );
    world.workload(WorkloadSpec {
        name: "lite-1",
        ns: "shop",
        app: "payments-lite",
        address: [10, 0, 9, 1],
        locality: at("r2", "lite"),
        node: "node-lite",
    });
    let (s, state) = (world.build(), State::new());
    let mut client = Client::new(&s, &state);
    assert_eq!(client.zones(100, seconds(0)), counts([("a", 100)]));
    lose(&state, 1, 1, 0);
    assert_eq!(client.zones(100, seconds(0)), counts([("lite", 100)]));
    let choice = client.choose(&[], seconds(0)).unwrap();
    assert_eq!(choice.service.name, service_name("payments-lite", "shop"));
    assert_eq!(
        (
            choice.step,
            choice.permit.expected().service_account.as_str()
        ),
        (1, "payments-lite")
    );
}

#[test]
fn too_few_spill_gradually_but_the_unreachable_at_once() {
    let world = with(10, |_| {});
    let (mut s, state) = (world.build(), State::new());
    let mut client = Client::new(&s, &state);
    assert_eq!(client.zones(200, seconds(0)), counts([("a", 200)]));
    // 7 of 10 still carry all of it.
    lose(&state, 1, 3, 1);
    assert_eq!(client.zones(200, seconds(1)), counts([("a", 200)]));
    // 3.5 of 10 would carry half: unreachable, so half goes at once.
    lose(&state, 1, 6, 2);
    let zones = client.zones(1000, seconds(2));
    assert!(
        roughly(zones.get("a"), 571) && roughly(zones.get("b"), 428),
        "{zones:?}"
    );

    // The same number not ready: half of it has gone after half of the ramp.
    let mut world = world;
    for i in 1..=6 {
        world.change_workload(&format!("payments-a-{i}"), "shop", |row| row.ready.clear());
    }
    let state = State::new();
    assert_eq!(
        Client::new(&s, &state).zones(100, seconds(0)),
        counts([("a", 100)])
    );
    s = world.build();
    let mut client = Client::new(&s, &state);
    for (second, share) in [(1, 1000), (6, 786), (11, 571), (20, 571)] {
        let zones = client.zones(1000, seconds(second));
        assert!(roughly(zones.get("a"), share), "{second} {zones:?}");
    }
}

#[test]
fn a_place_comes_back_after_a_calm_time_and_gradually() {
    let world = with(2, |_| {});
    let (s, state) = (world.build(), State::new());
    let mut client = Client::new(&s, &state);
    client.zones(1, seconds(0));
    lose(&state, 1, 2, 10);
    assert_eq!(client.zones(100, seconds(10)), counts([("b", 100)]));
    find(&state, 1, 2, 100);
    for (second, share) in [
        (100, 0),
        (129, 0),
        (131, 33),
        (145, 500),
        (159, 967),
        (170, 1000),
    ] {
        let zones = client.zones(1000, seconds(second));
        assert!(roughly(zones.get("a"), share), "{second} {zones:?}");
    }
}

#[test]
fn a_place_that_flaps_waits_anew() {
    let world = with(2, |_| {});
    let (s, state) = (world.build(), State::new());
    let mut client = Client::new(&s, &state);
    client.zones(1, seconds(0));
    lose(&state, 1, 2, 10);
    client.zones(1, seconds(10));
    find(&state, 1, 2, 20);
    client.zones(1, seconds(20));
    lose(&state, 1, 2, 45);
    assert_eq!(client.zones(100, seconds(45)), counts([("b", 100)]));
    find(&state, 1, 2, 46);
    assert_eq!(client.zones(100, seconds(46)), counts([("b", 100)]));
    assert_eq!(client.zones(100, seconds(75)), counts([("b", 100)]));
    let zones = client.zones(1000, seconds(91));
    assert!(roughly(zones.get("a"), 500), "{zones:?}");
}

#[test]
fn a_place_that_worsens_while_it_returns_waits_anew() {
    let world = with(10, |_| {});
    let (s, state) = (world.build(), State::new());
    let mut client = Client::new(&s, &state);
    client.zones(1, seconds(0));
    lose(&state, 1, 10, 10);
    client.zones(1, seconds(10));
    find(&state, 1, 10, 20);
    client.zones(1, seconds(20));
    // Half-way back, then 6 of 10 are left: they could take 86 %, but it stays at half.
    client.zones(1, seconds(65));
    lose(&state, 1, 4, 65);
    for second in [65, 80, 94] {
        let zones = client.zones(1000, seconds(second));
        assert!(roughly(zones.get("a"), 500), "{second} {zones:?}");
    }
    let zones = client.zones(1000, seconds(125));
    assert!(roughly(zones.get("a"), 857), "{zones:?}");
}

#[test]
fn a_place_that_waits_serves_at_once_when_nothing_else_can() {
    let world = with(2, |_| {});
    let (s, state) = (world.build(), State::new());
    let mut client = Client::new(&s, &state);
    client.zones(1, seconds(0));
    lose(&state, 1, 2, 10);
    client.zones(1, seconds(10));
    find(&state, 1, 2, 20);
    client.zones(1, seconds(20));
    lose(&state, 2, 2, 21);
    lose(&state, 3, 2, 21);
    assert_eq!(client.zones(100, seconds(21)), counts([("a", 100)]));
}

#[test]
fn a_place_that_starts_up_needs_no_calm_time() {
    let mut world = with(1, |_| {});
    world.change_workload("payments-a-1", "shop", |row| row.ready.clear());
    let (s, state) = (world.build(), State::new());
    assert_eq!(
        Client::new(&s, &state).zones(100, seconds(0)),
        counts([("b", 100)])
    );
    world.change_workload("payments-a-1", "shop", |row| row.ready = [8080].into());
    let s = world.build();
    assert_eq!(
        Client::new(&s, &state).zones(100, seconds(1)),
        counts([("a", 100)])
    );
}

#[test]
fn further_tries_go_elsewhere_and_then_to_the_next_step() {
    let world = with(3, |_| {});
    let (s, state) = (world.build(), State::new());
    let mut client = Client::new(&s, &state);
    for _ in 0..200 {
        let mut tried: Vec<Tried> = Vec::new();
        let mut zones = String::new();
        for _ in 0..9 {
            let choice = client.choose(&tried, seconds(0)).unwrap();
            assert!(
                tried.iter().all(|t| t.endpoint != choice.endpoint),
                "{tried:?}"
            );
            zones.push_str(&choice.workload.locality.zone);
            tried.push(choice.tried());
        }
        // Second in the same step, third in the next one, and on; then from the top again.
        assert!(zones.starts_with("aabc"), "{zones}");
        let all: BTreeSet<_> = tried.iter().map(|t| t.endpoint).collect();
        assert_eq!(all.len(), 9);
        // Only when every other one was tried, one comes again.
        assert!(client.choose(&tried, seconds(0)).is_ok());
    }
}

#[test]
fn a_further_try_leaves_a_node_in_doubt() {
    let world = with(2, |_| {});
    let (s, state) = (world.build(), State::new());
    let mut client = Client::new(&s, &state);
    for _ in 0..50 {
        state.on_session([10, 0, 1, 1].into(), SessionSign::Up, seconds(1));
        let first = loop {
            let choice = client.choose(&[], seconds(1)).unwrap();
            if choice.endpoint.ip() == std::net::IpAddr::from([10, 0, 1, 1]) {
                break choice;
            }
        };
        state.on_session([10, 0, 1, 1].into(), SessionSign::Lost, seconds(1));
        let second = client.choose(&[first.tried()], seconds(1)).unwrap();
        assert_eq!(&*second.workload.locality.zone, "b");
        let later = client.choose(&[first.tried()], seconds(4)).unwrap();
        assert_eq!(&*later.workload.locality.zone, "a");
    }
}

#[test]
fn a_further_try_leaves_an_exhausted_step() {
    let world = with(1, |_| {});
    let (s, state) = (world.build(), State::new());
    let mut client = Client::new(&s, &state);
    let first = client.choose(&[], seconds(0)).unwrap();
    let second = client.choose(&[first.tried()], seconds(0)).unwrap();
    assert_eq!((first.step, second.step), (0, 1));
}

#[test]
fn none_healthy_means_the_ejected_or_nobody() {
    for (last_resort, expected) in [(WhenNoneHealthy::Any, "b"), (WhenNoneHealthy::Fail, "none")] {
        let mut world = with(1, |policy| {
            policy.when_none_healthy = Sourced::default_of(last_resort);
            policy.health.value.eject.as_mut().unwrap().max_percent = 100;
        });
        world.change_workload("payments-c-1", "shop", |row| row.ready.clear());
        let (s, state) = (world.build(), State::new());
        let mut client = Client::new(&s, &state);
        lose(&state, 1, 1, 0);
        for _ in 0..3 {
            client.result("10.0.2.1:8080", TryOutcome::Status(503), seconds(0));
        }
        assert_eq!(client.zones(50, seconds(1)), counts([(expected, 50)]));
    }
}

#[test]
fn the_declared_are_the_last_candidates_during_an_outage() {
    let mut world = shop(1);
    for name in ["payments-a-1", "payments-b-1"] {
        world.change_workload(name, "shop", |row| row.ready.clear());
    }
    let (s, state) = (world.build(), State::new());
    let mut client = Client::new(&s, &state);
    client.control_stale = true;
    assert_eq!(client.zones(100, seconds(0)), counts([("c", 100)]));
    lose(&state, 3, 1, 0);
    let zones = client.zones(100, seconds(0));
    assert_eq!(
        zones.keys().map(String::as_str).collect::<Vec<_>>(),
        ["a", "b"]
    );
    client.control_stale = false;
    assert_eq!(client.zones(100, seconds(0)), counts([("none", 100)]));
}

#[test]
fn the_less_busy_of_two_serves() {
    let (s, state) = (shop(2).build(), State::new());
    let mut client = Client::new(&s, &state);
    let mut held = Vec::new();
    for _ in 0..600 {
        held.push(client.choose(&[], seconds(0)).unwrap());
    }
    let mut each = std::collections::BTreeMap::<_, u32>::new();
    for choice in &held {
        *each.entry(choice.endpoint).or_default() += 1;
    }
    // Random choice alone would spread about ten to each side.
    assert!(
        each.values().all(|count| (97..=103).contains(count)),
        "{each:?}"
    );
}

#[test]
fn armed_says_why_not() {
    let clients = BTreeSet::from([at("r1", "a")]);
    let condition = |world: &World| {
        let s = world.build();
        let service = s.services[&service_name("payments", "shop")].clone();
        armed(&s, &service, &clients)
    };
    assert_eq!(condition(&shop(1)), None);
    let reason = |world: &World| condition(world).map(|c| (c.status, c.reason));
    assert_eq!(reason(&with(1, |_| {})), Some((true, Reason::Armed)));
    let alone = with(3, |policy| {
        policy.order = Sourced::default_of(vec![places(&[(zone("same"), 1)])]);
    });
    assert_eq!(reason(&alone), Some((false, Reason::NoAlternative)));
    let deaf = with(1, |policy| policy.health.value.signals.clear());
    assert_eq!(reason(&deaf), Some((false, Reason::NoHealthSignal)));
}

#[test]
fn the_table_shows_the_order_with_counts() {
    let mut world = with(2, |policy| {
        policy.failback.value.after = Duration::ZERO;
    });
    world.change_workload("payments-b-1", "shop", |row| row.ready.clear());
    let s = world.build();
    let service = s.services[&service_name("payments", "shop")].clone();
    let line = table_line(&s, &service, &at("r1", "a"));
    assert_eq!(
        line,
        "c/r1/a: zone same (2/2 ready) → region same (1/2 ready) → anywhere (2/2 ready)"
    );
    let nowhere = table_line(&s, &service, &Locality::default());
    assert_eq!(
        nowhere,
        "unknown: zone same (0/0 ready) → region same (0/0 ready) → anywhere (5/6 ready)"
    );
}

#[test]
fn workers_share_one_state() {
    let world = with(3, |_| {});
    let (s, state) = (world.build(), State::new());
    std::thread::scope(|scope| {
        for worker in 0..4u8 {
            let (s, state) = (&s, &state);
            scope.spawn(move || {
                let mut client = Client::new(s, state);
                for n in 0..2000 {
                    let now = seconds(n / 100);
                    match client.choose(&[], now) {
                        Ok(choice) if n % 7 == u64::from(worker) => {
                            let endpoint = choice.endpoint.to_string();
                            client.result(&endpoint, TryOutcome::ConnectFailed, now);
                        }
                        Ok(choice) => {
                            let endpoint = choice.endpoint.to_string();
                            client.result(&endpoint, TryOutcome::Status(503), now);
                        }
                        Err(denial) => assert_eq!(denial.kind, DenialKind::NoEndpoint),
                    }
                    for ask in state.due_probes(s, now) {
                        state.on_probe(&ask, n % 2 == 0, now);
                    }
                    state.retain(s);
                }
            });
        }
    });
    // Nobody holds a try any more, and everything can come back.
    for zone in 1..=3 {
        find(&state, zone, 3, 100);
    }
    assert!(Client::new(&s, &state).choose(&[], seconds(1000)).is_ok());
}

//! Ejection, unreachability and probes, in virtual time.

use std::net::IpAddr;
use std::time::Duration;

use tacit_decide::State;
use tacit_decide::health::{ProbeAsk, ProbeKind, SessionSign};
use tacit_decide::retry::{Sent, TryOutcome};
use tacit_model::failover::{Eject, Probe, WhenNoneHealthy};
use tacit_model::{Now, Snapshot};

use crate::world::{Client, World, counts, failover, millis, seconds, shop};

const A1: &str = "10.0.1.1:8080";
const A2: &str = "10.0.1.2:8080";

fn with_policy(each: u8, change: impl FnOnce(&mut Eject)) -> World {
    let mut world = shop(each);
    let mut policy = failover();
    policy.when_none_healthy.value = WhenNoneHealthy::Fail;
    change(policy.health.value.eject.as_mut().unwrap());
    world.change_service("payments", "shop", |row| row.failover = Some(policy));
    world
}

/// True if `endpoint` gets a share of 200 first tries.
fn is_used(client: &mut Client<'_>, endpoint: &str, now: Now) -> bool {
    (0..200).any(|_| {
        client
            .choose(&[], now)
            .is_ok_and(|choice| choice.endpoint.to_string() == endpoint)
    })
}

#[test]
fn failures_in_a_row_eject_and_time_heals() {
    let world = with_policy(4, |_| {});
    let (s, state) = (world.build(), State::new());
    let mut client = Client::new(&s, &state);
    let bad = TryOutcome::Status(503);
    client.result(A1, bad, seconds(0));
    client.result(A1, bad, seconds(1));
    assert!(is_used(&mut client, A1, seconds(1)));
    client.result(A1, bad, seconds(2));
    assert!(!is_used(&mut client, A1, seconds(2)));
    assert!(!is_used(&mut client, A1, millis(31_999)));
    assert!(is_used(&mut client, A1, seconds(32)));
}

#[test]
fn what_counts_as_a_failure() {
    let sent = Sent::Something;
    let cases = [
        (TryOutcome::Status(502), true),
        (TryOutcome::Status(503), true),
        (TryOutcome::Status(504), true),
        // ServerError is not among the policy's signals.
        (TryOutcome::Status(500), false),
        (TryOutcome::Status(429), false),
        (TryOutcome::Status(404), false),
        (TryOutcome::PerTryTimeout { sent }, true),
        (TryOutcome::RequestTimeout { sent }, true),
        (TryOutcome::BrokenAfterHeaders, true),
        (TryOutcome::RefusedByTacit, false),
        (TryOutcome::RefusedStream, false),
        (TryOutcome::OwnFault, false),
        (
            TryOutcome::Reset {
                sent,
                session_lost: false,
            },
            true,
        ),
    ];
    for (outcome, ejects) in cases {
        let world = with_policy(4, |_| {});
        let (s, state) = (world.build(), State::new());
        let mut client = Client::new(&s, &state);
        for _ in 0..10 {
            client.result(A1, outcome, seconds(0));
        }
        assert_eq!(!is_used(&mut client, A1, seconds(1)), ejects, "{outcome:?}");
    }
}

#[test]
fn a_good_result_or_time_breaks_the_row() {
    let world = with_policy(4, |_| {});
    let (s, state) = (world.build(), State::new());
    let mut client = Client::new(&s, &state);
    let bad = TryOutcome::Status(503);
    for second in [0, 1] {
        client.result(A1, bad, seconds(second));
    }
    client.result(A1, TryOutcome::Status(200), seconds(2));
    client.result(A1, bad, seconds(3));
    assert!(is_used(&mut client, A1, seconds(3)));
    // Three in a row, but not within 10 s.
    client.result(A1, bad, seconds(8));
    client.result(A1, bad, seconds(14));
    assert!(is_used(&mut client, A1, seconds(14)));
    client.result(A1, bad, seconds(15));
    assert!(!is_used(&mut client, A1, seconds(15)));
}

#[test]
fn ejections_in_a_row_last_longer_up_to_ten_times() {
    let world = with_policy(4, |_| {});
    let (s, state) = (world.build(), State::new());
    let mut client = Client::new(&s, &state);
    let bad = TryOutcome::Status(503);
    let mut second = 0;
    for factor in [1, 2, 4, 8, 10, 10] {
        for _ in 0..3 {
            client.result(A1, bad, seconds(second));
        }
        assert!(
            !is_used(&mut client, A1, seconds(second + 30 * factor - 1)),
            "{factor}"
        );
        second += 30 * factor;
        assert!(is_used(&mut client, A1, seconds(second)), "{factor}");
    }
    client.result(A1, TryOutcome::Status(200), seconds(second));
    for _ in 0..3 {
        client.result(A1, bad, seconds(second));
    }
    assert!(is_used(&mut client, A1, seconds(second + 30)));
}

#[test]
fn application_errors_never_eject_more_than_the_limit() {
    for (max_percent, expected) in [(0, 0), (10, 1), (50, 6), (100, 12)] {
        let world = with_policy(4, |eject| eject.max_percent = max_percent);
        let (s, state) = (world.build(), State::new());
        let client = Client::new(&s, &state);
        let mut ejected = 0;
        for zone in 1..=3 {
            for i in 1..=4 {
                let endpoint = format!("10.0.{zone}.{i}:8080");
                for _ in 0..5 {
                    client.result(&endpoint, TryOutcome::Status(503), seconds(0));
                }
                let mut client = Client::new(&s, &state);
                // Whoever is not ejected is found when all others were tried.
                ejected += u32::from(!is_found(&mut client, &endpoint));
            }
        }
        assert_eq!(ejected, expected, "{max_percent} %");
    }
}

/// True if `endpoint` is chosen when one asks on and on with everything tried so far.
fn is_found(client: &mut Client<'_>, endpoint: &str) -> bool {
    let mut tried = Vec::new();
    for _ in 0..12 {
        let Ok(choice) = client.choose(&tried, seconds(0)) else {
            return false;
        };
        if tried
            .iter()
            .any(|t: &tacit_decide::Tried| t.endpoint == choice.endpoint)
        {
            return false;
        }
        if choice.endpoint.to_string() == endpoint {
            return true;
        }
        tried.push(choice.tried());
    }
    false
}

#[test]
fn without_a_policy_nothing_is_ejected_but_the_unreachable_are_avoided() {
    let (s, state) = (shop(1).build(), State::new());
    let mut client = Client::new(&s, &state);
    for _ in 0..100 {
        client.result(A1, TryOutcome::Status(503), seconds(0));
    }
    assert!(is_used(&mut client, A1, seconds(0)));
    client.result(A1, TryOutcome::ConnectFailed, seconds(0));
    assert!(!is_used(&mut client, A1, seconds(0)));
    // For as long as it takes: time alone brings nothing back.
    assert!(!is_used(&mut client, A1, seconds(86_400)));
    let address = "10.0.1.1".parse().unwrap();
    state.on_session(address, SessionSign::Up, seconds(86_400));
    assert!(is_used(&mut client, A1, seconds(86_400)));
}

#[test]
fn the_unreachable_are_out_even_if_nothing_else_is_left() {
    let world = with_policy(1, |_| {});
    let (s, state) = (world.build(), State::new());
    let mut client = Client::new(&s, &state);
    for endpoint in [A1, "10.0.2.1:8080", "10.0.3.1:8080"] {
        client.result(endpoint, TryOutcome::ConnectFailed, seconds(0));
    }
    assert_eq!(client.zones(50, seconds(1)), counts([("none", 50)]));
}

fn due(state: &State, s: &Snapshot, now: Now) -> Vec<(String, ProbeKind)> {
    let asks: Vec<ProbeAsk> = state.due_probes(s, now);
    asks.into_iter()
        .map(|ask| (ask.workload.name.to_string(), ask.kind))
        .collect()
}

fn answer(state: &State, s: &Snapshot, now: Now, is_well: bool) -> usize {
    let asks = state.due_probes(s, now);
    for ask in &asks {
        state.on_probe(ask, is_well, now);
    }
    asks.len()
}

#[test]
fn the_lost_are_probed_with_growing_pauses_and_come_back() {
    let (s, state) = (shop(1).build(), State::new());
    let address: IpAddr = "10.0.2.1".parse().unwrap();
    assert!(due(&state, &s, millis(0)).is_empty());
    state.on_session(address, SessionSign::Lost, millis(0));
    assert!(state.is_unreachable(address));
    let first = due(&state, &s, millis(0));
    assert_eq!(
        first,
        [("shop/payments-b-1".to_owned(), ProbeKind::Session)]
    );
    // Asked for once while it is under way.
    assert!(due(&state, &s, millis(100)).is_empty());
    let (s, state) = (shop(1).build(), State::new());
    state.on_session(address, SessionSign::Lost, millis(0));
    let mut asked_at = Vec::new();
    for now in (0..8000).step_by(50) {
        if answer(&state, &s, millis(now), false) > 0 {
            asked_at.push(now);
        }
    }
    assert_eq!(asked_at, [0, 250, 750, 1750, 3750, 5750, 7750]);
    answer(&state, &s, millis(10_000), true);
    assert!(!state.is_unreachable(address));
    assert!(due(&state, &s, millis(60_000)).is_empty());
}

#[test]
fn a_lost_address_makes_its_whole_node_suspect() {
    let (s, state) = (shop(3).build(), State::new());
    let mut client = Client::new(&s, &state);
    state.on_session("10.0.2.1".parse().unwrap(), SessionSign::Lost, millis(0));
    let asked: Vec<String> = due(&state, &s, millis(0))
        .into_iter()
        .map(|(w, _)| w)
        .collect();
    assert_eq!(
        asked,
        [
            "shop/payments-b-1",
            "shop/payments-b-2",
            "shop/payments-b-3"
        ]
    );
    // A suspect is used until its probe fails.
    assert!(is_used(&mut client, "10.0.2.2:8080", millis(0)));
    let (s, state) = (shop(3).build(), State::new());
    let mut client = Client::new(&s, &state);
    state.on_session("10.0.2.1".parse().unwrap(), SessionSign::Lost, millis(0));
    answer(&state, &s, millis(0), false);
    let zones = client.zones(300, millis(1));
    assert!(
        !zones.contains_key("b") && zones["a"] > 50 && zones["c"] > 50,
        "{zones:?}"
    );
}

#[test]
fn an_application_that_refuses_is_offered_a_try_later() {
    let (s, state) = (shop(2).build(), State::new());
    let mut client = Client::new(&s, &state);
    let mut now = 0;
    for pause in [1, 2, 4, 8, 10, 10] {
        client.result(A2, TryOutcome::ApplicationRefused, seconds(now));
        assert!(
            !is_used(&mut client, A2, millis((now + pause) * 1000 - 1)),
            "{pause}"
        );
        now += pause;
        assert!(is_used(&mut client, A2, seconds(now)), "{pause}");
    }
    client.result(A2, TryOutcome::Status(200), seconds(now));
    client.result(A2, TryOutcome::ApplicationRefused, seconds(now));
    assert!(is_used(&mut client, A2, seconds(now + 1)));
}

#[test]
fn an_active_check_decides_alone() {
    let mut world = with_policy(1, |_| {});
    world.change_service("payments", "shop", |row| {
        row.failover.as_mut().unwrap().health.value.probe = Some(Probe {
            path: "/healthz".into(),
            interval: Duration::from_secs(5),
        });
    });
    let (s, state) = (world.build(), State::new());
    let mut client = Client::new(&s, &state);
    assert_eq!(state.due_probes(&s, seconds(0)).len(), 3);
    assert_eq!(state.due_probes(&s, seconds(4)).len(), 0);
    for ask in state.due_probes(&s, seconds(5)) {
        assert!(matches!(&ask.kind, ProbeKind::Http { path, .. } if **path == *"/healthz"));
        state.on_probe(&ask, ask.endpoint.to_string() != A1, seconds(5));
    }
    assert!(!is_used(&mut client, A1, seconds(5)));
    client.result(A1, TryOutcome::Status(200), seconds(6));
    assert!(
        !is_used(&mut client, A1, seconds(6)),
        "only a probe brings it back"
    );
    for ask in state.due_probes(&s, seconds(10)) {
        state.on_probe(&ask, true, seconds(10));
    }
    assert!(is_used(&mut client, A1, seconds(200)));

    // A refusal by Tacit says nothing: neither ill, nor what an earlier probe said. Told once.
    let asks = state.due_probes(&s, seconds(15));
    for ask in &asks {
        state.on_probe(ask, false, seconds(15));
    }
    assert!(
        !is_used(&mut client, A1, seconds(215)),
        "the control: failed probes do"
    );
    let told = asks.iter().filter(|ask| state.on_probe_refused(ask));
    assert_eq!(told.count(), 1);
    assert!(is_used(&mut client, A1, seconds(215)));
    // After an answer of the application a refusal is news again.
    asks.iter()
        .for_each(|ask| state.on_probe(ask, true, seconds(220)));
    assert!(state.on_probe_refused(&asks[0]) && !state.on_probe_refused(&asks[1]));
}

#[test]
fn what_is_gone_is_forgotten() {
    let (s, state) = (shop(1).build(), State::new());
    let address: IpAddr = "10.0.2.1".parse().unwrap();
    state.on_session(address, SessionSign::Lost, seconds(0));
    state.retain(&s);
    assert!(state.is_unreachable(address));
    state.retain(&World::new().build());
    assert!(!state.is_unreachable(address));
}

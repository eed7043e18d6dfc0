//! Failures made on purpose: what the caller gets, what is sent, and that all of it says so.

use std::time::{Duration, Instant};

use tacit_model::event::Reporter::{Destination, Source};
use tacit_model::fault::Injected;
use tacit_model::resilience::RetryOn;

use crate::app::{Seen, body, scripted};
use crate::mesh::{Policy, faulty, snapshot};
use crate::rig::{Behind, Rig, http1, read, request, run};

const FOREVER: Duration = Duration::from_secs(15);
const MOMENT: Duration = Duration::from_millis(50);

/// Tries everything again that may be.
fn eager() -> Policy {
    Policy {
        attempts: 3,
        on: vec![
            RetryOn::GatewayError,
            RetryOn::Reset,
            RetryOn::DeadlineExceeded,
        ],
        codes: vec![503, 418],
        ..Policy::default()
    }
}

/// What the events of the caller's half say was made of their requests.
fn injected(rig: &Rig) -> Vec<Option<Injected>> {
    let events = rig.events.borrow();
    let events = events.iter().filter(|event| event.reporter == Source);
    events
        .map(|event| event.injected.as_deref().cloned())
        .collect()
}

#[test]
fn an_aborted_request_is_answered_and_neither_sent_nor_tried_again() {
    run(async {
        let seen = Seen::default();
        let app = scripted(&seen, |_| 200).await;
        let rig = Rig::new(
            faulty(Some(&eager()), None, Some((418, 100))),
            &[Behind::Half(app)],
        );
        let mut client = http1(rig.connect().await).await;
        for _ in 0..3 {
            let response = client
                .send_request(request("GET", "/", body("")))
                .await
                .unwrap();
            let fault = response.headers()["x-tacit-fault"]
                .to_str()
                .unwrap()
                .to_owned();
            assert_eq!(
                fault,
                "answered 418 on purpose (FaultPolicy/shop/chaos spec.abort)"
            );
            assert!(!response.headers().contains_key("x-tacit-reason"));
            let (status, text) = read(response).await;
            assert_eq!(status, 418);
            assert!(text.contains(&fault), "{text}");
        }
        assert_eq!(rig.until_said(Source, 3).await, ["GET 418 0 Injected"; 3]);
        assert_eq!(rig.said(Destination).len(), 0);
        assert_eq!((seen.count(), rig.dialled.borrow().len()), (0, 0));
        let all = injected(&rig);
        let abort = all[0].as_ref().unwrap().abort.as_ref().unwrap();
        assert_eq!(abort.value, 418);

        // The control: the connection is still good, and without the policy all arrive.
        *rig.snapshot.borrow_mut() = snapshot(1, Some(&eager()), None).into();
        for _ in 0..3 {
            let response = client
                .send_request(request("GET", "/", body("")))
                .await
                .unwrap();
            assert!(!response.headers().contains_key("x-tacit-fault"));
            assert_eq!(read(response).await.0, 200);
        }
        assert_eq!(seen.count(), 3);
        assert_eq!(
            rig.until_said(Source, 6).await[3..],
            [
                "GET 200 1 Complete".to_owned(),
                "GET 200 1 Complete".to_owned(),
                "GET 200 1 Complete".to_owned()
            ]
        );
        assert_eq!(injected(&rig)[3..], [None, None, None]);
    });
}

#[test]
fn the_share_of_requests_is_aborted_and_the_others_are_served() {
    run(async {
        let seen = Seen::default();
        let app = scripted(&seen, |_| 200).await;
        let rig = Rig::new(faulty(None, None, Some((503, 30))), &[Behind::Half(app)]);
        let mut client = http1(rig.connect().await).await;
        let mut aborted = 0;
        for _ in 0..400 {
            let response = client
                .send_request(request("GET", "/", body("")))
                .await
                .unwrap();
            let is_marked = response.headers().contains_key("x-tacit-fault");
            let (status, _) = read(response).await;
            assert_eq!(is_marked, status == 503);
            aborted += usize::from(status == 503);
        }
        assert!((80..160).contains(&aborted), "{aborted} of 400");
        assert_eq!(seen.count(), 400 - aborted);
    });
}

#[test]
fn a_delayed_request_waits_is_served_and_says_so() {
    run(async {
        let seen = Seen::default();
        let app = scripted(&seen, |_| 200).await;
        let rig = Rig::new(
            faulty(None, Some((MOMENT, 100)), None),
            &[Behind::Half(app)],
        );
        let mut client = http1(rig.connect().await).await;
        let start = Instant::now();
        let response = client
            .send_request(request("POST", "/", body("sent")))
            .await
            .unwrap();
        assert!(start.elapsed() >= MOMENT);
        assert_eq!(
            response.headers()["x-tacit-fault"],
            "delayed 50ms on purpose (FaultPolicy/shop/chaos spec.delay)"
        );
        assert_eq!((read(response).await.0, seen.count()), (200, 1));
        assert_eq!(rig.until_said(Source, 1).await, ["POST 200 1 Complete"]);
        let all = injected(&rig);
        let delay = all[0].as_ref().unwrap().delay.as_ref().unwrap();
        assert_eq!(delay.value, MOMENT);

        // Both: it waits, then it is answered.
        *rig.snapshot.borrow_mut() = faulty(None, Some((MOMENT, 100)), Some((500, 100))).into();
        let start = Instant::now();
        let response = client
            .send_request(request("GET", "/", body("")))
            .await
            .unwrap();
        assert!(start.elapsed() >= MOMENT);
        assert_eq!((read(response).await.0, seen.count()), (500, 1));
    });
}

#[test]
fn a_delay_is_part_of_the_time_of_a_request() {
    run(async {
        let policy = Policy {
            request: MOMENT,
            ..eager()
        };
        let seen = Seen::default();
        let app = scripted(&seen, |_| 200).await;
        let rig = Rig::new(
            faulty(Some(&policy), Some((FOREVER, 100)), Some((418, 100))),
            &[Behind::Half(app)],
        );
        let mut client = http1(rig.connect().await).await;
        let start = Instant::now();
        let response = client
            .send_request(request("GET", "/", body("")))
            .await
            .unwrap();
        assert!(start.elapsed() < FOREVER);
        let fault = response.headers()["x-tacit-fault"]
            .to_str()
            .unwrap()
            .to_owned();
        assert_eq!(
            fault,
            "delayed 15s on purpose (FaultPolicy/shop/chaos spec.delay)"
        );
        let (status, text) = read(response).await;
        assert_eq!((status, seen.count()), (504, 0));
        assert!(text.contains("no more time"), "{text}");
        assert_eq!(rig.until_said(Source, 1).await, ["GET 504 0 Injected"]);

        // The caller's own deadline, too.
        *rig.snapshot.borrow_mut() = faulty(None, Some((FOREVER, 100)), None).into();
        let mut asked = request("GET", "/", body(""));
        asked
            .headers_mut()
            .insert("x-request-timeout", "20ms".try_into().unwrap());
        let response = client.send_request(asked).await.unwrap();
        assert_eq!((read(response).await.0, seen.count()), (504, 0));
    });
}

#[test]
fn a_caller_that_goes_away_while_it_waits_ends_the_request() {
    run(async {
        let seen = Seen::default();
        let app = scripted(&seen, |_| 200).await;
        let rig = Rig::new(
            faulty(None, Some((FOREVER, 100)), None),
            &[Behind::Half(app)],
        );
        let mut client = http1(rig.connect().await).await;
        let asked = client.send_request(request("GET", "/", body("")));
        assert!(tokio::time::timeout(MOMENT, asked).await.is_err());
        drop(client);
        assert_eq!(rig.until_said(Source, 1).await, ["GET 0 0 ClientGone"]);
        assert_eq!(seen.count(), 0);
    });
}

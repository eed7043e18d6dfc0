//! The callee's half: verdicts, markers, what the application sees.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use tacit_decide::offline::Freshness;
use tacit_model::event::Reporter::{Destination, Source};
use tacit_model::rate::{RateKey, RateLimit};
use tacit_model::resilience::RetryOn;
use tokio::task::JoinSet;

use crate::app::{self, Seen, body, closed, scripted};
use crate::mesh::{self, Policy, endpoint, frontend, snapshot};
use crate::rig::{Behind, Rig, http1, http2, read, request, run};

#[test]
fn a_refusal_is_neither_forwarded_nor_tried_again() {
    run(async {
        let policy = Policy {
            attempts: 3,
            codes: vec![403, 503],
            on: vec![RetryOn::ServerError, RetryOn::Reset],
            non_idempotent: true,
            ..Policy::default()
        };
        let seen = Seen::default();
        let app = scripted(&seen, |_| 200).await;
        let denied = snapshot(1, Some(&policy), Some("/secret"));
        let rig = Rig::new(denied, &[Behind::Half(app)]);
        let mut client = http1(rig.connect().await).await;
        for path in ["/secret", "/./secret", "/%73ecret", "//secret?x=1"] {
            let response = client
                .send_request(request("GET", path, body("")))
                .await
                .unwrap();
            let refusal = response.headers()["x-tacit-refusal"]
                .to_str()
                .unwrap()
                .to_owned();
            assert!(refusal.contains("AccessPolicy/shop/ledger"), "{refusal}");
            let (status, text) = read(response).await;
            assert_eq!(status, 403);
            assert!(
                text.contains("(request ") && text.lines().count() == 1,
                "{text}"
            );
        }
        assert_eq!(rig.until_said(Source, 4).await, ["GET 403 1 Denied"; 4]);
        assert_eq!(
            rig.until_said(Destination, 4).await,
            ["GET 403 1 Denied"; 4]
        );
        assert_eq!(seen.count(), 0);
        let ids: Vec<_> = rig.events.borrow().iter().map(|e| e.id.clone()).collect();
        assert_eq!(ids[0], ids[1], "both ends have the same id");
        // Control: another path passes, in its canonical form.
        let response = client
            .send_request(request("GET", "/a/../b?q=%41", body("")))
            .await;
        assert_eq!(read(response.unwrap()).await.0, 200);
        assert_eq!(*seen.requests.borrow(), ["GET /b try -"]);
    });
}

/// Sends 40 requests at once over one connection; how many came back with which status, and one
/// refusal.
async fn forty_at_once(rig: &Rc<Rig>) -> (BTreeMap<u16, usize>, Option<HeaderMap>) {
    let client = http2(rig.connect().await).await;
    let mut all = JoinSet::new();
    for _ in 0..40 {
        let mut client = client.clone();
        let mut asked = request("GET", "http://payments/", body(""));
        asked.headers_mut().remove("host");
        all.spawn_local(async move { client.send_request(asked).await.unwrap() });
    }
    let (mut statuses, mut refusal) = (BTreeMap::new(), None);
    while let Some(response) = all.join_next().await {
        let response = response.unwrap();
        *statuses.entry(response.status().as_u16()).or_default() += 1;
        if response.status() == 429 {
            refusal = Some(response.headers().clone());
        }
    }
    (statuses, refusal)
}

#[test]
fn as_many_requests_pass_as_a_rate_promises_and_the_others_get_429() {
    run(async {
        // 429 is tried again where the application says it.
        let policy = Policy {
            attempts: 3,
            codes: vec![429],
            ..Policy::default()
        };
        let limit = RateLimit {
            requests: NonZeroU32::new(1).unwrap(),
            per: Duration::from_secs(3600),
            burst: NonZeroU32::new(13).unwrap(),
            key: vec![RateKey::Identity],
        };
        let seen = Seen::default();
        let app = scripted(&seen, |_| 200).await;
        let limited = mesh::limited(Some(&policy), vec![limit]);
        let rig = Rig::new(limited, &[Behind::Half(app)]);
        let (statuses, refusal) = forty_at_once(&rig).await;
        assert_eq!(statuses, BTreeMap::from([(200, 13), (429, 27)]));
        assert_eq!(
            seen.count(),
            13,
            "what is refused never reaches the application"
        );
        let refusal = refusal.unwrap();
        let seconds: u64 = refusal["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((3500..=3600).contains(&seconds), "{seconds}");
        let why = refusal["x-tacit-refusal"].to_str().unwrap();
        assert!(
            why.contains("(RateLimitPolicy/shop/calm spec.limits[0])"),
            "{why}"
        );
        // Not tried again: each is one event of one try at either end.
        for half in [Source, Destination] {
            let said = rig.until_said(half, 40).await;
            let refused = said.iter().filter(|line| *line == "GET 429 1 Denied");
            assert_eq!((refused.count(), said.len()), (27, 40), "{said:?}");
        }

        // The control: the same without the policy.
        let seen = Seen::default();
        let app = scripted(&seen, |_| 200).await;
        let rig = Rig::new(snapshot(1, Some(&policy), None), &[Behind::Half(app)]);
        let (statuses, _) = forty_at_once(&rig).await;
        assert_eq!(statuses, BTreeMap::from([(200, 40)]));
        assert_eq!(seen.count(), 40);
        // A 429 of the application itself is tried again.
        let seen = Seen::default();
        let app = scripted(&seen, |number| if number == 1 { 429 } else { 200 }).await;
        let rig = Rig::new(snapshot(1, Some(&policy), None), &[Behind::Half(app)]);
        let mut client = http1(rig.connect().await).await;
        let response = client.send_request(request("GET", "/", body(""))).await;
        assert_eq!((read(response.unwrap()).await.0, seen.count()), (200, 2));
    });
}

#[test]
fn a_policy_change_applies_to_the_next_request_of_an_open_connection() {
    run(async {
        let seen = Seen::default();
        let app = scripted(&seen, |_| 200).await;
        let rig = Rig::new(snapshot(1, None, None), &[Behind::Half(app)]);
        let mut client = http1(rig.connect().await).await;
        let mut statuses = Vec::new();
        for denied in [None, Some("/a"), None] {
            *rig.snapshot.borrow_mut() = Arc::new(snapshot(1, None, denied));
            let response = client
                .send_request(request("GET", "/a", body("")))
                .await
                .unwrap();
            statuses.push(read(response).await.0);
        }
        assert_eq!((statuses, seen.count()), (vec![200, 403, 200], 2));
        assert_eq!(rig.dialled.borrow().len(), 1, "nothing was closed");
    });
}

#[test]
fn past_max_offline_everything_is_denied() {
    run(async {
        let seen = Seen::default();
        let app = scripted(&seen, |_| 200).await;
        let rig = Rig::new(snapshot(1, None, None), &[Behind::Half(app)]);
        let mut client = http1(rig.connect().await).await;
        let mut direct = http1(rig.reach(endpoint(0), app, None).await).await;
        rig.fresh.set(Freshness::Expired);
        for client in [&mut client, &mut direct] {
            let response = client
                .send_request(request("GET", "/", body("")))
                .await
                .unwrap();
            assert!(response.headers().contains_key("x-tacit-refusal"));
            assert_eq!(read(response).await.0, 503);
        }
        assert_eq!(seen.count(), 0);
        rig.fresh.set(Freshness::Fresh);
        let response = client
            .send_request(request("GET", "/", body("")))
            .await
            .unwrap();
        assert_eq!((read(response).await.0, seen.count()), (200, 1));
    });
}

#[test]
fn only_tacit_says_markers() {
    run(async {
        let seen = Seen::default();
        let noted = seen.clone();
        let app = app::serve(&seen, move |request| {
            let seen = noted.clone();
            async move {
                let names = request
                    .headers()
                    .keys()
                    .filter(|n| n.as_str().starts_with("x-"));
                seen.note(names.map(ToString::to_string).collect::<Vec<_>>().join(" "));
                let mut response = app::response(403, "the application's own");
                let headers = response.headers_mut();
                headers.insert("x-tacit-refusal", "forged".parse().unwrap());
                headers.insert("x-tacit-reason", "connect".parse().unwrap());
                headers.insert("x-mine", "kept".parse().unwrap());
                response
            }
        })
        .await;
        let policy = Policy {
            attempts: 1,
            codes: vec![403],
            ..Policy::default()
        };
        let rig = Rig::new(snapshot(1, Some(&policy), None), &[Behind::Half(app)]);
        let mut client = http1(rig.connect().await).await;
        let mut forged = request("GET", "/", body(""));
        for name in ["x-tacit-try", "x-tacit-refusal", "x-tacit-anything"] {
            forged.headers_mut().insert(name, "9".parse().unwrap());
        }
        forged
            .headers_mut()
            .insert("x-request-id", "my-own-id".parse().unwrap());
        let response = client.send_request(forged).await.unwrap();
        assert!(
            !response
                .headers()
                .keys()
                .any(|name| name.as_str().starts_with("x-tacit"))
        );
        assert_eq!(response.headers()["x-mine"], "kept");
        assert_eq!(read(response).await.0, 403);
        // Tried twice: a forged refusal would have stopped that.
        assert_eq!(*seen.requests.borrow(), ["x-request-id", "x-request-id"]);
        rig.until_said(Source, 1).await;
        let said = rig.said(Destination);
        assert_eq!(said, ["GET 403 1 Complete", "GET 403 2 Complete"]);
        assert!(
            rig.events
                .borrow()
                .iter()
                .all(|event| &*event.id == "my-own-id")
        );
    });
}

#[test]
fn a_stock_client_is_served_and_told_what_is_wrong() {
    run(async {
        let seen = Seen::default();
        let app = scripted(&seen, |_| 200).await;
        let rig = Rig::new(snapshot(1, None, None), &[Behind::Half(app)]);
        let mut client = http1(rig.reach(endpoint(0), app, Some(frontend())).await).await;
        let response = client
            .send_request(request("GET", "/", body("")))
            .await
            .unwrap();
        assert_eq!(read(response).await, (200, "answer 1".to_owned()));

        let nobody = rig
            .reach(endpoint(0), closed().await, Some(frontend()))
            .await;
        let mut client = http1(nobody).await;
        let response = client
            .send_request(request("POST", "/", body("x")))
            .await
            .unwrap();
        assert_eq!(response.headers()["x-tacit-reason"], "connect");
        assert_eq!(read(response).await.0, 503);

        let breaks = app::raw(|_, mut socket| async move {
            app::read_head(&mut socket).await;
        })
        .await;
        let mut client = http1(rig.reach(endpoint(0), breaks, Some(frontend())).await).await;
        let response = client
            .send_request(request("GET", "/", body("")))
            .await
            .unwrap();
        assert_eq!(response.headers()["x-tacit-reason"], "reset");
        assert_eq!(read(response).await.0, 502);
        let said = rig.until_said(Destination, 3).await;
        assert_eq!(
            said,
            [
                "GET 200 1 Complete",
                "POST 503 1 Connect",
                "GET 502 1 Reset"
            ]
        );
        assert!(
            rig.events
                .borrow()
                .iter()
                .all(|e| e.service == Some(mesh::service()))
        );
    });
}

#[test]
fn a_drain_finishes_what_is_under_way() {
    run(async {
        let (finish, mut finished) = tokio::sync::watch::channel(false);
        let seen = Seen::default();
        let noted = seen.clone();
        finished.mark_unchanged();
        let app = app::serve(&seen, move |request| {
            let (seen, mut finished) = (noted.clone(), finished.clone());
            async move {
                seen.note(app::describe(request).await);
                finished.wait_for(|finish| *finish).await.unwrap();
                app::response(200, "whole")
            }
        })
        .await;
        let rig = Rig::new(snapshot(1, None, None), &[Behind::Half(app)]);
        let mut client = http1(rig.connect().await).await;
        let asked = client.send_request(request("GET", "/", body("")));
        let draining = async {
            while seen.count() == 0 {
                tokio::task::yield_now().await;
            }
            rig.drain.send(true).unwrap();
            tokio::task::yield_now().await;
            finish.send(true).unwrap();
        };
        let (response, ()) = tokio::join!(asked, draining);
        assert_eq!(read(response.unwrap()).await, (200, "whole".to_owned()));
        // The connection ends after it.
        assert!(client.ready().await.is_err());
        assert_eq!(rig.until_said(Source, 1).await, ["GET 200 1 Complete"]);
    });
}

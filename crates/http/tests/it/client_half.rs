//! The caller's half: tries, timeouts, replays, connections.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Frame;
use tacit_model::event::EventKind;
use tacit_model::event::Reporter::{Destination, Source};
use tacit_model::resilience::RetryOn;
use tokio::io::AsyncWriteExt;

use crate::app::{self, Body, OK, Seen, body, closed, raw, read_head, scripted};
use crate::mesh::{Policy, endpoint, snapshot};
use crate::rig::{Behind, Rig, http1, read, request, run};

fn retries(attempts: u32, codes: &[u16], on: &[RetryOn]) -> Policy {
    Policy {
        attempts,
        codes: codes.to_vec(),
        on: on.to_vec(),
        ..Policy::default()
    }
}

/// One request through a client half to the endpoints; status and text of the answer.
async fn call(policy: Option<&Policy>, behind: &[Behind], method: &str, text: Body) -> Called {
    let count = u8::try_from(behind.len()).unwrap();
    let rig = Rig::new(snapshot(count, policy, None), behind);
    let mut client = http1(rig.connect().await).await;
    let response = client
        .send_request(request(method, "/", text))
        .await
        .unwrap();
    let reason = response.headers().get("x-tacit-reason");
    let reason = reason.map_or("-", |v| v.to_str().unwrap()).to_owned();
    let (status, text) = read(response).await;
    let said = rig.until_said(Source, 1).await.remove(0);
    Called {
        status,
        text,
        reason,
        said,
    }
}

struct Called {
    status: u16,
    text: String,
    reason: String,
    said: String,
}

#[test]
fn a_503_is_tried_again_if_the_policy_says_so() {
    run(async {
        for (policy, expected) in [
            (None, "503 after 1: GET 503 1 Complete"),
            (
                Some(retries(1, &[503], &[])),
                "503 after 2: GET 503 2 Complete",
            ),
            (
                Some(retries(3, &[503], &[])),
                "200 after 3: GET 200 3 Complete",
            ),
            (
                Some(retries(3, &[], &[RetryOn::GatewayError])),
                "200 after 3: GET 200 3 Complete",
            ),
            (
                Some(retries(3, &[500], &[])),
                "503 after 1: GET 503 1 Complete",
            ),
        ] {
            let seen = Seen::default();
            let app = scripted(&seen, |n| if n < 3 { 503 } else { 200 }).await;
            let behind = [Behind::Plain(app)];
            let called = call(policy.as_ref(), &behind, "GET", body("")).await;
            let got = format!("{} after {}: {}", called.status, seen.count(), called.said);
            assert_eq!(got, expected);
        }
    });
}

/// Reads each request's head; breaks the first connection then, answers on the others.
async fn breaks_first(seen: &Seen) -> std::net::SocketAddr {
    let seen = seen.clone();
    raw(move |number, mut socket| {
        let seen = seen.clone();
        async move {
            while let Some(head) = read_head(&mut socket).await {
                seen.note(head);
                if number == 1 {
                    return;
                }
                socket.write_all(OK).await.unwrap();
            }
        }
    })
    .await
}

#[test]
fn a_request_whose_first_byte_was_sent_is_repeated_only_if_that_is_harmless_or_allowed() {
    run(async {
        let policy = retries(3, &[], &[RetryOn::Reset, RetryOn::GatewayError]);
        let allowed = Policy {
            non_idempotent: true,
            ..policy.clone()
        };
        for (method, policy, expected) in [
            ("GET", &policy, "200 - after 2: GET 200 2 Complete"),
            ("POST", &policy, "502 reset after 1: POST 502 1 Reset"),
            ("PATCH", &policy, "502 reset after 1: PATCH 502 1 Reset"),
            ("POST", &allowed, "200 - after 2: POST 200 2 Complete"),
        ] {
            let seen = Seen::default();
            let behind = [Behind::Plain(breaks_first(&seen).await)];
            let Called {
                status,
                reason,
                said,
                ..
            } = call(Some(policy), &behind, method, body("x")).await;
            let got = format!("{status} {reason} after {}: {said}", seen.count());
            assert_eq!(got, expected, "{method}");
        }
    });
}

#[test]
fn a_failed_connect_moves_on_whatever_the_method() {
    run(async {
        let seen = Seen::default();
        let app = scripted(&seen, |_| 200).await;
        let dead = closed().await;
        for broken in [Behind::Plain(dead), Behind::Half(dead)] {
            let rig = Rig::new(snapshot(2, None, None), &[broken, Behind::Half(app)]);
            let mut client = http1(rig.connect().await).await;
            for _ in 0..20 {
                let response = client.send_request(request("POST", "/", body("x"))).await;
                assert_eq!(read(response.unwrap()).await.0, 200);
            }
            let said = rig.until_said(Source, 20).await;
            // Once found out, it is not asked again.
            let moved = said
                .iter()
                .filter(|line| *line == "POST 200 2 Complete")
                .count();
            assert!(moved <= 1, "{said:?}");
        }
        // Control: with nothing to move to, it is seen.
        let called = call(None, &[Behind::Plain(dead)], "POST", body("x")).await;
        let Called {
            status,
            reason,
            text,
            said,
        } = called;
        assert_eq!((status, reason.as_str()), (503, "connect"), "{text}");
        assert_eq!(said, "POST 503 1 Connect");
    });
}

/// Never answers the first request, answers the others.
async fn hangs_first(seen: &Seen) -> std::net::SocketAddr {
    let noted = seen.clone();
    app::serve(seen, move |request| {
        let seen = noted.clone();
        async move {
            if seen.note(app::describe(request).await) == 1 {
                std::future::pending::<()>().await;
            }
            app::response(200, "late")
        }
    })
    .await
}

#[test]
fn a_try_that_takes_too_long_is_followed_by_another() {
    run(async {
        let policy = Policy {
            per_try: Duration::from_millis(100),
            ..retries(2, &[], &[RetryOn::DeadlineExceeded])
        };
        for (method, expected) in [
            ("GET", "200 - after 2: GET 200 2 Complete"),
            ("POST", "504 timeout after 1: POST 504 1 Timeout"),
        ] {
            let seen = Seen::default();
            let behind = [Behind::Half(hangs_first(&seen).await)];
            let Called {
                status,
                reason,
                said,
                ..
            } = call(Some(&policy), &behind, method, body("")).await;
            assert_eq!(
                format!("{status} {reason} after {}: {said}", seen.count()),
                expected
            );
        }
        // Nothing was sent to an endpoint that is silent: even a POST moves on.
        let seen = Seen::default();
        let app = scripted(&seen, |_| 200).await;
        let rig = Rig::new(
            snapshot(2, Some(&policy), None),
            &[Behind::Silence, Behind::Half(app)],
        );
        let mut client = http1(rig.connect().await).await;
        for count in 1..=10 {
            let response = client
                .send_request(request("POST", "/", body("")))
                .await
                .unwrap();
            assert_eq!((read(response).await.0, seen.count()), (200, count));
        }
    });
}

#[test]
fn all_tries_together_obey_the_request_timeout_and_the_callers_deadline() {
    run(async {
        let policy = Policy {
            request: Duration::from_millis(200),
            per_try: Duration::from_millis(150),
            ..retries(9, &[], &[RetryOn::DeadlineExceeded])
        };
        let hang = |_| std::future::pending();
        let app = app::serve(&Seen::default(), hang).await;
        let called = call(Some(&policy), &[Behind::Half(app)], "GET", body("")).await;
        assert_eq!((called.status, called.reason.as_str()), (504, "timeout"));
        assert_eq!(called.said, "GET 504 2 Timeout");

        let rig = Rig::new(snapshot(1, None, None), &[Behind::Half(app)]);
        let mut client = http1(rig.connect().await).await;
        let mut hurried = request("GET", "/", body(""));
        hurried
            .headers_mut()
            .insert("x-request-timeout", "100ms".parse().unwrap());
        let (status, text) = read(client.send_request(hurried).await.unwrap()).await;
        assert_eq!(status, 504);
        assert!(text.starts_with("no response headers within ") && text.contains("(request "));
    });
}

#[test]
fn the_request_timeout_covers_the_body_but_not_a_stream() {
    run(async {
        for (kind, is_cut) in [("text/plain", true), ("text/event-stream", false)] {
            let app = app::serve(&Seen::default(), move |_| async move {
                let later = async {
                    tokio::time::sleep(Duration::from_millis(300)).await;
                    "end"
                };
                let first = std::future::ready("begin ");
                let body = frames(first, later);
                let mut response = http::Response::new(body);
                response
                    .headers_mut()
                    .insert("content-type", kind.parse().unwrap());
                response
            })
            .await;
            let policy = Policy {
                request: Duration::from_millis(150),
                ..Policy::default()
            };
            let rig = Rig::new(snapshot(1, Some(&policy), None), &[Behind::Half(app)]);
            let mut client = http1(rig.connect().await).await;
            let response = client
                .send_request(request("GET", "/", body("")))
                .await
                .unwrap();
            assert_eq!(response.status(), 200);
            let body = response.into_body().collect().await;
            assert_eq!(body.is_err(), is_cut, "{kind}");
            let ending = if is_cut {
                "GET 200 1 Timeout"
            } else {
                "GET 200 1 Complete"
            };
            assert_eq!(rig.until_said(Source, 1).await, [ending]);
        }
    });
}

/// A body of two frames, each of which comes when its future is ready.
fn frames(
    first: impl Future<Output = &'static str> + 'static,
    second: impl Future<Output = &'static str> + 'static,
) -> Body {
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    tokio::task::spawn_local(async move {
        let _ = sender.send(Ok(Frame::data(first.await.into()))).await;
        let _ = sender.send(Ok(Frame::data(second.await.into()))).await;
    });
    Frames(receiver).boxed()
}

struct Frames(tokio::sync::mpsc::Receiver<Result<Frame<Bytes>, std::io::Error>>);

impl hyper::body::Body for Frames {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        self.0.poll_recv(cx)
    }
}

#[test]
fn a_body_is_sent_again_up_to_its_limit() {
    run(async {
        let chunk = std::future::ready::<&'static str>;
        for (most, expected) in [
            (
                10,
                vec!["POST / try 1 0123456789", "POST / try 2 0123456789"],
            ),
            (9, vec!["POST / try 1 0123456789"]),
            (0, vec!["POST / try 1 0123456789"]),
        ] {
            for halves in [false, true] {
                let seen = Seen::default();
                let app = scripted(&seen, |n| if n == 1 { 503 } else { 200 }).await;
                let policy = Policy {
                    non_idempotent: true,
                    max_body: Some(most),
                    ..retries(2, &[503], &[])
                };
                let behind = [Behind::Plain(app)];
                let text = if halves {
                    frames(chunk("01234"), chunk("56789"))
                } else {
                    body("0123456789")
                };
                let called = call(Some(&policy), &behind, "POST", text).await;
                assert_eq!(*seen.requests.borrow(), expected);
                assert_eq!(called.status, if expected.len() == 2 { 200 } else { 503 });
            }
        }
    });
}

#[test]
fn a_response_cut_midway_is_cut_for_the_caller_too() {
    run(async {
        let app = raw(|_, mut socket| async move {
            read_head(&mut socket).await.unwrap();
            let begin = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n0123456789";
            socket.write_all(begin).await.unwrap();
        })
        .await;
        let policy = retries(3, &[], &[RetryOn::Reset, RetryOn::GatewayError]);
        let rig = Rig::new(snapshot(1, Some(&policy), None), &[Behind::Half(app)]);
        let mut client = http1(rig.connect().await).await;
        let response = client
            .send_request(request("GET", "/", body("")))
            .await
            .unwrap();
        assert_eq!(response.status(), 200);
        assert!(response.into_body().collect().await.is_err());
        assert_eq!(rig.until_said(Source, 1).await, ["GET 200 1 Reset"]);
        assert_eq!(rig.until_said(Destination, 1).await, ["GET 200 1 Reset"]);
        let received = |event: &tacit_model::event::Event| event.bytes_received;
        assert!(
            rig.events
                .borrow()
                .iter()
                .all(|event| received(event) == 10)
        );
    });
}

#[test]
fn the_budget_bounds_further_tries_and_is_counted() {
    run(async {
        for (percent, expected) in [(0, "503 1 over 1"), (100, "503 2 over 0")] {
            let app = scripted(&Seen::default(), |_| 503).await;
            let policy = Policy {
                budget_percent: percent,
                ..retries(1, &[503], &[])
            };
            let rig = Rig::new(snapshot(1, Some(&policy), None), &[Behind::Half(app)]);
            let mut client = http1(rig.connect().await).await;
            let response = client
                .send_request(request("GET", "/", body("")))
                .await
                .unwrap();
            let status = read(response).await.0;
            rig.until_said(Source, 1).await;
            let events = rig.events.borrow();
            let source = events
                .iter()
                .find(|event| event.reporter == Source)
                .unwrap();
            let EventKind::Request {
                tries, over_budget, ..
            } = &source.kind
            else {
                panic!()
            };
            assert_eq!(format!("{status} {tries} over {over_budget}"), expected);
        }
    });
}

#[test]
fn a_workload_called_by_its_address_is_tried_once() {
    run(async {
        let seen = Seen::default();
        let app = scripted(&seen, |_| 503).await;
        let policy = retries(3, &[503], &[]);
        let rig = Rig::new(snapshot(2, Some(&policy), None), &[Behind::Half(app); 2]);
        let mut client = http1(rig.connect_to(endpoint(1)).await).await;
        let response = client
            .send_request(request("GET", "/", body("")))
            .await
            .unwrap();
        assert_eq!((read(response).await.0, seen.count()), (503, 1));
        assert_eq!(*rig.dialled.borrow(), [endpoint(1)]);
    });
}

//! Connections between the halves and to applications: kept, shared, closed at bad moments.

use std::rc::Rc;
use std::time::Duration;

use http_body_util::BodyExt;
use tacit_model::event::Reporter::{Destination, Source};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::app::{self, OK, Seen, body, raw, read_head, scripted};
use crate::mesh::{Policy, snapshot};
use crate::rig::{Behind, Rig, http1, http2, read, request, run};

#[test]
fn connections_are_kept() {
    run(async {
        let seen = Seen::default();
        let app = scripted(&seen, |_| 200).await;
        let rig = Rig::new(snapshot(1, None, None), &[Behind::Half(app)]);
        // Connections of the application share, one after the other.
        for _ in 0..3 {
            let mut client = http1(rig.connect().await).await;
            for _ in 0..5 {
                let response = client
                    .send_request(request("GET", "/", body("")))
                    .await
                    .unwrap();
                assert_eq!(read(response).await.0, 200);
            }
        }
        assert_eq!((seen.count(), seen.connections.get()), (15, 1));
        assert_eq!(rig.dialled.borrow().len(), 1);
        assert_eq!(rig.said(Source).len(), 15);
        assert_eq!(rig.said(Destination).len(), 15);
    });
}

#[test]
fn a_retried_answer_does_not_cost_its_connection() {
    run(async {
        let seen = Seen::default();
        let app = scripted(&seen, |n| if n % 2 == 1 { 503 } else { 200 }).await;
        let policy = Policy {
            attempts: 1,
            codes: vec![503],
            ..Policy::default()
        };
        let rig = Rig::new(snapshot(1, Some(&policy), None), &[Behind::Half(app)]);
        let mut client = http1(rig.connect().await).await;
        for _ in 0..10 {
            let response = client
                .send_request(request("GET", "/", body("")))
                .await
                .unwrap();
            assert_eq!(read(response).await.0, 200);
        }
        assert_eq!(seen.count(), 20);
        assert!(
            rig.dialled.borrow().len() <= 2,
            "{}",
            rig.dialled.borrow().len()
        );
    });
}

#[test]
fn http2_stays_http2_and_shares_one_connection() {
    run(async {
        let seen = Seen::default();
        let noted = seen.clone();
        let app = app::serve(&seen, move |request| {
            let seen = noted.clone();
            async move {
                seen.note(format!("{:?} {}", request.version(), request.uri()));
                let mut trailers = http::HeaderMap::new();
                trailers.insert("grpc-status", "0".parse().unwrap());
                let echoed = request.into_body().map_err(std::io::Error::other);
                let end = async move { Some(Ok(trailers)) };
                http::Response::new(echoed.with_trailers(end).boxed())
            }
        })
        .await;
        let rig = Rig::new(snapshot(1, None, None), &[Behind::Half(app)]);
        let client = http2(rig.connect().await).await;
        let mut calls = tokio::task::JoinSet::new();
        for n in 0..50 {
            let mut client = client.clone();
            calls.spawn_local(async move {
                let mut asked = request("POST", "http://payments/a?b", body(format!("text {n}")));
                asked.headers_mut().remove("host");
                let response = client.send_request(asked).await.unwrap();
                let collected = response.into_body().collect().await.unwrap();
                assert_eq!(collected.trailers().unwrap()["grpc-status"], "0");
                assert_eq!(collected.to_bytes(), format!("text {n}"));
            });
        }
        calls.join_all().await;
        let seen = seen.requests.take();
        assert!(
            seen.iter()
                .all(|line| line == "HTTP/2.0 http://payments/a?b"),
            "{seen:?}"
        );
        assert_eq!((seen.len(), rig.dialled.borrow().len()), (50, 1));
        let said = rig.until_said(Source, 50).await;
        assert!(
            said.iter().all(|line| line == "POST 200 1 Complete"),
            "{said:?}"
        );
    });
}

#[test]
fn a_caller_that_goes_away_cancels_its_try() {
    run(async {
        for is_http2 in [false, true] {
            let (alive, seen) = (Rc::new(()), Seen::default());
            let (held, noted) = (Rc::clone(&alive), seen.clone());
            let app = app::serve(&seen, move |request| {
                // Dropped with the future, which is when the application notices.
                let (held, seen) = (Rc::clone(&held), noted.clone());
                async move {
                    seen.note(app::describe(request).await);
                    std::future::pending::<()>().await;
                    drop(held);
                    app::response(200, "")
                }
            })
            .await;
            let rig = Rig::new(snapshot(1, None, None), &[Behind::Half(app)]);
            let socket = rig.connect().await;
            let calling = async {
                if is_http2 {
                    let mut client = http2(socket).await;
                    let asked = request("GET", "http://payments/", body(""));
                    let _ = client.send_request(asked).await;
                } else {
                    let mut client = http1(socket).await;
                    let _ = client.send_request(request("GET", "/", body(""))).await;
                }
            };
            let until_seen = async {
                while seen.count() == 0 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            tokio::select! {
                () = calling => panic!("answered"),
                () = until_seen => {}
            }
            assert_eq!(
                Rc::strong_count(&alive),
                3,
                "the test, the application, one request"
            );
            assert_eq!(rig.until_said(Source, 1).await, ["GET 0 1 ClientGone"]);
            assert_eq!(rig.until_said(Destination, 1).await, ["GET 0 1 ClientGone"]);
            while Rc::strong_count(&alive) > 2 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    });
}

#[test]
fn a_connection_that_closes_under_a_request_is_not_papered_over() {
    run(async {
        // Answers once on each connection, then reads one more request and breaks.
        let seen = Seen::default();
        let noted = seen.clone();
        let app = raw(move |_, mut socket| {
            let seen = noted.clone();
            async move {
                let head = read_head(&mut socket).await.unwrap();
                seen.note(head);
                socket.write_all(OK).await.unwrap();
                if let Some(head) = read_head(&mut socket).await {
                    seen.note(head);
                }
            }
        })
        .await;
        let rig = Rig::new(snapshot(1, None, None), &[Behind::Plain(app)]);
        let mut client = http1(rig.connect().await).await;
        let mut statuses = Vec::new();
        for _ in 0..2 {
            let response = client
                .send_request(request("POST", "/", body("x")))
                .await
                .unwrap();
            statuses.push(read(response).await.0);
        }
        assert_eq!((statuses, seen.count()), (vec![200, 502], 2));
    });
}

#[test]
fn a_connection_that_closed_while_unused_costs_nothing() {
    run(async {
        let seen = Seen::default();
        let noted = seen.clone();
        let (closed, mut was_closed) = tokio::sync::mpsc::unbounded_channel();
        let app = raw(move |_, mut socket| {
            let (seen, closed) = (noted.clone(), closed.clone());
            async move {
                let head = read_head(&mut socket).await.unwrap();
                seen.note(head);
                let mut text = [0];
                socket.read_exact(&mut text).await.unwrap();
                socket.write_all(OK).await.unwrap();
                tokio::time::sleep(Duration::from_millis(30)).await;
                drop(socket);
                closed.send(()).unwrap();
            }
        })
        .await;
        let rig = Rig::new(snapshot(1, None, None), &[Behind::Plain(app)]);
        let mut client = http1(rig.connect().await).await;
        for count in 1..=3 {
            let response = client
                .send_request(request("POST", "/", body("x")))
                .await
                .unwrap();
            assert_eq!((read(response).await.0, seen.count()), (200, count));
            was_closed.recv().await.unwrap();
        }
    });
}

/// An HTTP/2 application that refuses the first stream without looking at it.
async fn refuses_first(seen: &Seen) -> std::net::SocketAddr {
    let seen = seen.clone();
    raw(move |_, socket| {
        let seen = seen.clone();
        async move {
            let mut connection = h2::server::handshake(socket).await.unwrap();
            while let Some(accepted) = connection.accept().await {
                let Ok((request, mut respond)) = accepted else {
                    return;
                };
                if seen.note(request.method().to_string()) == 1 {
                    respond.send_reset(h2::Reason::REFUSED_STREAM);
                    continue;
                }
                let mut stream = respond
                    .send_response(http::Response::new(()), false)
                    .unwrap();
                stream.send_data("ok".into(), true).unwrap();
            }
        }
    })
    .await
}

#[test]
fn a_refused_stream_is_tried_again_whatever_the_method() {
    run(async {
        for behind in [Behind::Plain, Behind::Half] {
            let seen = Seen::default();
            let app = refuses_first(&seen).await;
            let rig = Rig::new(snapshot(1, None, None), &[behind(app)]);
            let mut client = http2(rig.connect().await).await;
            let mut asked = request("POST", "http://payments/", body("x"));
            asked.headers_mut().remove("host");
            let response = client.send_request(asked).await.unwrap();
            assert_eq!(read(response).await, (200, "ok".to_owned()));
            assert_eq!(rig.until_said(Source, 1).await, ["POST 200 2 Complete"]);
            assert_eq!(*seen.requests.borrow(), ["POST", "POST"]);
        }
    });
}

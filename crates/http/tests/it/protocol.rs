//! HTTP as a protocol: bad input, upgrades, HEAD, 100-continue, HTTP/1.0, chunked bodies.

use http::StatusCode;
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use tacit_model::event::Reporter::{Destination, Source};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::app::{self, Seen, body, raw, read_head, scripted};
use crate::mesh::{endpoint, frontend, snapshot};
use crate::rig::{Behind, Rig, http1, read, request, run};

/// Sends bytes to a client half and to a server half; the status of each one's first answer, and
/// what the application saw.
async fn send_raw(text: &str) -> (Vec<String>, Vec<String>) {
    let seen = Seen::default();
    let app = scripted(&seen, |_| 200).await;
    let rig = Rig::new(snapshot(1, None, None), &[Behind::Half(app)]);
    let mut answers = Vec::new();
    let direct = rig.reach(endpoint(0), app, Some(frontend())).await;
    for mut socket in [rig.connect().await, direct] {
        socket.write_all(text.as_bytes()).await.unwrap();
        let head = read_head(&mut socket).await.unwrap();
        answers.push(head[9..12].to_owned());
    }
    let requests = seen.requests.borrow().clone();
    (answers, requests)
}

#[test]
fn what_breaks_the_rules_is_answered_400_and_reaches_no_application() {
    run(async {
        for bad in [
            "\x16\x03\x01\x02\x00\x01\x00\x01\x00hello\r\n\r\n",
            "hello\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n folded: y\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\na",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\na",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\n\
             Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\n\
             Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\n\
             Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nX: y\r\n\tContent-Length: 5\r\n\r\n",
            "GET / HTTP/1.1\nHost: a\n\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: y\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: y\rz\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n\n",
        ] {
            let (answers, requests) = send_raw(bad).await;
            assert_eq!(answers, ["400", "400"], "{bad:?}");
            assert!(requests.is_empty(), "{bad:?} {requests:?}");
        }
        let long = format!(
            "GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
            "y".repeat(70_000)
        );
        assert_eq!(send_raw(&long).await.0, ["431", "431"]);
        let fields = (0..101).map(|n| format!("x{n}: y\r\n")).collect::<String>();
        let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        assert_eq!(send_raw(&many).await.0, ["431", "431"]);
        // Control: the good ones arrive, and one request is one request.
        for (good, seen) in [
            ("GET /a HTTP/1.1\r\nHost: a\r\n\r\n", "GET /a try -"),
            ("GET http://b/a HTTP/1.1\r\nHost: a\r\n\r\n", "GET /a try -"),
            ("GET /a HTTP/1.0\r\n\r\n", "GET /a try -"),
            (
                "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n\
                 3\r\nabc\r\n0\r\n\r\n",
                "POST /a try - abc",
            ),
            (
                "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\
                 Content-Length: 3\r\n\r\nabc",
                "POST /a try - abc",
            ),
        ] {
            let (answers, requests) = send_raw(good).await;
            assert_eq!(answers, ["200", "200"], "{good:?}");
            assert_eq!(requests, [seen, seen], "{good:?}");
        }
    });
}

#[test]
fn what_follows_a_doubtful_request_is_not_taken_for_a_request() {
    run(async {
        let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
        let first = "POST /first HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab";
        let doubtful = format!(
            "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\
             Content-Length: 5\r\n\r\n0\r\n\r\n{smuggled}"
        );
        // A good request before it is served; then comes the one 400, and the end.
        for (text, statuses, seen) in [
            (
                format!("{first}{doubtful}"),
                &["200", "400"][..],
                &["POST /first try - ab"][..],
            ),
            // Control: the same without doubt is three requests.
            (
                format!("{first}{first}{smuggled}"),
                &["200", "200", "200"],
                &[
                    "POST /first try - ab",
                    "POST /first try - ab",
                    "GET /smuggled try -",
                ],
            ),
        ] {
            let notes = Seen::default();
            let app = scripted(&notes, |_| 200).await;
            let rig = Rig::new(snapshot(1, None, None), &[Behind::Half(app)]);
            let direct = rig.reach(endpoint(0), app, Some(frontend())).await;
            for mut socket in [rig.connect().await, direct] {
                socket.write_all(text.as_bytes()).await.unwrap();
                let mut got = Vec::new();
                for _ in statuses {
                    // The body of the answer before stands in front of it.
                    let text = read_head(&mut socket).await.unwrap();
                    let (_, head) = text.rsplit_once("HTTP/1.1 ").unwrap();
                    got.push(head[..3].to_owned());
                }
                assert_eq!(got, statuses, "{text:?}");
                if statuses.contains(&"400") {
                    let mut rest = Vec::new();
                    // Closed; a reset is as good as an end.
                    let _ended = socket.read_to_end(&mut rest).await;
                    assert!(rest.is_empty(), "{rest:?}");
                }
                let requests = std::mem::take(&mut *notes.requests.borrow_mut());
                assert_eq!(requests, seen, "{text:?}");
            }
        }
    });
}

#[test]
fn what_is_not_http_ends_in_an_event() {
    run(async {
        let rig = Rig::new(snapshot(1, None, None), &[]);
        let mut socket = rig.connect().await;
        socket
            .write_all(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
            .await
            .unwrap();
        assert_eq!(rig.until_said(Source, 1).await, [" 400 0 Protocol"]);
        // Control: a caller that connects and leaves is not one.
        drop(rig.connect().await);
        tokio::task::yield_now().await;
        assert_eq!(rig.said(Source).len(), 1);
    });
}

#[test]
fn an_upgrade_carries_bytes_both_ways() {
    run(async {
        let seen = Seen::default();
        let noted = seen.clone();
        let app = app::serve(&seen, move |mut request| {
            let seen = noted.clone();
            async move {
                let (upgrade, connection) = (
                    &request.headers()["upgrade"],
                    &request.headers()["connection"],
                );
                seen.note(format!("{upgrade:?} {connection:?}"));
                let upgraded = hyper::upgrade::on(&mut request);
                tokio::task::spawn_local(async move {
                    let mut io = TokioIo::new(upgraded.await.unwrap());
                    let mut text = [0; 5];
                    io.read_exact(&mut text).await.unwrap();
                    io.write_all(b"echo ").await.unwrap();
                    io.write_all(&text).await.unwrap();
                    io.shutdown().await.unwrap();
                });
                let mut response = app::response(101, "");
                let headers = response.headers_mut();
                headers.insert("upgrade", "websocket".parse().unwrap());
                headers.insert("connection", "upgrade".parse().unwrap());
                response
            }
        })
        .await;
        let rig = Rig::new(snapshot(1, None, None), &[Behind::Half(app)]);
        let mut client = http1(rig.connect().await).await;
        let mut asked = request("GET", "/", body(""));
        asked
            .headers_mut()
            .insert("upgrade", "websocket".parse().unwrap());
        asked
            .headers_mut()
            .insert("connection", "keep-alive, Upgrade".parse().unwrap());
        let mut response = client.send_request(asked).await.unwrap();
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        assert_eq!(response.headers()["upgrade"], "websocket");
        let upgraded = hyper::upgrade::on(&mut response).await.unwrap();
        let mut io = TokioIo::new(upgraded);
        io.write_all(b"hello").await.unwrap();
        let mut text = String::new();
        io.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "echo hello");
        drop(io);
        assert_eq!(rig.until_said(Source, 1).await, ["GET 101 1 Complete"]);
        assert_eq!(rig.until_said(Destination, 1).await, ["GET 101 1 Complete"]);
        let events = rig.events.borrow();
        assert!(
            events
                .iter()
                .all(|e| (e.bytes_sent, e.bytes_received) == (5, 10))
        );
        assert_eq!(*seen.requests.borrow(), ["\"websocket\" \"upgrade\""]);
    });
}

#[test]
fn a_head_and_an_empty_answer_are_complete() {
    run(async {
        let app = raw(|_, mut socket| async move {
            while let Some(head) = read_head(&mut socket).await {
                let answer: &[u8] = match head.split_whitespace().nth(1).unwrap() {
                    "/long" => b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n",
                    "/chunked" => b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
                    "/204" => b"HTTP/1.1 204 No Content\r\n\r\n",
                    _ => b"HTTP/1.1 304 Not Modified\r\netag: \"x\"\r\n\r\n",
                };
                socket.write_all(answer).await.unwrap();
            }
        })
        .await;
        let rig = Rig::new(snapshot(1, None, None), &[Behind::Half(app)]);
        let mut client = http1(rig.connect().await).await;
        for (method, path, status, length) in [
            ("HEAD", "/long", 200, Some("1000")),
            ("HEAD", "/chunked", 200, None),
            ("GET", "/204", 204, None),
            ("GET", "/304", 304, None),
        ] {
            let response = client
                .send_request(request(method, path, body("")))
                .await
                .unwrap();
            let got = response
                .headers()
                .get("content-length")
                .map(|v| v.to_str().unwrap());
            assert_eq!(got, length, "{path}");
            assert_eq!(read(response).await, (status, String::new()), "{path}");
        }
        let said = rig.until_said(Source, 4).await;
        let expected = [
            "HEAD 200 1 Complete",
            "HEAD 200 1 Complete",
            "GET 204 1 Complete",
            "GET 304 1 Complete",
        ];
        assert_eq!(said, expected);
        assert_eq!(rig.dialled.borrow().len(), 1);
    });
}

#[test]
fn expect_100_continue_gets_its_100() {
    run(async {
        let seen = Seen::default();
        let app = scripted(&seen, |_| 200).await;
        let rig = Rig::new(snapshot(1, None, None), &[Behind::Half(app)]);
        let mut socket = rig.connect().await;
        let head = "POST /up HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\n\
                    content-length: 4\r\n\r\n";
        socket.write_all(head.as_bytes()).await.unwrap();
        let interim = read_head(&mut socket).await.unwrap();
        assert!(interim.starts_with("HTTP/1.1 100 "), "{interim}");
        socket.write_all(b"body").await.unwrap();
        let answer = read_head(&mut socket).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert_eq!(*seen.requests.borrow(), ["POST /up try - body"]);
    });
}

#[test]
fn bodies_stream_both_ways_and_push_back() {
    run(async {
        // The application answers with what it gets, as it gets it.
        let app = app::serve(&Seen::default(), |request| async move {
            let echoed = request.into_body().map_err(std::io::Error::other);
            http::Response::new(echoed.boxed())
        })
        .await;
        let rig = Rig::new(snapshot(1, None, None), &[Behind::Half(app)]);
        let mut socket = rig.connect().await;
        let head = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
        socket.write_all(head.as_bytes()).await.unwrap();
        socket.write_all(b"5\r\nfirst\r\n").await.unwrap();
        let answer = read_head(&mut socket).await.unwrap();
        assert!(answer.contains("transfer-encoding: chunked"), "{answer}");
        let mut text = [0; 10];
        socket.read_exact(&mut text).await.unwrap();
        assert_eq!(&text, b"5\r\nfirst\r\n", "before the request ended");
        // Nobody reads: writing must stall long before 64 MiB.
        let chunk = [b"10000\r\n".as_slice(), &[b'x'; 0x10000], b"\r\n"].concat();
        let mut written = 0;
        let stalled = std::time::Duration::from_millis(300);
        while let Ok(done) = tokio::time::timeout(stalled, socket.write_all(&chunk)).await {
            done.unwrap();
            written += chunk.len();
            assert!(written < 64 * 1024 * 1024);
        }
        // Control: it goes on when somebody reads.
        let mut sink = vec![0; written];
        socket.read_exact(&mut sink).await.unwrap();
    });
}

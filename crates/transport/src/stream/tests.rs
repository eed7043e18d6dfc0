//! One conformance suite, run on every kind of stream.

use std::future::poll_fn;
use std::task::Poll;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::testing::{Mesh, run, tcp_pair};

/// Makes connected pairs of one kind of stream.
trait Pairs {
    async fn pair(&mut self) -> (Stream, Stream);
}

struct Tcp;

impl Pairs for Tcp {
    async fn pair(&mut self) -> (Stream, Stream) {
        let (near, far) = tcp_pair().await;
        (Stream::from_tcp(near), Stream::from_tcp(far))
    }
}

impl Pairs for Mesh {
    async fn pair(&mut self) -> (Stream, Stream) {
        Self::pair(self).await
    }
}

async fn recv(stream: &mut Stream) -> io::Result<Option<Bytes>> {
    poll_fn(|cx| stream.poll_recv(cx)).await
}

async fn send_all(stream: &mut Stream, data: Bytes) -> io::Result<()> {
    let mut segments = Segments::default();
    segments.push(data);
    while !segments.is_empty() {
        poll_fn(|cx| stream.poll_send(cx, &mut segments)).await?;
    }
    Ok(())
}

async fn receive(stream: &mut Stream, count: usize) -> Vec<u8> {
    let mut data = Vec::new();
    while data.len() < count {
        data.extend_from_slice(&recv(stream).await.unwrap().expect("an early end"));
    }
    data
}

async fn bytes_both_ways(pairs: &mut impl Pairs) {
    let (mut near, mut far) = pairs.pair().await;
    near.write_all(b"ping").await.unwrap();
    assert_eq!(receive(&mut far, 4).await, b"ping");
    send_all(&mut far, Bytes::from_static(b"pong"))
        .await
        .unwrap();
    let mut answer = [0; 4];
    // Two reads of one segment: what the first buffer cannot hold must not be lost.
    near.read_exact(&mut answer[..1]).await.unwrap();
    near.read_exact(&mut answer[1..]).await.unwrap();
    assert_eq!(&answer, b"pong");
}

async fn half_close(pairs: &mut impl Pairs) {
    for swap in [false, true] {
        let (near, far) = pairs.pair().await;
        let (mut a, mut b) = if swap { (far, near) } else { (near, far) };
        a.write_all(b"last words").await.unwrap();
        a.shutdown().await.unwrap();
        assert!(a.write_all(b"more").await.is_err(), "wrote after the end");
        assert_eq!(receive(&mut b, 10).await, b"last words");
        assert_eq!(recv(&mut b).await.unwrap(), None);
        assert_eq!(
            recv(&mut b).await.unwrap(),
            None,
            "the end must stay the end"
        );
        b.write_all(b"still here").await.unwrap();
        assert_eq!(receive(&mut a, 10).await, b"still here");
        b.shutdown().await.unwrap();
        assert_eq!(recv(&mut a).await.unwrap(), None);
    }
}

async fn reset(pairs: &mut impl Pairs) {
    for swap in [false, true] {
        let (near, far) = pairs.pair().await;
        let (mut a, mut b) = if swap { (far, near) } else { (near, far) };
        a.write_all(b"x").await.unwrap();
        receive(&mut b, 1).await;
        a.reset();
        let error = recv(&mut b).await.expect_err("a reset is not an end");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}");
        assert!(b.write_all(&[0; 10]).await.is_err());
    }
}

async fn backpressure(pairs: &mut impl Pairs) {
    let (mut near, mut far) = pairs.pair().await;
    let chunk = Bytes::from(vec![7; 64 * 1024]);
    let mut sent = 0;
    // Nobody reads: some day the sender must be told to wait.
    let full = async {
        loop {
            assert!(
                sent < 1 << 30,
                "a gigabyte went into a stream that nobody reads"
            );
            let mut segments = Segments::default();
            segments.push(chunk.clone());
            sent += poll_fn(|cx| near.poll_send(cx, &mut segments))
                .await
                .unwrap();
        }
    };
    let quiet = std::time::Duration::from_secs(1);
    assert!(tokio::time::timeout(quiet, full).await.is_err());
    assert!(sent >= chunk.len());
    assert_eq!(receive(&mut far, sent).await.len(), sent);
    // And go on when somebody reads.
    near.write_all(b"!").await.unwrap();
    assert_eq!(receive(&mut far, 1).await, b"!");
}

async fn bulk(pairs: &mut impl Pairs) {
    const TOTAL: usize = 64 * 1024 * 1024;
    let (mut near, mut far) = pairs.pair().await;
    let pattern = |offset: usize| u8::try_from((offset / 4096 + offset) % 251).unwrap();
    let sending = async move {
        let mut offset = 0;
        while offset < TOTAL {
            let count = (100_000).min(TOTAL - offset);
            let data: Vec<u8> = (offset..offset + count).map(pattern).collect();
            send_all(&mut near, data.into()).await.unwrap();
            offset += count;
        }
        near.shutdown().await.unwrap();
        near
    };
    let receiving = async move {
        let mut offset = 0;
        while let Some(data) = recv(&mut far).await.unwrap() {
            for (i, byte) in data.iter().enumerate() {
                assert_eq!(*byte, pattern(offset + i), "at {}", offset + i);
            }
            offset += data.len();
        }
        assert_eq!(offset, TOTAL);
    };
    tokio::join!(sending, receiving);
}

async fn many_at_once(pairs: &mut impl Pairs) {
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..150_u32 {
        let (mut near, mut far) = pairs.pair().await;
        tasks.spawn_local(async move {
            let data = number.to_be_bytes().repeat(5000);
            let (sent, received) =
                tokio::join!(near.write_all(&data), receive(&mut far, data.len()));
            sent.unwrap();
            assert_eq!(received, data);
        });
    }
    while let Some(result) = tasks.join_next().await {
        result.unwrap();
    }
}

async fn poll_once<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> bool {
    poll_fn(|cx| Poll::Ready(poll(cx).is_pending())).await
}

async fn idle_is_pending(pairs: &mut impl Pairs) {
    let (mut near, _far) = pairs.pair().await;
    assert!(poll_once(|cx| near.poll_recv(cx)).await);
}

async fn conforms(mut pairs: impl Pairs) {
    bytes_both_ways(&mut pairs).await;
    half_close(&mut pairs).await;
    reset(&mut pairs).await;
    backpressure(&mut pairs).await;
    bulk(&mut pairs).await;
    many_at_once(&mut pairs).await;
    idle_is_pending(&mut pairs).await;
}

#[test]
fn tcp_conforms() {
    run(conforms(Tcp));
}

#[test]
fn hbone_conforms() {
    run(async { conforms(Mesh::start().await).await });
}

#[test]
fn the_cause_is_found_through_wrappers() {
    let wrapped = io::Error::other(Broken::SessionLost.error());
    assert_eq!(Broken::find(&wrapped), Some(Broken::SessionLost));
    assert_eq!(Broken::find(&io::Error::other("something else")), None);
}

//! Relays between a captured socket and an HBONE stream.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::*;
use crate::stream::Broken;
use crate::testing::{Mesh, run, tcp_pair};

/// application ⇄ (socket, relay, HBONE) ⇄ far end.
struct Relaying {
    application: TcpStream,
    far: Stream,
    relay: JoinHandle<Relayed>,
    closer: Closer,
    _mesh: Mesh,
}

async fn relaying(limits: RelayLimits) -> Relaying {
    let mut mesh = Mesh::start().await;
    let (near, far) = mesh.pair().await;
    let (application, captured) = tcp_pair().await;
    let (closer, closing) = Closer::new();
    let captured = Stream::from_tcp(captured);
    let relay = tokio::task::spawn_local(relay(captured, near, limits, closing));
    Relaying {
        application,
        far,
        relay,
        closer,
        _mesh: mesh,
    }
}

#[test]
fn bytes_and_both_ends_pass_and_are_counted() {
    run(async {
        let mut r = relaying(RelayLimits::default()).await;
        let question = vec![b'q'; 3_000_000];
        let (sent, ()) = tokio::join!(r.application.write_all(&question), async {
            let mut received = vec![0; question.len()];
            r.far.read_exact(&mut received).await.unwrap();
            assert_eq!(received, question);
        });
        sent.unwrap();
        r.application.shutdown().await.unwrap();
        assert_eq!(r.far.read(&mut [0; 1]).await.unwrap(), 0);
        r.far.write_all(b"answer after your end").await.unwrap();
        r.far.shutdown().await.unwrap();
        let mut answer = String::new();
        r.application.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "answer after your end");
        let relayed = r.relay.await.unwrap();
        assert!(
            matches!(relayed.ended, Ended::Complete),
            "{}",
            relayed.ended
        );
        assert_eq!((relayed.a_to_b, relayed.b_to_a), (3_000_000, 21));
    });
}

#[test]
fn a_reset_passes_to_the_other_side() {
    run(async {
        let mut r = relaying(RelayLimits::default()).await;
        r.application.write_all(b"x").await.unwrap();
        r.far.read_exact(&mut [0; 1]).await.unwrap();
        r.far.reset();
        let error = r.application.read(&mut [0; 1]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        let Ended::Failed { side, error } = r.relay.await.unwrap().ended else {
            panic!("a reset is not a good end");
        };
        assert_eq!((side, Broken::find(&error)), (Side::B, Some(Broken::Reset)));

        let mut r = relaying(RelayLimits::default()).await;
        r.application.write_all(b"x").await.unwrap();
        r.far.read_exact(&mut [0; 1]).await.unwrap();
        socket2::SockRef::from(&r.application)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
        drop(r.application);
        let error = r.far.read(&mut [0; 1]).await.unwrap_err();
        assert_eq!(Broken::find(&error), Some(Broken::Reset));
        let ended = r.relay.await.unwrap().ended;
        assert!(
            matches!(ended, Ended::Failed { side: Side::A, .. }),
            "{ended}"
        );
    });
}

#[test]
fn a_closer_stops_it_with_its_first_reason() {
    run(async {
        let mut r = relaying(RelayLimits::default()).await;
        r.closer.fire("policy shop/api changed");
        r.closer.fire("too late");
        let ended = r.relay.await.unwrap().ended;
        assert!(matches!(&ended, Ended::Closed(why) if &**why == "policy shop/api changed"));
        assert!(r.application.read(&mut [0; 1]).await.is_err());
        assert!(r.far.read(&mut [0; 1]).await.is_err());
    });
}

#[test]
fn a_closer_that_fired_before_still_closes() {
    run(async {
        let (closer, mut closing) = Closer::new();
        assert_eq!(closing.reason(), None);
        closer.fire("early");
        assert_eq!(&*closing.closed().await, "early");
    });
}

#[test]
fn quiet_ends_a_relay_and_traffic_keeps_it() {
    run(async {
        let idle = Duration::from_millis(400);
        let mut r = relaying(RelayLimits { idle }).await;
        for _ in 0..10 {
            r.application.write_all(b"x").await.unwrap();
            r.far.read_exact(&mut [0; 1]).await.unwrap();
            tokio::time::sleep(idle / 4).await;
        }
        let relayed = r.relay.await.unwrap();
        assert!(matches!(relayed.ended, Ended::Idle(_)), "{}", relayed.ended);
        assert_eq!(relayed.a_to_b, 10, "it lived while there was traffic");
        assert!(r.application.read(&mut [0; 1]).await.is_err());
    });
}

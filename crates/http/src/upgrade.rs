//! What comes after a 101: bytes in both directions until both sides are done.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tacit_model::event::{Ending, Fault};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional};

use crate::flight::{Flight, Flights, failed};

/// Relays between the caller's and the callee's side, then ends the request. `idle` zero: no
/// limit. The permit under which the 101 was asked for covers what follows it.
pub(crate) async fn relay(
    caller: OnUpgrade,
    callee: OnUpgrade,
    idle: Duration,
    flights: Rc<Flights>,
    flight: Rc<Flight>,
) {
    let ending = match tokio::try_join!(caller, callee) {
        Ok((caller, callee)) => copy(caller, callee, idle, &flight).await,
        Err(error) => failed(Fault::Reset, format!("the upgrade broke off: {error}")),
    };
    flights.finish(&flight, ending);
}

async fn copy(caller: Upgraded, callee: Upgraded, idle: Duration, flight: &Rc<Flight>) -> Ending {
    let moved = Rc::new(Cell::new(0));
    let mut caller = Counted {
        io: TokioIo::new(caller),
        flight: Rc::clone(flight),
        moved: Rc::clone(&moved),
    };
    let mut callee = TokioIo::new(callee);
    tokio::select! {
        copied = copy_bidirectional(&mut caller, &mut callee) => match copied {
            Ok(_) => Ending::Complete,
            Err(error) => failed(Fault::Reset, format!("the upgraded connection broke: {error}")),
        },
        () = silence(&moved, idle) => {
            failed(Fault::Timeout, format!("nothing moved for {idle:?} after the upgrade"))
        }
    }
}

/// Ends when `moved` did not change for `idle`.
async fn silence(moved: &Cell<u64>, idle: Duration) {
    if idle.is_zero() {
        return std::future::pending().await;
    }
    loop {
        let before = moved.get();
        tokio::time::sleep(idle).await;
        if moved.get() == before {
            return;
        }
    }
}

/// The caller's side; what is read from it is sent, what is written to it is received.
struct Counted {
    io: TokioIo<Upgraded>,
    flight: Rc<Flight>,
    moved: Rc<Cell<u64>>,
}

impl Counted {
    fn count(&self, counter: &Cell<u64>, bytes: usize) {
        counter.set(counter.get() + bytes as u64);
        self.moved.set(self.moved.get() + bytes as u64);
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        self.count(&self.flight.sent, buf.filled().len() - before);
        polled
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, data);
        if let Poll::Ready(Ok(bytes)) = &polled {
            self.count(&self.flight.received, *bytes);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

//! A future beside a busier one: polled only when it was woken, however often its task is.
//!
//! A connection's task runs for each message, and with it whatever else the task waits for: a
//! drain, a stop, a timer. Asking those each time costs more than the message.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// The future, and whether it was woken since it was polled last.
pub struct Dormant<F> {
    future: Pin<Box<F>>,
    bell: Arc<Bell>,
    /// The same, as its waker.
    waker: Waker,
    /// Whom the bell wakes now.
    task: Option<Waker>,
}

struct Bell {
    rung: AtomicBool,
    task: Mutex<Option<Waker>>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = task.as_ref() {
            task.wake_by_ref();
        }
    }
}

impl<F: Future> Dormant<F> {
    /// Polls `future` once at first, and then when it was woken.
    pub fn new(future: F) -> Self {
        let bell = Arc::new(Bell {
            rung: AtomicBool::new(true),
            task: Mutex::default(),
        });
        Self {
            future: Box::pin(future),
            waker: Waker::from(Arc::clone(&bell)),
            bell,
            task: None,
        }
    }
}

impl<F: Future> Future for Dormant<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.get_mut();
        if !this
            .task
            .as_ref()
            .is_some_and(|task| task.will_wake(cx.waker()))
        {
            this.task = Some(cx.waker().clone());
            let mut task = this
                .bell
                .task
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            task.clone_from(&this.task);
        }
        // After the task is known: a bell that rings from here on wakes it.
        if !this.bell.rung.swap(false, Ordering::AcqRel) {
            return Poll::Pending;
        }
        this.future
            .as_mut()
            .poll(&mut Context::from_waker(&this.waker))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::future::poll_fn;
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn it_ends_when_its_future_does() {
        let (sender, receiver) = oneshot::channel();
        let mut dormant = Dormant::new(receiver);
        let pending = poll_fn(|cx| Poll::Ready(Pin::new(&mut dormant).poll(cx).is_pending()));
        assert!(pending.await);
        tokio::spawn(async move { sender.send(7) });
        assert_eq!(dormant.await, Ok(7));
    }

    #[tokio::test]
    async fn it_is_polled_only_when_woken() {
        let polls = Cell::new(0);
        let (sender, mut receiver) = oneshot::channel::<()>();
        let mut dormant = Dormant::new(poll_fn(|cx| {
            polls.set(polls.get() + 1);
            Pin::new(&mut receiver).poll(cx).map(drop)
        }));
        for _ in 0..5 {
            let once = poll_fn(|cx| Poll::Ready(Pin::new(&mut dormant).poll(cx)));
            assert!(once.await.is_pending());
        }
        assert!(sender.send(()).is_ok());
        dormant.await;
        assert_eq!(polls.get(), 2, "once to begin with, once when woken");
    }
}

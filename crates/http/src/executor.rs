//! Runs hyper's tasks on the worker's own thread.

use std::future::Future;
use std::rc::Rc;

use hyper::rt::Executor;

use crate::flight::Flights;

/// Spawns on the current `LocalSet`.
#[derive(Clone, Default)]
pub(crate) struct LocalExecutor {
    /// Looked through after each task: a stream that the caller reset ends here.
    flights: Option<Rc<Flights>>,
}

impl LocalExecutor {
    pub(crate) fn sweeping(flights: Rc<Flights>) -> Self {
        Self {
            flights: Some(flights),
        }
    }
}

impl<F> Executor<F> for LocalExecutor
where
    F: Future + 'static,
{
    fn execute(&self, future: F) {
        let flights = self.flights.clone();
        tokio::task::spawn_local(async move {
            future.await;
            if let Some(flights) = flights {
                flights.sweep();
            }
        });
    }
}

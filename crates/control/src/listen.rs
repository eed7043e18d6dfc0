//! Listening on TCP with TLS: garbage and strangers are counted and told once in a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tacit_transport::own::OwnStream;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::shared::Shared;

/// Handshakes at once: each costs a signature; more only wait.
const HANDSHAKES: usize = 64;
/// After an error of the listener itself, for example no file descriptors left.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections for ever; each that speaks TLS is given to `serve`.
pub(crate) async fn accept<S, F>(shared: Arc<Shared>, listener: TcpListener, serve: S)
where
    S: Fn(OwnStream) -> F + Clone + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
    let failed = Arc::new(AtomicU64::new(0));
    loop {
        let Ok((tcp, from)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let Ok(permit) = handshakes.clone().acquire_owned().await else {
            return;
        };
        let (shared, serve, failed) = (shared.clone(), serve.clone(), failed.clone());
        tokio::spawn(async move {
            let acceptor = shared.acceptor();
            let accepted = acceptor.accept(tcp).await;
            drop(permit);
            match accepted {
                Ok(stream) => serve(stream).await,
                Err(error) => {
                    let count = failed.fetch_add(1, Ordering::Relaxed) + 1;
                    // Each power of two: a flood of garbage makes few lines.
                    if count.is_power_of_two() {
                        shared.log(&format!("handshake with {from} failed ({count}): {error}"));
                    }
                }
            }
        });
    }
}

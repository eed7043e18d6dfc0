//! The sample application: an ordinary HTTP service that knows nothing of any mesh.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};

use crate::client::{self, Target};
use seen::Seen;

pub mod seen;

/// Longest body of a request, in bytes: enough for a demonstration.
const BODY_LIMIT: usize = 1 << 20;
/// How long a call to the next service may take.
const CALL_PATIENCE: Duration = Duration::from_secs(5);
/// The header that names a request, so that a repetition is noticed.
pub const ID_HEADER: &str = "x-load-id";

/// Options of `tacit sample`.
#[derive(clap::Args, Clone, Debug)]
pub struct SampleArgs {
    /// The port to listen on.
    #[arg(long, default_value_t = 8080)]
    pub port: u16,
    /// The address to listen on.
    #[arg(long, default_value = "0.0.0.0")]
    pub bind: IpAddr,
    /// The service's name in answers.
    #[arg(long, default_value = "sample")]
    pub name: String,
    /// The instance's name in answers; absent: the service's name.
    #[arg(long)]
    pub instance: Option<String>,
    /// The zone in answers.
    #[arg(long, default_value = "")]
    pub zone: String,
    /// Answer this share of the requests with 503, each one decided by itself.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub fail_percent: u8,
    /// The seed of that decision: the same seed fails the same requests.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Milliseconds to wait before an answer.
    #[arg(long, default_value_t = 0)]
    pub delay_ms: u64,
    /// Text that every answer contains.
    #[arg(long, default_value = "")]
    pub text: String,
    /// Call this URL for each request and answer with what it said. May be repeated.
    #[arg(long)]
    pub calls: Vec<String>,
    /// Also answer `GET /_seen` on this Unix socket, beside the network.
    #[arg(long)]
    pub observe: Option<PathBuf>,
}

struct Sample {
    args: SampleArgs,
    calls: Vec<Target>,
    seen: Seen,
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// A port or a socket that cannot be listened on, or a URL that is none.
pub fn run(args: SampleArgs) -> io::Result<()> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(serve(args))
}

async fn serve(args: SampleArgs) -> io::Result<()> {
    let address = SocketAddr::new(args.bind, args.port);
    let listener = TcpListener::bind(address)
        .await
        .map_err(|e| io::Error::new(e.kind(), format!("cannot listen on {address}: {e}")))?;
    let observer = match &args.observe {
        Some(path) => Some(UnixListener::bind(path)?),
        None => None,
    };
    let calls = args.calls.iter().map(|url| Target::parse(url));
    let calls = calls.collect::<Result<_, _>>().map_err(io::Error::other)?;
    let seen = Seen::default();
    let sample = Arc::new(Sample { args, calls, seen });
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                stream.set_nodelay(true)?;
                spawn_connection(&sample, stream);
            }
            stream = accept_observer(observer.as_ref()) => spawn_connection(&sample, stream?),
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
        }
    }
}

async fn accept_observer(listener: Option<&UnixListener>) -> io::Result<tokio::net::UnixStream> {
    match listener {
        Some(listener) => listener.accept().await.map(|(stream, _)| stream),
        None => std::future::pending().await,
    }
}

fn spawn_connection(
    sample: &Arc<Sample>,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) {
    let sample = Arc::clone(sample);
    tokio::spawn(async move {
        let handle = service_fn(move |request| {
            let sample = Arc::clone(&sample);
            async move { Ok::<_, Infallible>(sample.handle(request).await) }
        });
        let server = auto::Builder::new(TokioExecutor::new());
        // A client that goes away is its own business.
        drop(server.serve_connection(TokioIo::new(stream), handle).await);
    });
}

impl Sample {
    async fn handle(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        if request.uri().path() == "/_seen" {
            return answer(StatusCode::OK, &json!(self.seen.report()));
        }
        let (head, body) = request.into_parts();
        let id = head.headers.get(ID_HEADER).and_then(|id| id.to_str().ok());
        let number = self.seen.started(&head.method, id);
        let Ok(body) = Limited::new(body, BODY_LIMIT).collect().await else {
            return answer(
                StatusCode::BAD_REQUEST,
                &json!({"error": "no whole body came"}),
            );
        };
        if self.args.delay_ms > 0 {
            tokio::time::sleep(Duration::from_millis(self.args.delay_ms)).await;
        }
        let mut said = json!({
            "service": self.args.name,
            "instance": self.args.instance.as_ref().unwrap_or(&self.args.name),
            "zone": self.args.zone,
            "path": head.uri.path(),
            "method": head.method.as_str(),
            "n": number,
            "id": id,
        });
        if !self.args.text.is_empty() {
            said["text"] = json!(self.args.text);
        }
        if head.method == Method::POST {
            said["body"] = json!(String::from_utf8_lossy(&body.to_bytes()));
        }
        if fails(self.args.seed, number, self.args.fail_percent) {
            self.seen.failed();
            said["error"] = json!("flaky on purpose");
            return answer(StatusCode::SERVICE_UNAVAILABLE, &said);
        }
        for target in &self.calls {
            said["called"][&target.host] = self.call(target).await;
        }
        answer(StatusCode::OK, &said)
    }

    async fn call(&self, target: &Target) -> Value {
        match client::get(target, CALL_PATIENCE).await {
            Ok(answer) => {
                let body = String::from_utf8_lossy(&answer.body);
                let body = serde_json::from_str(&body).unwrap_or_else(|_| json!(body));
                json!({"status": answer.status.as_u16(), "answer": body})
            }
            Err(failure) => json!({"failed": format!("{failure:?}")}),
        }
    }
}

fn answer(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(format!("{body}\n"))));
    *response.status_mut() = status;
    let json = http::HeaderValue::from_static("application/json");
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, json);
    response
}

/// Whether the `number`-th request fails: independent of the others, the same for the same seed.
fn fails(seed: u64, number: u64, percent: u8) -> bool {
    mix(mix(seed) ^ number) % 100 < u64::from(percent)
}

/// SplitMix64's finaliser: every bit of the input changes about half of the output.
fn mix(value: u64) -> u64 {
    let z = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::fails;

    #[test]
    fn a_tenth_fails_independently() {
        for seed in 0..5 {
            let failed: Vec<bool> = (1..=100_000).map(|n| fails(seed, n, 10)).collect();
            let share = failed.iter().filter(|f| **f).count();
            assert!((9_600..=10_400).contains(&share), "seed {seed}: {share}");
            // Independent: after a failure the next one fails as often as any other.
            let pairs = failed.windows(2).filter(|w| w[0] && w[1]).count();
            assert!((850..=1_150).contains(&pairs), "seed {seed}: {pairs}");
        }
        assert!(!(1..1000).any(|n| fails(1, n, 0)));
        assert!((1..1000).all(|n| fails(1, n, 100)));
    }
}

//! A small HTTP/1.1 client that tells exactly how a request ended.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Longest body of a response that is read, in bytes; a longer one counts as cut.
const BODY_LIMIT: usize = 1 << 20;

/// Where to send requests: an `http://HOST[:PORT]/PATH` taken apart.
#[derive(Clone, Debug)]
pub struct Target {
    pub host: String,
    pub port: u16,
    pub path: String,
}

impl Target {
    /// # Errors
    /// A sentence saying what is wrong with `url`.
    pub fn parse(url: &str) -> Result<Self, String> {
        let uri: Uri = url
            .parse()
            .map_err(|e| format!("{url:?} is not a URL: {e}"))?;
        let (Some("http"), Some(host)) = (uri.scheme_str(), uri.host()) else {
            return Err(format!("{url:?} is not an http:// URL"));
        };
        Ok(Self {
            host: host.to_owned(),
            port: uri.port_u16().unwrap_or(80),
            path: uri.path_and_query().map_or("/", |p| p.as_str()).to_owned(),
        })
    }

    /// The `Host` header.
    #[must_use]
    pub fn authority(&self) -> String {
        match self.port {
            80 => self.host.clone(),
            port => format!("{}:{port}", self.host),
        }
    }
}

/// A whole response.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub body: Bytes,
}

/// How a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No name, no route, or refused.
    Connect,
    /// The client's own patience ran out before a response began.
    Timeout,
    /// The connection broke before a response began.
    Reset,
    /// The response began and did not end.
    Cut,
}

/// An open connection, to be used for one request after another.
#[derive(Debug)]
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
}

impl Connection {
    /// Connects to the first address of the host that answers, starting at the `turn`-th.
    ///
    /// # Errors
    /// `Connect` when no address answers, `Timeout` when `deadline` passes first.
    pub async fn open(target: &Target, turn: usize, deadline: Instant) -> Result<Self, Failure> {
        let connect = async {
            let found = tokio::net::lookup_host((target.host.as_str(), target.port)).await;
            let mut addresses: Vec<SocketAddr> = found.map_err(|_| Failure::Connect)?.collect();
            let count = addresses.len().max(1);
            addresses.rotate_left(turn % count);
            for address in addresses {
                if let Ok(stream) = TcpStream::connect(address).await {
                    return Self::over(stream).await;
                }
            }
            Err(Failure::Connect)
        };
        within(deadline, connect)
            .await
            .unwrap_or(Err(Failure::Timeout))
    }

    async fn over(stream: TcpStream) -> Result<Self, Failure> {
        stream.set_nodelay(true).map_err(|_| Failure::Connect)?;
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (sender, driver) = handshake.map_err(|_| Failure::Connect)?;
        // The end of the connection is seen by the request that is on it.
        tokio::spawn(async move { drop(driver.await) });
        Ok(Self { sender })
    }

    /// True while the peer has not closed it.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.sender.is_ready()
    }

    /// Sends a request and reads its whole response.
    ///
    /// Gives the request back when the connection had ended before a byte of it was sent.
    pub async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
        deadline: Instant,
    ) -> Result<Result<Answer, Failure>, Box<Request<Full<Bytes>>>> {
        let response = match within(deadline, self.sender.try_send_request(request)).await {
            None => return Ok(Err(Failure::Timeout)),
            Some(Ok(response)) => response,
            Some(Err(mut error)) => {
                return match error.take_message() {
                    Some(request) => Err(Box::new(request)),
                    None => Ok(Err(Failure::Reset)),
                };
            }
        };
        let whole = within(deadline, read(response)).await;
        Ok(whole.unwrap_or(Err(Failure::Cut)))
    }
}

async fn read(response: http::Response<Incoming>) -> Result<Answer, Failure> {
    let status = response.status();
    let body = http_body_util::Limited::new(response.into_body(), BODY_LIMIT);
    let body = body.collect().await.map_err(|_| Failure::Cut)?.to_bytes();
    Ok(Answer { status, body })
}

async fn within<T>(deadline: Instant, work: impl Future<Output = T>) -> Option<T> {
    let left = deadline.saturating_duration_since(Instant::now());
    tokio::time::timeout(left, work).await.ok()
}

/// Makes one GET on a connection of its own.
pub async fn get(target: &Target, patience: Duration) -> Result<Answer, Failure> {
    let deadline = Instant::now() + patience;
    let mut connection = Connection::open(target, 0, deadline).await?;
    let request = Request::get(target.path.as_str())
        .header(http::header::HOST, target.authority())
        .body(Full::new(Bytes::new()))
        .map_err(|_| Failure::Connect)?;
    let sent = connection.send(request, deadline).await;
    sent.unwrap_or(Err(Failure::Reset))
}

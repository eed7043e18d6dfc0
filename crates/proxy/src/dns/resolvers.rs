//! Asks the machine's own resolvers about names that are not of the mesh.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

/// More are not asked, as in glibc.
const MAX_RESOLVERS: usize = 3;
/// How long one resolver may take; resolvers of applications give up after 5 s.
const PATIENCE: Duration = Duration::from_secs(2);
/// The largest UDP answer that is taken.
const MAX_DATAGRAM: usize = 4096;

/// The resolvers that a `resolv.conf` names.
pub(crate) fn parse(text: &str) -> Vec<SocketAddr> {
    let lines = text.lines().map(str::split_whitespace);
    let named = lines.filter_map(|mut words| {
        let is_resolver = words.next() == Some("nameserver");
        words.next().filter(|_| is_resolver)
    });
    named
        .filter_map(|word| word.parse::<IpAddr>().ok())
        .map(|ip| SocketAddr::new(ip, 53))
        .take(MAX_RESOLVERS)
        .collect()
}

/// Reads the machine's resolvers; no file means none.
pub(crate) fn read(path: &Path) -> io::Result<Vec<SocketAddr>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(parse(&text)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(e),
    }
}

/// Asks one resolver after the other, by UDP; the first answer wins.
pub(crate) async fn by_udp(resolvers: &[SocketAddr], query: &[u8]) -> io::Result<Vec<u8>> {
    first_of(resolvers, async |resolver| {
        let any: SocketAddr = match resolver {
            SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
            SocketAddr::V6(_) => ([0_u16; 8], 0).into(),
        };
        let socket = UdpSocket::bind(any).await?;
        // Connected: the kernel drops answers from anybody else.
        socket.connect(resolver).await?;
        socket.send(query).await?;
        let mut answer = vec![0; MAX_DATAGRAM];
        loop {
            let length = socket.recv(&mut answer).await?;
            if length >= 2 && answer[..2] == query[..2] {
                answer.truncate(length);
                return Ok(answer);
            }
        }
    })
    .await
}

/// As [`by_udp`], by TCP.
pub(crate) async fn by_tcp(resolvers: &[SocketAddr], query: &[u8]) -> io::Result<Vec<u8>> {
    first_of(resolvers, async |resolver| {
        let mut stream = TcpStream::connect(resolver).await?;
        let length = u16::try_from(query.len()).map_err(io::Error::other)?;
        stream.write_all(&length.to_be_bytes()).await?;
        stream.write_all(query).await?;
        let length = stream.read_u16().await?;
        let mut answer = vec![0; length.into()];
        stream.read_exact(&mut answer).await?;
        Ok(answer)
    })
    .await
}

async fn first_of(
    resolvers: &[SocketAddr],
    ask: impl AsyncFn(SocketAddr) -> io::Result<Vec<u8>>,
) -> io::Result<Vec<u8>> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "no resolver is configured");
    for resolver in resolvers {
        match tokio::time::timeout(PATIENCE, ask(*resolver)).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn reads_resolv_conf() {
        let text = "# nameserver 1.1.1.1\nsearch a b\nnameserver 10.0.0.1\nnameserver fe80::1\n\
                    nameserver nonsense\nnameserver 10.0.0.2 # x\nnameserver 10.0.0.3\n";
        let shown: Vec<_> = parse(text).iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["10.0.0.1:53", "[fe80::1]:53", "10.0.0.2:53"]);
        assert!(parse("").is_empty());
    }
}

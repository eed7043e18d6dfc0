//! Serves DNS inside one workload's namespace, by UDP and TCP.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use tacit_model::Namespace;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;

use super::{Reply, answer, resolvers, unanswered};
use crate::shared::Shared;

/// The largest query that is read by UDP: EDNS clients announce at most this.
const MAX_DATAGRAM: usize = 4096;
/// Queries of one workload that may wait for the machine's resolvers; further ones fail at once.
const MAX_FORWARDED: usize = 128;
/// TCP connections of one workload.
const MAX_CONNECTIONS: usize = 32;
/// How long a TCP connection may be silent.
const IDLE: Duration = Duration::from_secs(10);

/// What one workload's DNS needs to know.
pub(crate) struct Zone {
    /// Where short names are looked up.
    pub(crate) namespace: Namespace,
    pub(crate) shared: std::sync::Arc<Shared>,
    forwarded: Semaphore,
    connections: Semaphore,
}

/// Which way a query came, and so which way it is passed on.
#[derive(Clone, Copy)]
enum Way {
    Tcp,
    Udp,
}

impl Zone {
    pub(crate) fn new(namespace: Namespace, shared: std::sync::Arc<Shared>) -> Rc<Self> {
        Rc::new(Self {
            namespace,
            shared,
            forwarded: Semaphore::new(MAX_FORWARDED),
            connections: Semaphore::new(MAX_CONNECTIONS),
        })
    }

    async fn reply(&self, query: &[u8], way: Way) -> Option<Vec<u8>> {
        let reply = match answer(&self.shared.current(), &self.namespace, query) {
            Reply::Forward => self.forward(query, way).await,
            reply @ (Reply::Answer(_) | Reply::Silence) => reply,
        };
        match reply {
            Reply::Answer(bytes) => Some(bytes),
            Reply::Forward | Reply::Silence => None,
        }
    }

    async fn forward(&self, query: &[u8], way: Way) -> Reply {
        let Ok(_place) = self.forwarded.try_acquire() else {
            return unanswered(query, ResponseCode::Refused);
        };
        let known = &self.shared.resolvers;
        if known.is_empty() {
            return unanswered(query, ResponseCode::NXDomain);
        }
        let asked = match way {
            Way::Tcp => resolvers::by_tcp(known, query).await,
            Way::Udp => resolvers::by_udp(known, query).await,
        };
        asked.map_or_else(|_| unanswered(query, ResponseCode::ServFail), Reply::Answer)
    }
}

/// Answers datagrams until the socket breaks.
pub(crate) async fn serve_udp(zone: Rc<Zone>, socket: UdpSocket) -> io::Result<()> {
    let socket = Rc::new(socket);
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        let (length, from) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            // An earlier answer could not be delivered; that is the asker's affair.
            Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => continue,
            Err(e) => return Err(e),
        };
        let (zone, socket) = (zone.clone(), socket.clone());
        let query = buffer[..length].to_vec();
        tokio::task::spawn_local(
            async move { answer_datagram(&zone, &socket, &query, from).await },
        );
    }
}

async fn answer_datagram(zone: &Zone, socket: &UdpSocket, query: &[u8], from: SocketAddr) {
    if let Some(answer) = zone.reply(query, Way::Udp).await {
        // The asker may be gone.
        let _sent = socket.send_to(&answer, from).await;
    }
}

/// Answers connections until the listener breaks.
pub(crate) async fn serve_tcp(zone: Rc<Zone>, listener: TcpListener) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        let zone = zone.clone();
        tokio::task::spawn_local(async move {
            if let Ok(_place) = zone.connections.try_acquire() {
                // Whatever breaks here concerns this one connection.
                let _ended = converse(&zone, stream).await;
            }
        });
    }
}

async fn converse(zone: &Zone, mut stream: TcpStream) -> io::Result<()> {
    loop {
        let length = tokio::time::timeout(IDLE, stream.read_u16()).await??;
        let mut query = vec![0; length.into()];
        tokio::time::timeout(IDLE, stream.read_exact(&mut query)).await??;
        let Some(answer) = zone.reply(&query, Way::Tcp).await else {
            return Ok(());
        };
        let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
        stream.write_all(&length.to_be_bytes()).await?;
        stream.write_all(&answer).await?;
    }
}

//! Asks the node of this machine how it is: what `tacit status` shows without a control plane.

use std::io;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// How long the node may take; it answers from memory.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest answer: a node has at most some hundred workloads of about 200 bytes.
const ANSWER_MAX: u64 = 4 << 20;

/// What `/status` answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    pub node: String,
    pub generation: String,
    /// `Fresh`, `Stale` or `Expired`.
    pub configuration: String,
    /// When `Stale` or `Expired`: seconds until everything is denied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds_until_denied: Option<u64>,
    pub control_connected: bool,
    pub connections: usize,
    pub workloads: Vec<NodeWorkload>,
}

/// A workload that runs on the node.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeWorkload {
    pub name: String,
    pub address: std::net::IpAddr,
    pub identity: String,
    pub ready: Vec<u16>,
}

/// Asks over the node's status socket.
///
/// # Errors
/// No node listens there, or its answer makes no sense.
pub async fn ask(socket: &Path) -> io::Result<NodeStatus> {
    let exchange = async {
        let mut stream = UnixStream::connect(socket).await?;
        // With HTTP/1.0 the answer ends with the connection.
        stream.write_all(b"GET /status HTTP/1.0\r\n\r\n").await?;
        let mut answer = Vec::new();
        stream.take(ANSWER_MAX).read_to_end(&mut answer).await?;
        Ok(answer)
    };
    let answer: io::Result<Vec<u8>> = tokio::time::timeout(PATIENCE, exchange).await?;
    let answer = String::from_utf8(answer?).map_err(io::Error::other)?;
    let body = answer
        .split_once("\r\n\r\n")
        .map_or("", |(_head, body)| body);
    serde_json::from_str(body).map_err(io::Error::other)
}

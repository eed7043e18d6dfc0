//! The caller's end of `tacit run`: asks the node, passes signals on, waits for the end.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use tacit_sys::fdpass;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::run_protocol::{
    ClientMessage, NodeMessage, RefusalKind, RunRequest, RunSignal, RunStatus, decode, encode,
};

/// Signals that wait to be passed on; a person cannot press keys faster than they are sent.
const WAITING_SIGNALS: usize = 32;

/// Why the program did not run to its end.
#[derive(Debug)]
pub enum RunError {
    /// No node answers at this socket.
    Unreachable { socket: PathBuf, reason: io::Error },
    /// The node did not start it.
    Refused { kind: RefusalKind, reason: String },
    /// The node went away, and the program with it.
    Lost(String),
    /// Something on this side does not work.
    Here {
        doing: &'static str,
        reason: io::Error,
    },
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable { socket, reason } => {
                write!(
                    f,
                    "no node answers at {}: {reason}. Is the mesh up?",
                    socket.display()
                )
            }
            Self::Refused { reason, .. } => f.write_str(reason),
            Self::Lost(reason) => {
                write!(
                    f,
                    "the node went away ({reason}), and the program ended with it"
                )
            }
            Self::Here { doing, reason } => write!(f, "cannot {doing}: {reason}"),
        }
    }
}

impl std::error::Error for RunError {}

/// Runs a program on the node at `socket` with this process's standard streams and directory.
///
/// `note` gets what a person should know while waiting. Signals that this process receives go
/// to the program from then on. When this process dies, the node ends the program.
pub async fn run(
    socket: &Path,
    request: &RunRequest,
    mut note: impl FnMut(&str),
) -> Result<RunStatus, RunError> {
    let stream = UnixStream::connect(socket)
        .await
        .map_err(|reason| RunError::Unreachable {
            socket: socket.to_owned(),
            reason,
        })?;
    let mut signals = forwarded_signals()?;
    send_request(&stream, request).await?;
    let (mut from_node, mut to_node) = stream.into_split();
    let mut buffer = Vec::new();
    loop {
        tokio::select! {
            message = receive(&mut from_node, &mut buffer) => match message? {
                NodeMessage::Started { .. } => {}
                NodeMessage::Waiting { reason } => note(&reason),
                NodeMessage::Refused { kind, reason } => {
                    return Err(RunError::Refused { kind, reason });
                }
                NodeMessage::Ended(status) => return Ok(status),
            },
            Some(signal) = signals.recv() => {
                let frame = encode(&ClientMessage::Signal(signal)).map_err(lost)?;
                to_node.write_all(&frame).await.map_err(lost)?;
            }
        }
    }
}

fn lost(reason: impl fmt::Display) -> RunError {
    RunError::Lost(reason.to_string())
}

/// Sends the request; the descriptors travel with its first byte.
async fn send_request(stream: &UnixStream, request: &RunRequest) -> Result<(), RunError> {
    let here = |doing| move |reason| RunError::Here { doing, reason };
    let directory = std::fs::File::open(".").map_err(here("open the current directory"))?;
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let descriptors = [
        stdin.as_fd(),
        stdout.as_fd(),
        stderr.as_fd(),
        directory.as_fd(),
    ];
    let frame = encode(request).map_err(|e| RunError::Here {
        doing: "send the command and its environment",
        reason: e.into(),
    })?;
    let mut rest = &frame[..];
    let mut attached: &[BorrowedFd<'_>] = &descriptors;
    while !rest.is_empty() {
        stream.writable().await.map_err(lost)?;
        match stream.try_io(Interest::WRITABLE, || fdpass::send(stream, rest, attached)) {
            Ok(sent) => {
                rest = &rest[sent..];
                attached = &[];
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) => return Err(lost(e)),
        }
    }
    Ok(())
}

/// Cancel-safe: what was read stays in `buffer`.
async fn receive(
    stream: &mut OwnedReadHalf,
    buffer: &mut Vec<u8>,
) -> Result<NodeMessage, RunError> {
    loop {
        if let Some(message) = decode(buffer).map_err(lost)? {
            return Ok(message);
        }
        if stream.read_buf(buffer).await.map_err(lost)? == 0 {
            return Err(lost("it closed the connection"));
        }
    }
}

fn forwarded_signals() -> Result<mpsc::Receiver<RunSignal>, RunError> {
    let (send, receive) = mpsc::channel(WAITING_SIGNALS);
    for (kind, word) in [
        (SignalKind::hangup(), RunSignal::Hangup),
        (SignalKind::interrupt(), RunSignal::Interrupt),
        (SignalKind::quit(), RunSignal::Quit),
        (SignalKind::terminate(), RunSignal::Terminate),
        (SignalKind::user_defined1(), RunSignal::User1),
        (SignalKind::user_defined2(), RunSignal::User2),
        (SignalKind::window_change(), RunSignal::WindowChange),
    ] {
        let source = signal(kind).map_err(|reason| RunError::Here {
            doing: "watch signals",
            reason,
        })?;
        tokio::spawn(pass_on(source, word, send.clone()));
    }
    Ok(receive)
}

async fn pass_on(mut source: Signal, word: RunSignal, to: mpsc::Sender<RunSignal>) {
    while source.recv().await.is_some() {
        if to.send(word).await.is_err() {
            return;
        }
    }
}

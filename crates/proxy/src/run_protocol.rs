//! The words between `tacit run` and a node: length-prefixed JSON over a Unix socket.
//!
//! The client sends one [`RunRequest`] with four descriptors (standard input, output, error and
//! the working directory), then [`ClientMessage`]s. The node answers with [`NodeMessage`]s.
//! When the client goes away, the node ends the program.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::io;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Length of a frame's prefix: a big-endian `u32`.
pub(crate) const PREFIX: usize = 4;
/// A frame holds a command line and an environment, which the kernel limits to about 2 MiB;
/// bytes outside of ASCII letters cost up to five characters in JSON.
pub(crate) const MAX_FRAME: usize = 12 << 20;
/// Descriptors that come with a request.
pub(crate) const DESCRIPTORS: usize = 4;

/// A port that the program listens on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunPort {
    /// A name that starts with `http` is framed as HTTP.
    pub name: String,
    pub port: u16,
}

/// A port of the machine that leads to the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publish {
    /// On the machine.
    pub port: u16,
    /// Of the program.
    pub target: u16,
}

/// What to run, as whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRequest {
    pub namespace: String,
    pub service_account: String,
    /// Absent: made from the service account.
    pub name: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub ports: Vec<RunPort>,
    /// Empty: the node's.
    pub zone: String,
    /// Empty: of the zone.
    pub region: String,
    pub publish: Vec<Publish>,
    /// The program and its arguments, as the caller's shell gave them.
    pub command: Vec<OsString>,
    /// The whole environment of the program.
    pub environment: Vec<(OsString, OsString)>,
}

/// Signals that are passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunSignal {
    Hangup,
    Interrupt,
    Quit,
    Terminate,
    User1,
    User2,
    WindowChange,
}

/// What the client says after its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClientMessage {
    /// Send this signal to the program.
    Signal(RunSignal),
}

/// How the program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunStatus {
    /// By itself, with this code.
    Exited(i32),
    /// By this signal.
    Signalled(i32),
}

impl RunStatus {
    /// The exit code as a shell shows it: 128 and the signal's number if a signal ended it.
    #[must_use]
    pub fn exit_code(self) -> i32 {
        match self {
            Self::Exited(code) => code,
            Self::Signalled(number) => 128 + number,
        }
    }
}

/// Why a program was not started, in a class that decides the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RefusalKind {
    /// Something is wrong on the node.
    Failed,
    /// The request makes no sense.
    Invalid,
    /// There is no such program.
    NoProgram,
    /// The program cannot be executed.
    NotExecutable,
    /// The caller has no right to do this.
    NotPermitted,
    /// The control plane cannot be reached, and the workload is not known yet.
    Unreachable,
}

/// What the node says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeMessage {
    /// It runs.
    Started {
        /// `namespace/name` of the workload.
        workload: String,
        address: std::net::IpAddr,
    },
    /// Not yet, and why; more messages follow.
    Waiting { reason: String },
    /// It was not started; the last message.
    Refused { kind: RefusalKind, reason: String },
    /// It ended; the last message.
    Ended(RunStatus),
}

/// Why bytes are not a frame.
#[derive(Debug)]
pub enum FrameError {
    /// Longer than any request can be.
    TooLong(usize),
    /// Not the JSON that was expected.
    Content(serde_json::Error),
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong(length) => write!(f, "a message of {length} bytes, at most {MAX_FRAME}"),
            Self::Content(error) => write!(f, "a message that cannot be read: {error}"),
        }
    }
}

impl std::error::Error for FrameError {}

impl From<FrameError> for io::Error {
    fn from(error: FrameError) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

/// One frame as bytes.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let body = serde_json::to_vec(message).map_err(FrameError::Content)?;
    let length = match u32::try_from(body.len()) {
        Ok(length) if body.len() <= MAX_FRAME => length,
        _ => return Err(FrameError::TooLong(body.len())),
    };
    let mut frame = Vec::with_capacity(PREFIX + body.len());
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&body);
    Ok(frame)
}

/// Takes the first whole frame from the front of `buffer`; `None`: more bytes are needed.
pub fn decode<T: DeserializeOwned>(buffer: &mut Vec<u8>) -> Result<Option<T>, FrameError> {
    let Some(prefix) = buffer.first_chunk::<PREFIX>() else {
        return Ok(None);
    };
    let length = usize::try_from(u32::from_be_bytes(*prefix)).unwrap_or(usize::MAX);
    if length > MAX_FRAME {
        return Err(FrameError::TooLong(length));
    }
    if buffer.len() < PREFIX + length {
        return Ok(None);
    }
    let message = serde_json::from_slice(&buffer[PREFIX..PREFIX + length]);
    buffer.drain(..PREFIX + length);
    message.map(Some).map_err(FrameError::Content)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> RunRequest {
        use std::os::unix::ffi::OsStringExt;
        RunRequest {
            namespace: "shop".into(),
            service_account: "web".into(),
            name: None,
            labels: [("app".into(), "web".into())].into(),
            ports: vec![RunPort {
                name: "http".into(),
                port: 8080,
            }],
            zone: String::new(),
            region: String::new(),
            publish: vec![Publish {
                port: 80,
                target: 8080,
            }],
            command: vec!["echo".into(), OsString::from_vec(vec![0xff, b'x'])],
            environment: vec![("A".into(), "B".into())],
        }
    }

    #[test]
    fn frames_survive_any_cut() {
        let mut bytes = encode(&request()).expect("encodes");
        bytes.extend(encode(&ClientMessage::Signal(RunSignal::Interrupt)).expect("encodes"));
        for cut in 0..=bytes.len() {
            let mut buffer = bytes[..cut].to_vec();
            let mut seen: Option<RunRequest> = decode(&mut buffer).expect("valid so far");
            buffer.extend_from_slice(&bytes[cut..]);
            if seen.is_none() {
                seen = decode(&mut buffer).expect("valid");
            }
            assert_eq!(seen, Some(request()), "cut at {cut}");
            let signal = decode::<ClientMessage>(&mut buffer).expect("valid");
            assert_eq!(signal, Some(ClientMessage::Signal(RunSignal::Interrupt)));
            assert!(buffer.is_empty());
        }
    }

    #[test]
    fn refuses_long_and_garbled_frames() {
        let mut long = u32::MAX.to_be_bytes().to_vec();
        assert!(matches!(
            decode::<RunRequest>(&mut long),
            Err(FrameError::TooLong(_))
        ));
        let mut garbled = vec![0, 0, 0, 2, b'{', b'x'];
        assert!(matches!(
            decode::<RunRequest>(&mut garbled),
            Err(FrameError::Content(_))
        ));
    }

    #[test]
    fn exit_codes_are_those_of_a_shell() {
        for (status, code) in [
            (RunStatus::Exited(3), 3),
            (RunStatus::Signalled(15), 143),
            (RunStatus::Exited(0), 0),
        ] {
            assert_eq!(status.exit_code(), code);
        }
    }
}

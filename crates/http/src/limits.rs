//! The limits of both halves, each with its reason.

use std::time::Duration;

/// Header fields of one message. hyper's own default; more is an attack or a mistake.
pub(crate) const HEADERS: usize = 100;

/// Bytes of an HTTP/1 head, which is also hyper's read buffer: room for large cookies and
/// tokens (16 KiB is the usual limit of servers), and memory for each connection.
pub(crate) const HEADER_BYTES: usize = 64 * 1024;

/// Bytes of an HTTP/2 header list, as RFC 9113 counts them; the same room as HTTP/1.
pub(crate) const HEADER_LIST_BYTES: u32 = 64 * 1024;

/// Requests at once on one HTTP/2 connection that a caller opened.
pub(crate) const STREAMS: u32 = 200;

/// Requests at once that we put on one HTTP/2 connection before a second one is opened: below
/// what every common server allows (100), so that none waits in a queue.
pub(crate) const STREAMS_USED: usize = 90;

/// Streams that a caller may open and reset before we serve them (rapid reset).
pub(crate) const PENDING_RESETS: usize = 20;

/// Streams that we may have to reset because of a caller's errors.
pub(crate) const LOCAL_RESETS: usize = 1024;

/// Bytes in flight for one HTTP/2 stream: fills 1 Gbit/s at 8 ms.
pub(crate) const STREAM_WINDOW: u32 = 1024 * 1024;

/// Bytes in flight for one HTTP/2 connection: bounds the memory that a slow reader costs.
pub(crate) const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;

/// How long a caller may take for a request's head, which includes waiting for the next request
/// on an open connection: longer than clients usually keep one, so that it is they who close and
/// no request crosses a close.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(300);

/// How long a connection of a draining worker may lie unused before we close it: long enough that
/// a caller that uses it now and then has got its last answer on it, well below any drain time.
pub(crate) const DRAIN_UNUSED: Duration = Duration::from_secs(2);

/// How long an unused connection to another node's server half is kept: far below
/// [`KEEP_ALIVE`], so that the server half never closes under a request.
pub(crate) const INNER_IDLE: Duration = Duration::from_secs(60);

/// How long an unused connection to an application is kept: below the keep-alive times that
/// servers are shipped with (2 s and up), so that it is we who close.
pub(crate) const APPLICATION_IDLE: Duration = Duration::from_millis(1500);

/// How often unused connections are looked for.
pub(crate) const SWEEP: Duration = Duration::from_secs(1);

/// Unused connections kept for one callee: as many as callers at once that are worth keeping
/// warm; each costs some 20 KB.
pub(crate) const IDLE_PER_CALLEE: usize = 256;

/// A connection used this recently is taken without another look at its socket.
pub(crate) const SURELY_OPEN: Duration = Duration::from_millis(20);

/// Silence after which the server half gives a body up; a client half's own limit is shorter or
/// equal, this one is for callers without one.
pub(crate) const BODY_IDLE: Duration = Duration::from_secs(3600);

/// How long the application on this node may take to accept a connection.
pub(crate) const APPLICATION_CONNECT: Duration = Duration::from_secs(5);

/// Longest text of a refusal or reason in a header.
pub(crate) const REASON_TEXT: usize = 512;

//! HTTP/2 parameters of HBONE sessions, the same on both sides where HBONE fixes them.

use bytes::Bytes;
use h2::{client, server};

/// One stream may hold this much unread data: 4 MiB is HBONE's custom and 670 Mb/s at 50 ms.
const STREAM_WINDOW: u32 = 4 * 1024 * 1024;
/// Four streams that nobody reads do not stop the others.
const CONNECTION_WINDOW: u32 = 4 * STREAM_WINDOW;
/// As much as a relay reads at once: a frame of 64 KiB costs 8 % more CPU per byte, in system calls
/// and wake-ups. It is passed on only when all of it is there; 1 MiB would be allowed.
const FRAME: u32 = 256 * 1024;
/// Waits in this process for one stream; the socket's own buffer comes after it.
const SEND_BUFFER: usize = 512 * 1024;
/// Decoded headers of a request; peers put much into `baggage`.
const REQUEST_HEADERS: u32 = 64 * 1024;
/// Decoded headers of a response.
const RESPONSE_HEADERS: u32 = 16 * 1024;
/// What we let a peer open; stock proxies use at most 100.
const STREAMS: u32 = 200;
/// Streams that a peer may reset before we looked at them (rapid reset).
const RESET_BEFORE_ACCEPT: usize = 20;

pub(super) fn client() -> client::Builder {
    let mut builder = client::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME)
        .max_header_list_size(RESPONSE_HEADERS)
        .max_send_buffer_size(SEND_BUFFER)
        .enable_push(false);
    builder
}

pub(super) fn server() -> server::Builder {
    let mut builder = server::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME)
        .max_header_list_size(REQUEST_HEADERS)
        .max_send_buffer_size(SEND_BUFFER)
        .max_concurrent_streams(STREAMS)
        .max_pending_accept_reset_streams(RESET_BEFORE_ACCEPT);
    builder
}

/// What is queued for the wire.
pub(super) type Body = Bytes;

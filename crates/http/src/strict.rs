//! Lets through only HTTP/1 requests that leave no doubt where they end.
//!
//! hyper mends some requests silently that two readers could take apart differently, which is how
//! a request is smuggled past a check: of `Content-Length` beside `Transfer-Encoding` it drops
//! the former before anybody sees it, and it takes LF for CRLF. So the bytes are looked at before
//! it. Where a rule is broken, hyper is given a byte that no request may contain instead of the
//! rest: it answers 400 and closes.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::limits;

/// What stands for the rest of a broken request; NUL is allowed nowhere in it.
const POISON: &[u8] = b"\0\r\n\r\n";
/// Longer lines are not kept: above all that hyper reads of a head (its buffer, and one read more)
/// before it answers 431.
const LONGEST_LINE: usize = 2 * limits::HEADER_BYTES;

/// What is known of a connection by those who serve it.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    switched: AtomicBool,
    broken: OnceLock<&'static str>,
}

impl Notes {
    /// What comes now is no HTTP any more: a 101 is about to be sent.
    pub(crate) fn switch(&self) {
        self.switched.store(true, Ordering::Relaxed);
    }

    /// Which rule was broken.
    pub(crate) fn broken(&self) -> Option<&'static str> {
        self.broken.get().copied()
    }
}

/// A connection whose incoming bytes are looked at.
#[derive(Debug)]
pub(crate) struct Strict<S> {
    inner: S,
    reader: Reader,
    notes: Arc<Notes>,
    /// How much of the poison was given.
    poisoned: usize,
}

impl<S> Strict<S> {
    pub(crate) fn new(inner: S, notes: Arc<Notes>) -> Self {
        Self {
            inner,
            reader: Reader::default(),
            notes,
            poisoned: 0,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Strict<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.notes.broken().is_none() {
            let before = buf.filled().len();
            ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
            if this.notes.switched.load(Ordering::Relaxed) {
                return Poll::Ready(Ok(()));
            }
            let new = buf.filled().get(before..).unwrap_or_default();
            let Err(Broken { good, why }) = this.reader.read(new) else {
                return Poll::Ready(Ok(()));
            };
            buf.set_filled(before + good);
            // Set once: nothing is read after it.
            let _first = this.notes.broken.set(why);
        }
        // The end of the poison is the end of the stream.
        let rest = POISON.get(this.poisoned..).unwrap_or_default();
        let given = rest.len().min(buf.remaining());
        buf.put_slice(rest.get(..given).unwrap_or_default());
        this.poisoned += given;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Strict<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// A rule is broken behind so many bytes that are good.
#[derive(Debug, PartialEq, Eq)]
struct Broken {
    good: usize,
    why: &'static str,
}

/// Where in the stream of requests the next byte lies.
#[derive(Debug)]
enum At {
    /// HTTP/2, which has its own rules.
    Anything,
    /// A body, or a chunk with the line end behind it: so many bytes.
    Body {
        left: u64,
        chunked: bool,
    },
    ChunkSize,
    Head(Head),
    Trailer,
}

/// What the lines of a head have said so far.
#[derive(Debug, Default)]
struct Head {
    begun: bool,
    is_http_10: bool,
    length: Option<u64>,
    chunked: bool,
}

/// Follows the requests of one connection, however their bytes arrive.
#[derive(Debug)]
struct Reader {
    at: At,
    /// The line that is not complete yet.
    line: Vec<u8>,
}

impl Default for Reader {
    fn default() -> Self {
        Self {
            at: At::Head(Head::default()),
            line: Vec::new(),
        }
    }
}

impl Reader {
    fn read(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let good = bytes.len() - rest.len();
            let broken = |why| Broken { good, why };
            rest = match &mut self.at {
                At::Anything => return Ok(()),
                At::Body { left, chunked } => {
                    let here = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                    *left -= here as u64;
                    if *left == 0 {
                        self.at = match *chunked {
                            true => At::ChunkSize,
                            false => At::Head(Head::default()),
                        };
                    }
                    rest.get(here..).unwrap_or_default()
                }
                At::ChunkSize | At::Head(_) | At::Trailer => {
                    let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
                        self.line.extend_from_slice(rest);
                        return match self.line.len() > LONGEST_LINE {
                            true => Err(broken("a line is too long")),
                            false => Ok(()),
                        };
                    };
                    let (now, later) = rest.split_at(end + 1);
                    let mut line = std::mem::take(&mut self.line);
                    line.extend_from_slice(now);
                    self.line(&line).map_err(broken)?;
                    line.clear();
                    self.line = line;
                    later
                }
            };
        }
        Ok(())
    }

    /// Takes a line with its end.
    fn line(&mut self, line: &[u8]) -> Result<(), &'static str> {
        let line = line
            .strip_suffix(b"\r\n")
            .ok_or("a line ends with LF instead of CRLF")?;
        if line.contains(&b'\r') {
            return Err("CR inside a line");
        }
        let next = match &mut self.at {
            At::Head(head) => head.line(line)?,
            At::ChunkSize => Some(match chunk_size(line)? {
                0 => At::Trailer,
                size => At::Body {
                    left: size.checked_add(2).ok_or("a chunk is too long")?,
                    chunked: true,
                },
            }),
            At::Trailer => line.is_empty().then(|| At::Head(Head::default())),
            At::Anything | At::Body { .. } => None,
        };
        if let Some(next) = next {
            self.at = next;
        }
        Ok(())
    }
}

impl Head {
    /// Takes a line without its end; says what follows the head, when it ends.
    fn line(&mut self, line: &[u8]) -> Result<Option<At>, &'static str> {
        if !self.begun {
            self.begun = !line.is_empty();
            self.is_http_10 = line.ends_with(b"HTTP/1.0");
            return Ok((line == b"PRI * HTTP/2.0").then_some(At::Anything));
        }
        if line.is_empty() {
            return Ok(Some(match (self.chunked, self.length) {
                (true, _) => At::ChunkSize,
                (false, Some(left @ 1..)) => At::Body {
                    left,
                    chunked: false,
                },
                (false, _) => At::Head(Self::default()),
            }));
        }
        if line.starts_with(b" ") || line.starts_with(b"\t") {
            return Err("a header is continued on a second line");
        }
        let colon = line.iter().position(|byte| *byte == b':');
        let (name, value) = line.split_at(colon.unwrap_or(line.len()));
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        if name.eq_ignore_ascii_case(b"content-length") {
            self.length(value)?;
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.encoding(value)?;
        }
        match (self.chunked, self.length) {
            (true, Some(_)) => Err("both Content-Length and Transfer-Encoding"),
            _ => Ok(None),
        }
    }

    fn length(&mut self, value: &[u8]) -> Result<(), &'static str> {
        let digits = value.iter().all(u8::is_ascii_digit);
        let text = std::str::from_utf8(value).ok().filter(|_| digits);
        let length = text.and_then(|text| text.parse().ok());
        let length = length.ok_or("Content-Length is no number")?;
        match self.length.replace(length) {
            Some(before) if before != length => Err("two lengths in Content-Length"),
            _ => Ok(()),
        }
    }

    fn encoding(&mut self, value: &[u8]) -> Result<(), &'static str> {
        if self.is_http_10 {
            return Err("Transfer-Encoding in HTTP/1.0");
        }
        if self.chunked {
            return Err("Transfer-Encoding twice");
        }
        self.chunked = value.eq_ignore_ascii_case(b"chunked");
        match self.chunked {
            true => Ok(()),
            false => Err("Transfer-Encoding is not chunked"),
        }
    }
}

/// The size in the line before a chunk; extensions are allowed.
fn chunk_size(line: &[u8]) -> Result<u64, &'static str> {
    const WHY: &str = "a chunk has no size";
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit());
    let (digits, rest) = line.split_at(digits.count());
    let rest = rest.trim_ascii_start();
    if !(rest.is_empty() || rest.starts_with(b";")) {
        return Err(WHY);
    }
    let text = std::str::from_utf8(digits).map_err(|_| WHY)?;
    u64::from_str_radix(text, 16).map_err(|_| WHY)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\n";

    /// Reads bytes in pieces of `step`; the first rule that is broken.
    fn read(text: &str, step: usize) -> Option<&'static str> {
        let mut reader = Reader::default();
        let mut pieces = text.as_bytes().chunks(step);
        pieces.find_map(|piece| reader.read(piece).err().map(|broken| broken.why))
    }

    #[test]
    fn good_requests_follow_each_other_however_they_arrive() {
        let chunked = format!("{POST}Transfer-Encoding: Chunked \r\n\r\n");
        for text in [
            GET.to_owned(),
            format!("\r\n{GET}"),
            format!("{POST}Content-Length: 3\r\nContent-Length: 3\r\n\r\n\n\n\n"),
            format!("{POST}content-length:0\r\n\r\n"),
            format!("{chunked}3\r\n\n\n\n\r\n0\r\n\r\n"),
            format!("{chunked}A;x=y\r\n0123456789\r\n1 ;z\r\n\n\r\n0\r\nt: u\r\n\r\n"),
        ] {
            // The last one is broken, so that it shows that the others ended where they do.
            let text = format!("{text}{GET}{text}{POST}Transfer-Encoding: x\r\n\r\n");
            for step in [1, 2, 3, 7, 1000] {
                let broken = read(&text, step);
                assert_eq!(
                    broken,
                    Some("Transfer-Encoding is not chunked"),
                    "{text:?} {step}"
                );
            }
        }
        let h2 = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\n\n\r\r\0";
        assert_eq!(read(h2, 5), None);
    }

    #[test]
    fn doubtful_requests_are_broken_where_the_doubt_is() {
        let both = "both Content-Length and Transfer-Encoding";
        let (te, cl) = ("Transfer-Encoding: chunked\r\n", "Content-Length: 5\r\n");
        for (text, why) in [
            (format!("{POST}{te}{cl}\r\n"), both),
            (format!("{POST}{cl}{te}\r\n"), both),
            (format!("{POST}{te}{te}\r\n"), "Transfer-Encoding twice"),
            (
                format!("{POST}Transfer-Encoding: gzip, chunked\r\n\r\n"),
                "Transfer-Encoding is not chunked",
            ),
            (
                format!("POST / HTTP/1.0\r\n{te}\r\n"),
                "Transfer-Encoding in HTTP/1.0",
            ),
            (
                format!("{POST}{cl}Content-Length: 6\r\n\r\n"),
                "two lengths in Content-Length",
            ),
            (
                format!("{POST}Content-Length: +5\r\n\r\n"),
                "Content-Length is no number",
            ),
            (
                format!("{POST}X: y\r\n z\r\n\r\n"),
                "a header is continued on a second line",
            ),
            (
                "GET / HTTP/1.1\nHost: a\r\n\r\n".to_owned(),
                "a line ends with LF instead of CRLF",
            ),
            (format!("{POST}X: y\rz\r\n\r\n"), "CR inside a line"),
            (format!("{POST}{te}\r\nx\r\n"), "a chunk has no size"),
            (format!("{POST}{te}\r\n\r\n"), "a chunk has no size"),
            (
                format!("{POST}{te}\r\n3\nabc\r\n"),
                "a line ends with LF instead of CRLF",
            ),
            (
                format!("{POST}{te}\r\nffffffffffffffff\r\n"),
                "a chunk is too long",
            ),
            (
                format!("{POST}X: {}", "y".repeat(LONGEST_LINE + 1)),
                "a line is too long",
            ),
        ] {
            for step in [1, 3, 100_000] {
                assert_eq!(read(&text, step), Some(why), "{text:?} {step}");
                let second = format!("{GET}{text}");
                assert_eq!(read(&second, step), Some(why), "{second:?} {step}");
            }
        }
    }
}

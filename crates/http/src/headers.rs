//! Header rules of an intermediary: what is kept, what ends at each hop, what only Tacit may say.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{Method, Response, Version, request};

/// The id of a request, the same at both ends and in every log line.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Which try of a request this is, from 1. Between the halves only.
pub const TRY: HeaderName = HeaderName::from_static("x-tacit-try");
/// Set on a 403 or 429 that Tacit made: never retried, never a sign of ill health.
pub const REFUSAL: HeaderName = HeaderName::from_static("x-tacit-refusal");
/// Set on a 5xx that Tacit made: a word of [`Reason`].
pub const REASON: HeaderName = HeaderName::from_static("x-tacit-reason");
/// What a FaultPolicy did to the request on purpose. Set by the caller's node on every answer to
/// such a request.
pub const FAULT: HeaderName = HeaderName::from_static("x-tacit-fault");
/// The caller's own deadline: a duration such as `2s` or `300ms`.
pub const REQUEST_TIMEOUT: HeaderName = HeaderName::from_static("x-request-timeout");

const MARKERS: &str = "x-tacit-";
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Longest request id that is taken over from a caller; a longer one is replaced.
const LONGEST_ID: usize = 128;

/// Why Tacit answered with a 5xx itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// No connection to the endpoint or its application: the request never reached it.
    Connect,
    /// There is no endpoint that may be used.
    NoEndpoint,
    /// The application refused the request without working on it.
    Refused,
    /// The connection broke before the response began.
    Reset,
    /// A timeout ran out.
    Timeout,
}

impl Reason {
    /// The word in the header.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::NoEndpoint => "no-endpoint",
            Self::Refused => "refused",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
        }
    }

    /// Reads the header of a response, if it has one that is known.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        match headers.get(&REASON)?.as_bytes() {
            b"connect" => Some(Self::Connect),
            b"no-endpoint" => Some(Self::NoEndpoint),
            b"refused" => Some(Self::Refused),
            b"reset" => Some(Self::Reset),
            b"timeout" => Some(Self::Timeout),
            _ => None,
        }
    }
}

/// Removes everything that only Tacit may say. Called wherever an application's headers enter.
pub(crate) fn strip_markers(headers: &mut HeaderMap) {
    while let Some(marker) = first(headers, |name| name.as_str().starts_with(MARKERS)) {
        headers.remove(marker);
    }
}

fn first(headers: &HeaderMap, wanted: impl Fn(&HeaderName) -> bool) -> Option<HeaderName> {
    headers.keys().find(|name| wanted(name)).cloned()
}

/// The protocol that an upgrade asks for (or that a 101 grants), if the connection says so.
pub(crate) fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let asked = list(headers, &header::CONNECTION).any(|t| t.eq_ignore_ascii_case("upgrade"));
    let protocol = headers.get(header::UPGRADE)?;
    // Only prior knowledge: an upgrade to h2c is how requests were smuggled past proxies.
    let h2c = protocol.as_bytes().to_ascii_lowercase().starts_with(b"h2c");
    (asked && !h2c).then(|| protocol.clone())
}

/// The first value of a header, without a copy of what is no text: that counts as absent.
pub(crate) fn first_value(headers: &HeaderMap, name: &str) -> Option<String> {
    let value = headers.get(name)?.to_str().ok()?;
    Some(value.to_owned())
}

/// Removes what describes one hop only. `upgrade` is put back if this message is part of one.
pub(crate) fn end_hop(headers: &mut HeaderMap, upgrade: Option<HeaderValue>) {
    if headers.contains_key(header::CONNECTION) {
        for name in nominated(headers) {
            headers.remove(name);
        }
        headers.remove(header::CONNECTION);
    }
    let trailers = list(headers, &header::TE).any(|token| token.eq_ignore_ascii_case("trailers"));
    for name in [
        KEEP_ALIVE,
        PROXY_CONNECTION,
        header::TE,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
    ] {
        headers.remove(name);
    }
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    if let Some(protocol) = upgrade {
        headers.insert(header::UPGRADE, protocol);
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    }
}

/// Headers that `Connection` names. Framing, routing and identity are not the caller's to remove.
fn nominated(headers: &HeaderMap) -> Vec<HeaderName> {
    let kept = [header::CONTENT_LENGTH, header::HOST, header::TE, REQUEST_ID];
    list(headers, &header::CONNECTION)
        .filter_map(|token| HeaderName::from_bytes(token.as_bytes()).ok())
        .filter(|name| !kept.contains(name))
        .collect()
}

/// The comma-separated tokens of all values of a header; a value that is not text has none.
fn list<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).into_iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|token| !token.is_empty())
}

/// The id that the caller gave, if it can be used in logs and headers.
pub(crate) fn given_id(headers: &HeaderMap) -> Option<&str> {
    let id = headers.get(&REQUEST_ID)?.to_str().ok()?;
    let usable = (1..=LONGEST_ID).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic());
    usable.then_some(id)
}

/// Sets the id; the callee and its logs see the same one as we do.
pub(crate) fn set_id(headers: &mut HeaderMap, id: &str) {
    // An id is visible ASCII by construction; if it were not, the request would go without one.
    if let Ok(value) = HeaderValue::try_from(id) {
        headers.insert(REQUEST_ID, value);
    }
}

/// Which try of its request this is, from 1; 1 if nobody says.
pub(crate) fn which_try(headers: &HeaderMap) -> u32 {
    let number = headers.get(&TRY).and_then(|value| value.to_str().ok());
    number.and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// What is wrong with a request that the parser let through; `None` if it may pass.
pub(crate) fn malformed(head: &request::Parts) -> Option<&'static str> {
    if head.method == Method::CONNECT {
        return Some("CONNECT is not served here");
    }
    let mut hosts = head.headers.get_all(header::HOST).into_iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Some("more than one Host header");
    }
    // An empty Host is what a client sends for a target without authority (RFC 9110, 7.2).
    let is_host = |text: &[u8]| !text.contains(&b'@') && Authority::try_from(text).is_ok();
    if host.is_some_and(|host| !host.is_empty() && !is_host(host.as_bytes())) {
        return Some("the Host header is not a host");
    }
    if head
        .uri
        .authority()
        .is_some_and(|a| !is_host(a.as_str().as_bytes()))
    {
        return Some("the request target's authority is not a host");
    }
    match (head.version, host, head.uri.authority()) {
        (Version::HTTP_11, None, _) => Some("no Host header"),
        (Version::HTTP_2, None, None) => Some("neither :authority nor Host"),
        (Version::HTTP_2, Some(host), Some(authority))
            if !host
                .as_bytes()
                .eq_ignore_ascii_case(authority.as_str().as_bytes()) =>
        {
            Some("Host and :authority differ")
        }
        _ => None,
    }
}

/// The host that a request is for, as it was written, with its port if it had one. An absolute
/// request target counts before the Host header.
pub(crate) fn host(head: &request::Parts) -> &str {
    if let Some(authority) = head.uri.authority() {
        return authority.as_str();
    }
    let host = head.headers.get(header::HOST);
    host.and_then(|host| host.to_str().ok()).unwrap_or("")
}

/// Gives a request the target form of the protocol in which it goes on: origin form and a Host
/// header for HTTP/1.1, scheme and authority for HTTP/2. `fallback` is the host for HTTP/1.0
/// requests that name none.
pub(crate) fn retarget(head: &mut request::Parts, fallback: &str) {
    let authority = match host(head) {
        "" => fallback.to_owned(),
        host => host.to_owned(),
    };
    let path = head.uri.path_and_query().cloned();
    let path = path.unwrap_or_else(|| PathAndQuery::from_static("/"));
    let mut uri = http::uri::Parts::default();
    uri.path_and_query = Some(path);
    if head.version == Version::HTTP_2 {
        uri.scheme = Some(Scheme::HTTP);
        uri.authority = Authority::try_from(authority).ok();
        head.headers.remove(header::HOST);
    } else {
        head.version = Version::HTTP_11;
        if let Ok(host) = HeaderValue::try_from(authority) {
            head.headers.insert(header::HOST, host);
        }
    }
    // Both forms are complete, so this cannot fail; the old target would still be a valid one.
    if let Ok(uri) = Uri::from_parts(uri) {
        head.uri = uri;
    }
}

/// Replaces the path and keeps the query: what was checked is what is served.
pub(crate) fn set_path(head: &mut request::Parts, path: &str) -> Result<(), http::Error> {
    let target = match head.uri.query() {
        Some(query) => PathAndQuery::try_from(format!("{path}?{query}"))?,
        None => PathAndQuery::try_from(path)?,
    };
    let mut uri = head.uri.clone().into_parts();
    uri.path_and_query = Some(target);
    head.uri = Uri::from_parts(uri)?;
    Ok(())
}

/// True if the response has no natural end: its headers end the `request` timeout.
pub(crate) fn is_stream<B>(response: &Response<B>) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE);
    let kind = kind.map_or(&b""[..], HeaderValue::as_bytes);
    [&b"text/event-stream"[..], b"application/grpc"]
        .iter()
        .any(|prefix| {
            kind.len() >= prefix.len() && kind[..prefix.len()].eq_ignore_ascii_case(prefix)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(text: &str) -> HeaderMap {
        let mut map = HeaderMap::new();
        for line in text.lines() {
            let (name, value) = line.split_once(": ").unwrap();
            map.append(HeaderName::try_from(name).unwrap(), value.parse().unwrap());
        }
        map
    }

    fn names(map: &HeaderMap) -> Vec<String> {
        let lines = map
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()));
        let mut lines: Vec<_> = lines.collect();
        lines.sort();
        lines
    }

    #[test]
    fn a_hop_ends() {
        let cases = [
            ("connection: close\na: b", "a: b"),
            ("connection: x-a, keep-alive\nx-a: 1\nkeep-alive: 5", ""),
            (
                "connection: content-length, host\ncontent-length: 3\nhost: h",
                "content-length: 3|host: h",
            ),
            ("te: trailers, deflate", "te: trailers"),
            (
                "te: deflate\ntransfer-encoding: chunked\nproxy-connection: x",
                "",
            ),
            (
                "connection: upgrade\nupgrade: websocket",
                "connection: upgrade|upgrade: websocket",
            ),
            ("connection: upgrade\nupgrade: h2c", ""),
            ("upgrade: websocket", ""),
        ];
        for (given, expected) in cases {
            let mut map = headers(given);
            let protocol = upgrade(&map);
            end_hop(&mut map, protocol);
            assert_eq!(names(&map).join("|"), expected, "{given}");
        }
    }

    #[test]
    fn only_tacit_says_markers() {
        let mut map =
            headers("x-tacit-try: 4\nX-Tacit-Refusal: no\nx-tacit-refusal: no\nx-taci: 1");
        strip_markers(&mut map);
        assert_eq!(names(&map), ["x-taci: 1"]);
    }

    #[test]
    fn targets() {
        let cases = [
            (Version::HTTP_11, "/a?b", "h:80", "/a?b", "h:80"),
            (Version::HTTP_11, "http://x/a", "h", "/a", "x"),
            (Version::HTTP_11, "*", "h", "*", "h"),
            (Version::HTTP_10, "/a", "", "/a", "svc"),
            (Version::HTTP_2, "http://x/a", "", "http://x/a", ""),
        ];
        for (version, uri, host, uri_after, host_after) in cases {
            let mut request = http::Request::builder().version(version).uri(uri);
            if !host.is_empty() {
                request = request.header(header::HOST, host);
            }
            let (mut head, ()) = request.body(()).unwrap().into_parts();
            assert_eq!(malformed(&head), None);
            retarget(&mut head, "svc");
            assert_eq!(head.uri.to_string(), uri_after);
            let host = head
                .headers
                .get(header::HOST)
                .map_or("", |h| h.to_str().unwrap());
            assert_eq!(host, host_after);
        }
    }

    #[test]
    fn bad_hosts() {
        let cases: [(Version, &str, &[&str]); 7] = [
            (Version::HTTP_11, "/", &[]),
            (Version::HTTP_11, "/", &["a", "a"]),
            (Version::HTTP_11, "/", &["a b"]),
            (Version::HTTP_11, "/", &["a/b"]),
            (Version::HTTP_11, "/", &["u@a"]),
            (Version::HTTP_2, "http://a/", &["b"]),
            (Version::HTTP_2, "/", &[]),
        ];
        for (version, uri, hosts) in cases {
            let mut request = http::Request::builder().version(version).uri(uri);
            for host in hosts {
                request = request.header(header::HOST, *host);
            }
            let (head, ()) = request.body(()).unwrap().into_parts();
            assert!(malformed(&head).is_some(), "{version:?} {uri} {hosts:?}");
        }
    }
}

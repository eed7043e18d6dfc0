//! Answers that Tacit makes itself: one line of text that says why, and the id to ask about.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, RETRY_AFTER};
use http::{Response, StatusCode};
use tacit_decide::{Denial, DenialKind, RefusalStatus};

use crate::headers::{REASON, REFUSAL, REQUEST_ID, Reason};
use crate::limits;
use crate::response_body::ResponseBody;

const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// A request that breaks HTTP's rules in a way that the parser lets through.
pub(crate) fn bad_request(why: &str, id: &str) -> Response<ResponseBody> {
    answer(StatusCode::BAD_REQUEST, why, id)
}

/// Refused by a decision: never retried, never a sign of ill health.
pub(crate) fn refused(denial: &Denial, id: &str) -> Response<ResponseBody> {
    let why = denial.to_string();
    let mut response = match denial.kind.status() {
        RefusalStatus::Http(status) => {
            let status = StatusCode::from_u16(status);
            answer(status.unwrap_or(StatusCode::FORBIDDEN), &why, id)
        }
        RefusalStatus::Grpc(status) => grpc(status, &why, id),
    };
    let header = match denial.kind {
        DenialKind::NoEndpoint => (REASON, HeaderValue::from_static(Reason::NoEndpoint.word())),
        DenialKind::BadRequest
        | DenialKind::BrokenGrpcRoute
        | DenialKind::BrokenRoute
        | DenialKind::NoGrpcRoute
        | DenialKind::NoRoute
        | DenialKind::Offline
        | DenialKind::OverRate { .. }
        | DenialKind::Policy
        | DenialKind::UnknownDestination => (REFUSAL, text(&why)),
    };
    let headers = response.headers_mut();
    headers.insert(header.0, header.1);
    if let DenialKind::OverRate { retry_after } = denial.kind {
        headers.insert(RETRY_AFTER, HeaderValue::from(retry_after));
    }
    response
}

/// A route sends the caller elsewhere.
pub(crate) fn redirect(status: u16, to: &str, id: &str) -> Response<ResponseBody> {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::FOUND);
    let mut response = answer(status, &format!("go to {to}"), id);
    // A URL has no control characters, which is all that a header cannot carry. It must not be cut.
    if let Ok(to) = HeaderValue::from_bytes(to.as_bytes()) {
        response.headers_mut().insert(LOCATION, to);
    }
    response
}

/// A FaultPolicy makes it fail.
pub(crate) fn injected(status: u16, why: &str, id: &str) -> Response<ResponseBody> {
    let status = StatusCode::from_u16(status);
    answer(status.unwrap_or(StatusCode::SERVICE_UNAVAILABLE), why, id)
}

/// It went wrong between caller and application.
pub(crate) fn failed(reason: Reason, why: &str, id: &str) -> Response<ResponseBody> {
    let status = match reason {
        Reason::Connect | Reason::NoEndpoint | Reason::Refused => StatusCode::SERVICE_UNAVAILABLE,
        Reason::Reset => StatusCode::BAD_GATEWAY,
        Reason::Timeout => StatusCode::GATEWAY_TIMEOUT,
    };
    let mut response = answer(status, why, id);
    let word = HeaderValue::from_static(reason.word());
    response.headers_mut().insert(REASON, word);
    response
}

/// An answer of gRPC without a message: its trailers are all of it (gRPC over HTTP/2,
/// `Trailers-Only`).
fn grpc(status: u8, why: &str, id: &str) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::Own(None));
    let headers = response.headers_mut();
    let media = HeaderValue::from_static("application/grpc");
    headers.insert(CONTENT_TYPE, media);
    headers.insert(GRPC_STATUS, u16::from(status).into());
    // A percent sign would begin an escape.
    let message = format!("{why} (request {id})").replace('%', "%25");
    headers.insert(GRPC_MESSAGE, text(&message));
    headers.insert(REQUEST_ID, text(id));
    response
}

fn answer(status: StatusCode, why: &str, id: &str) -> Response<ResponseBody> {
    let line = Bytes::from(format!("{why} (request {id})\n"));
    let mut response = Response::new(ResponseBody::Own(Some(line)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    headers.insert(CONTENT_TYPE, plain);
    headers.insert(REQUEST_ID, text(id));
    response
}

/// A header value of the text: what a header cannot carry becomes `?`, and it is cut to length.
pub(crate) fn text(words: &str) -> HeaderValue {
    let visible = |c: char| if (' '..='~').contains(&c) { c } else { '?' };
    let words: String = words
        .chars()
        .take(limits::REASON_TEXT)
        .map(visible)
        .collect();
    // Only visible ASCII is left, which every header may carry.
    HeaderValue::try_from(words).unwrap_or_else(|_| HeaderValue::from_static("?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_grpc_route_refuses_is_a_status_of_grpc() {
        for (kind, status, grpc) in [
            (DenialKind::NoGrpcRoute, 200, Some("12")),
            (DenialKind::BrokenGrpcRoute, 200, Some("14")),
            (DenialKind::NoRoute, 404, None),
            (DenialKind::BrokenRoute, 500, None),
            (DenialKind::Policy, 403, None),
        ] {
            let denial = Denial {
                kind,
                reason: "no: 100%".to_owned(),
                by: None,
            };
            let response = refused(&denial, "abc");
            let headers = response.headers();
            let word = |name: &HeaderName| headers.get(name).and_then(|found| found.to_str().ok());
            assert_eq!(response.status().as_u16(), status);
            assert_eq!(word(&GRPC_STATUS), grpc);
            assert_eq!(word(&REFUSAL), Some("no: 100%"));
            let message = grpc.map(|_| "no: 100%25 (request abc)");
            assert_eq!(word(&GRPC_MESSAGE), message);
            let media = grpc.map_or("text/plain; charset=utf-8", |_| "application/grpc");
            assert_eq!(word(&CONTENT_TYPE), Some(media));
        }
    }

    #[test]
    fn any_words_fit_a_header() {
        assert_eq!(
            text("no: AccessPolicy/shop/ledger spec.rules[0]\r\nx"),
            "no: AccessPolicy/shop/ledger spec.rules[0]??x"
        );
        assert_eq!(text(&"ä".repeat(9999)).len(), limits::REASON_TEXT);
        let answer = failed(Reason::Timeout, "no answer within 2s", "abc");
        assert_eq!(answer.status(), 504);
        assert_eq!(answer.headers()[REASON], "timeout");
        assert_eq!(Reason::of(answer.headers()), Some(Reason::Timeout));
    }
}

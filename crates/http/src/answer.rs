//! Answers that Tacit makes itself: one line of text that says why, and the id to ask about.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue, LOCATION, RETRY_AFTER};
use http::{Response, StatusCode};
use tacit_decide::{Denial, DenialKind};

use crate::headers::{REASON, REFUSAL, REQUEST_ID, Reason};
use crate::limits;
use crate::response_body::ResponseBody;

/// A request that breaks HTTP's rules in a way that the parser lets through.
pub(crate) fn bad_request(why: &str, id: &str) -> Response<ResponseBody> {
    answer(StatusCode::BAD_REQUEST, why, id)
}

/// Refused by a decision: never retried, never a sign of ill health.
pub(crate) fn refused(denial: &Denial, id: &str) -> Response<ResponseBody> {
    let status = StatusCode::from_u16(denial.kind.http_status());
    let why = denial.to_string();
    let mut response = answer(status.unwrap_or(StatusCode::FORBIDDEN), &why, id);
    let header = match denial.kind {
        DenialKind::NoEndpoint => (REASON, HeaderValue::from_static(Reason::NoEndpoint.word())),
        DenialKind::BadRequest
        | DenialKind::BrokenRoute
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

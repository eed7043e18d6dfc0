//! Routes in the client half: asks which rule a request follows, and rewrites as the rule says.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, Uri};
use http::{Version, request};
use tacit_decide::path::canonical;
use tacit_decide::record::Leg;
use tacit_decide::route::follows_routes;
use tacit_decide::{Decider, Denial, DenialKind, RouteHead, Routed, ServiceTarget};
use tacit_model::route::{Candidate, HeaderChanges, RouteRule};
use tacit_model::tables::WorkloadRow;

use crate::headers;
use crate::worker::Worker;

/// Where a request to a service goes.
pub(super) struct Way {
    /// What was called: it gives timeouts and retries.
    pub(super) parent: ServiceTarget,
    /// What serves it.
    pub(super) target: ServiceTarget,
    /// The rule that leads there, if a route does.
    pub(super) by: Option<Candidate>,
    /// What the backend sees as the path, if the rule changes it.
    pub(super) path: Option<String>,
}

impl Way {
    /// For whom timeouts, retries and budget are.
    pub(super) fn leg(&self, source: &WorkloadRow) -> Leg {
        Leg {
            source: source.name.clone(),
            service: self.parent.service.name.clone(),
            rule: self.by.as_ref().map(Into::into),
        }
    }
}

/// Why a request goes nowhere.
pub(super) enum Stopped {
    Denied(Denial),
    /// A redirect: the status, and where to.
    Redirected {
        status: u16,
        location: String,
    },
}

/// Asks the routes of a service, if it has some.
pub(super) fn follow(
    worker: &Worker,
    decider: &Decider<'_>,
    source: &WorkloadRow,
    parent: ServiceTarget,
    head: &request::Parts,
) -> Result<Way, Stopped> {
    if !follows_routes(decider.snapshot, &parent) {
        return Ok(direct(parent));
    }
    let path = canonical(head.uri.path()).map_err(|error| {
        Stopped::Denied(Denial {
            kind: DenialKind::BadRequest,
            reason: format!("the path has no canonical form: {error}"),
            by: None,
        })
    })?;
    let asked = RouteHead {
        method: head.method.as_str(),
        path: &path,
        query: head.uri.query().unwrap_or(""),
        host: headers::host(head),
        header: &|name| value(&head.headers, name),
    };
    match decider.route(source, &parent, &asked, (worker.dice)()) {
        Routed::Denied(denial) => Err(Stopped::Denied(denial)),
        Routed::Direct => Ok(direct(parent)),
        Routed::Forward { to, by, path } => Ok(Way {
            parent,
            target: to,
            by: Some(by),
            path,
        }),
        Routed::Redirect {
            status, location, ..
        } => Err(Stopped::Redirected { status, location }),
    }
}

fn direct(parent: ServiceTarget) -> Way {
    Way {
        target: parent.clone(),
        parent,
        by: None,
        path: None,
    }
}

/// The values of a header, joined by commas (RFC 9110, 5.3).
fn value(headers: &HeaderMap, name: &str) -> Option<String> {
    let all = headers.get_all(name).into_iter();
    let texts: Vec<&str> = all.filter_map(|value| value.to_str().ok()).collect();
    (!texts.is_empty()).then(|| texts.join(","))
}

/// Changes a request, which has its final form already, as the rule says. The error is for people:
/// what a request cannot carry is refused, never left out.
pub(super) fn rewrite(
    head: &mut request::Parts,
    rule: &RouteRule,
    path: Option<&str>,
) -> Result<(), http::Error> {
    if let Some(path) = path {
        headers::set_path(head, path)?;
    }
    if let Some(host) = &rule.changes.host {
        set_host(head, host)?;
    }
    change_headers(&mut head.headers, &rule.changes.request)
}

fn set_host(head: &mut request::Parts, host: &str) -> Result<(), http::Error> {
    if head.version != Version::HTTP_2 {
        head.headers
            .insert(header::HOST, HeaderValue::try_from(host)?);
        return Ok(());
    }
    let mut uri = head.uri.clone().into_parts();
    uri.authority = Some(Authority::try_from(host)?);
    head.uri = Uri::from_parts(uri)?;
    Ok(())
}

/// Changes headers, of a request or of a response.
pub(super) fn change_headers(
    headers: &mut HeaderMap,
    changes: &HeaderChanges,
) -> Result<(), http::Error> {
    let HeaderChanges { set, add, remove } = changes;
    for name in remove {
        headers.remove(&**name);
    }
    for (name, value) in set {
        headers.insert(
            HeaderName::try_from(&**name)?,
            HeaderValue::try_from(&**value)?,
        );
    }
    for (name, value) in add {
        headers.append(
            HeaderName::try_from(&**name)?,
            HeaderValue::try_from(&**value)?,
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_header_cannot_carry_is_an_error_and_never_left_out() {
        let change = |value: &str| HeaderChanges {
            set: vec![("x-stage".into(), value.into())],
            ..HeaderChanges::default()
        };
        let mut headers = HeaderMap::new();
        assert!(change_headers(&mut headers, &change("a\nb")).is_err());
        assert!(change_headers(&mut headers, &change("canary")).is_ok());
        assert_eq!(headers["x-stage"], "canary");
    }
}

//! Routes in the client half: asks which rule a request follows, and rewrites as the rule says.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, Uri};
use http::{Version, request};
use tacit_decide::path::canonical;
use tacit_decide::route::{changed_path, follows_routes, location};
use tacit_decide::{Decider, Denial, DenialKind, RouteHead, Routed, ServiceTarget};
use tacit_model::route::{Action, Candidate, HeaderChanges};
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
}

/// Why a request goes nowhere.
pub(super) enum Stopped {
    Denied(Denial),
    /// A redirect: the status, and where to.
    Redirected {
        status: u16,
        to: String,
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
        header: &|name| value(head, name),
    };
    match decider.route(source, &parent, &asked, (worker.dice)()) {
        Routed::Denied(denial) => Err(Stopped::Denied(denial)),
        Routed::Direct => Ok(direct(parent)),
        Routed::Forward { to, by } => Ok(Way {
            parent,
            target: to,
            by: Some(by),
        }),
        Routed::Redirect { by } => Err(redirect(&by, &parent, head, &path)),
    }
}

fn direct(parent: ServiceTarget) -> Way {
    Way {
        target: parent.clone(),
        parent,
        by: None,
    }
}

/// The values of a header, joined by commas (RFC 9110, 5.3). `host` is the authority in HTTP/2.
fn value(head: &request::Parts, name: &str) -> Option<String> {
    if name == header::HOST.as_str() {
        return Some(headers::host(head).to_owned()).filter(|host| !host.is_empty());
    }
    let all = head.headers.get_all(name).into_iter();
    let texts: Vec<&str> = all.filter_map(|value| value.to_str().ok()).collect();
    (!texts.is_empty()).then(|| texts.join(","))
}

fn redirect(by: &Candidate, parent: &ServiceTarget, head: &request::Parts, path: &str) -> Stopped {
    let Some(Action::Redirect(redirect)) = by.rule().map(|rule| &rule.action) else {
        return Stopped::Denied(Denial {
            kind: DenialKind::BrokenRoute,
            reason: "the rule has no redirect".into(),
            by: None,
        });
    };
    let authority = Authority::try_from(headers::host(head)).ok();
    let host = authority.as_ref().map_or("", Authority::host);
    let asked = (path, head.uri.query().unwrap_or(""));
    Stopped::Redirected {
        status: redirect.status,
        to: location(by, redirect, (host, parent.port.port), asked),
    }
}

/// Changes a request, which has its final form already, as the rule says.
pub(super) fn rewrite(head: &mut request::Parts, by: &Candidate) {
    let Some(rule) = by.rule() else { return };
    let changes = &rule.changes;
    if let Some(change) = &changes.path
        && let Ok(path) = canonical(head.uri.path())
    {
        // The compiler took only paths that a request can carry.
        let _set = headers::set_path(head, &changed_path(by, change, &path));
    }
    if let Some(host) = &changes.host {
        set_host(head, host);
    }
    change_headers(&mut head.headers, &changes.request);
}

fn set_host(head: &mut request::Parts, host: &str) {
    if head.version != Version::HTTP_2 {
        if let Ok(value) = HeaderValue::try_from(host) {
            head.headers.insert(header::HOST, value);
        }
        return;
    }
    let mut uri = head.uri.clone().into_parts();
    uri.authority = Authority::try_from(host).ok();
    if let Ok(uri) = Uri::from_parts(uri) {
        head.uri = uri;
    }
}

/// Changes headers. The compiler took only names and values that a header can have.
pub(super) fn change_headers(headers: &mut HeaderMap, changes: &HeaderChanges) {
    let HeaderChanges { set, add, remove } = changes;
    for name in remove {
        headers.remove(&**name);
    }
    let pairs = |list: &[(std::sync::Arc<str>, std::sync::Arc<str>)]| {
        let pair = |(name, value): &(std::sync::Arc<str>, std::sync::Arc<str>)| {
            let name = HeaderName::try_from(&**name).ok()?;
            Some((name, HeaderValue::try_from(&**value).ok()?))
        };
        list.iter().filter_map(pair).collect::<Vec<_>>()
    };
    for (name, value) in pairs(set) {
        headers.insert(name, value);
    }
    for (name, value) in pairs(add) {
        headers.append(name, value);
    }
}

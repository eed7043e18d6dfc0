//! TCPRoutes as routes of HTTP: a rule that looks at nothing is for every connection.

use tacit_api::http_route::{HTTPRouteSpec, RouteRule};
use tacit_api::tcp_route::{TCPRouteSpec, TcpRule};

use crate::findings::{MISSING_FIELD, Report};

/// The same route as an HTTPRoute. Only connections follow it, which its kind says.
pub(crate) fn as_http(spec: &TCPRouteSpec) -> HTTPRouteSpec {
    let rules = spec.rules.as_ref();
    HTTPRouteSpec {
        parent_refs: spec.parent_refs.clone(),
        hostnames: None,
        rules: rules.map(|rules| rules.iter().map(rule).collect()),
    }
}

fn rule(written: &TcpRule) -> RouteRule {
    let TcpRule { name, backend_refs } = written;
    RouteRule {
        name: name.clone(),
        backend_refs: backend_refs.clone(),
        ..RouteRule::default()
    }
}

/// Checks what an HTTPRoute may leave out.
pub(super) fn check(report: &mut Report<'_>, spec: &TCPRouteSpec) {
    if spec.rules.is_none() {
        report.say(MISSING_FIELD, "spec.rules", "a TCPRoute needs rules");
    }
}

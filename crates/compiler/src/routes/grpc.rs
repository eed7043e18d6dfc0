//! GRPCRoutes as routes of HTTP: a gRPC method is a path (gRPC over HTTP/2, "Requests").

use tacit_api::grpc_route::{
    GRPCRouteSpec, GrpcFilter, GrpcFilterType, GrpcMatch, GrpcMethod, GrpcMethodType, GrpcRule,
};
use tacit_api::http_route::{
    Filter, FilterType, HTTPRouteSpec, PathMatch, PathMatchType, RouteMatch, RouteRule,
};

use crate::findings::{BAD_TEXT, MISSING_FIELD, Report};

/// The same route as an HTTPRoute. Only requests of gRPC follow it, which its kind says.
pub(crate) fn as_http(spec: &GRPCRouteSpec) -> HTTPRouteSpec {
    let rules = spec.rules.as_ref();
    HTTPRouteSpec {
        parent_refs: spec.parent_refs.clone(),
        hostnames: spec.hostnames.clone(),
        rules: rules.map(|rules| rules.iter().map(rule).collect()),
    }
}

fn rule(written: &GrpcRule) -> RouteRule {
    let GrpcRule {
        name,
        matches,
        filters,
        backend_refs,
        session_persistence,
    } = written;
    RouteRule {
        name: name.clone(),
        matches: matches
            .as_ref()
            .map(|all| all.iter().map(one_match).collect()),
        filters: filters.as_ref().map(|all| all.iter().map(filter).collect()),
        backend_refs: backend_refs.clone(),
        timeouts: None,
        retry: None,
        session_persistence: session_persistence.clone(),
    }
}

/// Every request of gRPC is a POST, which therefore need not be asked for.
fn one_match(written: &GrpcMatch) -> RouteMatch {
    RouteMatch {
        path: written.method.as_ref().and_then(path),
        headers: written.headers.clone(),
        query_params: None,
        method: None,
    }
}

/// Nothing for what [`check`] or the list of what is not supported refuses.
fn path(written: &GrpcMethod) -> Option<PathMatch> {
    let service = text(written.service.as_deref()).filter(|name| is_service(name))?;
    let (kind, value) = match text(written.method.as_deref()) {
        Some(method) if is_word(method) => (PathMatchType::Exact, format!("/{service}/{method}")),
        Some(_) => return None,
        None => (PathMatchType::PathPrefix, format!("/{service}")),
    };
    Some(PathMatch {
        match_type: Some(kind),
        value: Some(value),
    })
}

fn filter(written: &GrpcFilter) -> Filter {
    Filter {
        filter_type: match written.filter_type {
            GrpcFilterType::ExtensionRef => FilterType::ExtensionRef,
            GrpcFilterType::RequestHeaderModifier => FilterType::RequestHeaderModifier,
            GrpcFilterType::RequestMirror => FilterType::RequestMirror,
            GrpcFilterType::ResponseHeaderModifier => FilterType::ResponseHeaderModifier,
        },
        request_header_modifier: written.request_header_modifier.clone(),
        response_header_modifier: written.response_header_modifier.clone(),
        request_redirect: None,
        url_rewrite: None,
    }
}

/// Checks the methods of a route; the rest is as in an HTTPRoute.
pub(super) fn check(report: &mut Report<'_>, spec: &GRPCRouteSpec) {
    for (at, method) in methods(spec) {
        if method.match_type == Some(GrpcMethodType::RegularExpression) {
            continue;
        }
        let (service, name) = (
            text(method.service.as_deref()),
            text(method.method.as_deref()),
        );
        if service.is_none() && name.is_none() {
            let message = "a method match needs `service`, and may have `method`";
            report.say(MISSING_FIELD, &format!("{at}.service"), message);
        }
        if let Some(service) = service.filter(|service| !is_service(service)) {
            let message = format!("{service:?} is no service of gRPC, such as shop.Payments");
            report.say(BAD_TEXT, &format!("{at}.service"), message);
        }
        if let Some(name) = name.filter(|name| !is_word(name)) {
            let message = format!("{name:?} is no method of gRPC, such as Charge");
            report.say(BAD_TEXT, &format!("{at}.method"), message);
        }
    }
}

/// The fields of methods that are not enforced, and what they are.
pub(crate) fn unsupported(spec: &GRPCRouteSpec) -> Vec<(String, String)> {
    let found = methods(spec).filter_map(|(at, method)| {
        if method.match_type == Some(GrpcMethodType::RegularExpression) {
            Some((format!("{at}.type"), "`RegularExpression`".to_owned()))
        } else if text(method.service.as_deref()).is_none()
            && text(method.method.as_deref()).is_some()
        {
            let what = "a method of every service".to_owned();
            Some((format!("{at}.method"), what))
        } else {
            None
        }
    });
    found.collect()
}

fn methods(spec: &GRPCRouteSpec) -> impl Iterator<Item = (String, &GrpcMethod)> {
    let rules = spec.rules.iter().flatten().enumerate();
    rules.flat_map(|(index, rule)| {
        let matches = rule.matches.iter().flatten().enumerate();
        matches.filter_map(move |(number, found)| {
            let at = format!("spec.rules[{index}].matches[{number}].method");
            Some((at, found.method.as_ref()?))
        })
    })
}

/// An empty text means the same as none (Gateway API, `GRPCMethodMatch`).
fn text(written: Option<&str>) -> Option<&str> {
    written.filter(|text| !text.is_empty())
}

fn is_service(name: &str) -> bool {
    let name = name.strip_prefix('.').unwrap_or(name);
    name.split('.').all(is_word)
}

fn is_word(word: &str) -> bool {
    let is_first = |c: char| c.is_ascii_alphabetic() || c == '_';
    word.starts_with(is_first) && word.chars().all(|c| is_first(c) || c.is_ascii_digit())
}

//! Checks a route by itself.

use std::collections::BTreeSet;
use std::time::Duration;

use tacit_api::http_route::{
    BackendRef, Filter, FilterType, HTTPRouteSpec, HeaderModifier, NamedMatch, PathMatchType,
    PathModifier, PathModifierType, Redirect, RouteMatch, RouteRule, Timeouts, UrlRewrite,
};
use tacit_api::{GRPCRouteSpec, Located, Object, TCPRouteSpec};
use tacit_model::finding::Finding;

use super::{grpc, tcp};
use crate::access::{is_host, plain_path};
use crate::findings::{
    BAD_TEXT, CONTRADICTION, MISSING_FIELD, NO_EFFECT, NO_TARGET, OUT_OF_RANGE, Report,
};
use crate::values;

/// Most rules of a route, filters of a rule and backends of a rule, as in the Gateway API.
const MOST: usize = 16;
/// Most matches of a rule, likewise.
const MOST_MATCHES: usize = 64;
/// Largest weight of a backend, likewise.
const LARGEST_WEIGHT: u32 = 1_000_000;
/// Most further tries, as in a RetryTimeoutPolicy.
const MOST_ATTEMPTS: u32 = 100;

/// Headers that a rule may not touch: framing, hops, the host (that is `urlRewrite`), and what only
/// Tacit may say.
const NOT_CHANGED: &[&str] = &[
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-request-id",
];

/// Checks a GRPCRoute by itself. Errors keep it out of force.
pub(crate) fn validate_grpc(object: &Located<Object>, spec: &GRPCRouteSpec) -> Vec<Finding> {
    let mut report = Report::new(object);
    grpc::check(&mut report, spec);
    let mut findings = report.findings;
    findings.extend(validate(object, &grpc::as_http(spec)));
    findings
}

/// Checks a TCPRoute by itself. Errors keep it out of force.
pub(crate) fn validate_tcp(object: &Located<Object>, spec: &TCPRouteSpec) -> Vec<Finding> {
    let mut report = Report::new(object);
    tcp::check(&mut report, spec);
    let mut findings = report.findings;
    findings.extend(validate(object, &tcp::as_http(spec)));
    findings
}

/// Checks a route by itself. Errors keep it out of force.
pub(crate) fn validate(object: &Located<Object>, spec: &HTTPRouteSpec) -> Vec<Finding> {
    let mut report = Report::new(object);
    if spec.parent_refs.as_ref().is_none_or(Vec::is_empty) {
        let fix = "add parentRefs: [{group: \"\", kind: Service, name: ...}]".to_owned();
        let message = "the route has no parent".to_owned();
        report.add(NO_TARGET, "spec.parentRefs", message, Some(fix));
    }
    if spec.hostnames.is_some() {
        let message = "host names mean nothing where the parent is a Service";
        report.say(NO_EFFECT, "spec.hostnames", message);
    }
    values::not_empty(&mut report, "spec.rules", spec.rules.as_deref());
    let rules = spec.rules.as_deref().unwrap_or_default();
    at_most(&mut report, "spec.rules", rules.len(), MOST);
    let mut names = BTreeSet::new();
    for (index, rule) in rules.iter().enumerate() {
        let at = format!("spec.rules[{index}]");
        if let Some(name) = rule.name.as_deref().filter(|name| !names.insert(*name)) {
            let message = format!("another rule is called {name:?}");
            report.say(CONTRADICTION, &format!("{at}.name"), message);
        }
        check_rule(&mut report, &at, rule);
    }
    report.findings
}

fn at_most(report: &mut Report<'_>, field: &str, found: usize, most: usize) {
    if found > most {
        report.say(OUT_OF_RANGE, field, format!("{found} are more than {most}"));
    }
}

fn check_rule(report: &mut Report<'_>, at: &str, rule: &RouteRule) {
    let field = format!("{at}.matches");
    values::not_empty(report, &field, rule.matches.as_deref());
    let matches = rule.matches.as_deref().unwrap_or_default();
    at_most(report, &field, matches.len(), MOST_MATCHES);
    for (index, found) in matches.iter().enumerate() {
        check_match(report, &format!("{at}.matches[{index}]"), found);
    }
    let filters = rule.filters.as_deref().unwrap_or_default();
    at_most(report, &format!("{at}.filters"), filters.len(), MOST);
    let mut seen = BTreeSet::new();
    for (index, filter) in filters.iter().enumerate() {
        let at = format!("{at}.filters[{index}]");
        if !seen.insert(filter.filter_type) {
            let message = format!("{} stands twice", filter.filter_type);
            report.say(CONTRADICTION, &at, message);
        }
        check_filter(report, &at, filter, matches);
    }
    let has = |wanted| seen.contains(&wanted);
    if has(FilterType::RequestRedirect) && has(FilterType::URLRewrite) {
        let message = "a request that is redirected is not rewritten";
        report.say(CONTRADICTION, &format!("{at}.filters"), message);
    }
    let backends = rule.backend_refs.as_deref().unwrap_or_default();
    if has(FilterType::RequestRedirect) && !backends.is_empty() {
        let message = "a request that is redirected goes to no backend";
        report.say(CONTRADICTION, &format!("{at}.backendRefs"), message);
    }
    at_most(report, &format!("{at}.backendRefs"), backends.len(), MOST);
    for (index, backend) in backends.iter().enumerate() {
        check_backend(report, &format!("{at}.backendRefs[{index}]"), backend);
    }
    if let Some(timeouts) = &rule.timeouts {
        check_timeouts(report, &format!("{at}.timeouts"), timeouts);
    }
    if let Some(retry) = &rule.retry {
        let field = format!("{at}.retry.attempts");
        values::number(report, &field, retry.attempts, 0..=MOST_ATTEMPTS);
        for (index, code) in retry.codes.iter().flatten().enumerate() {
            let field = format!("{at}.retry.codes[{index}]");
            values::number(report, &field, Some(u32::from(*code)), 400..=599);
        }
    }
}

fn check_match(report: &mut Report<'_>, at: &str, found: &RouteMatch) {
    if let Some(path) = &found.path
        && path.match_type != Some(PathMatchType::RegularExpression)
    {
        let value = path.value.as_deref().unwrap_or("/");
        check_path(report, &format!("{at}.path.value"), value);
    }
    let lists = [
        ("headers", &found.headers),
        ("queryParams", &found.query_params),
    ];
    for (name, list) in lists {
        let list = list.as_deref().unwrap_or_default();
        at_most(report, &format!("{at}.{name}"), list.len(), MOST);
        for (index, NamedMatch { name: wanted, .. }) in list.iter().enumerate() {
            if name == "headers" && !values::is_token(wanted) || wanted.is_empty() {
                let message = format!("{wanted:?} is no name of a header or parameter");
                report.say(BAD_TEXT, &format!("{at}.{name}[{index}].name"), message);
            }
        }
    }
}

/// Requests are compared in their canonical form, so a path that is not canonical never matches.
fn check_path(report: &mut Report<'_>, field: &str, path: &str) {
    if let Err(why) = plain_path(path) {
        let message = format!("{path:?} is no canonical path: {why}");
        let fix = Some("write a path such as /accounts".to_owned());
        report.add(BAD_TEXT, field, message, fix);
    }
}

fn check_filter(report: &mut Report<'_>, at: &str, filter: &Filter, matches: &[RouteMatch]) {
    let Filter {
        filter_type,
        request_header_modifier,
        response_header_modifier,
        request_redirect,
        url_rewrite,
    } = filter;
    let fields = [
        (
            FilterType::RequestHeaderModifier,
            "requestHeaderModifier",
            request_header_modifier.is_some(),
        ),
        (
            FilterType::ResponseHeaderModifier,
            "responseHeaderModifier",
            response_header_modifier.is_some(),
        ),
        (
            FilterType::RequestRedirect,
            "requestRedirect",
            request_redirect.is_some(),
        ),
        (FilterType::URLRewrite, "urlRewrite", url_rewrite.is_some()),
    ];
    for (of, name, present) in fields {
        let field = format!("{at}.{name}");
        if of == *filter_type && !present {
            report.say(MISSING_FIELD, &field, format!("type {of} needs `{name}`"));
        } else if of != *filter_type && present {
            let message = format!("`{name}` stands in a filter of type {filter_type}");
            report.say(CONTRADICTION, &field, message);
        }
    }
    for (name, changes) in [
        ("requestHeaderModifier", request_header_modifier),
        ("responseHeaderModifier", response_header_modifier),
    ] {
        if let Some(changes) = changes {
            check_headers(report, &format!("{at}.{name}"), changes);
        }
    }
    if let Some(redirect) = request_redirect {
        check_redirect(report, &format!("{at}.requestRedirect"), redirect, matches);
    }
    if let Some(UrlRewrite { hostname, path }) = url_rewrite {
        let at = format!("{at}.urlRewrite");
        check_host(report, &format!("{at}.hostname"), hostname.as_deref());
        check_modifier(report, &format!("{at}.path"), path.as_ref(), matches);
    }
}

fn check_headers(report: &mut Report<'_>, at: &str, changes: &HeaderModifier) {
    let HeaderModifier { set, add, remove } = changes;
    let mut seen = BTreeSet::new();
    let named = |list: &'static str, names: Vec<String>| (list, names);
    let names = |list: &Option<Vec<tacit_api::http_route::Header>>| {
        list.iter()
            .flatten()
            .map(|header| header.name.clone())
            .collect()
    };
    for (list, names) in [
        named("set", names(set)),
        named("add", names(add)),
        named("remove", remove.iter().flatten().cloned().collect()),
    ] {
        for (index, name) in names.iter().enumerate() {
            let field = format!("{at}.{list}[{index}]");
            let lower = name.to_ascii_lowercase();
            if !values::is_token(name) {
                report.say(BAD_TEXT, &field, format!("{name:?} is no name of a header"));
            } else if NOT_CHANGED.contains(&lower.as_str()) || lower.starts_with("x-tacit-") {
                let message = format!("a rule may not change the header {name}");
                report.say(BAD_TEXT, &field, message);
            } else if !seen.insert(lower) {
                let message = format!("the header {name} stands twice");
                report.say(CONTRADICTION, &field, message);
            }
        }
    }
    for (list, headers) in [("set", set), ("add", add)] {
        for (index, header) in headers.iter().flatten().enumerate() {
            if header.value.chars().any(char::is_control) {
                let field = format!("{at}.{list}[{index}].value");
                report.say(BAD_TEXT, &field, "a header cannot carry control characters");
            }
        }
    }
}

fn check_redirect(report: &mut Report<'_>, at: &str, redirect: &Redirect, matches: &[RouteMatch]) {
    let Redirect {
        scheme,
        hostname,
        path,
        port: _,
        status_code,
    } = redirect;
    if let Some(scheme) = scheme
        .as_deref()
        .filter(|scheme| !["http", "https"].contains(scheme))
    {
        let message = format!("{scheme:?} is neither http nor https");
        report.say(BAD_TEXT, &format!("{at}.scheme"), message);
    }
    if let Some(code) = status_code.filter(|code| ![301, 302, 303, 307, 308].contains(code)) {
        let message = format!("{code} is none of 301, 302, 303, 307 and 308");
        report.say(OUT_OF_RANGE, &format!("{at}.statusCode"), message);
    }
    check_host(report, &format!("{at}.hostname"), hostname.as_deref());
    check_modifier(report, &format!("{at}.path"), path.as_ref(), matches);
}

fn check_host(report: &mut Report<'_>, field: &str, host: Option<&str>) {
    if let Some(host) = host.filter(|host| !is_host(host) || host.contains('*')) {
        let message = format!("{host:?} is no host name");
        report.say(BAD_TEXT, field, message);
    }
}

fn check_modifier(
    report: &mut Report<'_>,
    at: &str,
    change: Option<&PathModifier>,
    matches: &[RouteMatch],
) {
    let Some(PathModifier {
        modifier_type,
        replace_full_path,
        replace_prefix_match,
    }) = change
    else {
        return;
    };
    let (name, value, other) = match modifier_type {
        PathModifierType::ReplaceFullPath => (
            "replaceFullPath",
            replace_full_path,
            replace_prefix_match.is_some(),
        ),
        PathModifierType::ReplacePrefixMatch => (
            "replacePrefixMatch",
            replace_prefix_match,
            replace_full_path.is_some(),
        ),
    };
    match value {
        None => {
            let message = format!("type {modifier_type} needs `{name}`");
            report.say(MISSING_FIELD, &format!("{at}.{name}"), message);
        }
        Some(path) if path.is_empty() => {}
        Some(path) => check_path(report, &format!("{at}.{name}"), path),
    }
    if other {
        report.say(
            CONTRADICTION,
            at,
            "both ways to change the path are written",
        );
    }
    let is_prefix = |found: &RouteMatch| {
        let path = found.path.as_ref().and_then(|path| path.match_type);
        matches!(path, None | Some(PathMatchType::PathPrefix))
    };
    if *modifier_type == PathModifierType::ReplacePrefixMatch && !matches.iter().all(is_prefix) {
        let message = "there is no prefix to replace: a match of the rule is not a PathPrefix";
        report.say(CONTRADICTION, &format!("{at}.type"), message);
    }
}

fn check_backend(report: &mut Report<'_>, at: &str, backend: &BackendRef) {
    if backend.port.is_none() {
        let message = "a Service as backend needs `port`";
        report.say(MISSING_FIELD, &format!("{at}.port"), message);
    }
    let field = format!("{at}.weight");
    values::number(report, &field, backend.weight, 0..=LARGEST_WEIGHT);
}

fn check_timeouts(report: &mut Report<'_>, at: &str, timeouts: &Timeouts) {
    let Timeouts {
        request,
        backend_request,
    } = timeouts;
    for (name, value) in [("request", request), ("backendRequest", backend_request)] {
        let range = Duration::ZERO..=values::LONGEST;
        values::time(report, &format!("{at}.{name}"), value.as_ref(), range);
    }
    if let (Some(whole), Some(part)) = (request, backend_request)
        && !whole.duration().is_zero()
        && part.duration() > whole.duration()
    {
        let message = "backendRequest is longer than request, so it could never run out";
        report.say(CONTRADICTION, &format!("{at}.backendRequest"), message);
    }
}

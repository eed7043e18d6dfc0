//! HTTPRoutes, GRPCRoutes and TCPRoutes with a Service as parent, as the Gateway API has them.

use std::cmp::{Ordering, Reverse};

use crate::access::declares_http;
use crate::answer::{Request, Routed, Way};
use crate::mesh::{Object, Reference};
use crate::mutation::Mutation;
use crate::node::Node;

/// One match of one rule.
#[derive(Clone, Copy)]
struct Match<'r, 'w> {
    route: &'r Object<'w>,
    /// Absent where the route has no rules: then one matches everything.
    rule: Option<usize>,
    index: usize,
    conditions: Node<'w>,
}

impl<'w> Reference<'w> {
    /// Where routes lead a request.
    pub(crate) fn route(&self, request: &Request) -> Routed {
        let Some(parent) = self.service(&request.service) else {
            return Routed::Direct;
        };
        let port = i64::from(request.port);
        let ports = parent.spec.at("ports");
        let mut called = ports
            .items()
            .filter(|one| one.at("port").number() == Some(port));
        let is_http = called.any(declares_http);
        let has_routes = self.routes_for(is_http).any(|route| {
            let mut known = ports.items().filter_map(|one| one.at("port").number());
            known.any(|port| is_attached(route, parent, port))
        });
        if !has_routes || (!is_http && self.is_wrong(Mutation::ConnectionsUnrouted)) {
            return Routed::Direct;
        }
        let path = match (is_http, &request.canonical) {
            (true, None) => return Routed::BadPath,
            (true, Some(path)) => path,
            // Bytes are as they were sent.
            (false, _) => &request.path,
        };
        let routes = self.applicable((parent, port, is_http), &request.caller.namespace);
        if routes.is_empty() {
            return Routed::Direct;
        }
        let mut matches: Vec<Match<'_, 'w>> = routes
            .iter()
            .flat_map(|route| matches_of(route))
            .filter(|one| match one.route.kind {
                "GRPCRoute" => self.matches_grpc(one.conditions, path, request),
                "TCPRoute" => true,
                _ => self.matches(one.conditions, path, request),
            })
            .collect();
        matches.sort_by(|a, b| match is_grpc(a.route) {
            true => self.closer_in_grpc(a, b),
            false => self.closer(a, b),
        });
        match matches.first() {
            Some(first) => self.follow(first, request, path),
            None if self.is_wrong(Mutation::UnmatchedIsDirect) => Routed::Direct,
            None if routes.iter().any(|route| is_grpc(route)) && is_call(request) => {
                self.unimplemented()
            }
            None => Routed::NotFound,
        }
    }

    /// What a call of gRPC gets that goes nowhere, where GRPCRoutes apply.
    fn unimplemented(&self) -> Routed {
        match self.is_wrong(Mutation::GrpcRefusedInHttp) {
            true => Routed::NotFound,
            false => Routed::Unimplemented,
        }
    }

    /// What a route answers for a backend that does not resolve.
    fn unusable(&self, route: &Object<'_>) -> Way {
        match is_grpc(route) && !self.is_wrong(Mutation::GrpcRefusedInHttp) {
            true => Way::Unavailable,
            false => Way::Broken,
        }
    }

    /// Of all kinds.
    pub(crate) fn routes(&self) -> impl Iterator<Item = &Object<'w>> {
        let of_requests = self.of_kind("GRPCRoute").chain(self.of_kind("HTTPRoute"));
        of_requests.chain(self.of_kind("TCPRoute"))
    }

    /// Those that are for ports of HTTP, or for others.
    fn routes_for(&self, is_http: bool) -> impl Iterator<Item = &Object<'w>> {
        let everywhere = self.is_wrong(Mutation::TcpRouteAtHttp);
        self.routes()
            .filter(move |route| is_tcp(route) != is_http || (is_tcp(route) && everywhere))
    }

    /// The routes that count for a caller, of one kind: a GRPCRoute leaves no other.
    fn applicable(
        &self,
        (parent, port, is_http): (&Object<'_>, i64, bool),
        caller: &str,
    ) -> Vec<&Object<'w>> {
        let mut all = self.of_namespace((parent, port, is_http), caller);
        let has_grpc = all.iter().any(|route| is_grpc(route));
        if has_grpc && !self.is_wrong(Mutation::HttpBesideGrpc) {
            all.retain(|route| is_grpc(route));
        }
        all
    }

    /// The routes that count for a caller: those of its own namespace (a consumer's), else those
    /// of the namespace of the Service.
    fn of_namespace(
        &self,
        (parent, port, is_http): (&Object<'_>, i64, bool),
        caller: &str,
    ) -> Vec<&Object<'w>> {
        let attached = || {
            let all = self.routes_for(is_http);
            all.filter(|route| is_attached(route, parent, port))
        };
        if self.is_wrong(Mutation::ConsumerForEverybody) {
            return attached().collect();
        }
        let of = |namespace: &str| -> Vec<&Object<'w>> {
            attached()
                .filter(|route| route.namespace == namespace)
                .collect()
        };
        let (mut first, mut second) = (of(caller), of(parent.namespace));
        if self.is_wrong(Mutation::ProducerFirst) {
            std::mem::swap(&mut first, &mut second);
        }
        if first.is_empty() { second } else { first }
    }

    fn matches(&self, conditions: Node<'_>, path: &str, request: &Request) -> bool {
        let header = |(name, value): &(String, &str)| {
            request
                .headers
                .get(name)
                .is_some_and(|found| found == value)
        };
        let parameter = |(name, value): &(String, &str)| {
            let mut pairs = request
                .query
                .split('&')
                .filter_map(|pair| pair.split_once('='));
            pairs
                .find(|(key, _)| key == name)
                .is_some_and(|(_, found)| found == *value)
        };
        let method = conditions.at("method");
        (!method.is_there() || method.is(&request.method))
            && self.path_matches(conditions.at("path"), path)
            && headers_of(conditions).iter().all(header)
            && parameters_of(conditions).iter().all(parameter)
    }

    fn matches_grpc(&self, conditions: Node<'_>, path: &str, request: &Request) -> bool {
        let method = conditions.at("method");
        let (service, name) = (method.at("service").text(), method.at("method").text());
        let mut parts = path.trim_start_matches('/').splitn(2, '/');
        let called = (parts.next(), parts.next());
        let headers = headers_of(conditions);
        let mut headers = headers.iter();
        (is_call(request) || self.is_wrong(Mutation::PlainFollowsGrpc))
            && service.is_none_or(|service| called.0 == Some(service))
            && name.is_none_or(|name| called.1 == Some(name))
            && headers.all(|(name, value)| request.headers.get(name).is_some_and(|v| v == value))
    }

    /// Which of two matches of GRPCRoutes comes first.
    fn closer_in_grpc(&self, a: &Match<'_, '_>, b: &Match<'_, '_>) -> Ordering {
        let of = |one: &Match<'_, '_>| {
            let method = one.conditions.at("method");
            let length = |name: &str| method.at(name).text().map_or(0, str::len);
            let in_method = match self.is_wrong(Mutation::GrpcMethodNotCloser) {
                true => 0,
                false => length("method"),
            };
            let headers = headers_of(one.conditions).len();
            (
                Reverse((length("service"), in_method, headers)),
                (one.route.namespace.to_owned(), one.route.name.to_owned()),
                (one.rule, one.index),
            )
        };
        of(a).cmp(&of(b))
    }

    fn path_matches(&self, wanted: Node<'_>, path: &str) -> bool {
        let value = path_of(wanted);
        if wanted.at("type").is("Exact") {
            return path == value;
        }
        match path.strip_prefix(value) {
            Some(rest) => {
                rest.is_empty() || rest.starts_with('/') || self.is_wrong(Mutation::PrefixOfText)
            }
            None => false,
        }
    }

    /// Which of two matches comes first.
    fn closer(&self, a: &Match<'_, '_>, b: &Match<'_, '_>) -> Ordering {
        let by = |wrong: Mutation, order: Ordering, instead: Ordering| {
            if self.is_wrong(wrong) { instead } else { order }
        };
        let exact = |one: &Match<'_, '_>| one.conditions.at("path").at("type").is("Exact");
        let length = |one: &Match<'_, '_>| path_of(one.conditions.at("path")).len();
        let method = |one: &Match<'_, '_>| one.conditions.at("method").is_there();
        let headers = |one: &Match<'_, '_>| headers_of(one.conditions).len();
        let parameters = |one: &Match<'_, '_>| parameters_of(one.conditions).len();
        let more = |a: usize, b: usize| Reverse(a).cmp(&Reverse(b));
        let is_exact = Reverse(exact(a)).cmp(&Reverse(exact(b)));
        let longer = more(length(a), length(b));
        let with_method = Reverse(method(a)).cmp(&Reverse(method(b)));
        let name = (a.route.namespace, a.route.name).cmp(&(b.route.namespace, b.route.name));
        let rule = (a.rule, a.index).cmp(&(b.rule, b.index));
        by(Mutation::ExactLast, is_exact, is_exact.reverse())
            .then(by(Mutation::ShortPrefixFirst, longer, longer.reverse()))
            .then(by(Mutation::MethodNotCloser, with_method, Ordering::Equal))
            .then(by(
                Mutation::HeadersNotCloser,
                more(headers(a), headers(b)),
                Ordering::Equal,
            ))
            .then(by(
                Mutation::QueryNotCloser,
                more(parameters(a), parameters(b)),
                Ordering::Equal,
            ))
            .then(by(Mutation::LaterRouteFirst, name, name.reverse()))
            .then(by(Mutation::LaterRuleFirst, rule, rule.reverse()))
    }

    fn follow(&self, by: &Match<'_, 'w>, request: &Request, path: &str) -> Routed {
        let nowhere = || match is_grpc(by.route) {
            true => self.unimplemented(),
            false => Routed::NotFound,
        };
        let Some(index) = by.rule else {
            return nowhere();
        };
        let Some(rule) = by.route.spec.at("rules").items().nth(index) else {
            return nowhere();
        };
        let name = format!("{} spec.rules[{index}]", by.route.shown());
        let filter = |kind: &str| {
            let mut all = rule.at("filters").items();
            all.find(|filter| filter.at("type").is(kind))
                .unwrap_or(Node(None))
        };
        let redirect = filter("RequestRedirect").at("requestRedirect");
        if redirect.is_there() {
            let status = redirect.at("statusCode").number().unwrap_or(302);
            return Routed::Redirect {
                rule: name,
                status: u16::try_from(status).unwrap_or_default(),
                location: location(by.conditions, redirect, request, path),
            };
        }
        let backends = rule.at("backendRefs");
        if backends.items().next().is_none() {
            return nowhere();
        }
        let rewrite = filter("URLRewrite").at("urlRewrite");
        let host = rewrite.at("hostname").text().unwrap_or(&request.host);
        let path = changed(by.conditions, rewrite.at("path"), path);
        let mut ways: Vec<Way> = backends
            .items()
            .filter_map(|backend| self.way(by.route, backend, (&path, host)))
            .collect();
        if ways.is_empty() {
            ways.push(self.unusable(by.route));
        }
        let forwards = ways.iter().any(|way| matches!(way, Way::To { .. }));
        let modifiers = [
            filter("RequestHeaderModifier").at("requestHeaderModifier"),
            filter("ResponseHeaderModifier").at("responseHeaderModifier"),
        ];
        Routed::Forward {
            rule: name,
            ways,
            headers: if forwards {
                modifiers.map(changes).join("; ")
            } else {
                String::new()
            },
        }
    }

    /// A backend with a share.
    fn way(
        &self,
        route: &Object<'_>,
        backend: Node<'_>,
        (path, host): (&str, &str),
    ) -> Option<Way> {
        let weight = match backend.at("weight").number().unwrap_or(1) {
            0 if self.is_wrong(Mutation::ZeroWeightServes) => 1,
            0 => return None,
            weight => u64::try_from(weight).unwrap_or_default(),
        };
        let namespace = backend.at("namespace").text().unwrap_or(route.namespace);
        let key = format!("{namespace}/{}", backend.at("name").text()?);
        let port = backend.at("port").number();
        let resolves = self.service(&key).is_some_and(|service| {
            let mut ports = service.spec.at("ports").items();
            ports.any(|one| one.at("port").number() == port && declares_http(one) != is_tcp(route))
        });
        if !resolves {
            return (!self.is_wrong(Mutation::BrokenLeftOut)).then_some(self.unusable(route));
        }
        Some(Way::To {
            service: format!("{key}:{}", port?),
            weight,
            path: path.to_owned(),
            host: host.to_owned(),
        })
    }
}

fn is_grpc(route: &Object<'_>) -> bool {
    route.kind == "GRPCRoute"
}

fn is_tcp(route: &Object<'_>) -> bool {
    route.kind == "TCPRoute"
}

/// True for a call of gRPC.
fn is_call(request: &Request) -> bool {
    let media = request.headers.get("content-type");
    request.method == "POST"
        && media.is_some_and(|media| {
            media == "application/grpc" || media.starts_with("application/grpc+")
        })
}

/// True if a route has a port of a Service as parent.
fn is_attached(route: &Object<'_>, parent: &Object<'_>, port: i64) -> bool {
    route.spec.at("parentRefs").items().any(|found| {
        let namespace = found.at("namespace").text().unwrap_or(route.namespace);
        let only = found.at("port").number();
        namespace == parent.namespace
            && found.at("name").is(parent.name)
            && only.is_none_or(|only| only == port)
    })
}

fn matches_of<'r, 'w>(route: &'r Object<'w>) -> Vec<Match<'r, 'w>> {
    let rules = route.spec.at("rules");
    let everything = |rule| Match {
        route,
        rule,
        index: 0,
        conditions: Node(None),
    };
    if !rules.is_there() {
        return vec![everything(None)];
    }
    let mut found = Vec::new();
    for (rule, written) in rules.items().enumerate() {
        if !written.at("matches").is_there() {
            found.push(everything(Some(rule)));
        }
        for (index, conditions) in written.at("matches").items().enumerate() {
            found.push(Match {
                index,
                conditions,
                ..everything(Some(rule))
            });
        }
    }
    found
}

/// The path of a match. A slash at the end of a prefix means nothing.
fn path_of(wanted: Node<'_>) -> &str {
    let value = wanted.at("value").text().unwrap_or("/");
    if wanted.at("type").is("Exact") {
        value
    } else {
        value.strip_suffix('/').unwrap_or(value)
    }
}

/// Of several entries with an equivalent name the first one counts.
fn headers_of(conditions: Node<'_>) -> Vec<(String, &str)> {
    named(conditions.at("headers"), str::to_ascii_lowercase)
}

fn parameters_of(conditions: Node<'_>) -> Vec<(String, &str)> {
    named(conditions.at("queryParams"), str::to_owned)
}

fn named<'v>(list: Node<'v>, form: impl Fn(&str) -> String) -> Vec<(String, &'v str)> {
    let mut found: Vec<(String, &str)> = Vec::new();
    for one in list.items() {
        let name = form(one.at("name").text().unwrap_or_default());
        if found.iter().all(|(known, _)| *known != name) {
            found.push((name, one.at("value").text().unwrap_or_default()));
        }
    }
    found
}

/// The path that a rule makes of one that it matched.
fn changed(conditions: Node<'_>, change: Node<'_>, path: &str) -> String {
    let new = match change.at("type").text() {
        Some("ReplaceFullPath") => change
            .at("replaceFullPath")
            .text()
            .unwrap_or_default()
            .into(),
        Some(_) => {
            let prefix = path_of(conditions.at("path"));
            let rest = path.strip_prefix(prefix).unwrap_or(path);
            let with = change.at("replacePrefixMatch").text().unwrap_or_default();
            format!("{}{rest}", with.strip_suffix('/').unwrap_or(with))
        }
        None => path.to_owned(),
    };
    if new.is_empty() { "/".to_owned() } else { new }
}

fn location(conditions: Node<'_>, redirect: Node<'_>, request: &Request, path: &str) -> String {
    let path = changed(conditions, redirect.at("path"), path);
    let query = match request.query.as_str() {
        "" => String::new(),
        query => format!("?{query}"),
    };
    let own = request.host.split(':').next().unwrap_or_default();
    let host = redirect.at("hostname").text().unwrap_or(own);
    if host.is_empty() {
        return format!("{path}{query}");
    }
    let written = redirect.at("scheme").text();
    let scheme = written.unwrap_or("http");
    let usual = if scheme == "https" { 443 } else { 80 };
    // A written scheme means its own port, else the port that was called stays.
    let of_scheme = written.map_or_else(|| i64::from(request.port), |_| usual);
    match redirect.at("port").number().unwrap_or(of_scheme) {
        port if port == usual => format!("{scheme}://{host}{path}{query}"),
        port => format!("{scheme}://{host}:{port}{path}{query}"),
    }
}

/// A change of headers as text.
fn changes(modifier: Node<'_>) -> String {
    let pairs = |list: &str| {
        let pair = |one: Node<'_>| {
            let text = |name| one.at(name).text().unwrap_or_default();
            format!("{}={}", text("name").to_ascii_lowercase(), text("value"))
        };
        modifier
            .at(list)
            .items()
            .map(pair)
            .collect::<Vec<_>>()
            .join(" ")
    };
    let removed: Vec<String> = modifier
        .at("remove")
        .texts()
        .map(str::to_ascii_lowercase)
        .collect();
    format!(
        "set {} add {} remove {}",
        pairs("set"),
        pairs("add"),
        removed.join(" ")
    )
}

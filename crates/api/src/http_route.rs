//! HTTPRoute of the Gateway API: which requests to a Service go where, and how they are changed.

use crate::decode::{fields, words};
use crate::object::object;
use crate::values::DurationText;

object! {
    /// Which requests go where.
    HTTPRoute { HTTPRouteSpec }
}

fields! {
    /// What an HTTPRoute says.
    #[derive(Default)]
    pub struct HTTPRouteSpec {
        /// What it is attached to: Services, in the mesh.
        parent_refs: Option<Vec<ParentRef>> = "parentRefs",
        /// Host names; they mean nothing where the parent is a Service.
        hostnames: Option<Vec<String>> = "hostnames",
        /// Rules; absent: one that matches every request.
        rules: Option<Vec<RouteRule>> = "rules",
    }
}

fields! {
    /// What a route is attached to.
    #[derive(Default)]
    pub struct ParentRef {
        /// The API group; absent: `gateway.networking.k8s.io`.
        group: Option<String> = "group",
        /// The kind; absent: `Gateway`.
        kind: Option<String> = "kind",
        /// Absent: the route's own namespace.
        namespace: Option<String> = "namespace",
        /// The name.
        name: String = "name",
        /// A part of it, for example a listener.
        section_name: Option<String> = "sectionName",
        /// Only this port; absent: every port.
        port: Option<u16> = "port",
    }
}

fields! {
    /// One rule.
    #[derive(Default)]
    pub struct RouteRule {
        /// Its name, by which a policy can target it.
        name: Option<String> = "name",
        /// Any of these; absent: every request.
        matches: Option<Vec<RouteMatch>> = "matches",
        /// What is changed, or answered.
        filters: Option<Vec<Filter>> = "filters",
        /// Where matching requests go, by weight; absent: 404.
        backend_refs: Option<Vec<BackendRef>> = "backendRefs",
        /// How long matching requests may take.
        timeouts: Option<Timeouts> = "timeouts",
        /// Further tries.
        retry: Option<RouteRetry> = "retry",
        /// Not supported.
        session_persistence: Option<SessionPersistence> = "sessionPersistence",
    }
}

fields! {
    /// A request: the given fields all apply.
    #[derive(Default)]
    pub struct RouteMatch {
        /// Absent: every path.
        path: Option<PathMatch> = "path",
        /// Headers, all of them.
        headers: Option<Vec<NamedMatch>> = "headers",
        /// Query parameters, all of them.
        query_params: Option<Vec<NamedMatch>> = "queryParams",
        /// Absent: every method.
        method: Option<Method> = "method",
    }
}

words! {
    /// Methods that a rule can name.
    pub enum Method { GET, HEAD, POST, PUT, DELETE, CONNECT, OPTIONS, TRACE, PATCH }
}

words! {
    /// How a path is compared.
    pub enum PathMatchType { Exact, PathPrefix, RegularExpression }
}

words! {
    /// How a value is compared.
    pub enum MatchType { Exact, RegularExpression }
}

fields! {
    /// A path.
    #[derive(Default)]
    pub struct PathMatch {
        /// Absent: `PathPrefix`.
        match_type: Option<PathMatchType> = "type",
        /// Absent: `/`.
        value: Option<String> = "value",
    }
}

fields! {
    /// A header or query parameter.
    #[derive(Default)]
    pub struct NamedMatch {
        /// Absent: `Exact`.
        match_type: Option<MatchType> = "type",
        /// The name; of a header in any case.
        name: String = "name",
        /// The value.
        value: String = "value",
    }
}

words! {
    /// What a filter does.
    pub enum FilterType {
        CORS, ExtensionRef, ExternalAuth, RequestHeaderModifier, RequestMirror, RequestRedirect,
        ResponseHeaderModifier, URLRewrite,
    }
}

fields! {
    /// One change of requests or responses. The field that `type` names must be there.
    pub struct Filter {
        /// What it does.
        filter_type: FilterType = "type",
        /// Changes headers of the request.
        request_header_modifier: Option<HeaderModifier> = "requestHeaderModifier",
        /// Changes headers of the response.
        response_header_modifier: Option<HeaderModifier> = "responseHeaderModifier",
        /// Answers with a redirect.
        request_redirect: Option<Redirect> = "requestRedirect",
        /// Changes host and path.
        url_rewrite: Option<UrlRewrite> = "urlRewrite",
    }
}

fields! {
    /// Changes of headers. A name may stand in one of them only.
    #[derive(Default)]
    pub struct HeaderModifier {
        /// Replaces, or adds what is not there.
        set: Option<Vec<Header>> = "set",
        /// Adds beside what is there.
        add: Option<Vec<Header>> = "add",
        /// Removes.
        remove: Option<Vec<String>> = "remove",
    }
}

fields! {
    /// A header.
    #[derive(Default)]
    pub struct Header {
        /// The name, in any case.
        name: String = "name",
        /// The value.
        value: String = "value",
    }
}

words! {
    /// How a path is changed.
    pub enum PathModifierType { ReplaceFullPath, ReplacePrefixMatch }
}

fields! {
    /// A change of the path. The field that `type` names must be there.
    pub struct PathModifier {
        /// Which.
        modifier_type: PathModifierType = "type",
        /// Instead of all of the path.
        replace_full_path: Option<String> = "replaceFullPath",
        /// Instead of the prefix that matched.
        replace_prefix_match: Option<String> = "replacePrefixMatch",
    }
}

fields! {
    /// A change of host and path.
    #[derive(Default)]
    pub struct UrlRewrite {
        /// The host that the backend sees; absent: as it came.
        hostname: Option<String> = "hostname",
        /// The path that the backend sees; absent: as it came.
        path: Option<PathModifier> = "path",
    }
}

fields! {
    /// An answer that sends the caller elsewhere.
    #[derive(Default)]
    pub struct Redirect {
        /// `http` or `https`; absent: as it came.
        scheme: Option<String> = "scheme",
        /// Absent: as it came.
        hostname: Option<String> = "hostname",
        /// Absent: as it came.
        path: Option<PathModifier> = "path",
        /// Absent: that of a written scheme, else as it came.
        port: Option<u16> = "port",
        /// 301, 302, 303, 307 or 308; absent: 302.
        status_code: Option<u16> = "statusCode",
    }
}

fields! {
    /// Where requests go.
    pub struct BackendRef {
        /// The API group; absent: `""`.
        group: Option<String> = "group",
        /// The kind; absent: `Service`.
        kind: Option<String> = "kind",
        /// The name.
        name: String = "name",
        /// Absent: the route's own namespace.
        namespace: Option<String> = "namespace",
        /// The port of the Service.
        port: Option<u16> = "port",
        /// Its share among the backends of the rule; absent: 1.
        weight: Option<u32> = "weight",
        /// Changes for this backend only. Not supported.
        filters: Option<Vec<Filter>> = "filters",
    }
}

fields! {
    /// How long requests may take. Zero means no limit.
    #[derive(Default)]
    pub struct Timeouts {
        /// All tries together.
        request: Option<DurationText> = "request",
        /// One try.
        backend_request: Option<DurationText> = "backendRequest",
    }
}

fields! {
    /// Further tries.
    #[derive(Default)]
    pub struct RouteRetry {
        /// HTTP status codes, 400-599.
        codes: Option<Vec<u16>> = "codes",
        /// How many after the first.
        attempts: Option<u32> = "attempts",
        /// Least pause before a further try.
        backoff: Option<DurationText> = "backoff",
    }
}

fields! {
    /// Requests of one session to one endpoint. Not supported.
    #[derive(Default)]
    pub struct SessionPersistence {
        /// The name of the session.
        session_name: Option<String> = "sessionName",
        /// `Cookie` or `Header`.
        session_type: Option<String> = "type",
    }
}

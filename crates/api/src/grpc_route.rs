//! GRPCRoute of the Gateway API: which gRPC requests to a Service go where.

use crate::decode::{fields, words};
use crate::http_route::{BackendRef, HeaderModifier, NamedMatch, ParentRef, SessionPersistence};
use crate::object::object;

object! {
    /// Which gRPC requests go where.
    GRPCRoute { GRPCRouteSpec }
}

fields! {
    /// What a GRPCRoute says.
    #[derive(Default)]
    pub struct GRPCRouteSpec {
        /// What it is attached to: Services, in the mesh.
        parent_refs: Option<Vec<ParentRef>> = "parentRefs",
        /// Host names; they mean nothing where the parent is a Service.
        hostnames: Option<Vec<String>> = "hostnames",
        /// Rules; absent: one that matches every gRPC request.
        rules: Option<Vec<GrpcRule>> = "rules",
    }
}

fields! {
    /// One rule.
    #[derive(Default)]
    pub struct GrpcRule {
        /// Its name, by which a policy can target it.
        name: Option<String> = "name",
        /// Any of these; absent: every gRPC request.
        matches: Option<Vec<GrpcMatch>> = "matches",
        /// What is changed.
        filters: Option<Vec<GrpcFilter>> = "filters",
        /// Where matching requests go, by weight; absent: the status `UNIMPLEMENTED`.
        backend_refs: Option<Vec<BackendRef>> = "backendRefs",
        /// Not supported.
        session_persistence: Option<SessionPersistence> = "sessionPersistence",
    }
}

fields! {
    /// A gRPC request: the given fields all apply.
    #[derive(Default)]
    pub struct GrpcMatch {
        /// Absent: every method of every service.
        method: Option<GrpcMethod> = "method",
        /// Headers, all of them.
        headers: Option<Vec<NamedMatch>> = "headers",
    }
}

words! {
    /// How service and method are compared.
    pub enum GrpcMethodType { Exact, RegularExpression }
}

fields! {
    /// A method, or all of a service. One of the two names must be there.
    #[derive(Default)]
    pub struct GrpcMethod {
        /// Absent: `Exact`.
        match_type: Option<GrpcMethodType> = "type",
        /// The service with its package, for example `shop.Payments`.
        service: Option<String> = "service",
        /// The method, for example `Charge`; absent: every method of the service.
        method: Option<String> = "method",
    }
}

words! {
    /// What a filter does.
    pub enum GrpcFilterType {
        ExtensionRef, RequestHeaderModifier, RequestMirror, ResponseHeaderModifier,
    }
}

fields! {
    /// One change of requests or responses. The field that `type` names must be there.
    pub struct GrpcFilter {
        /// What it does.
        filter_type: GrpcFilterType = "type",
        /// Changes headers of the request.
        request_header_modifier: Option<HeaderModifier> = "requestHeaderModifier",
        /// Changes headers of the response.
        response_header_modifier: Option<HeaderModifier> = "responseHeaderModifier",
    }
}

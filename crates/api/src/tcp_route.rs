//! TCPRoute of the Gateway API: which connections to a Service go where.

use crate::decode::fields;
use crate::http_route::{BackendRef, ParentRef};
use crate::object::object;

object! {
    /// Which connections go where.
    TCPRoute { TCPRouteSpec }
}

fields! {
    /// What a TCPRoute says.
    #[derive(Default)]
    pub struct TCPRouteSpec {
        /// What it is attached to: Services, in the mesh.
        parent_refs: Option<Vec<ParentRef>> = "parentRefs",
        /// Rules. Each is for every connection, so the first one counts.
        rules: Option<Vec<TcpRule>> = "rules",
    }
}

fields! {
    /// One rule.
    #[derive(Default)]
    pub struct TcpRule {
        /// Its name.
        name: Option<String> = "name",
        /// Where connections go, by weight; absent: they are closed.
        backend_refs: Option<Vec<BackendRef>> = "backendRefs",
    }
}

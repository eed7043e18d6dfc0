//! AccessPolicy: who may call what.

use crate::decode::{fields, words};
use crate::object::object;
use crate::policy::{Callers, Enforcement, TargetAll, TargetRef, TargetSelector, policy};

object! {
    /// Who may call what.
    AccessPolicy { AccessPolicySpec }
}

fields! {
    /// What an AccessPolicy says.
    pub struct AccessPolicySpec {
        /// Objects in the own namespace.
        target_refs: Option<Vec<TargetRef>> = "targetRefs",
        /// Objects by label.
        target_selectors: Option<Vec<TargetSelector>> = "targetSelectors",
        /// Everything in scope.
        target_all: Option<TargetAll> = "targetAll",
        /// Not for this kind: access policies combine, they do not override. Refused.
        enforcement: Option<Enforcement> = "enforcement",
        /// Not for this kind. Refused.
        priority: Option<i32> = "priority",
        /// What a matching rule does.
        action: Action = "action",
        /// Whether it blocks; absent: `Enforce`.
        mode: Option<Mode> = "mode",
        /// Any of these; absent: every call.
        rules: Option<Vec<AccessRule>> = "rules",
    }
}
policy!(AccessPolicySpec);

words! {
    /// What a matching rule does.
    pub enum Action { Allow, Deny }
}

words! {
    /// Whether a policy blocks or only says what it would do.
    pub enum Mode { Audit, Enforce }
}

fields! {
    /// One rule: any of `from`, and any of `to`.
    #[derive(Default)]
    pub struct AccessRule {
        /// Callers; absent: any authenticated peer in an Allow, every peer in a Deny.
        from: Option<Vec<Callers>> = "from",
        /// Operations; absent: any.
        to: Option<Vec<Operation>> = "to",
    }
}

fields! {
    /// Operations: the given fields all apply, any value of each.
    #[derive(Default)]
    pub struct Operation {
        /// Ports of the target.
        ports: Option<Vec<u16>> = "ports",
        /// HTTP methods.
        methods: Option<Vec<String>> = "methods",
        /// Canonical paths, or prefixes that end in `*`.
        paths: Option<Vec<String>> = "paths",
        /// Host names.
        hosts: Option<Vec<String>> = "hosts",
        /// Headers, all of which the request must have.
        headers: Option<Vec<HeaderMatch>> = "headers",
        /// gRPC methods: `package.Service/Method`, or `package.Service/*` for all of a service.
        /// Told by the path alone, as gRPC servers do; not together with `paths`.
        grpc: Option<Vec<String>> = "grpc",
    }
}

fields! {
    /// A header of a request.
    pub struct HeaderMatch {
        /// The name, in any case.
        name: String = "name",
        /// Any of these values; absent: any value.
        values: Option<Vec<String>> = "values",
    }
}

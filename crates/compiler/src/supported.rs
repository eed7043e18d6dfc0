//! What can be written but is not enforced by this version: refused, never ignored.

use tacit_api::access::AccessPolicySpec;
use tacit_api::failover::{FailoverPolicySpec, Signal, Step};
use tacit_api::fault::FaultPolicySpec;
use tacit_api::http_route::{FilterType, HTTPRouteSpec, MatchType, PathMatchType, RouteRule};
use tacit_api::mesh::{Defaults, MeshSpec};
use tacit_api::policy::{Callers, Targeting};
use tacit_api::rate_limit::{RateCounter, RateKeyType, RateLimitPolicySpec};
use tacit_api::retry_timeout::{Retry, RetryTimeoutPolicySpec};
use tacit_api::service::ServiceSpec;
use tacit_api::workload::WorkloadSpec;
use tacit_api::workspace::{L7, WorkspaceSpec};
use tacit_api::{Object, Policy};

use crate::routes::{grpc, tcp};
use crate::workspace::DEFAULT_CLUSTER;

/// A field or value that this version does not enforce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unsupported {
    /// Where it is written.
    pub(crate) field: String,
    /// What it is.
    pub(crate) what: String,
}

/// Everything in `object` that this version does not enforce. `cluster` is the name of this
/// cluster: places in others are not supported.
pub(crate) fn unsupported(object: &Object, cluster: &str) -> Vec<Unsupported> {
    let mut found = Found(Vec::new());
    match object {
        Object::AccessPolicy(policy) => found.access(&policy.spec),
        Object::FailoverPolicy(policy) => found.failover(&policy.spec, cluster),
        Object::GRPCRoute(route) => {
            for (field, what) in grpc::unsupported(&route.spec) {
                found.value(&field, what);
            }
            found.http_route(&grpc::as_http(&route.spec));
        }
        Object::HTTPRoute(route) => found.http_route(&route.spec),
        Object::Mesh(mesh) => {
            // Its cluster is the one that it names itself.
            let own = mesh.spec.cluster.as_deref().unwrap_or(DEFAULT_CLUSTER);
            found.mesh(&mesh.spec, own);
        }
        Object::FaultPolicy(policy) => found.fault(&policy.spec),
        Object::RateLimitPolicy(policy) => found.rate_limit(&policy.spec),
        Object::RetryTimeoutPolicy(policy) => found.retry_timeout(&policy.spec),
        Object::Service(service) => found.service(&service.spec),
        Object::TCPRoute(route) => found.http_route(&tcp::as_http(&route.spec)),
        Object::Workload(workload) => found.workload(&workload.spec),
        Object::Workspace(workspace) => found.workspace(&workspace.spec, cluster),
    }
    found.0
}

struct Found(Vec<Unsupported>);

impl Found {
    /// Notes `field` if it is present.
    fn field(&mut self, present: bool, field: &str) {
        if present {
            let name = field.rsplit('.').next().unwrap_or(field);
            self.value(field, format!("`{name}`"));
        }
    }

    fn value(&mut self, field: &str, what: String) {
        self.0.push(Unsupported {
            field: field.to_owned(),
            what,
        });
    }

    /// `routes`: the kind can have routes as targets.
    fn targets(&mut self, targeting: Targeting<'_>, routes: bool) {
        for (index, target) in targeting.refs.unwrap_or_default().iter().enumerate() {
            let at = format!("spec.targetRefs[{index}]");
            let at_rule = routes && matches!(&*target.kind, "GRPCRoute" | "HTTPRoute");
            let section = target.section_name.is_some() && !at_rule;
            self.field(section, &format!("{at}.sectionName"));
            if !at_rule {
                self.kind(&target.kind, &format!("{at}.kind"));
            }
        }
        for (index, target) in targeting.selectors.unwrap_or_default().iter().enumerate() {
            self.kind(&target.kind, &format!("spec.targetSelectors[{index}].kind"));
        }
    }

    fn kind(&mut self, kind: &str, field: &str) {
        if matches!(
            kind,
            "HTTPRoute" | "GRPCRoute" | "TCPRoute" | "TLSRoute" | "Gateway"
        ) {
            self.value(field, format!("a target of kind {kind}"));
        }
    }

    fn callers(&mut self, callers: Option<&[Callers]>, field: &str) {
        for (index, callers) in callers.unwrap_or_default().iter().enumerate() {
            self.field(callers.jwt.is_some(), &format!("{field}[{index}].jwt"));
        }
    }

    fn access(&mut self, spec: &AccessPolicySpec) {
        self.targets(spec.targeting(), false);
        for (index, rule) in spec.rules.iter().flatten().enumerate() {
            let at = format!("spec.rules[{index}]");
            self.callers(rule.from.as_deref(), &format!("{at}.from"));
            for (index, to) in rule.to.iter().flatten().enumerate() {
                self.field(to.headers.is_some(), &format!("{at}.to[{index}].headers"));
            }
        }
    }

    fn fault(&mut self, spec: &FaultPolicySpec) {
        self.targets(spec.targeting(), false);
        self.callers(spec.from.as_deref(), "spec.from");
    }

    fn rate_limit(&mut self, spec: &RateLimitPolicySpec) {
        self.targets(spec.targeting(), false);
        for (index, limit) in spec.limits.iter().enumerate() {
            let at = format!("spec.limits[{index}]");
            if limit.counter == Some(RateCounter::Shared) {
                self.value(&format!("{at}.counter"), "`Shared`".to_owned());
            }
            for (index, part) in limit.key.iter().flatten().enumerate() {
                if part.key_type == RateKeyType::Claim {
                    let field = format!("{at}.key[{index}].type");
                    self.value(&field, "`Claim`".to_owned());
                }
            }
        }
    }

    fn retry_timeout(&mut self, spec: &RetryTimeoutPolicySpec) {
        self.targets(spec.targeting(), true);
        self.callers(spec.from.as_deref(), "spec.from");
        self.retry(spec.retry.as_ref(), "spec.retry");
        self.field(spec.hedge.is_some(), "spec.hedge");
        self.field(spec.circuit_breaker.is_some(), "spec.circuitBreaker");
    }

    fn retry(&mut self, retry: Option<&Retry>, field: &str) {
        let grpc = retry.is_some_and(|retry| retry.grpc_codes.is_some());
        self.field(grpc, &format!("{field}.grpcCodes"));
    }

    fn failover(&mut self, spec: &FailoverPolicySpec, cluster: &str) {
        self.targets(spec.targeting(), false);
        let orders = spec.orders.as_deref();
        self.order(spec.order.as_deref(), "spec.order", cluster);
        for (index, order) in orders.unwrap_or_default().iter().enumerate() {
            let at = format!("spec.orders[{index}]");
            self.cluster(
                order.clients.cluster.as_deref(),
                &format!("{at}.clients"),
                cluster,
            );
            self.order(Some(&order.order), &format!("{at}.order"), cluster);
        }
        let signals = spec
            .health
            .as_ref()
            .and_then(|health| health.signals.as_deref());
        self.signals(signals, "spec.health.signals");
        self.field(spec.limit.is_some(), "spec.limit");
        self.field(spec.when_limited.is_some(), "spec.whenLimited");
    }

    fn order(&mut self, steps: Option<&[Step]>, field: &str, cluster: &str) {
        for (step, found) in steps.unwrap_or_default().iter().enumerate() {
            for (place, found) in found.places.iter().flatten().enumerate() {
                let at = format!("{field}[{step}].places[{place}]");
                self.cluster(found.cluster.as_deref(), &at, cluster);
            }
        }
    }

    fn cluster(&mut self, named: Option<&str>, field: &str, cluster: &str) {
        if let Some(name) = named.filter(|name| *name != "same" && *name != cluster) {
            let what = format!("another cluster than this one ({name:?} is not {cluster:?})");
            self.value(&format!("{field}.cluster"), what);
        }
    }

    fn signals(&mut self, signals: Option<&[Signal]>, field: &str) {
        for (index, signal) in signals.unwrap_or_default().iter().enumerate() {
            if *signal == Signal::Latency {
                self.value(
                    &format!("{field}[{index}]"),
                    "the signal `Latency`".to_owned(),
                );
            }
        }
    }

    fn http_route(&mut self, spec: &HTTPRouteSpec) {
        for (index, parent) in spec.parent_refs.iter().flatten().enumerate() {
            let at = format!("spec.parentRefs[{index}]");
            let (group, kind) = (
                parent
                    .group
                    .as_deref()
                    .unwrap_or("gateway.networking.k8s.io"),
                parent.kind.as_deref().unwrap_or("Gateway"),
            );
            if (group, kind) != ("", "Service") {
                let what = format!("a parent of kind {kind} and group {group:?}");
                self.value(&format!("{at}.kind"), what);
            }
            self.field(parent.section_name.is_some(), &format!("{at}.sectionName"));
        }
        for (index, rule) in spec.rules.iter().flatten().enumerate() {
            self.route_rule(&format!("spec.rules[{index}]"), rule);
        }
    }

    fn route_rule(&mut self, at: &str, rule: &RouteRule) {
        for (index, found) in rule.matches.iter().flatten().enumerate() {
            let at = format!("{at}.matches[{index}]");
            let path = found.path.as_ref().and_then(|path| path.match_type);
            if path == Some(PathMatchType::RegularExpression) {
                self.value(&format!("{at}.path.type"), "`RegularExpression`".to_owned());
            }
            let lists = [
                ("headers", &found.headers),
                ("queryParams", &found.query_params),
            ];
            for (name, list) in lists {
                for (index, found) in list.iter().flatten().enumerate() {
                    if found.match_type == Some(MatchType::RegularExpression) {
                        let field = format!("{at}.{name}[{index}].type");
                        self.value(&field, "`RegularExpression`".to_owned());
                    }
                }
            }
        }
        for (index, filter) in rule.filters.iter().flatten().enumerate() {
            let supported = matches!(
                filter.filter_type,
                FilterType::RequestHeaderModifier
                    | FilterType::RequestRedirect
                    | FilterType::ResponseHeaderModifier
                    | FilterType::URLRewrite
            );
            if !supported {
                let what = format!("the filter `{}`", filter.filter_type);
                self.value(&format!("{at}.filters[{index}].type"), what);
            }
        }
        for (index, backend) in rule.backend_refs.iter().flatten().enumerate() {
            let at = format!("{at}.backendRefs[{index}]");
            let kind = backend.kind.as_deref().unwrap_or("Service");
            if kind != "Service"
                || backend
                    .group
                    .as_deref()
                    .is_some_and(|group| !group.is_empty())
            {
                self.value(&format!("{at}.kind"), format!("a backend of kind {kind}"));
            }
            self.field(backend.filters.is_some(), &format!("{at}.filters"));
        }
        // The Gateway API means the least pause, ours is the most of the first.
        let backoff = rule
            .retry
            .as_ref()
            .is_some_and(|retry| retry.backoff.is_some());
        self.field(backoff, &format!("{at}.retry.backoff"));
        let field = format!("{at}.sessionPersistence");
        self.field(rule.session_persistence.is_some(), &field);
    }

    fn mesh(&mut self, spec: &MeshSpec, cluster: &str) {
        let ipv6 = spec
            .service_addresses
            .as_ref()
            .is_some_and(|ranges| ranges.ipv6.is_some());
        self.field(ipv6, "spec.serviceAddresses.ipv6");
        self.field(spec.jwt_providers.is_some(), "spec.jwtProviders");
        // One network only: every node reaches every other one directly.
        self.field(spec.network.is_some(), "spec.network");
        self.defaults(spec.defaults.as_ref(), cluster);
    }

    fn workspace(&mut self, spec: &WorkspaceSpec, cluster: &str) {
        if spec.l7 == Some(L7::Waypoint) {
            self.value("spec.l7", "`Waypoint`".to_owned());
        }
        // There are no routes yet whose host names could be refused.
        self.field(spec.hostnames.is_some(), "spec.hostnames");
        self.defaults(spec.defaults.as_ref(), cluster);
    }

    fn workload(&mut self, spec: &WorkloadSpec) {
        // Only `FailoverPolicy` `limit` would read it.
        self.field(spec.capacity.is_some(), "spec.capacity");
    }

    fn defaults(&mut self, defaults: Option<&Defaults>, cluster: &str) {
        let Some(defaults) = defaults else {
            return;
        };
        self.retry(defaults.retry.as_ref(), "spec.defaults.retry");
        self.field(defaults.hedge.is_some(), "spec.defaults.hedge");
        self.field(
            defaults.circuit_breaker.is_some(),
            "spec.defaults.circuitBreaker",
        );
        self.order(defaults.order.as_deref(), "spec.defaults.order", cluster);
        for (index, order) in defaults.orders.iter().flatten().enumerate() {
            let at = format!("spec.defaults.orders[{index}]");
            self.cluster(
                order.clients.cluster.as_deref(),
                &format!("{at}.clients"),
                cluster,
            );
            self.order(Some(&order.order), &format!("{at}.order"), cluster);
        }
        let signals = defaults
            .health
            .as_ref()
            .and_then(|health| health.signals.as_deref());
        self.signals(signals, "spec.defaults.health.signals");
        self.field(defaults.limit.is_some(), "spec.defaults.limit");
        self.field(defaults.when_limited.is_some(), "spec.defaults.whenLimited");
    }

    fn service(&mut self, spec: &ServiceSpec) {
        let only = |value: &Option<String>, known: &[&str]| {
            value
                .as_deref()
                .filter(|value| !known.contains(value))
                .map(str::to_owned)
        };
        let values = [
            ("spec.type", only(&spec.service_type, &["ClusterIP"])),
            (
                "spec.clusterIP",
                spec.cluster_ip.clone().filter(|ip| ip == "None"),
            ),
            (
                "spec.externalTrafficPolicy",
                only(&spec.external_traffic_policy, &["Cluster"]),
            ),
            (
                "spec.internalTrafficPolicy",
                only(&spec.internal_traffic_policy, &["Cluster"]),
            ),
            (
                "spec.ipFamilyPolicy",
                only(&spec.ip_family_policy, &["SingleStack", "PreferDualStack"]),
            ),
            (
                "spec.sessionAffinity",
                only(&spec.session_affinity, &["None"]),
            ),
            (
                "spec.trafficDistribution",
                only(
                    &spec.traffic_distribution,
                    &["PreferClose", "PreferSameZone"],
                ),
            ),
        ];
        for (field, value) in values {
            if let Some(value) = value {
                self.value(field, format!("the value {value:?}"));
            }
        }
        if spec.selector.is_none() {
            self.value("spec", "a Service without a selector".to_owned());
        }
        self.field(spec.external_ips.is_some(), "spec.externalIPs");
        self.field(spec.external_name.is_some(), "spec.externalName");
        self.field(
            spec.publish_not_ready_addresses == Some(true),
            "spec.publishNotReadyAddresses",
        );
        for (index, family) in spec.ip_families.iter().flatten().enumerate() {
            if family != "IPv4" {
                self.value(&format!("spec.ipFamilies[{index}]"), format!("{family:?}"));
            }
        }
        for (index, port) in spec.ports.iter().flatten().enumerate() {
            let at = format!("spec.ports[{index}]");
            self.field(port.node_port.is_some(), &format!("{at}.nodePort"));
            if let Some(value) = only(&port.protocol, &["TCP"]) {
                self.value(&format!("{at}.protocol"), format!("the protocol {value:?}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fields of a Mesh called `east` whose defaults name this cluster.
    fn refused(named: &str) -> Vec<String> {
        let text = format!(
            "{{apiVersion: tacit.dev/v1alpha1, kind: Mesh, metadata: {{name: default}}, spec: \
             {{cluster: east, defaults: {{order: [{{places: [{{cluster: {named}}}]}}]}}}}}}"
        );
        let parsed = tacit_api::parse("a.yaml", &text);
        let found = unsupported(&parsed.objects[0].value, DEFAULT_CLUSTER);
        found.into_iter().map(|one| one.field).collect()
    }

    #[test]
    fn a_mesh_may_name_its_own_cluster() {
        assert_eq!(refused("east"), Vec::<String>::new());
        let field = "spec.defaults.order[0].places[0].cluster";
        assert_eq!(refused("local"), [field]);
    }
}

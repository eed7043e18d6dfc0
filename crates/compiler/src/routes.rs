//! Routes: the rows of each at its parents, with resolved backends and sorted resilience.

use std::borrow::Cow;
use std::collections::BTreeMap;

use tacit_api::http_route::{BackendRef, HTTPRouteSpec, ParentRef, RouteRule as WrittenRule};
use tacit_api::{Kind, Located, Object};
use tacit_model::finding::Finding;
use tacit_model::resilience::Layer;
use tacit_model::route::{Action, Backend, BackendTo, RouteKey, RouteKind, RouteRow, RouteRule};
use tacit_model::tables::{Protocol, ServiceRow};
use tacit_model::{Namespace, ObjectRef, ServiceName};

use crate::attach::{Claim, Rank, origin};
use crate::findings::{
    HTTP_UNDER_ROUTE, OPAQUE_ROUTE, ROUTE_BACKEND, ROUTE_PARENT, at, object_ref,
};
use crate::grants::World;
use crate::judge::Judged;
use crate::policies::{Placed, not_granted};
use crate::services::{Ranked, Services, retry_layer};
use crate::targets::{Closeness, Hit, Resolver, scope};

mod conflict;
pub(crate) mod grpc;
mod read;
pub(crate) mod tcp;
mod validate;

pub(crate) use read::matches;
pub(crate) use validate::{validate, validate_grpc, validate_tcp};

/// What a route says, whatever its kind; nothing for other kinds.
pub(crate) fn spec(object: &Object) -> Option<Cow<'_, HTTPRouteSpec>> {
    match object {
        Object::GRPCRoute(route) => Some(Cow::Owned(grpc::as_http(&route.spec))),
        Object::HTTPRoute(route) => Some(Cow::Borrowed(&route.spec)),
        Object::TCPRoute(route) => Some(Cow::Owned(tcp::as_http(&route.spec))),
        Object::AccessPolicy(_)
        | Object::FailoverPolicy(_)
        | Object::FaultPolicy(_)
        | Object::Mesh(_)
        | Object::RateLimitPolicy(_)
        | Object::RetryTimeoutPolicy(_)
        | Object::Service(_)
        | Object::Workload(_)
        | Object::Workspace(_) => None,
    }
}

pub(crate) fn is_route(kind: Kind) -> bool {
    matches!(kind, Kind::GRPCRoute | Kind::HTTPRoute | Kind::TCPRoute)
}

/// The routes that take part, and what is wrong with their references.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    pub(crate) rows: BTreeMap<RouteKey, RouteRow>,
    pub(crate) findings: Vec<Finding>,
}

/// Takes routes out of force whose authors may no longer have them, and then those whose places
/// have routes of another kind.
pub(crate) fn withdraw(judged: &mut [Judged<'_>], world: &World<'_>) {
    for found in judged.iter_mut().filter(|found| is_route(found.key.kind)) {
        if let Some(finding) = not_granted(found, world) {
            found.findings.push(*finding);
            found.in_force = None;
        }
    }
    conflict::give_way(judged);
}

/// Builds the rows of all routes in force.
pub(crate) fn build(
    judged: &[Judged<'_>],
    placed: &[Placed<'_>],
    resolver: &Resolver<'_, '_>,
    services: &Services,
) -> Routes {
    let mut routes = Routes::default();
    for object in judged.iter().filter_map(|found| found.in_force) {
        let Some(spec) = spec(&object.value) else {
            continue;
        };
        let Some(route) = object_ref(&object.value.key()) else {
            continue;
        };
        let Some(namespace) = &route.namespace else {
            continue;
        };
        let mut building = Building {
            route: &route,
            namespace,
            object,
            spec: &spec,
            placed,
            resolver,
            services,
            findings: Vec::new(),
        };
        let rows = building.rows();
        routes.rows.extend(rows);
        routes.findings.extend(building.findings);
    }
    routes
}

struct Building<'b, 'a> {
    route: &'b ObjectRef,
    namespace: &'b Namespace,
    object: &'a Located<Object>,
    spec: &'b HTTPRouteSpec,
    placed: &'b [Placed<'a>],
    resolver: &'b Resolver<'b, 'a>,
    services: &'b Services,
    findings: Vec<Finding>,
}

impl Building<'_, '_> {
    fn rows(&mut self) -> BTreeMap<RouteKey, RouteRow> {
        let rules = self.rules();
        let mut rows = BTreeMap::new();
        for (index, parent) in self.spec.parent_refs.iter().flatten().enumerate() {
            let Some(key) = self.parent(index, parent) else {
                continue;
            };
            let resilience = |(index, rule): (usize, &RouteRule)| RouteRule {
                resilience: self.resilience(&key.parent, index),
                ..rule.clone()
            };
            let row = RouteRow {
                namespace: self.namespace.clone(),
                rules: rules.iter().enumerate().map(resilience).collect(),
                key: key.clone(),
            };
            rows.insert(key, row);
        }
        rows
    }

    /// The Service that a parent reference means, if the route can be attached to it.
    fn parent(&mut self, index: usize, parent: &ParentRef) -> Option<RouteKey> {
        let field = format!("spec.parentRefs[{index}]");
        let namespace = parent
            .namespace
            .as_deref()
            .unwrap_or(self.namespace.as_str());
        let name = ServiceName::parse(namespace, &parent.name).ok();
        let found = name.and_then(|name| self.services.rows.get(&name));
        let Some(service) = found else {
            let message = format!("Service {namespace}/{} does not exist", parent.name);
            self.say(ROUTE_PARENT, &format!("{field}.name"), message);
            return None;
        };
        let ports = service.ports.iter();
        let concerned = ports.filter(|known| parent.port.is_none_or(|port| port == known.port));
        let protocols: Vec<Protocol> = concerned.map(|port| port.protocol).collect();
        if protocols.is_empty() {
            let port = parent.port.unwrap_or_default();
            let message = format!("{} has no port {port}", shown(&service.name));
            self.say(ROUTE_PARENT, &format!("{field}.port"), message);
            return None;
        }
        let key = RouteKey {
            route: self.route.clone(),
            parent: service.name.clone(),
            port: parent.port,
        };
        let shown = shown(&service.name);
        match key.kind().protocol() {
            wanted if protocols.contains(&wanted) => {}
            Protocol::Http => {
                let message = format!("no port of {shown} is declared HTTP");
                self.say(OPAQUE_ROUTE, &field, message);
            }
            Protocol::Tcp => {
                let message = format!("each port of {shown} is declared HTTP");
                self.say(HTTP_UNDER_ROUTE, &field, message);
            }
        }
        Some(key)
    }

    fn rules(&mut self) -> Vec<RouteRule> {
        let spec = self.spec;
        match &spec.rules {
            // As the Gateway API's default says: one rule for every request.
            None => vec![self.rule("spec".to_owned(), &WrittenRule::default())],
            Some(rules) => {
                let each = rules.iter().enumerate();
                each.map(|(index, rule)| self.rule(format!("spec.rules[{index}]"), rule))
                    .collect()
            }
        }
    }

    fn rule(&mut self, field: String, rule: &WrittenRule) -> RouteRule {
        let backends = rule.backend_refs.iter().flatten().enumerate();
        let forward = backends.map(|(index, backend)| {
            let field = format!("{field}.backendRefs[{index}]");
            Backend {
                weight: backend.weight.unwrap_or(1),
                to: self.backend(&field, backend),
            }
        });
        let forward: Vec<Backend> = forward.collect();
        RouteRule {
            matches: matches(rule),
            changes: read::changes(rule),
            action: read::redirect(rule).map_or(Action::Forward(forward), Action::Redirect),
            resilience: None,
            from: origin(self.route, field),
        }
    }

    fn backend(&mut self, field: &str, backend: &BackendRef) -> BackendTo {
        match self.resolve(backend) {
            Ok(to) => to,
            Err((part, message)) => {
                self.say(ROUTE_BACKEND, &format!("{field}.{part}"), message.clone());
                BackendTo::Broken(message.into())
            }
        }
    }

    fn resolve(&self, backend: &BackendRef) -> Result<BackendTo, (&'static str, String)> {
        let namespace = backend
            .namespace
            .as_deref()
            .unwrap_or(self.namespace.as_str());
        let name = ServiceName::parse(namespace, &backend.name).ok();
        let found: Option<&ServiceRow> = name.and_then(|name| self.services.rows.get(&name));
        let missing = || format!("Service {namespace}/{} does not exist", backend.name);
        let service = found.ok_or_else(|| ("name", missing()))?;
        let port = backend.port.unwrap_or_default();
        let known = service.ports.iter().find(|known| known.port == port);
        let name = &service.name;
        let wanted = RouteKind::of(self.route).protocol();
        match (known.map(|port| port.protocol), wanted) {
            (Some(found), wanted) if found == wanted => Ok(BackendTo::Service {
                service: name.clone(),
                port,
            }),
            (Some(_), Protocol::Http) => {
                let message = format!("port {port} of {} is not declared HTTP", shown(name));
                Err(("port", message))
            }
            (Some(_), Protocol::Tcp) => {
                let message = format!("port {port} of {} is declared HTTP", shown(name));
                Err(("port", message))
            }
            (None, _) => Err(("port", format!("{} has no port {port}", shown(name)))),
        }
    }

    /// The layers of a rule at a parent, if some are for this route; else those of the parent hold.
    fn resilience(&self, parent: &ServiceName, index: usize) -> Option<Vec<Layer>> {
        let mut ranked: Vec<Ranked> = self.policies(index).collect();
        ranked.extend(self.own(index));
        if ranked.is_empty() {
            return None;
        }
        let of_parent = self.services.ranked.get(parent);
        ranked.extend(of_parent.into_iter().flatten().cloned());
        ranked.sort_by(|a, b| a.rank.cmp(&b.rank));
        Some(ranked.into_iter().map(|ranked| ranked.layer).collect())
    }

    /// What RetryTimeoutPolicies say of this route or rule.
    fn policies(&self, index: usize) -> impl Iterator<Item = Ranked> {
        let rules = self.spec.rules.as_deref().unwrap_or_default();
        let rule = rules.get(index).and_then(|rule| rule.name.as_deref());
        let closeness = move |hit: &Hit| match hit {
            Hit::Route { route, section } if route == self.route => match section {
                None => Some(Closeness::Route),
                Some(section) => (Some(section.as_str()) == rule).then_some(Closeness::Rule),
            },
            Hit::All { .. } | Hit::Route { .. } | Hit::Service { .. } | Hit::Workloads { .. } => {
                None
            }
        };
        self.placed.iter().filter_map(move |policy| {
            let closest = policy.hits.iter().filter_map(&closeness).min()?;
            retry_layer(policy, self.resolver, closest)
        })
    }

    /// What the rule itself says: it counts as a policy of the route's namespace on that rule.
    fn own(&self, index: usize) -> Option<Ranked> {
        let rule = self.spec.rules.as_ref()?.get(index)?;
        let fields = read::resilience(rule, self.route, index)?;
        let claim = Claim {
            object: self.route.clone(),
            scope: scope(self.resolver.tenants, self.namespace),
            enforcement: None,
            priority: None,
            has_from: false,
        };
        let rank: Rank = claim.rank(Closeness::Rule);
        let layer = Layer {
            callers: None,
            fields,
        };
        Some(Ranked { rank, layer })
    }

    fn say(&mut self, code: crate::findings::Code, field: &str, message: String) {
        self.findings
            .push(at(self.object, code, field, message, None));
    }
}

/// A Service as people write it.
fn shown(name: &ServiceName) -> String {
    format!("Service {}/{}", name.namespace, name.name)
}

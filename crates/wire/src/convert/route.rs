//! Routes as messages.

use std::sync::Arc;

use tacit_model::resilience::Layer;
use tacit_model::route::{
    Action, Backend, BackendTo, Changes, HeaderChanges, PathChange, PathMatch, Redirect, RouteKey,
    RouteMatch, RouteRow, RouteRule,
};

use super::{Invalid, Problem, Wire, list_from, list_to, name, narrow, optional, required};
use crate::proto::mesh as p;

impl Wire for (Arc<str>, Arc<str>) {
    type Proto = p::NameValue;

    fn to_wire(&self) -> p::NameValue {
        let (name, value) = self;
        p::NameValue {
            name: name.to_string(),
            value: value.to_string(),
        }
    }

    fn from_wire(proto: p::NameValue) -> Result<Self, Invalid> {
        let p::NameValue { name, value } = proto;
        Ok((name.into(), value.into()))
    }
}

impl Wire for PathMatch {
    type Proto = p::PathMatch;

    fn to_wire(&self) -> p::PathMatch {
        let path = match self {
            Self::Exact(path) => p::path_match::Path::Exact(path.to_string()),
            Self::Prefix(path) => p::path_match::Path::Prefix(path.to_string()),
        };
        p::PathMatch { path: Some(path) }
    }

    fn from_wire(proto: p::PathMatch) -> Result<Self, Invalid> {
        let p::PathMatch { path } = proto;
        match path.ok_or_else(|| Invalid::new("path", Problem::Missing))? {
            p::path_match::Path::Exact(path) => Ok(Self::Exact(path.into())),
            p::path_match::Path::Prefix(path) => Ok(Self::Prefix(path.into())),
        }
    }
}

impl Wire for RouteMatch {
    type Proto = p::RouteMatch;

    fn to_wire(&self) -> p::RouteMatch {
        let Self {
            path,
            method,
            headers,
            query,
        } = self;
        p::RouteMatch {
            path: Some(path.to_wire()),
            method: text_to(method.as_ref()),
            headers: list_to(headers),
            query: list_to(query),
        }
    }

    fn from_wire(proto: p::RouteMatch) -> Result<Self, Invalid> {
        let p::RouteMatch {
            path,
            method,
            headers,
            query,
        } = proto;
        Ok(Self {
            path: required("path", path)?,
            method: method.map(Into::into),
            headers: list_from(headers)?,
            query: list_from(query)?,
        })
    }
}

impl Wire for PathChange {
    type Proto = p::PathChange;

    fn to_wire(&self) -> p::PathChange {
        let change = match self {
            Self::Full(path) => p::path_change::Change::Full(path.to_string()),
            Self::Prefix(path) => p::path_change::Change::Prefix(path.to_string()),
        };
        p::PathChange {
            change: Some(change),
        }
    }

    fn from_wire(proto: p::PathChange) -> Result<Self, Invalid> {
        let p::PathChange { change } = proto;
        match change.ok_or_else(|| Invalid::new("change", Problem::Missing))? {
            p::path_change::Change::Full(path) => Ok(Self::Full(path.into())),
            p::path_change::Change::Prefix(path) => Ok(Self::Prefix(path.into())),
        }
    }
}

impl Wire for HeaderChanges {
    type Proto = p::HeaderChanges;

    fn to_wire(&self) -> p::HeaderChanges {
        let Self { set, add, remove } = self;
        p::HeaderChanges {
            set: list_to(set),
            add: list_to(add),
            remove: remove.iter().map(ToString::to_string).collect(),
        }
    }

    fn from_wire(proto: p::HeaderChanges) -> Result<Self, Invalid> {
        let p::HeaderChanges { set, add, remove } = proto;
        Ok(Self {
            set: list_from(set)?,
            add: list_from(add)?,
            remove: remove.into_iter().map(Into::into).collect(),
        })
    }
}

impl Wire for Changes {
    type Proto = p::Changes;

    fn to_wire(&self) -> p::Changes {
        let Self {
            request,
            response,
            host,
            path,
        } = self;
        p::Changes {
            request: Some(request.to_wire()),
            response: Some(response.to_wire()),
            host: text_to(host.as_ref()),
            path: path.as_ref().map(Wire::to_wire),
        }
    }

    fn from_wire(proto: p::Changes) -> Result<Self, Invalid> {
        let p::Changes {
            request,
            response,
            host,
            path,
        } = proto;
        Ok(Self {
            request: required("request", request)?,
            response: required("response", response)?,
            host: host.map(Into::into),
            path: optional(path)?,
        })
    }
}

impl Wire for Backend {
    type Proto = p::Backend;

    fn to_wire(&self) -> p::Backend {
        let Self { weight, to } = self;
        let to = match to {
            BackendTo::Broken(why) => p::backend::To::Broken(why.to_string()),
            BackendTo::Service { service, port } => p::backend::To::Service(p::BackendService {
                service: Some(service.to_wire()),
                port: u32::from(*port),
            }),
        };
        p::Backend {
            weight: *weight,
            to: Some(to),
        }
    }

    fn from_wire(proto: p::Backend) -> Result<Self, Invalid> {
        let p::Backend { weight, to } = proto;
        let to = match to.ok_or_else(|| Invalid::new("to", Problem::Missing))? {
            p::backend::To::Broken(why) => BackendTo::Broken(why.into()),
            p::backend::To::Service(p::BackendService { service, port }) => BackendTo::Service {
                service: required("service", service)?,
                port: narrow("port", port)?,
            },
        };
        Ok(Self { weight, to })
    }
}

impl Wire for Redirect {
    type Proto = p::Redirect;

    fn to_wire(&self) -> p::Redirect {
        let Self {
            scheme,
            host,
            path,
            port,
            status,
        } = self;
        p::Redirect {
            scheme: text_to(scheme.as_ref()),
            host: text_to(host.as_ref()),
            path: path.as_ref().map(Wire::to_wire),
            port: port.map(u32::from),
            status: u32::from(*status),
        }
    }

    fn from_wire(proto: p::Redirect) -> Result<Self, Invalid> {
        let p::Redirect {
            scheme,
            host,
            path,
            port,
            status,
        } = proto;
        Ok(Self {
            scheme: scheme.map(Into::into),
            host: host.map(Into::into),
            path: optional(path)?,
            port: port.map(|port| narrow("port", port)).transpose()?,
            status: narrow("status", status)?,
        })
    }
}

impl Wire for RouteRule {
    type Proto = p::RouteRule;

    fn to_wire(&self) -> p::RouteRule {
        let Self {
            from,
            matches,
            changes,
            action,
            resilience,
        } = self;
        let action = match action {
            Action::Forward(backends) => p::route_rule::Action::Forward(p::Forward {
                backends: list_to(backends),
            }),
            Action::Redirect(redirect) => p::route_rule::Action::Redirect(redirect.to_wire()),
        };
        p::RouteRule {
            from: Some(from.to_wire()),
            matches: list_to(matches),
            changes: Some(changes.to_wire()),
            action: Some(action),
            resilience: resilience.as_ref().map(|layers| p::Layers {
                layers: list_to(layers),
            }),
        }
    }

    fn from_wire(proto: p::RouteRule) -> Result<Self, Invalid> {
        let p::RouteRule {
            from,
            matches,
            changes,
            action,
            resilience,
        } = proto;
        let action = match action.ok_or_else(|| Invalid::new("action", Problem::Missing))? {
            p::route_rule::Action::Forward(p::Forward { backends }) => {
                Action::Forward(list_from(backends)?)
            }
            p::route_rule::Action::Redirect(redirect) => {
                Action::Redirect(Wire::from_wire(redirect)?)
            }
        };
        let layers = |list: p::Layers| list_from::<Layer, Vec<_>>(list.layers);
        Ok(Self {
            from: required("from", from)?,
            matches: list_from(matches)?,
            changes: required("changes", changes)?,
            action,
            resilience: resilience.map(layers).transpose()?,
        })
    }
}

impl Wire for RouteRow {
    type Proto = p::Route;

    fn to_wire(&self) -> p::Route {
        let Self {
            key,
            namespace,
            rules,
        } = self;
        let RouteKey {
            route,
            parent,
            port,
        } = key;
        p::Route {
            route: Some(route.to_wire()),
            parent: Some(parent.to_wire()),
            port: port.map(u32::from),
            namespace: namespace.to_string(),
            rules: list_to(rules),
        }
    }

    fn from_wire(proto: p::Route) -> Result<Self, Invalid> {
        let p::Route {
            route,
            parent,
            port,
            namespace,
            rules,
        } = proto;
        let key = RouteKey {
            route: required("route", route)?,
            parent: required("parent", parent)?,
            port: port.map(|port| narrow("port", port)).transpose()?,
        };
        Ok(Self {
            key,
            namespace: name("namespace", &namespace)?,
            rules: list_from(rules)?,
        })
    }
}

fn text_to(text: Option<&Arc<str>>) -> Option<String> {
    text.map(ToString::to_string)
}

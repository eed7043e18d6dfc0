//! Any route, for the tests of all rows.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use tacit_model::ObjectRef;
use tacit_model::route::{
    Action, Backend, BackendTo, Changes, HeaderChanges, PathChange, PathMatch, Redirect, RouteKey,
    RouteMatch, RouteRow, RouteRule,
};

use crate::rows::{layer, name, provenance, service_name, text};

fn pairs() -> impl Strategy<Value = Vec<(Arc<str>, Arc<str>)>> {
    vec((text(), text()), 0..3)
}

fn path_change() -> impl Strategy<Value = PathChange> {
    prop_oneof![
        text().prop_map(PathChange::Full),
        text().prop_map(PathChange::Prefix),
    ]
}

fn headers() -> impl Strategy<Value = HeaderChanges> {
    let parts = (pairs(), pairs(), vec(text(), 0..3));
    parts.prop_map(|(set, add, remove)| HeaderChanges { set, add, remove })
}

fn route_match() -> impl Strategy<Value = RouteMatch> {
    let path = prop_oneof![
        text().prop_map(PathMatch::Exact),
        text().prop_map(PathMatch::Prefix),
    ];
    let parts = (path, option::of(text()), pairs(), pairs());
    parts.prop_map(|(path, method, headers, query)| RouteMatch {
        path,
        method,
        headers,
        query,
    })
}

fn backend() -> impl Strategy<Value = Backend> {
    let to = prop_oneof![
        text().prop_map(BackendTo::Broken),
        (service_name(), any::<u16>())
            .prop_map(|(service, port)| BackendTo::Service { service, port }),
    ];
    (any::<u32>(), to).prop_map(|(weight, to)| Backend { weight, to })
}

fn redirect() -> impl Strategy<Value = Redirect> {
    let hosts = (option::of(text()), option::of(text()));
    let rest = (
        option::of(path_change()),
        option::of(any::<u16>()),
        any::<u16>(),
    );
    (hosts, rest).prop_map(|((scheme, host), (path, port, status))| Redirect {
        scheme,
        host,
        path,
        port,
        status,
    })
}

fn rule() -> impl Strategy<Value = RouteRule> {
    let changes = (
        headers(),
        headers(),
        option::of(text()),
        option::of(path_change()),
    );
    let changes = changes.prop_map(|(request, response, host, path)| Changes {
        request,
        response,
        host,
        path,
    });
    let action = prop_oneof![
        vec(backend(), 0..3).prop_map(Action::Forward),
        redirect().prop_map(Action::Redirect),
    ];
    let resilience = option::of(vec(layer(), 0..2));
    (
        provenance(),
        vec(route_match(), 0..3),
        changes,
        action,
        resilience,
    )
        .prop_map(|(from, matches, changes, action, resilience)| RouteRule {
            from,
            matches,
            changes,
            action,
            resilience,
        })
}

/// Any route.
pub(crate) fn route() -> impl Strategy<Value = RouteRow> {
    let object = (text(), option::of(name()), name());
    let object = object.prop_map(|(kind, namespace, name)| ObjectRef {
        kind,
        namespace,
        name,
    });
    let key = (object, service_name(), option::of(any::<u16>()));
    let key = key.prop_map(|(route, parent, port)| RouteKey {
        route,
        parent,
        port,
    });
    (key, name(), vec(rule(), 0..3)).prop_map(|(key, namespace, rules)| RouteRow {
        key,
        namespace,
        rules,
    })
}

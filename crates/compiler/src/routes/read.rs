//! Reads the parts of a rule that has been checked.

use std::collections::BTreeSet;
use std::sync::Arc;

use tacit_api::http_route::{
    Filter, FilterType, Header, HeaderModifier, NamedMatch, PathMatchType, PathModifier,
    PathModifierType, RouteMatch as WrittenMatch, RouteRetry, RouteRule, Timeouts,
};
use tacit_model::resilience::{Fields, RetryOn, RetryWhen};
use tacit_model::route::{Changes, HeaderChanges, PathChange, PathMatch, Redirect, RouteMatch};
use tacit_model::{ObjectRef, Sourced};

use crate::attach::origin;

/// The further tries of a rule that says `retry` without a number.
const DEFAULT_ATTEMPTS: u32 = 1;

/// The matches of a rule; never none.
pub(crate) fn matches(rule: &RouteRule) -> Vec<RouteMatch> {
    match &rule.matches {
        None => vec![one_match(&WrittenMatch::default())],
        Some(written) => written.iter().map(one_match).collect(),
    }
}

fn one_match(written: &WrittenMatch) -> RouteMatch {
    let path = written.path.clone().unwrap_or_default();
    let value = path.value.as_deref().unwrap_or("/");
    RouteMatch {
        path: match path.match_type {
            Some(PathMatchType::Exact) => PathMatch::Exact(value.into()),
            _ => PathMatch::Prefix(without_slash(value)),
        },
        method: written.method.map(|method| method.as_str().into()),
        headers: named(written.headers.as_deref(), str::to_ascii_lowercase),
        query: named(written.query_params.as_deref(), str::to_owned),
    }
}

/// Names and values. Of entries with an equivalent name only the first one counts (Gateway API,
/// `HTTPRouteMatch`).
fn named(written: Option<&[NamedMatch]>, form: fn(&str) -> String) -> Vec<(Arc<str>, Arc<str>)> {
    let mut found: Vec<(Arc<str>, Arc<str>)> = Vec::new();
    for one in written.unwrap_or_default() {
        let name = form(&one.name);
        if found.iter().all(|(known, _)| **known != *name) {
            found.push((name.into(), one.value.as_str().into()));
        }
    }
    found
}

fn without_slash(path: &str) -> Arc<str> {
    path.strip_suffix('/').unwrap_or(path).into()
}

fn filters(rule: &RouteRule, wanted: FilterType) -> impl Iterator<Item = &Filter> {
    let all = rule.filters.iter().flatten();
    all.filter(move |filter| filter.filter_type == wanted)
}

pub(super) fn changes(rule: &RouteRule) -> Changes {
    let mut changes = Changes::default();
    for filter in filters(rule, FilterType::RequestHeaderModifier) {
        changes.request = headers(filter.request_header_modifier.as_ref());
    }
    for filter in filters(rule, FilterType::ResponseHeaderModifier) {
        changes.response = headers(filter.response_header_modifier.as_ref());
    }
    for filter in filters(rule, FilterType::URLRewrite) {
        if let Some(rewrite) = &filter.url_rewrite {
            changes.host = rewrite.hostname.as_deref().map(Into::into);
            changes.path = rewrite.path.as_ref().map(path_change);
        }
    }
    changes
}

fn headers(written: Option<&HeaderModifier>) -> HeaderChanges {
    let Some(HeaderModifier { set, add, remove }) = written else {
        return HeaderChanges::default();
    };
    let pairs = |list: &Option<Vec<Header>>| {
        let pair = |header: &Header| {
            let name: Arc<str> = header.name.to_ascii_lowercase().into();
            (name, Arc::from(header.value.as_str()))
        };
        list.iter().flatten().map(pair).collect()
    };
    let lower = |name: &String| name.to_ascii_lowercase().into();
    HeaderChanges {
        set: pairs(set),
        add: pairs(add),
        remove: remove.iter().flatten().map(lower).collect(),
    }
}

fn path_change(written: &PathModifier) -> PathChange {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    match written.modifier_type {
        PathModifierType::ReplaceFullPath => match text(&written.replace_full_path) {
            empty if empty.is_empty() => PathChange::Full("/".into()),
            path => PathChange::Full(path.into()),
        },
        PathModifierType::ReplacePrefixMatch => {
            PathChange::Prefix(without_slash(&text(&written.replace_prefix_match)))
        }
    }
}

pub(super) fn redirect(rule: &RouteRule) -> Option<Redirect> {
    let filter = filters(rule, FilterType::RequestRedirect).next()?;
    let written = filter.request_redirect.as_ref()?;
    Some(Redirect {
        scheme: written.scheme.as_deref().map(Into::into),
        host: written.hostname.as_deref().map(Into::into),
        path: written.path.as_ref().map(path_change),
        port: written.port,
        status: written.status_code.unwrap_or(302),
    })
}

/// What a rule says of timeouts and retries, if it says something.
pub(super) fn resilience(rule: &RouteRule, route: &ObjectRef, index: usize) -> Option<Fields> {
    if rule.timeouts.is_none() && rule.retry.is_none() {
        return None;
    }
    let from = |name: &str| origin(route, format!("spec.rules[{index}].{name}"));
    let mut fields = Fields::default();
    if let Some(Timeouts {
        request,
        backend_request,
    }) = &rule.timeouts
    {
        fields.request = request.as_ref().map(|time| Sourced {
            value: time.duration(),
            from: from("timeouts.request"),
        });
        fields.per_try = backend_request.as_ref().map(|time| Sourced {
            value: time.duration(),
            from: from("timeouts.backendRequest"),
        });
    }
    if let Some(RouteRetry {
        codes, attempts, ..
    }) = &rule.retry
    {
        fields.attempts = Some(Sourced {
            value: attempts.unwrap_or(DEFAULT_ATTEMPTS),
            from: from(if attempts.is_some() {
                "retry.attempts"
            } else {
                "retry"
            }),
        });
        // The Gateway API asks for repetition after failures of the connection, always.
        let on = [
            RetryOn::ConnectFailure,
            RetryOn::RefusedStream,
            RetryOn::Reset,
        ];
        fields.when = Some(Sourced {
            value: RetryWhen {
                on: on.into(),
                codes: codes.iter().flatten().copied().collect::<BTreeSet<_>>(),
            },
            from: from(if codes.is_some() {
                "retry.codes"
            } else {
                "retry"
            }),
        });
    }
    Some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_equivalent_names_the_first_counts() {
        let written = |pairs: &[(&str, &str)]| {
            let one = |(name, value): &(&str, &str)| NamedMatch {
                name: (*name).to_owned(),
                value: (*value).to_owned(),
                ..NamedMatch::default()
            };
            Some(pairs.iter().map(one).collect::<Vec<_>>())
        };
        let pairs = [("X-A", "1"), ("x-a", "2"), ("x-b", "3")];
        let found = one_match(&WrittenMatch {
            headers: written(&pairs),
            query_params: written(&pairs),
            ..WrittenMatch::default()
        });
        let shown = |list: &[(Arc<str>, Arc<str>)]| {
            let each = list.iter().map(|(name, value)| format!("{name}={value}"));
            each.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(shown(&found.headers), "x-a=1 x-b=3");
        // Names of parameters are not the same in another case.
        assert_eq!(shown(&found.query), "X-A=1 x-a=2 x-b=3");
    }
}

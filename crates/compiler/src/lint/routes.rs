//! Advice on routes: rules that no request follows, and rules that lead nowhere.

use tacit_api::http_route::{FilterType, HTTPRouteSpec, RouteRule};

use crate::findings::{MATCH_TWICE, NO_BACKEND, NO_WEIGHT, Report};
use crate::routes::matches;

/// How a request is answered that goes nowhere: without a backend, and with none of use.
pub(super) type Answers = [&'static str; 2];

pub(super) const IN_HTTP: Answers = ["404", "500"];
pub(super) const IN_GRPC: Answers = ["with UNIMPLEMENTED", "with UNAVAILABLE"];
pub(super) const IN_TCP: Answers = ["by closing the connection"; 2];

pub(super) fn check(report: &mut Report<'_>, spec: &HTTPRouteSpec, answers: Answers) {
    if spec.rules.is_none() {
        let message = format!("a route without rules answers every request {}", answers[0]);
        report.say(NO_BACKEND, "spec", message);
    }
    let mut seen = Vec::new();
    for (index, rule) in spec.rules.iter().flatten().enumerate() {
        let at = format!("spec.rules[{index}]");
        for (number, found) in matches(rule).into_iter().enumerate() {
            if let Some((_, before)) = seen.iter().find(|(known, _)| *known == found) {
                let field = match &rule.matches {
                    None => at.clone(),
                    Some(_) => format!("{at}.matches[{number}]"),
                };
                let message = format!("no request gets here: {before} matches the same");
                report.say(MATCH_TWICE, &field, message);
            }
            seen.push((found, format!("spec.rules[{index}]")));
        }
        leads_nowhere(report, &at, rule, answers);
    }
}

fn leads_nowhere(
    report: &mut Report<'_>,
    at: &str,
    rule: &RouteRule,
    [no_backend, broken]: Answers,
) {
    let is_redirect = |filter: FilterType| filter == FilterType::RequestRedirect;
    let mut filters = rule.filters.iter().flatten();
    if filters.any(|filter| is_redirect(filter.filter_type)) {
        return;
    }
    let backends = rule.backend_refs.as_deref().unwrap_or_default();
    if backends.is_empty() {
        let message = format!("the rule has no backend: it answers {no_backend}");
        report.say(NO_BACKEND, at, message);
    } else if backends.iter().all(|backend| backend.weight == Some(0)) {
        let message = format!("every backend has weight 0: the rule answers {broken}");
        report.say(NO_WEIGHT, &format!("{at}.backendRefs"), message);
    }
}

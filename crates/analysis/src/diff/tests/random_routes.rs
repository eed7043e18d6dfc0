//! Random routes at one service, random requests, and whether the differences cover a request.

use std::collections::BTreeMap;

use tacit_decide::observed;
use tacit_decide::path::canonical;
use tacit_decide::resilience::effective;
use tacit_decide::route::{every, follows_routes};
use tacit_decide::{RouteHead, Routed, ServiceTarget};
use tacit_model::route::{Candidate, Changes};

use super::super::{Change, Diff, Kind};
use super::random::{ACCOUNTS, Call, METHODS, Random, SERVICES, concerned, seen, values};
use crate::Compiled;
use crate::call::Outcome;

/// A request to `pay`.
#[derive(Debug)]
pub(super) struct Request {
    call: Call,
    query: &'static str,
    headers: BTreeMap<&'static str, &'static str>,
}

const PATHS: [&str; 17] = [
    "/", "/a", "/a/", "/a/b", "/a/b/c", "/ab", "/a/./b/q", "/%61/b", "/zz", "/a%zz", "/a/z", "/b",
    "/q", "/q/", "/q/b", "/q/b/c", "/q/c",
];
const HOSTS: [&str; 6] = [
    "pay.shop",
    "q.a.shop:80",
    "shop",
    "Pay.Shop",
    "pay.shop:80",
    "",
];
const MATCH_PATHS: [&str; 8] = ["/", "/a", "/a/b", "/q", "/q", "/a/b/c", "/z", "/q/b"];

impl Random {
    /// Two meshes with routes of which most parts are the same.
    pub(super) fn routed_pair(&mut self) -> (String, String) {
        let parts: [fn(&mut Self) -> String; 8] = [
            Self::mesh,
            Self::workloads,
            |r| r.access("one"),
            |r| r.access("two"),
            Self::paths,
            Self::retry,
            |r| r.route("shop"),
            |r| match r.one_in(3) {
                true => r.route("edge"),
                false => String::new(),
            },
        ];
        let (mut before, mut after) = (SERVICES.to_owned(), SERVICES.to_owned());
        for part in parts {
            let old = part(self);
            after.push_str(&match self.below(4) {
                0 => part(self),
                1 => self.edited(&old),
                _ => old.clone(),
            });
            before.push_str(&old);
        }
        (before, after)
    }

    /// A policy that looks at nothing but paths, as backends see them.
    fn paths(&mut self) -> String {
        let service = self.of(&["pay", "led"]);
        format!(
            "---\napiVersion: tacit.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {{name: paths, \
             namespace: shop}}\nspec:\n  targetRefs: [{{group: '', kind: Service, name: \
             {service}}}]\n  action: Deny\n  rules: [{{to: [{{paths: {}}}]}}]\n",
            self.some(&["/a/b*", "/a/b/c", "/a/z", "/x"])
        )
    }

    /// The text with one small thing another.
    fn edited(&mut self, text: &str) -> String {
        let (from, to) = self.of(&[
            ("weight: 1}", "weight: 2}"),
            ("value: /a}", "value: /a/b}"),
            ("'1'", "'2'"),
            (
                "name: led, namespace: shop, port",
                "name: pay, namespace: shop, port",
            ),
            ("replacePrefixMatch: /a", "replacePrefixMatch: /q"),
            ("replaceFullPath: /a/b", "replaceFullPath: /b"),
            ("request: 1s", "request: 2s"),
            ("GET", "POST"),
            ("hostname: pay.shop", "hostname: shop"),
            ("Exact", "PathPrefix"),
        ]);
        text.replacen(from, to, 1)
    }

    fn route(&mut self, namespace: &str) -> String {
        let (kind, rule): (_, fn(&mut Self) -> String) = match self.one_in(4) {
            true => ("GRPCRoute", Self::grpc_rule),
            false => ("HTTPRoute", Self::rule),
        };
        let rules: Vec<String> = (0..=self.below(3)).map(|_| rule(self)).collect();
        let mut text = format!(
            "---\napiVersion: gateway.networking.k8s.io/v1\nkind: {kind}\nmetadata: {{name: r, \
             namespace: {namespace}}}\nspec:\n  parentRefs: [{{group: '', kind: Service, name: \
             pay, namespace: shop}}]\n  rules:\n{}",
            rules.concat()
        );
        if namespace == "shop" && self.one_in(2) {
            let from = self.some(&ACCOUNTS[1..]);
            text.push_str(&format!(
                "---\napiVersion: tacit.dev/v1alpha1\nkind: RetryTimeoutPolicy\nmetadata: {{name: \
                 of-route, namespace: shop}}\nspec:\n  targetRefs: [{{group: \
                 gateway.networking.k8s.io, kind: {kind}, name: r}}]\n  timeout: {{perTry: \
                 1s}}\n  from: [{{serviceAccounts: {from}}}]\n"
            ));
        }
        text
    }

    fn grpc_rule(&mut self) -> String {
        let method = self.of(&["a", "a, method: b", "a, method: z", "x"]);
        let matching = match self.one_in(4) {
            true => "headers: [{name: x-a, value: '1'}]".to_owned(),
            false => format!("method: {{service: {method}}}"),
        };
        let backends = self.of(&[
            "{name: pay, namespace: shop, port: 80}",
            "{name: led, namespace: shop, port: 80}",
            "{name: pay, namespace: shop, port: 80, weight: 1}, {name: led, namespace: shop, port: 80, weight: 1}",
        ]);
        format!("  - matches: [{{{matching}}}]\n    backendRefs: [{backends}]\n")
    }

    fn rule(&mut self) -> String {
        let matches: Vec<String> = (0..=self.below(2)).map(|_| self.matching()).collect();
        let mut text = format!("  - matches: [{}]\n", matches.join(", "));
        if self.one_in(5) {
            let change = self.of(&[
                "statusCode: 302",
                "hostname: pay.shop",
                "path: {type: ReplaceFullPath, replaceFullPath: /b}",
            ]);
            let filter = format!("{{type: RequestRedirect, requestRedirect: {{{change}}}}}");
            text.push_str(&format!("    filters: [{filter}]\n"));
            return text;
        }
        if self.one_in(2) || text.contains("value: /q}") {
            let change = self.of(&[
                "path: {type: ReplacePrefixMatch, replacePrefixMatch: /a}",
                "path: {type: ReplacePrefixMatch, replacePrefixMatch: /a}",
                "path: {type: ReplacePrefixMatch, replacePrefixMatch: /a/b}",
                "path: {type: ReplacePrefixMatch, replacePrefixMatch: /}",
                "path: {type: ReplaceFullPath, replaceFullPath: /a/b}",
                "hostname: pay.shop",
            ]);
            let is_prefix = change.contains("ReplacePrefixMatch");
            if !is_prefix || !text.contains("Exact") {
                let filter = format!("{{type: URLRewrite, urlRewrite: {{{change}}}}}");
                text.push_str(&format!("    filters: [{filter}]\n"));
            }
        }
        let backends = self.of(&[
            "{name: pay, namespace: shop, port: 80}",
            "{name: led, namespace: shop, port: 80}",
            "{name: pay, namespace: shop, port: 80, weight: 1}, {name: led, namespace: shop, port: 80, weight: 1}",
            "{name: pay, namespace: shop, port: 80, weight: 3}, {name: led, namespace: shop, port: 80, weight: 1}",
            "{name: pay, namespace: shop, port: 80, weight: 0}",
        ]);
        text.push_str(&format!("    backendRefs: [{backends}]\n"));
        if self.one_in(3) {
            text.push_str("    timeouts: {request: 1s}\n");
        }
        text
    }

    fn matching(&mut self) -> String {
        let kind = self.of(&["PathPrefix", "PathPrefix", "Exact"]);
        let path = self.of(&MATCH_PATHS);
        let mut parts = vec![format!("path: {{type: {kind}, value: {path}}}")];
        if self.one_in(4) {
            parts.push(format!("method: {}", self.of(&METHODS[..2])));
        }
        let mut headers = Vec::new();
        for name in ["x-a", "x-b"] {
            if self.one_in(4) {
                headers.push(format!(
                    "{{name: {name}, value: '{}'}}",
                    self.of(&["1", "2"])
                ));
            }
        }
        if self.one_in(6) {
            headers.push("{name: host, value: 'pay.shop'}".to_owned());
        }
        if !headers.is_empty() {
            parts.push(format!("headers: [{}]", headers.join(", ")));
        }
        if self.one_in(5) {
            let value = self.of(&["1", "2 3"]);
            parts.push(format!("queryParams: [{{name: q, value: '{value}'}}]"));
        }
        format!("{{{}}}", parts.join(", "))
    }

    pub(super) fn request(&mut self) -> Request {
        let mut call = self.call();
        call.service = "pay";
        call.path = self.of(&PATHS);
        call.host = self.of(&HOSTS);
        let mut headers = BTreeMap::new();
        for name in ["x-a", "x-b"] {
            if self.one_in(2) {
                headers.insert(name, self.of(&["1", "2", "3"]));
            }
        }
        if self.one_in(2) {
            headers.insert("content-type", self.of(&["application/grpc", "text/plain"]));
        }
        Request {
            call,
            query: self.of(&["", "q=1", "q=2%203", "p=1&q=1", "q="]),
            headers,
        }
    }
}

impl Request {
    /// As a log would tell it.
    fn observed(&self, state: &Compiled) -> observed::Call {
        let mut call = self.call.observed(state);
        if let Some(head) = &mut call.head {
            head.query = Some(self.query.to_owned());
            let header = |name: &str| {
                let value = self.headers.get(name).map(|value| (*value).to_owned());
                (name.to_owned(), value)
            };
            head.headers = ["content-type", "x-a", "x-b"].map(header).into();
        }
        call
    }
}

/// What comes of a request.
struct Came {
    /// Of a million, by where they end.
    goals: BTreeMap<String, u64>,
    /// What is changed on the way; nothing if it ends before.
    arrives: Option<String>,
    limits: Option<String>,
    /// What each backend lets in.
    access: Option<BTreeMap<String, Option<u64>>>,
}

impl Request {
    fn came(&self, state: &Compiled) -> Came {
        let s = &state.snapshot;
        let service = s
            .services
            .values()
            .find(|row| row.name.name.as_str() == "pay");
        let service = service.unwrap().clone();
        let port = service.ports[0].clone();
        let parent = ServiceTarget { service, port };
        let source = self.call.caller(state).row;
        let asked = self.call.path;
        let routed = if !follows_routes(s, &parent) {
            vec![(1, Routed::Direct)]
        } else if let Ok(path) = canonical(asked) {
            let head = RouteHead {
                method: self.call.method,
                path: &path,
                query: self.query,
                host: self.call.host,
                header: &|name| self.headers.get(name).map(|value| (*value).to_owned()),
            };
            every(s, &source, &parent, &head)
        } else {
            Vec::new()
        };
        let total: u64 = routed.iter().map(|(weight, _)| u64::from(*weight)).sum();
        let mut came = Came {
            goals: BTreeMap::new(),
            arrives: None,
            limits: None,
            access: Some(BTreeMap::new()),
        };
        for (weight, routed) in &routed {
            let goal = self.goal(state, &parent, routed, &mut came);
            let share = u64::from(*weight) * 1_000_000 / total;
            *came.goals.entry(goal).or_default() += share;
        }
        came
    }

    fn goal(
        &self,
        state: &Compiled,
        parent: &ServiceTarget,
        routed: &Routed,
        came: &mut Came,
    ) -> String {
        let canonical = canonical(self.call.path);
        let own = canonical.as_deref().unwrap_or(self.call.path);
        let (to, by, path) = match routed {
            Routed::Denied(denial) => return format!("{}", denial.kind.status()),
            Routed::Redirect {
                status, location, ..
            } => return format!("{status} {location}"),
            Routed::Direct => (parent, None, own),
            Routed::Forward { to, by, path } => (to, Some(by), path.as_deref().unwrap_or(own)),
        };
        let rule = by.and_then(Candidate::rule);
        let unchanged = Changes::default();
        let changes = rule.map_or(&unchanged, |rule| &rule.changes);
        let host = changes.host.as_deref().unwrap_or(self.call.host);
        came.arrives = Some(format!(
            "{path} {host} {:?} {:?}",
            changes.request, changes.response
        ));
        let s = &state.snapshot;
        let source = self.call.caller(state).row;
        came.limits = Some(values(&effective(s, &parent.service, rule, &source)));
        let name = to.service.name.name.as_str();
        let Outcome::Service(found) = self.call.at(state, name, path, host) else {
            panic!("not a service");
        };
        match seen(&found.served) {
            Some(seen) => {
                let access = came.access.as_mut();
                access.map(|all| all.insert(name.to_owned(), seen.allowed));
            }
            None => came.access = None,
        }
        name.to_owned()
    }
}

/// What of a request differs and is not among the differences.
pub(super) fn covers(
    found: &Diff,
    (old, new): (&Compiled, &Compiled),
    request: &Request,
) -> Result<(), String> {
    if !matches!(request.call.identity, Some(("", _, _))) {
        // It has no client half.
        return Ok(());
    }
    let (before, after) = (request.came(old), request.came(new));
    let place = request.call.place().to_string();
    let sort = request.call.sort(old, new);
    let told = |kinds: &[Kind]| {
        found.changes.iter().any(|change| {
            let fits = |line: &String| fits(line, request);
            let ports = ["pay.shop:80", "pay.shop"];
            ports.contains(&&*change.destination)
                && kinds.contains(&change.change)
                && (change.places.is_empty() || change.places.contains(&place))
                && (change.callers.is_empty()
                    || change.callers.iter().any(|who| who.starts_with(&sort)))
                && (change.requests.is_empty() || change.requests.iter().any(fits))
        })
    };
    if before.goals != after.goals && !told(&[Kind::Rerouted]) {
        return Err(format!("goals {:?} {:?}", before.goals, after.goals));
    }
    let counted = concerned(found, (old, new), request.observed(old));
    let counts = |kinds: &[Kind]| counted.iter().any(|one| kinds.contains(&one.change));
    let counted_otherwise = |what: &str| Err(format!("{what} counted otherwise: {counted:?}"));
    let is_mine = |one: &Change| {
        (one.callers.is_empty() || one.callers.iter().any(|who| who.starts_with(&sort)))
            && (one.places.is_empty() || one.places.contains(&place))
            && (one.requests.is_empty() || one.requests.iter().any(|line| fits(line, request)))
    };
    if !counted.iter().all(is_mine) {
        return counted_otherwise("another's");
    }
    let goes_the_same = before.goals == after.goals;
    if goes_the_same == counts(&[Kind::Rerouted]) {
        return counted_otherwise("goals");
    }
    if (goes_the_same && before.arrives != after.arrives) != counts(&[Kind::Rewritten]) {
        return counted_otherwise("arrivals");
    }
    if goes_the_same && before.arrives != after.arrives && !told(&[Kind::Rewritten]) {
        return Err(format!("{:?} {:?}", before.arrives, after.arrives));
    }
    let both = before.limits.is_some() && after.limits.is_some();
    if both && before.limits != after.limits && !told(&[Kind::Limits]) {
        return Err(format!("{:?} {:?}", before.limits, after.limits));
    }
    if (both && before.limits != after.limits) != counts(&[Kind::Limits]) {
        return counted_otherwise("limits");
    }
    let (Some(a), Some(b)) = (&before.access, &after.access) else {
        return Ok(());
    };
    // A backend that nobody serves, or that only one state sends to, is another difference.
    let differs = a.iter().any(|(service, a)| {
        b.get(service)
            .is_some_and(|b| a.is_some() && b.is_some() && a != b)
    });
    if differs && !told(&[Kind::NewlyAllowed, Kind::NewlyDenied]) {
        return Err(format!("access {a:?} {b:?}"));
    }
    // Between other backends, what is let in is told as another share of all.
    let is_counted = counts(&[Kind::NewlyAllowed, Kind::NewlyDenied]);
    let served = |of: &BTreeMap<String, Option<u64>>| {
        let some = of.iter().filter(|(_, share)| share.is_some());
        some.map(|(name, _)| name.clone()).collect::<Vec<_>>()
    };
    match served(a) == served(b) {
        true if differs != is_counted => counted_otherwise("access"),
        false if differs && !is_counted => counted_otherwise("access"),
        _ => Ok(()),
    }
}

/// True if a line of a difference may mean the request. It is read generously: what "other" means
/// depends on all that is mentioned.
fn fits(line: &str, request: &Request) -> bool {
    let Call { method, path, .. } = &request.call;
    let mut parts = line.split(" with ");
    let what = parts.next().unwrap_or_default();
    let names_method = ["any method", "other methods", method];
    let (_, paths) = what.split_at(what.find(" /").unwrap_or(what.len()));
    let path = canonical(path).unwrap_or_default();
    let fits_path = |label: &str| match label.trim().strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix),
        None => label.trim() == path || label.contains("other") || label.contains("without"),
    };
    names_method.iter().any(|name| what.contains(name))
        && (paths.is_empty() || paths.split(", ").any(fits_path))
}

//! Timeouts and retries of one call, field by field.

use std::collections::BTreeMap;

use crate::access::Peer;
use crate::answer::{Request, Set};
use crate::mesh::{Object, Reference};
use crate::mutation::Mutation;
use crate::node::Node;
use crate::precedence::Source;

impl Source<'_> {
    /// The origin of a field of this source.
    pub(crate) fn origin(&self, field: &str) -> String {
        let object = self.object.shown();
        match self.rule {
            Some(index) => format!("{object} spec.rules[{index}].{field}"),
            None if matches!(self.object.kind, "Mesh" | "Workspace") => {
                format!("{object} spec.defaults.{field}")
            }
            None => format!("{object} spec.{field}"),
        }
    }
}

/// A value that nobody set.
fn by_default(value: &str) -> Set {
    Set {
        value: value.to_owned(),
        from: "default".to_owned(),
    }
}

/// Texts or numbers in a fixed order, each once.
pub(crate) fn sorted<T: Ord + ToString>(items: impl Iterator<Item = T>) -> String {
    let mut items: Vec<T> = items.collect();
    items.sort();
    items.dedup();
    let texts: Vec<String> = items.iter().map(T::to_string).collect();
    format!("[{}]", texts.join(" "))
}

impl<'w> Reference<'w> {
    /// The values of a call to `parent` that follows `rule`, as `namespace/name spec.rules[i]`.
    pub(crate) fn retry_values(
        &self,
        values: &mut BTreeMap<&'static str, Set>,
        parent: &Object<'w>,
        rule: Option<&str>,
        request: &Request,
    ) {
        let rule = rule.and_then(|rule| self.rule_named(rule));
        let all = self.sources("RetryTimeoutPolicy", parent, rule);
        let mut sources: Vec<Source<'w>> = all
            .into_iter()
            .filter(|source| self.is_for(source, request))
            .collect();
        if self.is_wrong(Mutation::WholePolicy) {
            sources.truncate(1);
        }
        let mut put = |name: &'static str, set: Option<Set>, default: &str| {
            values.insert(name, set.unwrap_or_else(|| by_default(default)));
        };
        let time = |in_policy, in_rule| self.time(&sources, in_policy, in_rule);
        put("timeout.request", time("request", "request"), "0ms");
        put("timeout.perTry", time("perTry", "backendRequest"), "0ms");
        put("timeout.idle", time("idle", ""), "3600000ms");
        put("timeout.connect", time("connect", ""), "1000ms");
        put("retry.attempts", self.attempts(&sources), "0");
        put(
            "retry.on",
            self.when(&sources),
            "on [ConnectFailure RefusedStream] codes []",
        );
        put(
            "retry.methods",
            self.methods(&sources),
            "nonIdempotent false only any",
        );
        put("retry.backoff", self.backoff(&sources), "25 to 250");
        put("retry.budget", self.budget(&sources), "20 10000 10");
        put("retry.maxBody", self.max_body(&sources), "65536");
    }

    /// The route and the index that an origin means.
    fn rule_named(&self, rule: &str) -> Option<(&Object<'w>, usize)> {
        let (route, rule) = rule.split_once(' ')?;
        let index = rule.strip_prefix("spec.rules[")?.strip_suffix(']')?;
        let found = self.routes().find(|one| one.shown() == route);
        Some((found?, index.parse().ok()?))
    }

    /// True if a source is for this caller.
    pub(crate) fn is_for(&self, source: &Source<'_>, request: &Request) -> bool {
        if !source.from.is_there() || self.is_wrong(Mutation::FromForEverybody) {
            return true;
        }
        let peer = Peer::of_client(&request.caller);
        let mut entries = source.from.items();
        entries.any(|entry| self.is_one_of(entry, &peer, source.object.namespace, false))
    }

    fn counts(&self, value: &str) -> bool {
        !(self.is_wrong(Mutation::ZeroIsAbsent) && matches!(value, "0" | "0ms"))
    }

    fn time(&self, sources: &[Source<'w>], in_policy: &str, in_rule: &str) -> Option<Set> {
        let found = sources.iter().filter_map(|source| {
            let (list, name) = match source.rule {
                Some(_) => ("timeouts", in_rule),
                None => ("timeout", in_policy),
            };
            let time = source.values.at(list).at(name).milliseconds()?;
            Some(Set {
                value: format!("{time}ms"),
                from: source.origin(&format!("{list}.{name}")),
            })
        });
        found.into_iter().find(|set| self.counts(&set.value))
    }

    fn attempts(&self, sources: &[Source<'w>]) -> Option<Set> {
        let found = sources.iter().filter_map(|source| {
            let retry = source.values.at("retry");
            let written = retry.at("attempts").number();
            let (value, field) = match written {
                Some(value) => (value, "retry.attempts"),
                // A rule of a route that says `retry` asks for one further try.
                None if source.rule.is_some() && retry.is_there() => (1, "retry"),
                None => return None,
            };
            Some(Set {
                value: value.to_string(),
                from: source.origin(field),
            })
        });
        found.into_iter().find(|set| self.counts(&set.value))
    }

    /// `on` and `codes` go whole.
    fn when(&self, sources: &[Source<'w>]) -> Option<Set> {
        // The Gateway API repeats after failures of the connection, always.
        let of_route = ["ConnectFailure", "RefusedStream", "Reset"];
        let on = |source: &Source<'_>| on_of(source, &of_route);
        let codes = |source: &Source<'_>| {
            let codes = source.values.at("retry").at("codes");
            codes
                .is_there()
                .then(|| codes.numbers().collect::<Vec<_>>())
        };
        let first = sources
            .iter()
            .find(|source| on(source).is_some() || codes(source).is_some())?;
        let (mut first_on, mut first_codes) = (on(first), codes(first));
        if self.is_wrong(Mutation::OnApartFromCodes) {
            first_on = sources.iter().find_map(on);
            first_codes = sources.iter().find_map(codes);
        }
        let field = match (first.rule, on(first), codes(first)) {
            (None, Some(_), _) => "retry.on",
            (Some(_), _, None) => "retry",
            (_, _, _) => "retry.codes",
        };
        Some(Set {
            value: format!(
                "on {} codes {}",
                sorted(first_on.into_iter().flatten()),
                sorted(first_codes.into_iter().flatten())
            ),
            from: first.origin(field),
        })
    }

    fn methods(&self, sources: &[Source<'w>]) -> Option<Set> {
        let parts = ["nonIdempotent", "methods"];
        let (found, first) = self.parts(sources, "", parts, Mutation::MethodsApart)?;
        let [non_idempotent, methods] = found;
        let only = if methods.is_there() {
            sorted(methods.texts())
        } else {
            "any".to_owned()
        };
        let named = parts
            .into_iter()
            .find(|name| first.values.at("retry").at(name).is_there())?;
        Some(Set {
            value: format!("nonIdempotent {} only {only}", non_idempotent.is_true()),
            from: first.origin(&format!("retry.{named}")),
        })
    }

    fn backoff(&self, sources: &[Source<'w>]) -> Option<Set> {
        let parts = ["base", "max"];
        let (found, first) = self.parts(sources, "backoff", parts, Mutation::BackoffApart)?;
        let (base, max) = match found.map(Node::milliseconds) {
            [Some(base), Some(max)] => (base, max),
            // One alone moves the other where it has to.
            [Some(base), None] => (base, base.max(250)),
            [None, Some(max)] => (max.min(25), max),
            [None, None] => (25, 250),
        };
        Some(Set {
            value: format!("{base} to {max}"),
            from: first.origin("retry.backoff"),
        })
    }

    fn budget(&self, sources: &[Source<'w>]) -> Option<Set> {
        let parts = ["retryPercent", "interval", "minPerSecond"];
        let (found, first) = self.parts(sources, "budget", parts, Mutation::BudgetApart)?;
        let [percent, interval, least] = found;
        Some(Set {
            value: format!(
                "{} {} {}",
                percent.number().unwrap_or(20),
                interval.milliseconds().unwrap_or(10_000),
                least.number().unwrap_or(10)
            ),
            from: first.origin("retry.budget"),
        })
    }

    fn max_body(&self, sources: &[Source<'w>]) -> Option<Set> {
        let found = sources.iter().filter_map(|source| {
            let size = source.values.at("retry").at("maxBody").bytes()?;
            Some(Set {
                value: size.to_string(),
                from: source.origin("retry.maxBody"),
            })
        });
        found.into_iter().find(|set| self.counts(&set.value))
    }

    /// The parts of a group from the first source that has one of them. With `apart` wrong, each
    /// part from the first source that has it.
    fn parts<'s, const N: usize>(
        &self,
        sources: &'s [Source<'w>],
        group: &str,
        names: [&str; N],
        apart: Mutation,
    ) -> Option<([Node<'w>; N], &'s Source<'w>)> {
        let part = |source: &Source<'w>, name: &str| {
            let retry = source.values.at("retry");
            match (source.rule, group) {
                (Some(_), _) => Node(None),
                (None, "") => retry.at(name),
                (None, group) => retry.at(group).at(name),
            }
        };
        let has_any = |source: &&Source<'w>| names.iter().any(|name| part(source, name).is_there());
        let first = sources.iter().find(has_any)?;
        let found = names.map(|name| {
            let anywhere = || {
                let mut all = sources.iter().map(|source| part(source, name));
                all.find(|node| node.is_there()).unwrap_or(Node(None))
            };
            if self.is_wrong(apart) {
                anywhere()
            } else {
                part(first, name)
            }
        });
        Some((found, first))
    }
}

/// The kinds of failure that a source repeats after.
fn on_of(source: &Source<'_>, of_route: &[&str]) -> Option<Vec<String>> {
    let retry = source.values.at("retry");
    let own = |names: &mut dyn Iterator<Item = &str>| names.map(str::to_owned).collect();
    match source.rule {
        Some(_) if retry.is_there() => Some(own(&mut of_route.iter().copied())),
        Some(_) => None,
        None if retry.at("on").is_there() => Some(own(&mut retry.at("on").texts())),
        None => None,
    }
}

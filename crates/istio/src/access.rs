//! AccessPolicies as AuthorizationPolicies.
//!
//! Both algebras let a matching Deny win and then ask for one matching Allow if there is any. They
//! differ in what an Allow for some ports does to the others: under Istio it closes them. A
//! policy for the other ports opens them again, where that opens nothing that another Allow closes.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use tacit_compiler::findings::{ISTIO_CANNOT, ISTIO_DIFFERS, ISTIO_STRICTER};
use tacit_model::access::{Action, Mode, Rule};
use tacit_model::labels::Labels;
use tacit_model::tables::{AccessRow, DefaultAccess};
use tacit_model::{ObjectRef, ServiceName};

use crate::callers::{is_pointer, source};
use crate::object::{Draft, Kind, Objects, texts};
use crate::operations::{Operation, Ports, is_wildcard, operations};
use crate::targets::{Target, compatible, implies, targets};
use crate::world::World;

/// Most rules of a policy, and most sources of a rule, that Istio takes.
const ITEMS_MAX: usize = 512;

/// A policy with its places.
struct Placed<'a> {
    row: &'a AccessRow,
    targets: BTreeSet<Target>,
}

/// Translates all of them.
pub(crate) fn translate(world: &mut World<'_>, objects: &mut Objects) {
    let snapshot = world.s;
    let compiler = world.compiler;
    let placed: Vec<Placed<'_>> = compiler
        .access_targets()
        .iter()
        .filter_map(|(name, hits)| {
            let row = snapshot.access.get(name)?;
            let targets = targets(world, row, hits);
            Some(Placed { row, targets })
        })
        .collect();
    for policy in &placed {
        tell(world, policy);
        for target in &policy.targets {
            if target.is_in_root(world) {
                let message = format!(
                    "what stands in {}, Istio's root namespace, would hold for the whole mesh, so \
                     it is left out",
                    world.root
                );
                world.say(&policy.row.object(), ISTIO_CANNOT, "spec", message);
            } else {
                objects.extend(one(world, policy.row, target));
            }
        }
    }
    if world.s.mesh.default_access.value == DefaultAccess::Authenticated {
        objects.extend(other_ports(world, &placed));
    }
}

/// The AuthorizationPolicies of a policy at one place, one unless it has more rules than Istio
/// takes; none for a Deny that denies nothing.
fn one(world: &World<'_>, row: &AccessRow, target: &Target) -> Vec<Draft> {
    let rules = rules(
        world,
        row,
        &target.ports(world),
        unknown_port(world, target).is_some(),
    );
    let action = match row.action {
        Action::Allow => "ALLOW",
        Action::Deny if rules.is_empty() => return Vec::new(),
        Action::Deny => "DENY",
    };
    let draft = |rules: &[(Value, String)]| {
        let name = object_name(row, target, world);
        let mut draft = Draft::new(Kind::AuthorizationPolicy, target.namespace(world), name);
        if let Some(labels) = target.selector(world) {
            draft.set("selector", selector(&labels));
            draft.note("spec.selector", origin_of_selector(target, &row.object()));
        }
        draft.set("action", action.into());
        draft.note("spec.action", origin_of_action(row));
        for (index, (_, origin)) in rules.iter().enumerate() {
            draft.note(format!("spec.rules[{index}]"), origin);
        }
        // An ALLOW without rules allows nothing, as an Allow does that nobody can match.
        if !rules.is_empty() {
            let rules = rules.iter().map(|(rule, _)| rule.clone());
            draft.set("rules", Value::Array(rules.collect()));
        }
        if row.mode == Mode::Audit {
            draft.dry_run();
            let origin = format!("{} spec.mode", row.object());
            draft.note("metadata.annotations[istio.io/dry-run]", origin);
        }
        draft
    };
    if rules.is_empty() {
        return vec![draft(&[])];
    }
    rules.chunks(ITEMS_MAX).map(draft).collect()
}

fn origin_of_action(row: &AccessRow) -> String {
    let object = row.object();
    match &row.broken {
        Some(_) => format!("{object} (has no valid version, so it denies)"),
        None => format!("{object} spec.action"),
    }
}

fn origin_of_selector(target: &Target, policy: &ObjectRef) -> String {
    match target {
        Target::Service(name) => format!("Service/{}/{} spec.selector", name.namespace, name.name),
        Target::Mesh(_) | Target::Namespace(_) | Target::Workloads(..) => {
            format!("{policy} spec.targetSelectors")
        }
    }
}

fn object_name(row: &AccessRow, target: &Target, world: &World<'_>) -> String {
    let own = if row.name.namespace == *target.namespace(world) {
        row.name.name.to_string()
    } else {
        format!("{}.{}", row.name.namespace, row.name.name)
    };
    match target {
        Target::Mesh(_) | Target::Namespace(_) => own,
        Target::Service(service) => format!("{own}.{}", service.name),
        Target::Workloads(..) => format!("{own}.workloads"),
    }
}

/// Labels as Istio's selector.
pub(crate) fn selector(labels: &Labels) -> Value {
    let pairs = labels.0.iter();
    let labels: Map<String, Value> = pairs
        .map(|(key, value)| (key.to_string(), Value::from(&**value)))
        .collect();
    json!({"matchLabels": labels})
}

/// The rules of a policy at one place, each with its origin.
fn rules(
    world: &World<'_>,
    row: &AccessRow,
    ports: &Ports,
    port_unknown: bool,
) -> Vec<(Value, String)> {
    if row.broken.is_some() {
        let everything = operations(&[], Action::Deny, ports);
        let rule = with_operations(Map::new(), everything);
        return vec![(rule, origin_of_action(row))];
    }
    if row.action == Action::Allow && port_unknown {
        return Vec::new();
    }
    let each = row.rules.iter().flat_map(|rule| {
        let origin = format!("{} {}", row.object(), rule.path);
        let found = one_rule(world, rule, row.action, ports).into_iter();
        found.map(move |value| (value, origin.clone()))
    });
    each.collect()
}

/// The name of a port of the target whose number is not known for sure.
fn unknown_port(world: &World<'_>, target: &Target) -> Option<String> {
    match target {
        Target::Service(name) => world.target_ports(name).unknown,
        Target::Mesh(_) | Target::Namespace(_) | Target::Workloads(..) => None,
    }
}

/// One rule; nothing if it can match nothing. On a port without requests Istio ignores an ALLOW
/// rule of which any operation has conditions on requests, so those stand in a rule of their own.
fn one_rule(world: &World<'_>, rule: &Rule, action: Action, ports: &Ports) -> Vec<Value> {
    let found = operations(&rule.to, action, ports);
    let (on_requests, on_connections): (Vec<_>, Vec<_>) = match action {
        Action::Allow => found.into_iter().partition(Operation::needs_request),
        Action::Deny => (Vec::new(), found),
    };
    let callers = callers(world, rule, action);
    let parts = [on_connections, on_requests].into_iter();
    parts
        .filter(|to| !to.is_empty())
        .flat_map(|to| {
            let rule = move |from: &Map<String, Value>| with_operations(from.clone(), to.clone());
            callers.iter().map(rule)
        })
        .collect()
}

/// The callers of a rule, as the beginnings of as many rules as it takes; none if nobody can be
/// meant.
fn callers(world: &World<'_>, rule: &Rule, action: Action) -> Vec<Map<String, Value>> {
    let everybody = vec![Map::new()];
    if rule.from.is_empty() {
        return everybody;
    }
    let sources: Vec<Map<String, Value>> = rule
        .from
        .iter()
        .filter_map(|from| source(world, from, action))
        .collect();
    // A source without conditions is everybody, which Istio writes as no source at all.
    if sources.iter().any(Map::is_empty) {
        return everybody;
    }
    let beginning = |sources: &[Map<String, Value>]| {
        let from = sources.iter().map(|source| json!({"source": source}));
        Map::from_iter([("from".to_owned(), Value::Array(from.collect()))])
    };
    sources.chunks(ITEMS_MAX).map(beginning).collect()
}

fn with_operations(mut rule: Map<String, Value>, to: Vec<Operation>) -> Value {
    // An operation without conditions is everything, which is no operation at all.
    if !to.iter().any(Operation::is_everything) {
        let to = to.into_iter().map(Operation::into_value);
        rule.insert("to".to_owned(), Value::Array(to.collect()));
    }
    Value::Object(rule)
}

/// Opens the ports that an Allow of a Service closes under Istio only.
fn other_ports(world: &mut World<'_>, placed: &[Placed<'_>]) -> Vec<Draft> {
    let mut drafts = Vec::new();
    let mut services: BTreeSet<(&ServiceName, ObjectRef)> = BTreeSet::new();
    for policy in allows(placed) {
        for target in &policy.targets {
            if let Target::Service(name) = target
                && name.namespace != *world.root
            {
                services.insert((name, policy.row.object()));
            }
        }
    }
    let mut done = BTreeSet::new();
    for (name, policy) in services {
        match others(world, name, placed) {
            Others::Covered => {}
            Others::Open(ports) if done.insert(name) => {
                drafts.push(open(world, name, &ports));
            }
            Others::Open(_) => {}
            Others::Unclear(why) => {
                let message = format!(
                    "under Istio the policy also closes the other ports of the workloads behind \
                     Service {name}: {why}"
                );
                world.say(&policy, ISTIO_STRICTER, "spec.action", message);
            }
        }
    }
    drafts
}

fn allows<'p, 'a>(placed: &'p [Placed<'a>]) -> impl Iterator<Item = &'p Placed<'a>> {
    placed.iter().filter(|policy| {
        let row = policy.row;
        row.action == Action::Allow && row.mode == Mode::Enforce && row.broken.is_none()
    })
}

/// What holds on the ports of workloads that no Allow of their Service is about.
enum Others {
    /// Another Allow is about all ports of all of them.
    Covered,
    /// The default holds on every port but these.
    Open(BTreeSet<u16>),
    /// It differs from workload to workload, in a way that selectors cannot tell.
    Unclear(String),
}

fn others(world: &World<'_>, name: &ServiceName, placed: &[Placed<'_>]) -> Others {
    let own = world.selector(name);
    let mut ports = BTreeSet::new();
    let mut unclear = None;
    let targets = allows(placed).flat_map(|policy| {
        let name = &policy.row.name;
        policy.targets.iter().map(move |target| (name, target))
    });
    for (policy, target) in targets {
        match target {
            Target::Mesh(None) => return Others::Covered,
            Target::Namespace(namespace) if *namespace == name.namespace => return Others::Covered,
            Target::Namespace(_) => {}
            Target::Mesh(Some(labels)) | Target::Workloads(_, labels) => {
                let elsewhere = match target {
                    Target::Workloads(namespace, _) => *namespace != name.namespace,
                    Target::Mesh(_) | Target::Namespace(_) | Target::Service(_) => false,
                };
                if elsewhere || !compatible(labels, &own) {
                    continue;
                }
                if implies(&own, labels) {
                    return Others::Covered;
                }
                unclear = Some(format!(
                    "AccessPolicy {policy} is about all ports of some of them"
                ));
            }
            Target::Service(other) => {
                let selector = world.selector(other);
                if other.namespace != name.namespace || !compatible(&selector, &own) {
                    continue;
                }
                let found = world.target_ports(other);
                if let Some(port) = found.unknown {
                    unclear = Some(format!("the number of the port {port:?} is not known"));
                }
                let own_ports = world.target_ports(name).numbers;
                let more = found
                    .numbers
                    .keys()
                    .any(|port| !own_ports.contains_key(port));
                if more && !implies(&own, &selector) {
                    unclear = Some(format!("Service {other} shares some of them"));
                }
                ports.extend(found.numbers.into_keys());
            }
        }
    }
    unclear.map_or(Others::Open(ports), Others::Unclear)
}

fn open(world: &World<'_>, name: &ServiceName, ports: &BTreeSet<u16>) -> Draft {
    let own = format!("{}.other-ports", name.name);
    let mut draft = Draft::new(Kind::AuthorizationPolicy, &name.namespace, own);
    draft.set("selector", selector(&world.selector(name)));
    draft.set("action", "ALLOW".into());
    let to = Operation::not_on(ports.clone()).into_value();
    let rule = json!({"from": [{"source": {"principals": texts(["*"])}}], "to": [to]});
    draft.set("rules", json!([rule]));
    let service = format!("Service/{}/{}", name.namespace, name.name);
    draft.note("spec.selector", format!("{service} spec.selector"));
    draft.note(
        "spec.rules",
        format!("Mesh defaultAccess, {}", world.s.mesh.default_access.from),
    );
    draft
}

/// Says what of a policy means something else under Istio.
fn tell(world: &mut World<'_>, policy: &Placed<'_>) {
    let row = policy.row;
    let object = row.object();
    if row.mode == Mode::Audit {
        let message = "Audit became Istio's dry run, which is experimental: a ztunnel before 1.29 \
                       enforces it"
            .to_owned();
        world.say(&object, ISTIO_DIFFERS, "spec.mode", message);
    }
    for target in &policy.targets {
        if let Some(port) = unknown_port(world, target) {
            let what = match row.action {
                Action::Allow => "the policy allows nothing there",
                Action::Deny => "the policy denies on every port there",
            };
            let message = format!(
                "the target port {port:?} of a Service has no one number, which Istio needs: {what}"
            );
            world.say(&object, ISTIO_STRICTER, "spec.targetRefs", message);
        }
    }
    for rule in &row.rules {
        tell_callers(world, &object, rule, row.action);
        tell_operations(world, &object, rule, policy);
    }
}

fn tell_callers(world: &mut World<'_>, object: &ObjectRef, rule: &Rule, action: Action) {
    for (index, from) in rule.from.iter().enumerate() {
        let at = format!("{}.from[{index}]", rule.path);
        if from.unauthenticated && action == Action::Allow {
            let message = "callers without a certificate stay denied: the translation asks for \
                           mutual TLS everywhere (PeerAuthentication STRICT)"
                .to_owned();
            world.say(
                object,
                ISTIO_STRICTER,
                &format!("{at}.unauthenticated"),
                message,
            );
        }
        if is_pointer(world, from) {
            let what = match action {
                Action::Allow => "nobody is meant",
                Action::Deny => "everybody of that domain is meant",
            };
            let message =
                format!("Istio takes cluster.local in names for its own trust domain: {what}");
            world.say(
                object,
                ISTIO_STRICTER,
                &format!("{at}.trustDomain"),
                message,
            );
        }
        let names = from.workspaces.iter().flatten();
        let growing: Vec<String> = names
            .filter(|name| crate::isolation::may_grow(world, name))
            .map(ToString::to_string)
            .collect();
        if !growing.is_empty() {
            let message = format!(
                "Istio has no workspaces: the namespaces that {} has now were listed; translate \
                 again when there are more",
                growing.join(", ")
            );
            world.say(object, ISTIO_DIFFERS, &format!("{at}.workspaces"), message);
        }
    }
}

fn tell_operations(world: &mut World<'_>, object: &ObjectRef, rule: &Rule, policy: &Placed<'_>) {
    let places: Vec<Ports> = policy
        .targets
        .iter()
        .map(|target| target.ports(world))
        .collect();
    for (index, to) in rule.to.iter().enumerate() {
        let at = format!("{}.to[{index}]", rule.path);
        if to.paths.is_some() {
            let message = "Istio compares paths as exactly as Tacit only with \
                           meshConfig.pathNormalization.normalization: DECODE_AND_MERGE_SLASHES"
                .to_owned();
            world.say(object, ISTIO_DIFFERS, &format!("{at}.paths"), message);
        }
        if to.hosts.iter().flatten().any(|host| is_wildcard(host)) {
            let what = match policy.row.action {
                Action::Allow => "a host with a port in it is not allowed",
                Action::Deny => "every host is denied",
            };
            let message = format!("Istio cannot match *.NAME with any port behind it: {what}");
            world.say(object, ISTIO_STRICTER, &format!("{at}.hosts"), message);
        }
        if !to.needs_request() {
            continue;
        }
        let mut opaque = places.iter().flat_map(|place| {
            let named = to.ports.iter().flatten();
            named.filter(|port| !place.is_http(**port))
        });
        if let Some(port) = opaque.next() {
            let message = format!(
                "Istio reads requests on port {port} only if a Service declares it as HTTP; \
                 where not, an Allow never matches and a Deny always does"
            );
            world.say(object, ISTIO_STRICTER, &format!("{at}.ports"), message);
        }
        let mixed = places.iter().find_map(|place| place.mixed.first());
        if let Some(port) = mixed.filter(|_| to.ports.is_none()) {
            let message = format!(
                "port {port} is HTTP at some workloads only: an Allow never matches there, and a \
                 Deny always does"
            );
            world.say(object, ISTIO_STRICTER, &at, message);
        }
    }
}

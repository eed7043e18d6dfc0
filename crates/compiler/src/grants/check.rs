//! Checks one change against one grant, and says how near it came.

use std::collections::BTreeMap;

use serde_json::Value;
use tacit_api::policy::{TargetRef, TargetSelector, Targeting};
use tacit_api::workspace::{Grant, Verb};
use tacit_api::{HTTPRouteSpec, Kind, Object, Policy};
use tacit_model::finding::Finding;

use crate::grants::limits::{self, Outcome};
use crate::grants::{
    BAD_GRANT, Change, FIELD_NOT_GRANTED, NOT_GRANTED, OVER_LIMIT, Subject, TARGET_NOT_GRANTED,
    World, fields, refusal,
};
use crate::policies::is_policy;
use crate::routes;
use crate::workspace::{Tenant, contains};

/// A question to the grants of one workspace.
pub(crate) struct Ask<'q> {
    pub(crate) who: &'q Subject,
    pub(crate) change: Change<'q>,
    pub(crate) targets: TargetsOf<'q>,
    /// Seconds since 1970; absent: verbs and `until` are not looked at.
    pub(crate) now: Option<i64>,
}

/// What `targets` of a grant is compared with.
#[derive(Clone, Copy)]
pub(crate) enum TargetsOf<'q> {
    /// The labels of an object that a policy would be attached to or detached from.
    Labels(&'q BTreeMap<String, String>),
    /// The targets that the policy itself names.
    Policy,
}

/// Why one grant does not cover a change.
struct Refusal {
    /// How many checks passed: the grant that came nearest is the one to talk about.
    passed: u32,
    finding: Box<Finding>,
}

impl World<'_> {
    /// The first grant that covers the whole change; else what the nearest one says.
    pub(crate) fn one_grant_covers<'t>(
        &self,
        tenant: &'t Tenant<'_>,
        ask: &Ask<'_>,
    ) -> Result<&'t Grant, Box<Finding>> {
        let mut nearest: Option<Refusal> = None;
        for (index, grant) in tenant.spec.grants.iter().flatten().enumerate() {
            let name = format!("spec.grants[{index}] of Workspace {}", tenant.name);
            match self.covers(tenant, grant, &name, ask) {
                Ok(()) => return Ok(grant),
                Err(refusal) => {
                    let before = nearest.as_ref().map(|nearest| nearest.passed);
                    if before.is_none_or(|before| refusal.passed > before) {
                        nearest = Some(refusal);
                    }
                }
            }
        }
        let finding = match nearest {
            Some(refusal) if refusal.passed > 0 => refusal.finding,
            Some(_) | None => no_grant(tenant, ask),
        };
        Err(finding)
    }

    fn covers(
        &self,
        tenant: &Tenant<'_>,
        grant: &Grant,
        name: &str,
        ask: &Ask<'_>,
    ) -> Result<(), Refusal> {
        let at = |passed| move |finding| Refusal { passed, finding };
        who_and_what(tenant, grant, ask).map_err(|finding| Refusal { passed: 0, finding })?;
        not_ended(grant, name, ask).map_err(at(1))?;
        let specs = specs(ask.change).map_err(|message| Refusal {
            passed: 1,
            finding: refusal(
                ask.change.object(),
                BAD_GRANT,
                "spec",
                message,
                String::new(),
            ),
        })?;
        fields_granted(grant, name, ask, &specs).map_err(at(2))?;
        self.targets_granted(grant, name, ask).map_err(at(3))?;
        limits_kept(grant, name, ask, specs.new.as_ref()).map_err(at(4))
    }
}

/// Specs as JSON, before and after.
struct Specs {
    old: Option<Value>,
    new: Option<Value>,
}

fn specs(change: Change<'_>) -> Result<Specs, String> {
    let json = |object: &Object| object.spec_json().map_err(|error| error.to_string());
    Ok(Specs {
        old: change
            .before()
            .map(|object| json(&object.value))
            .transpose()?,
        new: change
            .after()
            .map(|object| json(&object.value))
            .transpose()?,
    })
}

fn who_and_what(tenant: &Tenant<'_>, grant: &Grant, ask: &Ask<'_>) -> Result<(), Box<Finding>> {
    let kind = ask.change.object().value.kind();
    let kinds = grant.kinds.as_deref().unwrap_or_default();
    // Asked again without a time, any verb that could have written it will do.
    let verb = match ask.now {
        Some(_) => grant.verbs.contains(&ask.change.verb()),
        None => grant
            .verbs
            .iter()
            .any(|verb| matches!(verb, Verb::Create | Verb::Update)),
    };
    let kind_listed = kinds.iter().any(|name| name == kind.as_str());
    if ask.who.is_one_of(&grant.to) && verb && kind_listed {
        Ok(())
    } else {
        Err(no_grant(tenant, ask))
    }
}

fn no_grant(tenant: &Tenant<'_>, ask: &Ask<'_>) -> Box<Finding> {
    let object = ask.change.object();
    let key = object.value.key();
    let (kind, verb, name) = (key.kind, ask.change.verb(), &tenant.name);
    let lower = verb.as_str().to_lowercase();
    let message = format!(
        "{} may not {lower} {key}: no grant of Workspace {name} has {verb} of {kind} for them",
        ask.who
    );
    let fix = format!(
        "ask the administrator for a grant with verbs: [{verb}] and kinds: [{kind}] in {name}"
    );
    refusal(object, NOT_GRANTED, "", message, fix)
}

fn not_ended(grant: &Grant, name: &str, ask: &Ask<'_>) -> Result<(), Box<Finding>> {
    match (&grant.until, ask.now) {
        (Some(until), Some(now)) if until.unix_seconds() <= now => {
            let message = format!("{name} ended at {until}");
            let fix = "ask the administrator for a longer one".to_owned();
            Err(refusal(ask.change.object(), NOT_GRANTED, "", message, fix))
        }
        _ => Ok(()),
    }
}

fn fields_granted(
    grant: &Grant,
    name: &str,
    ask: &Ask<'_>,
    specs: &Specs,
) -> Result<(), Box<Finding>> {
    let mut changed = fields::changed(specs.old.as_ref(), specs.new.as_ref());
    let kind = ask.change.object().value.kind();
    if matches!(ask.targets, TargetsOf::Labels(_)) {
        // What is asked for is this policy on another target; where it lives is not in question.
        changed.retain(|path| !path.starts_with("spec.target"));
    }
    let listed = grant.fields.as_deref();
    let Some(field) = fields::first_not_granted(&changed, listed, kind == Kind::Workspace) else {
        return Ok(());
    };
    let message = match listed {
        Some(listed) => format!(
            "{field} may not be changed: {name} gives {}",
            listed.join(", ")
        ),
        None => format!("{field} may not be changed: {name} does not list it"),
    };
    let fix = "leave the field as it was, or ask the administrator for a grant that lists it";
    Err(refusal(
        ask.change.object(),
        FIELD_NOT_GRANTED,
        &field,
        message,
        fix.to_owned(),
    ))
}

fn limits_kept(
    grant: &Grant,
    name: &str,
    ask: &Ask<'_>,
    spec: Option<&Value>,
) -> Result<(), Box<Finding>> {
    let Some(spec) = spec else {
        return Ok(());
    };
    for (index, limit) in grant.limits.iter().flatten().enumerate() {
        let field = limits::field_of(&limit.rule, spec).unwrap_or_default();
        let object = ask.change.object();
        match limits::evaluate(&limit.rule, spec) {
            Outcome::Kept => {}
            Outcome::Broken => {
                let fix = format!("keep to `{}`, a limit of {name}", limit.rule);
                let message = limit.message.clone();
                return Err(refusal(object, OVER_LIMIT, &field, message, fix));
            }
            Outcome::Faulty(fault) => {
                let message = format!("limits[{index}] of {name}: {fault}");
                let fix = "ask the administrator to correct the rule".to_owned();
                return Err(refusal(object, BAD_GRANT, &field, message, fix));
            }
        }
    }
    Ok(())
}

impl World<'_> {
    fn targets_granted(
        &self,
        grant: &Grant,
        name: &str,
        ask: &Ask<'_>,
    ) -> Result<(), Box<Finding>> {
        let Some(targets) = &grant.targets else {
            return Ok(());
        };
        let wanted = &targets.match_labels;
        let labels = || {
            let pairs: Vec<String> = wanted.iter().map(|(k, v)| format!("{k}={v}")).collect();
            pairs.join(",")
        };
        let refuse = |field: &str, what: &str| {
            let message = format!("{what}: {name} is for targets with {}", labels());
            let fix = "choose such a target, or ask the administrator for a wider grant";
            let object = ask.change.object();
            Err(refusal(
                object,
                TARGET_NOT_GRANTED,
                field,
                message,
                fix.to_owned(),
            ))
        };
        if let TargetsOf::Labels(found) = ask.targets {
            if !contains(found, wanted) {
                return refuse("", "the object does not have the labels");
            }
            return Ok(());
        }
        for object in [ask.change.before(), ask.change.after()]
            .into_iter()
            .flatten()
        {
            let kind = object.value.kind();
            let found = if is_policy(kind) {
                self.foreign_target(&object.value, wanted)
            } else if let Some(spec) = routes::spec(&object.value) {
                let namespace = object.value.metadata().namespace.as_deref();
                self.foreign_parent(namespace.unwrap_or_default(), &spec, wanted)
            } else if contains(&object.value.metadata().labels, wanted) {
                None
            } else {
                Some((
                    "metadata.labels".to_owned(),
                    "the object does not have the labels".into(),
                ))
            };
            if let Some((field, what)) = found {
                return refuse(&field, &what);
            }
        }
        Ok(())
    }

    /// The first target of a policy that is not surely one with these labels: its field, and why.
    fn foreign_target(
        &self,
        policy: &Object,
        wanted: &BTreeMap<String, String>,
    ) -> Option<(String, String)> {
        let namespace = policy.metadata().namespace.as_deref().unwrap_or_default();
        let Targeting {
            refs,
            selectors,
            all,
        } = targeting(policy)?;
        if all.is_some() {
            return Some((
                "spec.targetAll".to_owned(),
                "targetAll means every target".to_owned(),
            ));
        }
        for (index, target) in refs.unwrap_or_default().iter().enumerate() {
            if let Some(what) = self.foreign_ref(namespace, target, wanted) {
                return Some((format!("spec.targetRefs[{index}]"), what));
            }
        }
        for (index, selector) in selectors.unwrap_or_default().iter().enumerate() {
            if !is_service(&selector.group, &selector.kind)
                || !contains(&selector.match_labels, wanted)
            {
                let what = "the selector also matches other targets".to_owned();
                return Some((format!("spec.targetSelectors[{index}]"), what));
            }
        }
        None
    }

    /// The first parent of a route that is not surely a Service with these labels.
    fn foreign_parent(
        &self,
        own: &str,
        spec: &HTTPRouteSpec,
        wanted: &BTreeMap<String, String>,
    ) -> Option<(String, String)> {
        for (index, parent) in spec.parent_refs.iter().flatten().enumerate() {
            let namespace = parent.namespace.as_deref().unwrap_or(own);
            let service = self.services.get(&(namespace, parent.name.as_str()));
            if !service.is_some_and(|service| contains(&service.metadata.labels, wanted)) {
                let what = format!(
                    "Service {namespace}/{} does not have the labels",
                    parent.name
                );
                return Some((format!("spec.parentRefs[{index}]"), what));
            }
        }
        None
    }

    fn foreign_ref(
        &self,
        namespace: &str,
        target: &TargetRef,
        wanted: &BTreeMap<String, String>,
    ) -> Option<String> {
        let (kind, name) = (&target.kind, &target.name);
        if !is_service(&target.group, kind) {
            return Some(format!("{kind} {name} is no Service"));
        }
        match self.services.get(&(namespace, name.as_str())) {
            None => Some(format!("Service {namespace}/{name} does not exist")),
            Some(service) if contains(&service.metadata.labels, wanted) => None,
            Some(_) => Some(format!(
                "Service {namespace}/{name} does not have the labels"
            )),
        }
    }
}

fn is_service(group: &str, kind: &str) -> bool {
    group.is_empty() && kind == Kind::Service.as_str()
}

/// The targets of a policy; nothing for the other kinds.
pub(crate) fn targeting(object: &Object) -> Option<Targeting<'_>> {
    match object {
        Object::AccessPolicy(policy) => Some(policy.spec.targeting()),
        Object::FailoverPolicy(policy) => Some(policy.spec.targeting()),
        Object::FaultPolicy(policy) => Some(policy.spec.targeting()),
        Object::RateLimitPolicy(policy) => Some(policy.spec.targeting()),
        Object::RetryTimeoutPolicy(policy) => Some(policy.spec.targeting()),
        Object::GRPCRoute(_)
        | Object::HTTPRoute(_)
        | Object::Mesh(_)
        | Object::Service(_)
        | Object::TCPRoute(_)
        | Object::Workload(_)
        | Object::Workspace(_) => None,
    }
}

/// True if a selector of a policy in `from` finds an object of `kind`.
pub(crate) fn selector_finds(
    world: &World<'_>,
    from: &str,
    selector: &TargetSelector,
    object: &Object,
) -> bool {
    let namespace = object.metadata().namespace.as_deref().unwrap_or_default();
    let inside = match (&selector.namespaces, selector.all_namespaces) {
        (Some(names), _) => names.iter().any(|name| name == namespace),
        (None, Some(true)) => true,
        (None, Some(false) | None) => from == namespace,
    };
    inside
        && world.tenants().may_reach(from, namespace)
        && selector.kind == object.kind().as_str()
        && contains(&object.metadata().labels, &selector.match_labels)
}

//! Every policy with what it applies to and whether it takes part.

use std::sync::Arc;

use tacit_api::{Kind, Located, Object};
use tacit_model::access::Mode;
use tacit_model::finding::Finding;
use tacit_model::status::Reason;
use tacit_model::{Namespace, ObjectRef, PolicyName};

use crate::access::{self, ServicePorts};
use crate::attach::Claim;
use crate::delta::Owner;
use crate::findings::{BROKEN_ACCESS, at, object_ref};
use crate::grants::{Verdict, World};
use crate::judge::Judged;
use crate::targets::{Hit, Resolver, Targets, scope, targeting};

/// One policy.
#[derive(Debug)]
pub(crate) struct Placed<'a> {
    pub(crate) kind: Kind,
    pub(crate) name: PolicyName,
    pub(crate) object: ObjectRef,
    /// The version in force; absent for an AccessPolicy that has none and therefore denies.
    pub(crate) in_force: Option<&'a Located<Object>>,
    /// An AccessPolicy without a version in force.
    pub(crate) broken: Option<Broken>,
    pub(crate) hits: Arc<Vec<Hit>>,
    pub(crate) findings: Vec<Finding>,
}

/// An AccessPolicy that denies because it is not understood.
#[derive(Debug)]
pub(crate) struct Broken {
    /// What callers are told.
    pub(crate) reason: String,
    /// `Audit` if that much could be read: it then only says what it would do.
    pub(crate) mode: Mode,
}

/// Finds the targets of all policies. Those that take no part are left out, their findings are
/// with `judged`.
pub(crate) fn place<'a>(
    judged: &mut [Judged<'a>],
    resolver: &Resolver<'_, 'a>,
    world: &World<'a>,
    ports: &ServicePorts,
) -> Vec<Placed<'a>> {
    let policies = judged.iter_mut().filter(|found| is_policy(found.key.kind));
    policies
        .filter_map(|found| one(found, resolver, world, ports))
        .collect()
}

/// True for the kinds that have targets.
pub(crate) fn is_policy(kind: Kind) -> bool {
    match kind {
        Kind::AccessPolicy
        | Kind::FailoverPolicy
        | Kind::FaultPolicy
        | Kind::RateLimitPolicy
        | Kind::RetryTimeoutPolicy => true,
        Kind::GRPCRoute
        | Kind::HTTPRoute
        | Kind::Mesh
        | Kind::Service
        | Kind::TCPRoute
        | Kind::Workload
        | Kind::Workspace => false,
    }
}

/// One policy; nothing if it takes no part.
pub(crate) fn one<'a>(
    judged: &mut Judged<'a>,
    resolver: &Resolver<'_, 'a>,
    world: &World<'a>,
    ports: &ServicePorts,
) -> Option<Placed<'a>> {
    let object = object_ref(judged.key)?;
    let own = object.namespace.clone()?;
    if let Some(finding) = not_granted(judged, world) {
        judged.findings.push(*finding);
        judged.in_force = None;
        return None;
    }
    reject_opaque(judged, resolver, &own, ports);
    let targets = match judged.in_force {
        Some(version) => resolve(resolver, version, &own),
        None if judged.key.kind == Kind::AccessPolicy => broken_targets(judged, resolver, &own),
        None => return None,
    };
    let broken = match judged.in_force {
        Some(_) => None,
        None => Some(deny(judged)),
    };
    Some(Placed {
        kind: judged.key.kind,
        name: PolicyName::new(own, object.name.clone()),
        object,
        in_force: judged.in_force,
        broken,
        hits: Arc::new(targets.hits),
        findings: targets.findings,
    })
}

/// The finding if the author of an object may no longer have it.
pub(crate) fn not_granted(judged: &Judged<'_>, world: &World<'_>) -> Option<Box<Finding>> {
    let (Owner::Api(author), Some(version)) = (&judged.entry.owner, judged.in_force) else {
        return None;
    };
    match world.may_stay(author, version) {
        Verdict::Allowed => None,
        Verdict::Refused(finding) => Some(finding),
    }
}

/// Takes an AccessPolicy out of force whose conditions cannot be seen at its own targets.
fn reject_opaque(
    judged: &mut Judged<'_>,
    resolver: &Resolver<'_, '_>,
    own: &Namespace,
    ports: &ServicePorts,
) {
    let opaque = |version: &Located<Object>| match &version.value {
        Object::AccessPolicy(policy) => {
            let hits = resolve(resolver, version, own).hits;
            access::opaque_ports(version, &policy.spec, &hits, ports)
        }
        Object::FailoverPolicy(_)
        | Object::FaultPolicy(_)
        | Object::GRPCRoute(_)
        | Object::HTTPRoute(_)
        | Object::Mesh(_)
        | Object::RateLimitPolicy(_)
        | Object::RetryTimeoutPolicy(_)
        | Object::Service(_)
        | Object::TCPRoute(_)
        | Object::Workload(_)
        | Object::Workspace(_) => Vec::new(),
    };
    let found = judged.in_force.map(opaque).unwrap_or_default();
    if !found.is_empty() {
        judged.reject(Reason::Invalid, found, |last| opaque(last).is_empty());
    }
}

fn resolve(resolver: &Resolver<'_, '_>, version: &Located<Object>, own: &Namespace) -> Targets {
    targeting(&version.value)
        .map(|targeting| resolver.resolve(version, own, targeting))
        .unwrap_or_default()
}

/// What an AccessPolicy without a valid version denies: the targets that can be read, as far as
/// they are permitted; everything in its scope if none can.
fn broken_targets(judged: &Judged<'_>, resolver: &Resolver<'_, '_>, own: &Namespace) -> Targets {
    let mut targets = Targets::default();
    let mut readable = true;
    for version in judged.written() {
        let found = resolve(resolver, version, own);
        let names_nothing = found.not_found || found.not_permitted || found.selects_nothing;
        readable &= !found.hits.is_empty() || names_nothing;
        targets.hits.extend(found.hits);
    }
    if judged.written().is_empty() || !readable {
        targets.hits = resolver.everything(own).into_iter().collect();
    }
    targets
}

/// Says that an AccessPolicy denies, and gives the reason that callers are told.
fn deny(judged: &mut Judged<'_>) -> Broken {
    let why = judged.problem.as_ref().map_or("", |(_, message)| message);
    let reason = format!("{} has no valid version: {why}", judged.key);
    let written = judged.written();
    let audits = |version: &&Located<Object>| match &version.value {
        Object::AccessPolicy(policy) => access::mode(&policy.spec) == Mode::Audit,
        Object::FailoverPolicy(_)
        | Object::FaultPolicy(_)
        | Object::GRPCRoute(_)
        | Object::HTTPRoute(_)
        | Object::Mesh(_)
        | Object::RateLimitPolicy(_)
        | Object::RetryTimeoutPolicy(_)
        | Object::Service(_)
        | Object::TCPRoute(_)
        | Object::Workload(_)
        | Object::Workspace(_) => false,
    };
    let (mode, message) = if !written.is_empty() && written.iter().all(audits) {
        (
            Mode::Audit,
            "it has no valid version, and denies nothing since its mode is Audit",
        )
    } else {
        (
            Mode::Enforce,
            "it has no valid version, so it denies all calls to its targets",
        )
    };
    let message = message.to_owned();
    let finding = match judged.written().first() {
        Some(version) => at(version, BROKEN_ACCESS, "", message, None),
        None => Finding {
            code: BROKEN_ACCESS.code.into(),
            severity: BROKEN_ACCESS.severity,
            object: object_ref(judged.key),
            field: "".into(),
            position: judged
                .findings
                .first()
                .and_then(|finding| finding.position.clone()),
            message,
            fix: BROKEN_ACCESS.fix.to_owned(),
            snippet: None,
        },
    };
    judged.findings.push(finding);
    Broken { reason, mode }
}

impl Placed<'_> {
    /// What decides its rank.
    pub(crate) fn claim(&self, resolver: &Resolver<'_, '_>) -> Option<Claim> {
        let scope = scope(resolver.tenants, &self.name.namespace);
        let (enforcement, priority, has_from) = match &self.in_force?.value {
            Object::RetryTimeoutPolicy(policy) => {
                let spec = &policy.spec;
                (spec.enforcement, spec.priority, spec.from.is_some())
            }
            Object::FailoverPolicy(policy) => {
                (policy.spec.enforcement, policy.spec.priority, false)
            }
            Object::FaultPolicy(policy) => {
                let spec = &policy.spec;
                (spec.enforcement, spec.priority, spec.from.is_some())
            }
            Object::RateLimitPolicy(policy) => {
                (policy.spec.enforcement, policy.spec.priority, false)
            }
            Object::AccessPolicy(_)
            | Object::GRPCRoute(_)
            | Object::HTTPRoute(_)
            | Object::Mesh(_)
            | Object::Service(_)
            | Object::TCPRoute(_)
            | Object::Workload(_)
            | Object::Workspace(_) => return None,
        };
        Some(Claim {
            object: self.object.clone(),
            scope,
            enforcement,
            priority,
            has_from,
        })
    }
}

//! Which version of each object is in force: what is written if it is valid, else the last good.

use tacit_api::{Kind, Located, Object, ObjectKey};
use tacit_model::finding::{Finding, Severity};
use tacit_model::names::InvalidName;
use tacit_model::status::Reason;
use tacit_model::{Name, Namespace};

use crate::compile::Instead;
use crate::delta::Written;
use crate::findings::{
    BAD_NAME, DUPLICATE_OBJECT, NOT_SUPPORTED, Report, SECOND_MESH, at, of_syntax,
};
use crate::mesh::{self, Settings};
use crate::state::{Entry, Inputs};
use crate::supported::unsupported;
use crate::workspace::DEFAULT_CLUSTER;
use crate::{
    access, endpoints, failover, fault, grants, rate_limit, retry_timeout, routes, values,
};

/// One object with the version that counts.
#[derive(Debug)]
pub(crate) struct Judged<'a> {
    pub(crate) key: &'a ObjectKey,
    pub(crate) entry: &'a Entry,
    /// The version in force, if any.
    pub(crate) in_force: Option<&'a Located<Object>>,
    /// Why the written version is not in force.
    pub(crate) problem: Option<(Reason, String)>,
    pub(crate) findings: Vec<Finding>,
    /// True if it was in force by itself, and is not for what its targets are.
    rejected: bool,
}

impl<'a> Judged<'a> {
    /// True if the written version is valid.
    pub(crate) fn is_good(&self) -> bool {
        self.problem.is_none()
    }

    /// What is in force if not what is written.
    pub(crate) fn instead(&self) -> Option<Instead> {
        match (self.is_good(), self.in_force) {
            (true, _) => None,
            (false, Some(_)) => Some(Instead::LastGood),
            (false, None) if self.rejected => Some(Instead::Rejected),
            (false, None) => Some(Instead::Nothing),
        }
    }

    /// True if an earlier version is in force.
    pub(crate) fn last_good_in_force(&self) -> bool {
        self.in_force.is_some() && !self.is_good()
    }

    /// The versions that are written, valid or not: none if they could not be read.
    pub(crate) fn written(&self) -> Vec<&'a Located<Object>> {
        match &self.entry.written {
            Written::Duplicate(objects) => objects.iter().collect(),
            Written::Ok(object) => vec![object],
            Written::Unparsable(_) => Vec::new(),
        }
    }

    /// Says that the written version is not in force after all, and why. Its last good version,
    /// if `last_good` finds it usable, takes its place.
    pub(crate) fn reject(
        &mut self,
        reason: Reason,
        findings: Vec<Finding>,
        usable: impl Fn(&Located<Object>) -> bool,
    ) {
        let message = first_error(&findings);
        self.findings.extend(findings);
        self.problem = Some((reason, message));
        self.rejected = true;
        let last_good = self.entry.last_good.as_deref();
        self.in_force = last_good.filter(|last| usable(last));
    }
}

/// Judges every object, in the order of keys. The Mesh comes first, since the others are checked
/// by its settings.
pub(crate) fn judge(inputs: &Inputs) -> (Vec<Judged<'_>>, Option<Settings<'_>>) {
    let meshes = inputs.objects.range(first_mesh()..);
    let meshes = meshes.take_while(|(key, _)| key.kind == Kind::Mesh);
    let meshes = meshes.map(|(key, entry)| one(key, entry, DEFAULT_CLUSTER));
    let mut meshes: Vec<Judged<'_>> = meshes.collect();
    let mesh = the_mesh(&mut meshes);
    let settings = mesh::settings(mesh, inputs.nodes.values());
    let cluster = settings
        .as_ref()
        .map_or(DEFAULT_CLUSTER, |s| &s.row.cluster);
    let mut judged = Vec::with_capacity(inputs.objects.len());
    let mut meshes = meshes.into_iter();
    for (key, entry) in &inputs.objects {
        if key.kind == Kind::Mesh {
            judged.extend(meshes.next());
        } else {
            judged.push(one(key, entry, cluster));
        }
    }
    (judged, settings)
}

/// A key before those of all Meshes.
fn first_mesh() -> ObjectKey {
    ObjectKey {
        kind: Kind::Mesh,
        namespace: None,
        name: String::new(),
    }
}

/// The one Mesh that counts: named `default`, else the first.
fn the_mesh<'a>(judged: &mut [Judged<'a>]) -> Option<&'a Located<Object>> {
    let named = judged.iter().position(|mesh| mesh.key.name == "default");
    let chosen = named.or_else(|| judged.iter().position(|mesh| mesh.in_force.is_some()))?;
    for (index, mesh) in judged.iter_mut().enumerate() {
        if index == chosen {
            continue;
        }
        let message = "there is another Mesh, which counts".to_owned();
        let found = mesh
            .in_force
            .map(|object| at(object, SECOND_MESH, "", message.clone(), None));
        mesh.findings.extend(found);
        mesh.problem = Some((Reason::Conflicted, message));
        mesh.in_force = None;
    }
    judged.get(chosen)?.in_force
}

/// Judges one object; not a Mesh, of which only one counts.
pub(crate) fn one<'a>(key: &'a ObjectKey, entry: &'a Entry, cluster: &str) -> Judged<'a> {
    let (findings, problem) = match &entry.written {
        Written::Ok(object) => {
            let findings = validate(object, cluster);
            let problem = problem(&findings);
            (findings, problem)
        }
        Written::Duplicate(objects) => {
            let findings = duplicates(objects);
            let message = first_error(&findings);
            (findings, Some((Reason::Conflicted, message)))
        }
        Written::Unparsable(errors) => {
            let of_object = errors.iter().filter(|error| error.object.is_some());
            let findings: Vec<Finding> = of_object.map(of_syntax).collect();
            let first = errors.first().map_or_else(
                || "it could not be read".to_owned(),
                |error| format!("{}: {}", error.position, error.message),
            );
            (findings, Some((Reason::Invalid, first)))
        }
    };
    let in_force = match (&problem, &entry.written) {
        (None, Written::Ok(object)) => Some(object.as_ref()),
        // A version that was good for an earlier release of this program may not be so now.
        _ => entry
            .last_good
            .as_deref()
            .filter(|last| problem_of(last, cluster).is_none()),
    };
    Judged {
        key,
        entry,
        in_force,
        problem,
        findings,
        rejected: false,
    }
}

fn problem_of(object: &Located<Object>, cluster: &str) -> Option<(Reason, String)> {
    problem(&validate(object, cluster))
}

/// Why findings keep an object out of force, if they do.
fn problem(findings: &[Finding]) -> Option<(Reason, String)> {
    let errors = || {
        findings
            .iter()
            .filter(|finding| finding.severity == Severity::Error)
    };
    let first = errors().next()?;
    let only_unsupported = errors().all(|error| &*error.code == NOT_SUPPORTED.code);
    let reason = if only_unsupported {
        Reason::NotSupported
    } else {
        Reason::Invalid
    };
    Some((reason, first.message.clone()))
}

fn first_error(findings: &[Finding]) -> String {
    let error = findings
        .iter()
        .find(|finding| finding.severity == Severity::Error);
    error.map_or_else(String::new, |error| error.message.clone())
}

/// One finding for each of them, which names the place of another.
fn duplicates(objects: &[Located<Object>]) -> Vec<Finding> {
    let places: Vec<String> = objects
        .iter()
        .map(|object| object.find("metadata.name").0.to_string())
        .collect();
    let others = |index: usize| {
        let others = places
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != index);
        others
            .map(|(_, place)| place.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    };
    let finding = |(index, object): (usize, &Located<Object>)| {
        let message = format!(
            "{} is also written at {}",
            object.value.key(),
            others(index)
        );
        at(object, DUPLICATE_OBJECT, "metadata.name", message, None)
    };
    objects.iter().enumerate().map(finding).collect()
}

/// Why one object by itself could not be in force; none if it could.
#[must_use]
pub fn problems(object: &Located<Object>, cluster: &str) -> Vec<Finding> {
    let mut findings = validate(object, cluster);
    findings.retain(|finding| finding.severity == Severity::Error);
    findings
}

/// Checks one object by itself. Errors keep it out of force.
fn validate(object: &Located<Object>, cluster: &str) -> Vec<Finding> {
    let mut report = Report::new(object);
    names(&mut report, object);
    for found in unsupported(&object.value, cluster) {
        let message = format!("{} is not supported by this version", found.what);
        report.say(NOT_SUPPORTED, &found.field, message);
    }
    let mut findings = report.findings;
    findings.extend(match &object.value {
        Object::AccessPolicy(policy) => access::validate(object, &policy.spec),
        Object::FailoverPolicy(policy) => failover::validate(object, &policy.spec),
        Object::GRPCRoute(route) => routes::validate_grpc(object, &route.spec),
        Object::HTTPRoute(route) => routes::validate(object, &route.spec),
        Object::Mesh(mesh) => mesh::validate(object, &mesh.spec),
        Object::FaultPolicy(policy) => fault::validate(object, &policy.spec),
        Object::RateLimitPolicy(policy) => rate_limit::validate(object, &policy.spec),
        Object::RetryTimeoutPolicy(policy) => retry_timeout::validate(object, &policy.spec),
        Object::Service(service) => endpoints::validate_service(object, &service.spec),
        Object::TCPRoute(route) => routes::validate_tcp(object, &route.spec),
        Object::Workload(workload) => endpoints::validate_workload(object, &workload.spec),
        Object::Workspace(workspace) => {
            let mut report = Report::new(object);
            if let Some(defaults) = &workspace.spec.defaults {
                retry_timeout::validate_defaults(&mut report, defaults);
                failover::validate_defaults(&mut report, defaults);
            }
            report.findings.extend(grants::validate(object));
            report.findings
        }
    });
    findings
}

const SERVICE_NAME: &str = "the name of a Service (lower-case letters, digits and '-')";

fn names(report: &mut Report<'_>, object: &Located<Object>) {
    let metadata = object.value.metadata();
    let name: Option<InvalidName> = match object.value.kind() {
        // It is a label of a DNS name.
        Kind::Service => Namespace::check(&metadata.name)
            .err()
            .map(|error| InvalidName {
                expected: SERVICE_NAME,
                ..error
            }),
        Kind::AccessPolicy
        | Kind::FailoverPolicy
        | Kind::FaultPolicy
        | Kind::GRPCRoute
        | Kind::HTTPRoute
        | Kind::Mesh
        | Kind::RateLimitPolicy
        | Kind::RetryTimeoutPolicy
        | Kind::TCPRoute
        | Kind::Workload
        | Kind::Workspace => Name::check(&metadata.name).err(),
    };
    values::labels(report, "metadata.labels", &metadata.labels);
    let namespace = metadata.namespace.as_deref().map(Namespace::check);
    let namespace = namespace.and_then(Result::err);
    for (field, error) in [("metadata.name", name), ("metadata.namespace", namespace)] {
        if let Some(error) = error {
            report.say(BAD_NAME, field, error.to_string());
        }
    }
}

//! Compiles a change in work that grows with what it touches, where that can be bounded.
//!
//! Workloads, their readiness and their published ports change all the time; policies change when
//! people write. What this does not know how to bound it leaves: then everything is compiled,
//! which gives the same.

use std::sync::Arc;

use tacit_api::{Kind, Located, Object, ObjectKey};
use tacit_model::finding::{Finding, Severity};
use tacit_model::status::ObjectStatus;
use tacit_model::{ObjectRef, Row, RowKey, Tables};

use crate::compile::Compiled;
use crate::judge::Judged;
use crate::mesh::Settings;
use crate::policies::is_policy;
use crate::state::{Entry, Inputs};

mod access;
mod policies;
mod resilience;
mod workloads;

/// An object that is touched, and whether it was there before.
type Touched = (ObjectKey, bool);

/// What follows `before` when only these objects have changed, if that can be bounded.
pub(crate) fn narrow(inputs: &Inputs, before: &Compiled, touched: &[Touched]) -> Option<Compiled> {
    let is_workload = |found: &&Touched| found.0.kind == Kind::Workload;
    let (workloads, others): (Vec<_>, Vec<_>) = touched.iter().partition(is_workload);
    if !others.iter().all(|(key, _)| is_policy(key.kind)) {
        return None;
    }
    let settings = settings(inputs, before)?;
    // Workloads are made of Services, and policies of both: nothing of workloads reads policies.
    let mut next = match workloads.is_empty() {
        true => before.clone(),
        false => workloads::narrow(inputs, before, &workloads, &settings)?,
    };
    policies::narrow(inputs, &mut next, &others, &settings)?;
    Some(next)
}

/// The settings that are in force, which neither workloads nor policies change.
fn settings<'i>(inputs: &'i Inputs, before: &Compiled) -> Option<Settings<'i>> {
    let Some(Row::Mesh(row)) = before.tables.0.get(&RowKey::Mesh) else {
        return None;
    };
    let object = match &before.kept.mesh {
        Some(key) => Some(in_force(inputs, before, key)?),
        None => None,
    };
    Some(Settings::again(row, object))
}

/// The version in force of an object that the change does not touch.
fn in_force<'i>(
    inputs: &'i Inputs,
    before: &Compiled,
    key: &ObjectKey,
) -> Option<&'i Located<Object>> {
    before.in_force(key, inputs.objects.get(key)?)
}

/// The objects in force of one kind and namespace, likewise.
fn objects_in<'i>(
    inputs: &'i Inputs,
    before: &Compiled,
    kind: Kind,
    namespace: Option<&str>,
) -> impl Iterator<Item = &'i Located<Object>> {
    let there = entries_in(inputs, kind, namespace);
    there.filter_map(|(key, entry)| before.in_force(key, entry))
}

/// All objects of one kind and namespace, which stand together.
fn entries_in<'i>(
    inputs: &'i Inputs,
    kind: Kind,
    namespace: Option<&str>,
) -> impl Iterator<Item = (&'i ObjectKey, &'i Entry)> {
    let first = ObjectKey {
        kind,
        namespace: namespace.map(str::to_owned),
        name: String::new(),
    };
    let there = inputs.objects.range(first..);
    there
        .take_while(move |(key, _)| key.kind == kind && key.namespace.as_deref() == namespace)
        .map(|(key, entry)| (key, &**entry))
}

/// Notes which version of an object is in force.
fn note(next: &mut Compiled, key: &ObjectKey, judged: Option<&Judged<'_>>) {
    match judged.and_then(Judged::instead) {
        Some(instead) => drop(next.instead.insert(key.clone(), instead)),
        None => drop(next.instead.remove(key)),
    }
}

/// Puts a row into the tables, unless the same is there.
fn put(tables: &mut Tables, row: Row) {
    let key = row.key();
    if tables.0.get(&key) != Some(&row) {
        tables.0.insert(key, row);
    }
}

/// Writes down what there is to say about an object; nothing if it is gone.
fn said(next: &mut Compiled, object: ObjectRef, said: Option<(Vec<Finding>, ObjectStatus)>) {
    let (findings, status) = match said {
        Some((findings, status)) => (findings, Some(status)),
        None => (Vec::new(), None),
    };
    match status.filter(|status| !status.is_plain()) {
        Some(status) => drop(next.statuses.insert(object.clone(), Arc::new(status))),
        None => drop(next.statuses.remove(&object)),
    }
    match findings.is_empty() {
        true => drop(next.findings.remove(&Some(object))),
        false => drop(next.findings.insert(Some(object), Arc::new(findings))),
    }
}

/// The first error of findings that are sorted.
fn first_error(findings: &[Finding]) -> Option<&Finding> {
    let mut findings = findings.iter();
    findings.find(|found| found.severity == Severity::Error)
}

#[cfg(test)]
mod tests;

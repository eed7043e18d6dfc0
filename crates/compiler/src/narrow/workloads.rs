//! A change of workloads alone. In order: judge, give addresses, make rows, make classes, count
//! endpoints.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use tacit_api::{Kind, ObjectKey};
use tacit_model::finding::Finding;
use tacit_model::tables::{Protocol, WorkloadRow};
use tacit_model::{Namespace, Row, RowKey, WorkloadName};

use crate::compile::{Compiled, Instead, sort};
use crate::endpoints::{Allocators, Shared, address_problem, may_be_hosted, on_node, workload_row};
use crate::findings::{RANGE_FULL, at, object_ref};
use crate::index::{Index, Mentioned, WorkloadEntry, class_row, workload};
use crate::judge::{Judged, one};
use crate::mesh::Settings;
use crate::narrow::{Touched, first_error, note, objects_in};
use crate::state::{Inputs, workload_name};
use crate::status::plain;
use crate::{access, watch};

/// Services by namespace.
type Indexes<'i> = BTreeMap<Namespace, Index<'i>>;

/// One workload that is touched.
struct Subject<'i> {
    key: &'i ObjectKey,
    name: WorkloadName,
    /// True if a version was in force before.
    was: bool,
    judged: Option<Judged<'i>>,
    entry: Option<WorkloadEntry<'i>>,
    old: Option<Arc<WorkloadRow>>,
    new: Option<Arc<WorkloadRow>>,
    /// Findings that are not of its text alone.
    findings: Vec<Finding>,
}

/// What follows `before` when only these workloads have changed, if that can be bounded.
pub(super) fn narrow(
    inputs: &Inputs,
    before: &Compiled,
    touched: &[&Touched],
    settings: &Settings<'_>,
) -> Option<Compiled> {
    let mut next = before.clone();
    let mut subjects = judge(inputs, before, touched, settings)?;
    spaces(&mut next, &subjects)?;
    let given = addresses(before, &mut next, &mut subjects, settings)?;
    let spaces: BTreeSet<&Namespace> = subjects.iter().map(|s| &s.name.namespace).collect();
    let indexes = spaces.into_iter();
    let services = |name: &'_ Namespace| {
        let name = Some(name.as_str());
        Index::new(
            objects_in(inputs, before, Kind::Service, name),
            &inputs.nodes,
        )
    };
    let indexes = indexes.map(|name| (name.clone(), services(name)));
    let indexes: Indexes<'_> = indexes.collect();
    rows(
        inputs,
        &mut next,
        &mut subjects,
        settings,
        (&indexes, &given),
    )?;
    if subjects
        .iter()
        .any(|subject| reaches_policies(before, subject))
    {
        return None;
    }
    for subject in &subjects {
        classes(&mut next, subject, indexes.get(&subject.name.namespace)?);
        said(&mut next, subject);
    }
    // Also where the row is the same: that a node has reported at all counts, too.
    let rows = subjects
        .iter()
        .flat_map(|subject| subject.old.iter().chain(&subject.new));
    watch::count(
        inputs,
        before,
        &mut next,
        &rows.cloned().collect::<Vec<_>>(),
    )?;
    Some(next)
}

fn judge<'i>(
    inputs: &'i Inputs,
    before: &Compiled,
    touched: &[&'i Touched],
    settings: &Settings<'_>,
) -> Option<Vec<Subject<'i>>> {
    let subject = |(key, was): &&'i Touched| {
        let name = workload_name(key).filter(|_| key.kind == Kind::Workload)?;
        let old = match before.tables.0.get(&RowKey::Workload(name.clone())) {
            Some(Row::Workload(row)) => Some(row.clone()),
            Some(_) | None => None,
        };
        let entry = inputs.objects.get(key);
        let judged = entry.map(|entry| one(key, entry, &settings.row.cluster));
        let entry = judged
            .as_ref()
            .and_then(|judged| workload(judged.in_force?, &inputs.nodes));
        Some(Subject {
            key,
            name,
            was: *was && before.instead.get(key) != Some(&Instead::Nothing),
            judged,
            entry,
            old,
            new: None,
            findings: Vec::new(),
        })
    };
    touched.iter().map(subject).collect()
}

/// Notes which versions are in force. A namespace that appears or goes is for everything.
fn spaces(next: &mut Compiled, subjects: &[Subject<'_>]) -> Option<()> {
    for subject in subjects {
        note(next, subject.key, subject.judged.as_ref());
        let (was, is) = (subject.was, subject.entry.is_some());
        let count = next.kept.spaces.get_mut(&subject.name.namespace)?;
        *count = count
            .checked_add(usize::from(is))?
            .checked_sub(usize::from(was))?;
        if *count == 0 {
            return None;
        }
    }
    Some(())
}

/// Gives addresses: first the written ones, then those that were given before, then new ones.
fn addresses(
    before: &Compiled,
    next: &mut Compiled,
    subjects: &mut [Subject<'_>],
    settings: &Settings<'_>,
) -> Option<BTreeMap<WorkloadName, IpAddr>> {
    for subject in subjects.iter() {
        if let Some(row) = &subject.old {
            next.kept.remove(row);
        }
        next.addresses.workloads.remove(&subject.name);
    }
    let mut holders = next.kept.holders.clone();
    let mut given = BTreeMap::new();
    let mut unwritten = Vec::new();
    for subject in subjects.iter_mut() {
        let Some(entry) = &subject.entry else {
            continue;
        };
        if let Err(finding) = may_be_hosted(&subject.name, entry) {
            subject.findings.push(*finding);
            continue;
        }
        let Some(address) = entry.address else {
            unwritten.push(subject);
            continue;
        };
        if let Some((code, message)) = address_problem(address, settings) {
            let finding = at(entry.object, code, "spec.address", message, None);
            subject.findings.push(finding);
            continue;
        }
        // Who of the two gets it, and where the other one goes, is for everything.
        if holders.insert(address).is_some() {
            return None;
        }
        given.insert(subject.name.clone(), address);
    }
    let had = |name: &WorkloadName| before.addresses.workloads.get(name).copied();
    unwritten.sort_by_key(|subject| had(&subject.name).is_none());
    let mut allocators = Allocators::new();
    for subject in unwritten {
        let (Some(entry), name) = (&subject.entry, &subject.name) else {
            continue;
        };
        match on_node(entry, &holders, &mut allocators, (name, had(name))) {
            Ok(address) => {
                next.addresses.workloads.insert(name.clone(), address);
                given.insert(name.clone(), address);
            }
            Err(finding) if *finding.code == *RANGE_FULL.code => return None,
            Err(finding) => subject.findings.push(*finding),
        }
    }
    let stays = |subject: &Subject<'_>| {
        let old = subject.old.as_ref().map(|row| row.address);
        old == given.get(&subject.name).copied()
    };
    // An address that is free now may be what another one waits for.
    if before.kept.disputed && !subjects.iter().all(stays) {
        return None;
    }
    Some(given)
}

/// Makes the rows. A port that disagrees with a Service is a finding about the Service.
fn rows(
    inputs: &Inputs,
    next: &mut Compiled,
    subjects: &mut [Subject<'_>],
    settings: &Settings<'_>,
    (indexes, given): (&Indexes<'_>, &BTreeMap<WorkloadName, IpAddr>),
) -> Option<()> {
    let mentioned = Mentioned(next.kept.mentioned.clone());
    let mut shared = Shared::new(&mentioned);
    for subject in subjects {
        if next.kept.troubled.contains(&subject.name) {
            return None;
        }
        let (Some(entry), Some(address)) = (&subject.entry, given.get(&subject.name)) else {
            continue;
        };
        let index = indexes.get(&subject.name.namespace)?;
        let name = &subject.name;
        let (row, found) = workload_row(
            index,
            (name, entry),
            &mut shared,
            *address,
            settings,
            inputs,
        )?;
        if !found.is_empty() {
            return None;
        }
        next.kept.add(&row);
        let same = subject.old.as_ref().filter(|old| ***old == row).cloned();
        subject.new = Some(same.unwrap_or_else(|| Arc::new(row)));
    }
    Some(())
}

/// True if a status or a finding of a policy may change: of those that list workloads by labels,
/// and of those that say which port hides what they look at.
fn reaches_policies(before: &Compiled, subject: &Subject<'_>) -> bool {
    let (old, new) = (subject.old.as_deref(), subject.new.as_deref());
    let selectors = before.kept.selectors.get(&subject.name.namespace);
    let mut selectors = selectors.into_iter().flat_map(|found| found.iter());
    let is =
        |row: Option<&WorkloadRow>, labels| row.is_some_and(|row| row.class.labels.contain(labels));
    // Without a row there are no labels to compare.
    let hidden = subject.was && old.is_none() || subject.entry.is_some() && new.is_none();
    if selectors.any(|(_, labels)| hidden || is(old, labels) != is(new, labels)) {
        return true;
    }
    let same = |row: &WorkloadRow, other: &WorkloadRow| {
        row.class == other.class && row.ports == other.ports
    };
    if old.zip(new).is_some_and(|(old, new)| same(old, new)) {
        return false;
    }
    let hides = |row: &&WorkloadRow| row.ports.iter().any(|port| port.protocol == Protocol::Tcp);
    let mut rows = old.into_iter().chain(new).filter(hides);
    rows.any(|row| {
        let mut hits = before.kept.opaque.values().flat_map(|hits| hits.iter());
        hits.any(|hit| access::covers(hit, &row.class))
    })
}

/// Puts the row into the tables, and the rows of classes that begin or end with it.
fn classes(next: &mut Compiled, subject: &Subject<'_>, index: &Index<'_>) {
    let key = RowKey::Workload(subject.name.clone());
    let tables = &mut next.tables.0;
    match &subject.new {
        Some(row) => drop(tables.insert(key, Row::Workload(row.clone()))),
        None => drop(tables.remove(&key)),
    }
    if let Some(old) = &subject.old
        && !next.kept.classes.contains_key(&*old.class)
    {
        tables.remove(&RowKey::Class(old.class.clone()));
    }
    let Some(new) = &subject.new else {
        return;
    };
    let key = RowKey::Class(new.class.clone());
    if tables.contains_key(&key) {
        return;
    }
    let mut class = class_row(new.class.clone(), index);
    class
        .services
        .retain(|service| tables.contains_key(&RowKey::Service(service.clone())));
    for (policy, hits) in next.access_over(&new.class.namespace) {
        access::attach_to(&mut class, policy, hits);
    }
    next.tables.0.insert(key, Row::Class(Arc::new(class)));
}

/// What there is to say about the workload itself.
fn said(next: &mut Compiled, subject: &Subject<'_>) {
    let Some(object) = object_ref(subject.key) else {
        return;
    };
    let said = subject.judged.as_ref().map(|judged| {
        let mut findings = judged.findings.clone();
        findings.extend(subject.findings.iter().cloned());
        sort(&mut findings);
        let status = plain(judged, object.clone(), first_error(&findings));
        (findings, status)
    });
    super::said(next, object, said);
}

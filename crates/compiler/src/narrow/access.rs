//! AccessPolicies that have changed: their rows, and the classes that they apply to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tacit_api::{Kind, ObjectKey};
use tacit_model::tables::{ClassRow, WorkloadRow};
use tacit_model::{Namespace, PolicyName, Row, RowKey, ServiceName};

use crate::access;
use crate::armed::Map;
use crate::compile::{Compiled, access_row, selector};
use crate::findings::object_ref;
use crate::index::{Classifier, Mentioned, class_row};
use crate::judge::Judged;
use crate::kept::looks_at_requests;
use crate::narrow::policies::Change;
use crate::narrow::{note, put, said};
use crate::policies::Placed;
use crate::services::Services;
use crate::status::Facts;
use crate::targets::Hit;

/// One policy that is touched.
struct Subject<'i> {
    key: &'i ObjectKey,
    name: PolicyName,
    judged: Option<Judged<'i>>,
    placed: Option<Placed<'i>>,
    /// What it applied to, and what it applies to now.
    before: Arc<Vec<Hit>>,
    after: Arc<Vec<Hit>>,
}

/// Compiles `next` on, where only these policies have changed.
pub(super) fn narrow(change: &Change<'_>, next: &mut Compiled) -> Option<()> {
    let keys = change.keys.iter().copied();
    let keys = keys.filter(|key| key.kind == Kind::AccessPolicy);
    let subjects: Option<Vec<Subject<'_>>> = keys.map(|key| place(change, next, key)).collect();
    let subjects = subjects?;
    let selects = |found: &Subject<'_>| {
        let mut hits = found.before.iter().chain(found.after.iter());
        hits.any(is_selector)
    };
    // What is mentioned first, or no longer, makes other classes of the same workloads.
    if subjects.iter().any(selects) && mention(change, next) {
        reclass(change, next);
    }
    for subject in &subjects {
        attach(next, subject);
        tell(change, next, subject)?;
    }
    Some(())
}

/// Judges and places one policy, and notes what it applies to.
fn place<'i>(change: &Change<'i>, next: &mut Compiled, key: &'i ObjectKey) -> Option<Subject<'i>> {
    let name = PolicyName::new(change.namespace.clone(), key.name.as_str().try_into().ok()?);
    let (judged, placed) = change.judged(key);
    let requests = placed.as_ref().filter(|placed| looks_at_requests(placed));
    // Which port hides requests depends on the workloads of all that it reaches.
    if change.wide && requests.is_some() {
        return None;
    }
    match requests {
        Some(placed) => drop(next.kept.opaque.insert(name.clone(), placed.hits.clone())),
        None => drop(next.kept.opaque.remove(&name)),
    }
    let after = placed.as_ref().map(|placed| placed.hits.clone());
    let before = match &after {
        Some(after) => next.access_targets.insert(name.clone(), after.clone()),
        None => next.access_targets.remove(&name),
    };
    let (before, after) = (before.unwrap_or_default(), after.unwrap_or_default());
    // Workloads of other namespaces would be told apart anew.
    let mut selected = before.iter().filter_map(selector).flat_map(|(to, _)| to);
    if selected.any(|to| *to != change.namespace) {
        return None;
    }
    select(next, &name, &before, &after);
    Some(Subject {
        key,
        name,
        judged,
        placed,
        before,
        after,
    })
}

/// Writes its row, and what there is to say about it.
fn tell(change: &Change<'_>, next: &mut Compiled, subject: &Subject<'_>) -> Option<()> {
    let object = object_ref(subject.key)?;
    note(next, subject.key, subject.judged.as_ref());
    match &subject.placed {
        Some(placed) => put(&mut next.tables, Row::Access(Arc::new(access_row(placed)))),
        None => drop(next.tables.0.remove(&RowKey::Access(subject.name.clone()))),
    }
    let looks = subject.placed.as_ref().is_some_and(looks_at_requests);
    let rows = match looks || subject.after.iter().any(is_selector) {
        true => next
            .tables
            .workloads_in(&change.namespace)
            .cloned()
            .collect(),
        false => Vec::new(),
    };
    let about = subject.judged.as_ref().map(|judged| {
        let facts = Facts {
            judged: &[],
            placed: &[],
            services: &Services::default(),
            workloads: &rows,
            map: &Map::of(BTreeMap::new(), BTreeSet::new(), &change.inputs.ready),
            exists: &|name| next.tables.service(name).is_some(),
        };
        change.said(&facts, judged, object.clone(), subject.placed.as_ref())
    });
    said(next, object, about);
    Some(())
}

fn is_selector(hit: &Hit) -> bool {
    selector(hit).is_some()
}

/// Notes what a policy selects workloads by.
fn select(next: &mut Compiled, policy: &PolicyName, before: &[Hit], after: &[Hit]) {
    let known = &mut next.kept.selectors;
    for namespace in before.iter().filter_map(selector).flat_map(|(to, _)| to) {
        let Some(found) = known.get_mut(namespace) else {
            continue;
        };
        let found = Arc::make_mut(found);
        found.retain(|(name, _)| name != policy);
        if found.is_empty() {
            known.remove(namespace);
        }
    }
    for (namespaces, labels) in after.iter().filter_map(selector) {
        for namespace in namespaces {
            let found = Arc::make_mut(known.entry(namespace.clone()).or_default());
            let at = found.partition_point(|(name, _)| name <= policy);
            found.insert(at, (policy.clone(), labels.clone()));
        }
    }
}

/// Notes which labels selectors of the namespace mention; true if these are others than before.
fn mention(change: &Change<'_>, next: &mut Compiled) -> bool {
    let namespaces = BTreeSet::from([change.namespace.clone()]);
    let selectors = next.kept.selectors.get(&change.namespace);
    let selectors = selectors.into_iter().flat_map(|found| found.iter());
    let selectors = selectors.map(|(_, labels)| (&namespaces, labels));
    let mentioned = Mentioned::new(&change.mesh.index, selectors).0;
    let known = &mut next.kept.mentioned;
    let now = mentioned.get(&change.namespace);
    if known.get(&change.namespace) == now {
        return false;
    }
    match now {
        Some(now) => drop(known.insert(change.namespace.clone(), now.clone())),
        None => drop(known.remove(&change.namespace)),
    }
    true
}

/// Puts the workloads of the namespace into the classes that are mentioned now.
fn reclass(change: &Change<'_>, next: &mut Compiled) {
    let mentioned = Mentioned(next.kept.mentioned.clone());
    let mut classifier = Classifier::new(&mentioned);
    let index = &change.mesh.index;
    let rows: Vec<Arc<WorkloadRow>> = next
        .tables
        .workloads_in(&change.namespace)
        .cloned()
        .collect();
    let classes = next.tables.classes_in(&change.namespace);
    let classes: Vec<RowKey> = classes.map(|row| RowKey::Class(row.key.clone())).collect();
    for row in rows {
        let Some(entry) = index.workload(&row.name) else {
            continue;
        };
        let class = classifier.class(&row.name, entry);
        if class != row.class {
            next.kept.remove(&row);
            let row = WorkloadRow {
                class,
                ..WorkloadRow::clone(&row)
            };
            next.kept.add(&row);
            put(&mut next.tables, Row::Workload(Arc::new(row)));
        }
    }
    for key in classes {
        next.tables.0.remove(&key);
    }
    let over = next.access_over(&change.namespace);
    let made = next.kept.classes_in(&change.namespace).map(|(key, _)| {
        let mut class = class_row(key.clone(), index);
        let is_there = |name: &ServiceName| next.tables.service(name).is_some();
        class.services.retain(is_there);
        for (policy, hits) in &over {
            access::attach_to(&mut class, policy, hits);
        }
        class
    });
    let made: Vec<ClassRow> = made.collect();
    for class in made {
        let key = RowKey::Class(class.key.clone());
        next.tables.0.insert(key, Row::Class(Arc::new(class)));
    }
}

/// Attaches a policy to the classes that it applies to now, and to no others.
fn attach(next: &mut Compiled, moved: &Subject<'_>) {
    let hits = moved.before.iter().chain(moved.after.iter());
    let concerned: BTreeSet<&Namespace> = hits.flat_map(access::namespaces_of).collect();
    let mut changed = Vec::new();
    for class in concerned
        .iter()
        .flat_map(|name| next.tables.classes_in(name))
    {
        let mut attached = ClassRow {
            access: Vec::new(),
            ..ClassRow::clone(class)
        };
        access::attach_to(&mut attached, &moved.name, &moved.after);
        let first = class
            .access
            .partition_point(|other| other.policy < moved.name);
        let end = class
            .access
            .partition_point(|other| other.policy <= moved.name);
        if class.access.get(first..end) != Some(&attached.access) {
            let mut access = class.access.clone();
            access.splice(first..end, attached.access);
            changed.push(ClassRow { access, ..attached });
        }
    }
    for class in changed {
        let key = RowKey::Class(class.key.clone());
        next.tables.0.insert(key, Row::Class(Arc::new(class)));
    }
}

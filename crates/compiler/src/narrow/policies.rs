//! A change of policies alone: namespace by namespace, with the objects of that namespace only.

use std::collections::BTreeMap;
use std::sync::Arc;

use tacit_api::policy::TargetSelector;
use tacit_api::{Kind, Located, Object, ObjectKey};
use tacit_model::finding::Finding;
use tacit_model::status::ObjectStatus;
use tacit_model::tables::{NamespaceRow, Tenancy};
use tacit_model::{Namespace, ObjectRef, Row, RowKey};

use crate::compile::{Compiled, Instead, Mesh, of_policy, sort};
use crate::delta::{Owner, Written};
use crate::judge::{Judged, one as judge};
use crate::mesh::Settings;
use crate::narrow::{Touched, access, first_error, objects_in, resilience};
use crate::policies::{Placed, one as place};
use crate::state::{Entry, Inputs};
use crate::status::{self, Facts};
use crate::targets::{Resolver, targeting};

/// The policies of one namespace that are touched.
pub(super) struct Change<'i> {
    pub(super) inputs: &'i Inputs,
    pub(super) namespace: Namespace,
    pub(super) keys: Vec<&'i ObjectKey>,
    /// The objects in force of this namespace, as far as its policies look at them.
    pub(super) mesh: Mesh<'i>,
    /// True if policies of this namespace may have targets in others.
    pub(super) wide: bool,
}

impl<'i> Change<'i> {
    /// What reads the targets of these policies.
    pub(super) fn resolver(&self) -> Resolver<'_, 'i> {
        Resolver {
            index: &self.mesh.index,
            tenants: self.mesh.world.tenants(),
        }
    }

    /// Judges and places one policy; nothing if it is gone, or takes no part.
    pub(super) fn judged(&self, key: &ObjectKey) -> (Option<Judged<'i>>, Option<Placed<'i>>) {
        let Mesh {
            settings,
            world,
            ports,
            ..
        } = &self.mesh;
        let entry = self.inputs.objects.get_key_value(key);
        let mut judged = entry.map(|(key, entry)| judge(key, entry, &settings.row.cluster));
        let placed = judged.as_mut();
        let placed = placed.and_then(|judged| place(judged, &self.resolver(), world, ports));
        (judged, placed)
    }

    /// What there is to say about a policy.
    pub(super) fn said(
        &self,
        facts: &Facts<'_, '_>,
        judged: &Judged<'_>,
        object: ObjectRef,
        placed: Option<&Placed<'_>>,
    ) -> (Vec<Finding>, ObjectStatus) {
        let mut findings = judged.findings.clone();
        if let Some(placed) = placed {
            findings.extend(placed.findings.iter().cloned());
            findings.extend(of_policy(&self.mesh, facts, placed));
        }
        sort(&mut findings);
        let error = first_error(&findings);
        let status = status::one(facts, judged, object, error, placed);
        (findings, status)
    }
}

/// Compiles `next` on, where only these policies have changed.
pub(super) fn narrow<'i>(
    inputs: &'i Inputs,
    next: &mut Compiled,
    touched: &[&'i Touched],
    settings: &Settings<'i>,
) -> Option<()> {
    let mut spaces: BTreeMap<Namespace, Vec<&'i Touched>> = BTreeMap::new();
    for touched in touched {
        let namespace = touched.0.namespace.as_deref()?.try_into().ok()?;
        spaces.entry(namespace).or_default().push(touched);
    }
    for (namespace, touched) in spaces {
        let wide = next.kept.wide.contains(&namespace);
        let before = next.clone();
        let written = touched
            .iter()
            .filter_map(|(key, _)| inputs.objects.get(key));
        if written
            .clone()
            .any(|entry| is_beyond(entry, &namespace, wide))
        {
            return None;
        }
        known(inputs, next, &namespace, &touched, settings)?;
        let selects = written
            .clone()
            .any(|entry| versions(entry).any(selects_workloads))
            || next.kept.selectors.contains_key(&namespace);
        let text = touched
            .iter()
            .find_map(|(key, _)| key.namespace.as_deref())?;
        let mut mesh = mesh(inputs, next, text, settings, selects);
        mesh.index.namespaces.insert(namespace.clone());
        if wide {
            mesh.index
                .namespaces
                .extend(next.kept.spaces.keys().cloned());
        }
        let change = Change {
            inputs,
            keys: touched.iter().map(|(key, _)| key).collect(),
            mesh,
            namespace,
            wide,
        };
        access::narrow(&change, next)?;
        resilience::narrow(&change, &before, next)?;
    }
    Some(())
}

/// All that is written or in force of an object.
fn versions(entry: &Entry) -> impl Iterator<Item = &Located<Object>> {
    let written: &[_] = match &entry.written {
        Written::Duplicate(objects) => objects,
        Written::Ok(object) => std::slice::from_ref(object.as_ref()),
        Written::Unparsable(_) => &[],
    };
    written.iter().chain(entry.last_good.as_deref())
}

/// True if more than the objects of its namespace may decide what a policy does.
fn is_beyond(entry: &Entry, own: &Namespace, wide: bool) -> bool {
    let elsewhere = |selector: &TargetSelector| {
        let names = selector.namespaces.iter().flatten();
        selector.all_namespaces == Some(true) || names.clone().any(|name| *name != *own.as_str())
    };
    let looks_elsewhere = versions(entry).any(|version| {
        let selectors = targeting(&version.value).and_then(|targets| targets.selectors);
        selectors.unwrap_or_default().iter().any(elsewhere)
    });
    // Whether its author may have targets elsewhere depends on what is there.
    let asks = match &entry.owner {
        Owner::Api(author) => wide && !author.administrator,
        Owner::Directory => false,
    };
    looks_elsewhere || asks
}

fn selects_workloads(version: &Located<Object>) -> bool {
    let selectors = targeting(&version.value).and_then(|targets| targets.selectors);
    let mut selectors = selectors.unwrap_or_default().iter();
    selectors.any(|selector| selector.kind == Kind::Workload.as_str())
}

/// Counts the objects of the namespace. One that appears or goes is for everything, but for the
/// root namespace: nothing else looks at whether it is known.
fn known(
    inputs: &Inputs,
    next: &mut Compiled,
    namespace: &Namespace,
    touched: &[&Touched],
    settings: &Settings<'_>,
) -> Option<()> {
    let before = next.kept.spaces.get(namespace).copied().unwrap_or_default();
    let mut count = before;
    for (key, was) in touched {
        let was = *was && next.instead.get(key) != Some(&Instead::Nothing);
        let entry = inputs.objects.get(key);
        let judged = entry.map(|entry| judge(key, entry, &settings.row.cluster));
        let is = judged.is_some_and(|judged| judged.in_force.is_some());
        count = count
            .checked_add(usize::from(is))?
            .checked_sub(usize::from(was))?;
    }
    if (before == 0) == (count == 0) {
        if count > 0 {
            next.kept.spaces.insert(namespace.clone(), count);
        }
        return Some(());
    }
    if *namespace != settings.row.root_namespace {
        return None;
    }
    let row = RowKey::Namespace(namespace.clone());
    if count == 0 {
        next.kept.spaces.remove(namespace);
        next.tables.0.remove(&row);
        return Some(());
    }
    next.kept.spaces.insert(namespace.clone(), count);
    let row_of = NamespaceRow {
        namespace: namespace.clone(),
        // It belongs to no workspace, whatever these claim.
        tenancy: Tenancy::Unclaimed,
    };
    next.tables.0.insert(row, Row::Namespace(Arc::new(row_of)));
    Some(())
}

/// The objects in force of one namespace, and those of the mesh.
fn mesh<'i>(
    inputs: &'i Inputs,
    state: &Compiled,
    namespace: &str,
    settings: &Settings<'i>,
    with_workloads: bool,
) -> Mesh<'i> {
    let looked_at = |kind: &Kind| match kind {
        Kind::GRPCRoute | Kind::HTTPRoute | Kind::Service | Kind::TCPRoute => true,
        Kind::Workload => with_workloads,
        Kind::AccessPolicy
        | Kind::FailoverPolicy
        | Kind::FaultPolicy
        | Kind::Mesh
        | Kind::RateLimitPolicy
        | Kind::RetryTimeoutPolicy
        | Kind::Workspace => false,
    };
    let kinds = Kind::ALL.iter().copied().filter(looked_at);
    let own = kinds.flat_map(|kind| objects_in(inputs, state, kind, Some(namespace)));
    let workspaces = objects_in(inputs, state, Kind::Workspace, None);
    let objects: Vec<_> = own.chain(workspaces).chain(settings.object).collect();
    Mesh::new(&objects, settings.clone(), &inputs.nodes)
}

//! Which namespace belongs to which Workspace, and who may call across their borders.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tacit_api::mesh::{MeshSpec, Subject};
use tacit_api::workspace::{self, Export, Grant, Import, ServiceSelection, Verb, WorkspaceSpec};
use tacit_api::{Located, Object, Service};
use tacit_model::finding::{Finding, Severity};
use tacit_model::tables::{Isolation, RunGrantRow, Tenancy};
use tacit_model::{Namespace, ObjectRef, Provenance, ServiceName, WorkspaceName};

use crate::grants::problem;

/// Where policies have mesh scope if `Mesh` does not say.
pub const DEFAULT_ROOT_NAMESPACE: &str = "tacit-system";

/// The name of the cluster if `Mesh` does not say.
pub const DEFAULT_CLUSTER: &str = "local";

/// One Workspace with a valid name.
#[derive(Clone, Debug)]
pub struct Tenant<'a> {
    /// Its name.
    pub name: WorkspaceName,
    /// What it says.
    pub spec: &'a WorkspaceSpec,
    /// The same with positions, for findings.
    pub object: &'a Located<Object>,
}

/// What a namespace belongs to.
#[derive(Clone, Debug)]
pub enum Owner<'t, 'a> {
    /// More than one workspace claims it.
    Contested(Vec<&'t Tenant<'a>>),
    /// Of one workspace.
    Member(&'t Tenant<'a>),
    /// Of no workspace.
    Unclaimed,
}

/// All Workspaces of a mesh.
#[derive(Clone, Debug)]
pub struct Tenants<'a> {
    tenants: Vec<Tenant<'a>>,
    root_namespace: &'a str,
    cluster: &'a str,
}

impl<'a> Tenants<'a> {
    /// Takes the Workspaces out of `objects`; other kinds, and Workspaces whose name is invalid,
    /// are left out.
    #[must_use]
    pub fn new(
        objects: impl IntoIterator<Item = &'a Located<Object>>,
        mesh: Option<&'a MeshSpec>,
    ) -> Self {
        let mut tenants: Vec<Tenant<'a>> = objects.into_iter().filter_map(tenant).collect();
        tenants.sort_by(|a, b| a.name.cmp(&b.name));
        Self {
            tenants,
            root_namespace: mesh
                .and_then(|mesh| mesh.root_namespace.as_deref())
                .unwrap_or(DEFAULT_ROOT_NAMESPACE),
            cluster: mesh
                .and_then(|mesh| mesh.cluster.as_deref())
                .unwrap_or(DEFAULT_CLUSTER),
        }
    }

    /// The Workspaces, by name.
    #[must_use]
    pub fn all(&self) -> &[Tenant<'a>] {
        &self.tenants
    }

    /// The Workspace with this name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Tenant<'a>> {
        self.tenants
            .iter()
            .find(|tenant| tenant.name.as_str() == name)
    }

    /// Where policies have mesh scope.
    #[must_use]
    pub fn root_namespace(&self) -> &str {
        self.root_namespace
    }

    /// What `namespace` belongs to. The root namespace never belongs to a workspace: its policies
    /// reach every other one.
    #[must_use]
    pub fn owner(&self, namespace: &str) -> Owner<'_, 'a> {
        let mut claims: Vec<&Tenant<'a>> = self
            .tenants
            .iter()
            .filter(|tenant| namespace != self.root_namespace && self.claims(tenant, namespace))
            .collect();
        match claims.len() {
            0 => Owner::Unclaimed,
            1 => claims.pop().map_or(Owner::Unclaimed, Owner::Member),
            _ => Owner::Contested(claims),
        }
    }

    fn claims(&self, tenant: &Tenant<'_>, namespace: &str) -> bool {
        let here = |member: &workspace::Member| {
            let clusters = member.clusters.as_deref();
            clusters
                .is_none_or(|names| names.iter().any(|name| name == "*" || name == self.cluster))
        };
        let named = tenant.spec.members.iter().flatten().any(|member| {
            here(member)
                && member
                    .namespaces
                    .iter()
                    .any(|glob| matches_glob(glob, namespace))
        });
        named || tenant.spec.home.as_deref() == Some(namespace)
    }

    /// True if a policy that lives in `from` may have targets in `to`: its own namespace, every
    /// one from the root namespace, and the members of the workspace from its home.
    #[must_use]
    pub fn may_reach(&self, from: &str, to: &str) -> bool {
        if from == to || from == self.root_namespace {
            return true;
        }
        let (Owner::Member(of_from), Owner::Member(of_to)) = (self.owner(from), self.owner(to))
        else {
            return false;
        };
        of_from.name == of_to.name && of_from.spec.home.as_deref() == Some(from)
    }

    /// The tenancy of a namespace, as the planes need it.
    #[must_use]
    pub fn tenancy(&self, namespace: &Namespace, services: &[&Service]) -> Tenancy {
        match self.owner(namespace.as_str()) {
            Owner::Unclaimed => Tenancy::Unclaimed,
            Owner::Contested(claims) => {
                Tenancy::Contested(claims.iter().map(|tenant| tenant.name.clone()).collect())
            }
            Owner::Member(tenant) => Tenancy::Member {
                workspace: tenant.name.clone(),
                isolation: self.isolation(tenant, services),
            },
        }
    }

    fn isolation(&self, tenant: &Tenant<'_>, services: &[&Service]) -> Option<Isolation> {
        match tenant.spec.isolation {
            None | Some(workspace::Isolation::Open) => return None,
            Some(workspace::Isolation::Strict) => {}
        }
        let mut importers = BTreeMap::new();
        for importer in &self.tenants {
            let imported = self.imported(importer, tenant, services);
            if !imported.is_empty() {
                importers.insert(importer.name.clone(), imported);
            }
        }
        Some(Isolation {
            importers,
            from: Provenance::Field {
                object: reference(&tenant.name)?,
                path: "spec.isolation".into(),
            },
        })
    }

    /// Services of `exporter` that `importer` both imports and is given.
    fn imported(
        &self,
        importer: &Tenant<'_>,
        exporter: &Tenant<'_>,
        services: &[&Service],
    ) -> BTreeSet<ServiceName> {
        let imports: Vec<&Import> = importer
            .spec
            .imports
            .iter()
            .flatten()
            .filter(|import| import.workspace == exporter.name.as_str())
            .collect();
        let wanted = |service: &Service| {
            imports.iter().any(|import| match &import.services {
                None => true,
                Some(names) => names.iter().any(|name| is_named(service, name)),
            })
        };
        let given = |service: &Service| {
            let mut exports = exporter.spec.exports.iter().flatten();
            exports
                .any(|export| gives(export, &importer.name) && selects(&export.services, service))
        };
        services
            .iter()
            .filter(|service| {
                let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
                matches!(self.owner(namespace), Owner::Member(of) if of.name == exporter.name)
            })
            .filter(|service| wanted(service) && given(service))
            .filter_map(|service| service_name(service))
            .collect()
    }

    /// Rows of who may start workloads, for the nodes. `namespaces` are all that are known.
    #[must_use]
    pub fn run_grants(
        &self,
        subjects: &[Subject],
        namespaces: &BTreeSet<Namespace>,
    ) -> Vec<RunGrantRow> {
        let mut rows = Vec::new();
        for tenant in &self.tenants {
            let members: BTreeSet<Namespace> = self.members(tenant, namespaces);
            let grants = tenant.spec.grants.iter().flatten();
            for (index, grant) in (0_u32..).zip(grants) {
                if grant.verbs.contains(&Verb::Run) {
                    rows.push(run_grant(tenant, index, grant, subjects, &members));
                }
            }
        }
        rows
    }

    /// The namespaces of each workspace: those of `known`, and those that it names in full.
    #[must_use]
    pub fn all_members(
        &self,
        known: &BTreeSet<Namespace>,
    ) -> BTreeMap<WorkspaceName, BTreeSet<Namespace>> {
        let of = |tenant: &Tenant<'a>| (tenant.name.clone(), self.members(tenant, known));
        self.tenants.iter().map(of).collect()
    }

    /// Known namespaces, and those that `members` names in full, that belong to the workspace.
    fn members(&self, tenant: &Tenant<'_>, known: &BTreeSet<Namespace>) -> BTreeSet<Namespace> {
        let written = tenant.spec.members.iter().flatten();
        let written = written.flat_map(|member| &member.namespaces);
        let written = written.chain(&tenant.spec.home);
        let written = written.filter_map(|name| Namespace::try_from(name.as_str()).ok());
        written
            .chain(known.iter().cloned())
            .filter(|namespace| {
                let owner = self.owner(namespace.as_str());
                matches!(owner, Owner::Member(of) if of.name == tenant.name)
            })
            .collect()
    }

    /// Problems between Workspaces: namespaces claimed twice, imports of what is not there.
    #[must_use]
    pub fn findings(
        &self,
        namespaces: &BTreeSet<Namespace>,
        services: &[&Service],
    ) -> Vec<Finding> {
        let mut findings = Vec::new();
        for namespace in namespaces {
            if let Owner::Contested(claims) = self.owner(namespace.as_str()) {
                findings.extend(
                    claims
                        .iter()
                        .map(|tenant| contested(tenant, namespace, &claims)),
                );
            }
        }
        for tenant in &self.tenants {
            for (index, import) in tenant.spec.imports.iter().flatten().enumerate() {
                findings.extend(self.import_findings(tenant, index, import, services));
            }
        }
        findings
    }

    fn import_findings(
        &self,
        tenant: &Tenant<'_>,
        index: usize,
        import: &Import,
        services: &[&Service],
    ) -> Vec<Finding> {
        let warn = |field: String, message: String, fix: &str| Finding {
            severity: Severity::Warning,
            ..problem(tenant.object, "TCT1612", &field, message, fix.to_owned())
        };
        let field = format!("spec.imports[{index}]");
        let Some(exporter) = self.named(&import.workspace) else {
            let message = format!("Workspace {} does not exist", import.workspace);
            let fix = "correct the name, or remove the import";
            return vec![warn(format!("{field}.workspace"), message, fix)];
        };
        let imported = self.imported(tenant, exporter, services);
        let mut findings = Vec::new();
        for (at, name) in import.services.iter().flatten().enumerate() {
            let arrives = services.iter().any(|service| {
                is_named(service, name)
                    && service_name(service).is_some_and(|found| imported.contains(&found))
            });
            if !arrives {
                let message = format!(
                    "Workspace {} does not export {name} to {}",
                    exporter.name, tenant.name
                );
                let fix = "ask its owner for an entry in spec.exports, or remove the name";
                findings.push(warn(format!("{field}.services[{at}]"), message, fix));
            }
        }
        findings
    }
}

fn tenant(object: &Located<Object>) -> Option<Tenant<'_>> {
    let Object::Workspace(workspace) = &object.value else {
        return None;
    };
    Some(Tenant {
        name: workspace.metadata.name.as_str().try_into().ok()?,
        spec: &workspace.spec,
        object,
    })
}

fn contested(tenant: &Tenant<'_>, namespace: &Namespace, claims: &[&Tenant<'_>]) -> Finding {
    let names: Vec<&str> = claims.iter().map(|claim| claim.name.as_str()).collect();
    let message = format!(
        "namespace {namespace} is claimed by the workspaces {}: it belongs to none and is denied",
        names.join(", ")
    );
    let fix = "let one workspace claim it".to_owned();
    problem(tenant.object, "TCT1611", "spec.members", message, fix)
}

fn run_grant(
    tenant: &Tenant<'_>,
    index: u32,
    grant: &Grant,
    subjects: &[Subject],
    members: &BTreeSet<Namespace>,
) -> RunGrantRow {
    let named = |subject: &&Subject| {
        grant.to.iter().any(|to| {
            let user = to.user.is_some() && to.user == subject.user;
            let mut groups = subject.groups.iter().flatten();
            user || groups.any(|group| to.group.as_ref() == Some(group))
        })
    };
    // A subject that needs several conditions at once cannot be said with two sets; the control
    // plane decides for it.
    let alone = |subject: &&Subject| {
        let conditions = [
            subject.uid.is_some(),
            subject.gid.is_some(),
            subject.certificate.is_some(),
        ];
        conditions.iter().filter(|given| **given).count() == 1
    };
    let found: Vec<&Subject> = subjects.iter().filter(named).filter(alone).collect();
    RunGrantRow {
        workspace: tenant.name.clone(),
        index,
        uids: found.iter().filter_map(|subject| subject.uid).collect(),
        gids: found.iter().filter_map(|subject| subject.gid).collect(),
        everyone: grant
            .to
            .iter()
            .any(|to| to.user.is_none() && to.group.as_deref() == Some(crate::grants::LOCAL_USERS)),
        namespaces: members.clone(),
        // Before 1970 is as past as 1970.
        until: grant
            .until
            .as_ref()
            .map(|until| u64::try_from(until.unix_seconds()).unwrap_or(0)),
    }
}

/// True if `glob`, a name or a prefix that ends in `*`, matches.
#[must_use]
pub fn matches_glob(glob: &str, name: &str) -> bool {
    match glob.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => glob == name,
    }
}

fn gives(export: &Export, to: &WorkspaceName) -> bool {
    export
        .to
        .iter()
        .any(|name| name == "*" || name == to.as_str())
}

/// True if every given field matches; a selection that says nothing selects nothing.
fn selects(selection: &ServiceSelection, service: &Service) -> bool {
    let ServiceSelection {
        match_labels,
        names,
    } = selection;
    let labels = match_labels
        .as_ref()
        .is_none_or(|wanted| contains(&service.metadata.labels, wanted));
    let named = names
        .as_ref()
        .is_none_or(|names| names.iter().any(|name| is_named(service, name)));
    (match_labels.is_some() || names.is_some()) && labels && named
}

/// True if `labels` has each of `wanted`; nothing wanted matches nothing.
pub(crate) fn contains(
    labels: &BTreeMap<String, String>,
    wanted: &BTreeMap<String, String>,
) -> bool {
    let has = |(key, value): (&String, &String)| labels.get(key) == Some(value);
    !wanted.is_empty() && wanted.iter().all(has)
}

/// True if `name` is the service's `name` or `namespace/name`.
fn is_named(service: &Service, name: &str) -> bool {
    let metadata = &service.metadata;
    match name.split_once('/') {
        Some((namespace, name)) => {
            metadata.namespace.as_deref() == Some(namespace) && metadata.name == name
        }
        None => metadata.name == name,
    }
}

fn service_name(service: &Service) -> Option<ServiceName> {
    let namespace = service.metadata.namespace.as_deref()?;
    ServiceName::parse(namespace, &service.metadata.name).ok()
}

fn reference(name: &WorkspaceName) -> Option<ObjectRef> {
    Some(ObjectRef {
        kind: Arc::from("Workspace"),
        namespace: None,
        name: name.as_str().try_into().ok()?,
    })
}

#[cfg(test)]
mod tests;

//! Workspaces: which namespace is whose, how far policies reach, who may call across.

use crate::mesh::{Object, Reference};
use crate::mutation::Mutation;

/// What a namespace belongs to.
pub(crate) enum Owner<'r, 'w> {
    Contested,
    Nobody,
    Workspace(&'r Object<'w>),
}

/// Where a policy lives. Outer scopes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    Mesh,
    Workspace,
    Namespace,
}

impl<'w> Reference<'w> {
    pub(crate) fn root(&self) -> &'w str {
        let root = self.mesh().at("rootNamespace");
        root.text().unwrap_or("tacit-system")
    }

    /// What a namespace belongs to. The root namespace belongs to nobody.
    pub(crate) fn owner(&self, namespace: &str) -> Owner<'_, 'w> {
        if namespace == self.root() {
            return Owner::Nobody;
        }
        let mut claims = self
            .of_kind("Workspace")
            .filter(|workspace| self.claims(workspace, namespace));
        match (claims.next(), claims.next()) {
            (None, _) => Owner::Nobody,
            (Some(only), None) => Owner::Workspace(only),
            (Some(_), Some(_)) if self.is_wrong(Mutation::ContestedIsUnclaimed) => Owner::Nobody,
            (Some(_), Some(_)) => Owner::Contested,
        }
    }

    fn claims(&self, workspace: &Object<'_>, namespace: &str) -> bool {
        let is_member = workspace.spec.at("members").items().any(|member| {
            let mut clusters = member.at("clusters").texts();
            let here = !member.at("clusters").is_there()
                || clusters.any(|name| name == "*" || name == self.cluster());
            let mut names = member.at("namespaces").texts();
            here && names.any(|name| match name.strip_suffix('*') {
                Some(start) => namespace.starts_with(start),
                None => name == namespace,
            })
        });
        is_member || workspace.spec.at("home").is(namespace)
    }

    /// The name of the workspace that a namespace belongs to.
    pub(crate) fn workspace_of(&self, namespace: &str) -> Option<&'w str> {
        match self.owner(namespace) {
            Owner::Workspace(found) => Some(found.name),
            Owner::Contested | Owner::Nobody => None,
        }
    }

    pub(crate) fn scope(&self, namespace: &str) -> Scope {
        if namespace == self.root() {
            return Scope::Mesh;
        }
        match self.owner(namespace) {
            Owner::Workspace(found) if found.spec.at("home").is(namespace) => Scope::Workspace,
            Owner::Contested | Owner::Nobody | Owner::Workspace(_) => Scope::Namespace,
        }
    }

    /// True if a policy in one namespace may have targets in another one.
    pub(crate) fn reaches(&self, from: &str, to: &str) -> bool {
        if self.is_wrong(Mutation::ScopeIgnored) {
            return true;
        }
        from == to
            || match self.scope(from) {
                Scope::Mesh => true,
                Scope::Namespace => false,
                Scope::Workspace => self.workspace_of(from) == self.workspace_of(to),
            }
    }

    /// True if `importer` both imports a service of `exporter` and is given it.
    pub(crate) fn imports(
        &self,
        importer: &str,
        exporter: &Object<'_>,
        service: &Object<'_>,
    ) -> bool {
        let called = |name: &str| name == service.name || name == service.key();
        let wanted = self.of_kind("Workspace").any(|workspace| {
            workspace.name == importer
                && workspace.spec.at("imports").items().any(|import| {
                    let names = import.at("services");
                    import.at("workspace").is(exporter.name)
                        && (!names.is_there() || names.texts().any(called))
                })
        });
        let given = exporter.spec.at("exports").items().any(|export| {
            let (labels, names) = (
                export.at("services").at("matchLabels"),
                export.at("services").at("names"),
            );
            export
                .at("to")
                .texts()
                .any(|to| to == "*" || to == importer)
                && (labels.is_there() || names.is_there())
                && (!labels.is_there() || service.labels.has_labels(labels))
                && (!names.is_there() || names.texts().any(called))
        });
        (wanted || self.is_wrong(Mutation::ImportNotNeeded))
            && (given || self.is_wrong(Mutation::ExportNotNeeded))
    }
}

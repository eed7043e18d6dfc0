//! Workspace: a tenant, its isolation, and who may change what in it.

use std::collections::BTreeMap;

use crate::decode::{fields, words};
use crate::mesh::Defaults;
use crate::object::object;
use crate::values::TimeText;

object! {
    /// A tenant, and who may change what in it.
    Workspace { WorkspaceSpec }
}

fields! {
    /// What a Workspace says.
    #[derive(Default)]
    pub struct WorkspaceSpec {
        /// The namespace whose policies have workspace scope.
        home: Option<String> = "home",
        /// Namespaces that belong to it.
        members: Option<Vec<Member>> = "members",
        /// Host names that it owns.
        hostnames: Option<Vec<String>> = "hostnames",
        /// What it wants from other workspaces.
        imports: Option<Vec<Import>> = "imports",
        /// What it gives to other workspaces.
        exports: Option<Vec<Export>> = "exports",
        /// Who may call; absent: `Open`.
        isolation: Option<Isolation> = "isolation",
        /// Where HTTP is handled; absent: `Inline`.
        l7: Option<L7> = "l7",
        /// What holds where no policy speaks.
        defaults: Option<Defaults> = "defaults",
        /// Who may change what.
        grants: Option<Vec<Grant>> = "grants",
    }
}

fields! {
    /// Namespaces that belong to a workspace.
    #[derive(Default)]
    pub struct Member {
        /// Names, or prefixes that end in `*`.
        namespaces: Vec<String> = "namespaces",
        /// Clusters in which they belong to it; absent or `*`: every one.
        clusters: Option<Vec<String>> = "clusters",
    }
}

fields! {
    /// Services of another workspace.
    pub struct Import {
        /// The other workspace.
        workspace: String = "workspace",
        /// Names of its services, `name` or `namespace/name`; absent: all that it exports to us.
        services: Option<Vec<String>> = "services",
    }
}

fields! {
    /// Services for other workspaces.
    pub struct Export {
        /// Which services.
        services: ServiceSelection = "services",
        /// Workspaces that may import them; `*` means every one.
        to: Vec<String> = "to",
    }
}

fields! {
    /// Services of a workspace: all given fields apply.
    #[derive(Default)]
    pub struct ServiceSelection {
        /// Labels that the service must have, all of them.
        match_labels: Option<BTreeMap<String, String>> = "matchLabels",
        /// Names, `name` or `namespace/name`.
        names: Option<Vec<String>> = "names",
    }
}

words! {
    /// Who may call the workloads of a workspace.
    pub enum Isolation { Open, Strict }
}

words! {
    /// Where HTTP is handled.
    pub enum L7 { Inline, Waypoint }
}

words! {
    /// What a grant lets somebody do.
    pub enum Verb { Create, Delete, Impersonate, Run, Update }
}

fields! {
    /// Lets somebody do something in the workspace.
    #[derive(Default)]
    pub struct Grant {
        /// Who.
        to: Vec<GrantSubject> = "to",
        /// What they may do.
        verbs: Vec<Verb> = "verbs",
        /// With objects of which kinds.
        kinds: Option<Vec<String>> = "kinds",
        /// Which field subtrees they may set; absent: all but those that must be listed.
        fields: Option<Vec<String>> = "fields",
        /// Rules that the new object must keep.
        limits: Option<Vec<GrantLimit>> = "limits",
        /// Which services the object may target.
        targets: Option<GrantTargets> = "targets",
        /// When it ends.
        until: Option<TimeText> = "until",
    }
}

fields! {
    /// Exactly one of: a user, a group.
    #[derive(Default)]
    pub struct GrantSubject {
        /// A user's name.
        user: Option<String> = "user",
        /// A group's name.
        group: Option<String> = "group",
    }
}

fields! {
    /// A CEL rule over `spec`.
    pub struct GrantLimit {
        /// The rule; true means that the object keeps it.
        rule: String = "rule",
        /// What people are told when it is not kept.
        message: String = "message",
    }
}

fields! {
    /// Which services the object may target.
    #[derive(Default)]
    pub struct GrantTargets {
        /// Labels that the service must have, all of them.
        match_labels: BTreeMap<String, String> = "matchLabels",
    }
}

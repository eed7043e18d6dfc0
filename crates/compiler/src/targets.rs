//! What a policy applies to: reads its targets, keeps those that its scope permits.

use std::collections::BTreeSet;

use tacit_api::policy::{TargetRef, TargetSelector, Targeting};
use tacit_api::{Kind, Located, Object, ObjectKey, Policy};
use tacit_model::finding::Finding;
use tacit_model::labels::Labels;
use tacit_model::{Namespace, ObjectRef, ServiceName, WorkspaceName};

use crate::findings::{
    BAD_NAME, EMPTY_TARGET, NO_TARGET, NOT_FOR_KIND, Report, SELECTS_NOTHING, TARGET_KIND,
    TARGET_NOT_FOUND, TARGET_NOT_PERMITTED, TWO_TARGETS, object_ref,
};
use crate::index::{Index, labels};
use crate::routes;
use crate::workspace::{Owner, Tenants};

/// Where a policy lives, which says how far it reaches. Outer scopes first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    /// In the root namespace: everything.
    Mesh,
    /// In the home of a Workspace: its members.
    Workspace(WorkspaceName),
    /// In any other namespace: itself.
    Namespace,
}

/// How closely a target names what it hits. The closest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Closeness {
    /// A rule of a route, by its name.
    Rule,
    /// A route, by its name.
    Route,
    /// A service, by its name.
    Name,
    /// By labels.
    Selector,
    /// All of a namespace.
    Namespace,
    /// All of a workspace.
    Workspace,
    /// All of the mesh.
    Mesh,
}

/// Things that a target hits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hit {
    /// Everything in these namespaces.
    All {
        /// What people call it: `Namespace/shop`, `Mesh/default`.
        object: ObjectRef,
        /// The namespaces.
        namespaces: BTreeSet<Namespace>,
        /// How close that is.
        closeness: Closeness,
    },
    /// A route, or a rule of it.
    Route {
        route: ObjectRef,
        /// The name of the rule.
        section: Option<String>,
    },
    /// A service.
    Service {
        /// Which.
        name: ServiceName,
        /// By name or by labels.
        closeness: Closeness,
    },
    /// Workloads with these labels in these namespaces.
    Workloads {
        /// Where.
        namespaces: BTreeSet<Namespace>,
        /// The labels, never none.
        labels: Labels,
    },
}

/// The targets of one policy.
#[derive(Clone, Debug, Default)]
pub(crate) struct Targets {
    /// What is hit, as far as it is permitted.
    pub(crate) hits: Vec<Hit>,
    /// What is wrong with them.
    pub(crate) findings: Vec<Finding>,
    /// True if a target is outside the scope.
    pub(crate) not_permitted: bool,
    /// True if a named target does not exist.
    pub(crate) not_found: bool,
    /// True if nothing has the labels of a selector now.
    pub(crate) selects_nothing: bool,
}

/// Checks the target fields of a policy by themselves.
pub(crate) fn validate(report: &mut Report<'_>, targeting: Targeting<'_>) {
    let Targeting {
        refs,
        selectors,
        all,
    } = targeting;
    let given = [
        ("spec.targetRefs", refs.is_some()),
        ("spec.targetSelectors", selectors.is_some()),
        ("spec.targetAll", all.is_some()),
    ];
    let mut given = given
        .into_iter()
        .filter(|(_, present)| *present)
        .map(|(field, _)| field);
    match (given.next(), given.next()) {
        (None, _) => report.say(NO_TARGET, "spec", "the policy has no target"),
        (Some(first), Some(second)) => {
            report.say(
                TWO_TARGETS,
                second,
                format!("{second} stands beside {first}"),
            );
        }
        (Some(_), None) => {}
    }
    let empty = [
        ("spec.targetRefs", refs.is_some_and(<[_]>::is_empty)),
        (
            "spec.targetSelectors",
            selectors.is_some_and(<[_]>::is_empty),
        ),
    ];
    for (field, _) in empty.into_iter().filter(|(_, empty)| *empty) {
        report.say(EMPTY_TARGET, field, "the list is empty");
    }
    for (index, target) in refs.unwrap_or_default().iter().enumerate() {
        group(
            report,
            &format!("spec.targetRefs[{index}]"),
            &target.group,
            &target.kind,
        );
    }
    for (index, target) in selectors.unwrap_or_default().iter().enumerate() {
        selector(report, &format!("spec.targetSelectors[{index}]"), target);
    }
}

fn selector(report: &mut Report<'_>, at: &str, target: &TargetSelector) {
    group(report, at, &target.group, &target.kind);
    if target.match_labels.is_empty() {
        let message = "an empty selector would match everything or nothing";
        report.say(EMPTY_TARGET, &format!("{at}.matchLabels"), message);
    }
    if target.namespaces.as_ref().is_some_and(Vec::is_empty) {
        report.say(
            EMPTY_TARGET,
            &format!("{at}.namespaces"),
            "the list is empty",
        );
    }
    if target.namespaces.is_some() && target.all_namespaces == Some(true) {
        let message = "namespaces stands beside allNamespaces";
        report.say(TWO_TARGETS, &format!("{at}.allNamespaces"), message);
    }
    for (index, name) in target.namespaces.iter().flatten().enumerate() {
        if let Err(error) = Namespace::try_from(name.as_str()) {
            report.say(
                BAD_NAME,
                &format!("{at}.namespaces[{index}]"),
                error.to_string(),
            );
        }
    }
}

/// Says when a known kind is written with another group. Routes are refused elsewhere.
fn group(report: &mut Report<'_>, at: &str, group: &str, kind: &str) {
    let wanted = match kind {
        "Service" | "Namespace" => "",
        "Workload" | "Workspace" | "Mesh" => "tacit.dev",
        "HTTPRoute" | "GRPCRoute" | "TCPRoute" | "TLSRoute" | "Gateway" => {
            "gateway.networking.k8s.io"
        }
        _ => {
            let message = format!("{kind:?} cannot be a target");
            let fix = "choose a Service, a Namespace, a Workspace or the Mesh".to_owned();
            return report.add(TARGET_KIND, &format!("{at}.kind"), message, Some(fix));
        }
    };
    if group != wanted {
        let message = format!("{kind} is not of the group {group:?}");
        let fix = format!("write group: {wanted:?}");
        report.add(TARGET_KIND, &format!("{at}.group"), message, Some(fix));
    }
}

/// Checks `enforcement` and `priority`, which access policies do not have.
pub(crate) fn no_precedence(report: &mut Report<'_>, policy: &impl Policy) {
    let fields = [
        ("spec.enforcement", policy.enforcement().is_some()),
        ("spec.priority", policy.priority().is_some()),
    ];
    for (field, _) in fields.into_iter().filter(|(_, present)| *present) {
        report.say(NOT_FOR_KIND, field, "access policies have no precedence");
    }
}

/// The scope of a policy in a namespace.
pub(crate) fn scope(tenants: &Tenants<'_>, namespace: &Namespace) -> Scope {
    if namespace.as_str() == tenants.root_namespace() {
        return Scope::Mesh;
    }
    match tenants.owner(namespace.as_str()) {
        Owner::Member(tenant) if tenant.spec.home.as_deref() == Some(namespace.as_str()) => {
            Scope::Workspace(tenant.name.clone())
        }
        Owner::Member(_) | Owner::Contested(_) | Owner::Unclaimed => Scope::Namespace,
    }
}

/// What reads targets needs to know.
pub(crate) struct Resolver<'w, 'a> {
    pub(crate) index: &'w Index<'a>,
    pub(crate) tenants: &'w Tenants<'a>,
}

impl Resolver<'_, '_> {
    /// The targets of a policy that lives in `own`.
    pub(crate) fn resolve(
        &self,
        object: &Located<Object>,
        own: &Namespace,
        targeting: Targeting<'_>,
    ) -> Targets {
        let mut resolving = Resolving {
            world: self,
            own,
            kind: object.value.kind(),
            report: Report::new(object),
            targets: Targets::default(),
        };
        let Targeting {
            refs,
            selectors,
            all,
        } = targeting;
        for (index, target) in refs.unwrap_or_default().iter().enumerate() {
            resolving.by_ref(&format!("spec.targetRefs[{index}]"), target);
        }
        for (index, target) in selectors.unwrap_or_default().iter().enumerate() {
            resolving.by_labels(&format!("spec.targetSelectors[{index}]"), target);
        }
        if all.is_some() {
            resolving.targets.hits.extend(self.everything(own));
        }
        resolving.targets.findings = resolving.report.findings;
        resolving.targets
    }

    /// Everything in the scope of a policy that lives in `own`.
    pub(crate) fn everything(&self, own: &Namespace) -> Option<Hit> {
        let (closeness, kind, name) = match scope(self.tenants, own) {
            Scope::Mesh => (Closeness::Mesh, Kind::Mesh.as_str(), "default".to_owned()),
            Scope::Workspace(name) => (
                Closeness::Workspace,
                Kind::Workspace.as_str(),
                name.to_string(),
            ),
            Scope::Namespace => (Closeness::Namespace, "Namespace", own.to_string()),
        };
        all(kind, &name, self.reach(own), closeness)
    }

    /// The known namespaces that a policy in `own` may have targets in.
    pub(crate) fn reach(&self, own: &Namespace) -> BTreeSet<Namespace> {
        // A policy of an ordinary namespace stays in it.
        if scope(self.tenants, own) == Scope::Namespace {
            return BTreeSet::from([own.clone()]);
        }
        let reach = |to: &&Namespace| self.tenants.may_reach(own.as_str(), to.as_str());
        let mut reached: BTreeSet<Namespace> = self
            .index
            .namespaces
            .iter()
            .filter(reach)
            .cloned()
            .collect();
        reached.insert(own.clone());
        reached
    }
}

struct Resolving<'r, 'w, 'a> {
    world: &'r Resolver<'w, 'a>,
    own: &'r Namespace,
    kind: Kind,
    report: Report<'r>,
    targets: Targets,
}

impl Resolving<'_, '_, '_> {
    fn not_found(&mut self, field: &str, message: String) {
        self.report.say(TARGET_NOT_FOUND, field, message);
        self.targets.not_found = true;
    }

    fn not_permitted(&mut self, field: &str, message: String) {
        self.report.say(TARGET_NOT_PERMITTED, field, message);
        self.targets.not_permitted = true;
    }

    fn by_ref(&mut self, at: &str, target: &TargetRef) {
        let field = format!("{at}.name");
        match target.kind.as_str() {
            "Service" => self.service(&field, &target.name),
            "GRPCRoute" if self.kind == Kind::RetryTimeoutPolicy => {
                self.route(Kind::GRPCRoute, at, target);
            }
            "HTTPRoute" if self.kind == Kind::RetryTimeoutPolicy => {
                self.route(Kind::HTTPRoute, at, target);
            }
            "Namespace" => match Namespace::try_from(target.name.as_str()) {
                Ok(name) => self.namespace(&field, name),
                Err(error) => self.not_found(&field, error.to_string()),
            },
            "Workspace" => self.workspace(&field, &target.name),
            "Mesh" => match scope(self.world.tenants, self.own) {
                Scope::Mesh => self.all(),
                Scope::Workspace(_) | Scope::Namespace => {
                    let root = self.world.tenants.root_namespace();
                    let message = format!("only a policy in {root} may target the Mesh");
                    self.not_permitted(&field, message);
                }
            },
            other => {
                let message = format!("a {} cannot name a {other}", self.kind);
                let fix = "select workloads by their labels with targetSelectors".to_owned();
                self.report
                    .add(TARGET_KIND, &format!("{at}.kind"), message, Some(fix));
                self.targets.not_found = true;
            }
        }
    }

    fn all(&mut self) {
        let everything = self.world.everything(self.own);
        self.targets.hits.extend(everything);
    }

    fn service(&mut self, field: &str, name: &str) {
        let found = ServiceName::parse(self.own.as_str(), name).ok();
        match found.filter(|name| self.world.index.services.contains_key(name)) {
            Some(name) => {
                let closeness = Closeness::Name;
                self.targets.hits.push(Hit::Service { name, closeness });
            }
            None => {
                let message = format!("Service {}/{name} does not exist", self.own);
                self.not_found(field, message);
            }
        }
    }

    fn route(&mut self, kind: Kind, at: &str, target: &TargetRef) {
        let key = ObjectKey {
            kind,
            namespace: Some(self.own.to_string()),
            name: target.name.clone(),
        };
        let name = object_ref(&key);
        let found = name.and_then(|name| self.world.index.routes.get_key_value(&name));
        let Some((route, object)) = found else {
            return self.not_found(&format!("{at}.name"), format!("{key} does not exist"));
        };
        let section = target.section_name.clone();
        let has = |rule: &str| {
            let spec = routes::spec(&object.value);
            let mut rules = spec.iter().flat_map(|spec| spec.rules.iter().flatten());
            rules.any(|known| known.name.as_deref() == Some(rule))
        };
        if let Some(rule) = section.as_deref().filter(|rule| !has(rule)) {
            let message = format!("{key} has no rule {rule:?}");
            return self.not_found(&format!("{at}.sectionName"), message);
        }
        let route = route.clone();
        self.targets.hits.push(Hit::Route { route, section });
    }

    fn namespace(&mut self, field: &str, name: Namespace) {
        if !self
            .world
            .tenants
            .may_reach(self.own.as_str(), name.as_str())
        {
            let message = format!("a policy in {} may not target namespace {name}", self.own);
            return self.not_permitted(field, message);
        }
        if !self.world.index.namespaces.contains(&name) {
            return self.not_found(field, format!("namespace {name} has no object"));
        }
        let text = name.to_string();
        let hit = all(
            "Namespace",
            &text,
            BTreeSet::from([name]),
            Closeness::Namespace,
        );
        self.targets.hits.extend(hit);
    }

    fn workspace(&mut self, field: &str, name: &str) {
        let tenants = self.world.tenants;
        let Some(tenant) = tenants.named(name) else {
            return self.not_found(field, format!("Workspace {name} does not exist"));
        };
        let permitted = match scope(tenants, self.own) {
            Scope::Mesh => true,
            Scope::Workspace(own) => own == tenant.name,
            Scope::Namespace => false,
        };
        if !permitted {
            let message = format!(
                "a policy in {} may not target Workspace {name}: only its home may",
                self.own
            );
            return self.not_permitted(field, message);
        }
        let member = |namespace: &&Namespace| match tenants.owner(namespace.as_str()) {
            Owner::Member(of) => of.name == tenant.name,
            Owner::Contested(_) | Owner::Unclaimed => false,
        };
        let namespaces = self
            .world
            .index
            .namespaces
            .iter()
            .filter(member)
            .cloned()
            .collect();
        let kind = Kind::Workspace.as_str();
        let hit = all(kind, tenant.name.as_str(), namespaces, Closeness::Workspace);
        self.targets.hits.extend(hit);
    }

    fn by_labels(&mut self, at: &str, target: &TargetSelector) {
        let wanted = labels(&target.match_labels);
        if wanted.0.is_empty() {
            return;
        }
        let namespaces = self.namespaces(at, target);
        match (target.kind.as_str(), self.kind) {
            ("Service", _) => self.services(at, &namespaces, &wanted),
            ("Workload", Kind::AccessPolicy) => {
                let found = namespaces
                    .iter()
                    .flat_map(|namespace| self.world.index.workloads_in(namespace))
                    .any(|(_, entry)| entry.has(&wanted));
                self.none(at, found);
                self.targets.hits.push(Hit::Workloads {
                    namespaces,
                    labels: wanted,
                });
            }
            (kind, policy) => {
                let message = format!("a {policy} cannot select a {kind}");
                let fix = if policy == Kind::AccessPolicy {
                    "select kind: Service or kind: Workload"
                } else {
                    "select kind: Service"
                };
                self.report.add(
                    TARGET_KIND,
                    &format!("{at}.kind"),
                    message,
                    Some(fix.to_owned()),
                );
                self.targets.not_found = true;
            }
        }
    }

    fn services(&mut self, at: &str, namespaces: &BTreeSet<Namespace>, wanted: &Labels) {
        let found: Vec<ServiceName> = namespaces
            .iter()
            .flat_map(|namespace| self.world.index.services_in(namespace))
            .filter(|(_, entry)| entry.has(wanted))
            .map(|(name, _)| name.clone())
            .collect();
        self.none(at, !found.is_empty());
        let closeness = Closeness::Selector;
        self.targets.hits.extend(
            found
                .into_iter()
                .map(|name| Hit::Service { name, closeness }),
        );
    }

    fn none(&mut self, at: &str, found: bool) {
        if !found {
            self.targets.selects_nothing = true;
            let message = "nothing has these labels now";
            self.report
                .say(SELECTS_NOTHING, &format!("{at}.matchLabels"), message);
        }
    }

    /// The namespaces that a selector looks in, as far as they are permitted.
    fn namespaces(&mut self, at: &str, target: &TargetSelector) -> BTreeSet<Namespace> {
        if target.all_namespaces == Some(true) {
            if scope(self.world.tenants, self.own) == Scope::Namespace {
                let message = format!("a policy in {} may select there only", self.own);
                self.not_permitted(&format!("{at}.allNamespaces"), message);
            }
            return self.world.reach(self.own);
        }
        let Some(names) = &target.namespaces else {
            return BTreeSet::from([self.own.clone()]);
        };
        let mut found = BTreeSet::new();
        for (index, name) in names.iter().enumerate() {
            let Ok(namespace) = Namespace::try_from(name.as_str()) else {
                continue;
            };
            if self.world.tenants.may_reach(self.own.as_str(), name) {
                found.insert(namespace);
            } else {
                let message = format!("a policy in {} may not select in {name}", self.own);
                self.not_permitted(&format!("{at}.namespaces[{index}]"), message);
            }
        }
        found
    }
}

fn all(
    kind: &str,
    name: &str,
    namespaces: BTreeSet<Namespace>,
    closeness: Closeness,
) -> Option<Hit> {
    let object = ObjectRef {
        kind: kind.into(),
        namespace: None,
        name: name.try_into().ok()?,
    };
    Some(Hit::All {
        object,
        namespaces,
        closeness,
    })
}

/// The target fields of a policy; nothing for other kinds.
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

//! Strict isolation of workspaces as DENY policies for everybody else.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tacit_api::workspace::Isolation;
use tacit_api::{Kind, Object, WorkspaceSpec};
use tacit_compiler::findings::{ISTIO_CANNOT, ISTIO_DIFFERS, ISTIO_ELSEWHERE, ISTIO_STRICTER};
use tacit_model::tables::Tenancy;
use tacit_model::{Namespace, ObjectRef, WorkspaceName};

use crate::callers::everyone_in;
use crate::object::{Draft, Kind as Emitted, Objects, texts};
use crate::world::World;

/// The name of the policies; no AccessPolicy gives one with these dots.
const NAME: &str = "tacit.isolation";

/// Translates isolation, and denies namespaces that two workspaces claim.
pub(crate) fn translate(world: &mut World<'_>, objects: &mut Objects) {
    for row in world.s.namespaces.values() {
        if let Tenancy::Contested(claims) = &row.tenancy
            && row.namespace != *world.root
        {
            let mut draft = deny(&row.namespace, json!([{}]));
            let names: Vec<String> = claims.iter().map(ToString::to_string).collect();
            draft.note(
                "spec.rules",
                format!("claimed by Workspaces {}", names.join(", ")),
            );
            objects.add(draft);
        }
    }
    let compiler = world.compiler;
    for (name, members) in compiler.workspace_members() {
        let Some((object, spec)) = workspace(world, name) else {
            continue;
        };
        if spec.isolation == Some(Isolation::Strict) {
            let each = |namespace: &Namespace| one(world, namespace, members, &object);
            let here = members.iter().filter(|member| *member != world.root);
            objects.extend(here.map(each));
            tell(world, name, members, &object);
        }
        if spec.grants.is_some() {
            let message = "Istio does not say who may change what; Kubernetes RBAC and \
                           admission do"
                .to_owned();
            world.say(&object, ISTIO_ELSEWHERE, "spec.grants", message);
        }
    }
}

/// The object of a workspace, and what it says.
fn workspace<'a>(
    world: &World<'a>,
    name: &WorkspaceName,
) -> Option<(ObjectRef, &'a WorkspaceSpec)> {
    let object = ObjectRef {
        kind: Kind::Workspace.as_str().into(),
        namespace: None,
        name: name.as_str().try_into().ok()?,
    };
    let Object::Workspace(workspace) = &world.object(&object)?.value else {
        return None;
    };
    Some((object, &workspace.spec))
}

fn deny(namespace: &Namespace, rules: Value) -> Draft {
    let mut draft = Draft::new(Emitted::AuthorizationPolicy, namespace, NAME);
    draft.set("action", "DENY".into());
    draft.set("rules", rules);
    draft
}

/// Denies everybody who is no member, those without an identity among them.
fn one(
    world: &World<'_>,
    namespace: &Namespace,
    members: &BTreeSet<Namespace>,
    object: &ObjectRef,
) -> Draft {
    let domain = &world.s.mesh.trust_domain;
    let members = members.iter().map(|member| everyone_in(domain, member));
    let rule = json!({"from": [{"source": {"notPrincipals": texts(members)}}]});
    let mut draft = deny(namespace, json!([rule]));
    draft.note("spec.rules[0]", format!("{object} spec.isolation"));
    draft.note(
        "spec.rules[0].from[0].source.notPrincipals",
        format!("{object} spec.members"),
    );
    draft
}

fn tell(
    world: &mut World<'_>,
    name: &WorkspaceName,
    members: &BTreeSet<Namespace>,
    object: &ObjectRef,
) {
    let mut importers = BTreeSet::new();
    for row in members
        .iter()
        .filter_map(|member| world.s.namespaces.get(member))
    {
        if let Tenancy::Member {
            isolation: Some(isolation),
            ..
        } = &row.tenancy
        {
            importers.extend(
                isolation
                    .importers
                    .keys()
                    .filter(|importer| *importer != name),
            );
        }
    }
    if !importers.is_empty() {
        let names: Vec<String> = importers.iter().map(ToString::to_string).collect();
        let message = format!(
            "callers of {} stay denied: a DENY of Istio cannot make an exception for the \
             workloads of some Services",
            names.join(", ")
        );
        world.say(object, ISTIO_STRICTER, "spec.exports", message);
    }
    if members.contains(world.root) {
        let message = format!(
            "{} is Istio's root namespace, where isolation would hold for the whole mesh: it is \
             not isolated",
            world.root
        );
        world.say(object, ISTIO_CANNOT, "spec.isolation", message);
    }
    if may_grow(world, name) {
        let message = "Istio has no workspaces: the namespaces that match now were listed; \
                       translate again when there are more"
            .to_owned();
        world.say(object, ISTIO_DIFFERS, "spec.members", message);
    }
}

/// True if a workspace names members by a pattern.
pub(crate) fn may_grow(world: &World<'_>, name: &WorkspaceName) -> bool {
    workspace(world, name).is_some_and(|(_, spec)| {
        let members = spec.members.iter().flatten();
        let mut names = members.flat_map(|member| &member.namespaces);
        names.any(|pattern| pattern.ends_with('*'))
    })
}

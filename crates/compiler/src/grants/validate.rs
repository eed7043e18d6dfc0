//! Problems inside one Workspace: patterns and grants that can never mean what they say.

use tacit_api::workspace::{Grant, Verb, WorkspaceSpec};
use tacit_api::{Kind, Located, Object};
use tacit_model::finding::Finding;
use tacit_model::{Namespace, WorkspaceName};

use crate::grants::{BAD_GRANT, limits, problem};

/// A member pattern that is neither a name nor a prefix.
const BAD_PATTERN: &str = "TCT1613";
/// A list that says nothing.
const SAYS_NOTHING: &str = "TCT1614";

/// Checks a Workspace by itself. Any finding here is an error: the object is `Invalid`.
#[must_use]
pub fn validate(object: &Located<Object>) -> Vec<Finding> {
    let Object::Workspace(workspace) = &object.value else {
        return Vec::new();
    };
    let mut check = Check {
        object,
        findings: Vec::new(),
    };
    let name = workspace.metadata.name.as_str();
    if let Err(error) = WorkspaceName::try_from(name) {
        let fix = "choose another name".to_owned();
        check.add(BAD_PATTERN, "metadata.name", error.to_string(), fix);
    }
    check.names(&workspace.spec);
    check.exports(&workspace.spec);
    for (index, grant) in workspace.spec.grants.iter().flatten().enumerate() {
        check.grant(&format!("spec.grants[{index}]"), grant);
    }
    check.findings
}

struct Check<'a> {
    object: &'a Located<Object>,
    findings: Vec<Finding>,
}

impl Check<'_> {
    fn add(&mut self, code: &str, field: &str, message: String, fix: String) {
        self.findings
            .push(problem(self.object, code, field, message, fix));
    }

    fn names(&mut self, spec: &WorkspaceSpec) {
        let home = spec
            .home
            .iter()
            .map(|home| ("spec.home".to_owned(), home, false));
        let members = spec.members.iter().flatten().enumerate();
        let globs = members.flat_map(|(member, found)| {
            let names = found.namespaces.iter().enumerate();
            names.map(move |(index, name)| {
                (
                    format!("spec.members[{member}].namespaces[{index}]"),
                    name,
                    true,
                )
            })
        });
        for (field, name, star) in home.chain(globs) {
            let prefix = name.strip_suffix('*').filter(|_| star);
            let valid = match prefix {
                Some("") => true,
                // A prefix may end in a dash; a name may not.
                Some(prefix) => Namespace::try_from(format!("{prefix}x").as_str()).is_ok(),
                None => Namespace::try_from(name.as_str()).is_ok(),
            };
            if !valid {
                let message = format!("{name:?} is no namespace and no prefix of namespaces");
                let fix = "write a name, or the beginning of names and `*`: shop-*".to_owned();
                self.add(BAD_PATTERN, &field, message, fix);
            }
        }
        for (index, member) in spec.members.iter().flatten().enumerate() {
            if member.namespaces.is_empty() {
                self.empty(&format!("spec.members[{index}].namespaces"));
            }
        }
    }

    fn exports(&mut self, spec: &WorkspaceSpec) {
        for (index, export) in spec.exports.iter().flatten().enumerate() {
            let labels = export.services.match_labels.as_ref();
            let names = export.services.names.as_ref();
            let nothing = (labels.is_none() && names.is_none())
                || labels.is_some_and(std::collections::BTreeMap::is_empty)
                || names.is_some_and(Vec::is_empty);
            if nothing {
                self.empty(&format!("spec.exports[{index}].services"));
            }
            if export.to.is_empty() {
                self.empty(&format!("spec.exports[{index}].to"));
            }
        }
    }

    fn empty(&mut self, field: &str) {
        let message = "an empty list selects nothing".to_owned();
        let fix = "name something, or remove the entry".to_owned();
        self.add(SAYS_NOTHING, field, message, fix);
    }

    fn grant(&mut self, field: &str, grant: &Grant) {
        for (list, is_empty) in [
            ("to", grant.to.is_empty()),
            ("verbs", grant.verbs.is_empty()),
        ] {
            if is_empty {
                self.empty(&format!("{field}.{list}"));
            }
        }
        for (index, to) in grant.to.iter().enumerate() {
            if to.user.is_some() == to.group.is_some() {
                let message = "a subject is either a user or a group".to_owned();
                let fix = "write {user: NAME} or {group: NAME}".to_owned();
                self.add(BAD_GRANT, &format!("{field}.to[{index}]"), message, fix);
            }
        }
        self.kinds(field, grant);
        self.fields(field, grant);
        self.limits(field, grant);
        let labels = grant.targets.as_ref().map(|targets| &targets.match_labels);
        if labels.is_some_and(std::collections::BTreeMap::is_empty) {
            self.empty(&format!("{field}.targets.matchLabels"));
        }
    }

    fn kinds(&mut self, field: &str, grant: &Grant) {
        let needs_kind = |verb: &Verb| match verb {
            Verb::Create | Verb::Delete | Verb::Update => true,
            Verb::Impersonate | Verb::Run => false,
        };
        let kinds = grant.kinds.as_deref().unwrap_or_default();
        if kinds.is_empty() && grant.verbs.iter().any(needs_kind) {
            let message = "Create, Update and Delete need kinds".to_owned();
            let fix = "add kinds, for example [RetryTimeoutPolicy]".to_owned();
            self.add(BAD_GRANT, &format!("{field}.kinds"), message, fix);
        }
        for (index, name) in kinds.iter().enumerate() {
            let field = format!("{field}.kinds[{index}]");
            match Kind::from_name(name) {
                Some(Kind::Mesh) => {
                    let message = "only the administrator changes the Mesh".to_owned();
                    self.add(BAD_GRANT, &field, message, "remove the kind".to_owned());
                }
                Some(_) => {}
                None => {
                    let known = Kind::ALL.iter().map(|kind| kind.as_str());
                    let fix = match tacit_api::suggest::nearest(name, known) {
                        Some(meant) => format!("did you mean `{meant}`?"),
                        None => "write the name of a kind".to_owned(),
                    };
                    self.add(BAD_GRANT, &field, format!("unknown kind {name:?}"), fix);
                }
            }
        }
    }

    fn fields(&mut self, field: &str, grant: &Grant) {
        for (index, path) in grant.fields.iter().flatten().enumerate() {
            if path == "spec" || !is_field(grant, path) {
                let message = format!("{path:?} is no field below spec of the kinds listed");
                let fix = "write a path such as spec.retry or spec.retry.attempts".to_owned();
                self.add(BAD_GRANT, &format!("{field}.fields[{index}]"), message, fix);
            }
        }
    }

    fn limits(&mut self, field: &str, grant: &Grant) {
        for (index, limit) in grant.limits.iter().flatten().enumerate() {
            let field = format!("{field}.limits[{index}].rule");
            if let Err(message) = limits::compile(&limit.rule) {
                let fix = "write a comparison such as spec.retry.attempts <= 3".to_owned();
                self.add(BAD_GRANT, &field, message, fix);
                continue;
            }
            // An absent field passes, so a misspelt one would pass always.
            for path in limits::fields_of(&limit.rule) {
                if !is_field(grant, &path) {
                    let message = format!("{path} is no field of the kinds listed");
                    let fix = "correct the path; a rule about a field that is never there holds \
                               always"
                        .to_owned();
                    self.add(BAD_GRANT, &field, message, fix);
                }
            }
        }
    }
}

/// True if one of the kinds that the grant lists has this field.
fn is_field(grant: &Grant, path: &str) -> bool {
    let mut kinds = grant.kinds.iter().flatten();
    kinds.any(|kind| Kind::from_name(kind).is_some_and(|kind| kind.has_field(path)))
}

#[cfg(test)]
mod tests;

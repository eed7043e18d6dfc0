//! Advice about Workspaces: grants that give nothing to anybody.

use tacit_api::workspace::{Grant, WorkspaceSpec};

use super::World;
use crate::findings::{GRANT_ENDED, GRANT_TO_NOBODY, Report};
use crate::grants::BUILT_IN;

/// Checks the grants of a Workspace.
pub(super) fn check(report: &mut Report<'_>, world: &World<'_, '_>, spec: &WorkspaceSpec) {
    for (index, grant) in spec.grants.iter().flatten().enumerate() {
        let at = format!("spec.grants[{index}]");
        if let Some(until) = &grant.until
            && until.unix_seconds() <= world.now
        {
            let message = format!("the grant ended at {until}");
            report.say(GRANT_ENDED, &format!("{at}.until"), message);
        }
        nobody(report, world, &at, grant);
    }
}

/// Says which names of a grant no subject of the Mesh has. A mesh without subjects knows people
/// from elsewhere, or has none yet.
fn nobody(report: &mut Report<'_>, world: &World<'_, '_>, at: &str, grant: &Grant) {
    let subjects = world
        .mesh
        .settings
        .spec
        .and_then(|spec| spec.subjects.as_deref());
    let Some(subjects) = subjects.filter(|subjects| !subjects.is_empty()) else {
        return;
    };
    let users = || {
        subjects
            .iter()
            .filter_map(|subject| subject.user.as_deref())
    };
    let groups = || {
        subjects
            .iter()
            .flat_map(|subject| subject.groups.iter().flatten())
    };
    for (index, to) in grant.to.iter().enumerate() {
        let (kind, name) = match (&to.user, &to.group) {
            (Some(user), None) if !users().any(|known| known == user) => ("user", user),
            (None, Some(group))
                if !group.starts_with(BUILT_IN) && !groups().any(|known| known == group) =>
            {
                ("group", group)
            }
            _ => continue,
        };
        let message = format!("no subject of the Mesh has the {kind} {name}");
        report.say(
            GRANT_TO_NOBODY,
            &format!("{at}.to[{index}].{kind}"),
            message,
        );
    }
}

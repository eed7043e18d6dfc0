//! Who may start workloads as whom.

use std::collections::BTreeSet;

use tacit_model::{Namespace, Now, ServiceAccount, Snapshot, WorkspaceName};

use crate::denial::{Denial, DenialKind};

/// The person who asks, as the kernel knows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runner {
    /// The user id.
    pub uid: u32,
    /// The group ids, supplementary ones included.
    pub gids: BTreeSet<u32>,
}

/// Which grant lets them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunLeave {
    /// They are the administrator: who started the mesh.
    Administrator,
    /// A `Run` grant of this workspace, by its index.
    Grant(WorkspaceName, u32),
}

/// May `runner` start a workload as `namespace`/`service_account`?
///
/// `administrator` is the user id that started the mesh. Grants are per namespace.
pub fn may_run(
    s: &Snapshot,
    administrator: u32,
    runner: &Runner,
    namespace: &Namespace,
    service_account: &ServiceAccount,
    now: Now,
) -> Result<RunLeave, Denial> {
    if runner.uid == administrator {
        return Ok(RunLeave::Administrator);
    }
    let seconds = now.unix_ns / 1_000_000_000;
    let grant = s.run_grants.iter().find(|grant| {
        let known = grant.uids.contains(&runner.uid) || !grant.gids.is_disjoint(&runner.gids);
        let subject = grant.everyone || known;
        let in_time = grant.until.is_none_or(|until| seconds < until);
        subject && in_time && grant.namespaces.contains(namespace)
    });
    match grant {
        Some(grant) => Ok(RunLeave::Grant(grant.workspace.clone(), grant.index)),
        None => Err(Denial::new(
            DenialKind::Policy,
            format!(
                "uid {} may not run workloads as {namespace}/{service_account}: no Workspace has \
                 a Run grant in force for that user and namespace. An administrator gives one in \
                 a Workspace with {namespace} among its members: grants: [{{to: [{{group: \
                 \"system:local\"}}], verbs: [Run]}}] is for every user of this machine",
                runner.uid
            ),
        )),
    }
}

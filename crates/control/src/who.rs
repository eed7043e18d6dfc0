//! Who asks the admin API: by the kernel's word on this machine, by certificate from afar.

use std::collections::BTreeSet;

use nix::sys::socket::{getsockopt, sockopt};
use tacit_compiler::grants::Caller;
use tacit_transport::own::PeerCertificate;
use tokio::net::UnixStream;

use crate::admin::types::{Problem, ProblemKind};

/// Groups that one process can be in (`NGROUPS_MAX`).
const MAX_GROUPS: usize = 65_536;

/// The process at the other end of a Unix socket, with all its groups.
pub(crate) fn local(stream: &UnixStream) -> Result<Caller, Problem> {
    let unknown = |why: String| Problem {
        kind: ProblemKind::Forbidden,
        message: format!("the kernel does not say who you are: {why}").into(),
        findings: Vec::new(),
    };
    let credentials =
        getsockopt(stream, sockopt::PeerCredentials).map_err(|error| unknown(error.to_string()))?;
    let mut gids = BTreeSet::from([credentials.gid()]);
    gids.extend(supplementary_groups(credentials.pid()));
    Ok(Caller::Local {
        uid: credentials.uid(),
        gids,
    })
}

/// From `/proc`: the socket tells only the first group. A process that is gone has none, which
/// grants less, never more. Its id cannot be another's yet: the socket is young.
fn supplementary_groups(pid: i32) -> Vec<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Groups:"));
    let groups = line.unwrap_or_default().split_whitespace();
    groups
        .take(MAX_GROUPS)
        .filter_map(|group| group.parse().ok())
        .collect()
}

/// The holder of a certificate. Nodes and workloads have no business here.
pub(crate) fn remote(peer: &PeerCertificate) -> Result<Caller, Problem> {
    let forbidden = |message: &str| Problem {
        kind: ProblemKind::Forbidden,
        message: message.into(),
        findings: Vec::new(),
    };
    match peer {
        PeerCertificate::CommonName(name) => Ok(Caller::Certificate {
            common_name: name.clone(),
        }),
        PeerCertificate::None => Err(forbidden(
            "show a client certificate; an administrator makes one with `tacit certificate`",
        )),
        PeerCertificate::Node(_) | PeerCertificate::Workload(_) => Err(forbidden(
            "certificates of nodes and workloads are not for the admin API",
        )),
    }
}

//! Words for decisions about access: denials, audits and traces.

use tacit_model::access::Mode;
use tacit_model::tables::AccessRow;
use tacit_model::trace::Trace;
use tacit_model::{Provenance, WorkspaceName};

use super::{AllowedBy, Call, DeniedBy, Enforced, Outcome, Target};
use crate::denial::{Denial, DenialKind};
use crate::matching::workspace_of;

impl<'a> Target<'a> {
    fn name(&self) -> String {
        format!("port {} of {}", self.port, self.local.name)
    }

    pub(super) fn audit(&self, call: &Call<'_>) -> Option<Denial> {
        if !self.rows().any(|row| row.mode == Mode::Audit) {
            return None;
        }
        match self.decide(call, Enforced::AuditToo) {
            Outcome::Denied(why) => Some(self.denial(call, &why)),
            Outcome::Allowed(_) | Outcome::OnRequest => None,
        }
    }

    pub(super) fn denial(&self, call: &Call<'_>, why: &DeniedBy<'_>) -> Denial {
        let (who, target) = (call.who(), self.name());
        let rule_path = |row: &AccessRow, path: &str| Provenance::Field {
            object: row.object(),
            path: path.into(),
        };
        match why {
            DeniedBy::Broken(row, why) => Denial::policy(
                format!(
                    "AccessPolicy {} is invalid and denies until mended: {why}",
                    row.name
                ),
                rule_path(row, "spec"),
            ),
            DeniedBy::Contested(claims) => {
                let claims: Vec<&str> = claims.iter().map(WorkspaceName::as_str).collect();
                let namespace = &self.local.class.namespace;
                let claims = claims.join(", ");
                Denial::new(
                    DenialKind::Policy,
                    format!("namespace {namespace} is claimed by several workspaces: {claims}"),
                )
            }
            DeniedBy::Default => Denial::policy(
                format!("{who} may not call {target}: no policy allows it, nor does the default"),
                self.s.mesh.default_access.from.clone(),
            ),
            DeniedBy::Isolation { workspace, from } => Denial::policy(
                format!(
                    "{who} may not call {target}: workspace {workspace} is isolated, and the \
                     caller is neither a member nor an importer"
                ),
                (*from).clone(),
            ),
            DeniedBy::NoAllow(rows) => {
                let names: Vec<String> = rows.iter().map(|row| row.name.to_string()).collect();
                let path = rows.first().map(|row| rule_path(row, "spec.rules"));
                Denial {
                    kind: DenialKind::Policy,
                    reason: format!(
                        "{who} may not call {target}: no rule of AccessPolicy {} allows it",
                        names.join(", ")
                    ),
                    by: path,
                }
            }
            DeniedBy::NoClass => Denial::new(
                DenialKind::UnknownDestination,
                format!("workload {} is not fully known here", self.local.name),
            ),
            DeniedBy::Rule(row, rule) => Denial::policy(
                format!(
                    "{who} may not call {target}: AccessPolicy {} denies it",
                    row.name
                ),
                rule_path(row, &rule.path),
            ),
        }
    }

    pub(super) fn tell(&self, call: &Call<'_>, outcome: &Outcome<'_>, trace: &mut Trace) {
        let (who, target) = (call.who(), self.name());
        let isolation_failed = matches!(
            outcome,
            Outcome::Denied(DeniedBy::Isolation { .. } | DeniedBy::Contested(_))
        );
        if !isolation_failed {
            let namespace = &self.local.class.namespace;
            let outcome = match workspace_of(self.s, namespace) {
                Some(workspace) => format!("workspace {workspace} lets {who} through"),
                None => format!("namespace {namespace} belongs to no workspace"),
            };
            trace.step("isolation", outcome, None);
        }
        match outcome {
            Outcome::Denied(why) => {
                let denial = self.denial(call, why);
                let topic = if isolation_failed {
                    "isolation"
                } else {
                    "access"
                };
                trace.step(topic, denial.reason, denial.by);
            }
            Outcome::Allowed(AllowedBy::Default) => trace.step(
                "access",
                format!("no Allow applies to {target}, and the default lets {who} in"),
                Some(self.s.mesh.default_access.from.clone()),
            ),
            Outcome::Allowed(AllowedBy::Rule(row, rule)) => trace.step(
                "access",
                format!("AccessPolicy {} allows {who} to call {target}", row.name),
                Some(Provenance::Field {
                    object: row.object(),
                    path: rule.path.clone(),
                }),
            ),
            Outcome::OnRequest => trace.step(
                "access",
                format!("it depends on each request to {target}"),
                None,
            ),
        }
        if let Some(audit) = self.audit(call) {
            trace.step(
                "audit",
                format!("in Audit mode: {}", audit.reason),
                audit.by,
            );
        }
    }
}

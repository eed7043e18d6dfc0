//! Changes of labels, selectors and services that attach policies to them or detach policies.
//!
//! Such a change needs the grant that the policy itself would need there: else a label would be
//! a way around the grants.

use std::collections::BTreeSet;

use tacit_api::workspace::Grant;
use tacit_api::{Located, Object};
use tacit_model::finding::Finding;

use crate::grants::check::{Ask, TargetsOf, selector_finds, targeting};
use crate::grants::{Change, Subject, TARGET_NOT_GRANTED, World, refusal};
use crate::workspace::Tenant;

impl World<'_> {
    /// Checks the policies that the change of a Service or Workload attaches or detaches.
    pub(crate) fn attachments(
        &self,
        tenant: &Tenant<'_>,
        who: &Subject,
        change: Change<'_>,
        now: i64,
    ) -> Result<(), Box<Finding>> {
        let moved = moves_its_workloads(change);
        for policy in &self.policies {
            let hit = |object: &&Located<Object>| self.hits(&policy.value, &object.value);
            let (before, after) = (change.before().filter(hit), change.after().filter(hit));
            if let Some(new) = after.filter(|_| before.is_none() || moved) {
                self.like(tenant, who, Change::Create(policy), (change, new), now)?;
            }
            if let Some(old) = before.filter(|_| after.is_none() || moved) {
                self.like(tenant, who, Change::Delete(policy), (change, old), now)?;
            }
        }
        Ok(())
    }

    /// Checks as if `who` made the policy there, or took it away.
    fn like(
        &self,
        tenant: &Tenant<'_>,
        who: &Subject,
        policy: Change<'_>,
        (change, target): (Change<'_>, &Located<Object>),
        now: i64,
    ) -> Result<(), Box<Finding>> {
        let ask = Ask {
            who,
            change: policy,
            targets: TargetsOf::Labels(&target.value.metadata().labels),
            now: Some(now),
        };
        let Err(inner) = self.one_grant_covers(tenant, &ask) else {
            return Ok(());
        };
        let does = match policy {
            Change::Delete(_) => "detaches",
            Change::Create(_) | Change::Update { .. } => "attaches",
        };
        let key = policy.object().value.key();
        let message = format!(
            "this {does} {key}, which needs a grant too: {}",
            inner.message
        );
        let object = change.object();
        let field = "metadata.labels";
        Err(refusal(
            object,
            TARGET_NOT_GRANTED,
            field,
            message,
            inner.fix,
        ))
    }

    /// True if the policy has this Service or Workload as a target.
    fn hits(&self, policy: &Object, object: &Object) -> bool {
        let Some(targets) = targeting(policy) else {
            return false;
        };
        let from = policy.metadata().namespace.as_deref().unwrap_or_default();
        let metadata = object.metadata();
        let by_name = targets.refs.unwrap_or_default().iter().any(|target| {
            metadata.namespace.as_deref() == Some(from)
                && target.kind == object.kind().as_str()
                && target.name == metadata.name
        });
        let mut selectors = targets.selectors.unwrap_or_default().iter();
        by_name || selectors.any(|selector| selector_finds(self, from, selector, object))
    }

    /// Labels that grants go by are set only by a grant that goes by them itself.
    pub(crate) fn protected_labels(
        &self,
        tenant: &Tenant<'_>,
        grant: &Grant,
        change: Change<'_>,
    ) -> Result<(), Box<Finding>> {
        let (Object::Service(_), Some(new)) = (&change.object().value, change.after()) else {
            return Ok(());
        };
        let keys = |grant: &Grant| {
            let targets = grant.targets.iter();
            let keys = targets.flat_map(|targets| targets.match_labels.keys().cloned());
            keys.collect::<BTreeSet<String>>()
        };
        let own = keys(grant);
        let old = change.before().map(|old| &old.value.metadata().labels);
        let new_labels = &new.value.metadata().labels;
        for key in tenant.spec.grants.iter().flatten().flat_map(keys) {
            let before = old.and_then(|labels| labels.get(&key));
            if before != new_labels.get(&key) && !own.contains(&key) {
                let message = format!(
                    "label {key} says which grants of Workspace {} hold for the Service",
                    tenant.name
                );
                let fix = "leave the label as it was, or ask the administrator".to_owned();
                let field = "metadata.labels";
                return Err(refusal(new, TARGET_NOT_GRANTED, field, message, fix));
            }
        }
        Ok(())
    }
}

/// True if the Service has other workloads afterwards: policies on it then move with it.
fn moves_its_workloads(change: Change<'_>) -> bool {
    let Change::Update { old, new } = change else {
        return false;
    };
    match (&old.value, &new.value) {
        (Object::Service(old), Object::Service(new)) => old.spec.selector != new.spec.selector,
        _ => false,
    }
}

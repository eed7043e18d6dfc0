//! Fields of policies about resilience and failover that Istio has no words for.

use tacit_api::failover::{Eject, Health, Signal, Step, WhenNoneHealthy};
use tacit_api::mesh::Defaults;
use tacit_api::retry_timeout::{Retry, RetryOn, Timeout};
use tacit_api::{FailoverPolicySpec, Object};
use tacit_compiler::findings::{Code, ISTIO_CANNOT, ISTIO_DIFFERS};
use tacit_model::ObjectRef;

use crate::world::World;

/// Says so of every object in force.
pub(crate) fn tell(world: &mut World<'_>) {
    let mut found = Found(Vec::new());
    for (name, located) in world.objects() {
        match &located.value {
            Object::RetryTimeoutPolicy(policy) => {
                let spec = &policy.spec;
                found.retry_timeout(name, "spec", spec.timeout.as_ref(), spec.retry.as_ref());
                found.field(
                    spec.from.is_some(),
                    (name, ISTIO_CANNOT, "spec.from"),
                    "a VirtualService does not know callers by identity: what the policy sets is \
                     left out, and its callers get what all others get",
                );
            }
            Object::FailoverPolicy(policy) => found.failover(name, "spec", &policy.spec),
            Object::Mesh(mesh) => found.defaults(name, mesh.spec.defaults.as_ref()),
            Object::Workspace(workspace) => found.defaults(name, workspace.spec.defaults.as_ref()),
            Object::AccessPolicy(_) | Object::Service(_) | Object::Workload(_) => {}
        }
    }
    for (name, code, field, message) in found.0 {
        world.say(&name, code, &field, message);
    }
}

struct Found(Vec<(ObjectRef, Code, String, String)>);

impl Found {
    fn field(&mut self, present: bool, (name, code, field): (&ObjectRef, Code, &str), text: &str) {
        if present {
            self.0
                .push((name.clone(), code, field.to_owned(), text.to_owned()));
        }
    }

    fn retry_timeout(
        &mut self,
        name: &ObjectRef,
        at: &str,
        timeout: Option<&Timeout>,
        retry: Option<&Retry>,
    ) {
        self.field(
            timeout.is_some_and(|timeout| timeout.idle.is_some()),
            (name, ISTIO_DIFFERS, &format!("{at}.timeout.idle")),
            "Istio bounds idle connections of TCP ports only; HTTP bodies wait without a bound",
        );
        let Some(retry) = retry else {
            return;
        };
        let at = format!("{at}.retry");
        self.field(
            retry.budget.is_some(),
            (name, ISTIO_CANNOT, &format!("{at}.budget")),
            "Istio's retryBudget counts requests under way, not a share of requests over a time; \
             further tries have no budget",
        );
        self.field(
            retry.max_body.is_some(),
            (name, ISTIO_CANNOT, &format!("{at}.maxBody")),
            "Istio keeps bodies up to the buffer limit of its proxies (1 MiB)",
        );
        let backoff = retry.backoff.as_ref();
        self.field(
            backoff.is_some_and(|backoff| backoff.max.is_some()),
            (name, ISTIO_DIFFERS, &format!("{at}.backoff.max")),
            "the longest pause of Istio is ten times the base",
        );
        self.field(
            backoff.is_some_and(|b| {
                b.base
                    .as_ref()
                    .is_some_and(|base| base.duration().is_zero())
            }),
            (name, ISTIO_DIFFERS, &format!("{at}.backoff.base")),
            "Istio has no pause of zero; its own of 25 ms holds",
        );
        let on = retry.on.as_deref().unwrap_or_default();
        let has = |wanted: RetryOn| on.contains(&wanted);
        let both = has(RetryOn::Reset) && has(RetryOn::DeadlineExceeded);
        let server = has(RetryOn::ServerError);
        self.field(
            !both && !server && (has(RetryOn::Reset) || has(RetryOn::DeadlineExceeded)),
            (name, ISTIO_DIFFERS, &format!("{at}.on")),
            "Istio's `reset` means broken connections and tries that ran out of time alike",
        );
        self.field(
            !both && server,
            (name, ISTIO_DIFFERS, &format!("{at}.on")),
            "Istio's `5xx` means broken connections and tries that ran out of time, too",
        );
    }

    fn defaults(&mut self, name: &ObjectRef, defaults: Option<&Defaults>) {
        let Some(defaults) = defaults else {
            return;
        };
        let at = "spec.defaults";
        self.retry_timeout(name, at, defaults.timeout.as_ref(), defaults.retry.as_ref());
        let spec = FailoverPolicySpec {
            order: defaults.order.clone(),
            orders: defaults.orders.clone(),
            health: defaults.health.clone(),
            spill: defaults.spill.clone(),
            failback: defaults.failback.clone(),
            when_none_healthy: defaults.when_none_healthy,
            ..FailoverPolicySpec::default()
        };
        self.failover(name, at, &spec);
    }

    fn failover(&mut self, name: &ObjectRef, at: &str, spec: &FailoverPolicySpec) {
        let steps = spec.order.as_deref().unwrap_or_default().iter().enumerate();
        for (index, _) in steps.filter(|(_, step): &(usize, &Step)| step.service.is_some()) {
            self.field(
                true,
                (name, ISTIO_CANNOT, &format!("{at}.order[{index}].service")),
                "Istio never falls back to another service; calls fail when no place is left",
            );
        }
        self.field(
            spec.orders.is_some(),
            (name, ISTIO_CANNOT, &format!("{at}.orders")),
            "Istio has one order for all clients; `order` holds for these, too",
        );
        self.field(
            spec.spill.is_some(),
            (name, ISTIO_CANNOT, &format!("{at}.spill")),
            "Istio moves a growing share as soon as fewer than 71 % are healthy, without a ramp",
        );
        self.field(
            spec.failback.is_some(),
            (name, ISTIO_CANNOT, &format!("{at}.failback")),
            "Istio comes back at once",
        );
        self.field(
            spec.when_none_healthy == Some(WhenNoneHealthy::Any),
            (name, ISTIO_DIFFERS, &format!("{at}.whenNoneHealthy")),
            "Istio then uses the unreachable and the unready, too",
        );
        if let Some(health) = &spec.health {
            self.health(name, &format!("{at}.health"), health);
        }
    }

    fn health(&mut self, name: &ObjectRef, at: &str, health: &Health) {
        let signals = health.signals.as_deref().unwrap_or_default();
        self.field(
            signals.contains(&Signal::Session),
            (name, ISTIO_CANNOT, &format!("{at}.signals")),
            "Istio has no heartbeat (Session): a lost node is noticed by calls that fail",
        );
        self.field(
            signals.contains(&Signal::Timeout) != signals.contains(&Signal::Connect),
            (name, ISTIO_DIFFERS, &format!("{at}.signals")),
            "Istio counts failed connections and timeouts alike",
        );
        self.field(
            health.probe.is_some(),
            (name, ISTIO_CANNOT, &format!("{at}.probe")),
            "Istio does not probe; Kubernetes' readiness probes do",
        );
        let Some(Eject {
            within,
            duration: _,
            consecutive: _,
            max_percent,
        }) = &health.eject
        else {
            return;
        };
        self.field(
            within.is_some(),
            (name, ISTIO_CANNOT, &format!("{at}.eject.within")),
            "Istio counts failures in a row, however far apart",
        );
        self.field(
            max_percent.is_some(),
            (name, ISTIO_DIFFERS, &format!("{at}.eject.maxPercent")),
            "Istio's bound also keeps unreachable endpoints in rotation",
        );
    }
}

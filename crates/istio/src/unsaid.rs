//! Fields of policies about resilience and failover that Istio has no words for.

use tacit_api::failover::{Eject, Health, Signal, Step, WhenNoneHealthy};
use tacit_api::mesh::Defaults;
use tacit_api::retry_timeout::{Backoff, Retry, RetryOn, RetryTimeoutPolicySpec, Timeout};
use tacit_api::{FailoverPolicySpec, FaultPolicySpec, Object};
use tacit_compiler::findings::{Code, ISTIO_CANNOT, ISTIO_DIFFERS};
use tacit_model::ObjectRef;

use crate::retries::is_registered;
use crate::world::World;

/// Says so of every object in force.
pub(crate) fn tell(world: &mut World<'_>) {
    let mut found = Found(Vec::new());
    for (name, located) in world.objects() {
        match &located.value {
            Object::RetryTimeoutPolicy(policy) => {
                found.retry_timeout_policy(name, &policy.spec);
            }
            Object::FailoverPolicy(policy) => found.failover(name, "spec", &policy.spec),
            Object::GRPCRoute(_) => found.field(
                true,
                (name, ISTIO_CANNOT, "spec"),
                "routes are not translated. Apply this one, if your Istio reads GRPCRoutes, and \
                 leave out the VirtualService of its parent; else write one with the methods as \
                 paths",
            ),
            Object::HTTPRoute(_) => found.field(
                true,
                (name, ISTIO_CANNOT, "spec"),
                "routes are not translated: Istio reads HTTPRoutes themselves. Apply this one, and \
                 leave out the VirtualService of its parent, which says where requests go, too",
            ),
            Object::FaultPolicy(policy) => found.fault(name, &policy.spec),
            Object::RateLimitPolicy(_) => found.field(
                true,
                (name, ISTIO_CANNOT, "spec.limits"),
                "Istio has no object that limits the rate of requests, only patches of Envoy's \
                 configuration (EnvoyFilter): nothing is limited",
            ),
            Object::TCPRoute(_) => found.field(
                true,
                (name, ISTIO_CANNOT, "spec"),
                "routes are not translated: Istio reads TCPRoutes, where its alpha features are \
                 on. Apply this one, or write a VirtualService with `tcp`",
            ),
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

    fn retry_timeout_policy(&mut self, name: &ObjectRef, spec: &RetryTimeoutPolicySpec) {
        // All fields are named, so that a new one cannot be left out without a word.
        let RetryTimeoutPolicySpec {
            target_refs,
            target_selectors: _,
            target_all: _,
            enforcement: _,
            priority: _,
            timeout,
            retry,
            hedge,
            circuit_breaker,
            from,
        } = spec;
        for (index, target) in target_refs.iter().flatten().enumerate() {
            self.field(
                matches!(&*target.kind, "GRPCRoute" | "HTTPRoute"),
                (name, ISTIO_CANNOT, &format!("spec.targetRefs[{index}]")),
                "what a policy says of a route is left out: routes are not translated",
            );
        }
        self.retry_timeout(name, "spec", timeout.as_ref(), retry.as_ref());
        self.not_yet(hedge.is_some(), name, "spec.hedge");
        self.not_yet(circuit_breaker.is_some(), name, "spec.circuitBreaker");
        self.field(
            from.is_some(),
            (name, ISTIO_CANNOT, "spec.from"),
            "a VirtualService does not know callers by identity: what the policy sets is left \
             out, and its callers get what all others get",
        );
    }

    fn fault(&mut self, name: &ObjectRef, spec: &FaultPolicySpec) {
        let FaultPolicySpec {
            target_refs: _,
            target_selectors: _,
            target_all: _,
            enforcement: _,
            priority: _,
            from,
            until: _,
            delay,
            abort: _,
        } = spec;
        self.field(
            from.is_some(),
            (name, ISTIO_CANNOT, "spec.from"),
            "a VirtualService does not know callers by identity: what the policy makes is left \
             out, and its callers get what all others get",
        );
        self.field(
            from.is_none(),
            (name, ISTIO_DIFFERS, "spec.until"),
            "a fault of Istio has no end: take it away by hand, or translate anew then",
        );
        self.field(
            from.is_none() && delay.is_some(),
            (name, ISTIO_DIFFERS, "spec.delay"),
            "Istio's timeout of a request begins after the delay",
        );
    }

    fn not_yet(&mut self, present: bool, name: &ObjectRef, field: &str) {
        let text = "the translation does not know this field yet and leaves it out";
        self.field(present, (name, ISTIO_CANNOT, field), text);
    }

    fn retry_timeout(
        &mut self,
        name: &ObjectRef,
        at: &str,
        timeout: Option<&Timeout>,
        retry: Option<&Retry>,
    ) {
        let idle = timeout.is_some_and(|timeout| {
            let Timeout {
                request: _,
                per_try: _,
                idle,
                connect: _,
            } = timeout;
            idle.is_some()
        });
        self.field(
            idle,
            (name, ISTIO_DIFFERS, &format!("{at}.timeout.idle")),
            "Istio bounds idle connections of TCP ports only; HTTP bodies wait without a bound",
        );
        if let Some(retry) = retry {
            self.retry(name, &format!("{at}.retry"), retry);
        }
    }

    fn retry(&mut self, name: &ObjectRef, at: &str, retry: &Retry) {
        let Retry {
            attempts: _,
            on,
            codes,
            grpc_codes,
            non_idempotent: _,
            methods: _,
            backoff,
            budget,
            max_body,
        } = retry;
        for (index, code) in codes.iter().flatten().enumerate() {
            self.field(
                !is_registered(*code),
                (name, ISTIO_CANNOT, &format!("{at}.codes[{index}]")),
                "Istio refuses a status code that has no registered name",
            );
        }
        self.not_yet(grpc_codes.is_some(), name, &format!("{at}.grpcCodes"));
        self.field(
            budget.is_some(),
            (name, ISTIO_CANNOT, &format!("{at}.budget")),
            "Istio's retryBudget counts requests under way, not a share of requests over a time; \
             further tries have no budget",
        );
        self.field(
            max_body.is_some(),
            (name, ISTIO_CANNOT, &format!("{at}.maxBody")),
            "Istio keeps bodies up to the buffer limit of its proxies (1 MiB)",
        );
        if let Some(Backoff { base, max }) = backoff {
            self.field(
                max.is_some(),
                (name, ISTIO_DIFFERS, &format!("{at}.backoff.max")),
                "the longest pause of Istio is ten times the base",
            );
            self.field(
                base.as_ref().is_some_and(|base| base.duration().is_zero()),
                (name, ISTIO_DIFFERS, &format!("{at}.backoff.base")),
                "Istio has no pause of zero; its own of 25 ms holds",
            );
        }
        let on = on.as_deref().unwrap_or_default();
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
        let Defaults {
            timeout,
            retry,
            hedge,
            circuit_breaker,
            order,
            orders,
            health,
            spill,
            failback,
            limit,
            when_limited,
            when_none_healthy,
        } = defaults;
        let at = "spec.defaults";
        self.retry_timeout(name, at, timeout.as_ref(), retry.as_ref());
        self.not_yet(hedge.is_some(), name, &format!("{at}.hedge"));
        self.not_yet(
            circuit_breaker.is_some(),
            name,
            &format!("{at}.circuitBreaker"),
        );
        let spec = FailoverPolicySpec {
            order: order.clone(),
            orders: orders.clone(),
            health: health.clone(),
            spill: spill.clone(),
            failback: failback.clone(),
            limit: limit.clone(),
            when_limited: *when_limited,
            when_none_healthy: *when_none_healthy,
            ..FailoverPolicySpec::default()
        };
        self.failover(name, at, &spec);
    }

    fn failover(&mut self, name: &ObjectRef, at: &str, spec: &FailoverPolicySpec) {
        let FailoverPolicySpec {
            target_refs: _,
            target_selectors: _,
            target_all: _,
            enforcement: _,
            priority: _,
            order,
            orders,
            health,
            spill,
            failback,
            limit,
            when_limited,
            when_none_healthy,
        } = spec;
        let when_none_healthy = *when_none_healthy;
        self.not_yet(limit.is_some(), name, &format!("{at}.limit"));
        self.not_yet(when_limited.is_some(), name, &format!("{at}.whenLimited"));
        let steps = order.as_deref().unwrap_or_default().iter().enumerate();
        for (index, _) in steps.filter(|(_, step): &(usize, &Step)| step.service.is_some()) {
            self.field(
                true,
                (name, ISTIO_CANNOT, &format!("{at}.order[{index}].service")),
                "Istio never falls back to another service; calls fail when no place is left",
            );
        }
        self.field(
            orders.is_some(),
            (name, ISTIO_CANNOT, &format!("{at}.orders")),
            "Istio has one order for all clients; `order` holds for these, too",
        );
        self.field(
            spill.is_some(),
            (name, ISTIO_CANNOT, &format!("{at}.spill")),
            "Istio moves a growing share as soon as fewer than 71 % are healthy, without a ramp",
        );
        self.field(
            failback.is_some(),
            (name, ISTIO_CANNOT, &format!("{at}.failback")),
            "Istio comes back at once",
        );
        self.field(
            when_none_healthy == Some(WhenNoneHealthy::Any),
            (name, ISTIO_DIFFERS, &format!("{at}.whenNoneHealthy")),
            "Istio then uses the unreachable and the unready, too",
        );
        if let Some(health) = health {
            self.health(name, &format!("{at}.health"), health);
        }
    }

    fn health(&mut self, name: &ObjectRef, at: &str, health: &Health) {
        let Health {
            signals,
            eject,
            probe,
        } = health;
        let signals = signals.as_deref().unwrap_or_default();
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
            probe.is_some(),
            (name, ISTIO_CANNOT, &format!("{at}.probe")),
            "Istio does not probe; Kubernetes' readiness probes do",
        );
        let Some(Eject {
            within,
            duration: _,
            consecutive: _,
            max_percent,
        }) = eject
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

//! FailoverPolicy: where the traffic of a service goes when a place is unwell.

use crate::decode::{fields, words};
use crate::object::object;
use crate::policy::{Enforcement, TargetAll, TargetRef, TargetSelector, policy};
use crate::values::DurationText;

object! {
    /// Where the traffic of services goes when a place is unwell.
    FailoverPolicy { FailoverPolicySpec }
}

fields! {
    /// What a FailoverPolicy says.
    #[derive(Default)]
    pub struct FailoverPolicySpec {
        /// Objects in the own namespace.
        target_refs: Option<Vec<TargetRef>> = "targetRefs",
        /// Objects by label.
        target_selectors: Option<Vec<TargetSelector>> = "targetSelectors",
        /// Everything in scope.
        target_all: Option<TargetAll> = "targetAll",
        /// Whether inner scopes may say otherwise.
        enforcement: Option<Enforcement> = "enforcement",
        /// Higher first at equal target.
        priority: Option<i32> = "priority",
        /// Steps, top down.
        order: Option<Vec<Step>> = "order",
        /// Other steps for clients in some places; the most specific wins.
        orders: Option<Vec<ClientOrder>> = "orders",
        /// Signals and what they lead to.
        health: Option<Health> = "health",
        /// Moving the share that no longer fits.
        spill: Option<Spill> = "spill",
        /// Coming back.
        failback: Option<Failback> = "failback",
        /// What a receiving place may get on top of its own capacity.
        limit: Option<Limit> = "limit",
        /// What happens when every further step is at its limit too.
        when_limited: Option<WhenLimited> = "whenLimited",
        /// What happens when no endpoint of the order is healthy.
        when_none_healthy: Option<WhenNoneHealthy> = "whenNoneHealthy",
    }
}
policy!(FailoverPolicySpec);

fields! {
    /// One step: either places or another service.
    #[derive(Default)]
    pub struct Step {
        /// Endpoints in these places.
        places: Option<Vec<WeightedPlace>> = "places",
        /// Another service.
        service: Option<ServiceRef> = "service",
    }
}

fields! {
    /// A place and its share inside a step. `same` means the place of the client.
    #[derive(Default)]
    pub struct WeightedPlace {
        /// The cluster.
        cluster: Option<String> = "cluster",
        /// The region.
        region: Option<String> = "region",
        /// The zone.
        zone: Option<String> = "zone",
        /// The share, 1-1000.
        weight: Option<u32> = "weight",
    }
}

fields! {
    /// A place.
    #[derive(Default)]
    pub struct ClientPlace {
        /// The cluster.
        cluster: Option<String> = "cluster",
        /// The region.
        region: Option<String> = "region",
        /// The zone.
        zone: Option<String> = "zone",
    }
}

fields! {
    /// A Service by name.
    pub struct ServiceRef {
        /// The name.
        name: String = "name",
        /// The namespace; absent: the policy's own.
        namespace: Option<String> = "namespace",
    }
}

fields! {
    /// The steps for clients in a place.
    #[derive(Default)]
    pub struct ClientOrder {
        /// Whose steps these are.
        clients: ClientPlace = "clients",
        /// The steps.
        order: Vec<Step> = "order",
    }
}

words! {
    /// A sign of ill health.
    pub enum Signal {
        Connect, GatewayError, Latency, Readiness, ServerError, Session, Timeout,
    }
}

fields! {
    /// Signals and what they lead to.
    #[derive(Default)]
    pub struct Health {
        /// What is listened to.
        signals: Option<Vec<Signal>> = "signals",
        /// When an endpoint is taken out for application errors.
        eject: Option<Eject> = "eject",
        /// Active check.
        probe: Option<Probe> = "probe",
    }
}

fields! {
    /// When an endpoint is taken out for application errors.
    #[derive(Default)]
    pub struct Eject {
        /// Failures in a row.
        consecutive: Option<u32> = "consecutive",
        /// All of them within this time.
        within: Option<DurationText> = "within",
        /// For how long.
        duration: Option<DurationText> = "for",
        /// At most this share of the endpoints.
        max_percent: Option<u32> = "maxPercent",
    }
}

fields! {
    /// Active check.
    pub struct Probe {
        /// The path of the GET.
        path: String = "path",
        /// Time between checks.
        interval: Option<DurationText> = "interval",
    }
}

fields! {
    /// When fewer are healthy, the share that no longer fits moves on.
    #[derive(Default)]
    pub struct Spill {
        /// Below this usable share of all endpoints of a step.
        below_percent: Option<u32> = "belowPercent",
        /// Time in which the share grows to its full size.
        ramp: Option<DurationText> = "ramp",
    }
}

fields! {
    /// How traffic comes back.
    #[derive(Default)]
    pub struct Failback {
        /// A place must be well for this long first.
        after: Option<DurationText> = "after",
        /// Time in which its share grows to its full size.
        ramp: Option<DurationText> = "ramp",
    }
}

fields! {
    /// What a receiving place may get.
    #[derive(Default)]
    pub struct Limit {
        /// On top of its own published capacity.
        max_extra_load_percent: Option<u32> = "maxExtraLoadPercent",
    }
}

words! {
    /// What happens when every further step is at its limit too.
    pub enum WhenLimited { Overload, Shed }
}

words! {
    /// What happens when no endpoint of the order is healthy.
    pub enum WhenNoneHealthy { Any, Fail }
}

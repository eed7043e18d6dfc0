//! Failover as messages.

use tacit_model::Sourced;
use tacit_model::failover::{
    ClientOrder, Eject, Failback, Failover, Health, Probe, Signal, Spill, Step, WeightedPlace,
    WhenNoneHealthy,
};
use tacit_model::locality::{Part, Place};

use super::{Invalid, Problem, Wire, list_from, list_to, optional, plain_enum, required};
use crate::proto::mesh as p;

plain_enum!(Signal, Signal, "signals", {
    Connect, GatewayError, Readiness, ServerError, Session, Timeout,
});
plain_enum!(WhenNoneHealthy, WhenNoneHealthy, "when_none_healthy", { Any, Fail });

impl Wire for Part {
    type Proto = p::Part;

    fn to_wire(&self) -> p::Part {
        let kind = match self {
            Self::Named(name) => p::part::Kind::Named(name.to_string()),
            Self::Same => p::part::Kind::Same(p::part::Same {}),
        };
        p::Part { kind: Some(kind) }
    }

    fn from_wire(proto: p::Part) -> Result<Self, Invalid> {
        let p::Part { kind } = proto;
        match kind.ok_or_else(|| Invalid::new("kind", Problem::Missing))? {
            p::part::Kind::Named(name) => Ok(Self::Named(name.into())),
            p::part::Kind::Same(p::part::Same {}) => Ok(Self::Same),
        }
    }
}

impl Wire for Place {
    type Proto = p::Place;

    fn to_wire(&self) -> p::Place {
        let Self {
            cluster,
            region,
            zone,
        } = self;
        p::Place {
            cluster: cluster.as_ref().map(Wire::to_wire),
            region: region.as_ref().map(Wire::to_wire),
            zone: zone.as_ref().map(Wire::to_wire),
        }
    }

    fn from_wire(proto: p::Place) -> Result<Self, Invalid> {
        let p::Place {
            cluster,
            region,
            zone,
        } = proto;
        Ok(Self {
            cluster: optional(cluster)?,
            region: optional(region)?,
            zone: optional(zone)?,
        })
    }
}

impl Wire for WeightedPlace {
    type Proto = p::WeightedPlace;

    fn to_wire(&self) -> p::WeightedPlace {
        let Self { place, weight } = self;
        p::WeightedPlace {
            place: Some(place.to_wire()),
            weight: *weight,
        }
    }

    fn from_wire(proto: p::WeightedPlace) -> Result<Self, Invalid> {
        let p::WeightedPlace { place, weight } = proto;
        Ok(Self {
            place: required("place", place)?,
            weight,
        })
    }
}

impl Wire for Step {
    type Proto = p::Step;

    fn to_wire(&self) -> p::Step {
        let kind = match self {
            Self::Places(places) => p::step::Kind::Places(p::Places {
                places: list_to(places),
            }),
            Self::Service(service) => p::step::Kind::Service(service.to_wire()),
        };
        p::Step { kind: Some(kind) }
    }

    fn from_wire(proto: p::Step) -> Result<Self, Invalid> {
        let p::Step { kind } = proto;
        match kind.ok_or_else(|| Invalid::new("kind", Problem::Missing))? {
            p::step::Kind::Places(p::Places { places }) => Ok(Self::Places(list_from(places)?)),
            p::step::Kind::Service(service) => Ok(Self::Service(Wire::from_wire(service)?)),
        }
    }
}

impl Wire for ClientOrder {
    type Proto = p::ClientOrder;

    fn to_wire(&self) -> p::ClientOrder {
        let Self { clients, steps } = self;
        p::ClientOrder {
            clients: Some(clients.to_wire()),
            steps: list_to(steps),
        }
    }

    fn from_wire(proto: p::ClientOrder) -> Result<Self, Invalid> {
        let p::ClientOrder { clients, steps } = proto;
        Ok(Self {
            clients: required("clients", clients)?,
            steps: list_from(steps)?,
        })
    }
}

impl Wire for Eject {
    type Proto = p::Eject;

    fn to_wire(&self) -> p::Eject {
        let Self {
            consecutive,
            within,
            duration,
            max_percent,
        } = self;
        p::Eject {
            consecutive: *consecutive,
            within: Some(within.to_wire()),
            duration: Some(duration.to_wire()),
            max_percent: *max_percent,
        }
    }

    fn from_wire(proto: p::Eject) -> Result<Self, Invalid> {
        let p::Eject {
            consecutive,
            within,
            duration,
            max_percent,
        } = proto;
        Ok(Self {
            consecutive,
            within: required("within", within)?,
            duration: required("duration", duration)?,
            max_percent,
        })
    }
}

impl Wire for Probe {
    type Proto = p::Probe;

    fn to_wire(&self) -> p::Probe {
        let Self { path, interval } = self;
        p::Probe {
            path: path.to_string(),
            interval: Some(interval.to_wire()),
        }
    }

    fn from_wire(proto: p::Probe) -> Result<Self, Invalid> {
        let p::Probe { path, interval } = proto;
        Ok(Self {
            path: path.into(),
            interval: required("interval", interval)?,
        })
    }
}

impl Wire for Sourced<Health> {
    type Proto = p::Health;

    fn to_wire(&self) -> p::Health {
        let Self {
            value:
                Health {
                    signals,
                    eject,
                    probe,
                },
            from,
        } = self;
        p::Health {
            signals: list_to(signals),
            eject: eject.as_ref().map(Wire::to_wire),
            probe: probe.as_ref().map(Wire::to_wire),
            from: Some(from.to_wire()),
        }
    }

    fn from_wire(proto: p::Health) -> Result<Self, Invalid> {
        let p::Health {
            signals,
            eject,
            probe,
            from,
        } = proto;
        Ok(Self {
            value: Health {
                signals: list_from(signals)?,
                eject: optional(eject)?,
                probe: optional(probe)?,
            },
            from: required("from", from)?,
        })
    }
}

impl Wire for Sourced<Spill> {
    type Proto = p::Spill;

    fn to_wire(&self) -> p::Spill {
        let Self {
            value: Spill {
                below_percent,
                ramp,
            },
            from,
        } = self;
        p::Spill {
            below_percent: *below_percent,
            ramp: Some(ramp.to_wire()),
            from: Some(from.to_wire()),
        }
    }

    fn from_wire(proto: p::Spill) -> Result<Self, Invalid> {
        let p::Spill {
            below_percent,
            ramp,
            from,
        } = proto;
        Ok(Self {
            value: Spill {
                below_percent,
                ramp: required("ramp", ramp)?,
            },
            from: required("from", from)?,
        })
    }
}

impl Wire for Sourced<Failback> {
    type Proto = p::Failback;

    fn to_wire(&self) -> p::Failback {
        let Self {
            value: Failback { after, ramp },
            from,
        } = self;
        p::Failback {
            after: Some(after.to_wire()),
            ramp: Some(ramp.to_wire()),
            from: Some(from.to_wire()),
        }
    }

    fn from_wire(proto: p::Failback) -> Result<Self, Invalid> {
        let p::Failback { after, ramp, from } = proto;
        Ok(Self {
            value: Failback {
                after: required("after", after)?,
                ramp: required("ramp", ramp)?,
            },
            from: required("from", from)?,
        })
    }
}

impl Wire for Failover {
    type Proto = p::Failover;

    fn to_wire(&self) -> p::Failover {
        let Self {
            order,
            orders,
            health,
            spill,
            failback,
            when_none_healthy,
        } = self;
        p::Failover {
            order: list_to(&order.value),
            order_from: Some(order.from.to_wire()),
            orders: list_to(orders),
            health: Some(health.to_wire()),
            spill: Some(spill.to_wire()),
            failback: Some(failback.to_wire()),
            when_none_healthy: when_none_healthy.value.to_wire(),
            when_none_healthy_from: Some(when_none_healthy.from.to_wire()),
        }
    }

    fn from_wire(proto: p::Failover) -> Result<Self, Invalid> {
        let p::Failover {
            order,
            order_from,
            orders,
            health,
            spill,
            failback,
            when_none_healthy,
            when_none_healthy_from,
        } = proto;
        Ok(Self {
            order: Sourced {
                value: list_from(order)?,
                from: required("order_from", order_from)?,
            },
            orders: list_from(orders)?,
            health: required("health", health)?,
            spill: required("spill", spill)?,
            failback: required("failback", failback)?,
            when_none_healthy: Sourced {
                value: Wire::from_wire(when_none_healthy)?,
                from: required("when_none_healthy_from", when_none_healthy_from)?,
            },
        })
    }
}

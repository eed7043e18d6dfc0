//! Timeouts and retries as messages.

use std::time::Duration;

use tacit_model::Sourced;
use tacit_model::resilience::{Backoff, Budget, Fields, Layer, RetryMethods, RetryOn, RetryWhen};

use super::{
    Invalid, Wire, list_from, list_to, narrow, numbers, optional, plain_enum, required, shared,
    texts,
};
use crate::proto::mesh as p;

plain_enum!(RetryOn, RetryOn, "on", {
    ConnectFailure, DeadlineExceeded, GatewayError, RefusedStream, Reset, ServerError,
});

impl Wire for Sourced<Duration> {
    type Proto = p::SourcedDuration;

    fn to_wire(&self) -> p::SourcedDuration {
        let Self { value, from } = self;
        p::SourcedDuration {
            value: Some(value.to_wire()),
            from: Some(from.to_wire()),
        }
    }

    fn from_wire(proto: p::SourcedDuration) -> Result<Self, Invalid> {
        let p::SourcedDuration { value, from } = proto;
        Ok(Self {
            value: required("value", value)?,
            from: required("from", from)?,
        })
    }
}

impl Wire for Sourced<u64> {
    type Proto = p::SourcedUint;

    fn to_wire(&self) -> p::SourcedUint {
        let Self { value, from } = self;
        p::SourcedUint {
            value: *value,
            from: Some(from.to_wire()),
        }
    }

    fn from_wire(proto: p::SourcedUint) -> Result<Self, Invalid> {
        let p::SourcedUint { value, from } = proto;
        Ok(Self {
            value,
            from: required("from", from)?,
        })
    }
}

impl Wire for Sourced<u32> {
    type Proto = p::SourcedUint;

    fn to_wire(&self) -> p::SourcedUint {
        let Self { value, from } = self;
        p::SourcedUint {
            value: u64::from(*value),
            from: Some(from.to_wire()),
        }
    }

    fn from_wire(proto: p::SourcedUint) -> Result<Self, Invalid> {
        let p::SourcedUint { value, from } = proto;
        Ok(Self {
            value: narrow("value", value)?,
            from: required("from", from)?,
        })
    }
}

impl Wire for Sourced<RetryWhen> {
    type Proto = p::RetryWhen;

    fn to_wire(&self) -> p::RetryWhen {
        let Self {
            value: RetryWhen { on, codes },
            from,
        } = self;
        p::RetryWhen {
            on: list_to(on),
            codes: codes.iter().copied().map(u32::from).collect(),
            from: Some(from.to_wire()),
        }
    }

    fn from_wire(proto: p::RetryWhen) -> Result<Self, Invalid> {
        let p::RetryWhen { on, codes, from } = proto;
        Ok(Self {
            value: RetryWhen {
                on: list_from(on)?,
                codes: numbers("codes", codes)?,
            },
            from: required("from", from)?,
        })
    }
}

impl Wire for Sourced<RetryMethods> {
    type Proto = p::RetryMethods;

    fn to_wire(&self) -> p::RetryMethods {
        let Self {
            value:
                RetryMethods {
                    non_idempotent,
                    only,
                },
            from,
        } = self;
        p::RetryMethods {
            non_idempotent: *non_idempotent,
            only: only.as_ref().map(|set| p::Strings { values: texts(set) }),
            from: Some(from.to_wire()),
        }
    }

    fn from_wire(proto: p::RetryMethods) -> Result<Self, Invalid> {
        let p::RetryMethods {
            non_idempotent,
            only,
            from,
        } = proto;
        Ok(Self {
            value: RetryMethods {
                non_idempotent,
                only: only.map(|set| shared(set.values)),
            },
            from: required("from", from)?,
        })
    }
}

impl Wire for Sourced<Backoff> {
    type Proto = p::Backoff;

    fn to_wire(&self) -> p::Backoff {
        let Self {
            value: Backoff { base, max },
            from,
        } = self;
        p::Backoff {
            base: Some(base.to_wire()),
            max: Some(max.to_wire()),
            from: Some(from.to_wire()),
        }
    }

    fn from_wire(proto: p::Backoff) -> Result<Self, Invalid> {
        let p::Backoff { base, max, from } = proto;
        Ok(Self {
            value: Backoff {
                base: required("base", base)?,
                max: required("max", max)?,
            },
            from: required("from", from)?,
        })
    }
}

impl Wire for Sourced<Budget> {
    type Proto = p::Budget;

    fn to_wire(&self) -> p::Budget {
        let Self {
            value:
                Budget {
                    retry_percent,
                    interval,
                    min_per_second,
                },
            from,
        } = self;
        p::Budget {
            retry_percent: *retry_percent,
            interval: Some(interval.to_wire()),
            min_per_second: *min_per_second,
            from: Some(from.to_wire()),
        }
    }

    fn from_wire(proto: p::Budget) -> Result<Self, Invalid> {
        let p::Budget {
            retry_percent,
            interval,
            min_per_second,
            from,
        } = proto;
        Ok(Self {
            value: Budget {
                retry_percent,
                interval: required("interval", interval)?,
                min_per_second,
            },
            from: required("from", from)?,
        })
    }
}

impl Wire for Fields {
    type Proto = p::Fields;

    fn to_wire(&self) -> p::Fields {
        let Self {
            request,
            per_try,
            idle,
            connect,
            attempts,
            when,
            methods,
            backoff,
            budget,
            max_body,
        } = self;
        p::Fields {
            request: request.as_ref().map(Wire::to_wire),
            per_try: per_try.as_ref().map(Wire::to_wire),
            idle: idle.as_ref().map(Wire::to_wire),
            connect: connect.as_ref().map(Wire::to_wire),
            attempts: attempts.as_ref().map(Wire::to_wire),
            when: when.as_ref().map(Wire::to_wire),
            methods: methods.as_ref().map(Wire::to_wire),
            backoff: backoff.as_ref().map(Wire::to_wire),
            budget: budget.as_ref().map(Wire::to_wire),
            max_body: max_body.as_ref().map(Wire::to_wire),
        }
    }

    fn from_wire(proto: p::Fields) -> Result<Self, Invalid> {
        let p::Fields {
            request,
            per_try,
            idle,
            connect,
            attempts,
            when,
            methods,
            backoff,
            budget,
            max_body,
        } = proto;
        Ok(Self {
            request: optional(request)?,
            per_try: optional(per_try)?,
            idle: optional(idle)?,
            connect: optional(connect)?,
            attempts: optional(attempts)?,
            when: optional(when)?,
            methods: optional(methods)?,
            backoff: optional(backoff)?,
            budget: optional(budget)?,
            max_body: optional(max_body)?,
        })
    }
}

impl Wire for Layer {
    type Proto = p::Layer;

    fn to_wire(&self) -> p::Layer {
        let Self { callers, fields } = self;
        p::Layer {
            callers: callers.as_ref().map(|list| p::Callers {
                any_of: list_to(list),
            }),
            fields: Some(fields.to_wire()),
        }
    }

    fn from_wire(proto: p::Layer) -> Result<Self, Invalid> {
        let p::Layer { callers, fields } = proto;
        Ok(Self {
            callers: callers.map(|list| list_from(list.any_of)).transpose()?,
            fields: required("fields", fields)?,
        })
    }
}

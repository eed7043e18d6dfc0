//! Failures that are made on purpose as messages.

use tacit_model::Sourced;
use tacit_model::fault::{Abort, Delay, FaultLayer};

use super::{Invalid, Problem, Wire, list_from, list_to, narrow, optional, required};
use crate::proto::mesh as p;

/// More than all requests is no share.
fn share(percent: u32) -> Result<u32, Invalid> {
    if percent > 100 {
        return Err(Invalid::new("share", Problem::OutOfRange(percent.into())));
    }
    Ok(percent)
}

/// A request that is answered with success is no failure.
fn error_status(status: u32) -> Result<u16, Invalid> {
    let status: u16 = narrow("status", status)?;
    if (400..=599).contains(&status) {
        Ok(status)
    } else {
        Err(Invalid::new("status", Problem::OutOfRange(status.into())))
    }
}

impl Wire for Sourced<Delay> {
    type Proto = p::FaultDelay;

    fn to_wire(&self) -> p::FaultDelay {
        let Self {
            value: Delay {
                time,
                share_percent,
            },
            from,
        } = self;
        p::FaultDelay {
            time: Some(time.to_wire()),
            share_percent: *share_percent,
            from: Some(from.to_wire()),
        }
    }

    fn from_wire(proto: p::FaultDelay) -> Result<Self, Invalid> {
        let p::FaultDelay {
            time,
            share_percent,
            from,
        } = proto;
        Ok(Self {
            value: Delay {
                time: required("time", time)?,
                share_percent: share(share_percent)?,
            },
            from: required("from", from)?,
        })
    }
}

impl Wire for Sourced<Abort> {
    type Proto = p::FaultAbort;

    fn to_wire(&self) -> p::FaultAbort {
        let Self {
            value: Abort {
                status,
                share_percent,
            },
            from,
        } = self;
        p::FaultAbort {
            status: u32::from(*status),
            share_percent: *share_percent,
            from: Some(from.to_wire()),
        }
    }

    fn from_wire(proto: p::FaultAbort) -> Result<Self, Invalid> {
        let p::FaultAbort {
            status,
            share_percent,
            from,
        } = proto;
        Ok(Self {
            value: Abort {
                status: error_status(status)?,
                share_percent: share(share_percent)?,
            },
            from: required("from", from)?,
        })
    }
}

impl Wire for FaultLayer {
    type Proto = p::FaultLayer;

    fn to_wire(&self) -> p::FaultLayer {
        let Self {
            callers,
            until,
            delay,
            abort,
        } = self;
        p::FaultLayer {
            callers: callers.as_ref().map(|list| p::Callers {
                any_of: list_to(list),
            }),
            until: *until,
            delay: delay.as_ref().map(Wire::to_wire),
            abort: abort.as_ref().map(Wire::to_wire),
        }
    }

    fn from_wire(proto: p::FaultLayer) -> Result<Self, Invalid> {
        let p::FaultLayer {
            callers,
            until,
            delay,
            abort,
        } = proto;
        Ok(Self {
            callers: callers.map(|list| list_from(list.any_of)).transpose()?,
            until,
            delay: optional(delay)?,
            abort: optional(abort)?,
        })
    }
}

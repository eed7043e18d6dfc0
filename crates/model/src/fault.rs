//! Failures that are made on purpose, after checking.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::access::From;
use crate::provenance::Sourced;

/// What one policy makes of the requests to a service. Layers of a service are sorted: the first
/// that applies to the caller, is not over and sets a field wins that field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultLayer {
    /// Only these callers (any of); absent: all.
    pub callers: Option<Vec<From>>,
    /// Unix seconds from which on it says nothing.
    pub until: u64,
    /// Requests wait.
    pub delay: Option<Sourced<Delay>>,
    /// Requests are answered.
    pub abort: Option<Sourced<Abort>>,
}

/// A share of requests waits before it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delay {
    /// 1 ms to 60 s.
    pub time: Duration,
    /// Of 100 requests, 0-100.
    pub share_percent: u32,
}

/// A share of requests is answered and not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Abort {
    /// 400-599.
    pub status: u16,
    /// Of 100 requests, 0-100.
    pub share_percent: u32,
}

/// What befalls one request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Injected {
    /// It waits that long.
    pub delay: Option<Sourced<Duration>>,
    /// It is answered with this HTTP status, after the wait if there is one.
    pub abort: Option<Sourced<u16>>,
}

impl fmt::Display for Delay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            time,
            share_percent,
        } = self;
        write!(f, "{share_percent} % of requests wait {time:?}")
    }
}

impl fmt::Display for Abort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            status,
            share_percent,
        } = self;
        write!(f, "{share_percent} % of requests are answered {status}")
    }
}

impl fmt::Display for Injected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Sourced { value, from }) = &self.delay {
            write!(f, "delayed {value:?} on purpose ({from})")?;
        }
        if let Some(Sourced { value, from }) = &self.abort {
            let joint = if self.delay.is_some() { ", " } else { "" };
            write!(f, "{joint}answered {value} on purpose ({from})")?;
        }
        Ok(())
    }
}

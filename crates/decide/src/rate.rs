//! Is a request within the rates that hold for the workload that received it?
//!
//! Each limit is a token bucket for each value of its key, kept as the moment at which the bucket
//! is full again. A request takes a token of each bucket, or of none if one of them is empty.
//! Each workload counts for itself, whichever of its process's workers received the request.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use tacit_model::rate::{RateKey, RateLimit, RateLimits};
use tacit_model::tables::WorkloadRow;
use tacit_model::{Now, ObjectRef, Snapshot, WorkloadName};

use crate::authorize::{Peer, local_workload};
use crate::denial::{Denial, DenialKind};
use crate::permit::{ForwardPermit, InspectPermit, RequestPermit};
use crate::state::State;
use crate::view::{RateView, Seen};

/// Keys of one limit at one workload that are counted apart. With the longest keys (four parts)
/// they take 10 MiB. The requests of all further keys share one bucket, so that nobody gets more
/// by making keys up; a key whose bucket is full again makes room.
pub const MOST_KEYS: usize = 10_000;

/// Bytes of a header's value that tell keys apart: longer than any identifier.
pub const KEY_BYTES: usize = 256;

/// Full buckets are looked for at most so often: it takes a look at every key.
const SWEEP: Duration = Duration::from_secs(1);

/// Reads a header of the request by its lower-case name.
pub type Header<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// The buckets of one workload.
#[derive(Debug, Default)]
pub(crate) struct Rates(BTreeMap<(ObjectRef, usize), Table>);

/// The buckets of one limit, by key: the monotonic nanosecond at which each is full again.
#[derive(Debug)]
struct Table {
    /// By which they were filled; absent in a table that a replay made.
    limit: Option<RateLimit>,
    buckets: HashMap<String, u64>,
    /// Of the keys that found no room.
    others: u64,
    most: usize,
    swept: Option<u64>,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            limit: None,
            buckets: HashMap::new(),
            others: 0,
            most: MOST_KEYS,
            swept: None,
        }
    }
}

/// The bucket that one request meets at one limit.
struct Met {
    at: (ObjectRef, usize),
    key: String,
    /// False: the key found no room, so the bucket is that of the others.
    own: bool,
    full_at: u64,
}

/// The limits that hold for requests to a port of a workload: those of each service that leads
/// there, each policy once. Each is one of a policy that may stand at several services.
#[must_use]
pub fn applying<'s>(s: &'s Snapshot, workload: &WorkloadRow, port: u16) -> Vec<&'s RateLimits> {
    let Some(class) = s.class_of(workload) else {
        return Vec::new();
    };
    let services = class
        .services
        .iter()
        .filter_map(|name| s.services.get(name));
    let leading = services.filter(|row| {
        let mut targets = row.ports.iter().map(|found| found.target_on(workload));
        targets.any(|target| target == Some(port))
    });
    let mut seen = BTreeSet::new();
    leading
        .filter_map(|row| row.rate.as_ref())
        .filter(|found| seen.insert(&found.policy))
        .collect()
}

/// Decides about one request that access lets pass. Takes its tokens if it is within all limits.
pub fn limit_request(
    s: &Snapshot,
    state: &State,
    (inspect, permit): (&InspectPermit, RequestPermit),
    header: &Header<'_>,
    now: Now,
) -> Result<ForwardPermit, Denial> {
    let local = local_workload(s, &inspect.workload)?;
    let applying = applying(s, local, inspect.port);
    take(state, &applying, inspect, header, now, None)?;
    Ok(ForwardPermit { request: permit })
}

/// Takes a token of each bucket, or says which limit has none.
pub(crate) fn take(
    state: &State,
    applying: &[&RateLimits],
    inspect: &InspectPermit,
    header: &Header<'_>,
    now: Now,
    seen: Option<&mut Seen>,
) -> Result<(), Denial> {
    if applying.is_empty() {
        return Ok(());
    }
    state.with_rates(&inspect.workload, |rates| {
        let limits = applying.iter().flat_map(|of| {
            let limits = of.limits.iter().enumerate();
            limits.map(|(index, limit)| (*of, index, limit))
        });
        let mut met = Vec::new();
        let mut refused: Option<(u64, Denial)> = None;
        for (of, index, limit) in limits {
            let at = (of.policy.clone(), index);
            let table = rates.0.entry(at.clone()).or_default();
            let key = key(limit, &inspect.peer, header);
            let mut found = table.meet(at, key, limit, now);
            match spend(limit, found.full_at, now) {
                Ok(after) => found.full_at = after,
                Err(wait) if refused.as_ref().is_none_or(|(longest, _)| wait > *longest) => {
                    let why = denial(&inspect.workload, of, index, limit, wait);
                    refused = Some((wait, why));
                }
                Err(_) => {}
            }
            met.push(found);
        }
        let views = |rates: &Rates| met.iter().map(|found| rates.view(inspect, found)).collect();
        let before: Option<Vec<RateView>> = seen.is_some().then(|| views(rates));
        if refused.is_none() {
            met.iter().for_each(|found| rates.put(found));
        }
        if let Some((seen, before)) = seen.zip(before) {
            seen.before.rates = before;
            seen.after.rates = views(rates);
        }
        refused.map_or(Ok(()), |(_, denial)| Err(denial))
    })
}

/// Spends one token of a bucket: when it is full again after that, or how many nanoseconds are
/// missing until there is one.
fn spend(limit: &RateLimit, full_at: u64, now: Now) -> Result<u64, u64> {
    let one = token(limit);
    let now = u128::from(now.monotonic_ns);
    let after = u128::from(full_at).max(now) + one;
    let empty = now + one * u128::from(limit.burst.get());
    let narrow = |ns: u128| u64::try_from(ns).unwrap_or(u64::MAX);
    if after > empty {
        Err(narrow(after - empty))
    } else {
        Ok(narrow(after))
    }
}

/// Nanoseconds in which one token comes. Rounded up, so that no more pass than the limit says.
fn token(limit: &RateLimit) -> u128 {
    limit
        .per
        .as_nanos()
        .div_ceil(u128::from(limit.requests.get()))
}

fn denial(
    workload: &WorkloadName,
    of: &RateLimits,
    index: usize,
    limit: &RateLimit,
    wait: u64,
) -> Denial {
    let seconds = wait.div_ceil(1_000_000_000).max(1);
    Denial {
        kind: DenialKind::OverRate {
            retry_after: seconds,
        },
        reason: format!("workload {workload} takes at most {limit}"),
        by: Some(of.origin(index)),
    }
}

/// What tells this request from those that are counted apart from it. A part that is there begins
/// with `=`: an empty header is not an absent one. No part has a line feed.
fn key(limit: &RateLimit, peer: &Peer, header: &Header<'_>) -> String {
    let part = |part: &RateKey| match part {
        RateKey::Header(name) => header(name),
        RateKey::Identity => peer.identity.as_ref().map(ToString::to_string),
    };
    let text = |found: Option<String>| match found {
        None => String::new(),
        Some(value) => format!("={}", counted(value)),
    };
    let parts: Vec<String> = limit.key.iter().map(|found| text(part(found))).collect();
    parts.join("\n")
}

/// As much of a value as tells keys apart.
pub(crate) fn counted(mut value: String) -> String {
    value.truncate(value.floor_char_boundary(KEY_BYTES));
    value
}

impl Table {
    /// The bucket of a key.
    fn meet(&mut self, at: (ObjectRef, usize), key: String, limit: &RateLimit, now: Now) -> Met {
        if self.limit.as_ref() != Some(limit) {
            // What was counted by another limit says nothing of this one.
            if self.limit.is_some() {
                *self = Self::default();
            }
            self.limit = Some(limit.clone());
        }
        if let Some(full_at) = self.buckets.get(&key) {
            return Met {
                full_at: *full_at,
                own: true,
                at,
                key,
            };
        }
        self.sweep(now);
        let own = self.has_room();
        Met {
            full_at: if own { 0 } else { self.others },
            own,
            at,
            key,
        }
    }

    fn has_room(&self) -> bool {
        self.buckets.len() < self.most
    }

    /// Forgets full buckets if there is no room: a key without one has a full one.
    fn sweep(&mut self, now: Now) {
        let now = now.monotonic_ns;
        let pause = u64::try_from(SWEEP.as_nanos()).unwrap_or(u64::MAX);
        let is_due = |swept: u64| now.saturating_sub(swept) >= pause;
        if !self.has_room() && self.swept.is_none_or(is_due) {
            self.swept = Some(now);
            self.buckets.retain(|_, full_at| *full_at > now);
        }
    }
}

impl Rates {
    fn put(&mut self, met: &Met) {
        let Some(table) = self.0.get_mut(&met.at) else {
            return;
        };
        if met.own {
            table.buckets.insert(met.key.clone(), met.full_at);
        } else {
            table.others = met.full_at;
        }
    }

    /// What was read of the bucket that a request met.
    fn view(&self, inspect: &InspectPermit, met: &Met) -> RateView {
        let table = self.0.get(&met.at);
        RateView {
            workload: inspect.workload.clone(),
            policy: met.at.0.clone(),
            index: met.at.1,
            key: met.key.clone(),
            own: met.own,
            full_at: table.and_then(|table| match met.own {
                true => table.buckets.get(&met.key).copied(),
                false => Some(table.others),
            }),
        }
    }

    /// Learns what a view says.
    pub(crate) fn restore(&mut self, view: &RateView) {
        let table = self.0.entry((view.policy.clone(), view.index)).or_default();
        match (view.own, view.full_at) {
            (true, Some(full_at)) => drop(table.buckets.insert(view.key.clone(), full_at)),
            (true, None) => {}
            (false, full_at) => {
                table.most = 0;
                table.others = full_at.unwrap_or(0);
            }
        }
    }

    /// Forgets the limits of policies that are not in force any more.
    pub(crate) fn retain(&mut self, policies: &BTreeSet<&ObjectRef>) {
        self.0.retain(|(policy, _), _| policies.contains(policy));
    }
}

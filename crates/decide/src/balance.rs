//! Which endpoint serves the next try.

use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tacit_model::failover::{Failover, WhenNoneHealthy};
use tacit_model::tables::{ServicePort, ServiceRow, WorkloadRow};
use tacit_model::trace::Trace;
use tacit_model::{Dice, Now, Snapshot};

use crate::denial::{Denial, DenialKind};
use crate::destination::dial_permit;
use crate::failover::{Endpoint, FULL, Fit, Ramp, StepView, order_provenance, steps};
use crate::health::Fitness;
use crate::permit::DialPermit;
use crate::state::{InFlight, ServiceState, State};
use crate::view::Seen;

/// What is asked for one try.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// Who calls.
    pub source: &'a WorkloadRow,
    /// What is called.
    pub service: &'a Arc<ServiceRow>,
    /// On which of its ports.
    pub port: &'a ServicePort,
    /// Earlier tries of the same request, oldest first.
    pub tried: &'a [Tried],
    /// True while the control plane cannot be reached. Workloads that are declared but not
    /// reported ready are then the last candidates: they may have started meanwhile.
    pub control_stale: bool,
}

/// An earlier try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tried {
    /// Which endpoint.
    pub endpoint: SocketAddr,
    /// In which step of the order.
    pub step: usize,
}

/// The endpoint for a try, with the leave to dial it.
#[must_use]
#[derive(Debug)]
pub struct Choice {
    /// The workload.
    pub workload: Arc<WorkloadRow>,
    /// Its address and the port of its application.
    pub endpoint: SocketAddr,
    /// Whose endpoint it is: the service that was called, or its fallback. [`State::on_result`]
    /// wants this one.
    pub service: Arc<ServiceRow>,
    /// The step of the order, from 0.
    pub step: usize,
    /// To dial it.
    pub permit: DialPermit,
    /// Hold it until the try has ended, response body included.
    pub in_flight: InFlight,
}

impl Choice {
    /// What to add to [`Ask::tried`] after this try.
    #[must_use]
    pub fn tried(&self) -> Tried {
        Tried {
            endpoint: self.endpoint,
            step: self.step,
        }
    }
}

/// Chooses the endpoint for a try, or says why there is none.
pub fn choose(
    s: &Snapshot,
    state: &State,
    ask: &Ask<'_>,
    now: Now,
    dice: Dice,
) -> Result<Choice, Denial> {
    choose_traced(s, state, ask, now, dice, None, None)
}

/// Like [`choose`], and tells each step to `trace` and what it read and wrote to `seen`.
pub(crate) fn choose_traced(
    s: &Snapshot,
    state: &State,
    ask: &Ask<'_>,
    now: Now,
    dice: Dice,
    mut trace: Option<&mut Trace>,
    mut seen: Option<&mut Seen>,
) -> Result<Choice, Denial> {
    let client = &ask.source.locality;
    let mut views = steps(s, ask.service, ask.port, client);
    fill_health(s, state, &mut views, now, seen.as_deref_mut());
    let shares = shares(state, ask, &views, now, seen);
    let from = order_provenance(ask.service, client);
    if let Some(trace) = trace.as_deref_mut() {
        for (index, view) in views.iter().enumerate() {
            let text = describe_step(index, view, shares[index], ask.service);
            trace.step("order", text, from.cloned());
        }
    }
    let Some((step, endpoint)) = pick(ask, &views, &shares, dice) else {
        let denial = nothing_left(ask, &views, from.cloned());
        if let Some(trace) = trace {
            trace.step("endpoint", denial.reason.clone(), denial.by.clone());
        }
        return Err(denial);
    };
    let service = views[step].service;
    if let Some(trace) = trace {
        let text = format!(
            "{} at {}",
            endpoint.workload.name, endpoint.workload.locality
        );
        trace.step("endpoint", text, None);
    }
    let load = state.with_service(&service.name, |known| {
        known
            .endpoints
            .entry(endpoint.address)
            .or_default()
            .load
            .clone()
    });
    Ok(Choice {
        workload: endpoint.workload.clone(),
        endpoint: endpoint.address,
        service: service.clone(),
        step,
        permit: dial_permit(s, ask.source, endpoint.workload, endpoint.address.port()),
        in_flight: InFlight(load),
    })
}

/// All steps see one moment of what can be reached.
fn fill_health(
    s: &Snapshot,
    state: &State,
    views: &mut [StepView<'_>],
    now: Now,
    mut seen: Option<&mut Seen>,
) {
    state.with_reach(|reach| {
        let doubtful = reach.doubtful_nodes(s, now);
        for view in views.iter_mut() {
            let service = &view.service.name;
            state.with_service(service, |known: &mut ServiceState| {
                for endpoint in &mut view.endpoints {
                    let health = known.endpoints.get(&endpoint.address);
                    endpoint.fitness = reach.fitness(endpoint.address, health, now);
                    endpoint.is_doubtful = doubtful.contains(&&endpoint.workload.node);
                    endpoint.outstanding = health.map_or(0, |health| health.outstanding());
                    if let (Some(seen), Some(health)) = (seen.as_deref_mut(), health) {
                        let health = health.view(endpoint.outstanding);
                        seen.before.endpoint(service, endpoint.address, health);
                    }
                }
            });
        }
        if let Some(seen) = seen {
            seen.before.reach(reach, s, views);
        }
    });
}

/// The share of each step, in parts per million, as its ramp has it now.
fn shares(
    state: &State,
    ask: &Ask<'_>,
    views: &[StepView<'_>],
    now: Now,
    mut seen: Option<&mut Seen>,
) -> Vec<u32> {
    let Some(failover) = &ask.service.failover else {
        return vec![FULL; views.len()];
    };
    let (spill, failback) = (&failover.spill.value, &failover.failback.value);
    let fits: Vec<Fit> = views.iter().map(|view| Fit::of(view, spill)).collect();
    let key = (ask.port.port, ask.source.locality.clone());
    let service = &ask.service.name;
    state.with_service(service, |known| {
        let ramps = known.ramps.entry(key.clone()).or_default();
        if let Some(seen) = seen.as_deref_mut() {
            seen.before.ramps(service, &key, ramps);
        }
        if ramps.len() != fits.len() {
            *ramps = fits.iter().map(|fit| Ramp::new(*fit, now)).collect();
        }
        let pairs = ramps.iter_mut().zip(&fits);
        let shares = pairs
            .map(|(ramp, fit)| ramp.advance(*fit, spill, failback, now))
            .collect();
        if let Some(seen) = seen {
            seen.after.ramps(service, &key, ramps);
        }
        shares
    })
}

/// Picks step and endpoint.
///
/// A first try draws a step by the shares; the first further try stays in its step; from the
/// second further try on the next steps come first. A node that has just lost another address is
/// left out of further tries while there is another one. An endpoint that was tried comes again
/// only when every other one is out. Then come, only if nothing in the whole order is usable,
/// the ejected (if the policy says `Any`) and, without control plane, the declared.
fn pick<'v, 'a>(
    ask: &Ask<'_>,
    views: &'v [StepView<'a>],
    shares: &[u32],
    dice: Dice,
) -> Option<(usize, &'v Endpoint<'a>)> {
    let (drawn, dice) = draw_step(&claims(views, shares), dice);
    let (step, candidates) = candidates(ask, views, drawn)?;
    Some((step, draw_endpoint(&candidates, dice)?))
}

/// The endpoints among which a try draws once a step is drawn, and their step.
fn candidates<'v, 'a>(
    ask: &Ask<'_>,
    views: &'v [StepView<'a>],
    drawn: usize,
) -> Option<(usize, Vec<&'v Endpoint<'a>>)> {
    let was_tried = |e: &Endpoint<'_>| ask.tried.iter().any(|t| t.endpoint == e.address);
    let fresh = |e: &Endpoint<'_>| e.is_usable() && !was_tried(e);
    let is_further = !ask.tried.is_empty();
    let sure = |e: &Endpoint<'_>| fresh(e) && !(is_further && e.is_doubtful);
    let preference = preference(ask, views.len(), drawn);
    let attempts: [&dyn Fn(&Endpoint<'_>) -> bool; 2] = [&sure, &fresh];
    for accepts in attempts {
        for step in &preference {
            let found = accepted(&views[*step], accepts);
            if !found.is_empty() {
                return Some((*step, found));
            }
        }
    }
    let any = when_none_healthy(ask.service.failover.as_ref()) == WhenNoneHealthy::Any;
    let usable = |e: &Endpoint<'_>| e.is_usable();
    let ejected =
        |e: &Endpoint<'_>| any && e.is_ready && e.fitness == Fitness::Ejected && !was_tried(e);
    let declared = |e: &Endpoint<'_>| {
        ask.control_stale && !e.is_ready && e.fitness == Fitness::Fit && !was_tried(e)
    };
    let passes: [&dyn Fn(&Endpoint<'_>) -> bool; 3] = [&usable, &ejected, &declared];
    for accepts in passes {
        for (step, view) in views.iter().enumerate() {
            let found = accepted(view, accepts);
            if !found.is_empty() {
                return Some((step, found));
            }
        }
    }
    None
}

fn accepted<'v, 'a>(
    view: &'v StepView<'a>,
    accepts: impl Fn(&Endpoint<'_>) -> bool,
) -> Vec<&'v Endpoint<'a>> {
    view.endpoints.iter().filter(|e| accepts(e)).collect()
}

fn when_none_healthy(failover: Option<&Failover>) -> WhenNoneHealthy {
    failover.map_or(WhenNoneHealthy::Fail, |f| f.when_none_healthy.value)
}

/// The steps in the order in which this try asks them.
fn preference(ask: &Ask<'_>, steps: usize, drawn: usize) -> Vec<usize> {
    let first = match ask.tried {
        [] => drawn,
        [only] => only.step,
        [.., last] => last.step + 1,
    };
    let first = first.min(steps);
    (first..steps).chain(0..first).collect()
}

/// What each step takes of all first tries: one that has a usable endpoint takes up to its share
/// of what the ones above it left.
fn claims(views: &[StepView<'_>], shares: &[u32]) -> Vec<u64> {
    let mut left = FULL;
    let claim = |(view, share): (&StepView<'_>, &u32)| {
        let has_any = view.endpoints.iter().any(Endpoint::is_usable);
        let claim = if has_any { (*share).min(left) } else { 0 };
        left -= claim;
        u64::from(claim)
    };
    views.iter().zip(shares).map(claim).collect()
}

/// Draws a step by the claims.
fn draw_step(claims: &[u64], dice: Dice) -> (usize, Dice) {
    let total: u64 = claims.iter().sum();
    let (mut point, dice) = dice.below(total);
    for (step, claim) in claims.iter().enumerate() {
        if point < *claim {
            return (step, dice);
        }
        point -= claim;
    }
    // No step has a share: the first one that has an endpoint at all is asked first.
    (0, dice)
}

/// The places that have a candidate, with their weights.
fn places_of(candidates: &[&Endpoint<'_>]) -> Vec<(usize, u64)> {
    let mut places: Vec<(usize, u64)> = Vec::new();
    for endpoint in candidates {
        if places.iter().all(|(place, _)| *place != endpoint.place) {
            places.push((endpoint.place, u64::from(endpoint.weight)));
        }
    }
    places
}

/// Draws a place by weight among those that have a candidate, then the less busy of two of its
/// candidates drawn at random.
fn draw_endpoint<'v, 'a>(candidates: &[&'v Endpoint<'a>], dice: Dice) -> Option<&'v Endpoint<'a>> {
    let places = places_of(candidates);
    let total: u64 = places.iter().map(|(_, weight)| weight).sum();
    let (mut point, dice) = dice.below(total);
    let drawn = places.iter().find(|(_, weight)| {
        let here = point < *weight;
        point = point.saturating_sub(*weight);
        here
    });
    let place = drawn.or_else(|| places.first())?.0;
    let at_place = candidates.iter().filter(|e| e.place == place);
    let here: Vec<&'v Endpoint<'a>> = at_place.copied().collect();
    let count = u64::try_from(here.len()).unwrap_or(u64::MAX);
    let (first, dice) = dice.below(count);
    // The second is another one: a step of 1 to count - 1 from the first.
    let (step, _) = dice.below(count.saturating_sub(1));
    let second = if count > 1 {
        (first + 1 + step) % count
    } else {
        first
    };
    let at = |index: u64| here[usize::try_from(index).unwrap_or(0)];
    let (first, second) = (at(first), at(second));
    Some(if second.outstanding < first.outstanding {
        second
    } else {
        first
    })
}

/// An endpoint that a first try may get, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Odds {
    /// The workload.
    pub workload: Arc<WorkloadRow>,
    /// Its address and the port of its application.
    pub endpoint: SocketAddr,
    /// Whose endpoint it is: the service that was called, or its fallback.
    pub service: Arc<ServiceRow>,
    /// The step of the order, from 0.
    pub step: usize,
    /// Of a million first tries, when all endpoints are equally busy; never 0. Rounded down, so
    /// that all of them together may be a little less.
    pub per_million: u64,
}

/// Every endpoint that [`choose`] may choose for a first try, in the order of steps, or the denial
/// that it would give: what all dice together come to, without any.
pub fn odds(s: &Snapshot, state: &State, ask: &Ask<'_>, now: Now) -> Result<Vec<Odds>, Denial> {
    let client = &ask.source.locality;
    let mut views = steps(s, ask.service, ask.port, client);
    fill_health(s, state, &mut views, now, None);
    let shares = shares(state, ask, &views, now, None);
    let mut claims = claims(&views, &shares);
    if claims.iter().all(|claim| *claim == 0) {
        // As in `draw_step`: the first step is asked first.
        claims.iter_mut().take(1).for_each(|claim| *claim = 1);
    }
    let total: u64 = claims.iter().sum();
    let mut found = Vec::new();
    for (drawn, claim) in claims.iter().enumerate().filter(|(_, claim)| **claim > 0) {
        if let Some((step, candidates)) = candidates(ask, &views, drawn) {
            let of = |part| odds_of(views[step].service, step, part, *claim, total);
            found.extend(parts(&candidates).into_iter().map(of));
        }
    }
    if found.is_empty() {
        return Err(nothing_left(
            ask,
            &views,
            order_provenance(ask.service, client).cloned(),
        ));
    }
    Ok(found)
}

/// Each candidate with its share of those that draw among them, as numerator and denominator.
fn parts<'v, 'a>(candidates: &[&'v Endpoint<'a>]) -> Vec<(&'v Endpoint<'a>, u64, u64)> {
    let places = places_of(candidates);
    let total: u64 = places.iter().map(|(_, weight)| weight).sum();
    let part = |endpoint: &&'v Endpoint<'a>| {
        let here = candidates.iter().filter(|e| e.place == endpoint.place);
        let here = u64::try_from(here.count()).unwrap_or(u64::MAX);
        (
            *endpoint,
            u64::from(endpoint.weight),
            total.saturating_mul(here),
        )
    };
    candidates.iter().map(part).collect()
}

fn odds_of(
    service: &Arc<ServiceRow>,
    step: usize,
    (endpoint, weight, of): (&Endpoint<'_>, u64, u64),
    claim: u64,
    claims: u64,
) -> Odds {
    let million = u128::from(claim) * u128::from(weight) * 1_000_000;
    let share = million / (u128::from(claims) * u128::from(of)).max(1);
    Odds {
        workload: endpoint.workload.clone(),
        endpoint: endpoint.address,
        service: service.clone(),
        step,
        per_million: u64::try_from(share).unwrap_or(u64::MAX).max(1),
    }
}

/// How many endpoints of a step are out, and why.
fn counts(view: &StepView<'_>) -> String {
    let count = |accepts: &dyn Fn(&Endpoint<'_>) -> bool| {
        view.endpoints.iter().filter(|e| accepts(e)).count()
    };
    let mut text = format!(
        "{} of {} usable",
        count(&|e| e.is_usable()),
        view.endpoints.len()
    );
    let reasons: [(usize, &str); 3] = [
        (count(&|e| e.fitness == Fitness::Unreachable), "unreachable"),
        (count(&|e| e.fitness == Fitness::Ejected), "ejected"),
        (
            count(&|e| e.fitness == Fitness::Fit && !e.is_ready),
            "not ready",
        ),
    ];
    for (number, reason) in reasons {
        if number > 0 {
            text.push_str(&format!(", {number} {reason}"));
        }
    }
    text
}

fn describe_step(index: usize, view: &StepView<'_>, share: u32, called: &ServiceRow) -> String {
    let percent = share / (FULL / 100);
    let share = if share == FULL || !view.endpoints.iter().any(Endpoint::is_usable) {
        String::new()
    } else {
        format!(", takes {percent} % of what comes")
    };
    format!(
        "step {}: {}: {}{share}",
        index + 1,
        view.describe(called),
        counts(view)
    )
}

fn nothing_left(
    ask: &Ask<'_>,
    views: &[StepView<'_>],
    by: Option<tacit_model::Provenance>,
) -> Denial {
    let each: Vec<String> = views
        .iter()
        .map(|view| format!("{}: {}", view.describe(ask.service), counts(view)))
        .collect();
    let mut denial = Denial::new(
        DenialKind::NoEndpoint,
        format!(
            "no endpoint of service {} can serve port {}: {}",
            ask.service.name,
            ask.port.port,
            each.join("; ")
        ),
    );
    denial.by = by;
    denial
}

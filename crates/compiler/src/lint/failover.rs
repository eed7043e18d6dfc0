//! Advice about failover.

use tacit_api::failover::{self as written, ClientPlace, Health, Step, WhenNoneHealthy};
use tacit_model::Locality;
use tacit_model::locality::{Part, Place};

use super::World;
use crate::failover::{Parts, weighted};
use crate::findings::{
    EJECTS_ALL, NO_EFFECT, ORDER_FOR_NOBODY, Report, STEP_ADDS_NOTHING, WEIGHT_ALONE,
};

/// Checks a policy, or `defaults`.
pub(super) fn check(report: &mut Report<'_>, world: &World<'_, '_>, parts: &Parts<'_>) {
    let at = parts.at;
    if let Some(order) = parts.order {
        steps(report, world, &format!("{at}.order"), order);
    }
    for (index, order) in parts.orders.unwrap_or_default().iter().enumerate() {
        let at = format!("{at}.orders[{index}]");
        steps(report, world, &format!("{at}.order"), &order.order);
        nobody(report, world, &format!("{at}.clients"), &order.clients);
    }
    if let Some(health) = parts.health {
        ejection(report, at, health, parts.when_none_healthy);
    }
}

fn steps(report: &mut Report<'_>, world: &World<'_, '_>, at: &str, order: &[Step]) {
    for (index, step) in order.iter().enumerate() {
        let field = format!("{at}[{index}]");
        let earlier = &order[..index];
        if let Some(first) = adds_nothing(world, earlier, step) {
            let message = format!("all of it is in the step at [{first}], which comes before");
            report.say(STEP_ADDS_NOTHING, &field, message);
        }
        if let Some([place]) = step.places.as_deref()
            && let Some(weight) = place.weight.filter(|weight| *weight != 1)
        {
            let message = format!("nothing shares with the one place that has weight: {weight}");
            report.say(WEIGHT_ALONE, &format!("{field}.places[0].weight"), message);
        }
    }
}

/// The earlier step that has the last part of what a step names, if all of that comes before.
fn adds_nothing(world: &World<'_, '_>, earlier: &[Step], step: &Step) -> Option<usize> {
    if step.service.is_some() {
        return earlier
            .iter()
            .position(|other| other.service == step.service);
    }
    let places = step.places.as_deref().filter(|places| !places.is_empty())?;
    let found = places.iter().map(|place| {
        let place = weighted(place).place;
        let has = |other: &written::WeightedPlace| covers(world, &weighted(other).place, &place);
        earlier
            .iter()
            .position(|other| other.places.iter().flatten().any(has))
    });
    found.collect::<Option<Vec<usize>>>()?.into_iter().max()
}

/// True if every endpoint of `small` is in `large`, whoever asks.
fn covers(world: &World<'_, '_>, large: &Place, small: &Place) -> bool {
    // All places that this version supports are in one cluster.
    (large.region.is_none() || large.region == small.region || zone_lies_in(world, small, large))
        && (large.zone.is_none() || large.zone == small.zone)
}

/// True if `small` names only a zone, and that lies in the region of `large`.
fn zone_lies_in(world: &World<'_, '_>, small: &Place, large: &Place) -> bool {
    let regions = &world.mesh.settings.regions;
    let region = match (&small.region, &small.zone) {
        (None, Some(Part::Same)) => Some(Part::Same),
        (None, Some(Part::Named(zone))) => {
            let region = regions.get(&**zone);
            region.map(|region| Part::Named((*region).into()))
        }
        (Some(_), _) | (None, None) => None,
    };
    region.is_some() && region == large.region
}

fn nobody(report: &mut Report<'_>, world: &World<'_, '_>, at: &str, clients: &ClientPlace) {
    // As long as a place is not known, nobody can say that nobody is there.
    let Some(places) = world.places.as_ref().filter(|places| !places.is_empty()) else {
        return;
    };
    let part = |text: &Option<String>| text.as_deref().map(|name| Part::Named(name.into()));
    let place = Place {
        cluster: part(&clients.cluster),
        region: part(&clients.region),
        zone: part(&clients.zone),
    };
    let nowhere = Locality::default();
    if !places.iter().any(|found| place.contains(&nowhere, found)) {
        let message = format!("no workload is in {place} now");
        report.say(ORDER_FOR_NOBODY, at, message);
    }
}

fn ejection(
    report: &mut Report<'_>,
    at: &str,
    health: &Health,
    when_none_healthy: Option<WhenNoneHealthy>,
) {
    let most = health.eject.as_ref().and_then(|eject| eject.max_percent);
    let field = format!("{at}.health.eject.maxPercent");
    if most == Some(0) {
        let message = "maxPercent: 0 ejects no endpoint ever".to_owned();
        let fix = "choose a larger share, or remove eject".to_owned();
        report.add(NO_EFFECT, &field, message, Some(fix));
    }
    if most == Some(100) && when_none_healthy == Some(WhenNoneHealthy::Fail) {
        let message = "when every endpoint answers with errors for a moment, all are ejected, and \
                       whenNoneHealthy: Fail refuses every call";
        report.say(EJECTS_ALL, &field, message);
    }
}

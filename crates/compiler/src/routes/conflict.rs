//! One kind of route at a port: a GRPCRoute takes the place of HTTPRoutes (GEP-1294).

use std::collections::BTreeMap;

use tacit_api::http_route::ParentRef;
use tacit_api::{Kind, ObjectKey};
use tacit_model::status::Reason;

use super::spec;
use crate::findings::{ROUTE_CONFLICT, ROUTE_GIVES_PORT, at};
use crate::judge::Judged;

/// A port of a Service, by the namespace of the route, that of the Service, and its name; every
/// port if there is none.
type Place = (String, String, String, Option<u16>);

/// Takes HTTPRoutes out of force that hold nowhere, since GRPCRoutes of their namespace have all
/// their places. Where only some are taken, the others stay.
pub(super) fn give_way(judged: &mut [Judged<'_>]) {
    let mut taken: BTreeMap<Place, &ObjectKey> = BTreeMap::new();
    for found in &*judged {
        if found.key.kind == Kind::GRPCRoute {
            for place in places(found) {
                taken.entry(place).or_insert(found.key);
            }
        }
    }
    for found in judged {
        let places = places(found);
        let Some(object) = found.in_force.filter(|_| found.key.kind == Kind::HTTPRoute) else {
            continue;
        };
        let winner = |place: &Place| {
            let (of, namespace, name, _) = place.clone();
            taken
                .get(place)
                .or_else(|| taken.get(&(of, namespace, name, None)))
        };
        let winners: Vec<_> = places.iter().map(winner).collect();
        let mut findings = Vec::new();
        for (index, (place, winner)) in places.iter().zip(&winners).enumerate() {
            let field = format!("spec.parentRefs[{index}]");
            if let Some(winner) = winner {
                let message = format!("{winner} holds there instead");
                findings.push(at(object, ROUTE_CONFLICT, &field, message, None));
            } else {
                findings.extend(ports(&taken, place).map(|(port, winner)| {
                    let message = format!("{winner} holds at port {port} instead");
                    at(object, ROUTE_GIVES_PORT, &field, message, None)
                }));
            }
        }
        if !winners.is_empty() && winners.iter().all(Option::is_some) {
            found.reject(Reason::Conflicted, findings, |_| false);
        } else {
            found.findings.extend(findings);
        }
    }
}

/// The single ports that are taken of a place that means every port.
fn ports<'t>(
    taken: &'t BTreeMap<Place, &'t ObjectKey>,
    (of, namespace, name, port): &'t Place,
) -> impl Iterator<Item = (u16, &'t ObjectKey)> {
    let there = taken
        .iter()
        .filter(move |((o, s, n, _), _)| port.is_none() && (o, s, n) == (of, namespace, name));
    there.filter_map(|((.., port), winner)| Some(((*port)?, *winner)))
}

fn places(route: &Judged<'_>) -> Vec<Place> {
    let Some(spec) = route.in_force.and_then(|object| spec(&object.value)) else {
        return Vec::new();
    };
    let own = route.key.namespace.clone().unwrap_or_default();
    let place = |parent: &ParentRef| {
        let namespace = parent.namespace.clone().unwrap_or_else(|| own.clone());
        (own.clone(), namespace, parent.name.clone(), parent.port)
    };
    spec.parent_refs.iter().flatten().map(place).collect()
}

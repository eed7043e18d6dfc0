//! Orders of places as Istio's locality settings, where Istio has such an order.

use serde_json::{Map, Value, json};
use tacit_compiler::findings::{ISTIO_CANNOT, ISTIO_DIFFERS};
use tacit_model::failover::{Step, WeightedPlace};
use tacit_model::locality::{Part, Place};
use tacit_model::tables::ServiceRow;

use crate::object::{Draft, texts};
use crate::world::World;

const REGION: &str = "topology.kubernetes.io/region";
const ZONE: &str = "topology.kubernetes.io/zone";

/// An order that Istio can express.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Setting {
    /// Every endpoint alike.
    Off,
    /// Shares of named places, in percent.
    Distribute(Vec<(String, u32)>),
    /// Labels that an endpoint shares with the client, or has: more of them first.
    Priority {
        labels: Vec<String>,
        /// True if the order ends before every place is used.
        confined: bool,
    },
}

/// True if a service's endpoints come in an order.
pub(crate) fn has_order(world: &World<'_>, service: &ServiceRow) -> bool {
    let order = service
        .failover
        .as_ref()
        .map(|failover| &failover.order.value);
    let cluster = &world.s.mesh.cluster;
    let setting = order.and_then(|steps| setting_of(&places(steps), cluster));
    matches!(setting, Some(Setting::Priority { .. }))
}

/// The locality settings of a service.
pub(crate) fn setting(world: &mut World<'_>, draft: &mut Draft, service: &ServiceRow) -> Value {
    // Ejection alone would make Istio prefer the own zone.
    let off = json!({"enabled": false});
    let at = "spec.trafficPolicy.loadBalancer.localityLbSetting";
    let Some(failover) = &service.failover else {
        draft.note(at, "default");
        return off;
    };
    let order = &failover.order;
    draft.note(at, &order.from);
    let found = setting_of(&places(&order.value), &world.s.mesh.cluster);
    match found {
        None => {
            let message = format!(
                "Istio has no such order of places; all endpoints of {} are used alike",
                service.name
            );
            world.say_of(&order.from, ISTIO_CANNOT, message);
            off
        }
        Some(Setting::Off) => off,
        Some(Setting::Distribute(shares)) => {
            let shares = shares
                .into_iter()
                .map(|(place, share)| (place, Value::from(share)));
            let to: Map<String, Value> = shares.collect();
            json!({"enabled": true, "distribute": [{"from": "*", "to": to}]})
        }
        Some(Setting::Priority { labels, confined }) => {
            if confined {
                let message = format!(
                    "Istio does not stop at the end of the order: calls to {} go on to every \
                     other place when none of it is left",
                    service.name
                );
                world.say_of(&order.from, ISTIO_DIFFERS, message);
            }
            json!({"enabled": true, "failoverPriority": texts(labels)})
        }
    }
}

/// The steps that are places. Fallback services are told elsewhere.
fn places(steps: &[Step]) -> Vec<&[WeightedPlace]> {
    let places = steps.iter().filter_map(|step| match step {
        Step::Places(places) => Some(places.as_slice()),
        Step::Service(_) => None,
    });
    places.collect()
}

fn setting_of(steps: &[&[WeightedPlace]], cluster: &str) -> Option<Setting> {
    if let [several] = steps
        && several.len() > 1
    {
        return distribute(several);
    }
    let single = steps.iter().map(|step| match step {
        [only] => one(&only.place, cluster),
        _ => None,
    });
    priority(&single.collect::<Option<Vec<Labels>>>()?)
}

/// The labels that a place asks for: of the region, of the zone.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Labels {
    region: Option<String>,
    zone: Option<String>,
}

fn one(place: &Place, cluster: &str) -> Option<Labels> {
    let here = match &place.cluster {
        None | Some(Part::Same) => true,
        Some(Part::Named(name)) => **name == *cluster,
    };
    let label = |key: &str, part: &Option<Part>| {
        part.as_ref().map(|part| match part {
            Part::Same => key.to_owned(),
            Part::Named(name) => format!("{key}={name}"),
        })
    };
    here.then(|| Labels {
        region: label(REGION, &place.region),
        zone: label(ZONE, &place.zone),
    })
}

/// Istio asks for labels one after the other: who has all of them comes first, then who has all
/// but the last, and so on down to who has none. So each step has to drop one label.
fn priority(steps: &[Labels]) -> Option<Setting> {
    let (confined, steps) = match steps {
        [] => return Some(Setting::Off),
        [rest @ .., last] if last.region.is_none() && last.zone.is_none() => (false, rest),
        steps => (true, steps),
    };
    let labels = match steps {
        [] => return Some(Setting::Off),
        [
            Labels {
                region: Some(label),
                zone: None,
            }
            | Labels {
                region: None,
                zone: Some(label),
            },
        ] => {
            vec![label.clone()]
        }
        [
            Labels {
                region: near,
                zone: Some(zone),
            },
            Labels {
                region: Some(region),
                zone: None,
            },
        ] if same_region(near.as_ref(), zone, region) => vec![region.clone(), zone.clone()],
        _ => return None,
    };
    Some(Setting::Priority { labels, confined })
}

/// True if the zone is known to lie in the region: the client's own, or said so.
fn same_region(near: Option<&String>, zone: &str, region: &String) -> bool {
    match near {
        Some(near) => near == region,
        None => zone == ZONE && region == REGION,
    }
}

/// Shares of one step, in percent; they can only be said of places that have names.
fn distribute(places: &[WeightedPlace]) -> Option<Setting> {
    let total: u32 = places.iter().map(|place| place.weight).sum();
    let mut shares = Vec::new();
    for WeightedPlace { place, weight } in places {
        let name = match (&place.cluster, &place.region, &place.zone) {
            (None, Some(Part::Named(region)), None) => format!("{region}/*"),
            (None, Some(Part::Named(region)), Some(Part::Named(zone))) => {
                format!("{region}/{zone}/*")
            }
            _ => return None,
        };
        shares.push((name, weight * 100 / total.max(1)));
    }
    // What rounding left goes to the first ones, so that the sum is 100.
    let missing = 100 - shares.iter().map(|(_, share)| share).sum::<u32>();
    for (_, share) in shares
        .iter_mut()
        .take(usize::try_from(missing).unwrap_or(0))
    {
        *share += 1;
    }
    Some(Setting::Distribute(shares))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(region: &str, zone: &str) -> WeightedPlace {
        let part = |text: &str| match text {
            "" => None,
            "same" => Some(Part::Same),
            name => Some(Part::Named(name.into())),
        };
        let place = Place {
            cluster: None,
            region: part(region),
            zone: part(zone),
        };
        WeightedPlace { place, weight: 1 }
    }

    fn of(steps: &[&[WeightedPlace]]) -> Option<Setting> {
        setting_of(steps, "local")
    }

    fn labels(labels: &[&str], confined: bool) -> Setting {
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        Setting::Priority { labels, confined }
    }

    #[test]
    fn orders() {
        let (zone, region, any) = ([place("", "same")], [place("same", "")], [place("", "")]);
        assert_eq!(of(&[&any]), Some(Setting::Off));
        assert_eq!(
            of(&[&zone, &region, &any]),
            Some(labels(&[REGION, ZONE], false))
        );
        assert_eq!(of(&[&zone, &region]), Some(labels(&[REGION, ZONE], true)));
        assert_eq!(of(&[&zone, &any]), Some(labels(&[ZONE], false)));
        let (west, far) = ([place("west", "")], [place("north", "")]);
        assert_eq!(
            of(&[&west, &any]),
            Some(labels(&[&format!("{REGION}=west")], false))
        );
        assert_eq!(of(&[&west, &far]), None);
        assert_eq!(of(&[&region, &zone]), None);
        assert_eq!(of(&[&[place("", "a")], &region, &any]), None);
    }

    #[test]
    fn shares_add_up() {
        let three = [place("a", ""), place("b", ""), place("c", "z")];
        let shares = [("a/*", 34), ("b/*", 33), ("c/z/*", 33)];
        let shares = shares
            .iter()
            .map(|(name, share)| ((*name).to_owned(), *share));
        assert_eq!(of(&[&three]), Some(Setting::Distribute(shares.collect())));
        assert_eq!(of(&[&[place("a", ""), place("same", "")]]), None);
    }
}

//! Places that are down, and the state of a proxy that has found out.

use std::fmt;

use tacit_api::policy_test::DownPlace;
use tacit_decide::State;
use tacit_decide::health::SessionSign;
use tacit_model::tables::WorkloadRow;
use tacit_model::{Locality, Now, Snapshot};

use crate::compiled::Compiled;

/// Places of which nothing can be reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Down {
    places: Vec<DownPlace>,
}

/// Why a text is not a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidPlace(String);

impl fmt::Display for InvalidPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidPlace {}

impl Down {
    /// These places are down.
    #[must_use]
    pub fn new(places: Vec<DownPlace>) -> Self {
        Self { places }
    }

    /// True if nothing is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The places, as they were given.
    #[must_use]
    pub fn places(&self) -> &[DownPlace] {
        &self.places
    }

    /// True if this workload is down.
    #[must_use]
    pub fn takes(&self, row: &WorkloadRow) -> bool {
        self.places.iter().any(|place| fits(place, row))
    }

    /// True if whatever is at this locality is down.
    #[must_use]
    pub fn takes_all_of(&self, locality: &Locality) -> bool {
        let whole = |place: &DownPlace| {
            place.node.is_none() && place.workload.is_none() && fits_locality(place, locality)
        };
        self.places.iter().any(whole)
    }

    /// What a proxy knows that has lost its sessions to everything that is down.
    #[must_use]
    pub fn state(&self, s: &Snapshot) -> State {
        let state = State::new();
        for row in s.workloads.values().filter(|row| self.takes(row)) {
            state.on_session(row.address, SessionSign::Lost, Now::default());
        }
        state
    }

    /// Why a place cannot be meant: it says nothing, or nothing is there.
    #[must_use]
    pub fn mistake(place: &DownPlace, compiled: &Compiled) -> Option<String> {
        if *place == DownPlace::default() {
            return Some("the place has no part, so it would be everything".to_owned());
        }
        let mut rows = compiled.snapshot.workloads.values();
        let is_listed = || {
            let whole = Self::new(vec![place.clone()]);
            compiled.listed().iter().any(|at| whole.takes_all_of(at))
        };
        let is_there = rows.any(|row| fits(place, row)) || is_listed();
        (!is_there).then(|| format!("nothing is at {}", shown(place)))
    }
}

/// When the questions are asked: long after everything that is down went down, so that nothing
/// is still moving.
pub(crate) fn settled() -> Now {
    Now::default().plus(std::time::Duration::from_secs(24 * 3600))
}

/// Reads `zone=us-east-1a` or several parts with commas between them.
pub fn parse(text: &str) -> Result<DownPlace, InvalidPlace> {
    let invalid = |why: &str| {
        let fix = "write zone=, region=, cluster=, node= or workload=NAMESPACE/NAME";
        InvalidPlace(format!("{text:?} is not a place: {why}; {fix}"))
    };
    let mut place = DownPlace::default();
    for part in text.split(',') {
        let (key, value) = part
            .split_once('=')
            .ok_or_else(|| invalid("it has no `=`"))?;
        if value.is_empty() {
            return Err(invalid("a part has no value"));
        }
        let slot = match key {
            "cluster" => &mut place.cluster,
            "region" => &mut place.region,
            "zone" => &mut place.zone,
            "node" => &mut place.node,
            "workload" => {
                let name = value
                    .try_into()
                    .map_err(|_| invalid("its workload has no slash"))?;
                place.workload = Some(name);
                continue;
            }
            _ => return Err(invalid("there is no such part")),
        };
        *slot = Some(value.to_owned());
    }
    Ok(place)
}

/// A place for people.
#[must_use]
pub fn shown(place: &DownPlace) -> String {
    let workload = place.workload.as_ref();
    let workload = workload.map(|w| format!("{}/{}", w.namespace, w.name));
    let parts = [
        ("cluster", &place.cluster),
        ("region", &place.region),
        ("zone", &place.zone),
        ("node", &place.node),
        ("workload", &workload),
    ];
    let given = parts.iter().filter_map(|(name, value)| {
        let value = value.as_ref()?;
        Some(format!("{name} {value}"))
    });
    given.collect::<Vec<_>>().join(", ")
}

fn fits(place: &DownPlace, row: &WorkloadRow) -> bool {
    let node = place.node.as_deref();
    let workload = place.workload.as_ref();
    fits_locality(place, &row.locality)
        && node.is_none_or(|node| *node == *row.node.as_str())
        && workload.is_none_or(|wanted| {
            wanted.namespace == row.name.namespace.as_str() && wanted.name == row.name.name.as_str()
        })
}

fn fits_locality(place: &DownPlace, at: &Locality) -> bool {
    let part = |wanted: &Option<String>, here: &str| wanted.as_ref().is_none_or(|w| *w == *here);
    part(&place.cluster, &at.cluster)
        && part(&place.region, &at.region)
        && part(&place.zone, &at.zone)
}

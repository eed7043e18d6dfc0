//! Where a workload runs, and how a policy names such a place.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Where a workload runs. A part that is not known is the empty text, which matches only itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Locality {
    /// The cluster (one control plane's domain).
    pub cluster: Arc<str>,
    /// The region.
    pub region: Arc<str>,
    /// The zone inside the region.
    pub zone: Arc<str>,
}

impl fmt::Display for Locality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What is not known is left out at the end, so that a laptop's place is no "local//".
        match (&*self.region, &*self.zone) {
            ("", "") if self.cluster.is_empty() => f.write_str("unknown"),
            ("", "") => f.write_str(&self.cluster),
            (region, "") => write!(f, "{}/{region}", self.cluster),
            (region, zone) => write!(f, "{}/{region}/{zone}", self.cluster),
        }
    }
}

/// One part of a place: the same as the client's, or a certain one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The one with this name.
    Named(Arc<str>),
    /// Whatever the original client has.
    Same,
}

impl Part {
    fn matches(&self, client: &str, candidate: &str) -> bool {
        match self {
            Self::Named(name) => **name == *candidate,
            // Unknown is not "the same" as unknown: nothing is known about either.
            Self::Same => !client.is_empty() && client == candidate,
        }
    }
}

/// A set of localities: every given part must match.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The cluster, if it matters.
    pub cluster: Option<Part>,
    /// The region, if it matters.
    pub region: Option<Part>,
    /// The zone, if it matters.
    pub zone: Option<Part>,
}

impl Place {
    /// True if `candidate` lies in this place, seen by a client at `client`.
    #[must_use]
    pub fn contains(&self, client: &Locality, candidate: &Locality) -> bool {
        let part = |wanted: &Option<Part>, client: &str, candidate: &str| {
            wanted
                .as_ref()
                .is_none_or(|part| part.matches(client, candidate))
        };
        part(&self.cluster, &client.cluster, &candidate.cluster)
            && part(&self.region, &client.region, &candidate.region)
            && part(&self.zone, &client.zone, &candidate.zone)
    }

    /// How many parts are given; more parts are more specific.
    #[must_use]
    pub fn specificity(&self) -> usize {
        [&self.cluster, &self.region, &self.zone]
            .into_iter()
            .flatten()
            .count()
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (name, part) in [
            ("cluster", &self.cluster),
            ("region", &self.region),
            ("zone", &self.zone),
        ] {
            match part {
                Some(Part::Named(value)) => write!(f, "{separator}{name} {value}")?,
                Some(Part::Same) => write!(f, "{separator}{name} same")?,
                None => continue,
            }
            separator = ", ";
        }
        if separator.is_empty() {
            f.write_str("anywhere")
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(region: &str, zone: &str) -> Locality {
        Locality {
            cluster: "c".into(),
            region: region.into(),
            zone: zone.into(),
        }
    }

    #[test]
    fn unknown_parts_are_not_shown_at_the_end() {
        let shown = [("", ""), ("r", ""), ("r", "z"), ("", "z")].map(|(r, z)| at(r, z).to_string());
        assert_eq!(shown, ["c", "c/r", "c/r/z", "c//z"]);
        assert_eq!(Locality::default().to_string(), "unknown");
    }

    #[test]
    fn same_needs_a_known_client() {
        let same_zone = Place {
            zone: Some(Part::Same),
            ..Place::default()
        };
        assert!(same_zone.contains(&at("r", "a"), &at("r", "a")));
        assert!(!same_zone.contains(&at("r", "a"), &at("r", "b")));
        assert!(!same_zone.contains(&at("", ""), &at("", "")));
        let named = Place {
            region: Some(Part::Named("r2".into())),
            ..Place::default()
        };
        assert!(named.contains(&at("r", "a"), &at("r2", "x")));
        assert_eq!(named.to_string(), "region r2");
    }
}

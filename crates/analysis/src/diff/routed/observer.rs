//! What becomes of one observed request to a port with routes, in both states.

use std::collections::BTreeSet;

use tacit_decide::observed::Head;
use tacit_model::Locality;
use tacit_model::route::Candidate;

use super::super::observed::Told;
use super::super::requests::Request;
use super::super::routes::Pair;
use super::super::{Both, Kind};
use super::arrivals::{Place, places};
use super::way::Way;
use super::{What, candidates, goes, is_routed, lets_in, limits_of};
use crate::call::Caller;

/// A port with routes.
pub(in super::super) struct Observer<'a> {
    both: Both<'a>,
    routes: [Vec<&'a Candidate>; 2],
    places: Vec<Place<'a>>,
}

/// What comes of a request.
pub(in super::super) struct Asked {
    pub(in super::super) told: Vec<Told>,
    /// `SERVICE.NAMESPACE:PORT` of all that may serve it in one of the states.
    pub(in super::super) reached: BTreeSet<String>,
    /// True if it may reach what has no answer.
    pub(in super::super) is_unknown: bool,
}

impl<'a> Observer<'a> {
    /// Nothing if requests to the port follow no routes.
    pub(in super::super) fn new(both: Both<'a>, to: &Pair<'_>) -> Option<Self> {
        if !is_routed(both, to.old, to.new) {
            return None;
        }
        let routes = [
            candidates(&both.before.snapshot, to.old),
            candidates(&both.after.snapshot, to.new),
        ];
        Some(Self {
            both,
            places: places(both, to, &routes),
            routes,
        })
    }

    /// True if nothing that a rule looks at was left unseen.
    pub(in super::super) fn has_seen_all(&self, head: &Head) -> bool {
        let asked = self
            .routes
            .iter()
            .flatten()
            .filter_map(|one| Some((one.conditions()?, one.route.key.is_grpc())));
        let mut asked = asked.map(|(asked, is_grpc)| {
            let of_kind = is_grpc.then_some("content-type");
            let mut headers = asked.headers.iter().map(|(name, _)| &**name).chain(of_kind);
            let is_seen = |name: &str| name == "host" || head.headers.contains_key(name);
            headers.all(is_seen) && (asked.query.is_empty() || head.query.is_some())
        });
        asked.all(|is_seen| is_seen)
    }

    pub(in super::super) fn ask(
        &self,
        to: &Pair<'_>,
        callers: &[Caller; 2],
        place: &Locality,
        request: &Request<'_>,
    ) -> Asked {
        let [old, new] = callers;
        let ways = [
            Way::of(&self.both.before.snapshot, &old.row, to.old, request),
            Way::of(&self.both.after.snapshot, &new.row, to.new, request),
        ];
        let mut found: Vec<What> = goes([&ways[0], &ways[1]]).into_iter().collect();
        if ways.iter().all(Way::reaches) {
            found.extend(limits_of(self.both, to, &ways, callers));
        }
        let here = self.places.iter().find(|one| one.at.contains(place));
        let let_in = here.and_then(|here| lets_in(here, &ways, callers, request.method));
        found.extend(let_in);
        let services = ways.iter().flat_map(Way::services);
        Asked {
            told: found.into_iter().map(Told::from).collect(),
            reached: services
                .map(|(name, port, _)| format!("{name}:{port}"))
                .collect(),
            is_unknown: here.is_some_and(|here| here.unknown().next().is_some()),
        }
    }
}

impl From<What> for Told {
    fn from(what: What) -> Self {
        Self {
            rule: what.other_rule().cloned(),
            kind: Kind::clone(&what.kind),
            before: what.before,
            after: what.after,
            by: what.by,
        }
    }
}

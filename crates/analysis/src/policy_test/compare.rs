//! What a case expects, against what may come of its call.

use std::time::Duration;

use tacit_api::policy_test::{ServedBy, TestVerdict, Then};
use tacit_decide::Denial;
use tacit_model::tables::Protocol;
use tacit_model::{Locality, Provenance, Sourced};

use crate::call::{Outcome, Reached, Served, ToService, percent};

/// An expectation that does not hold.
pub(super) struct Difference {
    pub(super) expected: String,
    pub(super) got: String,
    pub(super) because: Option<String>,
    pub(super) by: Option<Provenance>,
}

/// One thing that may happen.
enum Ending<'a> {
    Allowed(Option<&'a Reached>, Option<&'a Provenance>),
    Denied(&'a Denial),
    Unknown(&'a str),
}

/// The expectations that do not hold, by the name of their field.
pub(super) fn differences(then: &Then, outcome: &Outcome) -> Vec<(&'static str, Difference)> {
    let Then {
        verdict,
        served_by,
        timeout,
        tries,
        by,
    } = then;
    let endings = endings(outcome);
    let mut found = Vec::new();
    let mut add = |name, difference: Option<Difference>| {
        found.extend(difference.map(|difference| (name, difference)));
    };
    if let Some(wanted) = verdict {
        add(
            "verdict",
            endings
                .iter()
                .find_map(|ending| of_verdict(*wanted, ending)),
        );
    }
    if let Some(wanted) = by {
        add(
            "by",
            endings.iter().find_map(|ending| of_by(wanted, ending)),
        );
    }
    if let Some(wanted) = served_by {
        add("servedBy", of_places(wanted, outcome, &endings));
    }
    if let Some(wanted) = timeout {
        add("timeout", of_timeout(wanted.duration(), outcome));
    }
    if let Some(wanted) = tries {
        add("tries", of_tries(*wanted, outcome));
    }
    found
}

fn endings(outcome: &Outcome) -> Vec<Ending<'_>> {
    match outcome {
        Outcome::Denied(denial) => vec![Ending::Denied(denial)],
        Outcome::Outside => vec![Ending::Allowed(None, None)],
        Outcome::Redirected(by) => vec![Ending::Allowed(None, by.as_ref())],
        Outcome::Workload(reached) => vec![arrived(reached)],
        Outcome::Service(to) => match &to.served {
            Served::By(all) => all.iter().map(arrived).collect(),
            Served::Nobody(denial) => vec![Ending::Denied(denial)],
            Served::Somebody(reached) => vec![arrived(reached)],
            Served::Unknown(why) => vec![Ending::Unknown(why)],
        },
    }
}

fn arrived(reached: &Reached) -> Ending<'_> {
    match &reached.verdict {
        Ok(by) => Ending::Allowed(Some(reached), by.as_ref()),
        Err(denial) => Ending::Denied(denial),
    }
}

fn of_verdict(wanted: TestVerdict, ending: &Ending<'_>) -> Option<Difference> {
    let (got, because, by) = match (wanted, ending) {
        (TestVerdict::Allowed, Ending::Allowed(..)) | (TestVerdict::Denied, Ending::Denied(_)) => {
            return None;
        }
        (TestVerdict::Allowed, Ending::Denied(denial)) => {
            ("Denied", Some(denial.reason.clone()), denial.by.clone())
        }
        (TestVerdict::Denied, Ending::Allowed(reached, by)) => {
            let who = reached.map(|reached| format!("{} lets it in", reached.workload.name));
            let because =
                who.unwrap_or_else(|| "it leaves the mesh, or a route answers it".to_owned());
            ("Allowed", Some(because), by.cloned())
        }
        (TestVerdict::Allowed | TestVerdict::Denied, Ending::Unknown(why)) => {
            ("no answer", Some((*why).to_owned()), None)
        }
    };
    Some(Difference {
        expected: wanted.to_string(),
        got: got.to_owned(),
        because,
        by,
    })
}

fn of_by(wanted: &str, ending: &Ending<'_>) -> Option<Difference> {
    let (because, by) = match ending {
        Ending::Allowed(_, by) => ("that allows it".to_owned(), by.cloned()),
        Ending::Denied(denial) => (denial.reason.clone(), denial.by.clone()),
        Ending::Unknown(why) => ((*why).to_owned(), None),
    };
    let got = match &by {
        Some(Provenance::Field { object, .. }) => object.to_string(),
        Some(Provenance::Default) => "the default".to_owned(),
        None => "no object".to_owned(),
    };
    (got != wanted).then(|| Difference {
        expected: wanted.to_owned(),
        got,
        because: Some(because),
        by,
    })
}

/// Everyone who may serve the call is at the place.
fn of_places(wanted: &ServedBy, outcome: &Outcome, endings: &[Ending<'_>]) -> Option<Difference> {
    let expected = place(wanted);
    let order = order(outcome);
    let elsewhere = |ending: &Ending<'_>| match ending {
        Ending::Allowed(Some(reached), _) if is_at(wanted, &reached.workload.locality) => None,
        Ending::Allowed(Some(_), _) if stands_in(outcome) => Some((
            "no answer".to_owned(),
            "no Workload in the files is behind the service".to_owned(),
            None,
        )),
        Ending::Allowed(Some(reached), _) => {
            let (name, at) = (&reached.workload.name, &reached.workload.locality);
            let got = format!("{} of the traffic at {at}", percent(share(endings, at)));
            Some((
                got,
                format!("{name} is one of those that may serve it"),
                order.clone(),
            ))
        }
        Ending::Allowed(None, _) => Some((
            "outside the mesh".to_owned(),
            "the address is not in the mesh".to_owned(),
            None,
        )),
        Ending::Denied(denial) => Some((
            "nobody".to_owned(),
            denial.reason.clone(),
            denial.by.clone(),
        )),
        Ending::Unknown(why) => Some(("no answer".to_owned(), (*why).to_owned(), None)),
    };
    let (got, because, by) = endings.iter().find_map(elsewhere)?;
    Some(Difference {
        expected,
        got,
        because: Some(because),
        by,
    })
}

fn stands_in(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Service(to) if matches!(to.served, Served::Somebody(_)))
}

/// Where the order of places is written.
fn order(outcome: &Outcome) -> Option<Provenance> {
    match outcome {
        Outcome::Service(to) => to.service.failover.as_ref().map(|f| f.order.from.clone()),
        Outcome::Redirected(by) => by.clone(),
        Outcome::Denied(_) | Outcome::Outside | Outcome::Workload(_) => None,
    }
}

fn share(endings: &[Ending<'_>], at: &Locality) -> u64 {
    let there = endings.iter().map(|ending| match ending {
        Ending::Allowed(Some(reached), _) if reached.workload.locality == *at => {
            reached.per_million
        }
        Ending::Allowed(..) | Ending::Denied(_) | Ending::Unknown(_) => 0,
    });
    there.sum()
}

fn is_at(wanted: &ServedBy, at: &Locality) -> bool {
    let part = |wanted: &Option<String>, here: &str| wanted.as_ref().is_none_or(|w| *w == *here);
    part(&wanted.cluster, &at.cluster)
        && part(&wanted.region, &at.region)
        && part(&wanted.zone, &at.zone)
}

fn place(wanted: &ServedBy) -> String {
    let parts = [
        ("cluster", &wanted.cluster),
        ("region", &wanted.region),
        ("zone", &wanted.zone),
    ];
    let given = parts
        .iter()
        .filter_map(|(name, value)| Some(format!("{name} {}", value.as_ref()?)));
    given.collect::<Vec<_>>().join(", ")
}

fn of_timeout(wanted: Duration, outcome: &Outcome) -> Option<Difference> {
    let shown = |limit: Duration| match limit.is_zero() {
        true => "none".to_owned(),
        false => format!("{limit:?}"),
    };
    let expected = shown(wanted);
    let limit = |to: &ToService| Sourced {
        value: to.resilience.request.value,
        from: to.resilience.request.from.clone(),
    };
    of_limit(outcome, wanted, expected, limit, shown)
}

fn of_tries(wanted: u32, outcome: &Outcome) -> Option<Difference> {
    let limit = |to: &ToService| Sourced {
        value: to.resilience.attempts.value.saturating_add(1),
        from: to.resilience.attempts.from.clone(),
    };
    of_limit(outcome, wanted, wanted.to_string(), limit, |tries| {
        tries.to_string()
    })
}

fn of_limit<T: PartialEq>(
    outcome: &Outcome,
    wanted: T,
    expected: String,
    limit: impl Fn(&ToService) -> Sourced<T>,
    shown: impl Fn(T) -> String,
) -> Option<Difference> {
    let not = |because: &str| Difference {
        expected: expected.clone(),
        got: "none".to_owned(),
        because: Some(because.to_owned()),
        by: None,
    };
    match outcome {
        Outcome::Denied(denial) => Some(not(&denial.reason)),
        Outcome::Redirected(_) => Some(not("a route answers it with a redirect")),
        Outcome::Outside | Outcome::Workload(_) => Some(not(
            "only calls to a service have timeouts and further tries",
        )),
        Outcome::Service(to) if to.port.protocol == Protocol::Tcp => Some(not(
            "the port is relayed as bytes, which have no request to limit or to try again",
        )),
        Outcome::Service(to) => {
            let Sourced { value, from } = limit(to);
            (value != wanted).then(|| Difference {
                expected: expected.clone(),
                got: shown(value),
                because: (from == Provenance::Default).then(|| "nobody sets it".to_owned()),
                by: Some(from),
            })
        }
    }
}

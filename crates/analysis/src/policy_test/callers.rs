//! The callers that a case means: workloads of the files, else one that is assumed.

use std::sync::Arc;

use tacit_api::policy_test::TestCaller;
use tacit_decide::why::{Source, caller};
use tacit_model::tables::WorkloadRow;
use tacit_model::{Locality, SpiffeId};

use super::Wrong;
use crate::call::Caller;
use crate::compiled::Compiled;
use crate::down::Down;

/// The callers of a case.
pub(super) enum Callers {
    /// Nobody can call, and why.
    Down(String),
    /// At least one.
    Run(Vec<Caller>),
}

/// The workloads of the account at the place; if there is none, one that is assumed there.
pub(super) fn of(compiled: &Compiled, down: &Down, from: &TestCaller) -> Result<Callers, Wrong> {
    let s = &compiled.snapshot;
    let identity = identity(compiled, from)?;
    let fits = |row: &&Arc<WorkloadRow>| {
        row.identity(&s.mesh.trust_domain) == identity && is_at(from, &row.locality)
    };
    let rows: Vec<&Arc<WorkloadRow>> = s.workloads.values().filter(fits).collect();
    let sources: Vec<Source> = if rows.is_empty() {
        let locality = place(compiled, from)?;
        if down.takes_all_of(&locality) {
            return Ok(Callers::Down(format!(
                "{locality} is down, and the caller with it"
            )));
        }
        vec![Source::Identity(identity, locality)]
    } else {
        let up = rows.iter().filter(|row| !down.takes(row));
        up.map(|row| Source::Workload(row.name.clone())).collect()
    };
    if sources.is_empty() {
        return Ok(Callers::Down(
            "every workload of the caller is down".to_owned(),
        ));
    }
    let asked = sources.iter().map(|source| {
        let (row, peer) = caller(s, source).map_err(|denial| wrong(denial.reason))?;
        Ok(Caller { row, peer })
    });
    Ok(Callers::Run(asked.collect::<Result<_, Wrong>>()?))
}

fn wrong(why: String) -> Wrong {
    (
        "from.serviceAccount",
        why,
        "write NAMESPACE/SERVICE-ACCOUNT",
    )
}

fn identity(compiled: &Compiled, from: &TestCaller) -> Result<SpiffeId, Wrong> {
    let account = &from.service_account;
    Ok(SpiffeId {
        trust_domain: compiled.snapshot.mesh.trust_domain.clone(),
        namespace: account
            .namespace
            .as_str()
            .try_into()
            .map_err(|e| wrong(format!("{e}")))?,
        service_account: account
            .name
            .as_str()
            .try_into()
            .map_err(|e| wrong(format!("{e}")))?,
    })
}

fn is_at(from: &TestCaller, at: &Locality) -> bool {
    let part = |wanted: &Option<String>, here: &str| wanted.as_ref().is_none_or(|w| *w == *here);
    part(&from.zone, &at.zone) && part(&from.region, &at.region)
}

/// Where an assumed caller is: a place that the files know, with the region of its zone.
fn place(compiled: &Compiled, from: &TestCaller) -> Result<Locality, Wrong> {
    let cluster = compiled.snapshot.mesh.cluster.clone();
    let known = compiled.localities();
    let region = from.region.as_deref();
    let found = known.iter().find(|at| is_at(from, at));
    let fix = "name a place that a Workload or Mesh.localities has";
    match (from.zone.as_deref(), found) {
        (Some(zone), None) => {
            let region = region
                .map(|region| format!(" of region {region}"))
                .unwrap_or_default();
            Err((
                "from.zone",
                format!("nothing is known of zone {zone}{region}"),
                fix,
            ))
        }
        (Some(_), Some(found)) => Ok(Locality {
            cluster,
            ..found.clone()
        }),
        (None, None) if region.is_some() => {
            let region = region.unwrap_or_default();
            Err((
                "from.region",
                format!("nothing is known of region {region}"),
                fix,
            ))
        }
        (None, _) => Ok(Locality {
            cluster,
            region: region.unwrap_or_default().into(),
            zone: "".into(),
        }),
    }
}

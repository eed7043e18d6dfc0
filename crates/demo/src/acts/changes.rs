//! Act (f): how long a change of policy takes until every node decides by it.

use std::io;
use std::time::{Duration, Instant};

use crate::acts::{CALLEE, Plan, apply, complete, start_payments};
use crate::calls::{self, Call, Tail, unix_ms};
use crate::figures::{Bound, count};
use crate::hosts::{CONTROL, ZONES};
use crate::mesh::COMMAND_PATIENCE;
use crate::process::finish;
use crate::stage::Stage;

const ACT: &str = "f";
const KIND: &str = "AccessPolicy";
const NAME: &str = "shop/payments";
/// Changes that are measured: enough for a 99th percentile.
const CHANGES: usize = 200;
/// Requests per second, a quarter of them to each node: one each 5 ms.
const RATE: u32 = 800;
/// Where the caller runs.
const CLIENT: &str = "us-east-1b";
/// Other endings that are said one by one.
const SHOWN: usize = 5;
/// So many decisions in a row by the new policy: a node that has it does not go back.
const IN_A_ROW: usize = 3;
/// A change that takes longer counts as never enforced.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks at the access logs.
const LOOK: Duration = Duration::from_millis(5);

/// One change; milliseconds since `tacit apply` was started.
struct Change {
    applied: f64,
    /// When the last node had decided a request by the new policy; absent: one never did.
    enforced: Option<f64>,
}

pub(crate) async fn play(stage: &mut Stage) -> io::Result<()> {
    stage
        .voice
        .title("(f) A change of policy, and the first request that each node decides by it")?;
    start_payments(stage, &[]).await?;
    apply(stage, &policy(true), KIND, NAME).await?;
    let plan = Plan {
        rate: RATE,
        ..Plan::new(CLIENT, "changes")
    };
    let started = unix_ms();
    let load = plan.start(stage)?;
    let tails = ZONES.iter().map(|(zone, _)| tail(stage, zone));
    let mut tails: Vec<Tail> = tails.collect::<io::Result<_>>()?;
    let line = "tacit apply -f -   # 200 times: web may call payments, web may not, ...";
    stage.voice.command(CONTROL, line)?;
    let mut changes = Vec::new();
    for number in 0..CHANGES {
        changes.push(change(stage, &mut tails, number % 2 == 1).await?);
    }
    let report = load.stop(&stage.voice).await?;
    complete(stage, ACT, &[&report])?;
    let get = report.method("GET");
    let status = |code| get.status.get(&code).copied().unwrap_or_default();
    let (passed, refused) = (status(200), status(403));
    for (what, number) in [("passed", passed), ("refused", refused)] {
        let what = format!("requests meanwhile, {what}");
        stage.figure(ACT, &what, count(number), Bound::AtLeast(1000.0))?;
    }
    let other = count(get.sent - passed - refused);
    say_others(stage, started)?;
    let what = "requests meanwhile, ended in any other way";
    // Not promised: a machine that is far too busy makes some time out.
    stage.figure(ACT, what, other, Bound::None)?;
    figures(stage, &changes)?;
    stage.must(CONTROL, &["delete", KIND, NAME], "").await?;
    stage.stop_apps().await
}

/// Says how requests ended that neither passed nor were refused, if any did.
fn say_others(stage: &Stage, since: f64) -> io::Result<()> {
    let log = stage.hosts.get(CLIENT)?.dir.join("run/access.log");
    let other =
        |call: &Call| call.at_source && !call.is_complete() && !call.ending.starts_with("denied");
    let calls = calls::read(&log, CALLEE, since)?;
    for call in calls.iter().filter(|call| other(call)).take(SHOWN) {
        let took = call.ended - call.started;
        let text = format!(
            "after {} tries and {took:.0} ms: {}",
            call.tries, call.ending
        );
        stage.voice.figure(&text)?;
    }
    Ok(())
}

fn tail(stage: &Stage, zone: &str) -> io::Result<Tail> {
    Tail::open(stage.hosts.get(zone)?.dir.join("run/access.log"))
}

/// The policy with which `shop/web` may call payments, or with which it may not.
fn policy(may: bool) -> String {
    let who = if may { "web" } else { "nobody" };
    format!(
        "apiVersion: tacit.dev/v1alpha1
kind: AccessPolicy
metadata: {{name: payments, namespace: shop}}
spec:
  targetRefs: [{{group: \"\", kind: Service, name: payments}}]
  action: Allow
  rules:
  - from: [{{serviceAccounts: [{who}]}}]
"
    )
}

/// Applies the policy, and waits until the server half of each node decides by it.
async fn change(stage: &Stage, tails: &mut [Tail], may: bool) -> io::Result<Change> {
    for tail in &mut *tails {
        tail.more(CALLEE)?;
    }
    let started = unix_ms();
    let job = stage.hosts.control()?.job("tacit", &["apply", "-f", "-"]);
    let done = finish(job, &policy(may), COMMAND_PATIENCE).await?;
    let applied = unix_ms() - started;
    if !done.status.success() {
        return Err(io::Error::other(format!(
            "`tacit apply` failed: {}",
            done.text()
        )));
    }
    let mut seen: Vec<Vec<Call>> = tails.iter().map(|_| Vec::new()).collect();
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        for (seen, tail) in seen.iter_mut().zip(&mut *tails) {
            let calls = tail.more(CALLEE)?.into_iter();
            seen.extend(calls.filter(|call| !call.at_source && call.ended > started));
        }
        let nodes: Option<Vec<f64>> = seen.iter().map(|calls| settled(calls, may)).collect();
        if let Some(last) = nodes.and_then(|all| all.into_iter().max_by(f64::total_cmp)) {
            let enforced = Some(last - started);
            return Ok(Change { applied, enforced });
        }
        tokio::time::sleep(LOOK).await;
    }
    let enforced = None;
    Ok(Change { applied, enforced })
}

/// When the first of those requests was decided from which on all are decided as the new policy
/// says; `None` until there are some in a row.
fn settled(calls: &[Call], may: bool) -> Option<f64> {
    let old = calls.iter().rposition(|call| call.is_complete() != may);
    let new = &calls[old.map_or(0, |old| old + 1)..];
    let first = new.first()?;
    (new.len() >= IN_A_ROW).then_some(first.ended)
}

fn figures(stage: &mut Stage, changes: &[Change]) -> io::Result<()> {
    let what = "changes of a policy that four nodes enforce";
    let made = count(changes.len() as u64);
    stage.figure(ACT, what, made, Bound::AtLeast(200.0))?;
    let never = changes.iter().filter(|change| change.enforced.is_none());
    let what = "changes never enforced";
    stage.figure(ACT, what, count(never.count() as u64), Bound::Exactly(0.0))?;
    let took: Vec<f64> = changes
        .iter()
        .filter_map(|change| change.enforced)
        .collect();
    let what = "from the start of `tacit apply` to the last node's first decision by it";
    percentiles(stage, what, took)?;
    let applied = changes.iter().map(|change| change.applied).collect();
    percentiles(stage, "`tacit apply` itself takes", applied)
}

fn percentiles(stage: &mut Stage, what: &str, mut took: Vec<f64>) -> io::Result<()> {
    took.sort_by(f64::total_cmp);
    for (name, percent) in [("p50", 50), ("p99", 99), ("max", 100)] {
        let at = (took.len() * percent).div_ceil(100).saturating_sub(1);
        let value = took.get(at).copied().unwrap_or(f64::INFINITY);
        let what = format!("{what}, {name}");
        stage.figure(ACT, &what, (value, "ms"), Bound::None)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::settled;
    use crate::calls::Call;

    fn calls(verdicts: &str) -> Vec<Call> {
        let call = |(number, verdict)| Call {
            at_source: false,
            started: 0.0,
            ended: f64::from(u32::try_from(number).unwrap()),
            zone: None,
            tries: 1,
            method: "GET".into(),
            ending: if verdict == 'y' { "complete" } else { "denied" }.into(),
            identity: None,
        };
        verdicts.chars().enumerate().map(call).collect()
    }

    #[test]
    fn a_node_has_settled_when_it_decides_anew_and_does_not_go_back() {
        let cases = [
            ("", true, None),
            ("nnn", true, None),
            ("nny", true, None),
            ("nnyyy", true, Some(2.0)),
            ("nynyyyy", true, Some(3.0)),
            ("yyy", true, Some(0.0)),
            ("yynnn", false, Some(2.0)),
        ];
        for (verdicts, may, expected) in cases {
            assert_eq!(settled(&calls(verdicts), may), expected, "{verdicts} {may}");
        }
    }
}

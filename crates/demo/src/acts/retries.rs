//! Act (b): a flaky service gives errors, and a ten-line policy ends them.

use std::io;

use crate::acts::{Plan, apply, complete, seen, start_payments};
use crate::figures::{Bound, count};
use crate::hosts::CONTROL;
use crate::load::report::Report;
use crate::sample::seen::repeated_posts;
use crate::stage::Stage;

const ACT: &str = "b";
const POLICY: &str = include_str!("../../policies/retries.yaml");
const ALSO_POSTS: &str = include_str!("../../policies/retries-also-posts.yaml");
const KIND: &str = "RetryTimeoutPolicy";
const NAME: &str = "shop/payments";
/// 10,000 GETs and 1,000 POSTs.
const REQUESTS: u64 = 11_000;
const POST_EVERY: u64 = 11;

pub(crate) async fn play(stage: &mut Stage) -> io::Result<()> {
    stage
        .voice
        .title("(b) A flaky service, and ten lines that end its errors")?;
    stage
        .voice
        .say("payments now answers every tenth try with 503, each by the roll of a die.")?;
    start_payments(stage, &["--fail-percent", "10"]).await?;

    let before = phase(stage, "before", REQUESTS).await?;
    let get = before.method("GET").success_percent();
    let post = before.method("POST").success_percent();
    stage.figure(
        ACT,
        "GETs that succeed before the policy",
        (get, "%"),
        Bound::Between(88.0, 92.0),
    )?;
    let usual = Bound::Between(85.0, 95.0);
    stage.figure(
        ACT,
        "POSTs that succeed before the policy",
        (post, "%"),
        usual,
    )?;

    apply(stage, POLICY, KIND, NAME).await?;
    let after = phase(stage, "after", REQUESTS).await?;
    let get = after.method("GET").success_percent();
    let post = after.method("POST").success_percent();
    stage.figure(
        ACT,
        "GETs that succeed with the policy",
        (get, "%"),
        Bound::AtLeast(99.9),
    )?;
    stage.figure(
        ACT,
        "POSTs that succeed with the policy (never repeated)",
        (post, "%"),
        usual,
    )?;
    complete(stage, ACT, &[&before, &after])?;
    let repeated = repeated_posts(&seen(stage).await?).len() as u64;
    let what = "POSTs that any application saw twice";
    stage.figure(ACT, what, count(repeated), Bound::Exactly(0.0))?;

    stage
        .voice
        .say("The control run: a policy that says nonIdempotent: true.")?;
    apply(stage, ALSO_POSTS, KIND, NAME).await?;
    phase(stage, "also-posts", REQUESTS / 4).await?;
    let repeated = repeated_posts(&seen(stage).await?).len() as u64;
    let what = "control run with nonIdempotent: POSTs seen twice";
    stage.figure(ACT, what, count(repeated), Bound::AtLeast(1.0))?;

    stage.must(CONTROL, &["delete", KIND, NAME], "").await?;
    stage.stop_apps().await
}

async fn phase(stage: &Stage, name: &str, requests: u64) -> io::Result<Report> {
    let plan = Plan {
        requests: Some(requests),
        rate: 0,
        post_every: POST_EVERY,
        ..Plan::new("us-east-1b", name)
    };
    let report = plan.start(stage)?.finish(&stage.voice).await?;
    let (get, post) = (report.method("GET"), report.method("POST"));
    stage.voice.figure(&format!(
        "{name}: GET {} of {} good · POST {} of {} good · p50 {:.1} ms · p99 {:.1} ms",
        get.ok, get.sent, post.ok, post.sent, report.latency.p50, report.latency.p99
    ))?;
    Ok(report)
}

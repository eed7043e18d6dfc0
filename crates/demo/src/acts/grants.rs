//! Act (e): a developer asks for 50 further tries and is refused; 3 pass.

use std::io;

use crate::figures::{Bound, count};
use crate::hosts::CONTROL;
use crate::stage::Stage;

const ACT: &str = "e";
const GREEDY: &str = include_str!("../../policies/greedy.yaml");
const MODEST: &str = include_str!("../../policies/modest.yaml");
const NAME: [&str; 2] = ["RetryTimeoutPolicy", "shop/checkout"];

pub(crate) async fn play(stage: &mut Stage) -> io::Result<()> {
    stage
        .voice
        .title("(e) A developer asks for too much, and is told so")?;
    stage
        .voice
        .say("dana is in shop-developers, by her certificate, wherever she sits.")?;
    let identity = stage.dir.join("dana").display().to_string();
    let args = ["certificate", "--common-name", "dana", "-o", &identity];
    stage.must(CONTROL, &args, "").await?;
    let server = format!("tls:{}:15017", stage.hosts.control()?.address);
    let dana = ["--server", &server, "--identity", &identity];
    let apply = [&dana[..], &["apply", "-f", "-"]].concat();

    let refused = stage.tell_with("us-east-1a", &apply, GREEDY).await?;
    stage.voice.quote(&refused.text(), 20)?;
    let said = !refused.status.success() && refused.text().contains("at most 3 further tries");
    let what = "attempts: 50 is refused with the grant's own message";
    stage.figure(ACT, what, count(said.into()), Bound::Exactly(1.0))?;
    let stored = stage
        .tell(CONTROL, &["get", NAME[0], NAME[1]])
        .await?
        .status
        .success();
    stage.figure(
        ACT,
        "what was refused is stored",
        count(stored.into()),
        Bound::Exactly(0.0),
    )?;

    let passed = stage.tell_with("us-east-1a", &apply, MODEST).await?;
    stage.voice.quote(&passed.text(), 20)?;
    let passed = u64::from(passed.status.success());
    stage.figure(
        ACT,
        "attempts: 3 passes",
        count(passed),
        Bound::Exactly(1.0),
    )?;
    let stored = stage
        .tell(CONTROL, &["get", NAME[0], NAME[1]])
        .await?
        .status
        .success();
    let what = "control run: what passed is stored";
    stage.figure(ACT, what, count(stored.into()), Bound::Exactly(1.0))?;

    let args = [&["wait", "--for=Programmed"][..], &NAME].concat();
    stage.must(CONTROL, &args, "").await?;
    let args = [&dana[..], &["delete"], &NAME].concat();
    stage.must("us-east-1a", &args, "").await.map(drop)
}

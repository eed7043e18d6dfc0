//! Certificates that the nodes hold, as `tacit status` tells them, and how early they are renewed.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::acts::failover::watch;
use crate::acts::outage::ACT;
use crate::calls::unix_ms;
use crate::figures::{Bound, count};
use crate::mesh::COMMAND_PATIENCE;
use crate::process::finish;
use crate::stage::{Loader, Stage};

/// Longest wait for all renewals: somewhat more than half of a life of 4 minutes.
const PATIENCE: Duration = Duration::from_secs(130);
/// A certificate with less time left than this was renewed late: a quarter of its life.
const LATE: f64 = 60.0;

#[derive(Default)]
pub(super) struct Certificates {
    /// By node and identity: when the certificate ends, in seconds since 1970, and how many
    /// seconds were left of each one before it when it was replaced.
    held: BTreeMap<(String, String), (f64, Vec<f64>)>,
}

#[derive(Deserialize)]
struct Status {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    name: String,
    certificates: Vec<Certificate>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Certificate {
    identity: String,
    not_after: f64,
}

impl Certificates {
    /// Notes what the nodes hold now.
    pub(super) async fn look(&mut self, stage: &Stage) -> io::Result<()> {
        let job = stage
            .hosts
            .control()?
            .job("tacit", &["status", "-o", "json"]);
        let done = finish(job, "", COMMAND_PATIENCE).await?;
        let status: Status = serde_json::from_str(&done.stdout)
            .map_err(|e| io::Error::other(format!("`tacit status` says {}: {e}", done.text())))?;
        let now = unix_ms() / 1000.0;
        for node in status.nodes {
            for Certificate {
                identity,
                not_after,
            } in node.certificates
            {
                let key = (node.name.clone(), identity);
                let (end, left) = self.held.entry(key).or_insert((not_after, Vec::new()));
                if not_after > *end {
                    left.push(*end - now);
                    *end = not_after;
                }
            }
        }
        Ok(())
    }

    /// Waits until each one has been renewed, and says how early.
    pub(super) async fn all_renewed(
        &mut self,
        stage: &mut Stage,
        loads: &mut [Loader],
    ) -> io::Result<()> {
        let end = Instant::now() + PATIENCE;
        let waiting = |all: &Self| all.held.values().any(|(_, left)| left.is_empty());
        while waiting(self) && Instant::now() < end {
            watch(stage, loads, Duration::from_secs(1)).await?;
            self.look(stage).await?;
        }
        let all = count(self.held.len() as u64);
        stage.figure(ACT, "certificates of workloads", all, Bound::AtLeast(5.0))?;
        let never = self.held.values().filter(|(_, left)| left.is_empty());
        let what = "of these, not renewed";
        stage.figure(ACT, what, count(never.count() as u64), Bound::Exactly(0.0))?;
        let left = || self.held.values().flat_map(|(_, left)| left).copied();
        let late = left().filter(|left| *left < LATE).count() as u64;
        let what = "renewed with less than 60 s of their 240 s left";
        stage.figure(ACT, what, count(late), Bound::Exactly(0.0))?;
        let least = left().min_by(f64::total_cmp).unwrap_or_default().round();
        stage.figure(
            ACT,
            "least time left at a renewal",
            (least, "s"),
            Bound::None,
        )
    }
}

//! The workloads that are declared for their nodes, which start them and start them again.

use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;

use crate::acts::outage::node_process;
use crate::acts::{READY_PATIENCE, reached_in};
use crate::calls::unix_ms;
use crate::hosts::{CONTROL, ZONES, children_with, kill_one};
use crate::mesh::until;
use crate::process::finish;
use crate::stage::Stage;

/// Where the standby runs: neither with its clients nor on the node that is killed.
const STANDBY_HOST: &str = "eu-west-1b";
const STANDBY_SERVICE: &str = "
---
apiVersion: v1
kind: Service
metadata: {name: standby, namespace: shop}
spec:
  selector: {app: standby}
  ports: [{name: http, port: 80, targetPort: 8080}]
";

/// Declares one payments instance in each zone and a standby, and waits until all serve.
pub(super) async fn declare(stage: &Stage) -> io::Result<()> {
    let mut objects = STANDBY_SERVICE.to_owned();
    for (zone, _) in ZONES {
        objects.push_str(&workload("payments", zone));
    }
    objects.push_str(&workload("standby", STANDBY_HOST));
    stage.must(CONTROL, &["apply", "-f", "-"], &objects).await?;
    reached_in(stage, "eu-west-1b", &ZONES.map(|(zone, _)| zone)).await?;
    let host = stage.hosts.get("eu-west-1a")?;
    until("the standby to serve", READY_PATIENCE, async || {
        let args = [
            "run",
            "--as",
            "shop/web",
            "--",
            "curl",
            "-sf",
            "-m",
            "3",
            "http://standby.shop/",
        ];
        let done = finish(host.job("tacit", &args), "", READY_PATIENCE).await?;
        Ok(done.status.success())
    })
    .await
}

pub(super) async fn withdraw(stage: &Stage) -> io::Result<()> {
    for (zone, _) in ZONES {
        let name = format!("shop/payments-{zone}");
        stage
            .must(CONTROL, &["delete", "Workload", &name], "")
            .await?;
    }
    let standby = format!("shop/standby-{STANDBY_HOST}");
    stage
        .must(CONTROL, &["delete", "Workload", &standby], "")
        .await?;
    stage
        .must(CONTROL, &["delete", "Service", "shop/standby"], "")
        .await
        .map(drop)
}

fn workload(app: &str, zone: &str) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "---
apiVersion: tacit.dev/v1alpha1
kind: Workload
metadata: {{name: {app}-{zone}, namespace: shop, labels: {{app: {app}}}}}
spec:
  serviceAccount: {app}
  node: {zone}
  ports: [{{name: http, port: 8080, appProtocol: http}}]
  command: [tacit, sample, --name, {app}, --instance, {app}-{zone}, --zone, {zone}]
"
    );
    text
}

/// Kills the standby's process; its node starts it again. Returns the moment.
pub(super) fn kill_standby(stage: &Stage) -> io::Result<f64> {
    let standby = children_with(node_process(stage, STANDBY_HOST)?, "standby")?;
    let absent = || io::Error::other("the standby does not run");
    let process = standby.first().copied().ok_or_else(absent)?;
    let line = format!("kill -9 {process}   # the standby");
    stage.voice.command(STANDBY_HOST, &line)?;
    let killed = unix_ms();
    kill_one(process)?;
    Ok(killed)
}

/// The access log of a host's node.
pub(super) fn access_log(stage: &Stage, host: &str) -> io::Result<PathBuf> {
    Ok(stage.hosts.get(host)?.dir.join("run/access.log"))
}

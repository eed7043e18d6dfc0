//! Tells the control plane which ports accept connections, live rates and certificates.

use std::rc::Rc;
use std::time::Duration;

use tacit_wire::proto::control::{HeldCertificate, Readiness, ReportRequest, Traffic};
use tacit_wire::proto::mesh::Namespaced;

use crate::control::{Client, Control};
use crate::control_link::{CALL, said};
use crate::node::readiness;
use crate::rows;

/// Between two reports when nothing urgent happens.
const INTERVAL: Duration = Duration::from_secs(1);

/// Reports once a second, and readiness at each change; returns why it cannot any more.
pub(crate) async fn run(control: &Rc<Control>, mut client: Client) -> String {
    let started_unix_ns = control.shared.now().unix_ns;
    loop {
        match tokio::time::timeout(CALL, client.report(request(control, started_unix_ns))).await {
            Ok(Ok(_)) => control.shared.heard(control.shared.now()),
            Ok(Err(status)) => return said(&status),
            Err(_) => return "a report was not answered in time".into(),
        }
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            () = control.readiness.notified() => {}
        }
    }
}

fn request(control: &Control, started_unix_ns: u64) -> ReportRequest {
    let readiness = readiness::all(control)
        .into_iter()
        .map(|(name, ports)| Readiness {
            workload: Some(rows::namespaced(&name)),
            ready: ports.into_iter().map(u32::from).collect(),
        });
    let traffic = control
        .shared
        .events
        .traffic()
        .into_iter()
        .map(|(pair, counts)| Traffic {
            source: Some(Namespaced {
                namespace: pair.namespace.to_string(),
                name: pair.service_account.to_string(),
            }),
            service: Some(Namespaced {
                namespace: pair.service.namespace.to_string(),
                name: pair.service.name.to_string(),
            }),
            requests: counts.requests,
            failures: counts.failures,
        });
    let certificates = control
        .identities
        .held()
        .into_iter()
        .map(|(id, not_after_unix)| HeldCertificate {
            identity: id.to_string(),
            not_after_unix,
        });
    ReportRequest {
        readiness: readiness.collect(),
        traffic: traffic.collect(),
        certificates: certificates.collect(),
        started_unix_ns,
    }
}

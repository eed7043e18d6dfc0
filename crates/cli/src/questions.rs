//! Questions to a running mesh: status, wait, why.

use std::process::ExitCode;

use tacit_api::values::DurationText;
use tacit_control::admin::types::{MeshStatus, ProblemKind, WhyRequest, WhyResponse};
use tacit_control::client::ClientError;
use tacit_proxy::status_client::NodeStatus;

use crate::args::{Format, StatusArgs, WaitArgs, WhyArgs};
use crate::failure::Failure;
use crate::objects::{object_ref, refused};
use crate::output;
use crate::session::{Place, block_on};

/// Shows the mesh.
pub(crate) fn status(place: &Place, args: &StatusArgs) -> Result<ExitCode, Failure> {
    let client = place.client()?;
    let status = match block_on(async { client.status().await.map_err(refused) }) {
        Err(Failure::Unreachable(why)) => return node_status(place, args, why),
        status => status?,
    };
    let table = || status_tables(&status);
    output::data(&output::formatted(args.output, &status, table)?);
    Ok(ExitCode::SUCCESS)
}

/// Without the control plane: what the node of this machine says of itself. The exit code stays
/// that of a mesh that does not answer.
fn node_status(place: &Place, args: &StatusArgs, why: String) -> Result<ExitCode, Failure> {
    let unreachable = || Failure::Unreachable(why.clone());
    if !place.is_local() {
        return Err(unreachable());
    }
    let socket = place.dirs().status_socket();
    let asked = async {
        let asked = tacit_proxy::status_client::ask(&socket).await;
        asked.map_err(|_| unreachable())
    };
    let status = block_on(asked)?;
    let table = || node_table(&status);
    output::data(&output::formatted(args.output, &status, table)?);
    let text = format!("{why}. Shown is what the node of this machine says");
    Err(Failure::Unreachable(text))
}

fn node_table(status: &NodeStatus) -> String {
    let (node, generation) = (&status.node, &status.generation);
    let denied = match status.seconds_until_denied {
        None => String::new(),
        Some(0) => ": everything is denied until the control plane is back".to_owned(),
        Some(left) => format!(": everything is denied in {left} s (maxOffline)"),
    };
    let configuration = &status.configuration;
    let mut text =
        format!("node {node}  generation {generation}  configuration {configuration}{denied}\n\n");
    let workloads = status.workloads.iter().map(|workload| {
        let ready: Vec<String> = workload.ready.iter().map(ToString::to_string).collect();
        let address = workload.address.to_string();
        vec![workload.name.clone(), address, ready.join(",")]
    });
    let headings = ["WORKLOAD", "ADDRESS", "READY PORTS"];
    text.push_str(&output::table(&headings, &workloads.collect::<Vec<_>>()));
    text
}

fn status_tables(status: &MeshStatus) -> String {
    let mut text = format!(
        "mesh {}  trust domain {}  generation {}\n",
        status.mesh, status.trust_domain, status.generation
    );
    if let Some(reason) = &status.read_only {
        text.push_str(&format!("read-only: {reason}\n"));
    }
    let nodes = status.nodes.iter().map(|node| {
        let acknowledged = node
            .acknowledged
            .map_or_else(|| "-".into(), |g| g.to_string());
        let state = if node.connected {
            "connected"
        } else {
            "not connected"
        };
        vec![
            node.name.to_string(),
            node.zone.clone(),
            node.subnet.clone(),
            state.to_owned(),
            acknowledged,
            node.refused.clone().unwrap_or_default(),
        ]
    });
    let headings = ["NODE", "ZONE", "SUBNET", "STATE", "GENERATION", "REFUSED"];
    text.push('\n');
    text.push_str(&output::table(&headings, &nodes.collect::<Vec<_>>()));
    for table in [services_table(status), workloads_table(status)] {
        text.push_str("\n\n");
        text.push_str(&table);
    }
    text.push_str(&findings_text(status));
    text
}

/// Each service with what its callers do now.
fn services_table(status: &MeshStatus) -> String {
    let services = status.services.iter().map(|service| {
        let rate = |sum: f64, next: f64| sum + next;
        let requests = service
            .callers
            .iter()
            .map(|c| c.requests_per_second)
            .fold(0.0, rate);
        let failures = service
            .callers
            .iter()
            .map(|c| c.failures_per_second)
            .fold(0.0, rate);
        vec![
            service.service.to_string(),
            service.address.clone(),
            format!("{}/{}", service.ready, service.endpoints),
            format!("{requests:.1}"),
            format!("{failures:.1}"),
        ]
    });
    let headings = ["SERVICE", "ADDRESS", "READY", "REQUESTS/S", "FAILURES/S"];
    output::table(&headings, &services.collect::<Vec<_>>())
}

/// Each workload.
fn workloads_table(status: &MeshStatus) -> String {
    let workloads = status.workloads.iter().map(|workload| {
        let ready: Vec<String> = workload.ready.iter().map(ToString::to_string).collect();
        vec![
            format!("{}/{}", workload.namespace, workload.name),
            workload.service_account.clone(),
            workload.node.to_string(),
            workload.zone.clone(),
            workload.address.clone(),
            ready.join(","),
        ]
    });
    let headings = [
        "WORKLOAD",
        "SERVICE ACCOUNT",
        "NODE",
        "ZONE",
        "ADDRESS",
        "READY PORTS",
    ];
    output::table(&headings, &workloads.collect::<Vec<_>>())
}

/// How many findings there are, and the worst of them in full.
fn findings_text(status: &MeshStatus) -> String {
    if status.findings.is_empty() {
        return String::new();
    }
    let counts: Vec<String> = status
        .findings
        .iter()
        .map(|(severity, count)| format!("{count} {severity}"))
        .collect();
    let mut text = format!("\n\nFINDINGS: {}", counts.join(", "));
    for finding in status.problems.iter().take(FINDINGS) {
        text.push_str(&format!("\n\n{finding}"));
    }
    let more = status.problems.len().saturating_sub(FINDINGS);
    if more > 0 {
        text.push_str(&format!("\n\nand {more} more: `tacit status -o json`"));
    }
    text
}

/// Findings of a table: what fits a screen.
const FINDINGS: usize = 10;

/// Waits until an object's condition holds.
pub(crate) fn wait(place: &Place, args: &WaitArgs) -> Result<ExitCode, Failure> {
    let object = object_ref(&args.object.kind, &args.object.name)?;
    let time = DurationText::try_from(args.timeout.as_str())
        .map_err(|bad| Failure::Usage(format!("--timeout: {}; {}", bad.message, bad.fix)))?
        .duration();
    let client = place.client()?;
    let answer = block_on(async {
        client
            .wait(args.condition.word(), &object, time)
            .await
            .map_err(refused)
    })?;
    let condition = args.condition.word();
    if args.output != Format::Table {
        output::data(&output::formatted(args.output, &answer, String::new)?);
    }
    if answer.met {
        if args.output == Format::Table {
            output::data(&format!("{object} is {condition}"));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let conditions: Vec<String> = answer
        .status
        .conditions
        .iter()
        .map(|condition| {
            let not = if condition.status { "" } else { "not " };
            let why = match condition.message.as_str() {
                "" => format!("{:?}", condition.reason),
                message => message.to_owned(),
            };
            format!("{not}{:?}: {why}", condition.kind)
        })
        .collect();
    Err(Failure::TimedOut(format!(
        "{object} is not {condition} after {}. {}",
        args.timeout,
        conditions.join("; ")
    )))
}

/// Says what would happen to a call, step by step, each with the line that decides.
pub(crate) fn why(place: &Place, args: &WhyArgs) -> Result<ExitCode, Failure> {
    let client = place.client()?;
    let request = WhyRequest {
        source: args.source.clone(),
        url: args.url.clone(),
        method: args.method.to_ascii_uppercase(),
        headers: args
            .header
            .iter()
            .map(|text| header(text))
            .collect::<Result<_, _>>()?,
        zone: args.zone.clone(),
    };
    let answer = block_on(async { client.why(&request).await.map_err(asked) })?;
    output::data(&output::formatted(args.output, &answer, || {
        why_text(&answer)
    })?);
    Ok(if answer.allowed {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(4)
    })
}

/// `NAME:VALUE`, as `curl -H` takes it.
fn header(text: &str) -> Result<(String, String), Failure> {
    let (name, value) = text.split_once(':').ok_or_else(|| {
        Failure::Usage(format!("{text:?} is no header: write --header NAME:VALUE"))
    })?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

/// A question that makes no sense is a matter of usage.
fn asked(error: ClientError) -> Failure {
    let senseless = matches!(&error, ClientError::Refused(problem)
        if problem.kind == ProblemKind::BadRequest);
    if senseless {
        Failure::Usage(error.to_string())
    } else {
        refused(error)
    }
}

fn why_text(answer: &WhyResponse) -> String {
    let mut text = answer.verdict.clone();
    for (index, step) in answer.trace.0.iter().enumerate() {
        let assumed = if step.assumed { " (assumed)" } else { "" };
        text.push_str(&format!("\n  {:<12} {}{assumed}", step.topic, step.outcome));
        if let Some(from) = &step.from {
            text.push_str(&format!("\n               by {from}"));
        }
        if let Some(line) = answer.lines.get(&index) {
            text.push_str(&format!("\n               at {}", line.position));
            if let Some(code) = &line.text {
                text.push_str(&format!("   {}", code.trim()));
            }
        }
    }
    let by = answer.answered_by.as_ref().map_or_else(
        || "control (what depends on a node's state is assumed)".to_owned(),
        |node| format!("node {node}"),
    );
    text.push_str(&format!(
        "\nanswered by {by}, generation {}",
        answer.generation
    ));
    text
}

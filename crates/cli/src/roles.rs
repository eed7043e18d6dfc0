//! Processes: control plane, node proxy, a workload, and the demo's programs.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use tacit_proxy::run_client::RunError;
use tacit_proxy::run_protocol::{Publish, RefusalKind, RunPort, RunRequest};

use crate::args::{ControlArgs, DemoArgs, NodeArgs, RunArgs};
use crate::failure::Failure;
use crate::output;
use crate::session::{Place, block_on};

/// Runs the control plane.
pub(crate) fn control(place: &Place, args: ControlArgs) -> Result<ExitCode, Failure> {
    let dirs = crate::dirs::Dirs::own(&place.mesh);
    dirs.make()?;
    if let Some(directory) = &args.file {
        crate::files::directory(directory)?;
    }
    let everywhere = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let settings = tacit_control::Settings {
        mesh: name(&place.mesh)?,
        runtime_dir: dirs.runtime,
        state_dir: dirs.state,
        config_dir: args.file,
        nodes_listen: SocketAddr::new(everywhere, args.ports.port(tacit_control::NODES_PORT)),
        admin_listen: SocketAddr::new(everywhere, args.ports.port(tacit_control::ADMIN_PORT)),
        addresses: args.address,
        administrator: args.administrator,
    };
    block_on(async {
        tacit_control::run(settings)
            .await
            .map_err(|e| Failure::Failed(e.to_string()))
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Runs the node proxy.
pub(crate) fn node(place: &Place, args: NodeArgs) -> Result<ExitCode, Failure> {
    let dirs = crate::dirs::Dirs::own(&place.mesh);
    dirs.make()?;
    let settings = tacit_proxy::Settings {
        mesh: name(&place.mesh)?,
        node: args
            .name
            .as_str()
            .try_into()
            .map_err(|e| Failure::Usage(format!("--name: {e}")))?,
        zone: args.at.zone.unwrap_or_default(),
        region: args.at.region.unwrap_or_default(),
        join_token: args.join,
        host_addresses: args.address.into_iter().collect(),
        administrator: args.administrator,
        workers: args
            .tuning
            .workers
            .unwrap_or_else(tacit_proxy::default_workers),
        access_log: match args.tuning.access_log.as_str() {
            "off" => tacit_proxy::AccessLog::Off,
            "stdout" => tacit_proxy::AccessLog::Stdout,
            file => tacit_proxy::AccessLog::File(dirs.runtime.join(PathBuf::from(file))),
        },
        state_dir: dirs.state.join("node"),
        run_socket: dirs.node_socket(),
        status_socket: dirs.status_socket(),
        metrics: SocketAddr::new(
            tacit_proxy::METRICS.ip(),
            args.ports.port(tacit_proxy::METRICS.port()),
        ),
        resolv_conf: PathBuf::from("/etc/resolv.conf"),
        environment: std::env::vars_os().collect(),
    };
    tacit_proxy::run(settings).map_err(|e| Failure::Failed(e.to_string()))?;
    Ok(ExitCode::SUCCESS)
}

fn name(mesh: &str) -> Result<tacit_model::Name, Failure> {
    mesh.try_into()
        .map_err(|e| Failure::Usage(format!("--mesh: {e}")))
}

/// Runs a program as a workload; exits as the program does.
pub(crate) fn run(place: &Place, args: RunArgs) -> Result<ExitCode, Failure> {
    let socket = place.dirs().node_socket();
    let request = run_request(args)?;
    let ended = block_on(async {
        let note = |text: &str| output::note(&format!("tacit: {text}"));
        tacit_proxy::run_client::run(&socket, &request, note)
            .await
            .map_err(not_run)
    })?;
    let code = u8::try_from(ended.exit_code()).unwrap_or(1);
    Ok(ExitCode::from(code))
}

fn not_run(error: RunError) -> Failure {
    let text = error.to_string();
    match error {
        RunError::Unreachable { .. } => Failure::Unreachable(text),
        RunError::Refused { kind, .. } => match kind {
            RefusalKind::Failed => Failure::Failed(text),
            RefusalKind::Invalid => Failure::Usage(text),
            // As `sh` and `env` have it.
            RefusalKind::NoProgram => Failure::NotStarted(127, text),
            RefusalKind::NotExecutable => Failure::NotStarted(126, text),
            RefusalKind::NotPermitted => Failure::Refused(text),
            RefusalKind::Unreachable => Failure::Unreachable(text),
        },
        RunError::Lost(_) | RunError::Here { .. } => Failure::Failed(text),
    }
}

fn run_request(args: RunArgs) -> Result<RunRequest, Failure> {
    let usage = |text: String| Failure::Usage(text);
    let (namespace, service_account) = args.run_as.split_once('/').ok_or_else(|| {
        usage(format!(
            "--as {}: use NAMESPACE/SERVICE-ACCOUNT",
            args.run_as
        ))
    })?;
    let mut labels = BTreeMap::from([("app".to_owned(), service_account.to_owned())]);
    for label in &args.label {
        let (key, value) = label
            .split_once('=')
            .ok_or_else(|| usage(format!("--label {label}: use KEY=VALUE")))?;
        labels.insert(key.to_owned(), value.to_owned());
    }
    let port = |text: &str, option: &str| {
        text.parse::<u16>()
            .ok()
            .filter(|port| *port != 0)
            .ok_or_else(|| usage(format!("{option}: {text:?} is not a port (1-65535)")))
    };
    let ports = args.port.iter().map(|text| {
        let (name, number) = text
            .split_once(':')
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| usage(format!("--port {text}: use NAME:PORT, like http:8080")))?;
        Ok(RunPort {
            name: name.to_owned(),
            port: port(number, "--port")?,
        })
    });
    let publish = args.publish.iter().map(|text| {
        let (outer, target) = text.split_once(':').unwrap_or((text, text));
        Ok(Publish {
            port: port(outer, "--publish")?,
            target: port(target, "--publish")?,
        })
    });
    Ok(RunRequest {
        namespace: namespace.to_owned(),
        service_account: service_account.to_owned(),
        name: args.name,
        labels,
        ports: ports.collect::<Result<_, Failure>>()?,
        zone: args.zone.unwrap_or_default(),
        region: String::new(),
        publish: publish.collect::<Result<_, Failure>>()?,
        command: args.command.into_iter().map(Into::into).collect(),
        environment: std::env::vars_os().collect(),
    })
}

/// Runs the demo.
pub(crate) fn demo(args: DemoArgs) -> Result<ExitCode, Failure> {
    tacit_demo::run(&args.demo).map_err(|e| Failure::Failed(format!("demo: {e}")))
}

/// Runs the load generator.
pub(crate) fn load(args: tacit_demo::load::LoadArgs) -> Result<ExitCode, Failure> {
    let told = |e: std::io::Error| Failure::Failed(format!("load: {e}"));
    tacit_demo::load::run(args)
        .map_err(told)
        .map(|()| ExitCode::SUCCESS)
}

/// Runs the sample application.
pub(crate) fn sample(args: tacit_demo::sample::SampleArgs) -> Result<ExitCode, Failure> {
    let told = |e: std::io::Error| Failure::Failed(format!("sample: {e}"));
    tacit_demo::sample::run(args)
        .map_err(told)
        .map(|()| ExitCode::SUCCESS)
}

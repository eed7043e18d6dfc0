//! Brings workloads of this node to life: identity, namespace, listeners, process; and ends them.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tacit_model::{SpiffeId, WorkloadName};
use tacit_sys::SysError;
use tacit_sys::spawn::{Bind, Capabilities, Directory, Group, Spawn, Started, StdioFrom, User};
use tacit_transport::hbone::HBONE_PORT;
use tacit_wire::proto::control::{
    RegisterWorkloadRequest, RegisterWorkloadResponse, UnregisterWorkloadRequest,
};
use tacit_wire::proto::mesh::Namespaced;

use crate::control::{Client, Control, Hosted};
use crate::control_link::{CALL, Fault, fault, said};
use crate::log;
use crate::node::capture::{DNS_PORT, INBOUND_PORT, OUTBOUND_PORT};
use crate::node::local::Local;
use crate::node::namespace::{Namespace, ROUTER};
use crate::rows;
use crate::run_protocol::Publish;
use crate::shared::seed;
use crate::worker::{Order, Role};

/// The file that workloads see as `/etc/resolv.conf`.
const RESOLV_CONF: &str = "resolv.conf";

/// How long to wait for a certificate that was there a moment ago.
const CERTIFICATE: Duration = Duration::from_secs(5);

/// Why a workload did not come to life.
#[derive(Debug)]
pub(crate) enum NotStarted {
    /// This machine or its system refused something.
    Machine(String),
    /// The control plane or a policy said no.
    Refused(String),
    /// The request makes no sense.
    Invalid(String),
    /// There is no such program.
    NoProgram(String),
    /// The program cannot be executed.
    NotExecutable(String),
    /// The control plane is needed and cannot be reached.
    Unreachable(String),
}

impl fmt::Display for NotStarted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Machine(text)
        | Self::Refused(text)
        | Self::Invalid(text)
        | Self::NoProgram(text)
        | Self::NotExecutable(text)
        | Self::Unreachable(text)) = self;
        f.write_str(text)
    }
}

fn machine(error: impl fmt::Display) -> NotStarted {
    NotStarted::Machine(error.to_string())
}

/// What the mesh calls a workload.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) name: WorkloadName,
    pub(crate) address: IpAddr,
    pub(crate) identity: SpiffeId,
}

/// What is to be started inside a workload.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) command: Vec<OsString>,
    pub(crate) environment: Vec<(OsString, OsString)>,
    pub(crate) directory: Directory,
    pub(crate) stdio: [StdioFrom; 3],
    /// `None`: the node's own user.
    pub(crate) user: Option<User>,
}

/// Tells control of a workload of `tacit run`.
pub(crate) async fn register(
    mut client: Client,
    request: RegisterWorkloadRequest,
) -> Result<Place, NotStarted> {
    let answer = tokio::time::timeout(CALL, client.register_workload(request)).await;
    let answer = match answer {
        Ok(Ok(answer)) => answer.into_inner(),
        Ok(Err(status)) => return Err(refusal(&status)),
        Err(_) => {
            let text = "the control plane does not answer; try again when it is back";
            return Err(NotStarted::Unreachable(text.into()));
        }
    };
    let RegisterWorkloadResponse {
        workload,
        address,
        identity,
    } = answer;
    let place = || -> Result<Place, String> {
        Ok(Place {
            name: rows::workload_name(workload)?,
            address: rows::address(&address)?,
            identity: SpiffeId::try_from(identity).map_err(|e| e.to_string())?,
        })
    };
    place().map_err(|why| NotStarted::Machine(format!("control's answer is unusable: {why}")))
}

fn refusal(status: &tonic::Status) -> NotStarted {
    let text = said(status);
    match fault(status) {
        Fault::Invalid => NotStarted::Invalid(text),
        Fault::NotPermitted => NotStarted::Refused(text),
        Fault::Control => {
            NotStarted::Unreachable(format!("the control plane cannot be reached: {text}"))
        }
    }
}

/// Tells control that a workload of `tacit run` ended. If control is not there, it learns from
/// the next Hello.
pub(crate) async fn unregister(control: &Control, name: &WorkloadName) {
    let Some(mut client) = control.client.borrow().clone() else {
        return;
    };
    let request = UnregisterWorkloadRequest {
        workload: Some(rows::namespaced(name)),
    };
    match tokio::time::timeout(CALL, client.unregister_workload(request)).await {
        Ok(Ok(_)) => {}
        Ok(Err(status)) => log::warn("workloads", format!("{name} ended: {}", said(&status))),
        Err(_) => log::warn(
            "workloads",
            format!("{name} ended; control does not answer"),
        ),
    }
}

/// The workloads of `tacit run` that live.
pub(crate) fn living(control: &Control) -> Vec<Namespaced> {
    let hosted = control.hosted.borrow();
    let registered = hosted
        .values()
        .filter(|hosted| hosted.registration.is_some());
    registered
        .map(|hosted| rows::namespaced(&hosted.local.name))
        .collect()
}

/// A control plane that lost what it knew learns of living workloads again.
pub(crate) async fn register_again(control: &Control, client: &Client) {
    let living: Vec<Hosted> = control.hosted.borrow().values().cloned().collect();
    for hosted in living {
        let Some(registration) = &hosted.registration else {
            continue;
        };
        let mut request = RegisterWorkloadRequest::clone(registration);
        request.name = Some(hosted.local.name.name.to_string());
        request.address = Some(rows::address_bytes(hosted.local.address()));
        if let Err(why) = register(client.clone(), request).await {
            log::warn(
                "workloads",
                format!("{} is not known any more: {why}", hosted.local.name),
            );
        }
    }
}

/// Makes namespace and listeners; from then on the workload is captured and served.
pub(crate) async fn bring_up(
    control: &Rc<Control>,
    place: &Place,
    publish: &[Publish],
    registration: Option<RegisterWorkloadRequest>,
) -> Result<Arc<Local>, NotStarted> {
    if control.hosted.borrow().contains_key(&place.name) {
        let text = format!("workload {} runs already on this node", place.name);
        return Err(NotStarted::Invalid(text));
    }
    let address = place.address;
    let token = u32::try_from(seed().map_err(machine)?.0 >> 32).map_err(machine)?;
    let made = tokio::task::spawn_blocking(move || Namespace::create(address, token)).await;
    let namespace = made.map_err(machine)?.map_err(machine)?;
    let local = Local::new(place.name.clone(), place.identity.clone(), namespace);
    let started = start_listeners(control, &local, publish).await;
    if let Err(error) = started {
        local.stop();
        return Err(error);
    }
    let hosted = Hosted {
        local: local.clone(),
        registration: registration.map(Rc::new),
    };
    control
        .hosted
        .borrow_mut()
        .insert(place.name.clone(), hosted);
    // Nothing held on to the identity until now: another workload of it may have ended meanwhile,
    // and the certificate with it.
    if let Err(why) = certificate(control, &place.identity, CERTIFICATE).await {
        take_down(control, &local).await;
        return Err(why);
    }
    Ok(local)
}

async fn start_listeners(
    control: &Control,
    local: &Arc<Local>,
    publish: &[Publish],
) -> Result<(), NotStarted> {
    let v6 = local.address().is_ipv6();
    let (loopback, any): (IpAddr, IpAddr) = if v6 {
        (Ipv6Addr::LOCALHOST.into(), Ipv6Addr::UNSPECIFIED.into())
    } else {
        (Ipv4Addr::LOCALHOST.into(), Ipv4Addr::UNSPECIFIED.into())
    };
    let inside = &local.namespace;
    let mut orders = Vec::new();
    for (role, at) in [
        (Role::Outbound, SocketAddr::new(loopback, OUTBOUND_PORT)),
        (Role::Plain, SocketAddr::new(any, INBOUND_PORT)),
        (Role::Hbone, SocketAddr::new(any, HBONE_PORT)),
    ] {
        let listener = inside.listen(at).map_err(machine)?;
        orders.push(Order::Listen {
            local: local.clone(),
            role,
            listener,
        });
    }
    for Publish { port, target } in publish.iter().copied() {
        let listener = publish_port(port)?;
        let role = Role::Published { target };
        orders.push(Order::Listen {
            local: local.clone(),
            role,
            listener,
        });
    }
    let dns = SocketAddr::new(loopback, DNS_PORT);
    let udp = inside.datagrams(dns).map_err(machine)?;
    let tcp = inside.listen(dns).map_err(machine)?;
    orders.push(Order::Dns {
        local: local.clone(),
        udp,
        tcp,
    });
    for order in orders {
        control.workers.to_next(order).await;
    }
    Ok(())
}

/// A port of this machine, on all its addresses.
fn publish_port(port: u16) -> Result<std::net::TcpListener, NotStarted> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, port));
    let told = |e: std::io::Error| {
        NotStarted::Machine(format!("cannot publish port {port} of this machine: {e}"))
    };
    let listener = listener.map_err(told)?;
    listener.set_nonblocking(true).map_err(told)?;
    Ok(listener)
}

/// Ends a workload: its listeners and connections go, and with the last of them its namespace.
pub(crate) async fn take_down(control: &Rc<Control>, local: &Arc<Local>) {
    local.stop();
    control.hosted.borrow_mut().remove(&local.name);
    control
        .workers
        .to_all(|| Order::Forget(local.clone()))
        .await;
    refresh_identities(control);
}

/// Starts the process of a workload.
pub(crate) async fn start_program(
    control: &Control,
    local: &Local,
    program: Program,
) -> Result<Started, NotStarted> {
    let mut command = program.command.into_iter();
    let Some(name) = command.next() else {
        return Err(NotStarted::Invalid("there is no command".into()));
    };
    let mut spawn = Spawn::new(name).args(command);
    spawn.env = program.environment;
    spawn.directory = program.directory;
    spawn.stdio = program.stdio;
    spawn.netns = Some(local.namespace.netns.clone());
    spawn.binds = resolv_conf(control);
    spawn.user = program.user;
    spawn.capabilities = Capabilities::DropAll;
    spawn.no_new_privileges = true;
    // Its sockets would be dead without us; whoever started it starts it again.
    spawn.die_with_parent = Some(tacit_sys::signals::Signal::SIGKILL);
    spawn.group = Group::Session;
    let started = tokio::task::spawn_blocking(move || spawn.start()).await;
    started
        .map_err(machine)?
        .map_err(|error| not_executed(&error))
}

fn not_executed(error: &SysError) -> NotStarted {
    let text = error.to_string();
    let kind = match error {
        SysError::Call { source, .. } => source.kind(),
        SysError::Invalid { .. } | SysError::Missing { .. } | SysError::Tool { .. } => {
            return NotStarted::Invalid(text);
        }
    };
    match kind {
        std::io::ErrorKind::NotFound => NotStarted::NoProgram(text),
        _ => NotStarted::NotExecutable(text),
    }
}

/// The bind mount that leads names to us; none on a machine without that file.
fn resolv_conf(control: &Control) -> Vec<Bind> {
    let target = PathBuf::from("/etc/resolv.conf");
    if !target.exists() {
        log::warn(
            "workloads",
            "this machine has no /etc/resolv.conf; names do not work",
        );
        return Vec::new();
    }
    vec![Bind {
        source: control.dir.path(RESOLV_CONF),
        target,
    }]
}

/// Writes the file that workloads see. Readable by all: it is mounted into their view.
pub(crate) fn write_resolv_conf(dir: &crate::state_dir::StateDir) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    dir.write(RESOLV_CONF, format!("nameserver {ROUTER}\n").as_bytes())?;
    let readable = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(dir.path(RESOLV_CONF), readable)
}

/// Wants certificates for what runs here and for what is declared to run here.
pub(crate) fn refresh_identities(control: &Control) {
    let snapshot = control.shared.current();
    let trust_domain = &snapshot.mesh.trust_domain;
    let declared = snapshot
        .workloads
        .values()
        .filter(|row| row.node == control.settings.node);
    let mut ids: BTreeSet<SpiffeId> = declared.map(|row| row.identity(trust_domain)).collect();
    let hosted = control.hosted.borrow();
    ids.extend(hosted.values().map(|hosted| hosted.local.identity.clone()));
    control.identities.want(&ids, &control.dir);
}

/// Waits until the certificate of a workload is there.
pub(crate) async fn certificate(
    control: &Control,
    identity: &SpiffeId,
    patience: Duration,
) -> Result<(), NotStarted> {
    if control.identities.has(identity, control.shared.now()) {
        return Ok(());
    }
    let Some(client) = control.client_within(patience).await else {
        let text = format!("there is no certificate for {identity}, and no control plane");
        return Err(NotStarted::Unreachable(text));
    };
    let obtained = control.identities.obtain(control, client, identity).await;
    obtained.map_err(|why| match why {
        crate::identities::NoCertificate::Refused(_) => NotStarted::Refused(why.to_string()),
        crate::identities::NoCertificate::Unusable(_) => NotStarted::Machine(why.to_string()),
        crate::identities::NoCertificate::Unreachable(_) => {
            NotStarted::Unreachable(why.to_string())
        }
    })
}

/// A descriptor for the process's stream.
pub(crate) fn stream(descriptor: OwnedFd) -> StdioFrom {
    StdioFrom::Descriptor(descriptor)
}

//! The whole life of a node proxy: joins, boots from disk, serves, stops.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tacit_model::{Now, Tables};
use tacit_transport::IdentityStore;
use tacit_wire::client::Subscription;
use tacit_wire::proto::control::node_api_client::NodeApiClient;
use tacit_wire::proto::control::{JoinRequest, JoinResponse};
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::LocalSet;

use crate::access_log::AccessLogWriter;
use crate::control::Control;
use crate::control_link::{self, CALL, Fault, fault, first_of, said};
use crate::decision_log::DecisionLog;
use crate::error::NodeError;
use crate::events::Events;
use crate::generation::{self, Kept};
use crate::identities::{self, Identities};
use crate::join::{JoinToken, Membership};
use crate::node::host::{Host, Subnet};
use crate::node::routes::{self, Routes};
use crate::node::{probes, readiness};
use crate::sealed::Seal;
use crate::settings::{MAX_WORKERS, Settings};
use crate::shared::{Shared, nothing_yet, seed};
use crate::state_dir::StateDir;
use crate::worker::{Order, Workers};
use crate::{declared, discovery, dns, log, run_server, status_server, workloads};

/// How long a join may wait for the control plane to come up: less than `tacit up` waits for us,
/// so that it is said why.
const JOIN: Duration = Duration::from_secs(15);
/// Between two attempts to join.
const JOIN_PAUSE: Duration = Duration::from_millis(200);
/// Descriptors that one connection costs at most: its two sides and a share of a session.
const DESCRIPTORS_PER_CONNECTION: u64 = 3;
/// Descriptors kept for everything that is not a connection.
const DESCRIPTORS_KEPT: u64 = 256;
/// How long programs may take to end when the node stops; a little more than one of them may.
const STOP: Duration = Duration::from_secs(11);

/// Runs a node proxy until SIGTERM or SIGINT. Blocks; builds its own threads.
pub fn run(settings: Settings) -> Result<(), NodeError> {
    if settings.workers == 0 || settings.workers > MAX_WORKERS {
        let workers = settings.workers;
        return Err(NodeError::Settings(format!(
            "{workers} workers; 1 to {MAX_WORKERS} are"
        )));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| NodeError::thread(&e))?;
    LocalSet::new().block_on(&runtime, live(settings))
}

async fn live(settings: Settings) -> Result<(), NodeError> {
    let told = |e: std::io::Error| NodeError::machine("watch signals", e, "");
    let mut terminate = signal(SignalKind::terminate()).map_err(told)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(told)?;
    let booted = tokio::select! {
        booted = boot(settings) => booted?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    let Booted {
        control,
        subscription,
        run_socket,
        status_socket,
        metrics,
    } = booted;
    let tasks = [
        tokio::task::spawn_local(discovery::keep(control.clone())),
        tokio::task::spawn_local(discovery::watch_age(control.clone())),
        tokio::task::spawn_local(identities::renew(control.clone())),
        tokio::task::spawn_local(readiness::watch(control.clone())),
        tokio::task::spawn_local(probes::watch(control.clone())),
        tokio::task::spawn_local(status_server::serve(
            control.clone(),
            metrics,
            status_socket,
        )),
        tokio::task::spawn_local(run_server::serve(control.clone(), run_socket)),
    ];
    let supervisor = tokio::task::spawn_local(declared::supervise(control.clone()));
    let link = control_link::run(control.clone(), subscription);
    let outcome = tokio::select! {
        error = link => Err(error),
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    };
    stop(&control, supervisor).await;
    for task in tasks {
        task.abort();
    }
    outcome
}

/// Programs first, while the mesh still serves them; then the connections.
async fn stop(control: &Rc<Control>, supervisor: tokio::task::JoinHandle<()>) {
    log::info("node", "stops");
    control.stopping.send_replace(true);
    let ended = async {
        // A panicked supervisor has nothing left to end.
        let _joined = supervisor.await;
        while !control.hosted.borrow().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    if tokio::time::timeout(STOP, ended).await.is_err() {
        log::warn("node", "some programs did not end; they die with the node");
    }
    control.workers.all_done(Order::Drain).await;
    if let Some(log) = &control.shared.decisions {
        log.end();
    }
    control.routes.borrow_mut().clear();
    control.host.borrow_mut().tear_down();
}

struct Booted {
    control: Rc<Control>,
    subscription: Subscription,
    run_socket: UnixListener,
    status_socket: UnixListener,
    metrics: std::net::TcpListener,
}

async fn boot(settings: Settings) -> Result<Booted, NodeError> {
    let metrics = status_server::bind(settings.metrics)?;
    let dir = StateDir::open(&settings.state_dir)?;
    workloads::write_resolv_conf(&dir).map_err(|e| NodeError::state(dir.path(""), e))?;
    let membership = membership(&settings, &dir).await?;
    let subnet = Subnet::try_from(membership.subnet.as_str()).map_err(NodeError::Join)?;
    let seal = Seal::new(&membership.own.key.to_pkcs8());
    let shared = shared(&settings, &membership)?;
    let identities = Identities::load(shared.identities.clone(), &dir, &membership)?;
    let seeds: Result<Vec<_>, _> = (0..settings.workers).map(|_| seed()).collect();
    let seeds = seeds.map_err(|e| NodeError::machine("get random numbers", e, ""))?;
    let workers = Workers::start(&shared, seeds)?;
    let subscription = from_disk(&shared, &dir, &seal, &membership);
    let in_force = shared.current().generation;
    let host_addresses = host_addresses(&settings, &membership);
    let mut host = Host::set_up(&settings.mesh, subnet)?;
    // Last of all, because who reaches a socket takes the node for started.
    let sockets = run_server::bind(&settings.run_socket)
        .and_then(|run| Ok((run, run_server::bind(&settings.status_socket)?)));
    let (run_socket, status_socket) = sockets.inspect_err(|_| host.tear_down())?;
    let control = Rc::new(Control {
        shared,
        dir,
        seal,
        workers,
        membership: RefCell::new(membership),
        identities,
        host_addresses,
        host: RefCell::new(host),
        routes: RefCell::new(Routes::default()),
        hosted: RefCell::new(BTreeMap::new()),
        ready: RefCell::new(BTreeMap::new()),
        may_set_groups: may_set_groups(),
        run_requests: Semaphore::new(run_server::MAX_REQUESTS),
        client: watch::Sender::new(None),
        generation: watch::Sender::new(Some(in_force)),
        to_keep: watch::Sender::new(None::<(_, Tables)>),
        readiness: Notify::new(),
        stopping: watch::Sender::new(false),
        settings,
    });
    workloads::refresh_identities(&control);
    Ok(Booted {
        control,
        subscription,
        run_socket,
        status_socket,
        metrics,
    })
}

fn shared(settings: &Settings, membership: &Membership) -> Result<Arc<Shared>, NodeError> {
    let files = tacit_sys::limits::raise_open_files()
        .map_err(|e| NodeError::machine("raise the limit of open files", e, "see `ulimit -Hn`"))?;
    let most = files.saturating_sub(DESCRIPTORS_KEPT) / DESCRIPTORS_PER_CONNECTION;
    let resolvers = dns::resolvers::read(&settings.resolv_conf)
        .map_err(|e| NodeError::state(&settings.resolv_conf, e))?;
    let events = Events::new(AccessLogWriter::start(&settings.access_log)?);
    let nothing = nothing_yet(&membership.id.trust_domain)?;
    let decisions = settings.decision_log.as_deref();
    let decisions = decisions.map(|path| DecisionLog::start(path, &settings.node));
    Ok(Shared::new(
        nothing,
        (events, decisions.transpose()?),
        resolvers,
        usize::try_from(most).unwrap_or(usize::MAX),
        IdentityStore::preferring(settings.cipher),
    ))
}

/// Puts the last generation in force again, if there is one that this node wrote.
fn from_disk(
    shared: &Shared,
    dir: &StateDir,
    seal: &Seal,
    membership: &Membership,
) -> Subscription {
    let node = membership.id.clone();
    match generation::load(dir, seal) {
        Ok(Some(Kept { snapshot, tables })) if snapshot.generation.epoch == membership.epoch => {
            let number = snapshot.generation;
            shared.put_in_force(Arc::new(snapshot));
            let unix_ns = discovery::last_contact(dir, seal);
            shared.heard(Now {
                unix_ns,
                monotonic_ns: shared.now().monotonic_ns,
            });
            shared.judge_freshness();
            log::info(
                "node",
                format!("generation {number} is in force, from disk"),
            );
            Subscription::restored(node, number, tables)
        }
        Ok(_) => Subscription::new(node),
        Err(why) => {
            let text = format!("the kept generation is not used: {why}");
            log::warn("node", text);
            Subscription::new(node)
        }
    }
}

/// What this node is, from disk or by joining.
async fn membership(settings: &Settings, dir: &StateDir) -> Result<Membership, NodeError> {
    let token = settings
        .join_token
        .as_deref()
        .map(JoinToken::parse)
        .transpose()?;
    if let Some(member) = Membership::load(dir)? {
        let known = token.as_ref().is_none_or(|token| token.is_of(&member));
        if known && member.id.name == settings.node {
            return Ok(member);
        }
        log::info(
            "node",
            "joins anew: the token is of another mesh, or the name has changed",
        );
        generation::forget(dir).map_err(|e| NodeError::state(dir.path(""), e))?;
    }
    let Some(token) = token else {
        let text = "this node has not joined yet: start it with a token (`tacit token`)";
        return Err(NodeError::Join(text.into()));
    };
    if token.node != settings.node {
        let (wanted, own) = (&token.node, &settings.node);
        return Err(NodeError::Join(format!(
            "the token is for node {wanted}, this is {own}"
        )));
    }
    let until = tokio::time::Instant::now() + JOIN;
    loop {
        match join(settings, &token).await {
            Ok(member) => {
                member.save(dir)?;
                log::info("node", format!("joined as {}", member.id));
                return Ok(member);
            }
            Err(JoinFailed::Final(error)) => return Err(error),
            Err(JoinFailed::NotYet(why)) if tokio::time::Instant::now() > until => {
                return Err(NodeError::Join(why));
            }
            Err(JoinFailed::NotYet(_)) => tokio::time::sleep(JOIN_PAUSE).await,
        }
    }
}

enum JoinFailed {
    Final(NodeError),
    NotYet(String),
}

impl From<NodeError> for JoinFailed {
    fn from(error: NodeError) -> Self {
        Self::Final(error)
    }
}

async fn join(settings: &Settings, token: &JoinToken) -> Result<Membership, JoinFailed> {
    let channel = first_of(&token.addresses, &token.connector()?).await;
    let channel = channel.map_err(JoinFailed::NotYet)?;
    let (id, key, csr) = token.request()?;
    let host_addresses = known_addresses(settings, &token.addresses);
    let request = JoinRequest {
        secret: token.secret.clone(),
        csr,
        node: settings.node.to_string(),
        locality: Some(tacit_wire::proto::mesh::Locality {
            cluster: String::new(),
            region: settings.region.clone(),
            zone: settings.zone.clone(),
        }),
        host_addresses: host_addresses
            .iter()
            .map(|ip| crate::rows::address_bytes(*ip))
            .collect(),
    };
    let mut client = NodeApiClient::new(channel);
    let answer = tokio::time::timeout(CALL, client.join(request)).await;
    let answer = answer.map_err(|_| JoinFailed::NotYet("no answer in time".into()))?;
    let answer = answer.map_err(|status| match fault(&status) {
        Fault::Control => JoinFailed::NotYet(said(&status)),
        Fault::Invalid | Fault::NotPermitted => JoinFailed::Final(NodeError::Join(said(&status))),
    })?;
    let JoinResponse {
        chain,
        roots,
        subnet,
        trust_domain: _,
        epoch,
    } = answer.into_inner();
    let own = tacit_transport::own::OwnIdentity { key, chain };
    let addresses = token.addresses.clone();
    Ok(Membership {
        id,
        own,
        roots,
        subnet,
        epoch,
        addresses,
    })
}

fn host_addresses(settings: &Settings, membership: &Membership) -> Vec<IpAddr> {
    known_addresses(settings, &membership.addresses)
}

/// The addresses that were given, else the one that this machine uses towards control.
fn known_addresses(settings: &Settings, control: &[std::net::SocketAddr]) -> Vec<IpAddr> {
    if !settings.host_addresses.is_empty() {
        return settings.host_addresses.clone();
    }
    let Some(control) = control.first() else {
        return Vec::new();
    };
    match routes::address_towards(control.ip()) {
        Ok(address) => address.into_iter().collect(),
        Err(error) => {
            log::warn("node", format!("which address is this machine's: {error}"));
            Vec::new()
        }
    }
}

/// A rootless user namespace may not set groups; programs then keep the caller's.
fn may_set_groups() -> bool {
    std::fs::read_to_string("/proc/self/setgroups").map_or(true, |text| text.trim() != "deny")
}

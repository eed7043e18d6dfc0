//! The process: opens the store, compiles, then serves until something ends that must not.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tacit_model::Dice;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::authority::Authority;
use crate::engine::{Command, DirectoryRead, Engine, Fixed};
use crate::error::ControlError;
use crate::settings::Settings;
use crate::shared::Shared;
use crate::store::{Store, redb::Redb};
use crate::{admin, clock, publish, random, sources, tell};

/// How often our own certificate and the time of expiries are looked at, at least.
const LOOK: Duration = Duration::from_secs(1);

/// Runs the control plane; returns only when it cannot go on. Connections that are open live as
/// long as the runtime: end that to end everything.
pub async fn run(settings: Settings) -> Result<(), ControlError> {
    let mut store: Box<dyn Store> = Box::new(Redb::open(&settings.store_file())?);
    let (authority, changes) = Authority::open(&store.read()?, clock::unix())?;
    if !changes.is_empty() {
        store.write(&changes)?;
    }
    // Ports first: what cannot be served should not be changed either.
    let nodes = listen(settings.nodes_listen).await?;
    let people = listen(settings.admin_listen).await?;
    let (watch, directory) = match &settings.config_dir {
        None => (
            None,
            DirectoryRead {
                complete: true,
                ..DirectoryRead::default()
            },
        ),
        Some(path) => {
            let (watch, read) = sources::watch(path)?;
            (Some(watch), read)
        }
    };
    let fixed = Fixed {
        mesh: settings.mesh.to_string(),
        administrator: settings.administrator,
        node_addresses: node_addresses(&settings, &nodes),
        root_sha256: authority.root_sha256(),
    };
    let seed = random::bytes::<8>().map_err(|problem| ControlError::Stopped {
        part: "the control plane",
        why: problem.message.to_string(),
    })?;
    let dice = Dice(u64::from_le_bytes(seed));
    let (engine, published) = Engine::start(fixed, store, directory, clock::unix(), dice)?;
    let (handle, asks) = Engine::queue();
    let shared = Arc::new(Shared::new(settings, handle.clone(), authority, published)?);
    let local = admin::bind(&shared.settings.control_socket())?;
    std::thread::Builder::new()
        .name("engine".into())
        .spawn(move || engine.work(asks))
        .map_err(|error| ControlError::Stopped {
            part: "the engine",
            why: error.to_string(),
        })?;

    let mut parts: JoinSet<ControlError> = JoinSet::new();
    parts.spawn(publish::serve(shared.clone(), nodes));
    parts.spawn(admin::serve_remote(shared.clone(), people));
    parts.spawn(admin::serve_local(shared.clone(), local));
    parts.spawn(tell::findings(shared.clone()));
    parts.spawn(keep_time(shared));
    if let Some(watch) = watch {
        parts.spawn(watch.run(handle));
    }
    match parts.join_next().await {
        Some(Ok(error)) => Err(error),
        Some(Err(error)) => Err(ControlError::Stopped {
            part: "a part of it",
            why: error.to_string(),
        }),
        None => Ok(()),
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, ControlError> {
    TcpListener::bind(address)
        .await
        .map_err(|error| ControlError::Listen { address, error })
}

/// What join tokens say: our addresses with the port that was bound.
fn node_addresses(settings: &Settings, listener: &TcpListener) -> Vec<String> {
    let port = listener
        .local_addr()
        .unwrap_or(settings.nodes_listen)
        .port();
    let loopback = [std::net::Ipv4Addr::LOCALHOST.into()];
    let addresses = if settings.addresses.is_empty() {
        &loopback[..]
    } else {
        &settings.addresses
    };
    addresses
        .iter()
        .map(|address| SocketAddr::new(*address, port).to_string())
        .collect()
}

/// Renews our own certificate when half of its life is over or the mesh's settings changed, and
/// wakes the engine when something expires.
async fn keep_time(shared: Arc<Shared>) -> ControlError {
    let mut renewed = clock::unix();
    let mut mesh = shared
        .published()
        .snapshot
        .as_ref()
        .map(|snapshot| snapshot.mesh.clone());
    let mut woken = None;
    loop {
        tokio::time::sleep(LOOK).await;
        if shared.engine.has_ended() {
            return ControlError::Stopped {
                part: "the engine",
                why: "see above".into(),
            };
        }
        let published = shared.published();
        let now = clock::unix();
        let current = published
            .snapshot
            .as_ref()
            .map(|snapshot| snapshot.mesh.clone());
        let lifetime = current.as_ref().map(|mesh| mesh.certificate_lifetime);
        let half = lifetime.unwrap_or_default() / 2;
        if current != mesh || now.saturating_sub(renewed) > half {
            match shared.renew_own() {
                Ok(()) => (renewed, mesh) = (now, current),
                Err(error) => shared.log(&format!("cannot renew my own certificate: {error}")),
            }
        }
        let due = published
            .wake_at
            .filter(|at| i64::try_from(now.as_secs()).is_ok_and(|n| n >= *at));
        if due.is_some() && due != woken {
            woken = due;
            shared.engine.tell(Command::Tick).await;
        }
    }
}

//! The node's connection to the control plane: opened again and again, with all that goes over it.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use hyper_util::rt::TokioIo;
use tacit_transport::own::{Connector, OwnStream};
use tacit_wire::client::Subscription;
use tacit_wire::proto::control::node_api_client::NodeApiClient;
use tacit_wire::proto::control::{HelloRequest, HelloResponse};
use tonic::transport::{Channel, Endpoint, Uri};

use crate::control::{Client, Control};
use crate::error::NodeError;
use crate::node::readiness;
use crate::{attend, discovery, log, peers, report, rows, workloads};

/// First pause before the next attempt; doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// Long enough not to hammer a control plane that restarts under many nodes.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// A session that lasted this long was well; the next pause is short again.
const STEADY: Duration = Duration::from_secs(10);
/// How long one short call may take.
pub(crate) const CALL: Duration = Duration::from_secs(10);
/// Between HTTP/2 pings, and how long an answer may take: silence is found within 6 s.
const PING: Duration = Duration::from_secs(3);

/// Why a session with the control plane ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// Something broke; try again.
    Broken(String),
    /// The control plane's store is another one: this node must join anew.
    OtherEpoch(u64),
}

impl From<String> for Ended {
    fn from(reason: String) -> Self {
        Self::Broken(reason)
    }
}

/// Keeps the node connected; ends only if it must join anew.
pub(crate) async fn run(control: Rc<Control>, mut subscription: Subscription) -> NodeError {
    let mut pause = PAUSE_MIN;
    let mut said = String::new();
    loop {
        let started = Instant::now();
        let ended = session(&control, &mut subscription).await;
        let was_connected = control.client.send_replace(None).is_some();
        let reason = match ended {
            Ended::Broken(reason) => reason,
            Ended::OtherEpoch(epoch) => return join_anew(&control, epoch),
        };
        // The same failure is said once, not with every attempt.
        if was_connected || said != reason {
            log::warn(
                "control",
                format!("no connection to the control plane: {reason}"),
            );
            said = reason;
        }
        if started.elapsed() > STEADY {
            pause = PAUSE_MIN;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

fn join_anew(control: &Control, epoch: u64) -> NodeError {
    let forgotten = crate::generation::forget(&control.dir)
        .map_err(|e| NodeError::state(control.dir.path(""), e))
        .and_then(|()| crate::join::Membership::forget(&control.dir));
    match forgotten {
        Ok(()) => NodeError::Join(format!(
            "the control plane's store was reset or restored (epoch {epoch}). \
             Start the node again with a new token (`tacit token`)"
        )),
        Err(error) => error,
    }
}

async fn session(control: &Rc<Control>, subscription: &mut Subscription) -> Ended {
    let channel = match connect(control).await {
        Ok(channel) => channel,
        Err(reason) => return Ended::Broken(reason),
    };
    let mut client = NodeApiClient::new(channel.clone());
    match hello(control, &mut client).await {
        Ok(()) => {}
        Err(ended) => return ended,
    }
    control.shared.heard(control.shared.now());
    control.client.send_replace(Some(client.clone()));
    workloads::register_again(control, &client).await;
    log::info("control", "connected to the control plane");
    tokio::select! {
        ended = discovery::run(control, subscription, channel) => ended,
        reason = attend::run(control, client.clone()) => Ended::Broken(reason),
        reason = peers::run(control, client.clone()) => Ended::Broken(reason),
        reason = report::run(control, client) => Ended::Broken(reason),
    }
}

/// A channel to the first address that answers.
async fn connect(control: &Control) -> Result<Channel, String> {
    let (connector, addresses) = {
        let membership = control.membership.borrow();
        let connector = membership.connector().map_err(|e| e.to_string())?;
        (connector, membership.addresses.clone())
    };
    first_of(&addresses, &connector).await
}

/// Dials the addresses one after the other.
pub(crate) async fn first_of(
    addresses: &[SocketAddr],
    connector: &Connector,
) -> Result<Channel, String> {
    let mut problems = Vec::new();
    for address in addresses {
        match channel(*address, connector.clone()).await {
            Ok(channel) => return Ok(channel),
            Err(reason) => problems.push(format!("{address}: {reason}")),
        }
    }
    Err(problems.join("; "))
}

async fn channel(to: SocketAddr, connector: Connector) -> Result<Channel, String> {
    let dial = tower::service_fn(move |_: Uri| {
        let connector = connector.clone();
        async move { connector.connect(to).await.map(TokioIo::<OwnStream>::new) }
    });
    // The name is not looked up; `dial` knows where to go.
    Endpoint::from_static("http://control.tacit")
        .http2_keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .keep_alive_while_idle(true)
        .connect_with_connector(dial)
        .await
        .map_err(|e| chain(&e))
}

/// An error with all its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let more = inner.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = inner.source();
    }
    text
}

/// Whose fault a refused call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// What was asked makes no sense, or contradicts what is there.
    Invalid,
    /// A policy or grant forbids it.
    NotPermitted,
    /// The control plane is not well; another time it may work.
    Control,
}

/// Reads a gRPC status.
pub(crate) fn fault(status: &tonic::Status) -> Fault {
    use tonic::Code;
    let invalid = [
        Code::AlreadyExists,
        Code::FailedPrecondition,
        Code::InvalidArgument,
        Code::NotFound,
        Code::ResourceExhausted,
    ];
    if invalid.contains(&status.code()) {
        Fault::Invalid
    } else if [Code::PermissionDenied, Code::Unauthenticated].contains(&status.code()) {
        Fault::NotPermitted
    } else {
        Fault::Control
    }
}

/// What a gRPC status says, for people.
pub(crate) fn said(status: &tonic::Status) -> String {
    if status.message().is_empty() {
        chain(status)
    } else {
        status.message().to_owned()
    }
}

async fn hello(control: &Control, client: &mut Client) -> Result<(), Ended> {
    let request = HelloRequest {
        locality: Some(locality(control)),
        host_addresses: control
            .host_addresses
            .iter()
            .map(|ip| rows::address_bytes(*ip))
            .collect(),
        living: workloads::living(control),
    };
    let answer = tokio::time::timeout(CALL, client.hello(request));
    let answer = answer
        .await
        .map_err(|_| "Hello was not answered in time".to_owned())?;
    let HelloResponse {
        roots,
        subnet,
        trust_domain,
        epoch,
    } = answer.map_err(|status| said(&status))?.into_inner();
    let changed = {
        let mut membership = control.membership.borrow_mut();
        if membership.epoch != epoch {
            return Err(Ended::OtherEpoch(epoch));
        }
        if membership.subnet != subnet || membership.id.trust_domain.as_str() != trust_domain {
            return Err(Ended::OtherEpoch(epoch));
        }
        let changed = membership.roots != roots;
        membership.roots = roots;
        changed
    };
    if changed {
        let membership = control.membership.borrow();
        membership.save(&control.dir).map_err(|e| e.to_string())?;
        control
            .identities
            .set_roots(&membership)
            .map_err(|e| e.to_string())?;
    }
    readiness::look(control);
    Ok(())
}

/// Where this machine is, as it was told.
pub(crate) fn locality(control: &Control) -> tacit_wire::proto::mesh::Locality {
    tacit_wire::proto::mesh::Locality {
        cluster: String::new(),
        region: control.settings.region.clone(),
        zone: control.settings.zone.clone(),
    }
}

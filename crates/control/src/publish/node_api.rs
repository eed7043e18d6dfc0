//! The calls of nodes: joining, certificates, workloads, reports, questions.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::num::TryFromIntError;
use std::sync::Arc;
use std::time::Duration;

use tacit_model::labels::Labels;
use tacit_model::tables::{Protocol, PublishedPort, WorkloadPort};
use tacit_model::{Locality, NodeId, ServiceName, SpiffeId, WorkloadName};
use tacit_wire::proto::control as p;
use tacit_wire::proto::control::node_api_server::NodeApi;
use tacit_wire::{Invalid, Wire};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Extensions, Request, Response, Status, Streaming};

use super::{Peer, calling_node};
use crate::admin::types::{CertificateStatus, Problem, ProblemKind};
use crate::attend;
use crate::authority::{self, AuthorityError};
use crate::clock;
use crate::engine::{Command, HelloAsk, JoinAsk, RegisterAsk, not_allowed};
use crate::roster::{Pair, Report};
use crate::shared::Shared;
use crate::store::records::RunPort;

/// Addresses of one machine.
const MAX_HOST_ADDRESSES: usize = 16;
/// Labels of one workload, as in `api`.
const MAX_LABELS: usize = 64;
/// Ports that one workload declares.
const MAX_PORTS: usize = 64;
/// Workloads of one node: its subnet has no more addresses.
const MAX_WORKLOADS: usize = 1024;

pub(super) struct Api {
    pub(super) shared: Arc<Shared>,
}

impl Api {
    /// The addresses at which the machine of a calling node is, as far as they are proven: the one
    /// that it calls from. What a node says itself is no proof, and what is sent to a published
    /// port follows this. A node on our own machine has our addresses, too.
    fn machine_of(&self, extensions: &Extensions) -> Vec<IpAddr> {
        let Some(address) = extensions.get::<Peer>().map(|peer| peer.address) else {
            return Vec::new();
        };
        let mut machine = vec![address];
        let ours = &self.shared.settings.addresses;
        if address.is_loopback() || ours.contains(&address) {
            machine.extend(ours.iter().filter(|ours| **ours != address));
        }
        machine
    }
}

#[tonic::async_trait]
impl NodeApi for Api {
    type AttendStream = ReceiverStream<Result<p::Question, Status>>;
    type PeersStream = ReceiverStream<Result<p::PeersResponse, Status>>;

    async fn join(
        &self,
        request: Request<p::JoinRequest>,
    ) -> Result<Response<p::JoinResponse>, Status> {
        let p::JoinRequest {
            secret,
            csr,
            node,
            locality,
            host_addresses,
        } = request.into_inner();
        let ask = JoinAsk {
            secret,
            node: node.as_str().try_into().map_err(invalid)?,
            locality: locality_of(locality)?,
            host_addresses: addresses_of(host_addresses)?,
        };
        let (trust_domain, lifetime) = self.shared.certificates()?;
        let id = NodeId {
            trust_domain,
            name: ask.node.clone(),
        };
        let chain = self
            .shared
            .authority
            .issue_node(&csr, &id, lifetime, clock::unix());
        // The request is checked before the token is used up.
        let chain = chain.map_err(refused)?;
        let joined = self
            .shared
            .engine
            .ask(|reply| Command::Join(ask, reply))
            .await;
        let joined = joined.map_err(status)?;
        Ok(Response::new(p::JoinResponse {
            chain,
            roots: self.shared.authority.roots(),
            subnet: joined.subnet,
            trust_domain: id.trust_domain.to_string(),
            epoch: joined.epoch,
        }))
    }

    async fn hello(
        &self,
        request: Request<p::HelloRequest>,
    ) -> Result<Response<p::HelloResponse>, Status> {
        let id = calling_node(request.extensions(), &self.shared)?;
        let p::HelloRequest {
            locality,
            host_addresses,
            living,
        } = request.into_inner();
        at_most(living.len(), MAX_WORKLOADS, "living workloads")?;
        let living = living.into_iter().map(WorkloadName::from_wire);
        let ask = HelloAsk {
            node: id.name,
            locality: locality_of(locality)?,
            host_addresses: addresses_of(host_addresses)?,
            living: living.collect::<Result<_, Invalid>>().map_err(invalid)?,
        };
        let joined = self
            .shared
            .engine
            .ask(|reply| Command::Hello(ask, reply))
            .await;
        let joined = joined.map_err(status)?;
        Ok(Response::new(p::HelloResponse {
            roots: self.shared.authority.roots(),
            subnet: joined.subnet,
            trust_domain: id.trust_domain.to_string(),
            epoch: joined.epoch,
        }))
    }

    async fn sign(
        &self,
        request: Request<p::SignRequest>,
    ) -> Result<Response<p::SignResponse>, Status> {
        let id = calling_node(request.extensions(), &self.shared)?;
        let p::SignRequest { csr, identity } = request.into_inner();
        let chain = self.shared.sign(&id, &csr, &identity).map_err(refused)?;
        Ok(Response::new(p::SignResponse {
            chain,
            roots: self.shared.authority.roots(),
        }))
    }

    async fn register_workload(
        &self,
        request: Request<p::RegisterWorkloadRequest>,
    ) -> Result<Response<p::RegisterWorkloadResponse>, Status> {
        let id = calling_node(request.extensions(), &self.shared)?;
        let machine = self.machine_of(request.extensions());
        let ask = register_ask(id, &machine, request.into_inner())?;
        let registered = self
            .shared
            .engine
            .ask(|reply| Command::Register(ask, reply))
            .await;
        let registered = registered.map_err(status)?;
        Ok(Response::new(p::RegisterWorkloadResponse {
            workload: Some(registered.name.to_wire()),
            address: registered.address.to_wire(),
            identity: registered.identity.to_string(),
        }))
    }

    async fn unregister_workload(
        &self,
        request: Request<p::UnregisterWorkloadRequest>,
    ) -> Result<Response<p::UnregisterWorkloadResponse>, Status> {
        let id = calling_node(request.extensions(), &self.shared)?;
        let name = workload_of(request.into_inner().workload)?;
        let command = |reply| Command::Unregister(id.name, name, reply);
        self.shared.engine.ask(command).await.map_err(status)?;
        Ok(Response::new(p::UnregisterWorkloadResponse {}))
    }

    async fn report(
        &self,
        request: Request<p::ReportRequest>,
    ) -> Result<Response<p::ReportResponse>, Status> {
        let id = calling_node(request.extensions(), &self.shared)?;
        let p::ReportRequest {
            readiness,
            traffic,
            certificates,
            started_unix_ns,
        } = request.into_inner();
        at_most(readiness.len(), MAX_WORKLOADS, "workloads")?;
        let mut ready = std::collections::BTreeMap::new();
        for p::Readiness {
            workload,
            ready: ports,
        } in readiness
        {
            let ports = ports
                .into_iter()
                .map(u16::try_from)
                .collect::<Result<_, _>>();
            ready.insert(workload_of(workload)?, ports.map_err(invalid)?);
        }
        let report = Report {
            started: started_unix_ns,
            certificates: certificates.into_iter().map(certificate_of).collect(),
            traffic: traffic
                .into_iter()
                .map(traffic_of)
                .collect::<Result<_, _>>()?,
        };
        self.shared.roster.reported(&id.name, report, clock::unix());
        if self.shared.ready_differs(&id.name, &ready) {
            self.shared
                .engine
                .tell(Command::Ready(id.name, ready))
                .await;
        }
        Ok(Response::new(p::ReportResponse {}))
    }

    async fn attend(
        &self,
        request: Request<Streaming<p::Answer>>,
    ) -> Result<Response<Self::AttendStream>, Status> {
        let id = calling_node(request.extensions(), &self.shared)?;
        let (sender, receiver) = mpsc::channel(attend::QUEUE);
        self.shared.attendance.arrive(id.name.clone(), sender);
        let shared = self.shared.clone();
        let mut answers = request.into_inner();
        tokio::spawn(async move {
            while let Ok(Some(answer)) = answers.message().await {
                shared.attendance.answered(&id.name, answer);
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn peers(
        &self,
        request: Request<p::PeersRequest>,
    ) -> Result<Response<Self::PeersStream>, Status> {
        let id = calling_node(request.extensions(), &self.shared)?;
        let (sender, receiver) = mpsc::channel(1);
        let shared = self.shared.clone();
        tokio::spawn(async move {
            let mut published = shared.watch();
            let mut told: Option<Vec<p::Peer>> = None;
            loop {
                let peers = peers_of(&published.borrow_and_update(), &id);
                if told.as_ref() != Some(&peers) {
                    told = Some(peers.clone());
                    if sender.send(Ok(p::PeersResponse { peers })).await.is_err() {
                        return;
                    }
                }
                tokio::select! {
                    changed = published.changed() => if changed.is_err() { return },
                    () = sender.closed() => return,
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

fn peers_of(published: &crate::engine::Published, own: &NodeId) -> Vec<p::Peer> {
    let others = published
        .nodes
        .iter()
        .filter(|(name, _)| **name != own.name);
    let peer = |(name, record): (&tacit_model::NodeName, &crate::store::records::NodeRecord)| {
        Some(p::Peer {
            node: name.to_string(),
            subnet: published.subnets.get(name)?.to_string(),
            host_addresses: record.host_addresses.iter().map(Wire::to_wire).collect(),
        })
    };
    others.filter_map(peer).collect()
}

/// `machine`: the addresses of the node's machine.
fn register_ask(
    id: NodeId,
    machine: &[IpAddr],
    request: p::RegisterWorkloadRequest,
) -> Result<RegisterAsk, Status> {
    let p::RegisterWorkloadRequest {
        namespace,
        service_account,
        labels,
        zone,
        region,
        ports,
        name,
        uid,
        gids,
        address,
        publish,
    } = request;
    at_most(labels.len(), MAX_LABELS, "labels")?;
    at_most(ports.len(), MAX_PORTS, "ports")?;
    at_most(publish.len(), MAX_PORTS, "published ports")?;
    let port = |proto| {
        let WorkloadPort {
            name,
            port,
            protocol,
        } = WorkloadPort::from_wire(proto)?;
        Ok(RunPort {
            name: name.to_string(),
            port,
            http: protocol == Protocol::Http,
        })
    };
    Ok(RegisterAsk {
        node: id.name,
        namespace: namespace.as_str().try_into().map_err(invalid)?,
        service_account: service_account.as_str().try_into().map_err(invalid)?,
        labels: Labels::from_wire(labels).map_err(invalid)?,
        region,
        zone,
        ports: ports
            .into_iter()
            .map(port)
            .collect::<Result<_, Invalid>>()
            .map_err(invalid)?,
        name: name
            .as_deref()
            .map(TryInto::try_into)
            .transpose()
            .map_err(invalid)?,
        address: address
            .map(IpAddr::from_wire)
            .transpose()
            .map_err(invalid)?,
        published: published(machine, publish).map_err(invalid)?,
        uid,
        gids: gids.into_iter().collect::<BTreeSet<_>>(),
    })
}

/// Each published port on each address of the machine.
fn published(
    machine: &[IpAddr],
    publish: Vec<p::Publish>,
) -> Result<Vec<PublishedPort>, TryFromIntError> {
    let mut ports = Vec::new();
    for p::Publish { port, target } in publish {
        let (port, target) = (u16::try_from(port)?, u16::try_from(target)?);
        ports.extend(machine.iter().map(|address| PublishedPort {
            at: SocketAddr::new(*address, port),
            target,
        }));
    }
    Ok(ports)
}

fn traffic_of(traffic: p::Traffic) -> Result<(Pair, u64, u64), Status> {
    let p::Traffic {
        source,
        service,
        requests,
        failures,
    } = traffic;
    let source = source.ok_or_else(|| Status::invalid_argument("traffic without a source"))?;
    let service = service.ok_or_else(|| Status::invalid_argument("traffic without a service"))?;
    let service = ServiceName::from_wire(service).map_err(invalid)?;
    let source = format!("{}/{}", source.namespace, source.name);
    Ok((Pair { source, service }, requests, failures))
}

fn certificate_of(held: p::HeldCertificate) -> CertificateStatus {
    let p::HeldCertificate {
        identity,
        not_after_unix,
    } = held;
    CertificateStatus {
        identity,
        not_after: not_after_unix,
    }
}

fn locality_of(locality: Option<tacit_wire::proto::mesh::Locality>) -> Result<Locality, Status> {
    Locality::from_wire(locality.unwrap_or_default()).map_err(invalid)
}

fn addresses_of(addresses: Vec<Vec<u8>>) -> Result<Vec<IpAddr>, Status> {
    at_most(addresses.len(), MAX_HOST_ADDRESSES, "host addresses")?;
    let addresses = addresses.into_iter().map(IpAddr::from_wire);
    addresses.collect::<Result<_, Invalid>>().map_err(invalid)
}

fn workload_of(name: Option<tacit_wire::proto::mesh::Namespaced>) -> Result<WorkloadName, Status> {
    let name = name.ok_or_else(|| Status::invalid_argument("no workload is named"))?;
    WorkloadName::from_wire(name).map_err(invalid)
}

fn at_most(count: usize, limit: usize, what: &str) -> Result<(), Status> {
    if count <= limit {
        return Ok(());
    }
    Err(Status::invalid_argument(format!(
        "{count} {what}, at most {limit}"
    )))
}

fn invalid(error: impl std::fmt::Display) -> Status {
    Status::invalid_argument(error.to_string())
}

fn refused(error: AuthorityError) -> Status {
    match error {
        AuthorityError::BadKeys(_) => Status::internal(error.to_string()),
        AuthorityError::BadRequest(_) => Status::invalid_argument(error.to_string()),
        AuthorityError::NotAllowed(_) | AuthorityError::NotHosted { .. } => {
            Status::permission_denied(error.to_string())
        }
    }
}

/// A problem as gRPC has it; the message is the same.
pub(super) fn status(problem: Problem) -> Status {
    let message = problem.message.to_string();
    match problem.kind {
        ProblemKind::BadRequest | ProblemKind::Invalid => Status::invalid_argument(message),
        ProblemKind::Conflict => Status::already_exists(message),
        ProblemKind::Forbidden => Status::permission_denied(message),
        ProblemKind::NotFound => Status::not_found(message),
        ProblemKind::Unavailable => Status::unavailable(message),
    }
}

impl Shared {
    /// Signs for a node: its own certificate, or one of a workload that is placed on it.
    fn sign(
        &self,
        node: &NodeId,
        csr: &[u8],
        identity: &str,
    ) -> Result<Vec<Vec<u8>>, AuthorityError> {
        let published = self.published();
        let not_hosted = || AuthorityError::NotHosted {
            node: node.name.clone(),
            identity: identity.chars().take(300).collect(),
        };
        let snapshot = published.snapshot.as_ref().ok_or_else(not_hosted)?;
        let (lifetime, now): (Duration, Duration) =
            (snapshot.mesh.certificate_lifetime, clock::unix());
        if identity == node.to_string() {
            return self.authority.issue_node(csr, node, lifetime, now);
        }
        let id = SpiffeId::try_from(identity).map_err(|_| not_hosted())?;
        let record = published.nodes.get(&node.name).ok_or_else(not_hosted)?;
        let (namespace, account) = (&id.namespace, &id.service_account);
        if !record.identities.allows(namespace, account) {
            let (name, allowed) = (&node.name, &record.identities);
            let why = not_allowed(name, &format!("{namespace}/{account}"), allowed);
            return Err(AuthorityError::NotAllowed(why));
        }
        if authority::hosted(snapshot, &node.name).contains(&id) {
            self.authority.issue_workload(csr, &id, lifetime, now)
        } else {
            Err(not_hosted())
        }
    }
}

//! Nodes that join, connect again and leave, and the workloads that they run.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use tacit_api::ObjectKey;
use tacit_compiler::grants::{Caller, Subject, Verdict, World};
use tacit_compiler::workspace::DEFAULT_CLUSTER;
use tacit_model::hosting::MayHost;
use tacit_model::{Generation, Locality, NodeName, SpiffeId, WorkloadName};

use super::command::{HelloAsk, JoinAsk, Joined, RegisterAsk, Registered, Reply, Then, problem};
use super::draft::Draft;
use super::objects::{Held, effective, run_object};
use super::state::{mesh_spec, new_run, run_key};
use super::{Engine, unavailable};
use crate::admin::types::{JoinToken, JoinTokenResponse, Problem, ProblemKind};
use crate::authority::CONTROL;
use crate::clock;
use crate::store::Table;
use crate::store::records::{NodeRecord, Ready, RunRecord, TokenRecord};
use crate::workloads::{Range, run_name};

/// A token is carried from one terminal to another.
const TOKEN_LIFETIME: Duration = Duration::from_secs(3600);
/// Tokens that were made and not used: bounds the store against a script that goes astray.
const MAX_TOKENS: usize = 1000;
/// Names that are tried before the namespace counts as full.
const NAME_TRIES: usize = 100;

impl Engine {
    /// Makes a token; only its hash is kept.
    pub(super) fn token(
        &self,
        node: NodeName,
        identities: MayHost,
        draft: &mut Draft,
    ) -> Result<JoinTokenResponse, Problem> {
        if identities.0.is_empty() {
            let message = "a node that may host nothing is of no use; name identities, or */*";
            return Err(problem(ProblemKind::BadRequest, message));
        }
        if node.as_str() == CONTROL {
            let message = format!("a node cannot be called {CONTROL:?}: that is the control plane");
            return Err(problem(ProblemKind::BadRequest, message));
        }
        let now = clock::unix_seconds();
        Self::drop_old_tokens(now, draft);
        if draft.state.tokens.len() >= MAX_TOKENS {
            let message = format!("{MAX_TOKENS} join tokens were made and not used; wait an hour");
            return Err(problem(ProblemKind::Unavailable, message));
        }
        let secret = secret()?;
        let expires = now + TOKEN_LIFETIME.as_secs();
        let record = TokenRecord {
            node: node.clone(),
            expires_unix: expires,
            identities: identities.clone(),
        };
        draft
            .put(Table::Tokens, hash(&secret), &record)
            .map_err(unavailable)?;
        draft.state.tokens.insert(hash(&secret), record);
        let carried = JoinToken {
            addresses: self.fixed.node_addresses.clone(),
            ca_sha256: self.fixed.root_sha256.clone(),
            secret,
            node,
            identities,
            trust_domain: self.trust_domain()?.to_string(),
        };
        let json = serde_json::to_vec(&carried).map_err(|error| {
            problem(
                ProblemKind::Unavailable,
                format!("cannot write the token: {error}"),
            )
        })?;
        Ok(JoinTokenResponse {
            token: format!("{TOKEN_PREFIX}{}", URL_SAFE_NO_PAD.encode(json)),
            expires,
        })
    }

    fn drop_old_tokens(now: u64, draft: &mut Draft) {
        let old = draft
            .state
            .tokens
            .iter()
            .filter(|(_, token)| token.expires_unix <= now);
        let old: Vec<String> = old.map(|(key, _)| key.clone()).collect();
        for key in old {
            draft.state.tokens.remove(&key);
            draft.delete(Table::Tokens, key);
        }
    }

    /// Takes a node in, once for each token.
    pub(super) fn join(&self, ask: JoinAsk, draft: &mut Draft) -> Result<Joined, Problem> {
        let refused = |why: &str| problem(ProblemKind::Forbidden, why);
        let key = hash(&ask.secret);
        let token = draft.state.tokens.get(&key).cloned().ok_or_else(|| {
            refused("the join token is not known: it was used already, or is of another mesh")
        })?;
        if token.expires_unix <= clock::unix_seconds() {
            return Err(refused(
                "the join token has expired; make another with `tacit token`",
            ));
        }
        if token.node != ask.node {
            let message = format!(
                "the join token is for node {}, not for {}",
                token.node, ask.node
            );
            return Err(refused(&message));
        }
        draft.state.tokens.remove(&key);
        draft.delete(Table::Tokens, key);
        let JoinAsk {
            node,
            locality,
            host_addresses,
            secret: _,
        } = ask;
        self.enrol(&node, locality, host_addresses, token.identities, draft)
    }

    /// Takes a node's return in: workloads of `tacit run` that it does not name are gone.
    pub(super) fn hello(&self, ask: HelloAsk, draft: &mut Draft) -> Result<Joined, Problem> {
        let Some(before) = draft.state.nodes.get(&ask.node) else {
            return Err(not_enrolled(&ask.node));
        };
        let identities = before.identities.clone();
        let runs = draft.state.runs.values().map(|run| &run.record);
        let gone: Vec<WorkloadName> = runs
            .filter(|run| run.node == ask.node && !ask.living.contains(&run.name))
            .map(|run| run.name.clone())
            .collect();
        for name in gone {
            forget_run(&name, draft);
        }
        let HelloAsk {
            node,
            locality,
            host_addresses,
            living: _,
        } = ask;
        self.enrol(&node, locality, host_addresses, identities, draft)
    }

    fn enrol(
        &self,
        node: &NodeName,
        locality: Locality,
        host_addresses: Vec<IpAddr>,
        identities: MayHost,
        draft: &mut Draft,
    ) -> Result<Joined, Problem> {
        let joined_unix = match draft.state.nodes.get(node) {
            Some(before) => before.joined_unix,
            None => clock::unix_seconds(),
        };
        let record = NodeRecord {
            locality,
            host_addresses,
            joined_unix,
            identities,
        };
        if draft.state.nodes.get(node) != Some(&record) {
            draft
                .put(Table::Nodes, node.as_str(), &record)
                .map_err(unavailable)?;
            draft.state.nodes.insert(node.clone(), record);
        }
        let subnet = self.subnet(node, draft)?;
        Ok(Joined {
            subnet: subnet.to_string(),
            epoch: self.generation.epoch,
        })
    }

    fn subnet(&self, node: &NodeName, draft: &mut Draft) -> Result<Range, Problem> {
        if let Some(subnet) = draft.state.subnets.get(node) {
            return Ok(*subnet);
        }
        let range = self
            .compiled
            .compiler
            .ranges()
            .and_then(|ranges| Range::of(ranges.workloads))
            .ok_or_else(|| {
                let message = "Mesh.workloadAddresses is no IPv4 range";
                problem(ProblemKind::Unavailable, message)
            })?;
        let taken: BTreeSet<Range> = draft.state.subnets.values().copied().collect();
        let start = first_subnet(&self.fixed.mesh);
        let subnet = range.free_subnet(&taken, start).ok_or_else(|| {
            let message = format!(
                "each subnet of {range} has a node; widen Mesh.workloadAddresses or remove nodes"
            );
            problem(ProblemKind::Unavailable, message)
        })?;
        draft
            .put(Table::Subnets, node.as_str(), &subnet.to_string())
            .map_err(unavailable)?;
        draft.state.subnets.insert(node.clone(), subnet);
        Ok(subnet)
    }

    /// Takes a workload of `tacit run` in, or one that lives and is told of again.
    pub(super) fn register(
        &mut self,
        ask: RegisterAsk,
        draft: &mut Draft,
    ) -> Result<Registered, Problem> {
        let Some(record) = draft.state.nodes.get(&ask.node) else {
            return Err(not_enrolled(&ask.node));
        };
        may_host(&ask, &record.identities)?;
        let (objects, _) = effective(&draft.state);
        self.may_run(&ask, &objects)?;
        let name = self.name_for(&ask, &objects)?;
        let identity = SpiffeId {
            trust_domain: self.trust_domain()?,
            namespace: ask.namespace.clone(),
            service_account: ask.service_account.clone(),
        };
        let known = draft
            .state
            .runs
            .get(&name)
            .filter(|run| run.record.node == ask.node)
            .cloned();
        let address = match &known {
            Some(run) => run.record.address,
            None => self.address_for(&ask, draft)?,
        };
        let record = RunRecord {
            name: name.clone(),
            service_account: ask.service_account,
            labels: ask.labels,
            node: ask.node,
            region: ask.region,
            zone: ask.zone,
            ports: ask.ports,
            address,
            published: ask.published,
            uid: ask.uid,
        };
        let cluster = mesh_spec(&objects).and_then(|mesh| mesh.cluster.as_deref());
        let cluster = cluster.unwrap_or(DEFAULT_CLUSTER);
        if let [first, ..] = tacit_compiler::problems(&run_object(&record), cluster).as_slice() {
            let message = format!("{}; {}", first.message, first.fix);
            return Err(problem(ProblemKind::BadRequest, message));
        }
        if known.is_none_or(|run| run.record != record) {
            draft
                .put(Table::Workloads, run_key(&name), &record)
                .map_err(unavailable)?;
            draft.state.runs.insert(name.clone(), new_run(record));
        }
        Ok(Registered {
            name,
            address,
            identity,
        })
    }

    fn may_run(
        &self,
        ask: &RegisterAsk,
        objects: &BTreeMap<ObjectKey, Held>,
    ) -> Result<(), Problem> {
        let caller = Caller::Local {
            uid: ask.uid,
            gids: ask.gids.clone(),
        };
        let who = Subject::identify(&caller, self.fixed.administrator, mesh_spec(objects));
        let world = World::new(objects.values().filter_map(Held::object));
        let (namespace, account) = (ask.namespace.as_str(), ask.service_account.as_str());
        let now = i64::try_from(clock::unix_seconds()).unwrap_or(i64::MAX);
        match world.may_run(&who, namespace, account, now) {
            Verdict::Allowed => Ok(()),
            Verdict::Refused(finding) => Err(Problem {
                kind: ProblemKind::Forbidden,
                message: format!("{}; {}", finding.message, finding.fix).into(),
                findings: vec![*finding],
            }),
        }
    }

    fn name_for(
        &mut self,
        ask: &RegisterAsk,
        objects: &BTreeMap<ObjectKey, Held>,
    ) -> Result<WorkloadName, Problem> {
        let taken = |name: &WorkloadName| {
            let key = ObjectKey {
                kind: tacit_api::Kind::Workload,
                namespace: Some(name.namespace.to_string()),
                name: name.name.to_string(),
            };
            objects.get(&key)
        };
        if let Some(name) = &ask.name {
            let name = WorkloadName::new(ask.namespace.clone(), name.clone());
            return match taken(&name) {
                None => Ok(name),
                Some(Held::Run(run)) if run.record.node == ask.node => Ok(name),
                Some(_) => {
                    let message =
                        format!("there is a workload {name} already; choose another name");
                    Err(problem(ProblemKind::Conflict, message))
                }
            };
        }
        for _ in 0..NAME_TRIES {
            let dice = self.roll();
            let name = run_name(&ask.namespace, &ask.service_account, dice)
                .map_err(|error| problem(ProblemKind::BadRequest, error.to_string()))?;
            if taken(&name).is_none() {
                return Ok(name);
            }
        }
        let message = format!("no free name was found in namespace {}", ask.namespace);
        Err(problem(ProblemKind::Unavailable, message))
    }

    fn address_for(&mut self, ask: &RegisterAsk, draft: &mut Draft) -> Result<IpAddr, Problem> {
        let subnet = self.subnet(&ask.node, draft)?;
        let runs = draft.state.runs.values().map(|run| run.record.address);
        let compiled = self.published.borrow().snapshot.clone();
        let rows = compiled
            .iter()
            .flat_map(|snapshot| snapshot.workloads.values());
        let given = draft.state.addresses.workloads.values().copied();
        let taken: BTreeSet<IpAddr> = runs
            .chain(rows.map(|row| row.address))
            .chain(given)
            .collect();
        if let Some(address) = ask.address
            && subnet.holds(address)
            && !draft
                .state
                .runs
                .values()
                .any(|run| run.record.address == address)
        {
            return Ok(address);
        }
        let last = self.last_address.get(&ask.node).copied();
        let address = subnet.free_address(&taken, last).ok_or_else(|| {
            let message = format!("node {} has no free address left in {subnet}", ask.node);
            problem(ProblemKind::Unavailable, message)
        })?;
        self.last_address.insert(ask.node.clone(), address);
        Ok(address)
    }

    /// A workload ended; one that is not known is gone already.
    pub(super) fn unregister(node: &NodeName, name: &WorkloadName, draft: &mut Draft) {
        let own = draft
            .state
            .runs
            .get(name)
            .is_some_and(|run| run.record.node == *node);
        if own {
            forget_run(name, draft);
        }
    }

    /// What a node says of its workloads: those that it does not name are not ready.
    pub(super) fn ready(
        &self,
        node: &NodeName,
        report: &Ready,
        draft: &mut Draft,
    ) -> Result<(), Problem> {
        let Some(snapshot) = self.published.borrow().snapshot.clone() else {
            return Ok(());
        };
        let rows = snapshot.workloads.values().filter(|row| row.node == *node);
        let mut own: BTreeSet<WorkloadName> = rows.map(|row| row.name.clone()).collect();
        let runs = draft
            .state
            .runs
            .values()
            .filter(|run| run.record.node == *node);
        own.extend(runs.map(|run| run.record.name.clone()));
        for name in own {
            let ports = report.get(&name).cloned().unwrap_or_default();
            if draft
                .state
                .ready
                .get(&name)
                .is_none_or(|before| *before != ports)
            {
                draft.ready(name, ports).map_err(unavailable)?;
            }
        }
        Ok(())
    }

    /// A node leaves for good, with its workloads of `tacit run`.
    pub(super) fn remove_node(node: &NodeName, draft: &mut Draft) -> Result<(), Problem> {
        if draft.state.nodes.remove(node).is_none() {
            return Err(problem(
                ProblemKind::NotFound,
                format!("there is no node {node}"),
            ));
        }
        draft.delete(Table::Nodes, node.as_str());
        if draft.state.subnets.remove(node).is_some() {
            draft.delete(Table::Subnets, node.as_str());
        }
        let runs = draft
            .state
            .runs
            .values()
            .filter(|run| run.record.node == *node);
        let names: Vec<WorkloadName> = runs.map(|run| run.record.name.clone()).collect();
        for name in names {
            forget_run(&name, draft);
        }
        Ok(())
    }

    fn trust_domain(&self) -> Result<tacit_model::TrustDomain, Problem> {
        let published = self.published.borrow();
        let snapshot = published.snapshot.as_ref();
        snapshot
            .map(|snapshot| snapshot.mesh.trust_domain.clone())
            .ok_or_else(|| problem(ProblemKind::Unavailable, "there is no generation yet"))
    }
}

/// Where a mesh begins to give subnets away: meshes of one machine share its routes, so each
/// name begins elsewhere.
fn first_subnet(mesh: &str) -> u64 {
    if mesh == DEFAULT_MESH {
        return 0;
    }
    let digest = Sha256::digest(mesh);
    digest
        .iter()
        .take(4)
        .fold(0, |number, byte| number * 256 + u64::from(*byte))
}

/// The name of a mesh whose name nobody chose.
const DEFAULT_MESH: &str = "default";

/// 128 random bits as hexadecimal digits.
fn secret() -> Result<String, Problem> {
    let bytes = crate::random::bytes::<16>()?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The word that a join token begins with; another one will be another version.
const TOKEN_PREFIX: &str = "tacit1.";

fn forget_run(name: &WorkloadName, draft: &mut Draft) {
    draft.state.runs.remove(name);
    draft.delete(Table::Workloads, run_key(name));
    draft.forget_ready(name);
}

fn hash(secret: &str) -> String {
    Sha256::digest(secret)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Whatever user id a node reports, it speaks only for identities that its token allowed.
fn may_host(ask: &RegisterAsk, identities: &MayHost) -> Result<(), Problem> {
    let RegisterAsk {
        node,
        namespace,
        service_account,
        ..
    } = ask;
    if identities.allows(namespace, service_account) {
        return Ok(());
    }
    let identity = format!("{namespace}/{service_account}");
    let message = not_allowed(node, &identity, identities);
    Err(problem(ProblemKind::Forbidden, message))
}

/// Says which identity, which node, and what to do.
pub(crate) fn not_allowed(node: &NodeName, identity: &str, identities: &MayHost) -> String {
    format!(
        "node {node} may not host {identity}: its join token allows {identities}; run it on \
         another node, or make a token that allows it (`tacit token --node {node} --may-host \
         ...`) and join the node anew with an empty state directory"
    )
}

fn not_enrolled(node: &NodeName) -> Problem {
    let message = format!("node {node} is not enrolled; join it with a token (`tacit token`)");
    problem(ProblemKind::Forbidden, message)
}

/// Answers when the batch is published; a refusal at once.
pub(super) fn later<T: Send + 'static>(
    outcome: Result<T, Problem>,
    reply: Reply<T>,
) -> Option<Then> {
    match outcome {
        Ok(value) => Some(Box::new(move |published: Result<Generation, Problem>| {
            // Who asked may have gone away.
            let _ = reply.send(published.map(|_| value));
        })),
        Err(refusal) => {
            // As above.
            let _ = reply.send(Err(refusal));
            None
        }
    }
}

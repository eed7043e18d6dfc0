//! The engine's own answers, from the documents to decisions, in the words of the naive evaluator.

use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::Value;
use tacit_api::{Located, Object, ObjectKey, SyntaxError};
use tacit_compiler::{Compiler, InputDelta, NodeFact, Owner, Upsert};
use tacit_decide::fault;
use tacit_decide::path::canonical;
use tacit_decide::rate::applying;
use tacit_decide::resilience::effective;
use tacit_decide::retry::{Sent, TryOutcome};
use tacit_decide::route::{every, follows_routes};
use tacit_decide::why::{self, Source, caller};
use tacit_decide::{
    Ask, ConnectionVerdict, DenialKind, Destination, Odds as EngineOdds, Peer, RequestHead,
    RouteHead, Routed as EngineRouted, ServiceTarget, State, Tried, authorize_connection,
    authorize_request, destination, odds, protocol_of,
};
use tacit_model::access::Cidr;
use tacit_model::hosting::MayHost;
use tacit_model::route::{Action, Candidate};
use tacit_model::status::{ConditionKind, ObjectStatus, Reason};
use tacit_model::tables::{Protocol, WorkloadRow};
use tacit_model::trace::Trace;
use tacit_model::{Generation, Locality, Now, ServiceName, Snapshot, SpiffeId, WorkloadName};
use tacit_reference::{
    Access, Answer, Armed, Clause, Document, Odds, Proof, Request, Routed, Sign, Way, World,
    Written,
};

use crate::values::{clause, failover_values, fault_values, header_changes, rate, retry_values};
use crate::worlds::cluster;

/// A world as the engine has it.
pub(crate) struct Engine {
    pub(crate) snapshot: Snapshot,
    statuses: Vec<ObjectStatus>,
    states: Vec<State>,
}

/// All that is learnt is learnt now.
const NOW: Now = Now {
    // 2027-01-15.
    unix_ns: 1_800_000_000_000_000_000,
    monotonic_ns: 1_000_000_000_000,
};

impl Engine {
    pub(crate) fn new(world: &World) -> Self {
        let cluster = cluster(&world.documents[0]);
        let mut compiler = Compiler::default();
        // What has ended is left out by the compiler in one half of worlds, by `decide` in the other.
        let now = i64::try_from(NOW.unix_ns / 1_000_000_000).ok();
        let now = now.filter(|_| world.documents.len().is_multiple_of(2));
        compiler.apply(InputDelta {
            upserts: world
                .documents
                .iter()
                .map(|document| upsert(document, &cluster))
                .collect(),
            nodes: nodes(world),
            ready: world
                .ready
                .iter()
                .filter_map(|(name, ports)| Some((workload_name(name)?, ports.clone())))
                .collect(),
            now,
            ..InputDelta::default()
        });
        let snapshot = Snapshot::build(
            Generation {
                epoch: 1,
                number: 1,
            },
            compiler.tables(),
        )
        .unwrap();
        let states = world
            .illnesses
            .iter()
            .map(|illness| {
                let state = State::new();
                for ill in illness {
                    learn(&snapshot, &state, ill);
                }
                state
            })
            .collect();
        Self {
            snapshot,
            statuses: compiler.statuses().collect(),
            states,
        }
    }

    /// The condition `Armed` of a FailoverPolicy, `namespace/name`.
    pub(crate) fn armed(&self, key: &str) -> Option<Armed> {
        let name = format!("FailoverPolicy/{key}");
        let mut statuses = self.statuses.iter();
        let status = statuses.find(|status| status.object.to_string() == name)?;
        let mut conditions = status.conditions.iter();
        let armed = conditions.find(|found| found.kind == ConditionKind::Armed)?;
        match armed.reason {
            Reason::Armed => Some(Armed::Yes),
            Reason::NoAlternative => Some(Armed::NoAlternative),
            Reason::NoHealthSignal => Some(Armed::NoHealthSignal),
            _ => None,
        }
    }

    /// True if a port of a workload, `namespace/name:port`, is declared HTTP.
    pub(crate) fn is_http(&self, endpoint: &str) -> bool {
        let (name, port) = endpoint.rsplit_once(':').unwrap();
        let row = workload_name(name).and_then(|name| self.snapshot.workloads.get(&name));
        let port = port.parse().unwrap();
        row.is_some_and(|row| protocol_of(&self.snapshot, row, port) == Protocol::Http)
    }

    pub(crate) fn answer(&self, request: &Request) -> Answer {
        let mut answer = Answer::default();
        let Some((source, peer, parent)) = self.called(request) else {
            return answer;
        };
        let way = self.routed(request, &source, &parent, &mut answer);
        let Some((target, by, seen)) = way else {
            return answer;
        };
        let rule = by.as_ref().and_then(Candidate::rule);
        let resilience = effective(&self.snapshot, &parent.service, rule, &source);
        retry_values(&mut answer.values, &resilience);
        let faults = fault::holding(&self.snapshot, &parent.service, &source, NOW);
        fault_values(&mut answer.values, &faults);
        if let Some(failover) = &target.service.failover {
            failover_values(&mut answer.values, failover);
        }
        let first = self.endpoints(request, &source, &target, &mut answer);
        for odds in first {
            let (name, access) = self.access(&odds, &peer, request, &seen);
            let rates = self.rates(&odds);
            answer.rates.insert(name.clone(), rates);
            answer.access.insert(name, access);
        }
        answer
    }

    /// Who calls what, as the engine has them.
    fn called(&self, request: &Request) -> Option<(Arc<WorkloadRow>, Peer, ServiceTarget)> {
        let s = &self.snapshot;
        let from = &request.caller;
        let mut id = SpiffeId {
            trust_domain: s.mesh.trust_domain.clone(),
            namespace: from.namespace.as_str().try_into().unwrap(),
            service_account: from.account.as_str().try_into().unwrap(),
        };
        let locality = Locality {
            cluster: s.mesh.cluster.clone(),
            region: from.region.as_str().into(),
            zone: from.zone.as_str().into(),
        };
        let (mut row, _) = caller(s, &Source::Identity(id.clone(), locality)).unwrap();
        Arc::make_mut(&mut row).address = from.address;
        let identity = match &from.proof {
            Proof::None => None,
            Proof::Local => Some(id),
            Proof::Foreign(domain) => {
                id.trust_domain = domain.as_str().try_into().unwrap();
                Some(id)
            }
        };
        let peer = Peer {
            identity,
            address: SocketAddr::new(from.address, 0),
        };
        let service = s.services.get(&service_name(&request.service)?)?;
        match destination(s, SocketAddr::new(service.address, request.port)) {
            Destination::Service(parent) => Some((row, peer, parent)),
            _ => None,
        }
    }

    /// Asks for the way, and says where to go on.
    fn routed(
        &self,
        request: &Request,
        source: &WorkloadRow,
        parent: &ServiceTarget,
        answer: &mut Answer,
    ) -> Option<(ServiceTarget, Option<Candidate>, Received)> {
        let s = &self.snapshot;
        let direct = || {
            let seen = Received {
                path: request.path.clone(),
                host: request.host.clone(),
            };
            Some((parent.clone(), None, seen))
        };
        assert_eq!(
            canonical(&request.path).ok(),
            request.canonical,
            "{}",
            request.path
        );
        if !follows_routes(s, parent) {
            return direct();
        }
        let header = |name: &str| request.headers.get(name).cloned();
        let (path, head) = match (parent.port.protocol, &request.canonical) {
            // Its bytes are as they were sent.
            (Protocol::Tcp, _) => (&request.path, RouteHead::connection()),
            (Protocol::Http, None) => {
                answer.routed = Routed::BadPath;
                return None;
            }
            (Protocol::Http, Some(path)) => {
                let head = RouteHead {
                    method: &request.method,
                    path,
                    query: &request.query,
                    host: &request.host,
                    header: &header,
                };
                (path, head)
            }
        };
        let all = every(s, source, parent, &head);
        let all: Vec<EngineRouted> = all.into_iter().map(|(_, routed)| routed).collect();
        if matches!(&all[0], EngineRouted::Direct) {
            return direct();
        }
        if let Some(routed) = ended(&all[0]) {
            answer.routed = routed;
            return None;
        }
        answer.routed = forward(&all, request, path);
        match &all[request.pick % all.len()] {
            EngineRouted::Forward { to, by, path: new } => {
                let host = by.rule().and_then(|rule| rule.changes.host.clone());
                let seen = Received {
                    path: new.clone().unwrap_or_else(|| path.clone()),
                    host: host.map_or_else(|| request.host.clone(), |host| host.to_string()),
                };
                Some((to.clone(), Some(by.clone()), seen))
            }
            _ => None,
        }
    }

    /// The endpoints of three tries; gives those of the first.
    fn endpoints(
        &self,
        request: &Request,
        source: &WorkloadRow,
        target: &ServiceTarget,
        answer: &mut Answer,
    ) -> Vec<EngineOdds> {
        let ask = |tried: &[Tried]| {
            let ask = Ask {
                source,
                service: &target.service,
                port: &target.port,
                tried,
                control_stale: false,
            };
            let state = &self.states[request.illness];
            let mut found = odds(&self.snapshot, state, &ask, NOW).unwrap_or_default();
            found.sort_by_key(|one| (one.step, shown(one)));
            found
        };
        let first = ask(&[]);
        answer.first = first
            .iter()
            .map(|one| Odds {
                endpoint: shown(one),
                step: one.step,
                per_million: one.per_million,
            })
            .collect();
        let mut tried = Vec::new();
        let mut next = first.clone();
        for further in &mut answer.further {
            let Some(one) = next.get(request.pick % next.len().max(1)) else {
                break;
            };
            tried.push(Tried {
                endpoint: one.endpoint,
                step: one.step,
            });
            next = ask(&tried);
            // All dice lead to one step, which the odds may list more than once.
            next.dedup_by_key(|one| one.endpoint);
            *further = next.iter().map(shown).collect();
        }
        first
    }

    fn access(
        &self,
        odds: &EngineOdds,
        peer: &Peer,
        request: &Request,
        seen: &Received,
    ) -> (String, Access) {
        let head = RequestHead {
            method: &request.method,
            path: &seen.path,
            host: &seen.host,
        };
        let mut trace = Trace::default();
        let port = odds.endpoint.port();
        let result = why::access(
            &self.snapshot,
            &odds.workload,
            port,
            peer,
            &head,
            &mut trace,
        );
        let by = match &result {
            Err(denial) if denial.kind == DenialKind::BadRequest => Clause::BadPath,
            Err(denial) => clause(&denial.reason, denial.by.as_ref()),
            Ok(()) => {
                let steps = trace.0.iter().rev();
                let step = steps
                    .into_iter()
                    .find(|step| &*step.topic == "access")
                    .unwrap();
                clause(&step.outcome, step.from.as_ref())
            }
        };
        let audit = trace.0.iter().rev().find(|step| &*step.topic == "audit");
        let audit = audit.filter(|_| result.is_ok());
        let access = Access {
            allowed: result.is_ok(),
            by,
            audit: audit.map(|step| clause(&step.outcome, step.from.as_ref())),
            path: self.forwarded(odds, peer, &head),
        };
        (shown(odds), access)
    }

    /// The limits that hold at an endpoint, in the words of the naive evaluator.
    fn rates(&self, odds: &EngineOdds) -> Vec<String> {
        let all = applying(&self.snapshot, &odds.workload, odds.endpoint.port());
        let limits = all.iter().flat_map(|of| {
            let limits = of.limits.iter().enumerate();
            limits.map(|(index, limit)| rate(limit, &of.origin(index)))
        });
        let mut found: Vec<String> = limits.collect();
        found.sort();
        found
    }

    /// The path that a request is forwarded with, if it may pass and that is not its own.
    fn forwarded(&self, odds: &EngineOdds, peer: &Peer, head: &RequestHead<'_>) -> Option<String> {
        let s = &self.snapshot;
        match authorize_connection(s, &odds.workload, odds.endpoint.port(), peer) {
            ConnectionVerdict::InspectRequests(permit) => {
                let permit = authorize_request(s, &permit, head).ok()?;
                permit.path().map(str::to_owned)
            }
            ConnectionVerdict::Allow(_) | ConnectionVerdict::Deny(_) => None,
        }
    }
}

/// The request as the backend receives it.
struct Received {
    path: String,
    host: String,
}

fn shown(odds: &EngineOdds) -> String {
    let name = &odds.workload.name;
    format!("{}/{}:{}", name.namespace, name.name, odds.endpoint.port())
}

/// Reads a document; a problem with it is the generator's fault.
pub(crate) fn parsed(document: &Value) -> Located<Object> {
    let found = tacit_api::parse("world.yaml", &document.to_string());
    assert_eq!(found.errors, [], "{document:#}");
    found.objects.into_iter().next().unwrap()
}

fn errors(document: &Value) -> (ObjectKey, Vec<SyntaxError>) {
    let mut document = document.clone();
    document["spec"]["colour"] = "red".into();
    let found = tacit_api::parse("world.yaml", &document.to_string());
    let key = found.errors.iter().find_map(|error| error.object.clone());
    (key.unwrap(), found.errors)
}

/// Reads a document that the generator says is valid by itself.
fn valid(document: &Value, cluster: &str) -> Located<Object> {
    let found = parsed(document);
    let problems = tacit_compiler::problems(&found, cluster);
    assert!(problems.is_empty(), "{problems:#?}\n{document:#}");
    found
}

/// Reads one that the API forbids.
fn refused(document: &Value) -> Located<Object> {
    let found = parsed(document);
    let problems = tacit_compiler::problems(&found, "local");
    assert!(!problems.is_empty(), "{document:#}");
    found
}

fn upsert(document: &Document, cluster: &str) -> Upsert {
    use tacit_compiler::Written as Engine;
    let ok = |found: Located<Object>| (found.value.key(), Engine::Ok(Box::new(found)));
    let (key, written) = match &document.written {
        Written::Valid(found) => ok(valid(found, cluster)),
        Written::Refused(found) => ok(refused(found)),
        Written::Twice(found) => {
            let found = parsed(found);
            (
                found.value.key(),
                Engine::Duplicate(vec![found.clone(), found]),
            )
        }
        Written::Unreadable(found) => {
            let (key, errors) = errors(found);
            (key, Engine::Unparsable(errors))
        }
    };
    Upsert {
        key,
        written,
        last_good: document
            .last_good
            .as_ref()
            .map(|found| Box::new(valid(found, cluster))),
        owner: Owner::Directory,
    }
}

/// The nodes that workloads name.
fn nodes(world: &World) -> Vec<NodeFact> {
    let fact = |(index, name): (usize, &String)| NodeFact {
        name: format!("n-{}", name.split_once('/').unwrap().1)
            .as_str()
            .try_into()
            .unwrap(),
        region: "".into(),
        zone: "".into(),
        subnet: Some(Cidr {
            network: [10, 96, u8::try_from(index).unwrap(), 0].into(),
            prefix: 24,
        }),
        identities: MayHost::any(),
    };
    world.ready.keys().enumerate().map(fact).collect()
}

fn workload_name(key: &str) -> Option<WorkloadName> {
    let (namespace, name) = key.split_once('/')?;
    WorkloadName::parse(namespace, name).ok()
}

fn service_name(key: &str) -> Option<ServiceName> {
    let (namespace, name) = key.split_once('/')?;
    ServiceName::parse(namespace, name).ok()
}

fn learn(s: &Snapshot, state: &State, ill: &tacit_reference::Ill) {
    let workload = workload_name(&ill.workload).and_then(|name| s.workloads.get(&name));
    let service = service_name(&ill.service).and_then(|name| s.services.get(&name));
    let (Some(workload), Some(service)) = (workload, service) else {
        return;
    };
    let outcome = match ill.sign {
        Sign::Connect => TryOutcome::ConnectFailed,
        Sign::Status(status) => TryOutcome::Status(status),
        Sign::Timeout => TryOutcome::PerTryTimeout {
            sent: Sent::Something,
        },
    };
    let endpoint = SocketAddr::new(workload.address, ill.port);
    for _ in 0..ill.times {
        state.on_result(s, service, endpoint, &outcome, NOW);
    }
}

/// What a client half answers itself, but for a backend that does not resolve.
fn ended(routed: &EngineRouted) -> Option<Routed> {
    match routed {
        EngineRouted::Denied(denial) => match denial.kind {
            DenialKind::NoRoute => Some(Routed::NotFound),
            DenialKind::NoGrpcRoute => Some(Routed::Unimplemented),
            _ => None,
        },
        EngineRouted::Redirect {
            by,
            status,
            location,
        } => Some(Routed::Redirect {
            rule: by
                .rule()
                .map_or_else(String::new, |rule| rule.from.to_string()),
            status: *status,
            location: location.clone(),
        }),
        EngineRouted::Direct | EngineRouted::Forward { .. } => None,
    }
}

/// A rule that forwards, with all of its backends.
fn forward(all: &[EngineRouted], request: &Request, path: &str) -> Routed {
    let by = all.iter().find_map(|one| match one {
        EngineRouted::Forward { by, .. } => Some(by),
        _ => None,
    });
    let rule = by.and_then(Candidate::rule);
    let weights: Vec<u32> = match rule.map(|rule| &rule.action) {
        Some(Action::Forward(backends)) => backends
            .iter()
            .map(|backend| backend.weight)
            .filter(|weight| *weight > 0)
            .collect(),
        Some(Action::Redirect(_)) | None => Vec::new(),
    };
    let mut name = String::new();
    let mut ways = Vec::new();
    for (index, one) in all.iter().enumerate() {
        match one {
            EngineRouted::Denied(denial) => {
                name = denial.by.as_ref().unwrap().to_string();
                ways.push(match denial.kind {
                    DenialKind::BrokenGrpcRoute => Way::Unavailable,
                    _ => Way::Broken,
                });
            }
            EngineRouted::Forward { to, by, path: new } => {
                let rule = by.rule().unwrap();
                name = rule.from.to_string();
                let service = &to.service.name;
                ways.push(Way::To {
                    service: format!("{}/{}:{}", service.namespace, service.name, to.port.port),
                    weight: weights[index].into(),
                    path: new.clone().unwrap_or_else(|| path.to_owned()),
                    host: rule
                        .changes
                        .host
                        .as_deref()
                        .unwrap_or(&request.host)
                        .to_owned(),
                });
            }
            EngineRouted::Direct | EngineRouted::Redirect { .. } => panic!("{one:?}"),
        }
    }
    let headers = rule.map(|rule| {
        let changes = [&rule.changes.request, &rule.changes.response];
        changes.map(header_changes).join("; ")
    });
    Routed::Forward {
        rule: name,
        ways,
        headers: headers.unwrap_or_default(),
    }
}

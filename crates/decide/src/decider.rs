//! The decisions of one request or connection, each told to a log if there is one.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tacit_model::fault::Injected;
use tacit_model::rate::{RateKey, RateLimits};
use tacit_model::resilience::Resilience;
use tacit_model::route::Candidate;
use tacit_model::tables::{ServiceRow, WorkloadRow};
use tacit_model::{Dice, Now, ServiceName, Snapshot, WorkloadName};

use crate::authorize::{
    ConnectionVerdict, Peer, RequestHead, authorize_connection, authorize_request, local_workload,
};
use crate::balance::{Ask, Choice, choose_traced};
use crate::denial::Denial;
use crate::destination::{
    Destination, ServiceTarget, WorkloadTarget, destination, permit_workload,
};
use crate::fault;
use crate::offline::{self, Freshness};
use crate::permit::{DialPermit, ForwardPermit, InspectPermit, RequestPermit};
use crate::rate::{self, Header};
use crate::record::{
    BeginAsked, Begun, ChooseAsked, Chosen, ConnectionAsked, Decided, Decision, Entry, Forward,
    InjectAsked, LearnAsked, Leg, LimitAsked, RateAsked, Rated, Record, RequestAsked, RouteAsked,
    TryAsked, TryDecided, WorkloadAsked,
};
use crate::resilience;
use crate::retry::{Progress, RetryDecision, TryLimit, TryOutcome, after_try_seen};
use crate::route::{self, RouteHead, Routed};
use crate::state::State;
use crate::view::Seen;

/// Takes entries; it must not block.
pub type Log<'a> = dyn Fn(Entry) + 'a;

/// Decides as the functions of the same names do.
///
/// Without a log nothing is copied. With one, what was read of the state is copied under the
/// locks under which it was read, so that each entry can be decided again.
#[derive(Clone, Copy)]
pub struct Decider<'a> {
    /// The snapshot of this request.
    pub snapshot: &'a Arc<Snapshot>,
    /// What this process has learnt.
    pub state: &'a State,
    /// The identifier of the request or connection.
    pub id: &'a Arc<str>,
    /// Where decisions are told.
    pub log: Option<&'a Log<'a>>,
}

impl Decider<'_> {
    fn tell(&self, decision: impl FnOnce() -> Decision) {
        if let Some(log) = self.log {
            let record = Record {
                id: Arc::clone(self.id),
                decision: decision(),
            };
            let snapshot = Arc::clone(self.snapshot);
            log(Entry { snapshot, record });
        }
    }

    fn seen(&self) -> Option<Seen> {
        self.log.map(|_| Seen::default())
    }

    /// See [`offline::admit`].
    pub fn admit(&self, freshness: Freshness) -> Result<(), Denial> {
        let outcome = offline::admit(freshness);
        self.tell(|| {
            Decision::Admit(Decided {
                asked: freshness,
                outcome: outcome.clone(),
            })
        });
        outcome
    }

    /// See [`destination`].
    #[must_use]
    pub fn destination(&self, to: SocketAddr) -> Destination {
        let found = destination(self.snapshot, to);
        self.tell(|| {
            Decision::Destination(Decided {
                asked: to,
                outcome: (&found).into(),
            })
        });
        found
    }

    /// See [`permit_workload`].
    pub fn permit_workload(&self, source: &WorkloadRow, target: &WorkloadTarget) -> DialPermit {
        let permit = permit_workload(self.snapshot, source, target);
        self.tell(|| {
            Decision::PermitWorkload(Decided {
                asked: WorkloadAsked {
                    source: source.name.clone(),
                    workload: target.workload.name.clone(),
                    port: target.port,
                    protocol: target.protocol,
                },
                outcome: (&permit).into(),
            })
        });
        permit
    }

    /// See [`crate::route()`].
    #[must_use]
    pub fn route(
        &self,
        source: &WorkloadRow,
        parent: &ServiceTarget,
        head: &RouteHead<'_>,
        dice: Dice,
    ) -> Routed {
        let routed = route::route(self.snapshot, source, parent, head, dice);
        self.tell(|| {
            let candidates = route::applicable(self.snapshot, source, parent);
            Decision::Route(Decided {
                asked: RouteAsked {
                    leg: leg(&source.name, &parent.service.name),
                    port: parent.port.port,
                    method: head.method.to_owned(),
                    path: head.path.to_owned(),
                    query: head.query.to_owned(),
                    host: head.host.to_owned(),
                    headers: looked_at(candidates, head),
                    dice,
                },
                outcome: (&routed).into(),
            })
        });
        routed
    }

    /// See [`resilience::effective`].
    #[must_use]
    pub fn effective(
        &self,
        service: &ServiceRow,
        by: Option<&Candidate>,
        source: &WorkloadRow,
    ) -> Resilience {
        let rule = by.and_then(Candidate::rule);
        let effective = resilience::effective(self.snapshot, service, rule, source);
        self.tell(|| {
            Decision::Effective(Decided {
                asked: Leg {
                    rule: by.map(Into::into),
                    ..leg(&source.name, &service.name)
                },
                outcome: effective.clone(),
            })
        });
        effective
    }

    /// See [`Progress::begin`].
    pub fn begin(
        &self,
        r: &Resilience,
        leg: Leg,
        method: &str,
        caller_limit: Option<Duration>,
        now: Now,
    ) -> Progress {
        let mut seen = self.seen();
        let progress =
            Progress::begin_seen(self.state, r, leg, method, caller_limit, now, seen.as_mut());
        self.tell(|| {
            let Seen { before, after } = seen.unwrap_or_default();
            Decision::Begin(Decided {
                asked: BeginAsked {
                    leg: progress.leg().clone(),
                    method: method.to_owned(),
                    caller_limit,
                    now,
                    state: before,
                },
                outcome: Begun {
                    progress: progress.clone(),
                    state: after,
                },
            })
        });
        progress
    }

    /// See [`fault::inject`]. Nothing is told where no policy makes failures.
    #[must_use]
    pub fn inject(
        &self,
        service: &ServiceRow,
        source: &WorkloadRow,
        now: Now,
        dice: Dice,
    ) -> Injected {
        if service.faults.is_empty() {
            return Injected::default();
        }
        let injected = fault::inject(self.snapshot, service, source, now, dice);
        self.tell(|| {
            Decision::Inject(Decided {
                asked: InjectAsked {
                    leg: leg(&source.name, &service.name),
                    now,
                    dice,
                },
                outcome: injected.clone(),
            })
        });
        injected
    }

    /// See [`crate::choose`].
    pub fn choose(&self, ask: &Ask<'_>, now: Now, dice: Dice) -> Result<Choice, Denial> {
        let mut seen = self.seen();
        let choice = choose_traced(
            self.snapshot,
            self.state,
            ask,
            now,
            dice,
            None,
            seen.as_mut(),
        );
        self.tell(|| {
            let Seen { before, after } = seen.unwrap_or_default();
            let endpoint = choice.as_ref().map(Into::into).map_err(Denial::clone);
            Decision::Choose(Decided {
                asked: ChooseAsked {
                    leg: leg(&ask.source.name, &ask.service.name),
                    port: ask.port.port,
                    tried: ask.tried.to_vec(),
                    control_stale: ask.control_stale,
                    now,
                    dice,
                    state: before,
                },
                outcome: Chosen {
                    endpoint,
                    state: after,
                },
            })
        });
        choice
    }

    /// See [`Progress::try_limit`].
    #[must_use]
    pub fn try_limit(&self, r: &Resilience, progress: &Progress, now: Now) -> Option<TryLimit> {
        let limit = progress.try_limit(r, now);
        self.tell(|| {
            Decision::TryLimit(Decided {
                asked: LimitAsked {
                    progress: progress.clone(),
                    now,
                },
                outcome: limit,
            })
        });
        limit
    }

    /// See [`crate::retry::after_try`].
    pub fn after_try(
        &self,
        r: &Resilience,
        progress: &mut Progress,
        (outcome, body_replayable): (&TryOutcome, bool),
        now: Now,
        dice: Dice,
    ) -> RetryDecision {
        let mut seen = self.seen();
        let before_it = self.log.map(|_| progress.clone());
        let ended = (outcome, body_replayable);
        let decision = after_try_seen(r, self.state, progress, ended, now, dice, seen.as_mut());
        if let Some(before_it) = before_it {
            let Seen { before, after } = seen.unwrap_or_default();
            self.tell(|| {
                Decision::AfterTry(Decided {
                    asked: TryAsked {
                        progress: before_it,
                        outcome: *outcome,
                        body_replayable,
                        now,
                        dice,
                        state: before,
                    },
                    outcome: TryDecided {
                        decision,
                        progress: progress.clone(),
                        state: after,
                    },
                })
            });
        }
        decision
    }

    /// See [`State::on_result`].
    pub fn on_result(
        &self,
        service: &ServiceRow,
        endpoint: SocketAddr,
        outcome: &TryOutcome,
        now: Now,
    ) {
        let mut seen = self.seen();
        self.state.on_result_seen(
            self.snapshot,
            service,
            endpoint,
            outcome,
            now,
            seen.as_mut(),
        );
        self.tell(|| {
            let Seen { before, after } = seen.unwrap_or_default();
            Decision::Learn(Decided {
                asked: LearnAsked {
                    service: service.name.clone(),
                    endpoint,
                    outcome: *outcome,
                    now,
                    state: before,
                },
                outcome: after,
            })
        });
    }

    /// See [`authorize_connection`].
    pub fn authorize_connection(
        &self,
        local: &WorkloadRow,
        port: u16,
        peer: &Peer,
    ) -> ConnectionVerdict {
        let verdict = authorize_connection(self.snapshot, local, port, peer);
        self.tell(|| {
            Decision::AuthorizeConnection(Decided {
                asked: ConnectionAsked {
                    workload: local.name.clone(),
                    port,
                    peer: peer.clone(),
                },
                outcome: (&verdict).into(),
            })
        });
        verdict
    }

    /// See [`authorize_request`].
    pub fn authorize_request(
        &self,
        permit: &InspectPermit,
        head: &RequestHead<'_>,
    ) -> Result<RequestPermit, Denial> {
        let permitted = authorize_request(self.snapshot, permit, head);
        self.tell(|| {
            Decision::AuthorizeRequest(Decided {
                asked: RequestAsked {
                    workload: permit.workload.clone(),
                    port: permit.port,
                    peer: permit.peer.clone(),
                    protocol: permit.protocol,
                    method: head.method.to_owned(),
                    path: head.path.to_owned(),
                    host: head.host.to_owned(),
                },
                outcome: permitted.as_ref().map(Forward::from).map_err(Denial::clone),
            })
        });
        permitted
    }

    /// See [`rate::limit_request`]. Nothing is told where no limit applies.
    pub fn limit_request(
        &self,
        (inspect, permit): (&InspectPermit, RequestPermit),
        header: &Header<'_>,
        now: Now,
    ) -> Result<ForwardPermit, Denial> {
        // Most meshes have none, and this is asked for each request.
        if !self.snapshot.has_rates() {
            return Ok(ForwardPermit { request: permit });
        }
        let local = local_workload(self.snapshot, &inspect.workload)?;
        let applying = rate::applying(self.snapshot, local, inspect.port);
        let mut seen = self.seen();
        let within = rate::take(self.state, &applying, inspect, header, now, seen.as_mut());
        if !applying.is_empty() {
            self.tell(|| {
                let Seen { before, after } = seen.unwrap_or_default();
                Decision::Rate(Decided {
                    asked: RateAsked {
                        workload: inspect.workload.clone(),
                        port: inspect.port,
                        peer: inspect.peer.clone(),
                        protocol: inspect.protocol,
                        headers: counted_by(&applying, header),
                        now,
                        state: before,
                    },
                    outcome: Rated {
                        within: within.clone(),
                        state: after,
                    },
                })
            });
        }
        within.map(|()| ForwardPermit { request: permit })
    }
}

/// The headers that a limit looks at, with as much of their values as it looks at.
fn counted_by(applying: &[&RateLimits], header: &Header<'_>) -> BTreeMap<String, String> {
    let limits = applying.iter().flat_map(|of| &of.limits);
    let names = limits
        .flat_map(|limit| &limit.key)
        .filter_map(|part| match part {
            RateKey::Header(name) => Some(name),
            RateKey::Identity => None,
        });
    names
        .filter_map(|name| Some((name.to_string(), rate::counted(header(name)?))))
        .collect()
}

fn leg(source: &WorkloadName, service: &ServiceName) -> Leg {
    Leg {
        source: source.clone(),
        service: service.clone(),
        rule: None,
    }
}

/// The headers that a rule looks at, with their values.
fn looked_at<'a>(
    candidates: impl Iterator<Item = &'a Candidate>,
    head: &RouteHead<'_>,
) -> BTreeMap<String, String> {
    let names = candidates.flat_map(|found| {
        let conditions = found.conditions().into_iter();
        let asked = conditions.flat_map(|conditions| &conditions.headers);
        let of_kind = found.route.key.is_grpc().then_some("content-type");
        asked.map(|(name, _)| &**name).chain(of_kind)
    });
    let value = |name: &str| (head.header)(name).map(|value| (name.to_owned(), value));
    names.filter_map(value).collect()
}

//! Decides again from a record, in whatever process: the same functions must say the same.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use tacit_model::resilience::Resilience;
use tacit_model::route::Candidate;
use tacit_model::tables::{ServicePort, ServiceRow, WorkloadRow};
use tacit_model::{ServiceName, Snapshot, WorkloadName};

use crate::authorize::RequestHead;
use crate::balance::Ask;
use crate::decider::Decider;
use crate::destination::{ServiceTarget, WorkloadTarget};
use crate::permit::{InspectPermit, RequestPermit};
use crate::record::{
    BeginAsked, ChooseAsked, Decision, Entry, InjectAsked, LearnAsked, Leg, LimitAsked, RateAsked,
    Record, RequestAsked, RouteAsked, RuleRef, TryAsked, WorkloadAsked,
};
use crate::resilience;
use crate::route::RouteHead;
use crate::view::{NotRestored, StateView};

/// Why a decision cannot be made again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// It is about something that the snapshot does not have.
    Missing(String),
    /// Its state is none.
    State(NotRestored),
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(what) => write!(f, "its generation has no {what}"),
            Self::State(why) => write!(f, "{why}"),
        }
    }
}

impl std::error::Error for Unfit {}

/// Makes the decision of a record again, by the snapshot of its generation and by what it says
/// was read of the state. The answer says anew what was read, so a record that lacks something
/// differs.
pub fn again(snapshot: &Arc<Snapshot>, record: &Record) -> Result<Record, Unfit> {
    let nothing = StateView::default();
    let view = match &record.decision {
        Decision::AfterTry(decided) => &decided.asked.state,
        Decision::Begin(decided) => &decided.asked.state,
        Decision::Choose(decided) => &decided.asked.state,
        Decision::Learn(decided) => &decided.asked.state,
        Decision::Rate(decided) => &decided.asked.state,
        Decision::Admit(_)
        | Decision::AuthorizeConnection(_)
        | Decision::AuthorizeRequest(_)
        | Decision::Destination(_)
        | Decision::Effective(_)
        | Decision::Inject(_)
        | Decision::PermitWorkload(_)
        | Decision::Route(_)
        | Decision::TryLimit(_) => &nothing,
    };
    let restored = view.restore().map_err(Unfit::State)?;
    let told = RefCell::new(None);
    let log = |entry: Entry| drop(told.replace(Some(entry.record)));
    let replay = Replay {
        decider: Decider {
            snapshot,
            state: &restored.state,
            id: &record.id,
            log: Some(&log),
        },
    };
    replay.decide(&record.decision)?;
    told.into_inner()
        .ok_or_else(|| Unfit::Missing("function that tells it".into()))
}

struct Replay<'a> {
    decider: Decider<'a>,
}

impl Replay<'_> {
    /// Decides; the decider tells what came out, so the values themselves are not needed.
    fn decide(&self, decision: &Decision) -> Result<(), Unfit> {
        match decision {
            Decision::Admit(decided) => drop(self.decider.admit(decided.asked)),
            Decision::AfterTry(decided) => self.after_try(&decided.asked)?,
            Decision::AuthorizeConnection(decided) => {
                let asked = &decided.asked;
                let local = self.workload(&asked.workload)?;
                drop(
                    self.decider
                        .authorize_connection(local, asked.port, &asked.peer),
                );
            }
            Decision::AuthorizeRequest(decided) => self.authorize_request(&decided.asked),
            Decision::Begin(decided) => self.begin(&decided.asked)?,
            Decision::Choose(decided) => self.choose(&decided.asked)?,
            Decision::Destination(decided) => drop(self.decider.destination(decided.asked)),
            Decision::Effective(decided) => {
                let (source, service) = self.ends(&decided.asked)?;
                let by = self.rule(&decided.asked)?;
                drop(self.decider.effective(service, by.as_ref(), source));
            }
            Decision::Inject(decided) => {
                let InjectAsked { leg, now, dice } = &decided.asked;
                let (source, service) = self.ends(leg)?;
                drop(self.decider.inject(service, source, *now, *dice));
            }
            Decision::Learn(decided) => self.learn(&decided.asked)?,
            Decision::PermitWorkload(decided) => self.permit_workload(&decided.asked)?,
            Decision::Rate(decided) => self.rate(&decided.asked),
            Decision::Route(decided) => self.route(&decided.asked)?,
            Decision::TryLimit(decided) => self.try_limit(&decided.asked)?,
        }
        Ok(())
    }

    fn workload(&self, name: &WorkloadName) -> Result<&Arc<WorkloadRow>, Unfit> {
        let found = self.decider.snapshot.workloads.get(name);
        found.ok_or_else(|| Unfit::Missing(format!("workload {name}")))
    }

    fn service(&self, name: &ServiceName) -> Result<&Arc<ServiceRow>, Unfit> {
        let found = self.decider.snapshot.services.get(name);
        found.ok_or_else(|| Unfit::Missing(format!("service {name}")))
    }

    fn ends(&self, leg: &Leg) -> Result<(&Arc<WorkloadRow>, &Arc<ServiceRow>), Unfit> {
        Ok((self.workload(&leg.source)?, self.service(&leg.service)?))
    }

    fn rule(&self, leg: &Leg) -> Result<Option<Candidate>, Unfit> {
        let Some(RuleRef {
            route,
            rule,
            matching,
        }) = &leg.rule
        else {
            return Ok(None);
        };
        let found = self.decider.snapshot.routes.get(route);
        let route = found.ok_or_else(|| Unfit::Missing(route.route.to_string()))?;
        Ok(Some(Candidate {
            route: Arc::clone(route),
            rule: *rule,
            matching: *matching,
        }))
    }

    fn resilience(&self, leg: &Leg) -> Result<Resilience, Unfit> {
        let (source, service) = self.ends(leg)?;
        let by = self.rule(leg)?;
        let rule = by.as_ref().and_then(Candidate::rule);
        Ok(resilience::effective(
            self.decider.snapshot,
            service,
            rule,
            source,
        ))
    }

    fn begin(&self, asked: &BeginAsked) -> Result<(), Unfit> {
        let r = self.resilience(&asked.leg)?;
        let leg = asked.leg.clone();
        drop(
            self.decider
                .begin(&r, leg, &asked.method, asked.caller_limit, asked.now),
        );
        Ok(())
    }

    fn port<'s>(&self, service: &'s ServiceRow, port: u16) -> Result<&'s ServicePort, Unfit> {
        let found = service.ports.iter().find(|known| known.port == port);
        let missing = || Unfit::Missing(format!("port {port} of service {}", service.name));
        found.ok_or_else(missing)
    }

    fn route(&self, asked: &RouteAsked) -> Result<(), Unfit> {
        let (source, service) = self.ends(&asked.leg)?;
        let parent = ServiceTarget {
            service: Arc::clone(service),
            port: self.port(service, asked.port)?.clone(),
        };
        let head = RouteHead {
            method: &asked.method,
            path: &asked.path,
            query: &asked.query,
            host: &asked.host,
            header: &|name| asked.headers.get(name).cloned(),
        };
        let _routed = self.decider.route(source, &parent, &head, asked.dice);
        Ok(())
    }

    fn choose(&self, asked: &ChooseAsked) -> Result<(), Unfit> {
        let (source, service) = self.ends(&asked.leg)?;
        let port = self.port(service, asked.port)?;
        let ask = Ask {
            source,
            service,
            port,
            tried: &asked.tried,
            control_stale: asked.control_stale,
        };
        drop(self.decider.choose(&ask, asked.now, asked.dice));
        Ok(())
    }

    fn try_limit(&self, asked: &LimitAsked) -> Result<(), Unfit> {
        let r = self.resilience(asked.progress.leg())?;
        let _limit = self.decider.try_limit(&r, &asked.progress, asked.now);
        Ok(())
    }

    fn after_try(&self, asked: &TryAsked) -> Result<(), Unfit> {
        let r = self.resilience(asked.progress.leg())?;
        let mut progress = asked.progress.clone();
        let ended = (&asked.outcome, asked.body_replayable);
        let _decision = self
            .decider
            .after_try(&r, &mut progress, ended, asked.now, asked.dice);
        Ok(())
    }

    fn learn(&self, asked: &LearnAsked) -> Result<(), Unfit> {
        let service = self.service(&asked.service)?;
        self.decider
            .on_result(service, asked.endpoint, &asked.outcome, asked.now);
        Ok(())
    }

    fn permit_workload(&self, asked: &WorkloadAsked) -> Result<(), Unfit> {
        let target = WorkloadTarget {
            workload: Arc::clone(self.workload(&asked.workload)?),
            port: asked.port,
            protocol: asked.protocol,
        };
        let source = self.workload(&asked.source)?;
        drop(self.decider.permit_workload(source, &target));
        Ok(())
    }

    fn rate(&self, asked: &RateAsked) {
        let inspect = InspectPermit {
            workload: asked.workload.clone(),
            port: asked.port,
            peer: asked.peer.clone(),
            protocol: asked.protocol,
        };
        let permit = RequestPermit {
            path: None,
            audit: None,
        };
        let header = |name: &str| asked.headers.get(name).cloned();
        let of = (&inspect, permit);
        drop(self.decider.limit_request(of, &header, asked.now));
    }

    fn authorize_request(&self, asked: &RequestAsked) {
        let permit = InspectPermit {
            workload: asked.workload.clone(),
            port: asked.port,
            peer: asked.peer.clone(),
            protocol: asked.protocol,
        };
        let head = RequestHead {
            method: &asked.method,
            path: &asked.path,
            host: &asked.host,
        };
        drop(self.decider.authorize_request(&permit, &head));
    }
}

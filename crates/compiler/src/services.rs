//! Rows of services: what is written about each, put in order and resolved.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use tacit_api::mesh::Defaults;
use tacit_api::policy::Callers;
use tacit_api::rate_limit::RateLimitPolicySpec;
use tacit_api::{Kind, Object};
use tacit_model::access::From;
use tacit_model::fault::FaultLayer;
use tacit_model::resilience::Layer;
use tacit_model::tables::ServiceRow;
use tacit_model::{Namespace, ObjectRef, ServiceName};

use crate::attach::{Contribution, Loss, Rank, Standing, defaults_rank, losses, services_hit};
use crate::compile::Mesh;
use crate::failover::{self, Candidate};
use crate::findings::object_ref;
use crate::policies::Placed;
use crate::targets::{Closeness, Resolver};
use crate::workspace::Owner;
use crate::{fault, rate_limit, retry_timeout, values};

/// One RetryTimeoutPolicy, or the `defaults` of a Mesh or Workspace, at one service.
struct RetrySource<'a> {
    rank: Rank,
    parts: retry_timeout::Parts<'a>,
    object: ObjectRef,
    callers: Option<Vec<From>>,
}

/// A layer and its place among others.
#[derive(Clone, Debug)]
pub(crate) struct Ranked {
    pub(crate) rank: Rank,
    pub(crate) layer: Layer,
}

/// One FailoverPolicy, or `defaults`, at one service.
struct FailoverSource<'a> {
    rank: Rank,
    parts: failover::Parts<'a>,
    object: ObjectRef,
    home: Namespace,
}

/// One RateLimitPolicy at one service.
struct RateSource<'a> {
    rank: Rank,
    spec: &'a RateLimitPolicySpec,
    object: ObjectRef,
}

/// One FaultPolicy at one service.
struct FaultSource {
    rank: Rank,
    layer: FaultLayer,
    object: ObjectRef,
}

/// All that is written about one service.
#[derive(Default)]
struct Sources<'a> {
    retries: Vec<RetrySource<'a>>,
    failovers: Vec<FailoverSource<'a>>,
    rates: Vec<RateSource<'a>>,
    faults: Vec<FaultSource>,
}

/// The rows, and which policies lose what at which service.
#[derive(Debug, Default)]
pub(crate) struct Services {
    pub(crate) rows: BTreeMap<ServiceName, ServiceRow>,
    /// The layers of each row with their ranks, sorted: routes put theirs among them.
    pub(crate) ranked: BTreeMap<ServiceName, Vec<Ranked>>,
    /// None for services to which no policy applies.
    pub(crate) losses: BTreeMap<ServiceName, Vec<Loss>>,
    /// Services that each policy hits.
    pub(crate) hit: BTreeMap<ObjectRef, BTreeSet<ServiceName>>,
    /// When the next FaultPolicy ends, in seconds since 1970.
    pub(crate) fault_ends: Option<i64>,
}

/// Builds the rows of all services that have an address.
pub(crate) fn all(
    mesh: &Mesh<'_>,
    placed: &[Placed<'_>],
    resolver: &Resolver<'_, '_>,
    addresses: &BTreeMap<ServiceName, IpAddr>,
    now: i64,
) -> Services {
    let names = addresses.keys().cloned().collect();
    let address_of = |name: &ServiceName| addresses.get(name).copied();
    build(mesh, placed, resolver, names, &address_of, now)
}

/// Builds the rows of these services, which have addresses, as of `now` (seconds since 1970).
/// `address_of` knows the addresses of others, too.
pub(crate) fn build(
    mesh: &Mesh<'_>,
    placed: &[Placed<'_>],
    resolver: &Resolver<'_, '_>,
    names: BTreeSet<ServiceName>,
    address_of: &dyn Fn(&ServiceName) -> Option<IpAddr>,
    now: i64,
) -> Services {
    let mut services = Services::default();
    let mut all: BTreeMap<ServiceName, Sources<'_>> = BTreeMap::new();
    for policy in placed
        .iter()
        .filter(|policy| policy.kind != Kind::AccessPolicy)
    {
        let Some(claim) = policy.claim(resolver) else {
            continue;
        };
        let hit = services_hit(&policy.hits, &names);
        services
            .hit
            .insert(policy.object.clone(), hit.keys().cloned().collect());
        for (service, closeness) in hit {
            let sources = all.entry(service).or_default();
            sources.add(policy, claim.rank(closeness), now);
        }
    }
    for name in names {
        let mut sources = all.remove(&name).unwrap_or_default();
        sources.add_defaults(mesh, &name.namespace);
        sources.sort();
        let lost = sources.losses();
        if !lost.is_empty() {
            services.losses.insert(name.clone(), lost);
        }
        let ranked = layers(&sources.retries);
        let resilience = ranked.iter().map(|ranked| ranked.layer.clone()).collect();
        if let Some(row) = row(mesh, address_of, name.clone(), resilience, sources) {
            let ends = row
                .faults
                .iter()
                .filter_map(|layer| i64::try_from(layer.until).ok());
            services.fault_ends = ends.chain(services.fault_ends).min();
            if !ranked.is_empty() {
                services.ranked.insert(name.clone(), ranked);
            }
            services.rows.insert(name, row);
        }
    }
    services
}

impl<'a> Sources<'a> {
    /// Adds a policy that hits the service.
    fn add(&mut self, policy: &Placed<'a>, rank: Rank, now: i64) {
        if let Some(source) = retry_source(policy, rank.clone()) {
            self.retries.push(source);
        } else if let Some(source) = failover_source(policy, rank.clone()) {
            self.failovers.push(source);
        } else if let Some(source) = rate_source(policy, rank.clone()) {
            self.rates.push(source);
        } else if let Some(source) = fault_source(policy, rank, now) {
            self.faults.push(source);
        }
    }

    /// Adds the `defaults` that hold in the namespace of the service.
    fn add_defaults(&mut self, mesh: &'a Mesh<'_>, namespace: &Namespace) {
        for (defaults, object, standing) in defaults(mesh, namespace) {
            let rank = defaults_rank(object.clone(), standing);
            self.retries.push(RetrySource {
                rank: rank.clone(),
                parts: retry_timeout::Parts::of_defaults(defaults),
                object: object.clone(),
                callers: None,
            });
            self.failovers.push(FailoverSource {
                rank,
                parts: failover::Parts::of_defaults(defaults),
                object,
                home: namespace.clone(),
            });
        }
    }

    fn sort(&mut self) {
        self.retries.sort_by(|a, b| a.rank.cmp(&b.rank));
        self.failovers.sort_by(|a, b| a.rank.cmp(&b.rank));
        self.rates.sort_by(|a, b| a.rank.cmp(&b.rank));
        self.faults.sort_by(|a, b| a.rank.cmp(&b.rank));
    }

    fn losses(&self) -> Vec<Loss> {
        let lost = retry_losses(&self.retries)
            .into_iter()
            .chain(failover_losses(&self.failovers))
            .chain(rate_losses(&self.rates))
            .chain(fault_losses(&self.faults));
        lost.collect()
    }
}

fn retry_source<'a>(policy: &Placed<'a>, rank: Rank) -> Option<RetrySource<'a>> {
    let Object::RetryTimeoutPolicy(found) = &policy.in_force?.value else {
        return None;
    };
    Some(RetrySource {
        rank,
        parts: retry_timeout::Parts::of(&found.spec),
        object: policy.object.clone(),
        callers: callers(policy, found.spec.from.as_deref()),
    })
}

/// The callers that a policy is for; absent: all.
fn callers(policy: &Placed<'_>, written: Option<&[Callers]>) -> Option<Vec<From>> {
    let own = &policy.name.namespace;
    written.map(|list| list.iter().map(|one| values::from(one, own)).collect())
}

fn failover_source<'a>(policy: &Placed<'a>, rank: Rank) -> Option<FailoverSource<'a>> {
    let Object::FailoverPolicy(found) = &policy.in_force?.value else {
        return None;
    };
    Some(FailoverSource {
        rank,
        parts: failover::Parts::of(&found.spec),
        object: policy.object.clone(),
        home: policy.name.namespace.clone(),
    })
}

fn rate_source<'a>(policy: &Placed<'a>, rank: Rank) -> Option<RateSource<'a>> {
    let Object::RateLimitPolicy(found) = &policy.in_force?.value else {
        return None;
    };
    Some(RateSource {
        rank,
        spec: &found.spec,
        object: policy.object.clone(),
    })
}

fn fault_source(policy: &Placed<'_>, rank: Rank, now: i64) -> Option<FaultSource> {
    let Object::FaultPolicy(found) = &policy.in_force?.value else {
        return None;
    };
    let callers = callers(policy, found.spec.from.as_deref());
    Some(FaultSource {
        rank,
        layer: fault::layer(&policy.object, &found.spec, callers, now)?,
        object: policy.object.clone(),
    })
}

/// The `defaults` that hold in a namespace: those of its Workspace, then those of the Mesh.
fn defaults<'m>(
    mesh: &'m Mesh<'_>,
    namespace: &Namespace,
) -> Vec<(&'m Defaults, ObjectRef, Standing)> {
    let mut found = Vec::new();
    if let Owner::Member(tenant) = mesh.world.tenants().owner(namespace.as_str())
        && let Some(defaults) = &tenant.spec.defaults
        && let Some(object) = object_ref(&tenant.object.value.key())
    {
        found.push((defaults, object, Standing::WorkspaceDefaults));
    }
    let settings = &mesh.settings;
    if let Some(defaults) = settings.spec.and_then(|spec| spec.defaults.as_ref())
        && let Some(object) = settings
            .object
            .and_then(|found| object_ref(&found.value.key()))
    {
        found.push((defaults, object, Standing::MeshDefaults));
    }
    found
}

fn retry_losses(sources: &[RetrySource<'_>]) -> Vec<Loss> {
    let contribution = |source: &RetrySource<'_>| Contribution {
        object: source.object.clone(),
        fields: retry_timeout::fields_of(&source.parts),
        for_everybody: source.callers.is_none(),
    };
    losses(&sources.iter().map(contribution).collect::<Vec<_>>())
}

fn failover_losses(sources: &[FailoverSource<'_>]) -> Vec<Loss> {
    let contribution = |source: &FailoverSource<'_>| Contribution {
        object: source.object.clone(),
        fields: source.parts.fields(),
        for_everybody: true,
    };
    losses(&sources.iter().map(contribution).collect::<Vec<_>>())
}

fn rate_losses(sources: &[RateSource<'_>]) -> Vec<Loss> {
    let contribution = |source: &RateSource<'_>| Contribution {
        object: source.object.clone(),
        fields: BTreeSet::from(["limits"]),
        for_everybody: true,
    };
    losses(&sources.iter().map(contribution).collect::<Vec<_>>())
}

fn fault_losses(sources: &[FaultSource]) -> Vec<Loss> {
    let contribution = |source: &FaultSource| Contribution {
        object: source.object.clone(),
        fields: fault::fields_of(&source.layer),
        for_everybody: source.layer.callers.is_none(),
    };
    losses(&sources.iter().map(contribution).collect::<Vec<_>>())
}

/// The layers that say something, in the order of the sources.
fn layers(sources: &[RetrySource<'_>]) -> Vec<Ranked> {
    let says = |source: &&RetrySource<'_>| !retry_timeout::fields_of(&source.parts).is_empty();
    let ranked = |source: &RetrySource<'_>| Ranked {
        rank: source.rank.clone(),
        layer: source.layer(),
    };
    sources.iter().filter(says).map(ranked).collect()
}

impl RetrySource<'_> {
    fn layer(&self) -> Layer {
        Layer {
            callers: self.callers.clone(),
            fields: retry_timeout::fields(&self.parts, &self.object),
        }
    }
}

/// The layer of a RetryTimeoutPolicy with its rank at a target of this closeness.
pub(crate) fn retry_layer(
    policy: &Placed<'_>,
    resolver: &Resolver<'_, '_>,
    closeness: Closeness,
) -> Option<Ranked> {
    let rank = policy.claim(resolver)?.rank(closeness);
    let source = retry_source(policy, rank)?;
    Some(Ranked {
        layer: source.layer(),
        rank: source.rank,
    })
}

fn row(
    mesh: &Mesh<'_>,
    address_of: &dyn Fn(&ServiceName) -> Option<IpAddr>,
    name: ServiceName,
    resilience: Vec<Layer>,
    sources: Sources<'_>,
) -> Option<ServiceRow> {
    let entry = mesh.index.services.get(&name)?;
    let candidates: Vec<Candidate<'_>> = sources
        .failovers
        .iter()
        .map(|source| Candidate {
            parts: source.parts,
            object: source.object.clone(),
            home: source.home.clone(),
        })
        .collect();
    let usable = |to: &ServiceName| *to != name && address_of(to).is_some();
    let failover = failover::resolve(&candidates, failover::distribution(entry), &usable);
    let rates = sources.rates.first();
    Some(ServiceRow {
        address: address_of(&name)?,
        ports: mesh.ports.get(&name)?.clone(),
        resilience,
        failover,
        // `limits` go whole: those of the first policy are all that hold.
        rate: rates.map(|source| rate_limit::limits(&source.object, source.spec)),
        faults: sources
            .faults
            .into_iter()
            .map(|found| found.layer)
            .collect(),
        name,
    })
}

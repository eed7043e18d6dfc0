//! Random rows of every table, every field of them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use tacit_model::access::{Action, Cidr, From, Mode, PathPattern, Rule, To};
use tacit_model::failover::{
    ClientOrder, Eject, Failback, Failover, Health, Probe, Signal, Spill, Step, WeightedPlace,
    WhenNoneHealthy,
};
use tacit_model::fault::{Abort, Delay, FaultLayer};
use tacit_model::labels::Labels;
use tacit_model::locality::{Part, Place};
use tacit_model::rate::{RateKey, RateLimit, RateLimits};
use tacit_model::resilience::{Backoff, Budget, Fields, Layer, RetryMethods, RetryOn, RetryWhen};
use tacit_model::tables::{
    AccessAttachment, AccessRow, AddressRange, ClassKey, ClassRow, DefaultAccess, Egress, Holds,
    Isolation, MeshRow, NamespaceRow, Protocol, PublishedPort, RunGrantRow, ServicePort,
    ServiceRow, TargetPort, Tenancy, WorkloadPort, WorkloadRow,
};
use tacit_model::{
    Locality, Namespace, ObjectRef, PolicyName, Provenance, Row, ServiceName, Sourced, WorkloadName,
};

pub(crate) fn text() -> impl Strategy<Value = Arc<str>> {
    "[a-zA-Z0-9 =;%/.*é-]{0,12}".prop_map(Into::into)
}

use crate::routes::route;

/// Few names, so that rows meet.
pub(crate) fn name<T>() -> impl Strategy<Value = T>
where
    T: for<'a> TryFrom<&'a str, Error = tacit_model::names::InvalidName> + std::fmt::Debug,
{
    prop::sample::select(vec!["a", "b", "c", "d-1", "e2"]).prop_map(|n| T::try_from(n).unwrap())
}

fn namespaced() -> impl Strategy<Value = (Namespace, tacit_model::Name)> {
    (name(), name())
}

pub(crate) fn service_name() -> impl Strategy<Value = ServiceName> {
    namespaced().prop_map(|(namespace, name)| ServiceName { namespace, name })
}

fn policy_name() -> impl Strategy<Value = PolicyName> {
    namespaced().prop_map(|(namespace, name)| PolicyName { namespace, name })
}

fn workload_name() -> impl Strategy<Value = WorkloadName> {
    namespaced().prop_map(|(namespace, name)| WorkloadName { namespace, name })
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<[u8; 4]>().prop_map(IpAddr::from),
        any::<[u8; 16]>().prop_map(IpAddr::from)
    ]
}

fn duration() -> impl Strategy<Value = Duration> {
    (any::<u64>(), 0..1_000_000_000_u32).prop_map(|(seconds, nanos)| Duration::new(seconds, nanos))
}

fn object_ref() -> impl Strategy<Value = ObjectRef> {
    (text(), option::of(name()), name()).prop_map(|(kind, namespace, name)| ObjectRef {
        kind,
        namespace,
        name,
    })
}

pub(crate) fn provenance() -> impl Strategy<Value = Provenance> {
    let field =
        (object_ref(), text()).prop_map(|(object, path)| Provenance::Field { object, path });
    prop_oneof![Just(Provenance::Default), field]
}

fn sourced<S: Strategy>(value: S) -> impl Strategy<Value = Sourced<S::Value>>
where
    S::Value: Clone + std::fmt::Debug,
{
    (value, provenance()).prop_map(|(value, from)| Sourced { value, from })
}

fn locality() -> impl Strategy<Value = Locality> {
    (text(), text(), text()).prop_map(|(cluster, region, zone)| Locality {
        cluster,
        region,
        zone,
    })
}

fn labels() -> impl Strategy<Value = Labels> {
    btree_map(text(), text(), 0..3).prop_map(Labels)
}

fn cidr() -> impl Strategy<Value = Cidr> {
    address().prop_flat_map(|network| {
        let longest = if network.is_ipv4() { 32_u8 } else { 128 };
        (0..=longest).prop_map(move |prefix| Cidr { network, prefix })
    })
}

fn from() -> impl Strategy<Value = From> {
    (
        option::of(btree_set(name(), 0..3)),
        option::of(btree_set((name(), name()), 0..3)),
        option::of(btree_set(name(), 0..3)),
        option::of(name()),
        option::of(btree_set(cidr(), 0..3)),
        btree_set(cidr(), 0..2),
        any::<bool>(),
    )
        .prop_map(
            |(
                namespaces,
                service_accounts,
                workspaces,
                trust_domain,
                cidrs,
                except,
                unauthenticated,
            )| From {
                namespaces,
                service_accounts,
                workspaces,
                trust_domain,
                cidrs,
                except,
                unauthenticated,
            },
        )
}

fn to() -> impl Strategy<Value = To> {
    let path = prop_oneof![
        text().prop_map(PathPattern::Exact),
        text().prop_map(PathPattern::Prefix)
    ];
    (
        option::of(btree_set(any::<u16>(), 0..3)),
        option::of(btree_set(text(), 0..3)),
        option::of(btree_set(path, 0..3)),
        option::of(btree_set(text(), 0..3)),
    )
        .prop_map(|(ports, methods, paths, hosts)| To {
            ports,
            methods,
            paths,
            hosts,
        })
}

fn access() -> impl Strategy<Value = AccessRow> {
    let rule = (vec(from(), 0..3), vec(to(), 0..3), text()).prop_map(|(from, to, path)| Rule {
        from,
        to,
        path,
    });
    (
        policy_name(),
        prop::sample::select(vec![Action::Allow, Action::Deny]),
        prop::sample::select(vec![Mode::Audit, Mode::Enforce]),
        vec(rule, 0..3),
        option::of(text()),
    )
        .prop_map(|(name, action, mode, rules, broken)| AccessRow {
            name,
            action,
            mode,
            rules,
            broken,
        })
}

fn mesh() -> impl Strategy<Value = MeshRow> {
    let default_access = vec![DefaultAccess::Authenticated, DefaultAccess::Deny];
    (
        name(),
        text(),
        sourced(prop::sample::select(default_access)),
        sourced(prop::sample::select(vec![Egress::Allow, Egress::Deny])),
        duration(),
        duration(),
        name(),
        vec(address_range(), 0..3),
    )
        .prop_map(
            |(
                trust_domain,
                cluster,
                default_access,
                egress,
                certificate_lifetime,
                max_offline,
                root_namespace,
                addresses,
            )| MeshRow {
                trust_domain,
                cluster,
                default_access,
                egress,
                certificate_lifetime,
                max_offline,
                root_namespace,
                addresses,
            },
        )
}

fn address_range() -> impl Strategy<Value = AddressRange> {
    let holds = prop::sample::select(vec![Holds::Services, Holds::Workloads]);
    (holds, sourced(cidr())).prop_map(|(holds, range)| AddressRange { holds, range })
}

fn namespace() -> impl Strategy<Value = NamespaceRow> {
    let importers = btree_map(name(), btree_set(service_name(), 0..3), 0..3);
    let isolation =
        (importers, provenance()).prop_map(|(importers, from)| Isolation { importers, from });
    let tenancy = prop_oneof![
        Just(Tenancy::Unclaimed),
        vec(name(), 0..3).prop_map(Tenancy::Contested),
        (name(), option::of(isolation)).prop_map(|(workspace, isolation)| Tenancy::Member {
            workspace,
            isolation
        }),
    ];
    (name(), tenancy).prop_map(|(namespace, tenancy)| NamespaceRow { namespace, tenancy })
}

fn class_key() -> impl Strategy<Value = ClassKey> {
    (name(), labels(), name()).prop_map(|(namespace, labels, service_account)| ClassKey {
        namespace,
        labels,
        service_account,
    })
}

fn class() -> impl Strategy<Value = ClassRow> {
    let attachment = (policy_name(), option::of(service_name()))
        .prop_map(|(policy, through)| AccessAttachment { policy, through });
    (
        class_key(),
        btree_set(service_name(), 0..3),
        vec(attachment, 0..3),
    )
        .prop_map(|(key, services, access)| ClassRow {
            key: Arc::new(key),
            services: services.into_iter().collect(),
            access,
        })
}

fn protocol() -> impl Strategy<Value = Protocol> {
    prop::sample::select(vec![Protocol::Http, Protocol::Tcp])
}

fn workload() -> impl Strategy<Value = WorkloadRow> {
    let port = (text(), any::<u16>(), protocol()).prop_map(|(name, port, protocol)| WorkloadPort {
        name,
        port,
        protocol,
    });
    let published =
        (address(), any::<u16>(), any::<u16>()).prop_map(|(ip, port, target)| PublishedPort {
            at: SocketAddr::new(ip, port),
            target,
        });
    (
        workload_name(),
        class_key(),
        address(),
        name(),
        locality(),
        (vec(port, 0..3), vec(published, 0..3)),
        btree_set(any::<u16>(), 0..3),
        option::of(any::<u32>()),
        vec(text(), 0..3),
    )
        .prop_map(
            |(name, class, address, node, locality, ports, ready, capacity, command)| WorkloadRow {
                published: ports.1,
                name,
                class: Arc::new(class),
                address,
                node,
                locality,
                ports: ports.0.into(),
                ready,
                capacity,
                command,
            },
        )
}

pub(crate) fn layer() -> impl Strategy<Value = Layer> {
    let on = prop::sample::select(vec![
        RetryOn::ConnectFailure,
        RetryOn::DeadlineExceeded,
        RetryOn::GatewayError,
        RetryOn::RefusedStream,
        RetryOn::Reset,
        RetryOn::ServerError,
    ]);
    let when = (btree_set(on, 0..4), btree_set(any::<u16>(), 0..3))
        .prop_map(|(on, codes)| RetryWhen { on, codes });
    let methods =
        (any::<bool>(), option::of(btree_set(text(), 0..3))).prop_map(|(non_idempotent, only)| {
            RetryMethods {
                non_idempotent,
                only,
            }
        });
    let backoff = (duration(), duration()).prop_map(|(base, max)| Backoff { base, max });
    let budget = (any::<u32>(), duration(), any::<u32>()).prop_map(
        |(retry_percent, interval, min_per_second)| Budget {
            retry_percent,
            interval,
            min_per_second,
        },
    );
    let times = [(); 4].map(|()| option::of(sourced(duration())));
    let rest = (
        option::of(sourced(any::<u32>())),
        option::of(sourced(when)),
        option::of(sourced(methods)),
        option::of(sourced(backoff)),
        option::of(sourced(budget)),
        option::of(sourced(any::<u64>())),
    );
    (option::of(vec(from(), 0..2)), times, rest).prop_map(
        |(
            callers,
            [request, per_try, idle, connect],
            (attempts, when, methods, backoff, budget, max_body),
        )| Layer {
            callers,
            fields: Fields {
                request,
                per_try,
                idle,
                connect,
                attempts,
                when,
                methods,
                backoff,
                budget,
                max_body,
            },
        },
    )
}

fn place() -> impl Strategy<Value = Place> {
    let part = || option::of(prop_oneof![Just(Part::Same), text().prop_map(Part::Named)]);
    (part(), part(), part()).prop_map(|(cluster, region, zone)| Place {
        cluster,
        region,
        zone,
    })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let weighted =
        (place(), any::<u32>()).prop_map(|(place, weight)| WeightedPlace { place, weight });
    let step = prop_oneof![
        vec(weighted, 0..3).prop_map(Step::Places),
        service_name().prop_map(Step::Service)
    ];
    vec(step, 0..3)
}

fn health() -> impl Strategy<Value = Health> {
    let signal = prop::sample::select(vec![
        Signal::Connect,
        Signal::GatewayError,
        Signal::Readiness,
        Signal::ServerError,
        Signal::Session,
        Signal::Timeout,
    ]);
    let eject = (any::<u32>(), duration(), duration(), any::<u32>()).prop_map(
        |(consecutive, within, duration, max_percent)| Eject {
            consecutive,
            within,
            duration,
            max_percent,
        },
    );
    let probe = (text(), duration()).prop_map(|(path, interval)| Probe { path, interval });
    (
        btree_set(signal, 0..4),
        option::of(eject),
        option::of(probe),
    )
        .prop_map(|(signals, eject, probe)| Health {
            signals,
            eject,
            probe,
        })
}

fn failover() -> impl Strategy<Value = Failover> {
    let order = (place(), steps()).prop_map(|(clients, steps)| ClientOrder { clients, steps });
    let spill = (any::<u32>(), duration()).prop_map(|(below_percent, ramp)| Spill {
        below_percent,
        ramp,
    });
    let failback = (duration(), duration()).prop_map(|(after, ramp)| Failback { after, ramp });
    let none_healthy = prop::sample::select(vec![WhenNoneHealthy::Any, WhenNoneHealthy::Fail]);
    (
        sourced(steps()),
        vec(order, 0..3),
        sourced(health()),
        sourced(spill),
        sourced(failback),
        sourced(none_healthy),
    )
        .prop_map(
            |(order, orders, health, spill, failback, when_none_healthy)| Failover {
                order,
                orders,
                health,
                spill,
                failback,
                when_none_healthy,
            },
        )
}

fn service() -> impl Strategy<Value = ServiceRow> {
    let target = prop_oneof![
        text().prop_map(TargetPort::Named),
        any::<u16>().prop_map(TargetPort::Number)
    ];
    let port =
        (text(), any::<u16>(), target, protocol()).prop_map(|(name, port, target, protocol)| {
            ServicePort {
                name,
                port,
                target,
                protocol,
            }
        });
    (
        service_name(),
        address(),
        vec(port, 0..3),
        vec(layer(), 0..2),
        option::of(failover()),
        option::of(rate()),
        vec(fault(), 0..3),
    )
        .prop_map(
            |(name, address, ports, resilience, failover, rate, faults)| ServiceRow {
                name,
                address,
                ports,
                resilience,
                failover,
                rate,
                faults,
            },
        )
}

fn fault() -> impl Strategy<Value = FaultLayer> {
    let delay = (duration(), 0..=100_u32).prop_map(|(time, share_percent)| Delay {
        time,
        share_percent,
    });
    let abort = (400..=599_u16, 0..=100_u32).prop_map(|(status, share_percent)| Abort {
        status,
        share_percent,
    });
    (
        option::of(vec(from(), 0..3)),
        any::<u64>(),
        option::of(sourced(delay)),
        option::of(sourced(abort)),
    )
        .prop_map(|(callers, until, delay, abort)| FaultLayer {
            callers,
            until,
            delay,
            abort,
        })
}

fn rate() -> impl Strategy<Value = RateLimits> {
    let count = || (1..u32::MAX).prop_map(|count| NonZeroU32::new(count).unwrap());
    let key = prop_oneof![Just(RateKey::Identity), text().prop_map(RateKey::Header)];
    let limit = (count(), duration(), count(), vec(key, 0..3));
    let limit = limit.prop_map(|(requests, per, burst, key)| RateLimit {
        requests,
        per,
        burst,
        key,
    });
    (object_ref(), vec(limit, 1..3)).prop_map(|(policy, limits)| RateLimits { policy, limits })
}

fn run_grant() -> impl Strategy<Value = RunGrantRow> {
    (
        name(),
        any::<u32>(),
        btree_set(any::<u32>(), 0..3),
        btree_set(any::<u32>(), 0..3),
        btree_set(name(), 0..3),
        option::of(any::<u64>()),
        any::<bool>(),
    )
        .prop_map(
            |(workspace, index, uids, gids, namespaces, until, everyone)| RunGrantRow {
                workspace,
                index,
                uids,
                gids,
                everyone,
                namespaces,
                until,
            },
        )
}

/// Any row of any table.
pub(crate) fn row() -> impl Strategy<Value = Row> {
    prop_oneof![
        access().prop_map(|row| Row::Access(Arc::new(row))),
        class().prop_map(|row| Row::Class(Arc::new(row))),
        mesh().prop_map(|row| Row::Mesh(Arc::new(row))),
        namespace().prop_map(|row| Row::Namespace(Arc::new(row))),
        route().prop_map(|row| Row::Route(Arc::new(row))),
        run_grant().prop_map(|row| Row::RunGrant(Arc::new(row))),
        service().prop_map(|row| Row::Service(Arc::new(row))),
        workload().prop_map(|row| Row::Workload(Arc::new(row))),
    ]
}

/// Rows that refer to nothing, so that any set of them with a Mesh is closed: at most one of each
/// key. Addresses of services follow from their names, so that no two claim one.
pub(crate) fn loose_rows() -> impl Strategy<Value = BTreeMap<tacit_model::RowKey, Row>> {
    let service = (service(), any::<bool>()).prop_map(|(mut row, _)| {
        let [a, b] = [&row.name.namespace.to_string(), &row.name.name.to_string()].map(|text| {
            text.bytes()
                .fold(0_u8, |sum, byte| sum.wrapping_mul(31) ^ byte)
        });
        row.address = IpAddr::from([240, 96, a, b]);
        Row::Service(Arc::new(row))
    });
    let other = prop_oneof![
        access().prop_map(|row| Row::Access(Arc::new(row))),
        namespace().prop_map(|row| Row::Namespace(Arc::new(row))),
        run_grant().prop_map(|row| Row::RunGrant(Arc::new(row))),
        service,
    ];
    (mesh(), vec(other, 0..12)).prop_map(|(mesh, rows)| {
        let rows = rows.into_iter().chain([Row::Mesh(Arc::new(mesh))]);
        rows.map(|row| (row.key(), row)).collect()
    })
}

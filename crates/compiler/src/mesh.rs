//! The Mesh object as the planes and the other modules need it, with its defaults.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use tacit_api::mesh::{self, MeshSpec};
use tacit_api::{Located, Object};
use tacit_model::access::Cidr;
use tacit_model::finding::Finding;
use tacit_model::tables::{AddressRange, DefaultAccess, Egress, Holds, MeshRow};
use tacit_model::{Namespace, Provenance, Sourced, TrustDomain};

use crate::Ranges;
use crate::delta::NodeFact;
use crate::findings::{
    ADDRESS_RANGE, BAD_NAME, BAD_TEXT, CONTRADICTION, OUT_OF_RANGE, Report, object_ref,
};
use crate::values::cidr;
use crate::workspace::{DEFAULT_CLUSTER, DEFAULT_ROOT_NAMESPACE};
use crate::{failover, retry_timeout};

const DEFAULT_TRUST_DOMAIN: &str = "cluster.local";
const DEFAULT_LIFETIME: Duration = Duration::from_secs(24 * 3600);
const DEFAULT_MAX_OFFLINE: Duration = Duration::from_secs(12 * 3600);

/// Certificates live at least this long: renewal at half of it, with repetitions, needs a minute.
const LEAST_LIFETIME: Duration = Duration::from_secs(60);
/// And at most this long: a stolen key must not be good for longer.
const LONGEST_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);

/// The settings of the mesh.
#[derive(Clone, Debug)]
pub(crate) struct Settings<'a> {
    pub(crate) row: MeshRow,
    pub(crate) ranges: Ranges,
    /// Zone → region.
    pub(crate) regions: BTreeMap<&'a str, &'a str>,
    pub(crate) object: Option<&'a Located<Object>>,
    pub(crate) spec: Option<&'a MeshSpec>,
}

/// The settings from the Mesh object in force, if there is one. The subnets of `nodes` are the
/// mesh's own addresses too, also those from an earlier range.
pub(crate) fn settings<'a>(
    object: Option<&'a Located<Object>>,
    nodes: impl Iterator<Item = &'a NodeFact>,
) -> Option<Settings<'a>> {
    let spec = match object.map(|object| &object.value) {
        Some(Object::Mesh(mesh)) => Some(&mesh.spec),
        Some(_) | None => None,
    };
    let ranges = ranges(spec);
    let mut row = row(object, spec)?;
    row.addresses = addresses(object, spec, ranges, nodes);
    Some(Settings {
        row,
        ranges,
        regions: regions(spec),
        object,
        spec,
    })
}

impl<'a> Settings<'a> {
    /// The settings that a compilation has found before, with the Mesh that was in force.
    pub(crate) fn again(row: &MeshRow, object: Option<&'a Located<Object>>) -> Self {
        let spec = match object.map(|object| &object.value) {
            Some(Object::Mesh(mesh)) => Some(&mesh.spec),
            Some(_) | None => None,
        };
        Self {
            row: row.clone(),
            ranges: ranges(spec),
            regions: regions(spec),
            object,
            spec,
        }
    }
}

impl Settings<'_> {
    /// True for an address that counts as the mesh's own, whether or not somebody has it.
    pub(crate) fn owns(&self, address: IpAddr) -> bool {
        let mut ranges = self.row.addresses.iter();
        ranges.any(|range| range.range.value.contains(address))
    }
}

fn field(object: Option<&Located<Object>>, path: &str) -> Provenance {
    let object = object.and_then(|object| object_ref(&object.value.key()));
    object.map_or(Provenance::Default, |object| Provenance::Field {
        object,
        path: path.into(),
    })
}

fn row(object: Option<&Located<Object>>, spec: Option<&MeshSpec>) -> Option<MeshRow> {
    let sourced = |path: &str| field(object, path);
    let text = |field: Option<&String>, default: &'static str| {
        field.map_or(default, String::as_str).to_owned()
    };
    let access = spec
        .and_then(|spec| spec.default_access)
        .map(|access| Sourced {
            value: match access {
                mesh::DefaultAccess::Authenticated => DefaultAccess::Authenticated,
                mesh::DefaultAccess::Deny => DefaultAccess::Deny,
            },
            from: sourced("spec.defaultAccess"),
        });
    let egress = spec.and_then(|spec| spec.egress).map(|egress| Sourced {
        value: match egress {
            mesh::Egress::Allow => Egress::Allow,
            mesh::Egress::Deny => Egress::Deny,
        },
        from: sourced("spec.egress"),
    });
    let (lifetime, max_offline) = spec.map_or((DEFAULT_LIFETIME, DEFAULT_MAX_OFFLINE), times);
    let trust_domain = text(
        spec.and_then(|s| s.trust_domain.as_ref()),
        DEFAULT_TRUST_DOMAIN,
    );
    let root = text(
        spec.and_then(|s| s.root_namespace.as_ref()),
        DEFAULT_ROOT_NAMESPACE,
    );
    let cluster = text(spec.and_then(|s| s.cluster.as_ref()), DEFAULT_CLUSTER);
    Some(MeshRow {
        trust_domain: trust_domain.try_into().ok()?,
        cluster: cluster.as_str().into(),
        default_access: access.unwrap_or_else(|| Sourced::default_of(DefaultAccess::Authenticated)),
        egress: egress.unwrap_or_else(|| Sourced::default_of(Egress::Allow)),
        certificate_lifetime: lifetime,
        max_offline,
        root_namespace: root.try_into().ok()?,
        addresses: Vec::new(),
    })
}

/// The two ranges, and the subnets of nodes that lie in neither.
fn addresses<'a>(
    object: Option<&Located<Object>>,
    spec: Option<&MeshSpec>,
    ranges: Ranges,
    nodes: impl Iterator<Item = &'a NodeFact>,
) -> Vec<AddressRange> {
    let said = |is_said: bool, path: &str| match is_said {
        true => field(object, path),
        false => Provenance::Default,
    };
    let services = spec.is_some_and(|spec| spec.service_addresses.is_some());
    let workloads = spec.is_some_and(|spec| spec.workload_addresses.is_some());
    let range = |holds, value, from| AddressRange {
        holds,
        range: Sourced { value, from },
    };
    let services = said(services, "spec.serviceAddresses.ipv4");
    let workloads = said(workloads, "spec.workloadAddresses.ipv4");
    let subnets: BTreeSet<Cidr> = nodes.filter_map(|node| node.subnet).collect();
    let earlier = subnets
        .into_iter()
        .filter(|subnet| !ranges.workloads.contains(subnet.network))
        .map(|subnet| range(Holds::Workloads, subnet, workloads.clone()));
    [
        range(Holds::Services, ranges.services, services),
        range(Holds::Workloads, ranges.workloads, workloads.clone()),
    ]
    .into_iter()
    .chain(earlier)
    .collect()
}

/// Lifetime of certificates and `maxOffline`, which is half of it at most.
fn times(spec: &MeshSpec) -> (Duration, Duration) {
    let lifetime = spec
        .certificates
        .as_ref()
        .and_then(|found| found.lifetime.as_ref());
    let lifetime = lifetime.map_or(DEFAULT_LIFETIME, |found| found.duration());
    let default = DEFAULT_MAX_OFFLINE.min(lifetime / 2);
    (
        lifetime,
        spec.max_offline
            .as_ref()
            .map_or(default, |found| found.duration()),
    )
}

fn ranges(spec: Option<&MeshSpec>) -> Ranges {
    let services = spec.and_then(|s| s.service_addresses.as_ref()?.ipv4.as_deref());
    let workloads = spec.and_then(|s| s.workload_addresses.as_ref()?.ipv4.as_deref());
    let read = |text: Option<&str>, default: [u8; 4]| {
        let default = Cidr {
            network: IpAddr::V4(Ipv4Addr::from(default)),
            prefix: 12,
        };
        text.and_then(|text| cidr(text).ok()).unwrap_or(default)
    };
    Ranges {
        services: read(services, [240, 96, 0, 0]),
        workloads: read(workloads, [10, 96, 0, 0]),
    }
}

fn regions(spec: Option<&MeshSpec>) -> BTreeMap<&str, &str> {
    let localities = spec
        .and_then(|spec| spec.localities.as_deref())
        .unwrap_or_default();
    let pairs = localities.iter().flat_map(|region| {
        region
            .zones
            .iter()
            .map(|zone| (zone.as_str(), region.region.as_str()))
    });
    pairs.collect()
}

/// Checks a Mesh by itself.
pub(crate) fn validate(object: &Located<Object>, spec: &MeshSpec) -> Vec<Finding> {
    let mut report = Report::new(object);
    let names = [
        (
            "spec.trustDomain",
            spec.trust_domain
                .as_deref()
                .map(|t| TrustDomain::try_from(t).err()),
        ),
        (
            "spec.rootNamespace",
            spec.root_namespace
                .as_deref()
                .map(|t| Namespace::try_from(t).err()),
        ),
        (
            "spec.cluster",
            spec.cluster
                .as_deref()
                .map(|t| Namespace::try_from(t).err()),
        ),
    ];
    for (field, error) in names {
        if let Some(error) = error.flatten() {
            report.say(BAD_NAME, field, error.to_string());
        }
    }
    if spec.cluster.as_deref() == Some("same") {
        report.say(
            BAD_NAME,
            "spec.cluster",
            "`same` means the place of the client in policies",
        );
    }
    let ranges = [
        (
            "spec.serviceAddresses.ipv4",
            spec.service_addresses
                .as_ref()
                .and_then(|r| r.ipv4.as_ref()),
        ),
        (
            "spec.workloadAddresses.ipv4",
            spec.workload_addresses
                .as_ref()
                .and_then(|r| r.ipv4.as_ref()),
        ),
    ];
    let mut read = Vec::new();
    for (field, text) in ranges {
        read.extend(text.and_then(|text| range(&mut report, field, text)));
    }
    overlap(&mut report, spec);
    subjects(&mut report, spec);
    check_times(&mut report, spec);
    localities(&mut report, spec);
    if let Some(defaults) = &spec.defaults {
        retry_timeout::validate_defaults(&mut report, defaults);
        failover::validate_defaults(&mut report, defaults);
    }
    report.findings
}

/// Groups of the mesh's own are not given to anybody.
fn subjects(report: &mut Report<'_>, spec: &MeshSpec) {
    for (index, subject) in spec.subjects.iter().flatten().enumerate() {
        for (group, name) in subject.groups.iter().flatten().enumerate() {
            if name.starts_with(crate::grants::BUILT_IN) {
                let field = format!("spec.subjects[{index}].groups[{group}]");
                let message = format!("{name:?} is a name for groups that the mesh makes itself");
                report.add(
                    BAD_NAME,
                    &field,
                    message,
                    Some("choose another name".into()),
                );
            }
        }
    }
}

/// Reads a range of addresses to give away: IPv4, and neither tiny nor everything.
fn range(report: &mut Report<'_>, field: &str, text: &str) -> Option<Cidr> {
    let found = match cidr(text) {
        Ok(found) => found,
        Err(message) => {
            report.say(BAD_TEXT, field, message);
            return None;
        }
    };
    if !found.network.is_ipv4() || !(8..=24).contains(&found.prefix) {
        let message = format!("{text} is no IPv4 range of /8 to /24");
        let fix = "choose a range such as 240.96.0.0/12".to_owned();
        report.add(ADDRESS_RANGE, field, message, Some(fix));
    }
    Some(found)
}

fn overlap(report: &mut Report<'_>, spec: &MeshSpec) {
    let Ranges {
        services,
        workloads,
    } = ranges(Some(spec));
    if services.contains(workloads.network) || workloads.contains(services.network) {
        let message = "addresses of services and workloads overlap";
        let field = if spec.workload_addresses.is_some() {
            "spec.workloadAddresses"
        } else {
            "spec.serviceAddresses"
        };
        report.say(CONTRADICTION, field, message);
    }
}

fn check_times(report: &mut Report<'_>, spec: &MeshSpec) {
    let (lifetime, max_offline) = times(spec);
    if !(LEAST_LIFETIME..=LONGEST_LIFETIME).contains(&lifetime) {
        let message = "certificates live between 60s and 720h";
        report.say(OUT_OF_RANGE, "spec.certificates.lifetime", message);
    }
    if max_offline > lifetime / 2 {
        let message = format!(
            "maxOffline ({}s) is more than half of the certificates' lifetime ({}s)",
            max_offline.as_secs(),
            lifetime.as_secs()
        );
        let fix = format!(
            "choose at most {}s, or a longer lifetime",
            lifetime.as_secs() / 2
        );
        report.add(CONTRADICTION, "spec.maxOffline", message, Some(fix));
    }
    if max_offline.is_zero() {
        let message = "a node that may not be offline at all never serves";
        report.say(OUT_OF_RANGE, "spec.maxOffline", message);
    }
}

fn localities(report: &mut Report<'_>, spec: &MeshSpec) {
    let mut zones: BTreeMap<&str, &str> = BTreeMap::new();
    let mut seen: BTreeSet<Arc<str>> = BTreeSet::new();
    for (index, region) in spec.localities.iter().flatten().enumerate() {
        let at = format!("spec.localities[{index}]");
        if region.region.is_empty() || region.region == "same" {
            let message = format!("{:?} cannot be the name of a region", region.region);
            report.say(BAD_NAME, &format!("{at}.region"), message);
        }
        if !seen.insert(region.region.as_str().into()) {
            let message = format!("region {} is listed twice", region.region);
            report.say(CONTRADICTION, &format!("{at}.region"), message);
        }
        for (position, zone) in region.zones.iter().enumerate() {
            let field = format!("{at}.zones[{position}]");
            if zone.is_empty() || zone == "same" {
                let message = format!("{zone:?} cannot be the name of a zone");
                report.say(BAD_NAME, &field, message);
            }
            if let Some(other) = zones.insert(zone, &region.region) {
                let message = format!("zone {zone} is also in region {other}");
                report.say(CONTRADICTION, &field, message);
            }
        }
    }
}

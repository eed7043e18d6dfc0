//! Stand-ins for workloads that are not in the files: what `tacit run` or a Deployment starts.
//!
//! Who may call a service is mostly said about the Service, its namespace or the whole mesh, and
//! can be answered without its workloads. A stand-in has the labels that the Service selects and
//! nothing else, so the answer holds for every workload of the Service, unless a policy looks at
//! something that only the real one would say. Then there is no answer, and the reason is told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tacit_api::object::Metadata;
use tacit_api::policy::TargetSelector;
use tacit_api::values::PortRef;
use tacit_api::workload::WorkloadPort;
use tacit_api::{Located, Object, Parsed, Positions, Service, Source, Workload, WorkloadSpec};
use tacit_model::{ObjectRef, ServiceName, Snapshot};

use crate::compiled::has_no_workload;

/// The file that stand-ins are written in.
pub(crate) const FILE: &str = "<assumed>";
const NODE: &str = "assumed";

/// A second state, for the questions that the first has no workloads for.
#[derive(Debug, Default)]
pub(crate) struct Assumed {
    snapshot: Option<Snapshot>,
    /// Why nothing can be said of a service.
    unknown: BTreeMap<ServiceName, String>,
}

impl Assumed {
    pub(crate) fn new(
        s: &Snapshot,
        with: Snapshot,
        objects: &BTreeMap<ObjectRef, Located<Object>>,
    ) -> Self {
        let services = without_workloads(s, objects);
        let unknown = services.into_iter().filter_map(|(name, service)| {
            let why = undecided(&name, service, objects)?;
            Some((name, why))
        });
        Self {
            unknown: unknown.collect(),
            snapshot: Some(with),
        }
    }

    /// A state in which the service has a workload, or why there is none to speak of.
    pub(crate) fn of(&self, service: &ServiceName) -> Result<&Snapshot, String> {
        if let Some(why) = self.unknown.get(service) {
            return Err(why.clone());
        }
        let snapshot = self.snapshot.as_ref();
        snapshot
            .filter(|s| !has_no_workload(s, service))
            .ok_or_else(|| format!("no Workload in the files is behind service {service}"))
    }
}

/// One stand-in for each service without workloads.
pub(crate) fn workloads(s: &Snapshot, objects: &BTreeMap<ObjectRef, Located<Object>>) -> Parsed {
    let services = without_workloads(s, objects);
    let located = |(name, service): (ServiceName, &Service)| Located {
        value: Object::Workload(workload(&name, service)),
        positions: Arc::new(Positions::default()),
        source: Source {
            file: FILE.into(),
            first_line: 1,
            text: "".into(),
        },
    };
    Parsed {
        objects: services.into_iter().map(located).collect(),
        ..Parsed::default()
    }
}

/// The services in force that select workloads and have none.
fn without_workloads<'a>(
    s: &Snapshot,
    objects: &'a BTreeMap<ObjectRef, Located<Object>>,
) -> Vec<(ServiceName, &'a Service)> {
    let services = objects.values().filter_map(|object| {
        let Object::Service(service) = &object.value else {
            return None;
        };
        let namespace = service.metadata.namespace.as_deref()?;
        let name = ServiceName::parse(namespace, &service.metadata.name).ok()?;
        let selects = service
            .spec
            .selector
            .as_ref()
            .is_some_and(|s| !s.is_empty());
        let is_bare = s.services.contains_key(&name) && has_no_workload(s, &name);
        (selects && is_bare).then_some((name, service))
    });
    services.collect()
}

fn workload(name: &ServiceName, service: &Service) -> Workload {
    let ports = service.spec.ports.iter().flatten();
    let named = ports.filter_map(|port| match &port.target_port {
        Some(PortRef::Name(target)) => Some(WorkloadPort {
            name: Some(target.clone()),
            port: port.port,
            app_protocol: port.app_protocol.clone(),
        }),
        Some(PortRef::Number(_)) | None => None,
    });
    let named: Vec<WorkloadPort> = named.collect();
    Workload {
        metadata: Metadata {
            name: format!("assumed-{}", name.name),
            namespace: Some(name.namespace.as_str().to_owned()),
            labels: service.spec.selector.clone().unwrap_or_default(),
            annotations: BTreeMap::new(),
        },
        spec: WorkloadSpec {
            service_account: name.name.as_str().to_owned(),
            node: NODE.to_owned(),
            locality: None,
            address: None,
            ports: (!named.is_empty()).then_some(named),
            capacity: None,
            command: None,
        },
    }
}

/// Why access to a service depends on more than its stand-in can say.
fn undecided(
    name: &ServiceName,
    service: &Service,
    objects: &BTreeMap<ObjectRef, Located<Object>>,
) -> Option<String> {
    let labels = service.spec.selector.clone().unwrap_or_default();
    let mut ports = service.spec.ports.iter().flatten();
    let has_named = ports.any(|port| matches!(port.target_port, Some(PortRef::Name(_))));
    objects.iter().find_map(|(object, located)| {
        let Object::AccessPolicy(policy) = &located.value else {
            return None;
        };
        let own = policy.metadata.namespace.as_deref().unwrap_or_default();
        let selectors = policy.spec.target_selectors.iter().flatten();
        let mut open = selectors.filter(|s| may_select(s, own, name, &labels));
        if open.next().is_some() {
            return Some(format!(
                "no Workload in the files is behind service {name}, and whether {object} applies \
                 depends on labels of its workloads that the Service does not select by"
            ));
        }
        let rules = policy.spec.rules.iter().flatten();
        let mut to = rules.flat_map(|rule| rule.to.iter().flatten());
        (has_named && to.any(|to| to.ports.is_some())).then(|| {
            format!(
                "no Workload in the files is behind service {name}, and {object} names ports \
                 while the Service's targetPort is a name"
            )
        })
    })
}

/// True if a selector of workloads fits some workloads of the service and not others.
fn may_select(
    selector: &TargetSelector,
    own: &str,
    service: &ServiceName,
    known: &BTreeMap<String, String>,
) -> bool {
    if selector.kind == "Service" {
        return false;
    }
    let here = service.namespace.as_str();
    let namespaces: Option<BTreeSet<&str>> = selector
        .namespaces
        .as_ref()
        .map(|names| names.iter().map(String::as_str).collect());
    let in_scope = selector.all_namespaces == Some(true)
        || namespaces.map_or(own == here, |names| names.contains(here));
    let wanted = &selector.match_labels;
    let contradicts = wanted
        .iter()
        .any(|(key, value)| known.get(key).is_some_and(|own| own != value));
    let all_known = wanted.keys().all(|key| known.contains_key(key));
    in_scope && !contradicts && !all_known
}

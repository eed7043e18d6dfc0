//! Files as one compiled state, with the lines that its values come from.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;
use tacit_api::{Located, MeshSpec, Object, Parsed};
use tacit_compiler::{InputDelta, compile_files};
use tacit_model::finding::{Finding, Position, Severity};
use tacit_model::snapshot::NotClosed;
use tacit_model::status::ObjectStatus;
use tacit_model::{
    Generation, Locality, ObjectRef, Provenance, ServiceName, Snapshot, WorkloadName,
};

use crate::assumed::{self, Assumed};

/// A mesh as files describe it, with every declared workload running: its ports that are behind
/// a service accept connections.
#[derive(Debug)]
pub struct Compiled {
    /// What decisions read.
    pub snapshot: Snapshot,
    /// All findings about the files.
    pub findings: Vec<Finding>,
    /// The statuses of all objects.
    pub statuses: Vec<ObjectStatus>,
    /// What stands in for the workloads of services that have none in the files.
    pub(crate) assumed: Assumed,
    objects: BTreeMap<ObjectRef, Located<Object>>,
}

/// A line of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Where it is.
    pub position: Position,
    /// What stands there.
    pub text: Option<String>,
}

impl Compiled {
    /// Compiles files; `now` is in unix seconds. Problems of the files are in `findings`.
    ///
    /// # Errors
    ///
    /// The compiler never makes tables that are not closed.
    pub fn of_files(files: &[(Arc<str>, Parsed)], now: i64) -> Result<Self, NotClosed> {
        let parts = compile(files, now)?;
        let (snapshot, objects) = (parts.snapshot, parts.objects);
        let extra = assumed::workloads(&snapshot, &objects);
        let assumed = if extra.objects.is_empty() {
            Assumed::default()
        } else {
            let name: Arc<str> = assumed::FILE.into();
            let mut all = files.to_vec();
            all.push((name, extra));
            Assumed::new(&snapshot, compile(&all, now)?.snapshot, &objects)
        };
        Ok(Self {
            snapshot,
            findings: parts.findings,
            statuses: parts.statuses,
            assumed,
            objects,
        })
    }

    /// The findings that are errors.
    pub fn errors(&self) -> impl Iterator<Item = &Finding> {
        let is_error = |finding: &&Finding| finding.severity == Severity::Error;
        self.findings.iter().filter(is_error)
    }

    /// Where a value is written.
    #[must_use]
    pub fn line(&self, from: &Provenance) -> Option<Line> {
        let Provenance::Field { object, path } = from else {
            return None;
        };
        let (position, text) = self.objects.get(object)?.find(path);
        Some(Line {
            position: position_of(position),
            text,
        })
    }

    /// The localities that the Mesh lists, in the order in which they are written.
    pub(crate) fn listed(&self) -> Vec<Locality> {
        let cluster = &self.snapshot.mesh.cluster;
        let regions = self.mesh_spec().and_then(|spec| spec.localities.as_deref());
        let regions = regions.unwrap_or_default().iter();
        let zones = regions.flat_map(|region| region.zones.iter().map(move |zone| (zone, region)));
        let locality = |(zone, region): (&String, &tacit_api::mesh::RegionZones)| Locality {
            cluster: cluster.clone(),
            region: region.region.as_str().into(),
            zone: zone.as_str().into(),
        };
        zones.map(locality).collect()
    }

    /// Every locality that the Mesh lists or a workload is at.
    pub(crate) fn localities(&self) -> BTreeSet<Locality> {
        let rows = self.snapshot.workloads.values();
        let mut all: BTreeSet<Locality> = rows.map(|row| row.locality.clone()).collect();
        all.extend(self.listed());
        all
    }

    /// True if the objects are the same that say who may call whom.
    pub(crate) fn says_the_same_of_access(&self, other: &Self) -> bool {
        fn of(state: &Compiled) -> Vec<&Object> {
            let objects = state.objects.values().map(|object| &object.value);
            let matters = |object: &&Object| match object {
                Object::AccessPolicy(_)
                | Object::Mesh(_)
                | Object::Service(_)
                | Object::Workspace(_) => true,
                Object::FailoverPolicy(_)
                | Object::FaultPolicy(_)
                | Object::GRPCRoute(_)
                | Object::HTTPRoute(_)
                | Object::RateLimitPolicy(_)
                | Object::RetryTimeoutPolicy(_)
                | Object::TCPRoute(_)
                | Object::Workload(_) => false,
            };
            objects.filter(matters).collect()
        }
        of(self) == of(other)
    }

    fn mesh_spec(&self) -> Option<&MeshSpec> {
        self.objects.values().find_map(|object| {
            if let Object::Mesh(mesh) = &object.value {
                Some(&mesh.spec)
            } else {
                None
            }
        })
    }
}

/// A position as findings have it.
pub(crate) fn position_of(position: tacit_api::Position) -> Position {
    Position {
        file: position.file,
        line: position.line,
        column: position.column,
    }
}

struct Parts {
    snapshot: Snapshot,
    findings: Vec<Finding>,
    statuses: Vec<ObjectStatus>,
    objects: BTreeMap<ObjectRef, Located<Object>>,
}

fn compile(files: &[(Arc<str>, Parsed)], now: i64) -> Result<Parts, NotClosed> {
    let mut offline = compile_files(files.to_vec(), now);
    let before = Snapshot::build(Generation::default(), offline.compiler.tables())?;
    offline.compiler.apply(InputDelta {
        ready: ready(&before),
        ..InputDelta::default()
    });
    let snapshot = Snapshot::build(Generation::default(), offline.compiler.tables())?;
    let objects = offline.compiler.in_force().filter_map(|object| {
        let name = tacit_compiler::findings::object_ref(&object.value.key())?;
        Some((name, object.clone()))
    });
    Ok(Parts {
        objects: objects.collect(),
        snapshot,
        findings: offline.compiler.findings_and_advice(),
        statuses: offline.compiler.statuses().collect(),
    })
}

/// Every port behind a service: what a node reports once a workload is up.
fn ready(s: &Snapshot) -> Vec<(WorkloadName, BTreeSet<u16>)> {
    let mut ready: BTreeMap<WorkloadName, BTreeSet<u16>> = BTreeMap::new();
    for (name, service) in &s.services {
        for row in s.endpoints(name) {
            let ports = service.ports.iter().filter_map(|port| port.target_on(row));
            ready.entry(row.name.clone()).or_default().extend(ports);
        }
    }
    ready.into_iter().collect()
}

/// True if no workload of the state is behind the service.
pub(crate) fn has_no_workload(s: &Snapshot, service: &ServiceName) -> bool {
    s.endpoints(service).is_empty()
}

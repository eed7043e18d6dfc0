//! What every part of a translation looks at, and where its findings are collected.

use std::collections::BTreeMap;

use tacit_api::{Located, Object};
use tacit_compiler::Compiler;
use tacit_compiler::findings::{Code, at, object_ref};
use tacit_model::finding::Finding;
use tacit_model::labels::Labels;
use tacit_model::tables::{Protocol, TargetPort, WorkloadRow};
use tacit_model::{Namespace, ObjectRef, Provenance, ServiceName, Snapshot};

use crate::Options;

/// The compiled mesh, with what the tables leave out.
pub(crate) struct World<'a> {
    pub(crate) compiler: &'a Compiler,
    pub(crate) s: &'a Snapshot,
    /// Istio's root namespace.
    pub(crate) root: &'a Namespace,
    objects: BTreeMap<ObjectRef, &'a Located<Object>>,
    selectors: BTreeMap<ServiceName, Labels>,
    findings: Vec<Finding>,
}

impl<'a> World<'a> {
    pub(crate) fn new(compiler: &'a Compiler, s: &'a Snapshot, options: &'a Options) -> Self {
        let mut world = Self {
            compiler,
            s,
            root: &options.root_namespace,
            objects: BTreeMap::new(),
            selectors: BTreeMap::new(),
            findings: Vec::new(),
        };
        for object in compiler.in_force() {
            let Some(name) = object_ref(&object.value.key()) else {
                continue;
            };
            if let Object::Service(service) = &object.value
                && let Some(namespace) = &name.namespace
                && let Some(selector) = &service.spec.selector
            {
                let pairs = selector.iter().map(|(k, v)| (k.as_str(), v.as_str()));
                let service = ServiceName::new(namespace.clone(), name.name.clone());
                world.selectors.insert(service, Labels::from_pairs(pairs));
            }
            world.objects.insert(name, object);
        }
        world
    }

    /// The objects in force.
    pub(crate) fn objects(&self) -> impl Iterator<Item = (&ObjectRef, &'a Located<Object>)> {
        self.objects.iter().map(|(name, object)| (name, *object))
    }

    /// The version of an object that is in force.
    pub(crate) fn object(&self, name: &ObjectRef) -> Option<&'a Located<Object>> {
        self.objects.get(name).copied()
    }

    /// The labels that a Service selects by; the compiler refuses a Service without.
    pub(crate) fn selector(&self, name: &ServiceName) -> Labels {
        self.selectors.get(name).cloned().unwrap_or_default()
    }

    /// Adds a finding about a field of an object in force.
    pub(crate) fn say(&mut self, name: &ObjectRef, code: Code, field: &str, message: String) {
        if let Some(object) = self.object(name) {
            self.findings.push(at(object, code, field, message, None));
        }
    }

    /// Adds a finding about what a value came from; a default has no place to point at.
    pub(crate) fn say_of(&mut self, from: &Provenance, code: Code, message: String) {
        if let Provenance::Field { object, path } = from {
            self.say(object, code, path, message);
        }
    }

    /// The findings by place. Of those about one field only the first of each code is kept, as
    /// the compiler does: defaults of the mesh would say the same of each service.
    pub(crate) fn findings(mut self) -> Vec<Finding> {
        let key = |f: &Finding| {
            let place = (f.position.clone(), f.code.clone(), f.field.clone());
            (f.severity, place, f.message.clone())
        };
        self.findings.sort_by_key(key);
        let place = |f: &Finding| (f.code.clone(), f.position.clone(), f.field.clone());
        self.findings.dedup_by_key(|finding| place(finding));
        self.findings
    }

    /// The ports of the workloads behind a Service that its ports mean.
    pub(crate) fn target_ports(&self, name: &ServiceName) -> TargetPorts {
        let mut found = TargetPorts::default();
        let Some(row) = self.s.services.get(name) else {
            return found;
        };
        for port in &row.ports {
            let number = match &port.target {
                TargetPort::Number(number) => Some(*number),
                TargetPort::Named(_) => {
                    let mut numbers = self
                        .s
                        .endpoints(name)
                        .iter()
                        .map(|workload| port.target_on(workload));
                    let first = numbers.next().flatten();
                    first.filter(|first| numbers.all(|number| number == Some(*first)))
                }
            };
            match (number, &port.target) {
                (Some(number), _) => {
                    let protocol = found.numbers.entry(number).or_insert(port.protocol);
                    // Declared as HTTP by one of two is declared.
                    if port.protocol == Protocol::Http {
                        *protocol = Protocol::Http;
                    }
                }
                (None, TargetPort::Named(port)) => found.unknown = Some(port.to_string()),
                (None, TargetPort::Number(_)) => {}
            }
        }
        for workload in self.s.endpoints(name) {
            for port in workload
                .ports
                .iter()
                .filter(|p| p.protocol == Protocol::Http)
            {
                found
                    .numbers
                    .entry(port.port)
                    .and_modify(|p| *p = Protocol::Http);
            }
        }
        found
    }

    /// The protocol of each port that a workload or a Service in front of it names.
    pub(crate) fn ports_of(&self, workload: &WorkloadRow) -> BTreeMap<u16, Protocol> {
        let mut ports = BTreeMap::new();
        let mut add = |port: u16, protocol: Protocol| {
            let known = ports.entry(port).or_insert(protocol);
            if protocol == Protocol::Http {
                *known = Protocol::Http;
            }
        };
        for port in workload.ports.iter() {
            add(port.port, port.protocol);
        }
        let services = self.s.class_of(workload).map(|class| &class.services);
        for row in services
            .into_iter()
            .flatten()
            .filter_map(|name| self.s.services.get(name))
        {
            for port in &row.ports {
                if let Some(number) = port.target_on(workload) {
                    add(number, port.protocol);
                }
            }
        }
        ports
    }
}

/// Which ports of its workloads a Service stands for.
#[derive(Clone, Debug, Default)]
pub(crate) struct TargetPorts {
    /// Port numbers.
    pub(crate) numbers: BTreeMap<u16, Protocol>,
    /// The name of a port that is not the same number on every workload, or has no workload.
    pub(crate) unknown: Option<String>,
}

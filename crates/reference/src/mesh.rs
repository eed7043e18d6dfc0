//! The objects that are in force, and what the other topics ask of them.

use serde_json::Value;

use crate::answer::{Answer, Request, Routed, Way};
use crate::mutation::Mutation;
use crate::node::Node;
use crate::targets::Targets;
use crate::world::{Document, World, Written};

/// Answers questions about a world.
pub struct Reference<'w> {
    pub(crate) world: &'w World,
    pub(crate) wrong: Option<Mutation>,
    pub(crate) objects: Vec<Object<'w>>,
    pub(crate) broken: Vec<Broken<'w>>,
}

/// An object in force.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Object<'w> {
    pub(crate) kind: &'w str,
    /// Empty for the kinds outside namespaces.
    pub(crate) namespace: &'w str,
    pub(crate) name: &'w str,
    pub(crate) labels: Node<'w>,
    pub(crate) spec: Node<'w>,
}

/// An AccessPolicy without a version in force.
#[derive(Clone, Debug)]
pub(crate) struct Broken<'w> {
    pub(crate) object: Object<'w>,
    pub(crate) audits: bool,
    pub(crate) targets: Targets<'w>,
}

impl<'w> Object<'w> {
    pub(crate) fn of(document: &'w Value) -> Self {
        let document = Node::of(document);
        let metadata = document.at("metadata");
        Self {
            kind: document.at("kind").text().unwrap_or_default(),
            namespace: metadata.at("namespace").text().unwrap_or_default(),
            name: metadata.at("name").text().unwrap_or_default(),
            labels: metadata.at("labels"),
            spec: document.at("spec"),
        }
    }

    /// `namespace/name`.
    pub(crate) fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// `Kind/namespace/name`, as origins have it.
    pub(crate) fn shown(&self) -> String {
        if self.namespace.is_empty() {
            format!("{}/{}", self.kind, self.name)
        } else {
            format!("{}/{}/{}", self.kind, self.namespace, self.name)
        }
    }
}

impl<'w> Reference<'w> {
    /// Finds out which versions are in force. With a mutation, that rule is wrong.
    #[must_use]
    pub fn new(world: &'w World, wrong: Option<Mutation>) -> Self {
        let mut found = Self {
            world,
            wrong,
            objects: Vec::new(),
            broken: Vec::new(),
        };
        let is_access = |document: &&'w Document| {
            Object::of(document.written.document()).kind == "AccessPolicy"
        };
        for document in world.documents.iter().filter(|one| !is_access(one)) {
            found.objects.extend(found.version(document, |_| true));
        }
        // Whether an AccessPolicy is valid depends on the Services in force.
        for document in world.documents.iter().filter(is_access) {
            let valid = |object: &Object<'w>| !found.looks_into_bytes(object);
            match found.version(document, valid) {
                Some(object) => found.objects.push(object),
                None => found.broken.push(found.broken(document)),
            }
        }
        found
    }

    /// The version in force: what is written if it is valid, else the last good one.
    fn version(
        &self,
        document: &'w Document,
        valid: impl Fn(&Object<'w>) -> bool,
    ) -> Option<Object<'w>> {
        let written = match &document.written {
            Written::Valid(found) => Some(Object::of(found)).filter(&valid),
            Written::Refused(_) | Written::Twice(_) | Written::Unreadable(_) => None,
        };
        let before = document.last_good.as_ref().map(Object::of);
        let before = before.filter(|_| !self.is_wrong(Mutation::LastGoodIgnored));
        written.or_else(|| before.filter(valid))
    }

    /// What an AccessPolicy denies that has no valid version: the targets that can be read, else
    /// everything in its scope.
    fn broken(&self, document: &'w Document) -> Broken<'w> {
        let object = Object::of(document.written.document());
        let readable = !matches!(document.written, Written::Unreadable(_));
        Broken {
            object,
            audits: readable && object.spec.at("mode").is("Audit"),
            targets: if readable {
                Targets::Written(object)
            } else {
                Targets::Everything(object)
            },
        }
    }

    pub(crate) fn is_wrong(&self, rule: Mutation) -> bool {
        self.wrong == Some(rule)
    }

    pub(crate) fn of_kind(&self, kind: &str) -> impl Iterator<Item = &Object<'w>> {
        self.objects.iter().filter(move |one| one.kind == kind)
    }

    /// The Service with this key.
    pub(crate) fn service(&self, key: &str) -> Option<&Object<'w>> {
        let (namespace, name) = key.split_once('/')?;
        self.of_kind("Service")
            .find(|one| one.namespace == namespace && one.name == name)
    }

    /// The fields of the Mesh.
    pub(crate) fn mesh(&self) -> Node<'w> {
        self.of_kind("Mesh")
            .next()
            .map_or(Node(None), |one| one.spec)
    }

    pub(crate) fn cluster(&self) -> &'w str {
        self.mesh().at("cluster").text().unwrap_or("local")
    }

    /// True if a workload is behind a Service.
    pub(crate) fn selects(&self, service: &Object<'_>, workload: &Object<'_>) -> bool {
        service.namespace == workload.namespace
            && workload.labels.has_labels(service.spec.at("selector"))
    }

    /// The workloads behind a Service.
    pub(crate) fn behind(&self, service: &Object<'w>) -> impl Iterator<Item = &Object<'w>> {
        self.of_kind("Workload")
            .filter(|workload| self.selects(service, workload))
    }

    /// True if the service that is called exists and has the port.
    fn is_served(&self, request: &Request) -> bool {
        self.service(&request.service).is_some_and(|service| {
            let mut ports = service.spec.at("ports").items();
            ports.any(|port| port.at("port").number() == Some(i64::from(request.port)))
        })
    }

    /// Answers a question.
    #[must_use]
    pub fn answer(&self, request: &Request) -> Answer {
        if !self.is_served(request) {
            return Answer::default();
        }
        let mut answer = Answer {
            routed: self.route(request),
            ..Answer::default()
        };
        let parent = self.service(&request.service);
        let (ways, rule) = match &answer.routed {
            Routed::BadPath
            | Routed::NotFound
            | Routed::Redirect { .. }
            | Routed::Unimplemented => return answer,
            Routed::Direct => (Vec::new(), None),
            Routed::Forward { rule, ways, .. } => (ways.clone(), Some(rule.clone())),
        };
        let mut seen = Received::of(request, &request.path, &request.host);
        let mut target = (request.service.clone(), request.port);
        if rule.is_some() {
            match ways.get(request.pick % ways.len().max(1)) {
                None | Some(Way::Broken | Way::Unavailable) => return answer,
                Some(Way::To {
                    service,
                    path,
                    host,
                    ..
                }) => {
                    let (key, port) = service.rsplit_once(':').unwrap_or((service, ""));
                    target = (key.to_owned(), port.parse().unwrap_or_default());
                    seen = Received::of(request, path, host);
                }
            }
        }
        let (Some(parent), Some(backend)) = (parent, self.service(&target.0)) else {
            return answer;
        };
        let retry_from = if self.is_wrong(Mutation::BackendGivesRetry) {
            backend
        } else {
            parent
        };
        let failover_from = if self.is_wrong(Mutation::ParentGivesFailover) {
            parent
        } else {
            backend
        };
        self.retry_values(&mut answer.values, retry_from, rule.as_deref(), request);
        self.fault_values(&mut answer.values, retry_from, request);
        self.failover_values(&mut answer.values, failover_from);
        self.endpoints(&mut answer, (failover_from, backend, target.1), request);
        let endpoints: Vec<String> = answer
            .first
            .iter()
            .map(|one| one.endpoint.clone())
            .collect();
        for endpoint in endpoints {
            answer.rates.insert(endpoint.clone(), self.rates(&endpoint));
            if let Some(access) = self.access(&endpoint, request, &seen) {
                answer.access.insert(endpoint, access);
            }
        }
        answer
    }
}

/// The request as the backend receives it.
pub(crate) struct Received {
    pub(crate) path: String,
    pub(crate) canonical: Option<String>,
    pub(crate) host: String,
}

impl Received {
    /// What a rule writes is canonical.
    fn of(request: &Request, path: &str, host: &str) -> Self {
        Self {
            path: path.to_owned(),
            canonical: match path == request.path {
                true => request.canonical.clone(),
                false => Some(path.to_owned()),
            },
            host: host.to_owned(),
        }
    }
}

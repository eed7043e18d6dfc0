//! A compiler with the store that the control plane keeps for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tacit_api::{Located, Object, ObjectKey, Parsed};
use tacit_compiler::{
    Compiler, Files, InputDelta, NodeFact, OutputDelta, Owner, Upsert, check::check,
};
use tacit_model::access::Cidr;
use tacit_model::finding::Finding;
use tacit_model::hosting::MayHost;
use tacit_model::status::ObjectStatus;
use tacit_model::tables::PublishedPort;
use tacit_model::{ObjectRef, WorkloadName};

/// What is written and observed at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Moment {
    pub(crate) files: BTreeMap<Arc<str>, String>,
    pub(crate) nodes: Vec<NodeFact>,
    pub(crate) ready: Vec<(WorkloadName, BTreeSet<u16>)>,
    pub(crate) published: Vec<(WorkloadName, Vec<PublishedPort>)>,
    pub(crate) now: Option<i64>,
    /// Author of every object; absent: the directory.
    pub(crate) author: Option<String>,
}

/// A compiler and what is stored beside it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mesh {
    pub(crate) compiler: Compiler,
    pub(crate) last_good: BTreeMap<ObjectKey, Located<Object>>,
    pub(crate) keys: BTreeSet<ObjectKey>,
    pub(crate) output: OutputDelta,
    /// What the changes of findings and statuses add up to.
    pub(crate) findings: BTreeMap<Option<ObjectRef>, Vec<Finding>>,
    pub(crate) statuses: BTreeMap<ObjectRef, ObjectStatus>,
}

impl Mesh {
    /// The input that turns what is there into `moment`.
    pub(crate) fn delta(&self, moment: &Moment) -> InputDelta {
        let parsed = moment.files.iter().map(|(file, text)| {
            let parsed: Parsed = tacit_api::parse(file, text);
            (file.clone(), parsed)
        });
        let before = self.last_good.iter();
        let before = before
            .map(|(key, object)| (key.clone(), object.source.file.clone()))
            .collect();
        let files = Files::group(parsed, &before);
        let subject = moment
            .author
            .as_deref()
            .and_then(tacit_compiler::grants::Subject::named);
        let owner = subject.map_or(Owner::Directory, Owner::Api);
        let upsert = |(key, written): (&ObjectKey, _)| Upsert {
            key: key.clone(),
            written,
            last_good: self.last_good.get(key).cloned().map(Box::new),
            owner: match key.kind {
                tacit_api::Kind::Workspace | tacit_api::Kind::Mesh => Owner::Directory,
                _ => owner.clone(),
            },
        };
        InputDelta {
            removes: self
                .keys
                .iter()
                .filter(|k| !files.written.contains_key(k))
                .cloned()
                .collect(),
            upserts: files
                .written
                .iter()
                .map(|(k, w)| upsert((k, w.clone())))
                .collect(),
            file_errors: Some(files.errors),
            nodes: moment.nodes.clone(),
            ready: moment.ready.clone(),
            published: moment.published.clone(),
            now: moment.now,
            ..InputDelta::default()
        }
    }

    /// Goes on to `moment`, and checks what comes out.
    pub(crate) fn go(&mut self, moment: &Moment) {
        let delta = self.delta(moment);
        self.apply(delta);
    }

    /// Applies a change, and checks what comes out.
    pub(crate) fn apply(&mut self, delta: InputDelta) {
        for key in &delta.removes {
            self.keys.remove(key);
            self.last_good.remove(key);
        }
        self.keys
            .extend(delta.upserts.iter().map(|upsert| upsert.key.clone()));
        let written: BTreeMap<ObjectKey, _> = delta
            .upserts
            .iter()
            .map(|upsert| (upsert.key.clone(), upsert.written.clone()))
            .collect();
        let before = self.compiler.tables().clone();
        self.output = self.compiler.apply(delta);
        for key in self.output.good.keys(&self.compiler) {
            if let Some(tacit_compiler::Written::Ok(object)) = written.get(key) {
                self.last_good.insert(key.clone(), object.as_ref().clone());
            }
        }
        let mut patched = before;
        patched.apply(self.output.tables.clone());
        assert!(
            patched == *self.compiler.tables(),
            "the delta does not lead to the tables"
        );
        let violations = check(self.compiler.tables());
        assert!(violations.is_empty(), "{violations:#?}");
        self.follow();
        for finding in &self.compiler.findings_and_advice() {
            let code = tacit_compiler::findings::code(&finding.code);
            let code = code.unwrap_or_else(|| panic!("{} is not in the table", finding.code));
            assert_eq!(code.severity, finding.severity, "{}", finding.code);
            assert!(
                !finding.fix.is_empty() && !finding.message.ends_with('.'),
                "{finding}"
            );
        }
    }
}

impl Mesh {
    /// Adds up the changes of findings and statuses, and compares with what holds.
    fn follow(&mut self) {
        for (object, found) in &self.output.findings {
            match found.is_empty() {
                true => drop(self.findings.remove(object)),
                false => drop(self.findings.insert(object.clone(), found.clone())),
            }
        }
        for (object, status) in &self.output.statuses {
            match status {
                None => drop(self.statuses.remove(object)),
                Some(status) => drop(self.statuses.insert(object.clone(), status.clone())),
            }
        }
        let mut added: Vec<String> = self
            .findings
            .values()
            .flatten()
            .map(|f| f.to_string())
            .collect();
        let mut holds: Vec<String> = self
            .compiler
            .findings()
            .iter()
            .map(|f| f.to_string())
            .collect();
        added.sort();
        holds.sort();
        assert_eq!(added, holds, "the changes of findings do not add up");
        let mut holds: Vec<ObjectStatus> = self.compiler.statuses().collect();
        // What is only accepted is not told.
        holds.retain(|status| !status.is_plain());
        let added: Vec<ObjectStatus> = self.statuses.values().cloned().collect();
        assert_eq!(added, holds, "the changes of statuses do not add up");
    }
}

/// A node.
pub(crate) fn node(name: &str, region: &str, zone: &str, third: u8) -> NodeFact {
    NodeFact {
        name: name.try_into().expect("a node name"),
        region: region.into(),
        zone: zone.into(),
        subnet: Some(Cidr {
            network: [10, 96, third, 0].into(),
            prefix: 24,
        }),
        identities: MayHost::any(),
    }
}

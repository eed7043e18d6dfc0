//! A compiler with the store that the control plane keeps for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tacit_api::{Located, Object, ObjectKey, Parsed};
use tacit_compiler::{
    Compiler, Files, InputDelta, NodeFact, OutputDelta, Owner, Upsert, check::check,
};
use tacit_model::WorkloadName;
use tacit_model::access::Cidr;
use tacit_model::hosting::MayHost;
use tacit_model::tables::PublishedPort;

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
        for key in &self.output.good {
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
        for finding in &self.output.findings {
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

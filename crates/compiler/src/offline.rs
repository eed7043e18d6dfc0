//! Checks files by themselves, as `tacit check` does: nothing is observed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use tacit_api::{Object, Parsed};
use tacit_model::NodeName;
use tacit_model::access::Cidr;
use tacit_model::hosting::MayHost;

use crate::delta::{Checked, Files, InputDelta, NodeFact, Owner, Upsert, Written};
use crate::{Compiler, Ranges};

/// Files compiled by themselves.
#[derive(Debug)]
pub struct Offline {
    /// Takes further changes, for example that workloads are ready.
    pub compiler: Compiler,
    /// What there is to say about the files.
    pub checked: Checked,
}

/// Checks files by themselves, as [`compile_files`] compiles them.
#[must_use]
pub fn check_files(files: impl IntoIterator<Item = (Arc<str>, Parsed)>, now: i64) -> Checked {
    compile_files(files, now).checked
}

/// Compiles files by themselves: nothing was good before, and every node that a Workload names is
/// assumed to be there. `now` is in unix seconds.
#[must_use]
pub fn compile_files(files: impl IntoIterator<Item = (Arc<str>, Parsed)>, now: i64) -> Offline {
    let files = Files::group(files, &BTreeMap::new());
    let named: BTreeSet<NodeName> = files.written.values().filter_map(node_of).collect();
    let upsert = |(key, written)| Upsert {
        key,
        written,
        last_good: None,
        owner: Owner::Directory,
    };
    let mut compiler = Compiler::default();
    compiler.apply(InputDelta {
        upserts: files.written.into_iter().map(upsert).collect(),
        file_errors: Some(files.errors),
        now: Some(now),
        ..InputDelta::default()
    });
    let nodes = compiler
        .ranges()
        .map(|ranges| assume(&named, ranges))
        .unwrap_or_default();
    compiler.apply(InputDelta {
        nodes,
        ..InputDelta::default()
    });
    Offline {
        checked: Checked {
            findings: compiler.findings_and_advice(),
            statuses: compiler.statuses().collect(),
        },
        compiler,
    }
}

fn node_of(written: &Written) -> Option<NodeName> {
    match written {
        Written::Ok(object) => match &object.value {
            Object::Workload(workload) => workload.spec.node.as_str().try_into().ok(),
            Object::AccessPolicy(_)
            | Object::FailoverPolicy(_)
            | Object::FaultPolicy(_)
            | Object::GRPCRoute(_)
            | Object::HTTPRoute(_)
            | Object::Mesh(_)
            | Object::RateLimitPolicy(_)
            | Object::RetryTimeoutPolicy(_)
            | Object::Service(_)
            | Object::TCPRoute(_)
            | Object::Workspace(_) => None,
        },
        Written::Duplicate(_) | Written::Unparsable(_) => None,
    }
}

/// Nodes in the order of their names, with a subnet of 256 addresses each as control would give.
fn assume(names: &BTreeSet<NodeName>, ranges: Ranges) -> Vec<NodeFact> {
    let subnet = |index: u32| {
        let IpAddr::V4(first) = ranges.workloads.network else {
            return None;
        };
        let network = u32::from(first).checked_add(index.checked_mul(256)?)?;
        let network = IpAddr::V4(Ipv4Addr::from(network));
        ranges.workloads.contains(network).then_some(Cidr {
            network,
            prefix: 24,
        })
    };
    let fact = |(index, name): (u32, &NodeName)| NodeFact {
        name: name.clone(),
        region: "".into(),
        zone: "".into(),
        subnet: subnet(index),
        // What tokens will say is not written in files.
        identities: MayHost::any(),
    };
    (0..).zip(names).map(fact).collect()
}

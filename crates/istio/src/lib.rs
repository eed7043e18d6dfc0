//! Translates the objects in force to objects of Istio that run the same intent.
//!
//! Pure: what is compiled goes in, objects as JSON and findings come out. Where Istio's meaning
//! differs, what is emitted is never weaker for access; what cannot be said is a finding.

mod access;
mod callers;
mod connections;
mod faults;
mod isolation;
mod locality;
mod mesh;
mod object;
mod operations;
mod retries;
mod targets;
mod unsaid;
mod world;

use serde_json::Value;
use tacit_compiler::Compiler;
use tacit_model::finding::Finding;
use tacit_model::snapshot::NotClosed;
use tacit_model::{Generation, Namespace, Snapshot};

use crate::object::Objects;
use crate::world::World;

/// The annotation that says, line by line, which written field gave which emitted one.
pub const PROVENANCE: &str = "tacit.dev/from";

/// What of Istio's own settings a translation depends on.
#[derive(Clone, Debug)]
pub struct Options {
    /// Istio's root namespace: what is there holds for the whole mesh.
    pub root_namespace: Namespace,
}

/// What came out.
#[derive(Clone, Debug, Default)]
pub struct Translation {
    /// Istio's objects, by kind, namespace and name.
    pub objects: Vec<Value>,
    /// What Istio cannot say, or says otherwise, by place.
    pub findings: Vec<Finding>,
}

/// Translates everything that is in force.
///
/// # Errors
///
/// Tables that are no state: the compiler makes none.
pub fn translate(compiler: &Compiler, options: &Options) -> Result<Translation, NotClosed> {
    let snapshot = Snapshot::build(Generation::default(), compiler.tables())?;
    let mut world = World::new(compiler, &snapshot, options);
    let mut objects = Objects::default();
    mesh::translate(&mut world, &mut objects);
    isolation::translate(&mut world, &mut objects);
    access::translate(&mut world, &mut objects);
    for service in snapshot.services.values() {
        objects.extend(retries::translate(&world, service));
        objects.add(connections::translate(&mut world, service));
    }
    unsaid::tell(&mut world);
    Ok(Translation {
        objects: objects.finish(),
        findings: world.findings(),
    })
}

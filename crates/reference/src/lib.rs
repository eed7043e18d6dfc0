//! A naive evaluator of everything that people can write, for tests only.
//!
//! It is written from the text of the API and of the Gateway API, reads documents as plain JSON,
//! and shares no code with the compiler or the engine. It keeps nothing and orders nothing
//! beforehand: each question is answered from the documents. Where it and the engine differ, one of
//! them is wrong.
//!
//! [`Mutation`] makes one of its rules wrong on purpose, which shows that a comparison can tell
//! that rule from another one.

mod access;
mod answer;
mod armed;
mod failover;
mod fault;
mod matching;
mod mesh;
mod mutation;
mod node;
mod precedence;
mod rate;
mod resilience;
mod route;
mod targets;
mod tenants;
mod world;

pub use answer::{Access, Answer, Clause, Odds, Request, Routed, Set, Way};
pub use armed::Armed;
pub use mesh::Reference;
pub use mutation::Mutation;
pub use world::{Caller, Document, Ill, Illness, Proof, Sign, World, Written};

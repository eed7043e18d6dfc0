//! The steps of one decision, for `why`, logs and tests.

use serde::{Deserialize, Serialize};

use crate::provenance::Provenance;

/// One step: what was looked at, what came of it, and which field said so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceStep {
    /// A stable word for the step: `destination`, `isolation`, `access`, `order`, `endpoint`,
    /// `timeout`, `retry`, `rate`, `fault`.
    pub topic: std::borrow::Cow<'static, str>,
    /// The outcome, one sentence without a full stop.
    pub outcome: String,
    /// Where the deciding value came from.
    pub from: Option<Provenance>,
    /// True if it depends on state that was assumed, not observed.
    pub assumed: bool,
}

/// The steps, in the order in which they were taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace(pub Vec<TraceStep>);

impl Trace {
    /// Adds a step.
    pub fn step(&mut self, topic: &'static str, outcome: String, from: Option<Provenance>) {
        self.0.push(TraceStep {
            topic: topic.into(),
            outcome,
            from,
            assumed: false,
        });
    }
}

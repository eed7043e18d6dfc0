//! Failures that are made on purpose, as `fault` of the routes of a VirtualService.

use serde_json::{Map, Value, json};
use tacit_model::Sourced;
use tacit_model::fault::{Abort, Delay};
use tacit_model::tables::ServiceRow;

use crate::object::{Draft, seconds};

/// What befalls requests of every caller of a service.
pub(crate) struct Faults<'s> {
    delay: Option<&'s Sourced<Delay>>,
    abort: Option<&'s Sourced<Abort>>,
}

impl<'s> Faults<'s> {
    /// A share of 0 is written by nobody but to switch off what other policies say.
    pub(crate) fn of(service: &'s ServiceRow) -> Self {
        let layers = || {
            service
                .faults
                .iter()
                .filter(|layer| layer.callers.is_none())
        };
        let delay = layers().find_map(|layer| layer.delay.as_ref());
        let abort = layers().find_map(|layer| layer.abort.as_ref());
        Self {
            delay: delay.filter(|found| found.value.share_percent > 0),
            abort: abort.filter(|found| found.value.share_percent > 0),
        }
    }

    /// Adds them to a route at this place of the object.
    pub(crate) fn add_to(&self, route: &mut Map<String, Value>, draft: &mut Draft, at: &str) {
        let mut fault = Map::new();
        if let Some(Sourced { value, from }) = self.delay {
            let delay = json!({
                "fixedDelay": seconds(value.time),
                "percentage": {"value": value.share_percent},
            });
            fault.insert("delay".to_owned(), delay);
            draft.note(format!("{at}.fault.delay"), from);
        }
        if let Some(Sourced { value, from }) = self.abort {
            let abort = json!({
                "httpStatus": value.status,
                "percentage": {"value": value.share_percent},
            });
            fault.insert("abort".to_owned(), abort);
            draft.note(format!("{at}.fault.abort"), from);
        }
        if !fault.is_empty() {
            route.insert("fault".to_owned(), Value::Object(fault));
        }
    }
}

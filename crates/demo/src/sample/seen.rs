//! What one instance of the sample application has seen, to find requests that came twice.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use http::Method;
use serde::{Deserialize, Serialize};

/// Most POST ids that are remembered; a demonstration sends some thousands.
const MAX_IDS: usize = 1_000_000;

/// Counts of one instance since it started; `GET /_seen` answers it as JSON.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct SeenReport {
    /// Requests whose head arrived.
    pub started: u64,
    /// Of these, answered 503 on purpose.
    pub failed: u64,
    /// Requests by method.
    pub methods: BTreeMap<String, u64>,
    /// How often each POST id came.
    pub posts: BTreeMap<String, u32>,
    /// POST ids beyond the limit, which are not in `posts`.
    pub forgotten: u64,
}

#[derive(Default)]
pub(super) struct Seen {
    report: Mutex<SeenReport>,
}

impl Seen {
    /// Counts a request; returns its number, from 1.
    pub(super) fn started(&self, method: &Method, id: Option<&str>) -> u64 {
        let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        report.started += 1;
        *report.methods.entry(method.to_string()).or_default() += 1;
        if let (&Method::POST, Some(id)) = (method, id) {
            if report.posts.len() < MAX_IDS {
                *report.posts.entry(id.to_owned()).or_default() += 1;
            } else {
                report.forgotten += 1;
            }
        }
        report.started
    }

    pub(super) fn failed(&self) {
        self.report
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .failed += 1;
    }

    pub(super) fn report(&self) -> SeenReport {
        self.report
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// POST ids that arrived more than once, anywhere among these instances.
#[must_use]
pub fn repeated_posts(reports: &[SeenReport]) -> Vec<String> {
    let mut all: BTreeMap<&str, u32> = BTreeMap::new();
    for (id, count) in reports.iter().flat_map(|report| &report.posts) {
        *all.entry(id).or_default() += count;
    }
    let twice = all.into_iter().filter(|(_, count)| *count > 1);
    twice.map(|(id, _)| id.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::{Seen, repeated_posts};
    use http::Method;

    #[test]
    fn a_repetition_is_found_within_and_across_instances() {
        let (a, b) = (Seen::default(), Seen::default());
        for id in ["1", "2", "2"] {
            a.started(&Method::POST, Some(id));
        }
        b.started(&Method::POST, Some("3"));
        assert_eq!(repeated_posts(&[a.report(), b.report()]), ["2"]);
        b.started(&Method::POST, Some("1"));
        b.started(&Method::GET, Some("3"));
        assert_eq!(repeated_posts(&[a.report(), b.report()]), ["1", "2"]);
        assert_eq!(a.report().started, 3);
    }
}

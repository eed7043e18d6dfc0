//! Which fields differ between two specs, and whether a grant lists them.

use serde_json::Value;

/// Field subtrees that a grant without `fields` does not give: they decide over other policies.
const ONLY_IF_LISTED: [&str; 3] = ["spec.enforcement", "spec.from", "spec.priority"];

/// Target fields, which `targets` of a grant governs instead of `fields`.
const TARGETS: [&str; 3] = ["spec.targetAll", "spec.targetRefs", "spec.targetSelectors"];

/// Fields of a Workspace that say who may do what: only the administrator changes them, so that
/// a grant cannot widen itself.
const WORKSPACE_ONLY_ADMINISTRATOR: [&str; 4] =
    ["spec.grants", "spec.home", "spec.hostnames", "spec.members"];

/// Paths of the smallest subtrees that differ, sorted; a list is compared as a whole. Absent and
/// present differ even if what is present is empty.
pub(crate) fn changed(old: Option<&Value>, new: Option<&Value>) -> Vec<String> {
    let mut paths = Vec::new();
    collect("spec", old, new, &mut paths);
    paths
}

fn collect(path: &str, old: Option<&Value>, new: Option<&Value>, paths: &mut Vec<String>) {
    if old == new {
        return;
    }
    let fields = |value: Option<&Value>| match value {
        None => Some(Vec::new()),
        Some(Value::Object(map)) if !map.is_empty() => Some(map.keys().cloned().collect()),
        Some(_) => None,
    };
    let (Some(mut keys), Some(others)) = (fields(old), fields(new)) else {
        paths.push(path.to_owned());
        return;
    };
    keys.extend(others);
    keys.sort();
    keys.dedup();
    for key in keys {
        let part = |value: Option<&Value>| value.and_then(|value| value.get(&key)).cloned();
        let (old, new) = (part(old), part(new));
        collect(&format!("{path}.{key}"), old.as_ref(), new.as_ref(), paths);
    }
}

/// The first changed path that a grant with these `fields` does not give.
pub(crate) fn first_not_granted(
    changed: &[String],
    fields: Option<&[String]>,
    is_workspace: bool,
) -> Option<String> {
    let within = |path: &str, subtree: &str| {
        path.strip_prefix(subtree)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let granted = |path: &str| {
        let any = |subtrees: &[&str]| subtrees.iter().any(|subtree| within(path, subtree));
        if is_workspace && any(&WORKSPACE_ONLY_ADMINISTRATOR) {
            return false;
        }
        match fields {
            None => !any(&ONLY_IF_LISTED),
            Some(listed) => any(&TARGETS) || listed.iter().any(|subtree| within(path, subtree)),
        }
    };
    changed.iter().find(|path| !granted(path)).cloned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_smallest_subtrees_that_differ() {
        let old = json!({"retry": {"attempts": 2, "on": ["Reset"]}, "timeout": {"request": "2s"}});
        let new = json!({"retry": {"attempts": 0, "on": ["Reset", "ServerError"]}, "priority": 1});
        assert_eq!(
            changed(Some(&old), Some(&new)),
            [
                "spec.priority",
                "spec.retry.attempts",
                "spec.retry.on",
                "spec.timeout.request"
            ]
        );
        assert_eq!(changed(Some(&old), Some(&old)), Vec::<String>::new());
        assert_eq!(changed(None, Some(&json!({"retry": {}}))), ["spec.retry"]);
        let whole = [json!({"from": []}), json!({})];
        assert_eq!(changed(Some(&whole[0]), Some(&whole[1])), ["spec"]);
    }

    #[test]
    fn listed_subtrees_end_at_a_dot() {
        let listed = ["spec.retry".to_owned(), "spec.timeout.request".to_owned()];
        for (path, fields, is_workspace, granted) in [
            ("spec.retry", Some(&listed[..]), false, true),
            ("spec.retry.attempts", Some(&listed[..]), false, true),
            ("spec.retryMore", Some(&listed[..]), false, false),
            ("spec.timeout", Some(&listed[..]), false, false),
            ("spec.timeout.request", Some(&listed[..]), false, true),
            ("spec.targetRefs", Some(&listed[..]), false, true),
            ("spec.priority", Some(&listed[..]), false, false),
            ("spec", Some(&listed[..]), false, false),
            ("spec.retry.attempts", None, false, true),
            ("spec.priority", None, false, false),
            ("spec.from", None, false, false),
            ("spec.enforcement", None, false, false),
            ("spec.isolation", None, true, true),
            ("spec.grants", None, true, false),
            ("spec.members", None, true, false),
        ] {
            let found = first_not_granted(&[path.to_owned()], fields, is_workspace);
            assert_eq!(found.is_none(), granted, "{path} {fields:?}");
        }
        let greedy = ["spec.grants".to_owned(), "spec".to_owned()];
        let widened = first_not_granted(&["spec.grants".to_owned()], Some(&greedy), true);
        assert!(widened.is_some(), "a grant cannot widen itself");
    }
}

//! Which texts of a request an entry of a rule means.

/// A gRPC method of its service; `*` stands for each of them, and for what lies behind.
pub(crate) fn is_method(wanted: &str, path: &str) -> bool {
    let called = path.strip_prefix('/').and_then(|path| path.split_once('/'));
    let (Some(wanted), Some(called)) = (wanted.split_once('/'), called) else {
        return false;
    };
    wanted.0 == called.0 && (wanted.1 == "*" || wanted.1 == called.1)
}

/// Label by label; `*` stands for one or more labels.
pub(crate) fn host_fits(pattern: &str, host: &str) -> bool {
    let labels: Vec<&str> = host.split('.').collect();
    match pattern.strip_prefix("*.") {
        Some(rest) => {
            let rest: Vec<&str> = rest.split('.').collect();
            labels.len() > rest.len() && labels.ends_with(&rest)
        }
        None => pattern == host,
    }
}

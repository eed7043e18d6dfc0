//! Kernel settings of a network namespace, under `/proc/sys/net`.

use std::fs;

use crate::{NetNs, SysError};

/// Sets `net.NAME`, for example `ipv4.ip_forward` to `1`; parts are separated by `/` or `.`,
/// so that link names with dots can be written with `/`.
///
/// `netns`: where; `None` is the namespace of the calling thread.
pub fn set(netns: Option<&NetNs>, name: &str, value: &str) -> Result<(), SysError> {
    let path = path_of(name);
    let write = || fs::write(&path, value);
    let written = match netns {
        Some(netns) => netns.enter_with(write)?,
        None => write(),
    };
    written.map_err(|e| SysError::call(format!("set {path} to {value}"), e))
}

/// Reads `net.NAME` without its line end.
pub fn get(netns: Option<&NetNs>, name: &str) -> Result<String, SysError> {
    let path = path_of(name);
    let read = || fs::read_to_string(&path);
    let text = match netns {
        Some(netns) => netns.enter_with(read)?,
        None => read(),
    };
    text.map(|t| t.trim_end().to_owned())
        .map_err(|e| SysError::call(format!("read {path}"), e))
}

fn path_of(name: &str) -> String {
    if name.contains('/') {
        format!("/proc/sys/net/{name}")
    } else {
        format!("/proc/sys/net/{}", name.replace('.', "/"))
    }
}

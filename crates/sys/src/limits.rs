//! Limits of this process.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::SysError;

/// Raises the number of descriptors this process may open to what it is allowed at most.
///
/// Returns the number. A proxy needs two per connection; the usual soft limit is 1024.
pub fn raise_open_files() -> Result<u64, SysError> {
    let what = "raise the limit of open files (RLIMIT_NOFILE)";
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).map_err(|e| SysError::call(what, e))?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).map_err(|e| SysError::call(what, e))?;
    Ok(most)
}

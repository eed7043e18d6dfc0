//! A lock file that says which process holds it.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::SysError;

/// A held lock; it goes with the process (or when dropped), whatever happens to either.
#[derive(Debug)]
pub struct LockFile {
    _lock: Flock<File>,
}

/// What came of trying to lock.
#[derive(Debug)]
pub enum Locked {
    Held(LockFile),
    /// Another process has it; its id, when the file says so.
    ByAnother {
        pid: Option<u32>,
    },
}

/// Locks `path` (made if absent, 0600) without waiting, and writes this process's id into it.
pub fn try_lock(path: &Path) -> Result<Locked, SysError> {
    use std::os::unix::fs::OpenOptionsExt;
    let call = |what: &str| {
        let what = format!("{what} the lock file {}", path.display());
        move |e: std::io::Error| SysError::call(what, e)
    };
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(call("open"))?;
    let mut lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => lock,
        Err((mut file, Errno::EWOULDBLOCK)) => {
            let mut text = String::new();
            file.read_to_string(&mut text).map_err(call("read"))?;
            let pid = text.trim().parse().ok();
            return Ok(Locked::ByAnother { pid });
        }
        Err((_, errno)) => return Err(call("lock")(errno.into())),
    };
    lock.set_len(0).map_err(call("write"))?;
    lock.rewind().map_err(call("write"))?;
    writeln!(lock, "{}", std::process::id()).map_err(call("write"))?;
    Ok(Locked::Held(LockFile { _lock: lock }))
}

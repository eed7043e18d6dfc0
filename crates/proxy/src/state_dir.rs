//! Files of the node's state: mode 0600, written whole or not at all.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::error::NodeError;

/// A generation of 100,000 workloads is about 40 MB; anything larger is not ours.
const MAX_FILE: u64 = 256 << 20;

/// The directory in which a node keeps what must survive a restart.
#[derive(Clone, Debug)]
pub(crate) struct StateDir(PathBuf);

impl StateDir {
    /// Makes the directory, mode 0700, if it is not there.
    pub(crate) fn open(path: &Path) -> Result<Self, NodeError> {
        let told = |e: io::Error| NodeError::state(path, e);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(told)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(told)?;
        Ok(Self(path.to_owned()))
    }

    /// The path of `name` inside.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The content of `name`, or `None` if there is no such file.
    pub(crate) fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let file = match File::open(self.path(name)) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        let mut content = Vec::new();
        file.take(MAX_FILE + 1).read_to_end(&mut content)?;
        if u64::try_from(content.len()).unwrap_or(u64::MAX) > MAX_FILE {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "larger than any state is",
            ));
        }
        Ok(Some(content))
    }

    /// Replaces `name`. After a crash there is the old content or the new, never a mix.
    pub(crate) fn write(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let temporary = self.path(&format!("{name}.new"));
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(content)?;
        file.sync_data()?;
        fs::rename(&temporary, self.path(name))
    }

    /// Removes `name` if it is there.
    pub(crate) fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.path(name)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A state directory that is removed with the returned guard.
    pub(crate) fn scratch() -> (tempfile::TempDir, StateDir) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let state = StateDir::open(&dir.path().join("state")).expect("opens");
        (dir, state)
    }

    #[test]
    fn files_are_private_and_replaced_whole() {
        let (_guard, state) = scratch();
        assert_eq!(state.read("a").expect("reads"), None);
        state.write("a", b"one").expect("writes");
        state.write("a", b"two").expect("writes");
        assert_eq!(
            state.read("a").expect("reads").as_deref(),
            Some(&b"two"[..])
        );
        let mode = fs::metadata(state.path("a"))
            .expect("is there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(!state.path("a.new").exists());
        state.remove("a").expect("removes");
        state.remove("a").expect("nothing to remove");
    }
}

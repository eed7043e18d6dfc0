//! The binary at a path of its own, which every user may start, and the processes made of it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::binary;

/// Who starts the binary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum User {
    /// Who runs the tests.
    Own,
    /// Somebody without any right; needs root to become them.
    Nobody,
}

/// The users that the tests can be.
pub(crate) fn users() -> &'static [User] {
    if tacit_lab::is_root() {
        &[User::Own, User::Nobody]
    } else {
        &[User::Own]
    }
}

/// A user without root's rights.
pub(crate) fn not_root() -> User {
    if tacit_lab::is_root() {
        User::Nobody
    } else {
        User::Own
    }
}

/// A copy of the binary, and a home for who starts it.
pub(crate) struct Installed {
    directory: tempfile::TempDir,
    user: User,
}

impl Installed {
    pub(crate) fn for_user(user: User) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let installed = Self { directory, user };
        // A link is enough, where the file system is the same.
        if fs::hard_link(binary(), installed.path()).is_err() {
            fs::copy(binary(), installed.path()).unwrap();
        }
        fs::create_dir(installed.home()).unwrap();
        if user == User::Nobody {
            let mut chown = Command::new("chown");
            let chown = chown.arg("65534:65534").arg(installed.home());
            assert!(chown.status().unwrap().success());
        }
        installed
    }

    /// The binary.
    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("tacit")
    }

    /// A directory of the user's.
    pub(crate) fn home(&self) -> PathBuf {
        self.directory.path().join("home")
    }

    /// The user's sockets of the mesh `default`, when the user is not root.
    pub(crate) fn runtime_dir(&self) -> PathBuf {
        self.home().join("tacit/default")
    }

    /// A command of the user.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = match self.user {
            User::Own => Command::new(self.path()),
            User::Nobody => {
                let mut command = Command::new("setpriv");
                command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]);
                command.arg(self.path());
                command
            }
        };
        command
            .args(arguments)
            .current_dir(self.home())
            .env("HOME", self.home())
            .env("XDG_RUNTIME_DIR", self.home())
            .env_remove("XDG_STATE_HOME")
            .stdin(Stdio::null());
        command
    }

    /// Processes of this copy, in whatever namespace.
    pub(crate) fn processes(&self) -> usize {
        let ours = |directory: &PathBuf| {
            // It may have ended since it was listed.
            fs::read_link(directory.join("exe")).is_ok_and(|exe| exe == self.path())
        };
        all_processes().filter(ours).count()
    }

    /// The process-id namespaces of its processes, other than that of the test itself.
    pub(crate) fn namespaces(&self) -> BTreeSet<PathBuf> {
        let own = namespace(Path::new("/proc/self"));
        all_processes()
            .filter(|at| fs::read_link(at.join("exe")).is_ok_and(|exe| exe == self.path()))
            .filter_map(|at| namespace(&at))
            .filter(|found| Some(found) != own.as_ref())
            .collect()
    }
}

/// Processes, of whatever program, that live in one of these namespaces.
pub(crate) fn processes_in(namespaces: &BTreeSet<PathBuf>) -> usize {
    let inside = |at: &PathBuf| namespace(at).is_some_and(|found| namespaces.contains(&found));
    all_processes().filter(inside).count()
}

fn namespace(process: &Path) -> Option<PathBuf> {
    fs::read_link(process.join("ns/pid")).ok()
}

fn all_processes() -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let is_process = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default();
        name.as_encoded_bytes().iter().all(u8::is_ascii_digit)
    };
    entries.map(|entry| entry.path()).filter(is_process)
}

//! Certificates for contenders that bring no authority of their own: P-256, a day long.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The identities of the two proxies.
pub(crate) const CLIENT_ID: &str = "spiffe://bench/ns/bench/sa/client";
pub(crate) const SERVER_ID: &str = "spiffe://bench/ns/bench/sa/server";

/// Files of one run, all PEM.
pub(crate) struct Certificates {
    dir: PathBuf,
}

impl Certificates {
    /// Makes them in the directory of the run, once.
    pub(crate) fn make(work: &Path) -> Result<Self, String> {
        let made = Self {
            dir: work.join("certificates"),
        };
        if made.dir.exists() {
            return Ok(made);
        }
        fs::create_dir_all(&made.dir).map_err(|e| format!("{}: {e}", made.dir.display()))?;
        made.openssl(
            "req -x509 -days 1 -subj /CN=bench -keyout ca.key -out ca.pem",
            true,
        )?;
        made.leaf("client", CLIENT_ID)?;
        made.leaf("server", SERVER_ID)?;
        Ok(made)
    }

    /// The path of a file: `ca.pem`, and for `client` and `server` `.pem`, `.key` and `.both`.
    pub(crate) fn path(&self, file: &str) -> String {
        self.dir.join(file).display().to_string()
    }

    fn leaf(&self, name: &str, identity: &str) -> Result<(), String> {
        let told = |e: std::io::Error| format!("{}: {e}", self.dir.display());
        let extensions = format!("basicConstraints=CA:FALSE\nsubjectAltName=URI:{identity}\n");
        fs::write(self.dir.join("extensions"), extensions).map_err(told)?;
        self.openssl(
            &format!("req -subj /CN={name} -keyout {name}.key -out {name}.csr"),
            true,
        )?;
        self.openssl(
            &format!(
                "x509 -req -days 1 -in {name}.csr -out {name}.pem -CA ca.pem -CAkey ca.key \
                 -CAcreateserial -extfile extensions"
            ),
            false,
        )?;
        let mut both = fs::read(self.path(&format!("{name}.pem"))).map_err(told)?;
        both.extend(fs::read(self.path(&format!("{name}.key"))).map_err(told)?);
        fs::write(self.path(&format!("{name}.both")), both).map_err(told)
    }

    fn openssl(&self, arguments: &str, new_key: bool) -> Result<(), String> {
        let mut command = Command::new("openssl");
        command.current_dir(&self.dir).args(arguments.split(' '));
        if new_key {
            command.args([
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
            ]);
        }
        let output = command.output().map_err(|e| format!("openssl: {e}"))?;
        if output.status.success() {
            return Ok(());
        }
        Err(format!(
            "openssl {arguments}: {}",
            String::from_utf8_lossy(&output.stderr)
        ))
    }
}

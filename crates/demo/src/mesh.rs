//! The mesh of the demo, brought up and taken down host by host with public commands.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use tacit_sys::spawn::StdioFrom;
use tokio::net::UnixStream;

use crate::hosts::{CONTROL, Host, Hosts, ZONES};
use crate::narrate::Narrator;
use crate::process::{Running, finish, start};

/// How long a role may take until it answers.
const UP_PATIENCE: Duration = Duration::from_secs(30);
/// How long any other command may take.
pub(crate) const COMMAND_PATIENCE: Duration = Duration::from_secs(30);

/// The settings of the mesh; further lines of its spec may follow.
const MESH: &str = include_str!("../mesh/mesh.yaml");
/// The other objects of the directory that `tacit up -f` watches.
const FILES: [(&str, &str); 2] = [
    ("workspace.yaml", include_str!("../mesh/workspace.yaml")),
    ("services.yaml", include_str!("../mesh/services.yaml")),
];

/// The `tacit up` of each host.
#[derive(Default)]
pub(crate) struct Ups {
    running: BTreeMap<&'static str, Running>,
}

/// Writes the mesh's own settings, with further lines of its spec; a mesh that is up takes them
/// over at once.
pub(crate) fn write_settings(hosts: &Hosts, more: &str) -> io::Result<()> {
    let files = hosts.control()?.dir.join("mesh");
    fs::create_dir_all(&files)?;
    // Renamed into place, so that nobody reads half of it.
    let next = files.join("mesh.yaml.next");
    fs::write(&next, format!("{MESH}{more}"))?;
    fs::rename(next, files.join("mesh.yaml"))
}

impl Ups {
    /// Starts the control plane with the settings that were written, then the zones' nodes.
    pub(crate) async fn start(&mut self, voice: &Narrator, hosts: &Hosts) -> io::Result<()> {
        self.start_control(voice, hosts).await?;
        for (zone, _) in ZONES {
            self.start_node(voice, hosts, hosts.get(zone)?).await?;
        }
        for (zone, _) in ZONES {
            let host = hosts.get(zone)?;
            self.answers(host, "node.sock").await?;
        }
        voice.figure("the control plane and four nodes answer")
    }

    /// Starts the control plane, on the state that it left if it has been up before.
    pub(crate) async fn start_control(
        &mut self,
        voice: &Narrator,
        hosts: &Hosts,
    ) -> io::Result<()> {
        let control = hosts.control()?;
        let files = control.dir.join("mesh");
        for (name, text) in FILES {
            fs::write(files.join(name), text)?;
        }
        let (files, address) = (files.display().to_string(), control.address.to_string());
        let args = ["up", "--control-only", "-f", &files, "--address", &address];
        self.up(voice, control, &args, "")?;
        self.answers(control, "control.sock").await
    }

    /// Starts the node of a zone's host, with a join token made for it.
    pub(crate) async fn start_node(
        &mut self,
        voice: &Narrator,
        hosts: &Hosts,
        host: &Host,
    ) -> io::Result<()> {
        let args = ["token", "--node", host.name];
        voice.command(CONTROL, &format!("tacit {}", args.join(" ")))?;
        let job = hosts.control()?.job("tacit", &args);
        let made = finish(job, "", COMMAND_PATIENCE).await?;
        if !made.status.success() {
            return Err(io::Error::other(format!(
                "`tacit token` failed: {}",
                made.text()
            )));
        }
        let address = host.address.to_string();
        let args = [
            "up",
            "--node",
            host.name,
            "--zone",
            host.name,
            "--address",
            &address,
            "--join",
        ];
        self.up(voice, host, &args, made.stdout.trim())
    }

    fn up(&mut self, voice: &Narrator, host: &Host, args: &[&str], token: &str) -> io::Result<()> {
        let shown = if token.is_empty() { "" } else { " TOKEN" };
        voice.command(host.name, &format!("tacit {}{shown}", args.join(" ")))?;
        let mut all = args.to_vec();
        all.extend((!token.is_empty()).then_some(token));
        let log = fs::File::create(host.dir.join("up.log"))?;
        let running = start(host.job("tacit", &all), StdioFrom::Descriptor(log.into()))?;
        self.running.insert(host.name, running);
        Ok(())
    }

    /// Waits until the host's `up` answers on a socket of its.
    pub(crate) async fn answers(&mut self, host: &Host, socket: &str) -> io::Result<()> {
        let Some(up) = self.running.get_mut(host.name) else {
            return Err(io::Error::other(format!("{} is not up", host.name)));
        };
        let path = host.dir.join("run").join(socket);
        let log = |what: &str| {
            let log = fs::read_to_string(host.dir.join("up.log")).unwrap_or_default();
            io::Error::other(format!(
                "{}: `tacit up` {what}:\n{}",
                host.name,
                last_lines(&log)
            ))
        };
        tokio::select! {
            () = connectable(&path) => Ok(()),
            status = up.ended() => Err(log(&format!("ended ({})", status?))),
            () = tokio::time::sleep(UP_PATIENCE) => Err(log("does not answer")),
        }
    }

    /// The process id of a host's `up`.
    pub(crate) fn pid(&self, host: &Host) -> Option<u32> {
        self.running.get(host.name).map(Running::pid)
    }

    /// Forgets a host's `up`, which has been killed.
    pub(crate) async fn forget(&mut self, host: &Host) -> io::Result<()> {
        match self.running.remove(host.name) {
            Some(mut up) => up.ended().await.map(drop),
            None => Ok(()),
        }
    }

    /// Stops all, the nodes before the control plane.
    pub(crate) async fn stop(&mut self) -> io::Result<()> {
        let control = self.running.remove(CONTROL);
        let nodes = std::mem::take(&mut self.running);
        for mut up in nodes.into_values().chain(control) {
            up.stop().await?;
        }
        Ok(())
    }
}

/// Waits until a Unix socket takes connections.
pub(crate) async fn connectable(path: &Path) {
    while UnixStream::connect(path).await.is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Calls `ready` until it says so, or an error after `patience`.
pub(crate) async fn until(
    what: &str,
    patience: Duration,
    mut ready: impl AsyncFnMut() -> io::Result<bool>,
) -> io::Result<()> {
    let end = Instant::now() + patience;
    while !ready().await? {
        if Instant::now() > end {
            let text = format!("waited {patience:?} for {what}");
            return Err(io::Error::new(io::ErrorKind::TimedOut, text));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// The end of a log, short enough for an error message.
fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

//! A run of the demo from its first namespace to its last: `tacit demo`.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nix::mount::{MsFlags, mount};
use tacit_sys::spawn::StdioFrom;
use tacit_sys::userns::{Isolated, Isolation, is_root, isolate};
use tokio::signal::unix::{SignalKind, signal};

use crate::acts::{self, Act};
use crate::capture::Capture;
use crate::figures::{Bound, Figures};
use crate::hosts::{Host, Hosts};
use crate::load::report::{Line, Live, Report};
use crate::mesh::{self, COMMAND_PATIENCE, Ups};
use crate::narrate::Narrator;
use crate::process::{Finished, Job, Running, finish, start};
use crate::prompt;

/// Options of `tacit demo`.
#[derive(clap::Args, Clone, Debug)]
#[group(id = "demo-options")]
pub struct DemoArgs {
    /// Play all acts unattended, print a table of measured results, and end.
    #[arg(long)]
    pub once: bool,
    /// Write the measured results to this file, as JSON.
    #[arg(long)]
    pub report: Option<PathBuf>,
    /// Play only these acts. Without it, all but `changes` and `outage`, which take longer.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub act: Vec<Act>,
    /// Play only what happens without a mesh: the control runs of the wire and failover acts.
    #[arg(long, conflicts_with = "act")]
    pub without_mesh: bool,
}

/// What the acts play with.
pub(crate) struct Stage {
    pub(crate) voice: Narrator,
    pub(crate) hosts: Hosts,
    pub(crate) ups: Ups,
    pub(crate) apps: Vec<App>,
    pub(crate) figures: Figures,
    pub(crate) dir: PathBuf,
    /// Whether all this happens in a user namespace, without real root.
    pub(crate) rootless: bool,
}

/// A program that runs as a workload of the mesh.
pub(crate) struct App {
    pub(crate) host: &'static str,
    pub(crate) running: Running,
    /// Where the sample application answers what it has seen.
    pub(crate) observe: Option<PathBuf>,
}

/// Plays the demo. Call it before any thread starts: it moves into namespaces of its own.
///
/// Exit code 1: a promised count was not met, or an act could not be played.
///
/// # Errors
/// A sentence that says what is missing: namespaces, a tool, a file that cannot be written.
pub fn run(args: &DemoArgs) -> Result<ExitCode, String> {
    let tacit =
        std::env::current_exe().map_err(|e| format!("cannot find the tacit binary: {e}"))?;
    // Opened before the private mounts hide a part of the file system.
    let report = args.report.as_ref().map(|path| {
        File::create(path).map_err(|e| format!("cannot write {}: {e}", path.display()))
    });
    let report = report.transpose()?;
    let rootless = !is_root();
    let what = Isolation {
        user: rootless,
        mount: true,
        net: true,
        pid: true,
    };
    match isolate(what).map_err(|e| e.to_string())? {
        Isolated::Outside { exit_code } => return Ok(ExitCode::from(exit_code)),
        Isolated::Inside => {}
    }
    tacit_sys::limits::raise_open_files().map_err(|e| e.to_string())?;
    let dir = private_dir(&tacit)?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| format!("cannot start the runtime: {e}"))?
        .block_on(async { play(args, Stage::new(dir, &tacit, rootless)?, report).await })
        .map_err(|e: io::Error| e.to_string())
}

/// A directory in memory that nobody else sees and that is gone with the demo.
fn private_dir(tacit: &Path) -> Result<PathBuf, String> {
    // Where it hides neither the binary nor anything that programs need.
    let places = ["/mnt", "/media", "/srv", "/opt", "/tmp"].map(Path::new);
    let place = places
        .into_iter()
        .find(|place| place.is_dir() && !tacit.starts_with(place));
    let place = place.ok_or("none of /mnt, /media, /srv, /opt, /tmp can hold private files")?;
    mount(
        Some("demo"),
        place,
        Some("tmpfs"),
        MsFlags::MS_NODEV,
        Some("mode=0755"),
    )
    .map_err(|e| {
        format!(
            "cannot mount a private directory at {}: {e}",
            place.display()
        )
    })?;
    Ok(place.to_path_buf())
}

async fn play(args: &DemoArgs, mut stage: Stage, report: Option<File>) -> io::Result<ExitCode> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let played = tokio::select! {
        played = stage.play(args) => Some(played),
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
    };
    let Some(played) = played else {
        stage.voice.say("\nending everything")?;
        stage.end().await?;
        return Ok(ExitCode::from(130));
    };
    if let Err(error) = played {
        stage.figures.broken.push(error.to_string());
    }
    stage.voice.title("Measured")?;
    stage.voice.say(&stage.figures.table())?;
    if let Some(mut file) = report {
        serde_json::to_writer_pretty(&file, &stage.figures)?;
        file.write_all(b"\n")?;
    }
    let met = stage.figures.all_met();
    if !args.once && !stage.ups_are_gone() {
        tokio::select! {
            asked = prompt::serve(&mut stage) => asked?,
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stage.voice.say("\nending everything")?;
    }
    stage.end().await?;
    Ok(if met {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(1)
    })
}

impl Stage {
    fn new(dir: PathBuf, tacit: &Path, rootless: bool) -> io::Result<Self> {
        Ok(Self {
            voice: Narrator::new(),
            hosts: Hosts::make(&dir, tacit)?,
            ups: Ups::default(),
            apps: Vec::new(),
            figures: Figures::default(),
            dir,
            rootless,
        })
    }

    async fn play(&mut self, args: &DemoArgs) -> io::Result<()> {
        if args.without_mesh {
            return acts::without_mesh(self).await;
        }
        self.voice
            .title("A mesh of four zones in two regions, on this machine")?;
        let program = acts::program(&args.act);
        mesh::write_settings(&self.hosts, acts::settings(&program))?;
        self.ups.start(&self.voice, &self.hosts).await?;
        for act in program {
            if let Err(error) = acts::play(self, act).await {
                self.voice.say(&format!("act {act:?} broke off: {error}"))?;
                self.figures.broken.push(format!("act {act:?}: {error}"));
                self.stop_apps().await?;
            }
        }
        Ok(())
    }

    fn ups_are_gone(&self) -> bool {
        self.hosts
            .all
            .iter()
            .all(|host| self.ups.pid(host).is_none())
    }

    /// Prints a `tacit` command, runs it on a host, and returns what came of it.
    pub(crate) async fn tell(&self, host: &str, args: &[&str]) -> io::Result<Finished> {
        self.tell_with(host, args, "").await
    }

    /// As [`Stage::tell`], with standard input, which is printed too.
    pub(crate) async fn tell_with(
        &self,
        host: &str,
        args: &[&str],
        stdin: &str,
    ) -> io::Result<Finished> {
        self.voice
            .command(host, &format!("tacit {}", shell_words(args)))?;
        if !stdin.is_empty() {
            self.voice.quote(stdin, 40)?;
        }
        finish(
            self.hosts.get(host)?.job("tacit", args),
            stdin,
            COMMAND_PATIENCE,
        )
        .await
    }

    /// As [`Stage::tell_with`]; a failing command is an error that quotes it.
    pub(crate) async fn must(
        &self,
        host: &str,
        args: &[&str],
        stdin: &str,
    ) -> io::Result<Finished> {
        let done = self.tell_with(host, args, stdin).await?;
        if done.status.success() {
            return Ok(done);
        }
        let (line, text) = (shell_words(args), done.text());
        Err(io::Error::other(format!(
            "`tacit {line}` failed ({}): {}",
            done.status,
            text.trim()
        )))
    }

    /// Starts a program as a workload and keeps it.
    pub(crate) fn start_app(
        &mut self,
        host: &'static str,
        options: &[&str],
        command: &[&str],
        observe: Option<PathBuf>,
    ) -> io::Result<()> {
        let mut args = vec!["run"];
        args.extend_from_slice(options);
        args.push("--");
        args.extend_from_slice(command);
        self.voice
            .command(host, &format!("tacit {}", shell_words(&args)))?;
        let at = self.hosts.get(host)?;
        let name = format!(
            "{}-{host}",
            options.get(1).unwrap_or(&"app").replace('/', "-")
        );
        let running = start(at.job("tacit", &args), self.log(at, &name)?)?;
        self.apps.push(App {
            host,
            running,
            observe,
        });
        Ok(())
    }

    /// Stops all programs that acts have started.
    pub(crate) async fn stop_apps(&mut self) -> io::Result<()> {
        // All are asked first, so that they end at the same time.
        for app in &self.apps {
            app.running.signal(tacit_sys::signals::Signal::SIGTERM)?;
        }
        for mut app in std::mem::take(&mut self.apps) {
            app.running.stop().await?;
        }
        Ok(())
    }

    /// Starts a capture of the bridge: every frame between any two hosts.
    pub(crate) async fn capture(&self) -> io::Result<Capture> {
        let file = self.dir.join("wire.pcap");
        let (netns, bridge) = (&self.hosts.netns, &self.hosts.bridge);
        if self.rootless {
            self.voice
                .say("(capturing the bridge; tcpdump itself needs real root)")?;
            return Capture::own(netns, bridge, file);
        }
        self.voice
            .command("the bridge", "tcpdump -i wire -s 0 -w wire.pcap")?;
        Capture::tcpdump(netns.clone(), bridge, file).await
    }

    /// Adds a result and says it.
    pub(crate) fn figure(
        &mut self,
        act: &'static str,
        what: &str,
        value: (f64, &'static str),
        bound: Bound,
    ) -> io::Result<()> {
        let line = self.figures.add(act, what, value, bound);
        self.voice.figure(&line)
    }

    fn log(&self, host: &Host, name: &str) -> io::Result<StdioFrom> {
        let file = File::options()
            .create(true)
            .append(true)
            .open(host.dir.join(name))?;
        Ok(StdioFrom::Descriptor(file.into()))
    }

    /// Starts a job with its errors in a file of the host.
    pub(crate) fn start_job(&self, host: &Host, name: &str, job: Job) -> io::Result<Running> {
        start(job, self.log(host, name)?)
    }

    async fn end(&mut self) -> io::Result<()> {
        self.stop_apps().await?;
        self.ups.stop().await
    }
}

/// A load that runs.
pub(crate) struct Loader {
    host: &'static str,
    running: Running,
}

impl Loader {
    /// `running`: a `tacit load --commands` on `host`.
    pub(crate) fn new(host: &'static str, running: Running) -> Self {
        Self { host, running }
    }

    /// Begins a phase; the report of the former one follows when its last request has ended.
    pub(crate) async fn begin(&mut self, phase: &str) -> io::Result<()> {
        self.running.tell(&format!("phase {phase}")).await
    }

    /// Narrates live lines until the next report.
    pub(crate) async fn report(&mut self, voice: &Narrator) -> io::Result<Report> {
        loop {
            match self.line().await? {
                Line::Live(live) => voice.live(self.host, &live)?,
                Line::Report(report) => return Ok(report),
                Line::Complaint(text) => return Err(io::Error::other(text)),
            }
        }
    }

    /// Narrates the next live line and returns it.
    pub(crate) async fn live(&mut self, voice: &Narrator) -> io::Result<Live> {
        match self.line().await? {
            Line::Live(live) => {
                voice.live(self.host, &live)?;
                Ok(live)
            }
            other @ (Line::Report(_) | Line::Complaint(_)) => Err(io::Error::other(format!(
                "the load generator says {other:?}"
            ))),
        }
    }

    /// Ends the load; returns the report of its last phase.
    pub(crate) async fn stop(mut self, voice: &Narrator) -> io::Result<Report> {
        self.running.tell("stop").await?;
        self.finish(voice).await
    }

    /// Waits for its end by itself; returns its report.
    pub(crate) async fn finish(mut self, voice: &Narrator) -> io::Result<Report> {
        let report = self.report(voice).await?;
        self.running.stop().await?;
        Ok(report)
    }

    async fn line(&mut self) -> io::Result<Line> {
        let Some(line) = self.running.line().await? else {
            let status = self.running.ended().await?;
            return Err(io::Error::other(format!(
                "the load generator ended ({status})"
            )));
        };
        serde_json::from_str(&line)
            .map_err(|e| io::Error::other(format!("the load generator says {line:?}: {e}")))
    }
}

/// Words as a person would type them in a shell.
pub(crate) fn shell_words(args: &[&str]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,@%+".contains(c);
    let quote = |arg: &&str| match !arg.is_empty() && arg.chars().all(plain) {
        true => (*arg).to_owned(),
        false => format!("'{}'", arg.replace('\'', r"'\''")),
    };
    args.iter().map(quote).collect::<Vec<_>>().join(" ")
}

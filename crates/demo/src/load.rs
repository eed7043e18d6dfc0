//! The load generator: a constant stream of requests, each of whose endings is counted.

use std::io::{self, Write};
use std::thread;
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use crate::client::Target;
use phase::Phase;
use report::Line;
use sender::Sender;

mod phase;
pub mod report;
mod sender;

/// Longest name of a phase, in bytes: a few words.
const MAX_PHASE: usize = 256;
/// Commands that may wait: a person or a script sends one at a time.
const WAITING_COMMANDS: usize = 16;

/// Options of `tacit load`.
#[derive(clap::Args, Clone, Debug)]
pub struct LoadArgs {
    /// What to call: `http://HOST[:PORT]/PATH`.
    #[arg(long)]
    pub url: String,
    /// Requests per second; 0: as many as the connections carry.
    #[arg(long, default_value_t = 100)]
    pub rate: u32,
    /// Stop after this many requests; absent: at SIGTERM or SIGINT.
    #[arg(long)]
    pub requests: Option<u64>,
    /// Every N-th request is a POST; 0: none.
    #[arg(long, default_value_t = 0)]
    pub post_every: u64,
    /// Requests that may be under way at once.
    #[arg(long, default_value_t = 64)]
    pub concurrency: usize,
    /// Connections that are opened before any is used again, in turn to each address of the host.
    #[arg(long, default_value_t = 16)]
    pub connections: usize,
    /// Give up on a request after this many milliseconds.
    #[arg(long, default_value_t = 3000)]
    pub timeout_ms: u64,
    /// A connection for each request, instead of connections that are used again.
    #[arg(long)]
    pub no_keep_alive: bool,
    /// The body of POSTs.
    #[arg(long, default_value = "{}")]
    pub body: String,
    /// Prefix of the requests' ids.
    #[arg(long, default_value = "load")]
    pub name: String,
    /// Print what happened every so many milliseconds; 0: only at the end.
    #[arg(long, default_value_t = 0)]
    pub live_ms: u64,
    /// Read commands from standard input: `phase NAME`, `rate N`, `stop`.
    #[arg(long)]
    pub commands: bool,
}

enum Command {
    Phase(String),
    Rate(u32),
    Stop,
    Unknown(String),
}

/// Sends requests until told to stop; prints one JSON line per report (see [`report::Line`]).
///
/// # Errors
/// A URL that is none, or an output that is closed.
pub fn run(args: LoadArgs) -> io::Result<()> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(generate(args))
}

async fn generate(args: LoadArgs) -> io::Result<()> {
    let target = Target::parse(&args.url).map_err(io::Error::other)?;
    let patience = Duration::from_millis(args.timeout_ms);
    let live = (args.live_ms > 0).then(|| Duration::from_millis(args.live_ms));
    let (commands_in, mut commands) = mpsc::channel(WAITING_COMMANDS);
    if args.commands {
        let commands_in = commands_in.clone();
        thread::Builder::new().spawn(move || read_commands(&commands_in))?;
    }
    let (rate_in, rate) = watch::channel(args.rate);
    let (phase_in, phase) = watch::channel(Phase::start("all"));
    let mut pace = tokio::spawn(Sender::new(args, target).pace(rate, phase));
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut next_live = live.map(|every| Instant::now() + every);
    loop {
        tokio::select! {
            () = at(next_live) => {
                next_live = next_live.zip(live).map(|(last, every)| last + every);
                let line = phase_in.borrow().live();
                print(&Line::Live(line))?;
            }
            Some(command) = commands.recv() => match command {
                Command::Phase(name) => {
                    let ended = phase_in.send_replace(Phase::start(&name));
                    ended.settle(patience).await;
                    print(&Line::Report(ended.report()))?;
                }
                Command::Rate(rate) => drop(rate_in.send(rate)),
                Command::Unknown(line) => print(&Line::Complaint(format!(
                    "{line:?} is not `phase NAME`, `rate N` or `stop`"
                )))?,
                Command::Stop => break,
            },
            _ = &mut pace => break,
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    pace.abort();
    let last = phase_in.send_replace(Phase::start("after the end"));
    last.settle(patience).await;
    print(&Line::Report(last.report()))
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}

/// Standard input blocks, so it has a thread of its own, which ends with the process.
fn read_commands(commands: &mpsc::Sender<Command>) {
    for line in io::stdin().lines().map_while(Result::ok) {
        let command = match line.trim().split_once(' ') {
            Some(("phase", name)) if name.len() < MAX_PHASE => Command::Phase(name.to_owned()),
            Some(("rate", rate)) => match rate.parse() {
                Ok(rate) => Command::Rate(rate),
                Err(_) => Command::Unknown(line),
            },
            None if line.trim() == "stop" => Command::Stop,
            _ => Command::Unknown(line),
        };
        if commands.blocking_send(command).is_err() {
            return;
        }
    }
}

fn print(line: &Line) -> io::Result<()> {
    let mut text = serde_json::to_string(line)?;
    text.push('\n');
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

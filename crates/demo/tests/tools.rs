//! The sample application, the load generator and the demo's hosts, as real processes.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test panics to fail, and says what it ran"
)]

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::thread;
use std::time::Duration;

use clap::{Parser, Subcommand};
use tacit_demo::load::report::{How, Line, Report};
use tacit_demo::sample::seen::{SeenReport, repeated_posts};

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    tool: Tool,
}

#[derive(Subcommand)]
enum Tool {
    Sample(tacit_demo::sample::SampleArgs),
    Load(tacit_demo::load::LoadArgs),
    Demo(tacit_demo::DemoArgs),
}

fn main() -> ExitCode {
    let first = std::env::args().nth(1).unwrap_or_default();
    if ["sample", "load", "demo"].contains(&first.as_str()) {
        return play(Cli::parse().tool);
    }
    let tests: [(&str, fn()); 7] = [
        ("every_ending_is_counted_once", every_ending_is_counted_once),
        (
            "a_flaky_service_fails_its_share",
            a_flaky_service_fails_its_share,
        ),
        ("repeated_posts_are_noticed", repeated_posts_are_noticed),
        ("endings_that_are_not_answers", endings_that_are_not_answers),
        ("phases_divide_the_requests", phases_divide_the_requests),
        ("one_service_calls_another", one_service_calls_another),
        ("demos_leave_nothing_behind", demos_leave_nothing_behind),
    ];
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with('-'))
        .collect();
    for (name, test) in tests {
        if wanted.is_empty() || wanted.iter().any(|part| name.contains(part.as_str())) {
            println!("test {name}");
            test();
        }
    }
    ExitCode::SUCCESS
}

fn play(tool: Tool) -> ExitCode {
    let result = match tool {
        Tool::Sample(args) => tacit_demo::sample::run(args).map_err(|e| e.to_string()),
        Tool::Load(args) => tacit_demo::load::run(args).map_err(|e| e.to_string()),
        Tool::Demo(args) => match tacit_demo::run(&args) {
            Ok(code) => return code,
            Err(error) => Err(error),
        },
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(1)
        }
    }
}

fn tool(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(args);
    command
}

/// A running sample application, killed when the test is done with it.
struct Sample {
    child: Child,
    port: u16,
}

impl Sample {
    fn start(options: &[&str]) -> Self {
        // A port that was free a moment ago; another process may take it, so try again then.
        for _ in 0..10 {
            let port = TcpListener::bind("127.0.0.1:0")
                .unwrap()
                .local_addr()
                .unwrap()
                .port();
            let text = port.to_string();
            let mut args = vec!["sample", "--bind", "127.0.0.1", "--port", &text];
            args.extend(options);
            let mut child = tool(&args).spawn().unwrap();
            while child.try_wait().unwrap().is_none() {
                if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                    return Self { child, port };
                }
                thread::sleep(Duration::from_millis(5));
            }
        }
        panic!("no free port");
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/charge", self.port)
    }

    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text.split_once("\r\n\r\n").unwrap().1.to_owned()
    }

    fn seen(&self) -> SeenReport {
        serde_json::from_str(&self.get("/_seen")).unwrap()
    }

    fn stop(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn load(url: &str, options: &[&str]) -> Report {
    let mut args = vec!["load", "--url", url];
    args.extend(options);
    let output = tool(&args).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    match serde_json::from_str(text.lines().last().unwrap()).unwrap() {
        Line::Report(report) => report,
        Line::Live(_) | Line::Complaint(_) => panic!("{text}"),
    }
}

fn every_ending_is_counted_once() {
    let sample = Sample::start(&["--zone", "here"]);
    let options = ["--rate", "0", "--requests", "1000", "--post-every", "4"];
    let report = load(&sample.url(), &options);
    let (get, post) = (report.method("GET"), report.method("POST"));
    assert_eq!((get.sent, get.ok, post.sent, post.ok), (750, 750, 250, 250));
    assert_eq!((report.unfinished, report.zone("here")), (0, 1000));
    let seen = sample.seen();
    assert_eq!(
        (seen.started, seen.posts.len(), seen.forgotten),
        (1000, 250, 0)
    );
    assert!(repeated_posts(&[seen]).is_empty());
    sample.stop();
}

fn a_flaky_service_fails_its_share() {
    let sample = Sample::start(&["--fail-percent", "10", "--seed", "7"]);
    let report = load(&sample.url(), &["--rate", "0", "--requests", "5000"]);
    let get = report.method("GET");
    let failed = get.status.get(&503).copied().unwrap();
    assert!((400..=600).contains(&failed), "{failed}");
    assert_eq!((get.failed(), get.ok), (failed, 5000 - failed));
    assert_eq!(sample.seen().failed, failed);
    sample.stop();
}

/// The control of every "no POST was repeated": the same ids sent twice are found.
fn repeated_posts_are_noticed() {
    let (a, b) = (Sample::start(&[]), Sample::start(&[]));
    let options = ["--rate", "0", "--requests", "10", "--post-every", "1"];
    load(&a.url(), &options);
    load(&b.url(), &options);
    assert_eq!(repeated_posts(&[a.seen()]).len(), 0);
    assert_eq!(repeated_posts(&[a.seen(), b.seen()]).len(), 10);
    a.stop();
    b.stop();
}

/// Servers that never answer, close at once, or stop in the middle of an answer.
fn endings_that_are_not_answers() {
    let cases: [(&str, Option<&str>, How); 3] = [
        ("silence", None, How::Timeout),
        ("close", Some(""), How::Reset),
        (
            "half",
            Some("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"),
            How::Cut,
        ),
    ];
    for (name, answer, wanted) in cases {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let server = thread::spawn(move || {
            let mut open = Vec::new();
            for _ in 0..3 {
                let (mut stream, _) = listener.accept().unwrap();
                let mut head = [0; 4096];
                assert!(stream.read(&mut head).unwrap() > 0);
                match answer {
                    Some(answer) => stream.write_all(answer.as_bytes()).unwrap(),
                    None => open.push(stream),
                }
            }
            open
        });
        let report = load(
            &url,
            &["--rate", "0", "--requests", "3", "--timeout-ms", "300"],
        );
        drop(server.join().unwrap());
        let hows: Vec<&How> = report.failures.iter().map(|failed| &failed.how).collect();
        assert_eq!(hows, [&wanted; 3], "{name}");
        assert_eq!(
            (report.method("GET").ok, report.unfinished),
            (0, 0),
            "{name}"
        );
    }
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let report = load(
        &format!("http://{free}/"),
        &["--rate", "0", "--requests", "3"],
    );
    assert_eq!(report.method("GET").connect, 3);
}

fn phases_divide_the_requests() {
    let sample = Sample::start(&["--delay-ms", "20"]);
    let url = sample.url();
    let args = [
        "load",
        "--url",
        &url,
        "--rate",
        "500",
        "--commands",
        "--live-ms",
        "50",
    ];
    let mut child = tool(&args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let live = next(
        &mut lines,
        |line| matches!(line, Line::Live(live) if live.ok > 0),
    );
    assert!(matches!(live, Line::Live(live) if live.phase == "all"));
    writeln!(input, "nonsense\nphase second").unwrap();
    next(
        &mut lines,
        |line| matches!(line, Line::Complaint(text) if text.contains("nonsense")),
    );
    let first = next(&mut lines, |line| matches!(line, Line::Report(_)));
    next(
        &mut lines,
        |line| matches!(line, Line::Live(live) if live.phase == "second"),
    );
    writeln!(input, "stop").unwrap();
    let second = next(&mut lines, |line| matches!(line, Line::Report(_)));
    assert!(child.wait().unwrap().success());
    let (Line::Report(first), Line::Report(second)) = (first, second) else {
        unreachable!()
    };
    assert_eq!(
        (first.phase.as_str(), second.phase.as_str()),
        ("all", "second")
    );
    let sent = first.method("GET").sent + second.method("GET").sent;
    assert_eq!(
        (sample.seen().started, first.unfinished, second.unfinished),
        (sent, 0, 0)
    );
    sample.stop();
}

fn next(lines: &mut BufReader<ChildStdout>, wanted: impl Fn(&Line) -> bool) -> Line {
    loop {
        let mut text = String::new();
        assert!(
            lines.read_line(&mut text).unwrap() > 0,
            "the load generator ended"
        );
        let line = serde_json::from_str(&text).unwrap();
        if wanted(&line) {
            return line;
        }
    }
}

fn one_service_calls_another() {
    let inner = Sample::start(&["--name", "inner", "--text", "from the inside"]);
    let url = inner.url();
    let outer = Sample::start(&["--name", "outer", "--calls", &url]);
    let text = outer.get("/");
    assert!(
        text.contains("\"outer\"") && text.contains("from the inside"),
        "{text}"
    );
    inner.stop();
    let text = outer.get("/");
    assert!(text.contains("\"failed\""), "{text}");
    outer.stop();
}

/// Two demos at once, without a mesh; one ends by itself, one is killed in the middle of its work.
fn demos_leave_nothing_behind() {
    let possible = Command::new("unshare").args(["-Urn", "true"]).status();
    if !possible.is_ok_and(|status| status.success()) {
        println!("SKIPPED demos_leave_nothing_behind: this machine gives no namespaces");
        return;
    }
    let before = outside_world();
    let whole = tool(&["demo", "--once", "--without-mesh"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut killed = tool(&["demo", "--once", "--without-mesh"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(killed.stdout.take().unwrap()).lines();
    let busy = lines.any(|line| line.unwrap().contains("eu-west-1a: ok"));
    assert!(busy, "the demo that is to be killed has no load");
    let inside = processes_below(killed.id());
    assert!(inside.len() > 6, "{inside:?}");
    killed.kill().unwrap();
    killed.wait().unwrap();
    // The pipe ends when its last holder inside has ended.
    lines.for_each(drop);
    let output = whole.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(
        text.contains("met (≥ 1)") && !text.contains("MISSED"),
        "{text}"
    );
    for pid in inside {
        assert!(!is_ours(pid), "process {pid} outlived the demo");
    }
    assert_eq!(outside_world(), before);
}

/// Links, mounts and rules of this machine.
fn outside_world() -> (BTreeSet<String>, String, String) {
    let links = fs::read_dir("/sys/class/net").unwrap();
    let links = links
        .map(|link| link.unwrap().file_name().into_string().unwrap())
        .collect();
    let rules = Command::new("nft").args(["list", "ruleset"]).output();
    let rules = rules.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    (
        links,
        fs::read_to_string("/proc/self/mounts").unwrap(),
        rules.unwrap_or_default(),
    )
}

/// True while a process of this test's own binary has that id.
fn is_ours(pid: u32) -> bool {
    let exe = fs::read_link(format!("/proc/{pid}/exe"));
    exe.is_ok_and(|exe| exe == std::env::current_exe().unwrap())
}

fn processes_below(root: u32) -> Vec<u32> {
    let mut found = Vec::new();
    let mut open = vec![root];
    while let Some(parent) = open.pop() {
        let Ok(tasks) = fs::read_dir(format!("/proc/{parent}/task")) else {
            continue;
        };
        for task in tasks {
            let path = task.unwrap().path().join("children");
            let text = fs::read_to_string(path).unwrap_or_default();
            for child in text.split_whitespace().map(|word| word.parse().unwrap()) {
                found.push(child);
                open.push(child);
            }
        }
    }
    found
}

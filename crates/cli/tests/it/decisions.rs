//! Every decision of a randomized run, made again by another process from the log alone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tacit_lab::Running;

use crate::support::{Mesh, binary, text};

/// Requests that a run must have made at least.
const REQUESTS: usize = 2000;
/// Times that the policies change while requests are under way.
const CHANGES: u64 = 8;

const MESH: &str = "\
apiVersion: tacit.dev/v1alpha1
kind: Mesh
metadata: {name: default}
spec:
  localities: [{region: r1, zones: [a, b]}, {region: r2, zones: [c]}]
---
apiVersion: v1
kind: Service
metadata: {name: payments, namespace: shop}
spec: {selector: {app: payments}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: lite, namespace: shop}
spec: {selector: {app: lite}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: raw, namespace: shop}
spec: {selector: {app: raw}, ports: [{name: tcp, port: 9090, targetPort: 9090}]}
";

/// Numbers that repeat from their seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }

    fn one_of<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[usize::try_from(self.below(words.len() as u64)).unwrap()]
    }
}

/// Retries, failover and access with numbers of chance.
fn policies(chance: &mut Chance) -> String {
    let head = |kind: &str, name: &str, service: &str| {
        format!(
            "---\napiVersion: tacit.dev/v1alpha1\nkind: {kind}\n\
             metadata: {{name: {name}, namespace: shop}}\nspec:\n  \
             targetRefs: [{{group: '', kind: Service, name: {service}}}]\n"
        )
    };
    let retry = format!(
        "  timeout: {{request: {}s, perTry: {}ms}}\n  retry:\n    attempts: {}\n    codes: [503]\n    \
         on: [ConnectFailure, RefusedStream, GatewayError, Reset, DeadlineExceeded]\n    \
         nonIdempotent: {}\n    \
         budget: {{retryPercent: {}, interval: 2s, minPerSecond: {}}}\n",
        1 + chance.below(3),
        100 + chance.below(400),
        1 + chance.below(3),
        chance.one_of(&["true", "false"]),
        10 + chance.below(40),
        1 + chance.below(10),
    );
    let failover = format!(
        "  order:\n  - places: [{{zone: same}}]\n  - places: [{{region: same}}]\n  \
         - places: [{{region: r1, weight: {}}}, {{region: r2, weight: {}}}]\n  \
         - service: {{name: lite}}\n  health:\n    \
         signals: [Readiness, Connect, Timeout, Session, GatewayError]\n    \
         eject: {{consecutive: {}, within: 5s, for: 1s, maxPercent: 60}}\n  \
         spill: {{belowPercent: 70, ramp: 1s}}\n  failback: {{after: 500ms, ramp: 1s}}\n  \
         whenNoneHealthy: {}\n",
        1 + chance.below(80),
        1 + chance.below(80),
        2 + chance.below(3),
        chance.one_of(&["Any", "Fail"]),
    );
    let deny = format!(
        "  action: Deny\n  mode: {}\n  rules:\n  - from: [{{serviceAccounts: [outsider]}}]\n  \
         - to: [{{methods: [POST], paths: [/{}/*]}}]\n",
        chance.one_of(&["Enforce", "Enforce", "Audit"]),
        chance.one_of(&["admin", "charge"]),
    );
    let route = format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\n\
         metadata: {{name: payments, namespace: shop}}\nspec:\n  \
         parentRefs: [{{group: '', kind: Service, name: payments}}]\n  rules:\n  \
         - matches:\n    - path: {{value: /charge}}\n      method: {}\n    \
         - queryParams: [{{name: x, value: '{}'}}]\n    timeouts: {{request: {}s}}\n    \
         backendRefs: [{{name: payments, port: 80, weight: {}}}, {{name: lite, port: 80}}]\n  \
         - backendRefs: [{{name: payments, port: 80}}]\n",
        chance.one_of(&["GET", "POST"]),
        chance.below(2),
        1 + chance.below(3),
        1 + chance.below(20),
    );
    let rate = format!(
        "  limits:\n  - {{requests: {}, per: 1s, key: [{{type: Identity}}]}}\n",
        20 + chance.below(60),
    );
    let fault = format!(
        "  until: 2099-01-31T00:00:00Z\n  delay: {{time: {}ms, sharePercent: 20}}\n  abort: \
         {{status: 503, sharePercent: 10}}\n",
        1 + chance.below(50),
    );
    let closed = "  action: Deny\n  rules:\n  - from: [{serviceAccounts: [outsider]}]\n";
    [
        head("RetryTimeoutPolicy", "payments", "payments") + &retry,
        head("FailoverPolicy", "payments", "payments") + &failover,
        head("AccessPolicy", "payments", "payments") + &deny,
        head("AccessPolicy", "raw", "raw") + closed,
        head("RateLimitPolicy", "payments", "payments") + &rate,
        head("FaultPolicy", "payments", "payments") + &fault,
        route,
    ]
    .concat()
}

/// A mesh with its applications, whose node logs every decision.
struct Run {
    mesh: Mesh,
    log: PathBuf,
    access: PathBuf,
    chance: Chance,
}

impl Run {
    fn start(seed: u64) -> Self {
        let (log, access) = ("decisions.jsonl", "access.jsonl");
        let mesh = Mesh::up_told(&[("mesh.yaml", MESH)], |directory| {
            let at = |file: &str| directory.join(file).display().to_string();
            let (decisions, access) = (at(log), at(access));
            let options = ["--decision-log", &decisions, "--access-log", &access];
            let tuning = ["--workers", "2", "--zone", "a"];
            options
                .iter()
                .chain(&tuning)
                .map(ToString::to_string)
                .collect()
        });
        let at = |file| mesh.machine.directory().join(file);
        Self {
            log: at(log),
            access: at(access),
            mesh,
            chance: Chance(seed),
        }
    }

    fn sample(&mut self, name: &str, app: &str, zone: &str, more: &[&str]) -> Running {
        let (identity, seed) = (format!("shop/{app}"), self.chance.below(1000).to_string());
        let program = binary().display().to_string();
        let port = if app == "raw" { "9090" } else { "8080" };
        let named = if app == "raw" {
            "tcp:9090"
        } else {
            "http:8080"
        };
        let run = ["--as", &identity, "--name", name, "--zone", zone];
        let sample = ["--", &program, "sample", "--port", port, "--seed", &seed];
        let all = [&run[..], &["--port", named], &sample, more].concat();
        self.mesh.start(&all)
    }

    fn load(&self, caller: &str, zone: &str, url: &str, more: &[&str]) -> Running {
        let identity = format!("shop/{caller}");
        let program = binary().display().to_string();
        let run = ["--as", &identity, "--zone", zone, "--", &program, "load"];
        let load = ["--url", url, "--rate", "60", "--timeout-ms", "10000"];
        self.mesh.start(&[&run[..], &load, more].concat())
    }

    fn write_policies(&mut self) {
        let text = policies(&mut self.chance);
        self.mesh
            .machine
            .write("mesh/policies.yaml", &text)
            .unwrap();
    }

    fn access_lines(&self) -> Vec<Value> {
        lines(&self.access)
    }
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    let whole = text.lines().map(serde_json::from_str);
    whole.collect::<Result<_, _>>().unwrap()
}

/// Sends all requests while policies change and an endpoint dies; then stops the mesh.
fn randomized(run: &mut Run) {
    let failing = (10 + run.chance.below(20)).to_string();
    let flaky = ["--fail-percent", &failing];
    let first = run.sample("payments-1", "payments", "a", &flaky);
    let _others = [
        run.sample("payments-2", "payments", "a", &flaky),
        run.sample("payments-3", "payments", "b", &["--delay-ms", "150"]),
        run.sample("payments-4", "payments", "c", &flaky),
        run.sample("lite-1", "lite", "b", &[]),
        run.sample("raw-1", "raw", "a", &[]),
        run.sample("raw-2", "raw", "b", &[]),
    ];
    run.mesh.wait_for_url("http://payments.shop/");
    run.mesh.wait_for_url("http://raw.shop:9090/");
    run.write_policies();
    let (payments, raw) = ("http://payments.shop", "http://raw.shop:9090/");
    let post = (2 + run.chance.below(3)).to_string();
    let some = ["--requests", "600", "--post-every", &post];
    let few = ["--requests", "250", "--post-every", "2"];
    let bytes = ["--requests", "120", "--no-keep-alive"];
    let loads = [
        run.load("web", "a", &format!("{payments}/charge/1"), &some),
        run.load("batch", "b", &format!("{payments}/charge/2?x=1"), &some),
        run.load("web", "c", &format!("{payments}/charge/./a%2Db"), &some),
        run.load("batch", "a", &format!("{payments}/admin/users"), &few),
        run.load("outsider", "b", &format!("{payments}/charge/3"), &few),
        run.load("web", "b", raw, &bytes),
        run.load("outsider", "a", raw, &bytes),
    ];
    let mut first = Some(first);
    for change in 0..CHANGES {
        std::thread::sleep(Duration::from_millis(900));
        if change == CHANGES / 2 {
            drop(first.take());
        }
        run.write_policies();
    }
    for load in loads {
        let (well, said) = load.finish().unwrap();
        assert!(well, "{said}");
    }
    call_by_address(run);
    assert!(run.mesh.run(&["down"]).status.success());
    let (well, _) = run.mesh.up.take().unwrap().finish().unwrap();
    assert!(well);
}

/// A workload called by its own address, which a line of the access log tells.
fn call_by_address(run: &Run) {
    let lines = run.access_lines();
    let workload = |line: &&Value| line["destination"]["workload"] == "shop/payments-2";
    let address = lines.iter().find(workload).unwrap()["destination"]["address"].clone();
    let url = format!("http://{}/charge/9", address.as_str().unwrap());
    let answer = run.mesh.call("shop/web", &["curl", "-sS", "-m", "5", &url]);
    assert!(answer.status.success(), "{answer:?}");
}

fn replay(log: &Path) -> Output {
    let mut command = Command::new(binary());
    command.arg("replay").arg(log).output().unwrap()
}

/// Decisions and differences of each kind, as `tacit replay` prints them.
fn kinds(output: &Output) -> BTreeMap<String, (u64, u64)> {
    let said = text(&output.stdout);
    let rows = said.lines().skip_while(|line| !line.starts_with("KIND"));
    let row = |line: &str| {
        let mut words = line.split_whitespace();
        let kind = words.next()?.to_owned();
        let (decisions, differ) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        words
            .next()
            .is_none()
            .then_some((kind, (decisions, differ)))
    };
    rows.filter_map(row).collect()
}

fn differ(output: &Output) -> u64 {
    kinds(output).values().map(|(_, differ)| differ).sum()
}

/// The decisions of each identifier and kind that the predicate takes.
fn by_id(log: &[Value], kind: &str, takes: impl Fn(&Value) -> bool) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for line in log {
        let record = &line["decided"]["record"];
        let decision = &record["decision"][kind];
        if !decision.is_null() && takes(decision) {
            *counts
                .entry(record["id"].as_str().unwrap().to_owned())
                .or_default() += 1;
        }
    }
    counts
}

/// No request of the access log is without its decisions.
fn check_complete(access: &[Value], log: &[Value]) -> usize {
    let chosen = by_id(log, "choose", |d| {
        d["outcome"]["endpoint"]["Ok"].is_object()
    });
    let ended = by_id(log, "after_try", |_| true);
    let judged = by_id(log, "authorize_request", |_| true);
    let (mut sources, mut arrived) = (0, BTreeMap::<String, u64>::new());
    for line in access.iter().filter(|line| line["kind"] == "request") {
        let id = line["id"].as_str().unwrap();
        if line["reporter"] == "destination" {
            *arrived.entry(id.to_owned()).or_default() += 1;
        } else if line["ending"] != "client_gone" && line["service"].is_string() {
            sources += 1;
            let tries = line["tries"].as_u64().unwrap();
            assert_eq!(chosen.get(id).copied().unwrap_or(0), tries, "{line}");
            assert_eq!(ended.get(id).copied().unwrap_or(0), tries, "{line}");
        }
    }
    assert_eq!(arrived, judged);
    sources
}

/// A copy of a log beside it, whose lines are changed.
fn changed(log: &Path, name: &str, mut change: impl FnMut(&mut Value)) -> PathBuf {
    let copy = log.with_file_name(name);
    let mut text = String::new();
    for mut line in lines(log) {
        change(&mut line);
        text.push_str(&line.to_string());
        text.push('\n');
    }
    std::fs::write(&copy, text).unwrap();
    let generations = |log: &Path| log.with_file_name(format!("{}.generations", file_name(log)));
    std::fs::create_dir(generations(&copy)).unwrap();
    for file in std::fs::read_dir(generations(log)).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), generations(&copy).join(file.file_name())).unwrap();
    }
    copy
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

/// Every dice one higher: other endpoints are chosen, and nothing else changes.
fn with_other_dice(log: &Path) {
    let copy = changed(log, "dice", |line| {
        let Some(asked) = line.pointer_mut("/decided/record/decision/choose/asked") else {
            return;
        };
        if let Some(dice) = asked.get("dice").and_then(Value::as_u64) {
            asked["dice"] = json!(dice.wrapping_add(1));
        }
    });
    let output = replay(&copy);
    assert_eq!(output.status.code(), Some(1));
    let kinds = kinds(&output);
    assert!(kinds["choose"].1 > 100, "{kinds:?}");
    assert_eq!(kinds["choose"].1, differ(&output), "{kinds:?}");
}

/// One endpoint of one decision unreachable that was not: just that decision differs.
fn with_other_health(log: &Path) {
    let mut once = true;
    let copy = changed(log, "health", |line| {
        let Some(choose) = line.pointer_mut("/decided/record/decision/choose") else {
            return;
        };
        let dial = &choose["outcome"]["endpoint"]["Ok"]["dial"]["endpoint"];
        let address = dial.as_str().and_then(|to| to.split(':').next());
        if let (true, Some(address)) = (once, address.map(str::to_owned)) {
            once = false;
            let now = choose["asked"]["now"].clone();
            let lost =
                json!({"is_lost": true, "lost_at": now, "failed_probes": 0, "next_probe": now});
            choose["asked"]["state"]["addresses"] = json!([[address, lost]]);
        }
    });
    let output = replay(&copy);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(differ(&output), 1, "{}", text(&output.stdout));
    let shown = text(&output.stdout);
    assert!(shown.contains("now"), "it is not shown:\n{shown}");
}

/// The tables of the first generation, without policies, in the place of the one with the most
/// decisions.
fn with_other_policies(log: &Path) {
    let copy = changed(log, "policies", |_| {});
    let directory = copy.with_file_name("policies.generations");
    let mut counts = BTreeMap::<u64, u64>::new();
    for line in lines(&copy) {
        if let Some(number) = line["decided"]["generation"]["number"].as_u64() {
            *counts.entry(number).or_default() += 1;
        }
    }
    let busiest = counts.iter().max_by_key(|(_, count)| **count).unwrap().0;
    let files = std::fs::read_dir(&directory)
        .unwrap()
        .map(|f| f.unwrap().path());
    let number = |path: &PathBuf| {
        let name = file_name(path);
        name.split('.').nth(1).unwrap().parse::<u64>().unwrap()
    };
    let files: BTreeMap<u64, PathBuf> = files.map(|path| (number(&path), path)).collect();
    let (_, first) = files.first_key_value().unwrap();
    let header = 24;
    let mut content = std::fs::read(&files[busiest]).unwrap();
    content.truncate(header);
    content.extend_from_slice(&std::fs::read(first).unwrap()[header..]);
    std::fs::write(&files[busiest], content).unwrap();
    let output = replay(&copy);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        kinds(&output)["effective"].1 > 0,
        "{}",
        text(&output.stdout)
    );
}

#[test]
fn another_process_decides_every_request_again_and_agrees() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = u64::from(now.subsec_nanos());
    println!("seed {seed}");
    let mut run = Run::start(seed);
    randomized(&mut run);
    let (access, log) = (run.access_lines(), lines(&run.log));
    let requests = check_complete(&access, &log);
    assert!(requests >= REQUESTS, "{requests} requests");

    let output = replay(&run.log);
    let said = text(&output.stdout);
    println!("{requests} requests\n{said}");
    assert_eq!(output.status.code(), Some(0), "{said}");
    let kinds = kinds(&output);
    for (kind, (decisions, differ)) in &kinds {
        assert!(*decisions > 0, "no decision of kind {kind}: {said}");
        assert_eq!(*differ, 0, "{kind}: {said}");
    }
    assert_eq!(kinds.len(), 14, "{said}");
    assert!(
        said.contains(" 0 differ, 0 lines missing, 0 not readable"),
        "{said}"
    );
    let end = &log.last().unwrap()["end"];
    assert_eq!(end["lost"], 0, "{end}");
    let generations: BTreeSet<_> = log
        .iter()
        .filter_map(|line| line["decided"]["generation"]["number"].as_u64())
        .collect();
    assert!(generations.len() > 5, "{generations:?}");

    with_other_dice(&run.log);
    with_other_health(&run.log);
    with_other_policies(&run.log);
}

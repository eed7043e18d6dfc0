//! Owners, grants, the full disk, restarts: the engine without processes around it.
#![expect(clippy::unwrap_in_result, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::sync::Mutex;

use tacit_compiler::grants::Caller;
use tacit_model::hosting::MayHost;
use tacit_model::labels::Labels;
use tacit_model::{Locality, Row, RowKey, ServiceName};
use tokio::sync::oneshot;

use super::command::{HelloAsk, Joined, Registered};
use super::*;
use crate::admin::types::{ApplyResponse, Change as Happened, JoinToken, Owner};
use crate::store::memory::Memory;
use crate::store::records::Ready;
use crate::store::{Change, Contents};

const ADMINISTRATOR: u32 = 1000;
const SHOP: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}
";

/// A store that outlives its engine and can be full.
#[derive(Clone, Default)]
struct Disk(Arc<Mutex<Memory>>);

impl Store for Disk {
    fn read(&self) -> Result<Contents, StoreError> {
        self.0.lock().unwrap().read()
    }

    fn write(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        self.0.lock().unwrap().write(changes)
    }
}

struct Test {
    engine: Engine,
    published: watch::Receiver<Arc<Published>>,
    disk: Disk,
}

fn files(files: &[(&str, &str)]) -> DirectoryRead {
    let parsed = files
        .iter()
        .map(|(path, text)| ((*path).into(), Some(tacit_api::parse(path, text))));
    DirectoryRead {
        complete: true,
        files: parsed.collect(),
    }
}

impl Test {
    fn start(disk: &Disk, directory: &[(&str, &str)]) -> Self {
        let fixed = Fixed {
            mesh: "default".into(),
            administrator: ADMINISTRATOR,
            node_addresses: vec!["127.0.0.1:15012".into()],
            root_sha256: "00".repeat(32),
        };
        let now = Duration::from_secs(1_800_000_000);
        let store = Box::new(disk.clone());
        let (engine, published) =
            Engine::start(fixed, store, files(directory), now, Dice(1)).unwrap();
        Self {
            engine,
            published,
            disk: disk.clone(),
        }
    }

    fn new(directory: &[(&str, &str)]) -> Self {
        Self::start(&Disk::default(), directory)
    }

    fn ask<T>(&mut self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, Problem> {
        let (reply, mut answer) = oneshot::channel();
        self.engine.batch(vec![Ask(command(reply))]);
        answer.try_recv().unwrap()
    }

    fn edit(&mut self, uid: u32, kind: EditKind) -> Result<ApplyResponse, Problem> {
        let caller = Caller::Local {
            uid,
            gids: BTreeSet::from([uid]),
        };
        let actor = Actor {
            caller,
            acting_as: None,
            dry_run: false,
        };
        self.ask(|reply| Command::Edit(actor, kind, reply))
    }

    fn apply_as(&mut self, uid: u32, text: &str) -> Result<ApplyResponse, Problem> {
        self.edit(
            uid,
            EditKind::Apply {
                file: "test.yaml".into(),
                text: text.into(),
            },
        )
    }

    fn apply(&mut self, text: &str) -> Result<ApplyResponse, Problem> {
        self.apply_as(ADMINISTRATOR, text)
    }

    fn delete(&mut self, kind: &str, name: &str) -> Result<ApplyResponse, Problem> {
        let key = tacit_api::ObjectKey {
            kind: kind_named(kind).unwrap(),
            namespace: Some("shop".into()),
            name: name.into(),
        };
        self.edit(ADMINISTRATOR, EditKind::Delete(key))
    }

    fn now(&self) -> Arc<Published> {
        self.published.borrow().clone()
    }

    fn has_service(&self, name: &str) -> bool {
        let key = RowKey::Service(ServiceName::parse("shop", name).unwrap());
        self.now().tables.0.contains_key(&key)
    }

    fn join(&mut self, node: &str) -> Joined {
        let node: NodeName = node.try_into().unwrap();
        let secret = self.token(node.as_str()).secret;
        self.ask(|reply| Command::Join(join_ask(&node, &secret), reply))
            .unwrap()
    }

    fn token(&mut self, node: &str) -> JoinToken {
        use base64::Engine as _;
        let node = node.try_into().unwrap();
        let made = self.ask(|reply| Command::Token(node, MayHost::any(), reply));
        let made = made.unwrap();
        let body = made.token.strip_prefix("tacit1.").unwrap();
        let json = base64::engine::general_purpose::URL_SAFE_NO_PAD
            .decode(body)
            .unwrap();
        serde_json::from_slice(&json).unwrap()
    }

    fn register(&mut self, change: impl FnOnce(&mut RegisterAsk)) -> Result<Registered, Problem> {
        let mut ask = RegisterAsk {
            node: "a".try_into().unwrap(),
            namespace: "shop".try_into().unwrap(),
            service_account: "web".try_into().unwrap(),
            labels: Labels::from_pairs([("app", "web")]),
            region: String::new(),
            zone: String::new(),
            ports: Vec::new(),
            name: None,
            address: None,
            published: Vec::new(),
            uid: ADMINISTRATOR,
            gids: BTreeSet::new(),
        };
        change(&mut ask);
        self.ask(|reply| Command::Register(ask, reply))
    }
}

fn join_ask(node: &NodeName, secret: &str) -> JoinAsk {
    JoinAsk {
        secret: secret.to_owned(),
        node: node.clone(),
        locality: Locality {
            zone: "z".into(),
            ..Locality::default()
        },
        host_addresses: vec!["192.0.2.1".parse().unwrap()],
    }
}

fn kind_of<T: std::fmt::Debug>(outcome: Result<T, Problem>) -> ProblemKind {
    outcome.unwrap_err().kind
}

#[test]
fn an_object_is_created_configured_unchanged_and_deleted() {
    let mut test = Test::new(&[]);
    let first = test.now().generation;
    assert_eq!(first.number, 1);
    let change = |outcome: Result<ApplyResponse, Problem>| outcome.unwrap().objects[0].change;
    assert_eq!(change(test.apply(SHOP)), Happened::Created);
    assert!(test.has_service("web"));
    assert_eq!(test.now().generation.number, 2);
    assert_eq!(change(test.apply(SHOP)), Happened::Unchanged);
    assert_eq!(test.now().generation.number, 2);
    assert_eq!(
        change(test.apply(&SHOP.replace("port: 80,", "port: 81,"))),
        Happened::Configured
    );
    assert_eq!(change(test.delete("service", "web")), Happened::Deleted);
    assert!(!test.has_service("web"));
    assert_eq!(
        kind_of(test.delete("services", "web")),
        ProblemKind::NotFound
    );
}

#[test]
fn what_cannot_be_read_changes_nothing() {
    let mut test = Test::new(&[]);
    for bad in [
        "{",
        "kind: Nothing\n",
        "",
        "\0\0",
        &SHOP.replace("ports", "porst"),
    ] {
        let both = format!("{}---\n{bad}", if bad.is_empty() { "" } else { SHOP });
        let refused = test.apply(&both).unwrap_err();
        assert_eq!(refused.kind, ProblemKind::Invalid, "{bad:?}");
        assert_eq!(refused.findings.is_empty(), bad.is_empty(), "{bad:?}");
        assert!(!test.has_service("web"));
    }
    test.apply(SHOP).unwrap();
    assert!(test.has_service("web"));
}

#[test]
fn each_object_has_one_owner() {
    let mut test = Test::new(&[("dir/shop.yaml", SHOP)]);
    assert!(test.has_service("web"));
    let refused = test.apply(SHOP).unwrap_err();
    assert_eq!(refused.kind, ProblemKind::Conflict);
    assert!(
        refused.message.contains("dir/shop.yaml"),
        "{}",
        refused.message
    );
    assert_eq!(
        kind_of(test.delete("service", "web")),
        ProblemKind::Conflict
    );

    // What the API has first stays the API's; the file is told so.
    let other = SHOP.replace("name: web", "name: api");
    test.apply(&other).unwrap();
    test.engine.batch(vec![Ask(Command::Directory(files(&[(
        "dir/shop.yaml",
        &other,
    )])))]);
    let now = test.now();
    let owners: Vec<Owner> = now.objects.values().map(Held::owner).collect();
    assert_eq!(owners, [Owner::Api]);
    let findings = now.findings();
    let finding = findings
        .iter()
        .find(|finding| &*finding.code == "TCT1901")
        .unwrap();
    assert_eq!(&*finding.position.as_ref().unwrap().file, "dir/shop.yaml");
    test.delete("service", "api").unwrap();
    let owners: Vec<Owner> = test.now().objects.values().map(Held::owner).collect();
    assert_eq!(owners, [Owner::Directory]);
}

#[test]
fn an_unparsable_file_keeps_what_was_last_read_from_it() {
    let disk = Disk::default();
    let mut test = Test::start(&disk, &[("a.yaml", SHOP)]);
    let broken = [("a.yaml", "kind: [")];
    test.engine
        .batch(vec![Ask(Command::Directory(files(&broken)))]);
    assert!(test.has_service("web"));
    assert!(!test.now().findings().is_empty());
    // Also after a restart, when nothing but the store knows it.
    let mut test = Test::start(&disk, &broken);
    assert!(test.has_service("web"));
    test.engine
        .batch(vec![Ask(Command::Directory(files(&[("a.yaml", "")])))]);
    assert!(!test.has_service("web"));
    assert!(
        !Test::start(&disk, &broken).has_service("web"),
        "gone for good"
    );
}

#[test]
fn only_who_may_changes_anything() {
    let mut test = Test::new(&[]);
    let refused = test.apply_as(4242, SHOP).unwrap_err();
    assert_eq!(refused.kind, ProblemKind::Forbidden);
    assert!(!refused.findings.is_empty());
    assert!(!test.has_service("web"));
    test.apply_as(ADMINISTRATOR, SHOP).unwrap();
    assert!(test.has_service("web"));
}

#[test]
fn a_dry_run_says_what_would_happen_and_changes_nothing() {
    let mut test = Test::new(&[]);
    let caller = Caller::Administrator;
    let actor = Actor {
        caller,
        acting_as: None,
        dry_run: true,
    };
    let kind = EditKind::Apply {
        file: "a.yaml".into(),
        text: SHOP.into(),
    };
    let answer = test.ask(|reply| Command::Edit(actor, kind, reply)).unwrap();
    assert_eq!(answer.objects[0].change, Happened::Created);
    assert_eq!(answer.generation, None);
    assert!(!test.has_service("web"));
}

#[test]
fn a_full_disk_refuses_changes_and_leaves_the_rest_alone() {
    let mut test = Test::new(&[]);
    test.apply(SHOP).unwrap();
    let before = test.now();
    test.disk.0.lock().unwrap().full = true;
    let other = SHOP.replace("name: web", "name: api");
    let refused = test.apply(&other).unwrap_err();
    assert_eq!(refused.kind, ProblemKind::Unavailable);
    assert!(refused.message.contains("no space"), "{}", refused.message);
    let now = test.now();
    assert_eq!(
        (now.generation, &now.tables),
        (before.generation, &before.tables)
    );
    assert!(now.read_only.is_some());
    test.disk.0.lock().unwrap().full = false;
    test.apply(&other).unwrap();
    assert!(test.has_service("api") && test.has_service("web"));
    assert_eq!(test.now().read_only, None);
}

#[test]
fn readiness_goes_on_with_a_full_disk() {
    let mut test = Test::new(&[]);
    test.apply(SHOP).unwrap();
    test.join("a");
    let run = test.register(|_| ()).unwrap();
    let key = RowKey::Workload(run.name.clone());
    let ready_of = |test: &Test| match test.now().tables.0.get(&key) {
        Some(Row::Workload(row)) => row.ready.clone(),
        other => panic!("{other:?}"),
    };
    let report = |ports: &[u16]| {
        let ports: BTreeSet<u16> = ports.iter().copied().collect();
        let ready: Ready = [(run.name.clone(), ports)].into();
        vec![Ask(Command::Ready("a".try_into().unwrap(), ready))]
    };
    test.disk.0.lock().unwrap().full = true;
    let full = test.now().generation.number;
    for round in 1..=100 {
        let ports: &[u16] = if round % 2 == 0 { &[] } else { &[8080] };
        test.engine.batch(report(ports));
        assert_eq!(ready_of(&test), ports.iter().copied().collect());
        assert_eq!(test.now().generation.number, full + round);
    }
    let why = test.now().read_only.clone().unwrap();
    assert!(why.contains("free some space"), "{why}");
    // What must survive is refused in the same words.
    for refused in [
        test.apply(&SHOP.replace("name: web", "name: api"))
            .unwrap_err(),
        test.register(|_| ()).unwrap_err(),
    ] {
        assert_eq!(refused.kind, ProblemKind::Unavailable);
        assert_eq!(*refused.message, *why);
    }
}

#[test]
fn what_could_not_be_written_is_written_when_there_is_space() {
    let mut test = Test::new(&[]);
    test.apply(SHOP).unwrap();
    test.join("a");
    let run = test.register(|_| ()).unwrap();
    let ready: Ready = [(run.name, [8080].into())].into();
    test.disk.0.lock().unwrap().full = true;
    let report = Command::Ready("a".try_into().unwrap(), ready.clone());
    test.engine.batch(vec![Ask(report)]);
    let last = test.now().generation;
    test.disk.0.lock().unwrap().full = false;
    let before = Test::start(&test.disk, &[]).now();
    assert!(before.ready.is_empty(), "it was not written");
    test.engine.batch(vec![Ask(Command::Tick)]);
    assert_eq!(test.now().read_only, None);
    let after = Test::start(&test.disk, &[]).now();
    assert_eq!(*after.ready, ready);
    assert!(after.generation > last, "{:?} {last:?}", after.generation);
}

#[test]
fn numbers_never_go_back_however_the_process_ends() {
    let disk = Disk::default();
    let mut last = None;
    for round in 0..3 {
        let mut test = Test::start(&disk, &[]);
        for port in 0..3 {
            let text = SHOP.replace("port: 80,", &format!("port: {},", 100 + 10 * round + port));
            test.apply(&text).unwrap();
            let now = test.now().generation;
            assert!(last < Some(now), "{last:?} {now:?}");
            last = Some(now);
        }
    }
}

#[test]
fn a_restart_continues_where_it_was() {
    let disk = Disk::default();
    let mut test = Test::start(&disk, &[]);
    test.apply(SHOP).unwrap();
    test.join("a");
    let run = test.register(|_| ()).unwrap();
    let ready: Ready = [(run.name.clone(), [8080].into())].into();
    test.engine.batch(vec![Ask(Command::Ready(
        "a".try_into().unwrap(),
        ready.clone(),
    ))]);
    let before = test.now();

    let mut test = Test::start(&disk, &[]);
    let now = test.now();
    assert_eq!(now.generation.epoch, before.generation.epoch);
    assert!(now.generation >= before.generation);
    assert_eq!(now.tables, before.tables, "nothing is lost, nothing moves");
    assert_eq!(*now.ready, ready);
    assert_eq!(now.nodes, before.nodes);

    // The node comes back with the workload alive, then without it.
    let hello = |living: BTreeSet<_>| HelloAsk {
        node: "a".try_into().unwrap(),
        locality: Locality {
            zone: "z".into(),
            ..Locality::default()
        },
        host_addresses: vec!["192.0.2.1".parse().unwrap()],
        living,
    };
    let row = RowKey::Workload(run.name.clone());
    test.ask(|reply| Command::Hello(hello([run.name.clone()].into()), reply))
        .unwrap();
    assert!(test.now().tables.0.contains_key(&row));
    let again = test
        .register(|ask| ask.name = Some(run.name.name.clone()))
        .unwrap();
    assert_eq!(again.address, run.address);
    test.ask(|reply| Command::Hello(hello(BTreeSet::new()), reply))
        .unwrap();
    assert!(!test.now().tables.0.contains_key(&row));
}

#[test]
fn a_token_takes_one_node_in_once() {
    let mut test = Test::new(&[]);
    let token = test.token("a");
    let (a, b): (NodeName, NodeName) = ("a".try_into().unwrap(), "b".try_into().unwrap());
    let mut join = |node: &NodeName, secret: &str| {
        let ask = join_ask(node, secret);
        test.ask(|reply| Command::Join(ask, reply))
    };
    assert_eq!(kind_of(join(&a, "guess")), ProblemKind::Forbidden);
    assert_eq!(kind_of(join(&b, &token.secret)), ProblemKind::Forbidden);
    let joined = join(&a, &token.secret).unwrap();
    assert_eq!(joined.subnet, "10.96.0.0/24");
    assert_eq!(kind_of(join(&a, &token.secret)), ProblemKind::Forbidden);
    let stored = test.disk.read().unwrap();
    let text =
        |(_, value): (&(Table, String), &Vec<u8>)| String::from_utf8_lossy(value).into_owned();
    assert!(
        !stored
            .0
            .iter()
            .map(text)
            .any(|text| text.contains(&token.secret))
    );
    assert_eq!(test.join("b").subnet, "10.96.1.0/24");
    for (node, identities) in [("control", MayHost::any()), ("c", MayHost::default())] {
        let node = node.try_into().unwrap();
        let made = test.ask(|reply| Command::Token(node, identities, reply));
        assert_eq!(kind_of(made), ProblemKind::BadRequest);
    }
}

#[test]
fn runs_have_names_addresses_and_an_end() {
    let mut test = Test::new(&[]);
    assert_eq!(
        kind_of(test.register(|_| ())),
        ProblemKind::Forbidden,
        "the node is not enrolled"
    );
    test.join("a");
    let one = test.register(|_| ()).unwrap();
    let two = test.register(|_| ()).unwrap();
    assert_ne!(one.name, two.name);
    assert_ne!(one.address, two.address);
    assert!(one.name.name.as_str().starts_with("web-"), "{}", one.name);
    assert!(one.identity.to_string().ends_with("/ns/shop/sa/web"));
    let stranger = test.register(|ask| ask.uid = 4242);
    assert_eq!(kind_of(stranger), ProblemKind::Forbidden);
    let named = |ask: &mut RegisterAsk| ask.name = Some("mine".try_into().unwrap());
    let mine = test.register(named).unwrap();
    test.join("b");
    let taken = test.register(|ask| {
        named(ask);
        ask.node = "b".try_into().unwrap();
    });
    assert_eq!(kind_of(taken), ProblemKind::Conflict);
    let (a, b): (NodeName, NodeName) = ("a".try_into().unwrap(), "b".try_into().unwrap());
    let row = RowKey::Workload(mine.name.clone());
    let end = |node: &NodeName| {
        let (node, name) = (node.clone(), mine.name.clone());
        |reply| Command::Unregister(node, name, reply)
    };
    test.ask(end(&b)).unwrap();
    assert!(
        test.now().tables.0.contains_key(&row),
        "another node's word does not end it"
    );
    test.ask(end(&a)).unwrap();
    assert!(!test.now().tables.0.contains_key(&row));
    test.ask(|reply| Command::RemoveNode(a, reply)).unwrap();
    let left = test.now();
    assert!(
        !left
            .tables
            .0
            .keys()
            .any(|key| matches!(key, RowKey::Workload(_)))
    );
    assert_eq!(left.nodes.len(), 1);
}

#[test]
fn commands_that_arrive_together_make_one_generation() {
    let mut test = Test::new(&[]);
    let before = test.now().generation.number;
    let mut answers = Vec::new();
    let mut batch = Vec::new();
    for index in 0..10 {
        let (reply, answer) = oneshot::channel();
        let actor = Actor {
            caller: Caller::Administrator,
            acting_as: None,
            dry_run: false,
        };
        let text = SHOP.replace("name: web", &format!("name: web-{index}"));
        let kind = EditKind::Apply {
            file: "a.yaml".into(),
            text,
        };
        batch.push(Ask(Command::Edit(actor, kind, reply)));
        answers.push(answer);
    }
    test.engine.batch(batch);
    for mut answer in answers {
        let generation = answer.try_recv().unwrap().unwrap().generation.unwrap();
        assert_eq!(generation.number, before + 1);
    }
    assert!(test.has_service("web-0") && test.has_service("web-9"));
}

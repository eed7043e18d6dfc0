//! A second, naive evaluator of access, written from the text of the API, compared with the
//! engine on random meshes, peers and requests. It shares no code with the engine.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tacit_decide::{
    ConnectionVerdict, DenialKind, Peer, RequestHead, authorize_connection, authorize_request,
};
use tacit_model::access::{Action, Cidr, From, Mode, PathPattern, Rule, To};
use tacit_model::tables::{
    AccessRow, DefaultAccess, Egress, Isolation, Protocol, Tenancy, WorkloadRow,
};
use tacit_model::{Dice, Namespace, Provenance, Snapshot, SpiffeId, WorkloadName, WorkspaceName};

use crate::world::{WorkloadSpec, World, at, policy, service_name};

/// Random cases in a plain `cargo test`; `TACIT_CASES` asks for more.
const CASES: u64 = 20_000;

struct Random(Dice);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        let (number, next) = self.0.below(u64::try_from(bound).unwrap());
        self.0 = next;
        usize::try_from(number).unwrap()
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())].clone()
    }

    /// One to three of the choices.
    fn some_of<T: Clone + Ord>(&mut self, choices: &[T]) -> BTreeSet<T> {
        (0..=self.below(3)).map(|_| self.of(choices)).collect()
    }

    fn maybe<T: Clone + Ord>(&mut self, n: usize, choices: &[T]) -> Option<BTreeSet<T>> {
        self.one_in(n).then(|| self.some_of(choices))
    }
}

const NAMESPACES: [&str; 3] = ["shop", "edge", "bank"];
const ACCOUNTS: [&str; 2] = ["web", "api"];
const WORKSPACES: [&str; 2] = ["w1", "w2"];
const METHODS: [&str; 3] = ["GET", "POST", "get"];
const PORTS: [u16; 4] = [8080, 9000, 9001, 7000];
/// As received, and the canonical form that the documentation promises (`None`: refused).
const PATHS: [(&str, Option<&str>); 14] = [
    ("/", Some("/")),
    ("/accounts/1", Some("/accounts/1")),
    ("/accounts/1?x=/admin", Some("/accounts/1")),
    ("/accounts/../admin", Some("/admin")),
    ("/accounts%2f..%2Fadmin", Some("/admin")),
    ("//admin", Some("/admin")),
    ("/%61dmin", Some("/admin")),
    ("/admin/", Some("/admin/")),
    ("/%2561dmin", Some("/%2561dmin")),
    ("/Admin", Some("/Admin")),
    ("/a%00b", None),
    ("/a%5cb", None),
    ("/a%zz", None),
    ("*", None),
];
const HOSTS: [(&str, &str); 4] = [
    ("Ledger.Shop:8080", "ledger.shop"),
    ("ledger.shop", "ledger.shop"),
    ("a.b.shop", "a.b.shop"),
    ("shop", "shop"),
];

fn names<T>(texts: &[&str]) -> Vec<T>
where
    T: for<'a> TryFrom<&'a str>,
{
    texts
        .iter()
        .filter_map(|text| T::try_from(*text).ok())
        .collect()
}

fn ranges(random: &mut Random) -> BTreeSet<Cidr> {
    let all = [
        Cidr {
            network: IpAddr::from([10, 1, 0, 0]),
            prefix: 16,
        },
        Cidr {
            network: IpAddr::from([10, 1, 2, 0]),
            prefix: 24,
        },
    ];
    random.some_of(&all)
}

fn random_from(random: &mut Random) -> From {
    if random.one_in(5) {
        return From {
            unauthenticated: true,
            cidrs: random.one_in(3).then(|| ranges(random)),
            ..From::default()
        };
    }
    let accounts: Vec<_> = names::<Namespace>(&NAMESPACES)
        .into_iter()
        .flat_map(|ns| ACCOUNTS.map(|a| (ns.clone(), a.try_into().unwrap())))
        .collect();
    From {
        namespaces: random.maybe(3, &names(&NAMESPACES)),
        service_accounts: random.maybe(3, &accounts),
        workspaces: random.maybe(5, &names(&WORKSPACES)),
        trust_domain: random
            .one_in(6)
            .then(|| random.of(&names(&["td", "other"]))),
        cidrs: random.one_in(5).then(|| ranges(random)),
        except: if random.one_in(6) {
            ranges(random)
        } else {
            BTreeSet::new()
        },
        unauthenticated: false,
    }
}

fn random_to(random: &mut Random) -> To {
    let paths = [
        PathPattern::Exact("/admin".into()),
        PathPattern::Exact("/%2561dmin".into()),
        PathPattern::Prefix("/accounts/".into()),
        PathPattern::Prefix("/adm".into()),
        PathPattern::Prefix("/".into()),
    ];
    let hosts: [Arc<str>; 3] = ["ledger.shop".into(), "*.shop".into(), "shop".into()];
    let methods: [Arc<str>; 2] = ["GET".into(), "POST".into()];
    To {
        ports: random.maybe(2, &PORTS),
        methods: random.maybe(3, &methods),
        paths: random.maybe(3, &paths),
        hosts: random.maybe(5, &hosts),
    }
}

fn random_policy(random: &mut Random, index: usize) -> AccessRow {
    let action = random.of(&[Action::Allow, Action::Allow, Action::Deny]);
    let rule = |random: &mut Random, index: usize| Rule {
        from: match action {
            Action::Deny if random.one_in(3) => Vec::new(),
            Action::Allow if random.one_in(4) => vec![From::default()],
            Action::Allow | Action::Deny => {
                (0..=random.below(2)).map(|_| random_from(random)).collect()
            }
        },
        to: (0..random.below(3)).map(|_| random_to(random)).collect(),
        path: format!("spec.rules[{index}]").into(),
    };
    let count = random.below(3);
    AccessRow {
        name: policy(&format!("p{index}"), "shop"),
        action,
        mode: random.of(&[Mode::Enforce, Mode::Enforce, Mode::Enforce, Mode::Audit]),
        rules: (0..count).map(|i| rule(random, i)).collect(),
        broken: random.one_in(40).then(|| "unreadable".into()),
    }
}

fn random_tenancy(random: &mut Random, isolate: bool) -> Tenancy {
    let workspaces: Vec<WorkspaceName> = names(&WORKSPACES);
    match random.below(10) {
        0 => Tenancy::Contested(workspaces),
        1..=4 => Tenancy::Unclaimed,
        _ => Tenancy::Member {
            workspace: random.of(&workspaces),
            isolation: (isolate && random.one_in(2)).then(|| {
                let services = [service_name("ledger", "shop"), service_name("slow", "shop")];
                let importer = random.of(&workspaces);
                Isolation {
                    importers: if random.one_in(2) {
                        BTreeMap::from([(importer, random.some_of(&services))])
                    } else {
                        BTreeMap::new()
                    },
                    from: Provenance::Default,
                }
            }),
        },
    }
}

/// `ledger.shop` (80 → 8080, HTTP) and `slow.shop` (81 → 9000, bytes) select one workload.
fn random_mesh(random: &mut Random) -> Snapshot {
    let mut world = World::new();
    let default = random.of(&[DefaultAccess::Authenticated, DefaultAccess::Deny]);
    world.mesh(default, Egress::Allow);
    for ns in NAMESPACES {
        let tenancy = random_tenancy(random, ns == "shop");
        world.tenancy(ns, tenancy);
    }
    world.service("ledger", "shop", 1, &[("http", 80, 8080, Protocol::Http)]);
    world.service("slow", "shop", 2, &[("tcp", 81, 9000, Protocol::Tcp)]);
    world.workload(WorkloadSpec {
        name: "ledger-1",
        ns: "shop",
        app: "ledger",
        address: [10, 0, 0, 1],
        locality: at("r", "z"),
        node: "n",
    });
    world.also_behind("ledger", "slow", "shop");
    for index in 0..random.below(5) {
        let through = random.of(&[None, Some("ledger"), Some("slow")]);
        let row = random_policy(random, index);
        world.access(row, "shop", "ledger", through);
    }
    world.build()
}

fn random_peer(random: &mut Random) -> Peer {
    let identity = (!random.one_in(5)).then(|| SpiffeId {
        trust_domain: random.of(&names(&["td", "td", "td", "other"])),
        namespace: random.of(&names(&["shop", "edge", "bank", "nowhere"])),
        service_account: random.of(&names(&ACCOUNTS)),
    });
    let addresses = [[10, 1, 2, 3], [10, 1, 9, 9], [192, 0, 2, 1]];
    Peer {
        identity,
        address: SocketAddr::new(IpAddr::from(random.of(&addresses)), 4000),
    }
}

/// What the naive evaluator is told of a request.
#[derive(Clone, Copy)]
struct Request {
    method: &'static str,
    path: Option<&'static str>,
    host: &'static str,
}

/// The naive evaluator.
struct Naive<'a> {
    s: &'a Snapshot,
    local: &'a WorkloadRow,
    port: u16,
    peer: &'a Peer,
}

impl Naive<'_> {
    fn workspace(&self, ns: &Namespace) -> Option<WorkspaceName> {
        match &self.s.namespaces.get(ns)?.tenancy {
            Tenancy::Member { workspace, .. } => Some(workspace.clone()),
            _ => None,
        }
    }

    /// The policies that cover this port of this workload.
    fn policies(&self) -> Vec<&AccessRow> {
        let class = &self.s.classes[&self.local.class];
        let covers = |through: &Option<_>| match through {
            None => true,
            Some(service) => {
                let target = if *service == service_name("ledger", "shop") {
                    8080
                } else {
                    9000
                };
                self.port == target
            }
        };
        let attached = class.access.iter().filter(|a| covers(&a.through));
        attached.map(|a| &*self.s.access[&a.policy]).collect()
    }

    fn isolation_lets_through(&self) -> bool {
        let isolation = match &self.s.namespaces[&self.local.class.namespace].tenancy {
            Tenancy::Contested(_) => return false,
            Tenancy::Unclaimed
            | Tenancy::Member {
                isolation: None, ..
            } => return true,
            Tenancy::Member {
                workspace,
                isolation: Some(i),
            } => (workspace, i),
        };
        let Some(id) = &self.peer.identity else {
            return false;
        };
        if id.trust_domain.as_str() != "td" {
            return false;
        }
        let Some(caller) = self.workspace(&id.namespace) else {
            return false;
        };
        if caller == *isolation.0 {
            return true;
        }
        let service = match self.port {
            8080 => service_name("ledger", "shop"),
            9000 => service_name("slow", "shop"),
            _ => return false,
        };
        isolation
            .1
            .importers
            .get(&caller)
            .is_some_and(|set| set.contains(&service))
    }

    fn who(&self, from: &From, deny: bool) -> bool {
        let address = self.peer.address.ip();
        if let Some(cidrs) = &from.cidrs {
            if !cidrs.iter().any(|c| c.contains(address)) {
                return false;
            }
        }
        if from.except.iter().any(|c| c.contains(address)) {
            return false;
        }
        let says_names = [
            from.namespaces.is_some(),
            from.service_accounts.is_some(),
            from.workspaces.is_some(),
        ]
        .contains(&true);
        match &self.peer.identity {
            None if from.unauthenticated => true,
            // Only ranges, in a Deny: everybody in them.
            None => deny && !says_names && from.trust_domain.is_none(),
            Some(_) if from.unauthenticated => false,
            Some(id) => {
                let domain = from.trust_domain.as_ref().map_or("td", |d| d.as_str());
                let domain_matters = says_names || from.trust_domain.is_some();
                if domain_matters && id.trust_domain.as_str() != domain {
                    return false;
                }
                if let Some(set) = &from.namespaces {
                    if !set.contains(&id.namespace) {
                        return false;
                    }
                }
                if let Some(set) = &from.service_accounts {
                    if !set.contains(&(id.namespace.clone(), id.service_account.clone())) {
                        return false;
                    }
                }
                if let Some(set) = &from.workspaces {
                    let own = self.workspace(&id.namespace);
                    let is_local = id.trust_domain.as_str() == "td";
                    if !is_local || !own.is_some_and(|own| set.contains(&own)) {
                        return false;
                    }
                }
                true
            }
        }
    }

    /// `None` request: bytes, in which a condition on requests is never known to hold.
    fn what(&self, to: &To, request: Option<Request>, deny: bool) -> bool {
        if let Some(ports) = &to.ports {
            if !ports.contains(&self.port) {
                return false;
            }
        }
        let l7 = to.methods.is_some() || to.paths.is_some() || to.hosts.is_some();
        let Some(request) = request else {
            // A Deny that cannot be evaluated denies; an Allow does not allow.
            return !l7 || deny;
        };
        if let Some(methods) = &to.methods {
            if !methods.iter().any(|m| **m == *request.method) {
                return false;
            }
        }
        if let (Some(patterns), Some(path)) = (&to.paths, request.path) {
            let fits = |p: &PathPattern| match p {
                PathPattern::Exact(e) => **e == *path,
                PathPattern::Prefix(e) => path.len() >= e.len() && path[..e.len()] == **e,
            };
            if !patterns.iter().any(fits) {
                return false;
            }
        }
        if let Some(hosts) = &to.hosts {
            if !hosts.iter().any(|pattern| host_fits(pattern, request.host)) {
                return false;
            }
        }
        true
    }

    fn rule(&self, rule: &Rule, request: Option<Request>, deny: bool) -> bool {
        let who = rule.from.is_empty() || rule.from.iter().any(|f| self.who(f, deny));
        let what = rule.to.is_empty() || rule.to.iter().any(|t| self.what(t, request, deny));
        who && what
    }

    fn allows(&self, request: Option<Request>, with_audit: bool) -> bool {
        if !self.isolation_lets_through() {
            return false;
        }
        let policies = self.policies();
        if policies.iter().any(|p| p.broken.is_some()) {
            return false;
        }
        let in_force = |p: &&&AccessRow| with_audit || p.mode == Mode::Enforce;
        let matches = |p: &AccessRow| {
            p.rules
                .iter()
                .any(|r| self.rule(r, request, p.action == Action::Deny))
        };
        let denies: Vec<_> = policies
            .iter()
            .filter(in_force)
            .filter(|p| p.action == Action::Deny)
            .collect();
        if denies.iter().any(|p| matches(p)) {
            return false;
        }
        let allows: Vec<_> = policies
            .iter()
            .filter(in_force)
            .filter(|p| p.action == Action::Allow)
            .collect();
        if !allows.is_empty() {
            return allows.iter().any(|p| matches(p));
        }
        self.s.mesh.default_access.value == DefaultAccess::Authenticated
            && self.peer.identity.is_some()
    }

    /// HTTP is read here: declared, or a rule that asks for requests names the port.
    fn reads_requests(&self) -> bool {
        let asks = |to: &To| {
            let l7 = to.methods.is_some() || to.paths.is_some() || to.hosts.is_some();
            l7 && to
                .ports
                .as_ref()
                .is_some_and(|ports| ports.contains(&self.port))
        };
        self.port == 8080
            || self
                .policies()
                .iter()
                .any(|p| p.rules.iter().any(|rule| rule.to.iter().any(asks)))
    }

    /// A rule about paths covers this port.
    fn looks_at_paths(&self) -> bool {
        let here = |to: &To| {
            to.paths.is_some() && to.ports.as_ref().is_none_or(|p| p.contains(&self.port))
        };
        let policies = self.policies();
        policies
            .iter()
            .any(|p| p.rules.iter().any(|rule| rule.to.iter().any(here)))
    }
}

/// Label by label, from the right.
fn host_fits(pattern: &str, host: &str) -> bool {
    let pattern: Vec<&str> = pattern.split('.').collect();
    let host: Vec<&str> = host.split('.').collect();
    match pattern.split_first() {
        Some((&"*", rest)) => host.len() > rest.len() && host.ends_with(rest),
        _ => pattern == host,
    }
}

/// How often each kind of verdict came up: a comparison that meets only one kind proves little.
#[derive(Default, Debug)]
struct Seen {
    allowed: u64,
    denied: u64,
    audited: u64,
    bad_path: u64,
    requests_allowed: u64,
    requests_denied: u64,
}

fn compare(random: &mut Random, seen: &mut Seen) {
    let s = random_mesh(random);
    let local = s.workloads[&WorkloadName::parse("shop", "ledger-1").unwrap()].clone();
    for _ in 0..4 {
        let peer = random_peer(random);
        let port = random.of(&PORTS);
        let naive = Naive {
            s: &s,
            local: &local,
            port,
            peer: &peer,
        };
        match authorize_connection(&s, &local, port, &peer) {
            ConnectionVerdict::Allow(permit) => {
                seen.allowed += 1;
                assert!(port != 8080, "a port declared HTTP was passed as bytes");
                if naive.reads_requests() {
                    assert_all(&naive, true);
                } else {
                    assert!(naive.allows(None, false), "{peer:?} {port} {s:#?}");
                    let audited = !naive.allows(None, true);
                    assert_eq!(permit.audit().is_some(), audited, "{peer:?} {port} {s:#?}");
                    seen.audited += u64::from(audited);
                }
            }
            ConnectionVerdict::Deny(_) => {
                seen.denied += 1;
                if naive.reads_requests() {
                    assert_all(&naive, false);
                } else {
                    assert!(!naive.allows(None, false), "{peer:?} {port} {s:#?}");
                }
            }
            ConnectionVerdict::InspectRequests(permit) => {
                assert!(naive.reads_requests(), "{peer:?} {port} {s:#?}");
                compare_request(random, &naive, &permit, seen);
            }
        }
    }
}

/// A verdict for the whole connection must hold for every request on it.
fn assert_all(naive: &Naive<'_>, allowed: bool) {
    for method in METHODS {
        for (_, path) in PATHS.iter().filter(|(_, canonical)| canonical.is_some()) {
            for (_, host) in HOSTS {
                let request = Request {
                    method,
                    path: *path,
                    host,
                };
                assert_eq!(naive.allows(Some(request), false), allowed, "{path:?}");
            }
        }
    }
}

fn compare_request(
    random: &mut Random,
    naive: &Naive<'_>,
    permit: &tacit_decide::InspectPermit,
    seen: &mut Seen,
) {
    let ((path, canonical), (host, normal)) = (random.of(&PATHS), random.of(&HOSTS));
    let request = Request {
        method: random.of(&METHODS),
        path: canonical,
        host: normal,
    };
    let head = RequestHead {
        method: request.method,
        path,
        host,
    };
    let got = authorize_request(naive.s, permit, &head);
    if canonical.is_none() && naive.looks_at_paths() {
        seen.bad_path += 1;
        assert_eq!(got.unwrap_err().kind, DenialKind::BadRequest, "{path}");
        return;
    }
    let context = || format!("{head:?} {:?} {} {:#?}", naive.peer, naive.port, naive.s);
    let expected = naive.allows(Some(request), false);
    assert_eq!(got.is_ok(), expected, "{}", context());
    match got {
        Ok(permit) => {
            seen.requests_allowed += 1;
            let audited = !naive.allows(Some(request), true);
            assert_eq!(permit.audit().is_some(), audited, "{}", context());
            let forwarded = naive.looks_at_paths().then_some(canonical).flatten();
            assert_eq!(permit.path(), forwarded, "{}", context());
        }
        Err(denial) => {
            seen.requests_denied += 1;
            assert!(!denial.reason.is_empty());
        }
    }
}

#[test]
fn the_engine_agrees_with_the_specification() {
    let cases = std::env::var("TACIT_CASES")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(CASES);
    let mut seen = Seen::default();
    for seed in 0..cases / 4 + 1 {
        let mut random = Random(Dice(seed.wrapping_mul(0x5851_F42D_4C95_7F2D)));
        compare(&mut random, &mut seen);
    }
    let Seen {
        allowed,
        denied,
        audited,
        bad_path,
        requests_allowed,
        requests_denied,
    } = seen;
    let enough = cases / 200;
    for (kind, count) in [
        ("allowed", allowed),
        ("denied", denied),
        ("audited", audited * 10),
        ("bad path", bad_path * 10),
        ("requests allowed", requests_allowed),
        ("requests denied", requests_denied),
    ] {
        assert!(count > enough, "too few cases of {kind}: {count}");
    }
}

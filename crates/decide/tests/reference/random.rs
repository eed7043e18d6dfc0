//! Random meshes, policies, peers and requests for the comparison.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tacit_decide::Peer;
use tacit_model::access::{Action, Cidr, From, Mode, PathPattern, Rule, To};
use tacit_model::tables::{AccessRow, DefaultAccess, Egress, Isolation, Protocol, Tenancy};
use tacit_model::{Dice, Namespace, Provenance, Snapshot, SpiffeId, WorkspaceName};

use crate::world::{WorkloadSpec, World, at, policy, service_name};

pub(super) struct Random(pub(super) Dice);

impl Random {
    pub(super) fn below(&mut self, bound: usize) -> usize {
        let (number, next) = self.0.below(u64::try_from(bound).unwrap());
        self.0 = next;
        usize::try_from(number).unwrap()
    }

    pub(super) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(super) fn of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())].clone()
    }

    /// One to three of the choices.
    pub(super) fn some_of<T: Clone + Ord>(&mut self, choices: &[T]) -> BTreeSet<T> {
        (0..=self.below(3)).map(|_| self.of(choices)).collect()
    }

    pub(super) fn maybe<T: Clone + Ord>(&mut self, n: usize, choices: &[T]) -> Option<BTreeSet<T>> {
        self.one_in(n).then(|| self.some_of(choices))
    }
}

const NAMESPACES: [&str; 3] = ["shop", "edge", "bank"];
const ACCOUNTS: [&str; 2] = ["web", "api"];
const WORKSPACES: [&str; 2] = ["w1", "w2"];
pub(super) const METHODS: [&str; 3] = ["GET", "POST", "get"];
pub(super) const PORTS: [u16; 4] = [8080, 9000, 9001, 7000];
/// As received, and the canonical form that the documentation promises (`None`: refused).
pub(super) const PATHS: [(&str, Option<&str>); 14] = [
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
pub(super) const HOSTS: [(&str, &str); 4] = [
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
pub(super) fn random_mesh(random: &mut Random) -> Snapshot {
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

pub(super) fn random_peer(random: &mut Random) -> Peer {
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

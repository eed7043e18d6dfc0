//! A second, naive evaluator of access, written from the text of the API, compared with the
//! engine on random meshes, peers and requests. It shares no code with the engine.

use tacit_decide::{
    ConnectionVerdict, DenialKind, Peer, RequestHead, authorize_connection, authorize_request,
};
use tacit_model::access::{Action, From, Mode, PathPattern, Rule, To};
use tacit_model::tables::{AccessRow, DefaultAccess, Tenancy, WorkloadRow};
use tacit_model::{Dice, Namespace, Snapshot, WorkloadName, WorkspaceName};

use crate::world::service_name;

mod random;

use random::{HOSTS, METHODS, PATHS, PORTS, Random, random_mesh, random_peer};

/// Random cases in a plain `cargo test`; `TACIT_CASES` asks for more.
const CASES: u64 = 20_000;

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
        if let Some(cidrs) = &from.cidrs
            && !cidrs.iter().any(|c| c.contains(address))
        {
            return false;
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
                if let Some(set) = &from.namespaces
                    && !set.contains(&id.namespace)
                {
                    return false;
                }
                if let Some(set) = &from.service_accounts
                    && !set.contains(&(id.namespace.clone(), id.service_account.clone()))
                {
                    return false;
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
        if let Some(ports) = &to.ports
            && !ports.contains(&self.port)
        {
            return false;
        }
        let l7 = to.methods.is_some() || to.paths.is_some() || to.hosts.is_some();
        let Some(request) = request else {
            // A Deny that cannot be evaluated denies; an Allow does not allow.
            return !l7 || deny;
        };
        if let Some(methods) = &to.methods
            && !methods.iter().any(|m| **m == *request.method)
        {
            return false;
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
        if let Some(hosts) = &to.hosts
            && !hosts.iter().any(|pattern| host_fits(pattern, request.host))
        {
            return false;
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
        let in_force = |p: &&&AccessRow| with_audit || p.mode == Mode::Enforce;
        if policies.iter().filter(in_force).any(|p| p.broken.is_some()) {
            return false;
        }
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

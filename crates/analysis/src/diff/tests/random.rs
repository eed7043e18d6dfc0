//! Random pairs of small meshes, random calls, and whether the differences cover a call.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tacit_decide::observed::{self, Observed};
use tacit_decide::why::{Source, caller};
use tacit_decide::{Peer, State};
use tacit_model::resilience::Resilience;
use tacit_model::{Dice, Locality, ServiceName, SpiffeId};

use super::super::{Change, Counter, Diff, Kind};
use crate::Compiled;
use crate::call::{Caller, Outcome, Reached, Served, Target};

pub(super) struct Random(Dice);

/// One call, in words.
#[derive(Debug)]
pub(super) struct Call {
    /// `None`: without a certificate.
    pub(super) identity: Option<(&'static str, &'static str, &'static str)>,
    address: IpAddr,
    zone: &'static str,
    pub(super) service: &'static str,
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    pub(super) host: &'static str,
}

pub(super) const NAMESPACES: [&str; 3] = ["shop", "edge", "lab"];
pub(super) const ACCOUNTS: [&str; 3] = ["web", "api", "job"];
pub(super) const METHODS: [&str; 3] = ["GET", "POST", "PURGE"];
const PATTERNS: [&str; 6] = ["/a", "/a/*", "/a/b*", "/a/b/c", "/*", "/z"];
const PATHS: [&str; 9] = [
    "/", "/a", "/a/", "/a/b", "/a/b/c", "/a/./b/q", "/%61/b", "/zz", "/a%zz",
];
pub(super) const HOST_PATTERNS: [&str; 3] = ["pay.shop", "'*.shop'", "'*.a.shop'"];
pub(super) const HOSTS: [&str; 5] = ["pay.shop", "q.a.shop:80", "shop", "A.Shop", ""];
const RANGES: [&str; 3] = ["10.0.0.0/8", "10.1.0.0/16", "10.0.0.0/9"];
pub(super) const ADDRESSES: [&str; 4] = ["10.0.0.1", "10.1.2.3", "10.200.0.1", "192.0.2.1"];
pub(super) const ZONES: [&str; 3] = ["a", "b", ""];

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(Dice(seed))
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        let (number, next) = self.0.below(u64::try_from(bound).unwrap());
        self.0 = next;
        usize::try_from(number).unwrap()
    }

    pub(super) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(super) fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// One or two of them.
    pub(super) fn some(&mut self, choices: &[&str]) -> String {
        let (a, b) = (self.of(choices), self.of(choices));
        if a == b {
            format!("[{a}]")
        } else {
            format!("[{a}, {b}]")
        }
    }

    /// Two meshes of which most parts are the same.
    pub(super) fn pair(&mut self) -> (String, String) {
        let parts: [fn(&mut Self) -> String; 6] = [
            Self::mesh,
            Self::workloads,
            |r| r.access("one"),
            |r| r.access("two"),
            Self::retry,
            Self::failover,
        ];
        let (mut before, mut after) = (SERVICES.to_owned(), SERVICES.to_owned());
        for part in parts {
            let old = part(self);
            after.push_str(&if self.one_in(3) {
                part(self)
            } else {
                old.clone()
            });
            before.push_str(&old);
        }
        (before, after)
    }

    pub(super) fn mesh(&mut self) -> String {
        let access = self.of(&["Authenticated", "Authenticated", "Deny"]);
        format!(
            "---\napiVersion: tacit.dev/v1alpha1\nkind: Mesh\nmetadata: {{name: default}}\nspec:\n  \
             cluster: c\n  localities: [{{region: r, zones: [a, b]}}]\n  defaultAccess: {access}\n"
        )
    }

    pub(super) fn workloads(&mut self) -> String {
        let mut text = String::new();
        let all = [
            ("pay-a", "pay", "a"),
            ("pay-b", "pay", "b"),
            ("led-a", "led", "a"),
        ];
        for (name, app, zone) in all {
            if self.one_in(4) {
                continue;
            }
            let track = self.of(&["", ", track: canary"]);
            text.push_str(&format!(
                "---\napiVersion: tacit.dev/v1alpha1\nkind: Workload\nmetadata: {{name: {name}, \
                 namespace: shop, labels: {{app: {app}{track}}}}}\nspec: {{serviceAccount: {app}, \
                 node: n, locality: {{zone: {zone}}}}}\n"
            ));
        }
        text
    }

    pub(super) fn access(&mut self, name: &str) -> String {
        if self.one_in(3) {
            return String::new();
        }
        let target = self.of(&[
            "targetRefs: [{group: '', kind: Service, name: pay}]",
            "targetRefs: [{group: '', kind: Service, name: led}]",
            "targetSelectors: [{group: tacit.dev, kind: Workload, matchLabels: {track: canary}}]",
            "targetAll: {}",
        ]);
        let action = self.of(&["Allow", "Deny"]);
        let mut from = Vec::new();
        if self.one_in(2) {
            from.push(format!("namespaces: {}", self.some(&NAMESPACES[..2])));
        }
        if self.one_in(2) {
            from.push(format!("serviceAccounts: {}", self.some(&ACCOUNTS[..2])));
        }
        if self.one_in(4) {
            from.push(format!("cidrs: {}", self.some(&RANGES)));
        }
        let mut to = Vec::new();
        if self.one_in(2) {
            to.push(format!("methods: {}", self.some(&METHODS[..2])));
        }
        if self.one_in(2) {
            to.push(format!("paths: {}", self.some(&PATTERNS)));
        }
        if self.one_in(3) {
            to.push(format!("hosts: {}", self.some(&HOST_PATTERNS)));
        }
        let mut rule = Vec::new();
        if !from.is_empty() {
            rule.push(format!("from: [{{{}}}]", from.join(", ")));
        }
        if !to.is_empty() {
            rule.push(format!("to: [{{{}}}]", to.join(", ")));
        }
        format!(
            "---\napiVersion: tacit.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {{name: {name}, \
             namespace: shop}}\nspec:\n  {target}\n  action: {action}\n  rules: [{{{}}}]\n",
            rule.join(", ")
        )
    }

    pub(super) fn retry(&mut self) -> String {
        let from = match self.below(3) {
            0 => String::new(),
            1 => format!(
                "\n  from: [{{namespaces: {}}}]",
                self.some(&NAMESPACES[..2])
            ),
            _ => format!(
                "\n  from: [{{serviceAccounts: {}}}]",
                self.some(&ACCOUNTS[..2])
            ),
        };
        let (time, attempts) = (self.of(&["1s", "2s"]), self.below(3));
        format!(
            "---\napiVersion: tacit.dev/v1alpha1\nkind: RetryTimeoutPolicy\nmetadata: {{name: r, \
             namespace: shop}}\nspec:\n  targetRefs: [{{group: '', kind: Service, name: pay}}]\n  \
             timeout: {{request: {time}}}\n  retry: {{attempts: {attempts}}}{from}\n"
        )
    }

    fn failover(&mut self) -> String {
        let order = self.of(&[
            "[{places: [{zone: same}]}, {places: [{region: same}]}]",
            "[{places: [{zone: a}]}, {places: [{zone: b}]}]",
            "[{places: [{zone: b}]}, {service: {name: led}}]",
            "[{places: [{zone: a, weight: 80}, {zone: b, weight: 20}]}]",
        ]);
        match self.one_in(3) {
            true => String::new(),
            false => format!(
                "---\napiVersion: tacit.dev/v1alpha1\nkind: FailoverPolicy\nmetadata: {{name: f, \
                 namespace: shop}}\nspec:\n  targetRefs: [{{group: '', kind: Service, name: \
                 pay}}]\n  order: {order}\n"
            ),
        }
    }

    pub(super) fn call(&mut self) -> Call {
        let domain = match self.below(8) {
            0 => None,
            1 => Some("elsewhere"),
            _ => Some(""),
        };
        let (namespace, account) = (self.of(&NAMESPACES), self.of(&ACCOUNTS));
        Call {
            identity: domain.map(|domain| (domain, namespace, account)),
            address: self.of(&ADDRESSES).parse().unwrap(),
            zone: self.of(&ZONES),
            service: self.of(&["pay", "led"]),
            method: self.of(&METHODS),
            path: self.of(&PATHS),
            host: self.of(&HOSTS),
        }
    }
}

pub(super) const SERVICES: &str = "\
apiVersion: v1
kind: Service
metadata: {name: pay, namespace: shop}
spec: {selector: {app: pay}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: led, namespace: shop}
spec: {selector: {app: led}, ports: [{name: http, port: 80, targetPort: 8080}]}
";

impl Call {
    pub(super) fn place(&self) -> Locality {
        let region = if self.zone.is_empty() { "" } else { "r" };
        Locality {
            cluster: "c".into(),
            region: region.into(),
            zone: self.zone.into(),
        }
    }

    pub(super) fn caller(&self, state: &Compiled) -> Caller {
        let s = &state.snapshot;
        let (domain, namespace, account) = self.identity.unwrap_or(("", "none", "none"));
        let local = &s.mesh.trust_domain;
        let id = SpiffeId {
            trust_domain: match domain {
                "" => local.clone(),
                other => other.try_into().unwrap(),
            },
            namespace: namespace.try_into().unwrap(),
            service_account: account.try_into().unwrap(),
        };
        let mut row = caller(s, &Source::Identity(id.clone(), self.place()))
            .unwrap()
            .0;
        Arc::make_mut(&mut row).address = self.address;
        let identity = self.identity.is_some().then_some(id);
        let peer = Peer {
            identity,
            address: SocketAddr::new(self.address, 0),
        };
        Caller { row, peer }
    }

    /// What comes of a request to a service itself, whatever its routes say.
    pub(super) fn at(&self, state: &Compiled, service: &str, path: &str, host: &str) -> Outcome {
        // The request's own host is not where it goes.
        let services = &state.snapshot.services;
        let address = services
            .values()
            .find(|row| row.name.name.as_str() == service);
        let address = SocketAddr::new(address.unwrap().address, 80);
        let target = Target {
            host: host.to_owned(),
            port: 80,
            method: self.method.to_owned(),
            path: path.to_owned(),
            headers: BTreeMap::new(),
        };
        let caller = self.caller(state);
        crate::call::ask_address(state, &State::new(), &caller, address, &target)
    }

    fn outcome(&self, state: &Compiled) -> Outcome {
        self.at(state, self.service, self.path, self.host)
    }

    /// The sort of caller that stands for this one, without its address.
    pub(super) fn sort(&self, old: &Compiled, new: &Compiled) -> String {
        let Some((domain, namespace, account)) = self.identity else {
            return "callers without a certificate".to_owned();
        };
        if !domain.is_empty() {
            return "any other trust domain".to_owned();
        }
        let sorts = super::super::callers::all(super::super::Both::new(old, new));
        let named = [
            format!("{namespace}/{account}"),
            format!("other accounts of {namespace}"),
        ];
        let is_there = |label: &&String| sorts.iter().any(|sort| sort.label.starts_with(*label));
        let found = named.iter().find(is_there).cloned();
        found.unwrap_or_else(|| "accounts of other namespaces".to_owned())
    }
}

/// Percent of those who serve that let the call in, and where they are with their shares.
#[derive(Debug, PartialEq)]
pub(super) struct Seen {
    pub(super) allowed: Option<u64>,
    places: Vec<(String, u64)>,
}

pub(super) fn seen(served: &Served) -> Option<Seen> {
    let of = |all: &[Reached], told: bool| {
        let total: u64 = all.iter().map(|one| one.per_million).sum();
        let let_in = all.iter().filter(|one| one.verdict.is_ok());
        let let_in: u64 = let_in.map(|one| one.per_million).sum();
        let mut places: Vec<(String, u64)> = Vec::new();
        for one in all.iter().filter(|_| told) {
            let place = one.workload.locality.to_string();
            match places.iter_mut().find(|(known, _)| *known == place) {
                Some((_, share)) => *share += one.per_million,
                None => places.push((place, one.per_million)),
            }
        }
        places
            .iter_mut()
            .for_each(|(_, share)| *share = (*share + 50) / 100);
        Seen {
            allowed: (let_in * 100).checked_div(total),
            places,
        }
    };
    match served {
        Served::By(all) => Some(of(all, true)),
        Served::Nobody(_) => Some(Seen {
            allowed: None,
            places: Vec::new(),
        }),
        Served::Somebody(one) => Some(of(std::slice::from_ref(&**one), false)),
        Served::Unknown(_) => None,
    }
}

pub(super) fn values(r: &Resilience) -> String {
    format!(
        "{:?} {:?} {:?}",
        r.request.value, r.attempts.value, r.per_try.value
    )
}

impl Call {
    /// As a log would tell it.
    pub(super) fn observed(&self, state: &Compiled) -> observed::Call {
        observed::Call {
            from: observed::From {
                identity: self.caller(state).peer.identity,
                address: self.address,
                place: Some(self.place()),
            },
            service: ServiceName::parse("shop", self.service).unwrap(),
            port: 80,
            head: Some(observed::Head {
                method: self.method.to_owned(),
                path: self.path.to_owned(),
                host: self.host.to_owned(),
                query: None,
                headers: BTreeMap::new(),
            }),
        }
    }
}

/// The differences that concern one call. None may be without a name.
pub(super) fn concerned(
    found: &Diff,
    (old, new): (&Compiled, &Compiled),
    call: observed::Call,
) -> Vec<Change> {
    let mut counter = Counter::new(old, new, found.clone());
    counter.add(&Observed::Call(Box::new(call)));
    let Diff {
        changes, observed, ..
    } = counter.end();
    let all = observed.unwrap();
    assert_eq!((all.requests, all.unnamed, all.not_covered), (1, 0, 0));
    let concerned = changes.into_iter().filter(|one| one.observed == Some(1));
    let concerned: Vec<Change> = concerned.collect();
    assert_eq!(all.concerned, u64::from(!concerned.is_empty()));
    concerned
}

/// What of a call differs and is not among the differences, or the other way about.
pub(super) fn covers(
    found: &Diff,
    (old, new): (&Compiled, &Compiled),
    call: &Call,
) -> Result<(), String> {
    let (Outcome::Service(before), Outcome::Service(after)) =
        (call.outcome(old), call.outcome(new))
    else {
        return Err("not a service".to_owned());
    };
    let name = format!("{}.shop", call.service);
    let place = call.place().to_string();
    let told = |kinds: &[Kind], destination: &str, is_it: &dyn Fn(&str) -> bool| {
        found.changes.iter().any(|change| {
            change.destination == destination
                && kinds.contains(&change.change)
                && (change.places.is_empty() || change.places.contains(&place))
                && (change.callers.is_empty() || change.callers.iter().any(|who| is_it(who)))
        })
    };
    let is_local = matches!(call.identity, Some(("", _, _)));
    let sort = call.sort(old, new);
    let is_it = |label: &str| label.starts_with(&sort);
    if is_local
        && values(&before.resilience) != values(&after.resilience)
        && !told(&[Kind::Limits], &name, &is_it)
    {
        return Err("limits".to_owned());
    }
    let counted = concerned(found, (old, new), call.observed(old));
    let counts = |kinds: &[Kind]| counted.iter().any(|one| kinds.contains(&one.change));
    let is_mine = |one: &Change| {
        (one.callers.is_empty() || one.callers.iter().any(|who| is_it(who)))
            && (one.places.is_empty() || one.places.contains(&place))
    };
    if !counted.iter().all(is_mine) {
        return Err(format!("another's: {counted:?}"));
    }
    let limits_differ = is_local && values(&before.resilience) != values(&after.resilience);
    if limits_differ != counts(&[Kind::Limits]) {
        return Err(format!("limits are counted otherwise: {counted:?}"));
    }
    let (Some(a), Some(b)) = (seen(&before.served), seen(&after.served)) else {
        // What cannot be said in one state is said to be so, unless nothing changed.
        return Ok(());
    };
    let destination = format!("{name}:80");
    if a.places != b.places && !told(&[Kind::Routes], &destination, &is_it) {
        return Err(format!("routes {a:?} {b:?}"));
    }
    let both = a.allowed.is_some() && b.allowed.is_some();
    let kinds = [Kind::NewlyAllowed, Kind::NewlyDenied];
    if both && a.allowed != b.allowed && !told(&kinds, &destination, &is_it) {
        return Err(format!("access {a:?} {b:?}"));
    }
    // What is served in another way when places are lost is a difference, too.
    let routes_differ = a.places != b.places;
    if routes_differ && !counts(&[Kind::Routes]) {
        return Err(format!("routes are not counted: {counted:?}"));
    }
    if (both && a.allowed != b.allowed) != counts(&kinds) {
        return Err(format!("access is counted otherwise: {counted:?}"));
    }
    Ok(())
}

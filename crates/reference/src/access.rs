//! AccessPolicy and isolation: may this request pass, and what decides.

use std::net::IpAddr;

use crate::answer::{Access, Clause, Request};
use crate::matching::{host_fits, is_method};
use crate::mesh::{Object, Received, Reference};
use crate::mutation::Mutation;
use crate::node::Node;
use crate::targets::{Closeness, Targets};
use crate::tenants::Owner;
use crate::world::{Caller, Proof};

/// Who is at the other end, as a callee sees it.
pub(crate) struct Peer<'r> {
    /// Trust domain, namespace and service account. The local trust domain is absent.
    identity: Option<(Option<&'r str>, &'r str, &'r str)>,
    address: IpAddr,
}

impl<'r> Peer<'r> {
    pub(crate) fn of(caller: &'r Caller) -> Self {
        let domain = match &caller.proof {
            Proof::None => None,
            Proof::Local => Some(None),
            Proof::Foreign(domain) => Some(Some(domain.as_str())),
        };
        Self {
            identity: domain.map(|domain| (domain, &*caller.namespace, &*caller.account)),
            address: caller.address,
        }
    }

    /// The caller as its own node knows it.
    pub(crate) fn of_client(caller: &'r Caller) -> Self {
        Self {
            identity: Some((None, &caller.namespace, &caller.account)),
            address: caller.address,
        }
    }
}

/// A truth that may depend on the request, where only the connection is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Known {
    No,
    Depends,
    Yes,
}

impl Known {
    fn from(truth: bool) -> Self {
        if truth { Self::Yes } else { Self::No }
    }
}

/// What is called, and how far it is known.
struct Call<'r, 'w> {
    workload: &'r Object<'w>,
    port: i64,
    peer: Peer<'r>,
    method: &'r str,
    seen: &'r Received,
    /// False while only the connection is known.
    request_known: bool,
    /// True if requests can be read here.
    readable: bool,
    policies: Vec<Policy<'r, 'w>>,
}

/// A policy that applies.
struct Policy<'r, 'w> {
    object: &'r Object<'w>,
    is_broken: bool,
    audits: bool,
}

enum Verdict {
    Allowed(Clause),
    Denied(Clause),
    Depends,
}

impl<'w> Reference<'w> {
    /// What the server half of `namespace/name:port` decides.
    pub(crate) fn access(
        &self,
        endpoint: &str,
        request: &Request,
        seen: &Received,
    ) -> Option<Access> {
        let (key, port) = endpoint.rsplit_once(':')?;
        let port = port.parse().ok()?;
        let workload = self.of_kind("Workload").find(|one| one.key() == key)?;
        let policies = self.policies(workload, port);
        let is_http = self.is_http(workload, port);
        let mut call = Call {
            workload,
            port,
            peer: Peer::of(&request.caller),
            method: &request.method,
            seen,
            request_known: false,
            readable: is_http
                || policies
                    .iter()
                    .any(|one| !one.is_broken && asks_for_requests(one.object, port)),
            policies,
        };
        if !is_http {
            // A connection of bytes is decided as such where no request can change the verdict.
            match self.verdict(&call, false) {
                Verdict::Allowed(by) => return Some(self.told(&call, true, by)),
                Verdict::Denied(by) => return Some(self.told(&call, false, by)),
                Verdict::Depends => {}
            }
        }
        call.request_known = true;
        let looks_at_paths = call
            .policies
            .iter()
            .any(|one| !one.is_broken && looks_at_paths(one.object, port));
        if looks_at_paths && seen.canonical.is_none() {
            return Some(Access {
                allowed: false,
                by: Clause::BadPath,
                audit: None,
                path: None,
            });
        }
        let (allowed, by) = match self.verdict(&call, false) {
            Verdict::Allowed(by) => (true, by),
            Verdict::Denied(by) => (false, by),
            Verdict::Depends => (false, Clause::Default),
        };
        let path = seen.canonical.clone().filter(|_| allowed && looks_at_paths);
        Some(Access {
            path,
            ..self.told(&call, allowed, by)
        })
    }

    fn told(&self, call: &Call<'_, '_>, allowed: bool, by: Clause) -> Access {
        let audit = match self.verdict(call, true) {
            Verdict::Denied(by) if allowed && !self.is_wrong(Mutation::AuditSilent) => Some(by),
            Verdict::Allowed(_) | Verdict::Denied(_) | Verdict::Depends => None,
        };
        Access {
            allowed,
            by,
            audit,
            path: None,
        }
    }

    /// The policies that apply to a port of a workload, by name.
    fn policies(&self, workload: &Object<'w>, port: i64) -> Vec<Policy<'_, 'w>> {
        let applies = |targets: &Targets<'w>| {
            let behind = self.of_kind("Service").filter(|service| {
                self.selects(service, workload)
                    && (self.is_wrong(Mutation::ServiceCoversAllPorts)
                        || self.leads_to(service, workload, port))
            });
            let most = if self.is_wrong(Mutation::FirstServiceOnly) {
                1
            } else {
                usize::MAX
            };
            self.covers(targets, workload)
                || behind
                    .take(most)
                    .any(|service| self.covers_service(targets, service))
        };
        let valid = self.of_kind("AccessPolicy").map(|object| {
            let audits = object.spec.at("mode").is("Audit");
            (Targets::Written(*object), object, false, audits)
        });
        let broken = self
            .broken
            .iter()
            .filter(|_| !self.is_wrong(Mutation::BrokenIgnored))
            .map(|one| {
                let audits = one.audits && !self.is_wrong(Mutation::BrokenAuditBlocks);
                (one.targets, &one.object, true, audits)
            });
        let mut found: Vec<Policy<'_, 'w>> = valid
            .chain(broken)
            .filter(|(targets, ..)| applies(targets))
            .map(|(_, object, is_broken, audits)| Policy {
                object,
                is_broken,
                audits: audits && !self.is_wrong(Mutation::AuditBlocks),
            })
            .collect();
        found.sort_by_key(|one| (one.object.namespace, one.object.name));
        found
    }

    /// True if some port of a Service leads to this port of a workload.
    pub(crate) fn leads_to(&self, service: &Object<'_>, workload: &Object<'_>, port: i64) -> bool {
        let mut ports = service.spec.at("ports").items();
        ports.any(|of| target_port(of, workload) == Some(port))
    }

    /// True if a port of a workload is declared HTTP, by itself or by a Service.
    pub(crate) fn is_http(&self, workload: &Object<'w>, port: i64) -> bool {
        let mut own = workload.spec.at("ports").items();
        let by_itself = own.any(|of| of.at("port").number() == Some(port) && declares_http(of));
        by_itself
            || self.of_kind("Service").any(|service| {
                let mut ports = service.spec.at("ports").items();
                self.selects(service, workload)
                    && ports.any(|of| declares_http(of) && target_port(of, workload) == Some(port))
            })
    }

    /// True if a policy has conditions on requests, without `ports`, at a Service that it names
    /// and that has a port of unknown protocol: it is then invalid.
    pub(crate) fn looks_into_bytes(&self, policy: &Object<'w>) -> bool {
        let asks = operations(policy).any(|to| is_of_requests(to) && !to.at("ports").is_there());
        let mut services = self.of_kind("Service");
        asks && services.any(|service| {
            let mut ports = service.spec.at("ports").items();
            self.closeness(policy, service) == Some(Closeness::Name)
                && ports.any(|port| !declares_http(port))
        })
    }

    fn verdict(&self, call: &Call<'_, 'w>, with_audit: bool) -> Verdict {
        if let Some(clause) = self.isolation(call) {
            return Verdict::Denied(clause);
        }
        let counted = || {
            let all = call.policies.iter();
            all.filter(move |policy| with_audit || !policy.audits)
        };
        if let Some(broken) = counted().find(|policy| policy.is_broken) {
            return Verdict::Denied(Clause::Broken(broken.object.shown()));
        }
        let of = |action: &'static str| {
            counted().filter(move |one| one.object.spec.at("action").is(action))
        };
        let denies = self.first_rule(of("Deny"), call, true);
        let allows = self.decide_allows(of("Allow"), call);
        let allow_first = self.is_wrong(Mutation::AllowFirst)
            && matches!(allows, Verdict::Allowed(Clause::Rule(_)));
        match denies {
            _ if allow_first || self.is_wrong(Mutation::DenyIgnored) => allows,
            (Known::Yes, Some(rule)) => Verdict::Denied(Clause::Rule(rule)),
            (Known::Depends, _) if matches!(allows, Verdict::Allowed(_)) => Verdict::Depends,
            _ => allows,
        }
    }

    fn decide_allows<'r>(
        &self,
        allows: impl Iterator<Item = &'r Policy<'r, 'w>> + Clone,
        call: &Call<'_, 'w>,
    ) -> Verdict
    where
        'w: 'r,
    {
        let mut names: Vec<String> = allows.clone().map(|one| one.object.shown()).collect();
        if self.is_wrong(Mutation::AuditTriggersDenial) {
            let audits = call
                .policies
                .iter()
                .filter(|one| one.audits && !one.is_broken);
            let audits = audits.filter(|one| one.object.spec.at("action").is("Allow"));
            names.extend(audits.map(|one| one.object.shown()));
        }
        match self.first_rule(allows, call, false) {
            (Known::Yes, Some(rule)) => Verdict::Allowed(Clause::Rule(rule)),
            (Known::Depends, _) => Verdict::Depends,
            _ if names.is_empty() || self.is_wrong(Mutation::NoImplicitDenial) => {
                self.by_default(call)
            }
            _ => Verdict::Denied(Clause::NoAllow(names)),
        }
    }

    fn by_default(&self, call: &Call<'_, '_>) -> Verdict {
        let denies = self.mesh().at("defaultAccess").is("Deny");
        let known = call.peer.identity.is_some();
        let allowed = (!denies || self.is_wrong(Mutation::DefaultAllows))
            && (known || self.is_wrong(Mutation::DefaultForUnauthenticated));
        if allowed {
            Verdict::Allowed(Clause::Default)
        } else {
            Verdict::Denied(Clause::Default)
        }
    }

    /// What isolation says against the caller.
    fn isolation(&self, call: &Call<'_, 'w>) -> Option<Clause> {
        let workspace = match self.owner(call.workload.namespace) {
            Owner::Nobody => return None,
            Owner::Contested => return Some(Clause::Contested),
            Owner::Workspace(found) => found,
        };
        let strict = workspace.spec.at("isolation").is("Strict");
        if !strict || self.is_wrong(Mutation::IsolationIgnored) {
            return None;
        }
        let caller = match call.peer.identity {
            Some((None, namespace, _)) => self.workspace_of(namespace),
            Some((Some(_), ..)) | None => None,
        };
        let passes = caller.is_some_and(|caller| {
            caller == workspace.name
                || self.of_kind("Service").any(|service| {
                    self.selects(service, call.workload)
                        && (self.leads_to(service, call.workload, call.port)
                            || self.is_wrong(Mutation::ImporterCallsAll))
                        && self.imports(caller, workspace, service)
                })
        });
        (!passes).then(|| Clause::Isolation(workspace.shown()))
    }

    /// The strongest match among the rules of some policies, and the first that surely matches.
    fn first_rule<'r>(
        &self,
        policies: impl Iterator<Item = &'r Policy<'r, 'w>>,
        call: &Call<'_, 'w>,
        deny: bool,
    ) -> (Known, Option<String>)
    where
        'w: 'r,
    {
        let mut best = Known::No;
        for policy in policies {
            let shown = policy.object.shown();
            let rules = policy.object.spec.at("rules");
            if !rules.is_there() {
                // Absent: every call.
                if self.is_anybody(call, deny) {
                    return (Known::Yes, Some(format!("{shown} spec")));
                }
            }
            for (index, rule) in rules.items().enumerate() {
                match self.rule(rule, policy.object.namespace, call, deny) {
                    Known::Yes => {
                        return (Known::Yes, Some(format!("{shown} spec.rules[{index}]")));
                    }
                    other @ (Known::No | Known::Depends) => best = best.max(other),
                }
            }
        }
        (best, None)
    }

    /// Absent `from`: any authenticated peer in an Allow, every peer in a Deny.
    fn is_anybody(&self, call: &Call<'_, '_>, deny: bool) -> bool {
        let everybody = if deny {
            !self.is_wrong(Mutation::DenyNeedsIdentity)
        } else {
            self.is_wrong(Mutation::AllowForEverybody)
        };
        everybody || call.peer.identity.is_some()
    }

    fn rule(&self, rule: Node<'_>, home: &str, call: &Call<'_, '_>, deny: bool) -> Known {
        let (from, to) = (rule.at("from"), rule.at("to"));
        let who = if from.is_there() {
            let mut entries = from.items();
            entries.any(|entry| self.is_one_of(entry, &call.peer, home, deny))
        } else {
            self.is_anybody(call, deny)
        };
        if !who {
            return Known::No;
        }
        if !to.is_there() {
            return Known::Yes;
        }
        let entries = to.items().map(|entry| self.operation(entry, call));
        let what = entries.max().unwrap_or(Known::No);
        match what {
            // Bytes hold no request: an Allow cannot hold, and a Deny that cannot be evaluated
            // denies.
            Known::Depends if !call.readable => {
                Known::from(deny && !self.is_wrong(Mutation::UnknownDenyPasses))
            }
            known @ (Known::No | Known::Depends | Known::Yes) => known,
        }
    }

    /// All given fields of an entry of `to`, any value of each.
    fn operation(&self, to: Node<'_>, call: &Call<'_, '_>) -> Known {
        let any_field = self.is_wrong(Mutation::AnyFieldOfTo);
        let ports = to.at("ports");
        let at_port = !ports.is_there() || ports.numbers().any(|port| port == call.port);
        if !at_port && !any_field {
            return Known::No;
        }
        if !is_of_requests(to) {
            return Known::from(at_port);
        }
        if !call.request_known {
            return Known::Depends;
        }
        let path = call.seen.canonical.as_deref().unwrap_or(&call.seen.path);
        let host = without_port(&call.seen.host);
        let fields = [
            (ports, at_port),
            (
                to.at("methods"),
                to.at("methods").texts().any(|one| one == call.method),
            ),
            (
                to.at("paths"),
                to.at("paths").texts().any(|one| fits(one, path)),
            ),
            (
                to.at("hosts"),
                to.at("hosts").texts().any(|one| host_fits(one, &host)),
            ),
            (
                to.at("grpc"),
                to.at("grpc").texts().any(|one| is_method(one, path)),
            ),
        ];
        let mut given = fields.into_iter().filter(|(field, _)| field.is_there());
        Known::from(if any_field {
            given.any(|(_, matches)| matches)
        } else {
            given.all(|(_, matches)| matches)
        })
    }

    /// True if the peer is what one entry of `from` says, in a policy that lives in `home`.
    pub(crate) fn is_one_of(
        &self,
        entry: Node<'_>,
        peer: &Peer<'_>,
        home: &str,
        deny: bool,
    ) -> bool {
        let in_list = |name: &str| {
            entry
                .at(name)
                .texts()
                .any(|range| contains(range, peer.address))
        };
        let (cidrs, except) = (entry.at("cidrs"), self.is_wrong(Mutation::ExceptIgnored));
        if (in_list("except") && !except) || (cidrs.is_there() && !in_list("cidrs")) {
            return false;
        }
        let names = ["namespaces", "serviceAccounts", "workspaces"];
        let is_named = names.iter().any(|name| entry.at(name).is_there());
        let domain = entry.at("trustDomain").text();
        let Some((of, namespace, account)) = peer.identity else {
            // Ranges alone mean everybody in them if they are denied.
            let asks_nothing = !is_named && domain.is_none();
            return asks_nothing && (deny || entry.at("unauthenticated").is_true());
        };
        if entry.at("unauthenticated").is_true() {
            return false;
        }
        let local = self
            .mesh()
            .at("trustDomain")
            .text()
            .unwrap_or("cluster.local");
        let any_domain = self.is_wrong(Mutation::AnyTrustDomain);
        let of_domain = match domain {
            Some(wanted) => of.unwrap_or(local) == wanted,
            None => !is_named || of.is_none(),
        };
        let fields = [
            (
                entry.at("namespaces"),
                entry.at("namespaces").texts().any(|one| one == namespace),
            ),
            (
                entry.at("serviceAccounts"),
                self.has_account(entry, (namespace, account), home),
            ),
            (
                entry.at("workspaces"),
                of.is_none()
                    && entry
                        .at("workspaces")
                        .texts()
                        .any(|one| self.workspace_of(namespace) == Some(one)),
            ),
        ];
        let mut given = fields.into_iter().filter(|(field, _)| field.is_there());
        let named = if self.is_wrong(Mutation::AnyFieldOfFrom) && is_named {
            given.any(|(_, matches)| matches)
        } else {
            given.all(|(_, matches)| matches)
        };
        named && (of_domain || any_domain)
    }

    /// A bare service account means the entry's `namespaces`, else the policy's own one.
    fn has_account(&self, entry: Node<'_>, is: (&str, &str), home: &str) -> bool {
        entry.at("serviceAccounts").texts().any(|text| {
            if let Some(written) = text.split_once('/') {
                return written == is;
            }
            let namespaces = entry.at("namespaces");
            let mut listed = namespaces.texts();
            let in_namespace = if self.is_wrong(Mutation::BareAccountAnywhere) {
                true
            } else if namespaces.is_there() && !self.is_wrong(Mutation::BareAccountAtHome) {
                listed.any(|one| one == is.0)
            } else {
                is.0 == home
            };
            text == is.1 && in_namespace
        })
    }
}

/// All entries of `to` of a policy.
fn operations<'w>(policy: &Object<'w>) -> impl Iterator<Item = Node<'w>> + use<'w> {
    let rules = policy.spec.at("rules").items();
    rules.flat_map(|rule| rule.at("to").items())
}

fn is_of_requests(to: Node<'_>) -> bool {
    ["methods", "paths", "hosts", "grpc"]
        .iter()
        .any(|name| to.at(name).is_there())
}

/// True if a policy asks for requests at this port by its number.
fn asks_for_requests(policy: &Object<'_>, port: i64) -> bool {
    operations(policy)
        .any(|to| is_of_requests(to) && to.at("ports").numbers().any(|listed| listed == port))
}

/// True if a policy looks at paths at this port.
fn looks_at_paths(policy: &Object<'_>, port: i64) -> bool {
    operations(policy).any(|to| {
        let ports = to.at("ports");
        (to.at("paths").is_there() || to.at("grpc").is_there())
            && (!ports.is_there() || ports.numbers().any(|listed| listed == port))
    })
}

/// The port of a workload that a port of a Service means.
pub(crate) fn target_port(of: Node<'_>, workload: &Object<'_>) -> Option<i64> {
    let target = of.at("targetPort");
    let Some(name) = target.text() else {
        return target.number().or_else(|| of.at("port").number());
    };
    let mut ports = workload.spec.at("ports").items();
    ports
        .find(|port| port.at("name").is(name))?
        .at("port")
        .number()
}

/// True if a port is declared HTTP: by `appProtocol`, else by the start of its name.
pub(crate) fn declares_http(port: Node<'_>) -> bool {
    if let Some(protocol) = port.at("appProtocol").text() {
        return matches!(protocol, "http" | "http2" | "grpc");
    }
    let name = port.at("name").text().unwrap_or_default();
    let start = name.split('-').next().unwrap_or_default();
    matches!(start, "http" | "http2" | "grpc")
}

/// A path, or a prefix that ends in `*`.
fn fits(pattern: &str, path: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some("") => true,
        Some(prefix) => path.starts_with(prefix),
        None => path == pattern,
    }
}

/// A host in lower case, without port and final dot.
fn without_port(host: &str) -> String {
    let name = host.split(':').next().unwrap_or(host);
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// True if an IPv4 range such as `10.0.0.0/8`, or a single address, has this address.
fn contains(range: &str, address: IpAddr) -> bool {
    let (network, bits) = range.split_once('/').unwrap_or((range, "32"));
    let (Ok(IpAddr::V4(network)), IpAddr::V4(address), Ok(bits)) =
        (network.parse::<IpAddr>(), address, bits.parse::<u32>())
    else {
        return false;
    };
    let differ = u32::from(network) ^ u32::from(address);
    differ.leading_zeros() >= bits
}

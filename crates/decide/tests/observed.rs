//! Requests put together again from the records that both halves leave.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::Arc;

use tacit_decide::observed::{Call, Observed, Observer};
use tacit_decide::record::{Entry, Leg};
use tacit_decide::{Ask, ConnectionVerdict, Decider, Peer, RequestHead, State};
use tacit_model::tables::Protocol;
use tacit_model::{Dice, Snapshot};

use crate::world::{at, millis, peer, service_name, shop};

/// Two halves that log, over one mesh.
struct Halves {
    snapshot: Arc<Snapshot>,
    state: State,
    told: RefCell<Vec<Entry>>,
}

impl Halves {
    fn new() -> Self {
        let mut world = shop(1);
        world.service("lite", "shop", 2, &[("http", 81, 8080, Protocol::Http)]);
        world.also_behind("payments", "lite", "shop");
        Self {
            snapshot: Arc::new(world.build()),
            state: State::new(),
            told: RefCell::default(),
        }
    }

    fn decide<T>(&self, id: &str, ask: impl FnOnce(&Decider<'_>) -> T) -> T {
        let id = id.into();
        let log = |entry| self.told.borrow_mut().push(entry);
        ask(&Decider {
            snapshot: &self.snapshot,
            state: &self.state,
            id: &id,
            log: Some(&log),
        })
    }

    /// The client half of `web-1` calls payments.
    fn calls(&self, id: &str) {
        let s = &self.snapshot;
        let service = &s.services[&service_name("payments", "shop")];
        let source = s
            .workloads
            .values()
            .find(|row| row.name.name.as_str() == "web-1");
        let source = source.unwrap();
        let leg = Leg {
            source: source.name.clone(),
            service: service.name.clone(),
            rule: None,
        };
        self.decide(id, |decider| {
            drop(decider.destination(SocketAddr::new(service.address, 80)));
            let r = decider.effective(service, None, source);
            drop(decider.begin(&r, leg, "GET", None, millis(0)));
            let ask = Ask {
                source,
                service,
                port: &service.ports[0],
                tried: &[],
                control_stale: false,
            };
            drop(decider.choose(&ask, millis(0), Dice(1)));
        });
    }

    /// A request arrives at a workload of payments.
    fn arrives(&self, id: &str, peer: &Peer, path: &str, host: &str) {
        let mut rows = self.snapshot.workloads.values();
        let row = rows
            .find(|row| row.name.name.as_str() == "payments-a-1")
            .unwrap();
        self.decide(id, |decider| {
            let ConnectionVerdict::InspectRequests(permit) =
                decider.authorize_connection(row, 8080, peer)
            else {
                panic!("the port is HTTP");
            };
            let head = RequestHead {
                method: "GET",
                path,
                host,
            };
            drop(decider.authorize_request(&permit, &head));
        });
    }

    fn observed(self) -> Vec<Observed> {
        let mut observer = Observer::default();
        let mut all = Vec::new();
        for entry in self.told.into_inner() {
            observer.add(&entry.snapshot, &entry.record, &mut |one| all.push(one));
        }
        observer.end(&mut |one| all.push(one));
        all
    }
}

fn web() -> Peer {
    Peer {
        address: "10.1.0.1:4000".parse().unwrap(),
        ..peer("shop", "web")
    }
}

fn remote() -> Peer {
    Peer {
        address: "10.7.0.7:4000".parse().unwrap(),
        ..peer("far", "job")
    }
}

/// Service, account and path of each call.
fn calls(observed: &[Observed]) -> Vec<(String, String, String)> {
    let call = |one: &Observed| match one {
        Observed::Call(call) => {
            let Call {
                from,
                service,
                port,
                head,
            } = &**call;
            let id = from.identity.as_ref().unwrap();
            let path = head.as_ref().map_or("unseen", |head| &head.path);
            let account = format!("{}/{}", id.namespace, id.service_account);
            (format!("{service}:{port}"), account, path.to_owned())
        }
        other => panic!("{other:?} is no call"),
    };
    observed.iter().map(call).collect()
}

fn is(service: &str, account: &str, path: &str) -> (String, String, String) {
    (service.into(), account.into(), path.into())
}

#[test]
fn both_halves_and_all_tries_are_one_request() {
    let halves = Halves::new();
    halves.calls("one");
    halves.arrives("one", &web(), "/a", "payments");
    halves.arrives("one", &web(), "/a", "payments");
    let observed = halves.observed();
    assert_eq!(calls(&observed), [is("payments.shop:80", "shop/web", "/a")]);
    let Observed::Call(call) = &observed[0] else {
        panic!("a call");
    };
    assert_eq!(call.from.place, Some(at("r1", "a")));
}

#[test]
fn one_half_is_a_request_too() {
    let halves = Halves::new();
    halves.calls("sent");
    halves.arrives("came", &remote(), "/b", "lite.shop:81");
    // A request of another caller with an identifier that was used before.
    halves.arrives("sent", &remote(), "/c", "payments.shop.svc.cluster.local");
    let mut found = calls(&halves.observed());
    found.sort();
    let wanted = [
        is("lite.shop:81", "far/job", "/b"),
        is("payments.shop:80", "far/job", "/c"),
        is("payments.shop:80", "shop/web", "unseen"),
    ];
    assert_eq!(found, wanted);
}

#[test]
fn what_is_no_call_to_a_service_is_told_as_that() {
    let halves = Halves::new();
    // A connection on which no request came, and one to outside of the mesh.
    let to = |halves: &Halves, id: &str, address: &str| {
        halves.decide(id, |decider| {
            drop(decider.destination(address.parse().unwrap()));
        });
    };
    to(&halves, "connection", "240.0.0.1:80");
    to(&halves, "outside", "192.0.2.1:443");
    // Its host names neither of the services that have the port.
    halves.arrives("which", &remote(), "/", "elsewhere");
    assert_eq!(halves.observed(), [Observed::Outside, Observed::Workload]);
}

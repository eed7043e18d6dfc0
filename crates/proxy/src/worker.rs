//! Worker threads: each has a single-threaded runtime and owns the connections dealt to it.

use std::cell::Cell;
use std::net::{TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tacit_model::Dice;
use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot};
use tokio::task::LocalSet;

use crate::dns;
use crate::error::NodeError;
use crate::log;
use crate::node::accept;
use crate::node::context::Context;
use crate::node::local::Local;
use crate::node::probes::{self, ProbeOrder};
use crate::shared::Shared;

/// Orders that may wait for a busy worker. Dealt connections beyond this are refused: a worker
/// that is so far behind would serve them too late anyway.
const WAITING: usize = 1024;

/// How a connection came in, and so what becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// From the application, redirected.
    Outbound,
    /// HBONE from another proxy.
    Hbone,
    /// Plaintext from outside, redirected.
    Plain,
    /// From this machine's own network to this port of the application.
    Published { target: u16 },
}

/// An order to a worker.
pub(crate) enum Order {
    /// Accept on this listener for all workers.
    Listen {
        local: Arc<Local>,
        role: Role,
        listener: TcpListener,
    },
    /// Serve this connection.
    Serve {
        local: Arc<Local>,
        role: Role,
        stream: TcpStream,
    },
    /// Answer this workload's DNS.
    Dns {
        local: Arc<Local>,
        udp: std::net::UdpSocket,
        tcp: TcpListener,
    },
    /// Another snapshot is in force: look at live connections again, then say so.
    LookAgain(oneshot::Sender<()>),
    /// Nothing may pass any more: close all opaque connections. HTTP halves ask per request.
    CloseAll(Arc<str>),
    /// A workload ended.
    Forget(Arc<Local>),
    /// Check an endpoint.
    Probe(ProbeOrder),
    /// Finish what is under way, take nothing new, then say so.
    Drain(oneshot::Sender<()>),
}

/// The control thread's end of all workers.
pub(crate) struct Workers {
    orders: Vec<mpsc::Sender<Order>>,
    next: Cell<usize>,
}

impl Workers {
    /// Starts `seeds.len()` threads.
    pub(crate) fn start(shared: &Arc<Shared>, seeds: Vec<Dice>) -> Result<Self, NodeError> {
        let (orders, queues): (Vec<_>, Vec<_>) =
            seeds.iter().map(|_| mpsc::channel(WAITING)).unzip();
        for (index, (queue, seed)) in queues.into_iter().zip(seeds).enumerate() {
            let deck = Deck {
                orders: orders.clone(),
                own: index,
                next: Cell::new(index),
            };
            let shared = shared.clone();
            std::thread::Builder::new()
                .name(format!("worker-{index}"))
                .spawn(move || work(shared, seed, deck, queue))
                .map_err(|e| NodeError::thread(&e))?;
        }
        Ok(Self {
            orders,
            next: Cell::new(0),
        })
    }

    /// Gives an order to one of the workers, in turn.
    pub(crate) async fn to_next(&self, order: Order) {
        let index = self.next.get();
        self.next.set((index + 1) % self.orders.len());
        if self.orders[index].send(order).await.is_err() {
            log::warn("worker", format!("worker {index} is gone"));
        }
    }

    /// Gives an order to each worker.
    pub(crate) async fn to_all(&self, order: impl Fn() -> Order) {
        for orders in &self.orders {
            // A worker ends only after a drain; then there is nothing to order.
            let _sent = orders.send(order()).await;
        }
    }

    /// Gives an order to each worker and waits until all have done it.
    pub(crate) async fn all_done(&self, order: impl Fn(oneshot::Sender<()>) -> Order) {
        let mut answers = Vec::new();
        for orders in &self.orders {
            let (done, answer) = oneshot::channel();
            if orders.send(order(done)).await.is_ok() {
                answers.push(answer);
            }
        }
        for answer in answers {
            // A worker that is gone decides nothing by an old snapshot either.
            let _done = answer.await;
        }
    }
}

/// A worker's end of all workers: whom accepted connections are dealt to.
pub(crate) struct Deck {
    orders: Vec<mpsc::Sender<Order>>,
    own: usize,
    next: Cell<usize>,
}

/// Whom a connection was dealt to.
pub(crate) enum Dealt {
    /// To this very worker.
    Here(tokio::net::TcpStream),
    /// To another one, or to nobody because it is too far behind.
    Elsewhere,
}

impl Deck {
    /// Deals one connection, in turn.
    pub(crate) fn deal(
        &self,
        shared: &Shared,
        local: &Arc<Local>,
        role: Role,
        stream: tokio::net::TcpStream,
    ) -> Dealt {
        let index = self.next.get();
        self.next.set((index + 1) % self.orders.len());
        if index == self.own {
            return Dealt::Here(stream);
        }
        let order = stream.into_std().map(|stream| Order::Serve {
            local: local.clone(),
            role,
            stream,
        });
        if !order.is_ok_and(|order| self.orders[index].try_send(order).is_ok()) {
            shared.events.metrics.refused_connections.inc();
        }
        Dealt::Elsewhere
    }
}

fn work(shared: Arc<Shared>, seed: Dice, deck: Deck, orders: mpsc::Receiver<Order>) {
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            log::warn("worker", format!("cannot start a runtime: {error}"));
            return;
        }
    };
    let tasks = LocalSet::new();
    tasks.block_on(&runtime, obey(shared, seed, deck, orders));
}

async fn obey(shared: Arc<Shared>, seed: Dice, deck: Deck, mut orders: mpsc::Receiver<Order>) {
    let context = Context::new(shared, seed);
    let deck = Rc::new(deck);
    while let Some(order) = orders.recv().await {
        match order {
            Order::Listen {
                local,
                role,
                listener,
            } => {
                let accepting = accept::run(context.clone(), deck.clone(), local, role, listener);
                tokio::task::spawn_local(accepting);
            }
            Order::Serve {
                local,
                role,
                stream,
            } => {
                accept::serve_dealt(&context, local, role, stream);
            }
            Order::Dns { local, udp, tcp } => start_dns(&context, local, udp, tcp),
            Order::LookAgain(done) => {
                look_again(&context);
                // Nobody waits any more: control has given up on us.
                let _told = done.send(());
            }
            Order::CloseAll(reason) => context.registry.close_all(&reason),
            Order::Forget(local) => {
                context
                    .registry
                    .close_workload(&local, "the workload ended");
                context.pool.close_source(local.address());
            }
            Order::Probe(order) => {
                tokio::task::spawn_local(probes::probe(context.clone(), order));
            }
            Order::Drain(done) => {
                drain(&context).await;
                let _told = done.send(());
                return;
            }
        }
    }
}

fn look_again(context: &Context) {
    let snapshot = context.shared.current();
    let closed = context.registry.look_again(&snapshot);
    if closed > 0 {
        let count = u64::try_from(closed).unwrap_or(u64::MAX);
        context.shared.events.metrics.closed_by_policy.inc_by(count);
        let generation = snapshot.generation;
        let text = format!("generation {generation} closed {closed} live connections");
        log::info("registry", text);
    }
}

/// How often a draining worker looks whether all connections have ended.
const DRAIN_LOOK: Duration = Duration::from_millis(20);
/// How long connections may take to end by themselves. `down` waits 12 s in all, of which the
/// applications get most.
const DRAIN: Duration = Duration::from_secs(3);

async fn drain(context: &Context) {
    context.draining.send_replace(true);
    context.pool.drain();
    let ended = async {
        while context.live.get() > 0 {
            tokio::time::sleep(DRAIN_LOOK).await;
        }
    };
    if tokio::time::timeout(DRAIN, ended).await.is_err() {
        context.break_all();
    }
}

fn start_dns(context: &Rc<Context>, local: Arc<Local>, udp: std::net::UdpSocket, tcp: TcpListener) {
    let zone = dns::server::Zone::new(local.name.namespace.clone(), context.shared.clone());
    let (udp, tcp) = match (tokio::net::UdpSocket::from_std(udp), tcp_listener(tcp)) {
        (Ok(udp), Ok(tcp)) => (udp, tcp),
        (Err(error), _) | (_, Err(error)) => {
            log::warn(
                "dns",
                format!("workload {} has no names: {error}", local.name),
            );
            return;
        }
    };
    tokio::task::spawn_local(async move {
        let by_udp = dns::server::serve_udp(zone.clone(), udp);
        let by_tcp = dns::server::serve_tcp(zone, tcp);
        let ended = tokio::select! {
            () = local.stopped() => return,
            ended = by_udp => ended,
            ended = by_tcp => ended,
        };
        if let Err(error) = ended {
            log::warn(
                "dns",
                format!("workload {} has no names any more: {error}", local.name),
            );
        }
    });
}

fn tcp_listener(listener: TcpListener) -> std::io::Result<tokio::net::TcpListener> {
    tokio::net::TcpListener::from_std(listener)
}

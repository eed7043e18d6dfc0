//! The one place that changes anything: takes commands in, compiles, persists, then publishes.
//!
//! Commands that arrive while a batch is worked on form the next batch; nothing waits for a timer.

mod command;
mod compile;
mod draft;
mod edit;
mod nodes;
mod objects;
mod published;
mod state;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tacit_model::{Dice, Generation, NodeName};
use tokio::sync::{mpsc, watch};

pub(crate) use command::{
    Actor, Ask, Command, EditKind, HelloAsk, JoinAsk, RegisterAsk, Reply, Then, problem,
};
pub(crate) use nodes::not_allowed;
pub(crate) use objects::{DirectoryRead, Held, kind_named, object_ref};
pub(crate) use published::Published;
pub(crate) use state::mesh_spec;

use crate::admin::types::{Problem, ProblemKind};
use crate::store::records::{self, GENERATION};
use crate::store::{Change, Fault, Store, StoreError, Table};
use compile::Compiled;
use draft::Draft;
use state::State;

/// Commands that wait: more than any batch, so that only a stuck store makes callers wait.
const QUEUE: usize = 1024;
/// Commands of one batch: bounds how long the first one waits for the others.
const BATCH: usize = 64;

/// Generation numbers that are reserved with one write, so that a state which needs no other write
/// can be published while the disk is full. The next block is reserved when half of one is left:
/// 50 000 changes of readiness, more than half a day of one per second. A number costs nothing; a
/// restart skips at most a block.
const NUMBERS: u64 = 100_000;

/// What the engine needs to know that never changes.
#[derive(Clone, Debug)]
pub(crate) struct Fixed {
    /// The mesh's name on this machine.
    pub(crate) mesh: String,
    /// The user id that may do everything.
    pub(crate) administrator: u32,
    /// `IP:PORT` of the node API, for join tokens.
    pub(crate) node_addresses: Vec<String>,
    /// SHA-256 of the root certificate, for join tokens.
    pub(crate) root_sha256: String,
}

/// The task's own things.
pub(crate) struct Engine {
    fixed: Fixed,
    store: Box<dyn Store>,
    state: State,
    generation: Generation,
    /// The last number that may be used: after a restart, numbers begin behind it.
    reserved: u64,
    /// Readiness that could not be written yet, by its key; nodes tell it again after a restart.
    unwritten: BTreeMap<String, Change>,
    compiled: Compiled,
    published: watch::Sender<Arc<Published>>,
    dice: Dice,
    /// The address that each node's newest workload got.
    last_address: BTreeMap<NodeName, IpAddr>,
}

/// Sends commands to the engine.
#[derive(Clone)]
pub(crate) struct Handle(mpsc::Sender<Ask>);

impl Handle {
    /// Asks for a change and waits until it is in force here, or refused.
    pub(crate) async fn ask<T>(
        &self,
        command: impl FnOnce(Reply<T>) -> Command,
    ) -> Result<T, Problem> {
        let (reply, answer) = tokio::sync::oneshot::channel();
        let gone = || problem(ProblemKind::Unavailable, "the control plane is stopping");
        self.0.send(Ask(command(reply))).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// True if nobody works on commands any more.
    pub(crate) fn has_ended(&self) -> bool {
        self.0.is_closed()
    }

    /// Tells of a change without waiting for it.
    pub(crate) async fn tell(&self, command: Command) {
        // After its end there is nobody to tell.
        let _ = self.0.send(Ask(command)).await;
    }
}

impl Engine {
    /// Reads the store, compiles what is in it and publishes that.
    ///
    /// `directory` is what was read of the watched directory, if there is one.
    pub(crate) fn start(
        fixed: Fixed,
        mut store: Box<dyn Store>,
        directory: DirectoryRead,
        now: Duration,
        dice: Dice,
    ) -> Result<(Self, watch::Receiver<Arc<Published>>), StoreError> {
        let contents = store.read()?;
        let generation = match records::generation(&contents)? {
            Some(generation) => generation,
            None => {
                let fresh = Generation {
                    epoch: now.as_secs(),
                    number: 0,
                };
                store.write(&[records::put(Table::Meta, GENERATION, &fresh)?])?;
                fresh
            }
        };
        let state = State::read(&contents)?;
        let empty = Published::empty(generation);
        let (published, receiver) = watch::channel(Arc::new(empty));
        let mut engine = Self {
            fixed,
            store,
            state,
            generation,
            reserved: generation.number,
            unwritten: BTreeMap::new(),
            compiled: Compiled::nothing(),
            published,
            dice,
            last_address: BTreeMap::new(),
        };
        let mut draft = Draft::new(engine.state.clone());
        draft.directory(directory);
        // Even without any change: the first generation must exist before anybody connects.
        engine.commit(draft).map_err(|problem| StoreError {
            at: "the first generation".into(),
            fault: Fault::Io(problem.message.to_string()),
        })?;
        Ok((engine, receiver))
    }

    /// A queue into an engine.
    pub(crate) fn queue() -> (Handle, mpsc::Receiver<Ask>) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        (Handle(sender), receiver)
    }

    /// Works until nobody can ask any more. Blocks: give it a thread.
    pub(crate) fn work(mut self, mut asks: mpsc::Receiver<Ask>) {
        while let Some(first) = asks.blocking_recv() {
            let mut batch = vec![first];
            while batch.len() < BATCH {
                match asks.try_recv() {
                    Ok(ask) => batch.push(ask),
                    Err(_) => break,
                }
            }
            self.batch(batch);
        }
    }

    /// Works on commands that arrived together: one compilation, one write, one generation.
    pub(crate) fn batch(&mut self, batch: Vec<Ask>) {
        let mut draft = Draft::new(self.state.clone());
        let mut waiting: Vec<Then> = Vec::new();
        for Ask(command) in batch {
            if let Some(then) = self.execute(command, &mut draft) {
                waiting.push(then);
            }
        }
        let outcome = self.commit(draft);
        if let Err(problem) = &outcome {
            self.note_read_only(Some(problem.message.to_string()));
        }
        for then in waiting {
            then(outcome.clone());
        }
    }

    fn execute(&mut self, command: Command, draft: &mut Draft) -> Option<Then> {
        match command {
            Command::Directory(read) => {
                draft.directory(read);
                None
            }
            Command::Edit(actor, kind, reply) => self.edit(&actor, kind, reply, draft),
            Command::Hello(ask, reply) => transact(draft, reply, |draft| self.hello(ask, draft)),
            Command::Join(ask, reply) => transact(draft, reply, |draft| self.join(ask, draft)),
            Command::Ready(node, ready) => {
                // A report that cannot be kept comes again.
                let _ = attempt(draft, |draft| self.ready(&node, &ready, draft));
                None
            }
            Command::Register(ask, reply) => {
                transact(draft, reply, |draft| self.register(ask, draft))
            }
            Command::RemoveNode(node, reply) => {
                transact(draft, reply, |draft| Self::remove_node(&node, draft))
            }
            // Compiling again with the time of now is all there is to do.
            Command::Tick => None,
            Command::Token(node, identities, reply) => {
                transact(draft, reply, |draft| self.token(node, identities, draft))
            }
            Command::Unregister(node, name, reply) => transact(draft, reply, |draft| {
                Self::unregister(&node, &name, draft);
                Ok(())
            }),
        }
    }

    fn roll(&mut self) -> Dice {
        let (number, next) = self.dice.roll();
        self.dice = next;
        Dice(number)
    }

    /// Compiles, persists, publishes; on an error nothing has changed.
    fn commit(&mut self, draft: Draft) -> Result<Generation, Problem> {
        let Draft {
            mut state,
            mut changes,
            readiness,
            compiled,
        } = draft;
        let compiled = compiled.unwrap_or_else(|| self.compile(&state));
        let objects = &compiled.inputs.objects;
        changes.extend(
            state
                .keep_good(objects, &compiled.output.good.keys(&compiled.compiler))
                .map_err(unavailable)?,
        );
        // What a store has of an earlier process is compared once.
        let first = self.published.borrow().snapshot.is_none();
        if first || compiled.output.addresses_moved {
            let addresses = compiled.compiler.addresses().clone();
            changes.extend(state.keep_addresses(addresses).map_err(unavailable)?);
        }
        let before = self.published.borrow().clone();
        let delta = &compiled.output.tables;
        let moved = !delta.is_empty() || self.generation.number == 0;
        let generation = Generation {
            number: self.generation.number + u64::from(moved),
            ..self.generation
        };
        let mut next = before
            .next(generation, delta, &compiled, &state)
            .map_err(|error| {
                let message =
                    format!("the compiled state is not closed, which is a defect: {error}");
                problem(ProblemKind::Unavailable, message)
            })?;
        next.read_only = self.persist(generation, changes, readiness)?;
        self.state = state;
        self.generation = generation;
        self.compiled = compiled;
        self.published.send_replace(Arc::new(next));
        Ok(generation)
    }

    /// Writes what must survive before it is published. Readiness need not: with a full disk it
    /// waits here, and the mesh goes on. Says what could not be written, if that is all.
    fn persist(
        &mut self,
        generation: Generation,
        mut changes: Vec<Change>,
        readiness: BTreeMap<String, Change>,
    ) -> Result<Option<String>, Problem> {
        let must = !changes.is_empty() || generation.number > self.reserved;
        let mut reserved = self.reserved;
        if generation.number + NUMBERS / 2 > reserved {
            reserved = generation.number + NUMBERS;
            let block = Generation {
                number: reserved,
                ..generation
            };
            changes.push(records::put(Table::Meta, GENERATION, &block).map_err(unavailable)?);
        }
        // A later word on the same workload replaces an earlier one.
        let mut waiting = self.unwritten.clone();
        waiting.extend(readiness);
        changes.extend(waiting.values().cloned());
        if changes.is_empty() {
            return Ok(None);
        }
        match self.store.write(&changes) {
            Ok(()) => {
                self.reserved = reserved;
                self.unwritten.clear();
                Ok(None)
            }
            Err(error) if must => Err(unavailable(error)),
            Err(error) => {
                self.unwritten = waiting;
                Ok(Some(error.to_string()))
            }
        }
    }

    fn compile(&self, state: &State) -> Compiled {
        let now = i64::try_from(crate::clock::unix_seconds()).unwrap_or(i64::MAX);
        self.compiled.with(state, now)
    }

    fn note_read_only(&self, why: Option<String>) {
        self.published.send_modify(|published| {
            let mut next = Published::clone(published);
            next.read_only = why;
            *published = Arc::new(next);
        });
    }
}

/// Makes changes, all or none of them.
fn attempt<T>(
    draft: &mut Draft,
    change: impl FnOnce(&mut Draft) -> Result<T, Problem>,
) -> Result<T, Problem> {
    let mut trial = draft.clone();
    let outcome = change(&mut trial)?;
    *draft = trial;
    Ok(outcome)
}

/// The same, with an answer: when the batch is published, or at once if it is refused.
fn transact<T: Send + 'static>(
    draft: &mut Draft,
    reply: Reply<T>,
    change: impl FnOnce(&mut Draft) -> Result<T, Problem>,
) -> Option<Then> {
    nodes::later(attempt(draft, change), reply)
}

fn unavailable(error: StoreError) -> Problem {
    problem(ProblemKind::Unavailable, error.to_string())
}

#[cfg(test)]
mod tests;

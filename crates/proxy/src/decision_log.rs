//! The decision log: one JSON line for each decision, enough to make it again elsewhere.
//!
//! Beside the file stands the directory `FILE.generations` with the tables by which it was
//! decided, in one file for each generation. A thread of its own writes both; whoever decides
//! never waits. A line that was lost is counted, and its number is missing in the file.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tacit_decide::record::{Entry, Record};
use tacit_model::{Generation, NodeName, Snapshot};

use crate::error::NodeError;
use crate::{generation, log};

/// Decisions that may wait for the disk: a request makes about ten of half a kilobyte each, so
/// this is about 32 MiB, or a second of 6,000 requests. More are lost and counted.
const QUEUE: usize = 64 * 1024;
/// Lines that are written in one call.
const BATCH: usize = 256;
/// The log with its generations: some three million requests. Later decisions are lost and counted,
/// so that a log that was forgotten does not fill the disk.
const LARGEST: u64 = 16 << 30;
/// How long the end waits for what is queued: part of what `down` gives a node.
const END: Duration = Duration::from_secs(5);

/// One line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Line {
    /// A node process begins; numbers start at 0.
    Begin { node: NodeName },
    /// A decision.
    Decided {
        number: u64,
        generation: Generation,
        /// Which try of its request, for people; the record says it too.
        #[serde(rename = "try", skip_serializing_if = "Option::is_none")]
        which_try: Option<u32>,
        record: Box<Record>,
    },
    /// It ended in good order.
    End {
        /// Decisions made, lost ones included.
        decisions: u64,
        lost: u64,
    },
}

/// The directory with the generations of a log.
pub(crate) fn generations_of(log: &Path) -> PathBuf {
    let mut path = log.as_os_str().to_owned();
    path.push(".generations");
    path.into()
}

enum Message {
    Decided(u64, Box<Entry>),
    End,
}

/// Takes decisions without blocking.
#[derive(Debug)]
pub(crate) struct DecisionLog {
    messages: SyncSender<Message>,
    next: AtomicU64,
    lost: Arc<AtomicU64>,
    ended: std::sync::Mutex<Receiver<()>>,
}

impl DecisionLog {
    /// Opens the log and starts its thread.
    pub(crate) fn start(path: &Path, node: &NodeName) -> Result<Self, NodeError> {
        let told = |path: &Path, e: io::Error| NodeError::state(path, e);
        let generations = generations_of(path);
        fs::create_dir_all(&generations).map_err(|e| told(&generations, e))?;
        let file = open(path, OpenOptions::new().append(true)).map_err(|e| told(path, e))?;
        let before = file.metadata().map_err(|e| told(path, e))?.len();
        let (messages, queue) = sync_channel(QUEUE);
        let (end, ended) = sync_channel(1);
        let lost = Arc::new(AtomicU64::new(0));
        let mut writer = Writer {
            file,
            room: LARGEST.saturating_sub(before),
            is_full: false,
            generations,
            written: BTreeSet::new(),
            buffer: Vec::new(),
            waiting: 0,
            decisions: 0,
            lost: lost.clone(),
        };
        let begin = Line::Begin { node: node.clone() };
        writer.append(&begin);
        std::thread::Builder::new()
            .name("decision-log".into())
            .spawn(move || {
                writer.run(&queue);
                // Nobody waits for it if the end took too long.
                let _waited = end.send(());
            })
            .map_err(|e| NodeError::thread(&e))?;
        Ok(Self {
            messages,
            next: AtomicU64::new(0),
            lost,
            ended: std::sync::Mutex::new(ended),
        })
    }

    /// Hands a decision to the writer; loses and counts it if the queue is full.
    pub(crate) fn tell(&self, entry: Entry) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let message = Message::Decided(number, Box::new(entry));
        if self.messages.try_send(message).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Decisions that were lost since the start.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Writes what is queued and the last line. Nothing is decided any more.
    pub(crate) fn end(&self) {
        let Ok(ended) = self.ended.lock() else { return };
        // The queue is short of room only while its thread lives and empties it.
        let told = self.messages.send(Message::End);
        if told.is_err() || ended.recv_timeout(END) == Err(RecvTimeoutError::Timeout) {
            log::warn("decisions", "the decision log has no end: the disk is slow");
        }
    }
}

fn open(path: &Path, how: &mut OpenOptions) -> io::Result<File> {
    // It holds paths of requests, as the access log does.
    how.create(true).mode(0o640).open(path)
}

/// The thread's end.
struct Writer {
    file: File,
    /// Bytes that may still be written.
    room: u64,
    is_full: bool,
    generations: PathBuf,
    /// Generations that are in the directory.
    written: BTreeSet<Generation>,
    buffer: Vec<u8>,
    /// Decisions in the buffer.
    waiting: u64,
    /// Decisions up to the highest number.
    decisions: u64,
    lost: Arc<AtomicU64>,
}

impl Writer {
    /// Writes what waits in one call, then waits again: batches form by themselves under load.
    fn run(&mut self, queue: &Receiver<Message>) {
        let mut is_over = false;
        while !is_over && let Ok(first) = queue.recv() {
            is_over = self.take(first);
            let mut lines = 1;
            while !is_over
                && lines < BATCH
                && let Ok(message) = queue.try_recv()
            {
                is_over = self.take(message);
                lines += 1;
            }
            self.flush();
        }
        let end = Line::End {
            decisions: self.decisions,
            lost: self.lost.load(Ordering::Relaxed),
        };
        self.append(&end);
        self.flush();
    }

    /// True if it was the last one.
    fn take(&mut self, message: Message) -> bool {
        match message {
            Message::Decided(number, entry) => self.decided(number, *entry),
            Message::End => return true,
        }
        false
    }

    fn decided(&mut self, number: u64, entry: Entry) {
        let Entry { snapshot, record } = entry;
        self.decisions = self.decisions.max(number + 1);
        if !self.has_room() {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.keep(&snapshot);
        let line = Line::Decided {
            number,
            generation: snapshot.generation,
            which_try: record.decision.which_try(),
            record: Box::new(record),
        };
        self.append(&line);
        self.waiting += 1;
    }

    fn has_room(&mut self) -> bool {
        if self.room == 0 && !self.is_full {
            self.is_full = true;
            let gib = LARGEST >> 30;
            let text = format!("the decision log has {gib} GiB, later decisions are lost");
            log::warn("decisions", text);
        }
        !self.is_full
    }

    fn append(&mut self, line: &Line) {
        // Serialising plain data into memory cannot fail.
        if serde_json::to_writer(&mut self.buffer, line).is_ok() {
            self.buffer.push(b'\n');
        }
    }

    fn flush(&mut self) {
        self.room = self.room.saturating_sub(self.buffer.len() as u64);
        if self.file.write_all(&self.buffer).is_err() {
            // A full disk: the lines are lost and counted, the next ones may fit again.
            self.lost.fetch_add(self.waiting, Ordering::Relaxed);
        }
        self.buffer.clear();
        self.waiting = 0;
    }

    /// Writes a generation once. One that cannot be written is missed by whoever replays.
    fn keep(&mut self, snapshot: &Snapshot) {
        let generation = snapshot.generation;
        if !self.written.insert(generation) {
            return;
        }
        let content = generation::encode(generation, &snapshot.tables());
        self.room = self.room.saturating_sub(content.len() as u64);
        let path = self.generations.join(generation.to_string());
        let written = open(&path, OpenOptions::new().write(true).truncate(true))
            .and_then(|mut file| file.write_all(&content));
        if let Err(error) = written {
            let text = format!("generation {generation} is not beside the decision log: {error}");
            log::warn("decisions", text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::tests::tables;
    use tacit_decide::State;
    use tacit_decide::decider::Decider;
    use tacit_decide::offline::Freshness;

    fn entries(count: usize) -> Vec<Entry> {
        let generation = Generation {
            epoch: 7,
            number: 3,
        };
        let snapshot = Arc::new(Snapshot::build(generation, &tables()).expect("closed"));
        let told = std::cell::RefCell::new(Vec::new());
        let log = |entry| told.borrow_mut().push(entry);
        let (state, id) = (State::new(), "id".into());
        let decider = Decider {
            snapshot: &snapshot,
            state: &state,
            id: &id,
            log: Some(&log),
        };
        for _ in 0..count {
            assert!(decider.admit(Freshness::Fresh).is_ok());
        }
        told.into_inner()
    }

    #[test]
    fn a_run_is_written_whole_and_replays() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("decisions");
        let node = NodeName::try_from("local").expect("a name");
        let log = DecisionLog::start(&path, &node).expect("starts");
        for entry in entries(1000) {
            log.tell(entry);
        }
        log.end();
        let report = crate::replay::replay(&path).expect("reads");
        assert!(report.is_clean(), "{report}");
        assert_eq!(report.decisions(), 1000);
        assert_eq!(report.ended(), 1);
        // One line less is noticed.
        let text = fs::read_to_string(&path).expect("reads");
        let fewer: Vec<&str> = text.lines().filter(|l| !l.contains(":500,")).collect();
        fs::write(&path, fewer.join("\n") + "\n").expect("writes");
        let report = crate::replay::replay(&path).expect("reads");
        assert!(!report.is_clean());
        assert_eq!(report.missing(), 1, "{report}");
    }

    #[test]
    fn a_log_that_is_full_loses_and_counts() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("decisions");
        let node = NodeName::try_from("local").expect("a name");
        // Sparse: it takes no room on the disk.
        let file = File::create(&path).expect("creates");
        file.set_len(LARGEST).expect("grows");
        let log = DecisionLog::start(&path, &node).expect("starts");
        for entry in entries(3) {
            log.tell(entry);
        }
        log.end();
        assert_eq!(log.lost(), 3);
        let length = file.metadata().expect("is there").len();
        assert!((LARGEST..LARGEST + 1024).contains(&length), "begin and end");
    }

    #[test]
    fn a_full_queue_loses_and_counts() {
        let (messages, queue) = sync_channel(1);
        let (_end, ended) = sync_channel(1);
        let log = DecisionLog {
            messages,
            next: AtomicU64::new(0),
            lost: Arc::default(),
            ended: std::sync::Mutex::new(ended),
        };
        for entry in entries(3) {
            log.tell(entry);
        }
        assert_eq!(log.lost(), 2);
        assert!(matches!(queue.try_recv(), Ok(Message::Decided(0, _))));
    }
}

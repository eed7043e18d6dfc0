//! Questions that the control plane asks nodes, and the answers that come back.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tacit_model::NodeName;
use tacit_wire::proto::control::{Answer, Question, WhyQuestion, answer, question};
use tokio::sync::{mpsc, oneshot};
use tonic::Status;

/// A node answers from memory; who takes longer is stuck or far away.
const PATIENCE: Duration = Duration::from_secs(2);
/// Questions that may wait for one node: people ask them, one at a time.
pub(crate) const QUEUE: usize = 16;

/// The stream of questions to a node.
pub(crate) type Questions = mpsc::Sender<Result<Question, Status>>;

/// Nodes that attend, and questions that are open.
#[derive(Default)]
pub(crate) struct Attendance {
    nodes: Mutex<BTreeMap<NodeName, Questions>>,
    open: Mutex<BTreeMap<u64, (NodeName, oneshot::Sender<Answer>)>>,
    ids: AtomicU64,
}

/// Why a node did not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    /// It does not attend, or not in time.
    Absent,
    /// It could not say; its words.
    Failed(String),
}

impl Attendance {
    /// A node begins to attend.
    pub(crate) fn arrive(&self, node: NodeName, questions: Questions) {
        self.nodes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(node, questions);
    }

    /// Takes an answer in; one that nobody waits for is dropped.
    pub(crate) fn answered(&self, node: &NodeName, answer: Answer) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.get(&answer.id).is_some_and(|(asked, _)| asked == node)
            && let Some((_, waiting)) = open.remove(&answer.id)
        {
            // Who asked may have gone away.
            let _ = waiting.send(answer);
        }
    }

    /// Asks a node what would happen to a call; question and answer are JSON.
    pub(crate) async fn why(&self, node: &NodeName, json: Vec<u8>) -> Result<Vec<u8>, NoAnswer> {
        let questions = {
            let nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
            nodes.get(node).cloned().ok_or(NoAnswer::Absent)?
        };
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        let open = || self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open().insert(id, (node.clone(), sender));
        let ask = Some(question::Ask::Why(WhyQuestion { json }));
        let exchange = async {
            questions
                .send(Ok(Question { id, ask }))
                .await
                .map_err(|_| NoAnswer::Absent)?;
            receiver.await.map_err(|_| NoAnswer::Absent)
        };
        let outcome = tokio::time::timeout(PATIENCE, exchange).await;
        open().remove(&id);
        match outcome.map_err(|_| NoAnswer::Absent)??.is {
            Some(answer::Is::WhyJson(json)) => Ok(json),
            Some(answer::Is::Error(why)) => Err(NoAnswer::Failed(why)),
            None => Err(NoAnswer::Failed("the answer is empty".into())),
        }
    }
}

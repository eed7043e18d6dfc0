//! Answers what the control plane asks: `why`, by this node's own state.

use std::rc::Rc;

use tacit_decide::why;
use tacit_model::Dice;
use tacit_wire::proto::control::answer::Is;
use tacit_wire::proto::control::question::Ask;
use tacit_wire::proto::control::{Answer, Question, WhyQuestion};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::control::{Client, Control};
use crate::control_link::said;

/// Answers that may wait to be sent; people ask, so there are few.
const WAITING: usize = 64;

/// Answers questions; returns why the stream broke.
pub(crate) async fn run(control: &Rc<Control>, mut client: Client) -> String {
    let (answers, waiting) = mpsc::channel(WAITING);
    let mut questions = match client.attend(ReceiverStream::new(waiting)).await {
        Ok(questions) => questions.into_inner(),
        Err(status) => return said(&status),
    };
    loop {
        let question = match questions.message().await {
            Ok(Some(question)) => question,
            Ok(None) => return "the control plane closed the stream of questions".into(),
            Err(status) => return said(&status),
        };
        if let Err(closed) = answers.send(answer(control, question)).await {
            return closed.to_string();
        }
    }
}

fn answer(control: &Control, question: Question) -> Answer {
    let Question { id, ask } = question;
    let is = match ask {
        Some(Ask::Why(WhyQuestion { json })) => {
            explain(control, &json).map_or_else(Is::Error, Is::WhyJson)
        }
        None => Is::Error("this node does not know that question".into()),
    };
    Answer { id, is: Some(is) }
}

fn explain(control: &Control, json: &[u8]) -> Result<Vec<u8>, String> {
    let question: why::Question = serde_json::from_slice(json).map_err(|e| e.to_string())?;
    let shared = &control.shared;
    let (snapshot, now) = (shared.current(), shared.now());
    let (state, freshness) = (Some(&*shared.state), shared.freshness());
    let dice = Dice(now.unix_ns);
    let answer = why::explain(&snapshot, state, freshness, &question, now, dice);
    serde_json::to_vec(&answer).map_err(|e| e.to_string())
}

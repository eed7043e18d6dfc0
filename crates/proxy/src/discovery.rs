//! Configuration from the control plane: closed generations, put in force before they are
//! acknowledged.

use std::rc::Rc;
use std::time::Duration;

use tacit_wire::client::{Outcome, ProtocolError, Subscription};
use tacit_wire::proto::discovery::aggregated_discovery_service_client as ads;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use crate::control::Control;
use crate::control_link::{Ended, said};
use crate::{generation, log};

/// One response holds at most the rows of one table: 100,000 workloads are about 40 MB.
const MAX_MESSAGE: usize = 256 << 20;
/// Acknowledgements that may wait to be sent: one for each table and response, and the control
/// plane sends no further response for a table before the last one was acknowledged.
const WAITING: usize = 64;
/// Between two notes on disk of when the control plane was last heard.
const NOTE: Duration = Duration::from_secs(5);
/// The file of that note.
const CONTACT: &str = "contact";

/// Receives generations until the stream breaks.
pub(crate) async fn run(
    control: &Rc<Control>,
    subscription: &mut Subscription,
    channel: Channel,
) -> Ended {
    match receive(control, subscription, channel).await {
        Ok(()) => Ended::Broken("the control plane closed the stream".into()),
        Err(ended) => ended,
    }
}

async fn receive(
    control: &Rc<Control>,
    subscription: &mut Subscription,
    channel: Channel,
) -> Result<(), Ended> {
    let (requests, waiting) = mpsc::channel(WAITING);
    for request in subscription.connect() {
        requests.try_send(request).map_err(|e| e.to_string())?;
    }
    let mut client =
        ads::AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
    let opened = client
        .delta_aggregated_resources(ReceiverStream::new(waiting))
        .await;
    let mut responses = opened.map_err(|status| said(&status))?.into_inner();
    while let Some(response) = responses.message().await.map_err(|status| said(&status))? {
        control.shared.heard(control.shared.now());
        let received = subscription.receive(response).map_err(broken)?;
        let committed = match received.outcome {
            Outcome::Committed(update) => {
                control.put_in_force(update.snapshot).await;
                Some(update.generation)
            }
            Outcome::Refused(reason) => {
                log::warn(
                    "discovery",
                    format!("the last good generation stays: {reason}"),
                );
                None
            }
            Outcome::Staged => None,
        };
        requests
            .send(received.reply)
            .await
            .map_err(|e| e.to_string())?;
        if let Some(generation) = committed {
            let tables = subscription.tables().clone();
            control.to_keep.send_replace(Some((generation, tables)));
        }
    }
    Ok(())
}

fn broken(error: ProtocolError) -> Ended {
    match error {
        ProtocolError::OtherEpoch { sent, .. } => Ended::OtherEpoch(sent.epoch),
        ProtocolError::Backwards { .. }
        | ProtocolError::BadCommit(_)
        | ProtocolError::TooManyRows
        | ProtocolError::UnknownType(_) => Ended::Broken(error.to_string()),
    }
}

/// Keeps each generation on disk, the newest one if several come while the disk is busy.
pub(crate) async fn keep(control: Rc<Control>) {
    let mut to_keep = control.to_keep.subscribe();
    while to_keep.changed().await.is_ok() {
        let Some((number, tables)) = to_keep.borrow_and_update().clone() else {
            continue;
        };
        if let Err(error) = generation::save(&control.dir, &control.seal, number, &tables) {
            let text = format!("generation {number} is in force but not on disk: {error}");
            log::warn("discovery", text);
        }
        note_contact(&control);
    }
}

/// Notes regularly on disk when the control plane was last heard, and judges how old that is.
pub(crate) async fn watch_age(control: Rc<Control>) {
    let mut noted = 0;
    loop {
        let last = control.shared.last_heard().unix_ns;
        if last.saturating_sub(noted) >= u64::try_from(NOTE.as_nanos()).unwrap_or(u64::MAX) {
            note_contact(&control);
            noted = last;
        }
        crate::age::judge(&control).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

fn note_contact(control: &Control) {
    let last = control.shared.last_heard().unix_ns.to_be_bytes();
    if let Err(error) = control.seal.write(&control.dir, CONTACT, &last) {
        log::warn(
            "discovery",
            format!("cannot note when control was last heard: {error}"),
        );
    }
}

/// When the control plane was last heard before this process began; 1970 if that is not known.
pub(crate) fn last_contact(dir: &crate::state_dir::StateDir, seal: &crate::sealed::Seal) -> u64 {
    let note = match seal.read(dir, CONTACT) {
        Ok(note) => note.unwrap_or_default(),
        Err(error) => {
            log::warn(
                "discovery",
                format!("{}: {error}", dir.path(CONTACT).display()),
            );
            return 0;
        }
    };
    note.try_into().map_or(0, u64::from_be_bytes)
}

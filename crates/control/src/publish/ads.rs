//! Discovery: one stream of generations for each node, and what it acknowledges.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tacit_model::NodeName;
use tacit_wire::proto::discovery::aggregated_discovery_service_server::AggregatedDiscoveryService;
use tacit_wire::proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use tacit_wire::server::{Heard, Session};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::calling_node;
use crate::clock;
use crate::shared::Shared;

/// Responses that wait for a slow node; a generation is at most some tens of them.
const QUEUE: usize = 16;

static STREAMS: AtomicU64 = AtomicU64::new(1);

pub(super) struct Ads {
    pub(super) shared: Arc<Shared>,
}

type Answer = Result<DeltaDiscoveryResponse, Status>;

#[tonic::async_trait]
impl AggregatedDiscoveryService for Ads {
    type DeltaAggregatedResourcesStream = ReceiverStream<Answer>;

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let node = calling_node(request.extensions(), &self.shared)?.name;
        let (sender, receiver) = mpsc::channel(QUEUE);
        let shared = self.shared.clone();
        let requests = request.into_inner();
        tokio::spawn(async move {
            let stream = STREAMS.fetch_add(1, Ordering::Relaxed);
            shared.roster.connected(&node, stream, clock::unix());
            if let Err(status) = drive(&shared, &node, stream, requests, &sender).await {
                // Who does not listen any more needs no reason.
                let _ = sender.send(Err(status)).await;
            }
            shared.roster.disconnected(&node, stream);
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

/// Until the node goes away, or says something that makes no sense.
async fn drive(
    shared: &Shared,
    node: &NodeName,
    stream: u64,
    mut requests: Streaming<DeltaDiscoveryRequest>,
    sender: &mpsc::Sender<Answer>,
) -> Result<(), Status> {
    let mut session = Session::new();
    let mut published = shared.watch();
    loop {
        tokio::select! {
            request = requests.message() => {
                let Some(request) = request? else { return Ok(()) };
                let heard = session
                    .receive(request)
                    .map_err(|error| Status::invalid_argument(error.to_string()))?;
                if let Heard::Refused(generation, reason) = &heard {
                    shared.log(&format!("node {node} refused generation {generation}: {reason}"));
                }
            }
            changed = published.changed() => {
                if changed.is_err() {
                    return Err(Status::unavailable("the control plane is stopping"));
                }
            }
        }
        let now = published.borrow_and_update().clone();
        if !now.nodes.contains_key(node) {
            return Err(Status::permission_denied(format!(
                "node {node} was removed"
            )));
        }
        for response in session.publish(&now.view) {
            if sender.send(Ok(response)).await.is_err() {
                return Ok(());
            }
        }
        let refused = session.refused().map(|(_, reason)| reason.clone());
        shared
            .roster
            .answered(node, stream, session.acknowledged(), refused, clock::unix());
    }
}

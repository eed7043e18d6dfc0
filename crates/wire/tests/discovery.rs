//! Client and server of discovery against each other, over random histories.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use tacit_model::tables::{ClassKey, ClassRow};
use tacit_model::{Generation, NodeId, Row, RowKey, Tables};
use tacit_wire::client::{Outcome, ProtocolError, Subscription};
use tacit_wire::encoded::{COMMIT_TYPE_URL, commit_resource};
use tacit_wire::proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use tacit_wire::server::{Heard, Session, View};

use crate::round_trip::key_of;
use crate::rows::loose_rows;

const EPOCH: u64 = 1_800_000_000;

fn generation(number: u64) -> Generation {
    Generation {
        epoch: EPOCH,
        number,
    }
}

fn node() -> NodeId {
    NodeId::try_from("spiffe://td/tacit/node/a").unwrap()
}

/// A server with its state, and how far it is.
#[derive(Default)]
struct Server {
    tables: Tables,
    view: View,
}

impl Server {
    fn move_to(&mut self, rows: BTreeMap<RowKey, Row>) {
        let next = Tables(rows.into_iter().collect());
        let delta = self.tables.diff(&next);
        let number = self.view.generation.number + 1;
        self.view.apply(generation(number), &delta);
        self.tables = next;
    }
}

/// Both ends of one stream.
struct Stream {
    session: Session,
    responses: usize,
}

impl Stream {
    fn open(client: &mut Subscription) -> Self {
        let mut session = Session::new();
        let requests = client.connect();
        let (last, first) = requests.split_last().unwrap();
        for request in first {
            assert_eq!(session.receive(request.clone()), Ok(Heard::Nothing));
        }
        assert_eq!(session.receive(last.clone()), Ok(Heard::Opened));
        Self {
            session,
            responses: 0,
        }
    }

    /// Publishes and lets the client answer at most `until` of the responses.
    fn exchange(&mut self, server: &Server, client: &mut Subscription, until: usize) -> bool {
        let responses = self.session.publish(&server.view);
        let all = responses.len() <= until;
        for response in responses.into_iter().take(until) {
            self.responses += 1;
            let received = client.receive(response).unwrap();
            if let Outcome::Committed(update) = &received.outcome {
                assert_eq!(update.generation, server.view.generation);
                assert_eq!(update.snapshot.generation, server.view.generation);
            }
            self.session.receive(received.reply).unwrap();
        }
        all
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// At each commit the client has exactly what the server has, whatever happened before:
    /// changes, streams that break in the middle, restarts from disk.
    #[test]
    fn at_each_commit_both_ends_have_the_same(
        history in prop::collection::vec(
            (loose_rows(), prop::option::of(0_usize..6), any::<bool>()), 1..8
        )
    ) {
        let mut server = Server::default();
        let mut client = Subscription::new(node());
        let mut stream = Stream::open(&mut client);
        for (rows, breaks_after, restarts) in history {
            server.move_to(rows);
            let before = client.tables().clone();
            if let Some(until) = breaks_after
                && !stream.exchange(&server, &mut client, until)
            {
                // Nothing of an unfinished generation shows.
                prop_assert_eq!(client.tables(), &before);
                if restarts && let Some(held) = client.generation() {
                    client = Subscription::restored(node(), held, client.tables().clone());
                }
                stream = Stream::open(&mut client);
            }
            stream.exchange(&server, &mut client, usize::MAX);
            prop_assert_eq!(client.tables(), &server.tables);
            prop_assert_eq!(client.generation(), Some(server.view.generation));
            prop_assert_eq!(stream.session.acknowledged(), Some(server.view.generation));
        }
    }

    /// A node that comes back with what it had is sent the difference only.
    #[test]
    fn a_return_costs_only_what_changed(rows in loose_rows(), next in loose_rows()) {
        let mut server = Server::default();
        server.move_to(rows);
        let mut client = Subscription::new(node());
        Stream::open(&mut client).exchange(&server, &mut client, usize::MAX);
        let held = server.tables.clone();
        server.move_to(next);
        let mut back =
            Subscription::restored(node(), client.generation().unwrap(), client.tables().clone());
        let stream = &mut Stream::open(&mut back);
        let responses = stream.session.publish(&server.view);
        let delta = held.diff(&server.tables);
        let sent: usize = responses
            .iter()
            .filter(|response| response.type_url != COMMIT_TYPE_URL)
            .map(|response| response.resources.len() + response.removed_resources.len())
            .sum();
        prop_assert_eq!(sent, delta.upserts.len() + delta.removes.len());
    }
}

fn some_rows() -> BTreeMap<RowKey, Row> {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    loose_rows()
        .new_tree(&mut TestRunner::deterministic())
        .unwrap()
        .current()
}

/// A class whose namespace row is missing: not a closed state.
fn open_row() -> Row {
    let key = Arc::new(ClassKey {
        namespace: "nowhere".try_into().unwrap(),
        labels: Default::default(),
        service_account: "web".try_into().unwrap(),
    });
    Row::Class(Arc::new(ClassRow {
        key,
        services: Default::default(),
        access: Vec::new(),
    }))
}

#[test]
fn nothing_is_sent_when_the_view_did_not_change() {
    let mut server = Server::default();
    server.move_to(some_rows());
    let mut client = Subscription::new(node());
    let mut stream = Stream::open(&mut client);
    stream.exchange(&server, &mut client, usize::MAX);
    let sent = stream.responses;
    assert!(sent > 0);
    server.move_to(some_rows());
    stream.exchange(&server, &mut client, usize::MAX);
    assert_eq!(
        stream.responses, sent,
        "another generation with the same rows"
    );
    assert_eq!(stream.session.acknowledged(), Some(generation(2)));
}

#[test]
fn one_generation_is_on_its_way_at_most() {
    let mut server = Server::default();
    server.move_to(some_rows());
    let mut client = Subscription::new(node());
    let mut stream = Stream::open(&mut client);
    let first = stream.session.publish(&server.view);
    let mut more = some_rows();
    more.retain(|key, _| *key == RowKey::Mesh);
    server.move_to(more);
    assert!(stream.session.publish(&server.view).is_empty());
    for response in first {
        let reply = client.receive(response).unwrap().reply;
        stream.session.receive(reply).unwrap();
    }
    assert_eq!(stream.session.acknowledged(), Some(generation(1)));
    stream.exchange(&server, &mut client, usize::MAX);
    assert_eq!(client.tables(), &server.tables);
}

#[test]
fn a_state_that_is_not_closed_is_refused_and_the_next_one_taken() {
    let mut server = Server::default();
    server.move_to(some_rows());
    let mut client = Subscription::new(node());
    let mut stream = Stream::open(&mut client);
    stream.exchange(&server, &mut client, usize::MAX);
    let good = client.tables().clone();

    let mut rows = some_rows();
    let open = open_row();
    rows.insert(open.key(), open.clone());
    server.move_to(rows);
    stream.exchange(&server, &mut client, usize::MAX);
    assert_eq!(client.tables(), &good, "the last good one stays");
    assert_eq!(client.generation(), Some(generation(1)));
    assert_eq!(stream.session.acknowledged(), Some(generation(1)));
    let (refused, reason) = stream.session.refused().unwrap();
    assert_eq!(*refused, generation(2));
    assert!(reason.contains("namespace nowhere"), "{reason}");

    // Another generation with the same rows does not make it good.
    let same = server.tables.0.clone();
    server.move_to(same.into_iter().collect());
    stream.exchange(&server, &mut client, usize::MAX);
    assert_eq!(stream.session.acknowledged(), Some(generation(1)));

    server.move_to(some_rows());
    stream.exchange(&server, &mut client, usize::MAX);
    assert_eq!(client.tables(), &server.tables);
    assert_eq!(stream.session.refused(), None);
    assert_eq!(key_of(&open).name.as_ref(), "nowhere/web/");
}

#[test]
fn a_row_that_cannot_be_read_spoils_its_generation_until_it_is_replaced() {
    let mut server = Server::default();
    server.move_to(some_rows());
    let mut client = Subscription::new(node());
    let mut stream = Stream::open(&mut client);
    let mut responses = stream.session.publish(&server.view);
    let mut broken = None;
    for response in &mut responses {
        if broken.is_none() && response.type_url.ends_with(".Mesh") {
            let resource = response.resources.first_mut().unwrap();
            broken = resource.resource.replace(Default::default());
        }
    }
    assert!(broken.is_some(), "a mesh row was sent");
    let mut refusals = 0;
    for response in responses {
        let received = client.receive(response).unwrap();
        refusals += usize::from(matches!(received.outcome, Outcome::Refused(_)));
        stream.session.receive(received.reply).unwrap();
    }
    assert_eq!(refusals, 2, "the row, and the commit");
    assert_eq!(client.generation(), None);
    // A new stream starts from what is held, so the row is sent again.
    let mut stream = Stream::open(&mut client);
    stream.exchange(&server, &mut client, usize::MAX);
    assert_eq!(client.tables(), &server.tables);
}

#[test]
fn generations_do_not_go_back_and_stores_do_not_mix() {
    let commit = |generation| DeltaDiscoveryResponse {
        type_url: COMMIT_TYPE_URL.into(),
        resources: vec![commit_resource(generation)],
        nonce: "1".into(),
        ..DeltaDiscoveryResponse::default()
    };
    let held = generation(5);
    let mut client =
        Subscription::restored(node(), held, Tables(some_rows().into_iter().collect()));
    client.connect();
    let older = generation(4);
    assert_eq!(
        client.receive(commit(older)).unwrap_err(),
        ProtocolError::Backwards { held, sent: older }
    );
    let other = Generation {
        epoch: EPOCH + 1,
        number: 9,
    };
    assert_eq!(
        client.receive(commit(other)).unwrap_err(),
        ProtocolError::OtherEpoch { held, sent: other }
    );
    let received = client.receive(commit(generation(6))).unwrap();
    assert!(matches!(received.outcome, Outcome::Committed(_)));
}

#[test]
fn strange_requests_end_the_stream() {
    let mut session = Session::new();
    let request = |type_url: &str| DeltaDiscoveryRequest {
        type_url: type_url.into(),
        ..DeltaDiscoveryRequest::default()
    };
    assert!(
        session
            .receive(request("type.googleapis.com/envoy.Nothing"))
            .is_err()
    );
    let mut by_name = request(COMMIT_TYPE_URL);
    by_name.resource_names_subscribe.push("commit".into());
    assert!(session.receive(by_name).is_err());
    let mut stale = request(COMMIT_TYPE_URL);
    stale.response_nonce = "99".into();
    assert_eq!(session.receive(stale), Ok(Heard::Nothing));
    assert_eq!(session.acknowledged(), None);
}

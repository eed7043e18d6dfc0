//! Names of services inside each workload: what is asked, and what the mesh answers.

use std::net::IpAddr;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use tacit_model::{Namespace, ServiceName, Snapshot};

pub(crate) mod resolvers;
pub(crate) mod server;

/// Seconds for which an answer may be kept. Virtual addresses are stable, so this only bounds
/// how long a deleted service is still tried.
const TTL: u32 = 10;

/// The suffix under which every service has a name, and nobody else has any.
const SUFFIX: &str = "svc.cluster.local";

/// What becomes of a query.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// Send these bytes.
    Answer(Vec<u8>),
    /// Not a name of the mesh: ask the machine's resolvers.
    Forward,
    /// Not a query: stay silent, so that nobody is made to answer answers.
    Silence,
}

/// Answers a query from a workload of `namespace`.
pub(crate) fn answer(snapshot: &Snapshot, namespace: &Namespace, query: &[u8]) -> Reply {
    let Ok(request) = Message::from_vec(query) else {
        return Reply::Silence;
    };
    if request.metadata.message_type != MessageType::Query {
        return Reply::Silence;
    }
    let [question] = &request.queries[..] else {
        return failed(&request, ResponseCode::FormErr);
    };
    if request.metadata.op_code != OpCode::Query || question.query_class() != DNSClass::IN {
        return failed(&request, ResponseCode::NotImp);
    }
    match look_up(snapshot, namespace, question.name()) {
        Found::Address(address) => found(&request, question, address),
        Found::Nothing => failed(&request, ResponseCode::NXDomain),
        Found::NotOurs => Reply::Forward,
    }
}

/// The answer when nobody could be asked: `ServFail`, or `NXDomain` if there is nobody to ask.
pub(crate) fn unanswered(query: &[u8], code: ResponseCode) -> Reply {
    Message::from_vec(query).map_or(Reply::Silence, |request| failed(&request, code))
}

enum Found {
    Address(IpAddr),
    /// Under our suffix, but there is no such service.
    Nothing,
    NotOurs,
}

fn look_up(snapshot: &Snapshot, own: &Namespace, name: &Name) -> Found {
    let text = name.to_ascii().to_ascii_lowercase();
    let text = text.strip_suffix('.').unwrap_or(&text);
    let (short, under_suffix) = match text.strip_suffix(SUFFIX).and_then(|t| t.strip_suffix('.')) {
        Some(short) => (short, true),
        None => (text.strip_suffix(".svc").unwrap_or(text), false),
    };
    // The namespace is the last label: it has no dot, while a service's name may have some.
    let candidate = match short.rsplit_once('.') {
        Some((service, namespace)) => ServiceName::parse(namespace, service).ok(),
        None if under_suffix => None,
        None => ServiceName::parse(own.as_str(), short).ok(),
    };
    match candidate.and_then(|name| snapshot.services.get(&name)) {
        Some(service) => Found::Address(service.address),
        None if under_suffix || text == SUFFIX => Found::Nothing,
        None => Found::NotOurs,
    }
}

fn response(request: &Message, code: ResponseCode) -> Message {
    let mut response = Message::response(request.metadata.id, request.metadata.op_code);
    response.metadata.authoritative = true;
    response.metadata.recursion_desired = request.metadata.recursion_desired;
    response.metadata.recursion_available = true;
    response.metadata.response_code = code;
    response.add_queries(request.queries.iter().cloned());
    response
}

fn failed(request: &Message, code: ResponseCode) -> Reply {
    bytes(&response(request, code))
}

/// A known name of another type is an empty answer, not an error: resolvers that ask for both
/// families must not take it for "no such host".
fn found(request: &Message, question: &Query, address: IpAddr) -> Reply {
    let data = match (question.query_type(), address) {
        (RecordType::A | RecordType::ANY, IpAddr::V4(v4)) => Some(RData::A(A(v4))),
        (RecordType::AAAA | RecordType::ANY, IpAddr::V6(v6)) => Some(RData::AAAA(AAAA(v6))),
        _ => None,
    };
    let mut response = response(request, ResponseCode::NoError);
    if let Some(data) = data {
        response.add_answer(Record::from_rdata(question.name().clone(), TTL, data));
    }
    bytes(&response)
}

fn bytes(message: &Message) -> Reply {
    message.to_vec().map_or(Reply::Silence, Reply::Answer)
}

#[cfg(test)]
pub(crate) mod tests;

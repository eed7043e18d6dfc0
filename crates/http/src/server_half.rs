//! The callee's half: decides each request as received, then forwards it to the application.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use http::{Request, Response, request};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use tacit_decide::{Denial, ForwardPermit, InspectPermit, RequestHead};
use tacit_model::ServiceName;
use tacit_model::event::{Audited, Party, Reporter};
use tacit_transport::Stream;
use tacit_transport::dial::{SocketFactory, application};
use tacit_transport::hbone::Admission;

use crate::connection::{BodyTime, Connection};
use crate::connections::Lease;
use crate::fault::{Lost, chain};
use crate::flight::Flight;
use crate::headers::{self, Reason};
use crate::limits;
use crate::request_body::{RequestBody, Upload};
use crate::response_body::ResponseBody;
use crate::serve::Stop;
use crate::worker::{ApplicationKey, Worker};

/// One accepted connection to an application whose requests are inspected.
pub struct ServerHalf {
    /// The worker that serves it.
    pub worker: Rc<Worker>,
    /// The verdict on the connection, which asks for a verdict on each request.
    pub permit: InspectPermit,
    /// Who calls: the mTLS peer, never what a header says.
    pub caller: Party,
    /// The local workload.
    pub callee: Party,
    /// The service that was called, as far as it is known.
    pub service: Option<ServiceName>,
    /// The address that the application shall see; `sockets` bind to it.
    pub caller_address: IpAddr,
    /// Where the application listens.
    pub application: SocketAddr,
    /// Makes sockets towards the application.
    pub sockets: Rc<dyn SocketFactory>,
}

/// The caller's half has the timeouts; this limit is for callers without one.
const BODY_TIME: BodyTime = BodyTime {
    idle: limits::BODY_IDLE,
    deadline: None,
};

struct Callee {
    half: ServerHalf,
    connection: Connection,
}

/// Serves HTTP/1.1 or HTTP/2 on `stream` until its peer closes it, the worker drains, or `stop`
/// ends. Each request ends in one event of [`Reporter::Destination`].
pub async fn serve_server_half(stream: Stream, half: ServerHalf, stop: Stop) {
    let worker = Rc::clone(&half.worker);
    let connection = Connection::new(worker, Reporter::Destination, half.caller.clone());
    let callee = Rc::new(Callee { half, connection });
    let answered = |request| respond(Rc::clone(&callee), request);
    let party = callee.half.callee.clone();
    callee.connection.serve(stream, stop, party, answered).await;
}

/// One request, from its head to the head of its answer.
async fn respond(callee: Rc<Callee>, request: Request<Incoming>) -> Response<ResponseBody> {
    let Callee { half, connection } = &*callee;
    let (head, body) = request.into_parts();
    let flight = connection.begin(&head, half.callee.clone());
    flight.tries.set(headers::which_try(&head.headers));
    flight.service.replace(half.service.clone());
    if let Some(why) = headers::malformed(&head) {
        return connection.reject(&flight, why);
    }
    let snapshot = (half.worker.snapshot)();
    let asked = RequestHead {
        method: head.method.as_str(),
        path: head.uri.path(),
        host: headers::host(&head),
    };
    let decider = half.worker.decider(&snapshot, &flight.id);
    let admitted = decider.admit((half.worker.freshness)());
    match admitted.and_then(|()| decider.authorize_request(&half.permit, &asked)) {
        Ok(permit) => {
            flight.audit.replace(permit.audit().map(audited));
            let header = |name: &str| headers::first_value(&head.headers, name);
            let of = (&half.permit, permit);
            match decider.limit_request(of, &header, (half.worker.clock)()) {
                Ok(permit) => forward(&callee, permit, (head, body), &flight).await,
                Err(denial) => connection.refuse(&flight, denial),
            }
        }
        Err(denial) => connection.refuse(&flight, denial),
    }
}

fn audited(denial: &Denial) -> Audited {
    Audited {
        reason: denial.reason.clone(),
        by: denial.by.clone(),
    }
}

/// Sends the request to the application and passes its response back.
async fn forward(
    callee: &Callee,
    permit: ForwardPermit,
    (mut head, body): (request::Parts, Incoming),
    flight: &Rc<Flight>,
) -> Response<ResponseBody> {
    let Callee { half, connection } = callee;
    let caller = head.extensions.remove::<OnUpgrade>();
    let asked = headers::upgrade(&head.headers);
    headers::strip_markers(&mut head.headers);
    headers::end_hop(&mut head.headers, asked);
    headers::retarget(&mut head, &half.application.to_string());
    if let Some(path) = permit.path()
        && headers::set_path(&mut head, path).is_err()
    {
        return connection.reject(flight, "the canonical path is not a request target");
    }
    headers::set_id(&mut head.headers, &flight.id);
    // Nothing is repeated here, so nothing of the body is kept.
    let upload = Upload::new(body, 0, limits::BODY_IDLE, flight);
    let request = Request::from_parts(head, upload.next_try());
    match exchange(half, request).await {
        Ok((mut response, lease)) => {
            headers::strip_markers(response.headers_mut());
            connection.pass(response, (lease, None), caller, BODY_TIME, flight)
        }
        Err(_) if upload.is_broken() => connection.abandon(flight),
        Err((reason, why)) => connection.fail(flight, reason, &why),
    }
}

/// Sends the request on a connection to the application, from the caller's address, and waits
/// for the response headers.
async fn exchange(
    half: &ServerHalf,
    mut request: Request<RequestBody>,
) -> Result<(Response<Incoming>, Lease), (Reason, String)> {
    let key = ApplicationKey {
        caller: half.caller_address,
        application: half.application,
    };
    let version = request.version();
    let connections = &half.worker.applications;
    while let Some(mut lease) = connections.reuse(&key, version).await {
        let mut error = match lease.send(request).await {
            Ok(response) => return Ok((response, lease)),
            Err(error) => error,
        };
        match error.take_message() {
            // The application closed it before a byte of the request was written.
            Some(unsent) => request = unsent,
            None => return Err(broke(error.error())),
        }
    }
    // In a box: what only a new connection needs shall not make every request's task larger.
    Box::pin(open(half, key, request)).await
}

/// Opens a connection to the application and sends the request on it.
async fn open(
    half: &ServerHalf,
    key: ApplicationKey,
    request: Request<RequestBody>,
) -> Result<(Response<Incoming>, Lease), (Reason, String)> {
    let dial = || {
        let admission = Admission::Inspected(&half.permit);
        let timeout = limits::APPLICATION_CONNECT;
        application(admission, &*half.sockets, half.application, timeout)
    };
    let connections = &half.worker.applications;
    let opened = connections.open(&key, request.version(), dial).await;
    let mut lease = opened.map_err(|error| (Reason::Connect, error.to_string()))?;
    match lease.send(request).await {
        Ok(response) => Ok((response, lease)),
        Err(error) => Err(broke(error.error())),
    }
}

/// The application took the request and gave no answer: did it work on it?
fn broke(error: &hyper::Error) -> (Reason, String) {
    let reason = match Lost::of(error) {
        Lost::NotProcessed => Reason::Refused,
        Lost::Reset | Lost::Unreachable => Reason::Reset,
    };
    (
        reason,
        format!("the application gave no answer: {}", chain(error)),
    )
}

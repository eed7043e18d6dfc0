//! The node's end of `tacit run`: one conversation for each program.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use tacit_decide::run::{Runner, may_run};
use tacit_model::{Generation, Name, Namespace, ServiceAccount};
use tacit_sys::fdpass;
use tacit_sys::signals::Signal;
use tacit_sys::spawn::{Directory, User};
use tacit_wire::proto::control::{Publish, RegisterWorkloadRequest};
use tacit_wire::proto::mesh::{Label, Protocol, WorkloadPort};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};

use crate::control::Control;
use crate::error::NodeError;
use crate::log;
use crate::program::Running;
use crate::run_protocol::{
    ClientMessage, DESCRIPTORS, NodeMessage, RefusalKind, RunRequest, RunSignal, decode, encode,
};
use crate::workloads::{self, NotStarted, Place, Program, stream};

/// Programs at once; each is a namespace and two processes.
const MAX_RUNS: usize = 512;
/// Requests that are read at once. Each may take 12 MiB before anything is known of its sender.
pub(crate) const MAX_REQUESTS: usize = 16;
/// How long a client may take for its request.
const REQUEST: Duration = Duration::from_secs(10);
/// How long until a person is told what is being waited for.
const QUIET: Duration = Duration::from_millis(500);
/// How long the control plane may take to publish a workload that it has just registered.
const PUBLISHED: Duration = Duration::from_secs(15);
/// Messages of a client that may wait: a person's key strokes.
const WAITING: usize = 32;
/// Labels, ports and published ports of one workload; the parser of objects has the same limits.
const MAX_ITEMS: usize = 64;

/// Makes the socket, for every user of this machine: who may do what is decided per request.
pub(crate) fn bind(path: &Path) -> Result<UnixListener, NodeError> {
    use std::os::unix::fs::PermissionsExt;
    let told = |e: io::Error| NodeError::state(path, e);
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(told(e)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(told)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666)).map_err(told)?;
    Ok(listener)
}

/// Serves programs for ever.
pub(crate) async fn serve(control: Rc<Control>, listener: UnixListener) {
    let places = Rc::new(Semaphore::new(MAX_RUNS));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                log::warn("run", format!("cannot accept: {error}"));
                tokio::time::sleep(QUIET).await;
                continue;
            }
        };
        let (control, places) = (control.clone(), places.clone());
        tokio::task::spawn_local(async move {
            let Ok(_place) = places.try_acquire() else {
                return refuse_one_too_many(stream).await;
            };
            if let Err(error) = converse(&control, stream).await {
                log::info("run", format!("a conversation broke: {error}"));
            }
        });
    }
}

async fn refuse_one_too_many(mut stream: UnixStream) {
    let reason = format!("this node runs {MAX_RUNS} programs already");
    let message = NodeMessage::Refused {
        kind: RefusalKind::Failed,
        reason,
    };
    if let Ok(frame) = encode(&message) {
        // A client that does not listen is refused all the same.
        let _sent = stream.write_all(&frame).await;
    }
}

/// The client's side of a conversation.
struct Client {
    messages: mpsc::Receiver<ClientMessage>,
    writer: OwnedWriteHalf,
}

impl Client {
    async fn tell(&mut self, message: &NodeMessage) -> io::Result<()> {
        self.writer.write_all(&encode(message)?).await
    }

    async fn refuse(&mut self, why: &NotStarted) -> io::Result<()> {
        let kind = match why {
            NotStarted::Machine(_) => RefusalKind::Failed,
            NotStarted::Refused(_) => RefusalKind::NotPermitted,
            NotStarted::Invalid(_) => RefusalKind::Invalid,
            NotStarted::NoProgram(_) => RefusalKind::NoProgram,
            NotStarted::NotExecutable(_) => RefusalKind::NotExecutable,
            NotStarted::Unreachable(_) => RefusalKind::Unreachable,
        };
        self.tell(&NodeMessage::Refused {
            kind,
            reason: why.to_string(),
        })
        .await
    }
}

async fn converse(control: &Rc<Control>, stream: UnixStream) -> io::Result<()> {
    let credentials = fdpass::peer_credentials(&stream).map_err(io::Error::other)?;
    let groups = fdpass::peer_groups(&stream).map_err(io::Error::other)?;
    let mut rest = Vec::new();
    let received = {
        let Ok(_place) = control.run_requests.acquire().await else {
            return Ok(());
        };
        tokio::time::timeout(REQUEST, receive(&stream, &mut rest)).await??
    };
    // Somebody only looked whether the node is there.
    let Some((request, descriptors)) = received else {
        return Ok(());
    };
    let (reader, writer) = stream.into_split();
    let (sender, messages) = mpsc::channel(WAITING);
    tokio::task::spawn_local(listen(reader, rest, sender));
    let mut client = Client { messages, writer };
    let mut gids: BTreeSet<u32> = groups.iter().copied().collect();
    gids.insert(credentials.gid);
    let runner = Runner {
        uid: credentials.uid,
        gids,
    };
    let user = User {
        uid: credentials.uid,
        gid: credentials.gid,
        groups: control.may_set_groups.then_some(groups),
    };
    if wait_for_configuration(control, &mut client)
        .await?
        .is_none()
    {
        return Ok(());
    }
    let wanted = match registration(control, &request, &runner) {
        Ok(wanted) => wanted,
        Err(why) => return client.refuse(&why).await,
    };
    let program = match program(&request, descriptors, user) {
        Ok(program) => program,
        Err(why) => return client.refuse(&why).await,
    };
    run(control, &mut client, wanted, &request, program).await
}

/// Checks the request and the right to it; the result is what control is told.
fn registration(
    control: &Control,
    request: &RunRequest,
    runner: &Runner,
) -> Result<RegisterWorkloadRequest, NotStarted> {
    let invalid = |e: &dyn std::fmt::Display| NotStarted::Invalid(e.to_string());
    let namespace = Namespace::try_from(request.namespace.as_str()).map_err(|e| invalid(&e))?;
    let account =
        ServiceAccount::try_from(request.service_account.as_str()).map_err(|e| invalid(&e))?;
    if let Some(name) = &request.name {
        Name::try_from(name.as_str()).map_err(|e| invalid(&e))?;
    }
    let counts = [
        request.labels.len(),
        request.ports.len(),
        request.publish.len(),
    ];
    if counts.into_iter().any(|count| count > MAX_ITEMS) {
        return Err(invalid(&format!("more than {MAX_ITEMS} labels or ports")));
    }
    let snapshot = control.shared.open().map_err(|closed| invalid(&closed))?;
    let (administrator, now) = (control.settings.administrator, control.shared.now());
    may_run(&snapshot, administrator, runner, &namespace, &account, now)
        .map_err(|denial| NotStarted::Refused(denial.to_string()))?;
    let labels = request.labels.iter();
    let ports = request.ports.iter().map(|port| {
        let http = port.name.starts_with("http");
        let protocol = if http { Protocol::Http } else { Protocol::Tcp };
        WorkloadPort {
            name: port.name.clone(),
            port: port.port.into(),
            protocol: protocol.into(),
        }
    });
    Ok(RegisterWorkloadRequest {
        namespace: request.namespace.clone(),
        service_account: request.service_account.clone(),
        labels: labels
            .map(|(k, v)| Label {
                key: k.clone(),
                value: v.clone(),
            })
            .collect(),
        zone: request.zone.clone(),
        region: request.region.clone(),
        ports: ports.collect(),
        name: request.name.clone(),
        uid: runner.uid,
        gids: runner.gids.iter().copied().collect(),
        address: None,
        publish: request
            .publish
            .iter()
            .map(|ports| Publish {
                port: ports.port.into(),
                target: ports.target.into(),
            })
            .collect(),
    })
}

fn program(
    request: &RunRequest,
    descriptors: Vec<OwnedFd>,
    user: User,
) -> Result<Program, NotStarted> {
    let count = descriptors.len();
    let wrong = || NotStarted::Invalid(format!("{count} descriptors came, not {DESCRIPTORS}"));
    let [stdin, stdout, stderr, directory] =
        <[OwnedFd; DESCRIPTORS]>::try_from(descriptors).map_err(|_| wrong())?;
    Ok(Program {
        command: request.command.clone(),
        environment: request.environment.clone(),
        directory: Directory::Open(directory),
        stdio: [stream(stdin), stream(stdout), stream(stderr)],
        user: Some(user),
    })
}

/// Brings the workload up, runs the program, and takes everything down again.
async fn run(
    control: &Rc<Control>,
    client: &mut Client,
    wanted: RegisterWorkloadRequest,
    request: &RunRequest,
    program: Program,
) -> io::Result<()> {
    let Some(node_api) = wait_for_control(control, client).await? else {
        return Ok(());
    };
    let place = match workloads::register(node_api, wanted.clone()).await {
        Ok(place) => place,
        Err(why) => return client.refuse(&why).await,
    };
    let lived = live(control, client, &place, wanted, request, program).await;
    workloads::unregister(control, &place.name).await;
    lived
}

/// A node that has just joined knows in a moment who may run what.
async fn wait_for_configuration(control: &Control, client: &mut Client) -> io::Result<Option<()>> {
    let reason = "the node has no configuration yet, and waits for the control plane";
    let mut generation = control.generation.subscribe();
    let arrived = async {
        let known = |known: &Option<Generation>| known.is_some_and(|g| g != Generation::default());
        if generation.wait_for(known).await.is_err() {
            // The node is ending, and this conversation with it.
            std::future::pending::<()>().await;
        }
    };
    wait_for(client, reason, arrived).await
}

/// The control plane.
async fn wait_for_control(
    control: &Control,
    client: &mut Client,
) -> io::Result<Option<crate::control::Client>> {
    let reason = "the control plane cannot be reached; a workload that it does not know yet \
                  waits for it";
    let found = async {
        loop {
            if let Some(found) = control.client_within(REQUEST).await {
                return found;
            }
        }
    };
    wait_for(client, reason, found).await
}

/// What is waited for, told to the client if it takes a while; `None` when the client has gone
/// meanwhile.
async fn wait_for<T>(
    client: &mut Client,
    reason: &str,
    wanted: impl Future<Output = T>,
) -> io::Result<Option<T>> {
    let mut wanted = std::pin::pin!(wanted);
    if let Ok(found) = tokio::time::timeout(QUIET, wanted.as_mut()).await {
        return Ok(Some(found));
    }
    let reason = reason.into();
    client.tell(&NodeMessage::Waiting { reason }).await?;
    loop {
        tokio::select! {
            found = wanted.as_mut() => return Ok(Some(found)),
            message = client.messages.recv() => match message {
                Some(ClientMessage::Signal(signal)) if !ends(signal) => {}
                Some(ClientMessage::Signal(_)) | None => return Ok(None),
            },
        }
    }
}

/// True for signals by which a person who waits means "do not".
fn ends(signal: RunSignal) -> bool {
    matches!(
        signal,
        RunSignal::Hangup | RunSignal::Interrupt | RunSignal::Quit | RunSignal::Terminate
    )
}

async fn live(
    control: &Rc<Control>,
    client: &mut Client,
    place: &Place,
    wanted: RegisterWorkloadRequest,
    request: &RunRequest,
    program: Program,
) -> io::Result<()> {
    if let Err(why) = workloads::certificate(control, &place.identity, REQUEST).await {
        return client.refuse(&why).await;
    }
    let known = |snapshot: &tacit_model::Snapshot| snapshot.workloads.contains_key(&place.name);
    if control.snapshot_with(PUBLISHED, known).await.is_none() {
        let text = format!(
            "the control plane did not publish workload {} in time",
            place.name
        );
        return client.refuse(&NotStarted::Unreachable(text)).await;
    }
    let local = match workloads::bring_up(control, place, &request.publish, Some(wanted)).await {
        Ok(local) => local,
        Err(why) => return client.refuse(&why).await,
    };
    let outcome = match workloads::start_program(control, &local, program).await {
        Ok(started) => {
            let message = NodeMessage::Started {
                workload: place.name.to_string(),
                address: place.address,
            };
            match Running::new(started) {
                Ok(running) => attend(control, client, running, &message).await,
                Err(error) => client.refuse(&NotStarted::Machine(error.to_string())).await,
            }
        }
        Err(why) => client.refuse(&why).await,
    };
    workloads::take_down(control, &local).await;
    outcome
}

/// Passes signals on until the program ends, the client goes, or the node stops.
async fn attend(
    control: &Control,
    client: &mut Client,
    mut running: Running,
    started: &NodeMessage,
) -> io::Result<()> {
    let mut stopping = control.stopping.subscribe();
    let told = client.tell(started).await;
    let status = loop {
        if told.is_err() {
            break running.end().await;
        }
        tokio::select! {
            status = running.ended() => break status,
            _value = stopping.wait_for(|stopping| *stopping) => break running.end().await,
            message = client.messages.recv() => match message {
                Some(ClientMessage::Signal(signal)) => running.signal(number(signal)),
                None => {
                    running.end().await;
                    return Ok(());
                }
            },
        }
    };
    client.tell(&NodeMessage::Ended(status)).await
}

fn number(signal: RunSignal) -> Signal {
    match signal {
        RunSignal::Hangup => Signal::SIGHUP,
        RunSignal::Interrupt => Signal::SIGINT,
        RunSignal::Quit => Signal::SIGQUIT,
        RunSignal::Terminate => Signal::SIGTERM,
        RunSignal::User1 => Signal::SIGUSR1,
        RunSignal::User2 => Signal::SIGUSR2,
        RunSignal::WindowChange => Signal::SIGWINCH,
    }
}

/// Receives the request with its descriptors; bytes after it stay in `rest`. `None`: the client
/// went without a word.
async fn receive(
    stream: &UnixStream,
    rest: &mut Vec<u8>,
) -> io::Result<Option<(RunRequest, Vec<OwnedFd>)>> {
    let mut descriptors = Vec::new();
    let mut chunk = vec![0; 64 * 1024];
    loop {
        if let Some(request) = decode(rest)? {
            return Ok(Some((request, descriptors)));
        }
        stream.readable().await?;
        let read = stream.try_io(Interest::READABLE, || fdpass::receive(stream, &mut chunk));
        let (length, mut came) = match read {
            Ok(read) => read,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => continue,
            Err(e) => return Err(e),
        };
        if length == 0 && rest.is_empty() {
            return Ok(None);
        }
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        descriptors.append(&mut came);
        if descriptors.len() > DESCRIPTORS {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "too many descriptors",
            ));
        }
        rest.extend_from_slice(&chunk[..length]);
    }
}

/// Reads messages until the client goes; then the channel closes.
async fn listen(mut reader: OwnedReadHalf, mut rest: Vec<u8>, to: mpsc::Sender<ClientMessage>) {
    loop {
        match decode(&mut rest) {
            Ok(Some(message)) => {
                if to.send(message).await.is_err() {
                    return;
                }
            }
            Ok(None) => match reader.read_buf(&mut rest).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            },
            Err(garbage) => {
                log::info("run", format!("a client sent garbage: {garbage}"));
                return;
            }
        }
    }
}

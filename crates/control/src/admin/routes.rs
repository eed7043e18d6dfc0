//! The paths of the admin API.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tacit_api::{Kind, ObjectKey};
use tacit_compiler::grants::{Caller, Subject};
use tacit_model::status::ConditionKind;
use tacit_model::{NodeName, ObjectRef};

use super::types::{
    ApplyRequest, CertificateRequest, CertificateResponse, FindingsResponse, GenerationResponse,
    JoinTokenRequest, ListedObject, ObjectsResponse, Problem, ProblemKind, WaitResponse,
    WhyRequest,
};
use crate::engine::{Actor, Command, EditKind, kind_named, mesh_spec, object_ref, problem};
use crate::shared::Shared;
use crate::{clock, pem, status, why};

/// As the parser: a file of ten thousand objects.
const BODY_MAX: usize = 64 << 20;
/// Longer than anybody watches; a script asks again.
const WAIT_MAX: Duration = Duration::from_secs(3600);
/// What a name of a person or pipeline may be long (X.520, `ub-common-name`).
const COMMON_NAME_MAX: usize = 64;

type Answer = Result<Vec<u8>, Problem>;

/// Answers one request.
pub(super) async fn route(shared: &Shared, caller: Caller, request: Request<Incoming>) -> Answer {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let query = request.uri().query().unwrap_or_default().to_owned();
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    match (&method, parts.as_slice()) {
        (&Method::GET, ["v1", "generation"]) => {
            let published = shared.published();
            let generation = published.snapshot.as_ref().map(|_| published.generation);
            json(&GenerationResponse { generation })
        }
        (&Method::GET, ["v1", "status"]) => json(&status::of_mesh(shared)),
        (&Method::GET, ["v1", "findings"]) => json(&FindingsResponse {
            findings: shared.published().findings().to_vec(),
        }),
        (&Method::GET, ["v1", "objects", rest @ ..]) => objects(shared, rest),
        (&Method::GET, ["v1", "wait"]) => wait(shared, &query).await,
        (&Method::POST, ["v1", "apply"]) => apply(shared, caller, body(request).await?).await,
        (&Method::DELETE, ["v1", "objects", rest @ ..]) => delete(shared, caller, rest).await,
        (&Method::POST, ["v1", "why"]) => {
            json(&why::answer(shared, &read::<WhyRequest>(&body(request).await?)?).await?)
        }
        (&Method::POST, ["v1", "join-token"]) => {
            administrator(shared, &caller, "make join tokens")?;
            let JoinTokenRequest { node, identities } = read(&body(request).await?)?;
            json(
                &shared
                    .engine
                    .ask(|reply| Command::Token(node, identities, reply))
                    .await?,
            )
        }
        (&Method::POST, ["v1", "certificate"]) => {
            administrator(shared, &caller, "issue certificates")?;
            certificate(shared, &read(&body(request).await?)?)
        }
        (&Method::DELETE, ["v1", "nodes", name]) => {
            administrator(shared, &caller, "remove nodes")?;
            let node = NodeName::try_from(*name)
                .map_err(|error| problem(ProblemKind::BadRequest, error.to_string()))?;
            let removed = node.clone();
            shared
                .engine
                .ask(|reply| Command::RemoveNode(removed, reply))
                .await?;
            shared.roster.forget(&node);
            json(&serde_json::json!({}))
        }
        _ => Err(problem(
            ProblemKind::NotFound,
            format!("there is no {method} {path}"),
        )),
    }
}

async fn apply(shared: &Shared, caller: Caller, body: Bytes) -> Answer {
    let ApplyRequest {
        text,
        file,
        dry_run,
        acting_as,
    } = read(&body)?;
    let acting_as = match acting_as {
        None => None,
        Some(name) => Some(Subject::named(&name).ok_or_else(|| {
            let message = format!("{name:?} is nobody; write user:NAME or group:NAME");
            problem(ProblemKind::BadRequest, message)
        })?),
    };
    let actor = Actor {
        caller,
        acting_as,
        dry_run,
    };
    let edit = EditKind::Apply { file, text };
    json(
        &shared
            .engine
            .ask(|reply| Command::Edit(actor, edit, reply))
            .await?,
    )
}

async fn delete(shared: &Shared, caller: Caller, parts: &[&str]) -> Answer {
    let key = object_key(parts)?;
    let actor = Actor {
        caller,
        acting_as: None,
        dry_run: false,
    };
    let edit = EditKind::Delete(key);
    json(
        &shared
            .engine
            .ask(|reply| Command::Edit(actor, edit, reply))
            .await?,
    )
}

fn objects(shared: &Shared, parts: &[&str]) -> Answer {
    let published = shared.published();
    let wanted: Box<dyn Fn(&ObjectKey) -> bool> = match parts {
        [] | [""] => Box::new(|_| true),
        [kind] => {
            let kind = kind_of(kind)?;
            Box::new(move |key| key.kind == kind)
        }
        _ => {
            let one = object_key(parts)?;
            Box::new(move |key| *key == one)
        }
    };
    let mut listed = Vec::new();
    for (key, held) in published.objects.iter().filter(|(key, _)| wanted(key)) {
        let Some(reference) = object_ref(key) else {
            continue;
        };
        let manifest = match held.object() {
            Some(object) => tacit_api::to_json(&object.value).map_err(|error| {
                problem(
                    ProblemKind::Unavailable,
                    format!("{key} cannot be printed: {error}"),
                )
            })?,
            // It is written and cannot be read; its findings say why.
            None => serde_json::Value::Null,
        };
        listed.push(ListedObject {
            status: status::of_object(&published, &shared.roster, &reference),
            object: reference,
            owner: held.owner(),
            manifest,
        });
    }
    if listed.is_empty() && parts.len() > 1 {
        return Err(problem(
            ProblemKind::NotFound,
            format!("there is no {}", parts.join("/")),
        ));
    }
    json(&ObjectsResponse { objects: listed })
}

async fn wait(shared: &Shared, query: &str) -> Answer {
    let value = |name: &str| {
        query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .find(|(key, _)| *key == name)
    };
    let bad = |message: String| problem(ProblemKind::BadRequest, message);
    let (_, wanted) = value("for").ok_or_else(|| bad("`for` names no condition".into()))?;
    let condition = [
        ConditionKind::Accepted,
        ConditionKind::Armed,
        ConditionKind::Programmed,
        ConditionKind::ResolvedRefs,
    ]
    .into_iter()
    .find(|kind| format!("{kind:?}").eq_ignore_ascii_case(wanted))
    .ok_or_else(|| {
        bad(format!(
            "{wanted:?} is not Accepted, Armed, Programmed or ResolvedRefs"
        ))
    })?;
    let (_, object) = value("object").ok_or_else(|| bad("`object` names none".into()))?;
    let key = object_key(&object.split('/').collect::<Vec<_>>())?;
    let object = object_ref(&key).ok_or_else(|| bad(format!("{key} is no valid name")))?;
    let milliseconds = value("milliseconds").and_then(|(_, text)| text.parse().ok());
    let patience = Duration::from_millis(milliseconds.unwrap_or(0)).min(WAIT_MAX);
    let mut published = shared.watch();
    let mut roster = shared.roster.watch();
    let met = tokio::time::timeout(patience, async {
        loop {
            if holds(shared, &object, condition) {
                return;
            }
            tokio::select! {
                changed = published.changed() => if changed.is_err() { break },
                changed = roster.changed() => if changed.is_err() { break },
            }
        }
    });
    // Also when the time is over at once, the state of now is looked at.
    let met = met.await.is_ok() && holds(shared, &object, condition);
    let status = status::of_object(&shared.published(), &shared.roster, &object);
    let status = status.ok_or_else(|| {
        problem(
            ProblemKind::NotFound,
            format!("there is no {key}, or it has no status"),
        )
    })?;
    json(&WaitResponse { met, status })
}

fn holds(shared: &Shared, object: &ObjectRef, wanted: ConditionKind) -> bool {
    let status = status::of_object(&shared.published(), &shared.roster, object);
    let conditions = status.map(|status| status.conditions).unwrap_or_default();
    conditions
        .iter()
        .any(|condition| condition.kind == wanted && condition.status)
}

fn certificate(shared: &Shared, request: &CertificateRequest) -> Answer {
    let name = request.common_name.as_str();
    if name.is_empty() || name.len() > COMMON_NAME_MAX || name.chars().any(char::is_control) {
        let message = format!("a common name has 1 to {COMMON_NAME_MAX} printable characters");
        return Err(problem(ProblemKind::BadRequest, message));
    }
    let csr = STANDARD.decode(&request.csr).map_err(|error| {
        problem(
            ProblemKind::BadRequest,
            format!("the request is no base64: {error}"),
        )
    })?;
    let published = shared.published();
    let mesh = published.snapshot.as_ref().map(|snapshot| &snapshot.mesh);
    let mesh =
        mesh.ok_or_else(|| problem(ProblemKind::Unavailable, "there is no generation yet"))?;
    let chain = shared
        .authority
        .issue_person(&csr, name, &mesh.trust_domain, clock::unix())
        .map_err(|error| problem(ProblemKind::BadRequest, error.to_string()))?;
    json(&CertificateResponse {
        chain: pem::encode("CERTIFICATE", &chain),
        roots: pem::encode("CERTIFICATE", &shared.authority.roots()),
    })
}

fn administrator(shared: &Shared, caller: &Caller, what: &str) -> Result<(), Problem> {
    let published = shared.published();
    let mesh = mesh_spec(&published.objects);
    let who = Subject::identify(caller, shared.settings.administrator, mesh);
    if who.administrator {
        return Ok(());
    }
    let message = format!("{who} may not {what}: only the administrator may");
    Err(problem(ProblemKind::Forbidden, message))
}

fn kind_of(name: &str) -> Result<Kind, Problem> {
    kind_named(name).ok_or_else(|| {
        let known: Vec<&str> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
        let message = format!("there is no kind {name:?}; there are {}", known.join(", "));
        problem(ProblemKind::NotFound, message)
    })
}

/// `KIND/NAMESPACE/NAME`, or `KIND/NAME` for a kind without namespaces.
fn object_key(parts: &[&str]) -> Result<ObjectKey, Problem> {
    let bad = |message: String| problem(ProblemKind::BadRequest, message);
    match parts {
        [kind, namespace, name] => {
            let kind = kind_of(kind)?;
            if !kind.is_namespaced() {
                return Err(bad(format!("a {kind} lives in no namespace")));
            }
            Ok(ObjectKey {
                kind,
                namespace: Some((*namespace).to_owned()),
                name: (*name).to_owned(),
            })
        }
        [kind, name] => {
            let kind = kind_of(kind)?;
            let namespace = kind
                .is_namespaced()
                .then(|| tacit_api::object::DEFAULT_NAMESPACE.to_owned());
            Ok(ObjectKey {
                kind,
                namespace,
                name: (*name).to_owned(),
            })
        }
        _ => Err(bad(format!(
            "{:?} is not KIND/NAMESPACE/NAME",
            parts.join("/")
        ))),
    }
}

async fn body(request: Request<Incoming>) -> Result<Bytes, Problem> {
    let limited = Limited::new(request.into_body(), BODY_MAX);
    let collected = limited.collect().await.map_err(|error| {
        let message = format!("the body cannot be read (at most {BODY_MAX} bytes): {error}");
        problem(ProblemKind::BadRequest, message)
    })?;
    Ok(collected.to_bytes())
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| {
        problem(
            ProblemKind::BadRequest,
            format!("the body is not what this path takes: {error}"),
        )
    })
}

fn json<T: Serialize>(value: &T) -> Answer {
    serde_json::to_vec(value)
        .map_err(|error| problem(ProblemKind::Unavailable, format!("no answer: {error}")))
}

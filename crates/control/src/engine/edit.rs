//! Applying and deleting objects of the API: syntax, owner, grants, and a trial compilation.

use std::collections::BTreeSet;
use std::sync::Arc;

use tacit_api::{Located, Object, ObjectKey};
use tacit_compiler::grants::{Change, Subject, Verdict, World};
use tacit_model::Generation;
use tacit_model::finding::Finding;
use tacit_model::status::{ConditionKind, Reason};

use super::command::{Actor, EditKind, Reply, Then, problem};
use super::draft::Draft;
use super::objects::{Applied, Held, effective, object_ref};
use super::state::{mesh_spec, stored};
use super::{Engine, unavailable};
use crate::admin::types::{
    Applied as Outcome, ApplyResponse, Change as Happened, Owner, Problem, ProblemKind,
};
use crate::clock;
use crate::store::Table;

/// What the codes of findings about notation, names and duplicates begin with.
const OF_READING: &str = "TCT10";

impl Engine {
    pub(super) fn edit(
        &self,
        actor: &Actor,
        kind: EditKind,
        reply: Reply<ApplyResponse>,
        draft: &mut Draft,
    ) -> Option<Then> {
        let mut trial = draft.clone();
        let outcome = match kind {
            EditKind::Apply { file, text } => self.apply(actor, &file, &text, &mut trial),
            EditKind::Delete(key) => self.delete(actor, &key, &mut trial),
        };
        let mut answer = match outcome {
            Ok(answer) => answer,
            Err(refusal) => return answered(reply, Err(refusal)),
        };
        if actor.dry_run {
            return answered(reply, Ok(answer));
        }
        *draft = trial;
        Some(Box::new(move |outcome: Result<Generation, Problem>| {
            let outcome = outcome.map(|generation| {
                answer.generation = Some(generation);
                answer
            });
            // Who asked may have gone away.
            let _ = reply.send(outcome);
        }))
    }

    fn apply(
        &self,
        actor: &Actor,
        file: &str,
        text: &str,
        draft: &mut Draft,
    ) -> Result<ApplyResponse, Problem> {
        let parsed = tacit_api::parse(file, text);
        let mut keys = BTreeSet::new();
        let twice = |object: &Located<Object>| !keys.insert(object.value.key());
        let twice = parsed.objects.iter().any(twice);
        let nameless = |object: &Located<Object>| object_ref(&object.value.key()).is_none();
        if !parsed.errors.is_empty() || twice || parsed.objects.iter().any(nameless) {
            let mut findings = tacit_compiler::check_files([(file.into(), parsed)], now()).findings;
            // Whether what it refers to exists is not known from one file.
            findings.retain(|finding| finding.code.starts_with(OF_READING));
            return Err(Problem {
                kind: ProblemKind::Invalid,
                message: format!("{file}: nothing was applied").into(),
                findings,
            });
        }
        // A file of tests is for `tacit test`: there is nothing to apply, and nothing wrong.
        if parsed.objects.is_empty() && parsed.tests.is_empty() {
            let message = format!("{file} has no object in it; nothing was applied");
            return Err(problem(ProblemKind::Invalid, message));
        }
        let mut answer = ApplyResponse::default();
        for object in parsed.objects {
            let change = self.apply_one(actor, object, draft)?;
            answer.objects.push(change);
        }
        let keys = answer.objects.iter().map(|applied| &applied.object);
        let compiled = self.compile(&draft.state);
        let about: Vec<Finding> = compiled
            .findings()
            .into_iter()
            .filter(|finding| keys.clone().any(|key| finding.object.as_ref() == Some(key)))
            .collect();
        let refused = answer.objects.iter().any(|applied| {
            let status = compiled.compiler.status(&applied.object);
            status.is_some_and(|status| {
                status.conditions.iter().any(|condition| {
                    condition.kind == ConditionKind::Accepted
                        && !condition.status
                        && is_of_the_object(condition.reason)
                })
            })
        });
        if refused {
            return Err(Problem {
                kind: ProblemKind::Invalid,
                message: format!("{file}: nothing was applied").into(),
                findings: about,
            });
        }
        answer.findings = about;
        draft.compiled = Some(compiled);
        Ok(answer)
    }

    fn apply_one(
        &self,
        actor: &Actor,
        object: Located<Object>,
        draft: &mut Draft,
    ) -> Result<Outcome, Problem> {
        let key = object.value.key();
        let reference = object_ref(&key).ok_or_else(|| {
            let message = format!("{key}: the name or the namespace is not valid");
            problem(ProblemKind::Invalid, message)
        })?;
        let (objects, _) = effective(&draft.state);
        let old = owned_by_api(&objects, &key)?;
        let author = self.allowed(actor, &objects, old, Some(&object), &key)?;
        let change = match old {
            Some(old) if old.value == object.value => Happened::Unchanged,
            Some(_) => Happened::Configured,
            None => Happened::Created,
        };
        if change != Happened::Unchanged {
            let applied = Arc::new(Applied { object, author });
            draft
                .put(Table::Objects, key.to_string(), &stored(&applied))
                .map_err(unavailable)?;
            draft.state.api.insert(key, applied);
        }
        Ok(Outcome {
            object: reference,
            change,
        })
    }

    fn delete(
        &self,
        actor: &Actor,
        key: &ObjectKey,
        draft: &mut Draft,
    ) -> Result<ApplyResponse, Problem> {
        let not_found = || problem(ProblemKind::NotFound, format!("there is no {key}"));
        let object = object_ref(key).ok_or_else(not_found)?;
        let (objects, _) = effective(&draft.state);
        let old = owned_by_api(&objects, key)?.ok_or_else(not_found)?;
        self.allowed(actor, &objects, Some(old), None, key)?;
        draft.delete(Table::Objects, key.to_string());
        draft.state.api.remove(key);
        let outcome = Outcome {
            object,
            change: Happened::Deleted,
        };
        Ok(ApplyResponse {
            objects: vec![outcome],
            ..ApplyResponse::default()
        })
    }

    /// Whether the caller may make the change; gives who is then its author.
    fn allowed(
        &self,
        actor: &Actor,
        objects: &std::collections::BTreeMap<ObjectKey, Held>,
        old: Option<&Located<Object>>,
        new: Option<&Located<Object>>,
        key: &ObjectKey,
    ) -> Result<Subject, Problem> {
        let world = World::new(objects.values().filter_map(Held::object));
        let mesh = mesh_spec(objects);
        let caller = Subject::identify(&actor.caller, self.fixed.administrator, mesh);
        let author = match &actor.acting_as {
            None => caller,
            Some(other) => {
                let namespace = key.namespace.as_deref().unwrap_or_default();
                permitted(world.may_impersonate(&caller, namespace, now()))?;
                other.clone()
            }
        };
        let change = match (old, new) {
            (Some(old), Some(new)) => Change::Update { old, new },
            (None, Some(new)) => Change::Create(new),
            (Some(old), None) => Change::Delete(old),
            (None, None) => return Ok(author),
        };
        permitted(world.may_change(&author, change, now()))?;
        Ok(author)
    }
}

/// True for reasons that lie in the object itself. A target that does not exist yet may come.
fn is_of_the_object(reason: Reason) -> bool {
    match reason {
        Reason::Conflicted
        | Reason::Invalid
        | Reason::NotPermitted
        | Reason::NotPermittedThere
        | Reason::NotSupported => true,
        Reason::Accepted
        | Reason::Armed
        | Reason::BackendNotFound
        | Reason::NoAlternative
        | Reason::NoHealthSignal
        | Reason::NotExported
        | Reason::Overridden
        | Reason::PartiallyProgrammed
        | Reason::Programmed
        | Reason::Reconciling
        | Reason::ResolvedRefs
        | Reason::TargetNotFound => false,
    }
}

/// What the API has under a key; an error if another owner has it.
fn owned_by_api<'a>(
    objects: &'a std::collections::BTreeMap<ObjectKey, Held>,
    key: &ObjectKey,
) -> Result<Option<&'a Located<Object>>, Problem> {
    let Some(held) = objects.get(key) else {
        return Ok(None);
    };
    let message = match held.owner() {
        Owner::Api => return Ok(held.object()),
        Owner::Directory => {
            let place = held.object().map(|object| object.find("").0.to_string());
            let place = place.unwrap_or_else(|| "a file of the watched directory".into());
            format!("{key} is owned by the watched directory ({place}); change it there")
        }
        Owner::Run => {
            format!("{key} is a workload of `tacit run`; it ends with its process")
        }
    };
    Err(problem(ProblemKind::Conflict, message))
}

fn permitted(verdict: Verdict) -> Result<(), Problem> {
    match verdict {
        Verdict::Allowed => Ok(()),
        Verdict::Refused(finding) => Err(Problem {
            kind: ProblemKind::Forbidden,
            message: finding.message.as_str().into(),
            findings: vec![*finding],
        }),
    }
}

fn answered<T>(reply: Reply<T>, outcome: Result<T, Problem>) -> Option<Then> {
    // Who asked may have gone away.
    let _ = reply.send(outcome);
    None
}

fn now() -> i64 {
    i64::try_from(clock::unix_seconds()).unwrap_or(i64::MAX)
}

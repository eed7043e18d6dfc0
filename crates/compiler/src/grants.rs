//! Who may change what: decides changes of objects and starts of workloads by the grants of
//! Workspaces.
//!
//! The administrator may do everything. Anybody else needs one grant, of the workspace that the
//! namespace belongs to, that covers the whole change. A namespace without a workspace, or with
//! two, is the administrator's alone, and so are `Mesh` and the root namespace.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use tacit_api::mesh::MeshSpec;
use tacit_api::workspace::{GrantSubject, Verb};
use tacit_api::{Located, Metadata, Object, ObjectKey, Service};
use tacit_model::ObjectRef;
use tacit_model::finding::{Finding, Position, Severity};

use crate::workspace::{Owner, Tenant, Tenants};

mod attach;
mod check;
mod fields;
mod limits;
mod validate;

pub use validate::validate;

/// The group that every user of a machine of the mesh is in: whoever the kernel knows there.
/// Certificates are not in it.
pub const LOCAL_USERS: &str = "system:local";
/// Groups that begin so are made by the mesh; `Mesh.subjects` cannot give them.
pub(crate) const BUILT_IN: &str = "system:";

/// How somebody is known to the control plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// The directory of `up -f`, and the control plane itself.
    Administrator,
    /// A client certificate with this common name.
    Certificate {
        /// The common name of its subject.
        common_name: String,
    },
    /// A process of this machine (`SO_PEERCRED`).
    Local {
        /// Its user id.
        uid: u32,
        /// Its group ids, supplementary ones included.
        gids: BTreeSet<u32>,
    },
}

/// Who asks, as far as `Mesh.subjects` knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// May do everything.
    pub administrator: bool,
    /// How messages call somebody without a user name, for example `uid 1000`.
    pub known_as: String,
    /// The user's name.
    pub user: Option<String>,
    /// Groups that the user is in.
    pub groups: BTreeSet<String>,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.user {
            _ if self.administrator => f.write_str("the administrator")?,
            Some(user) => write!(f, "user {user}")?,
            None => f.write_str(&self.known_as)?,
        }
        let groups = self.groups.iter().map(String::as_str);
        let groups: Vec<&str> = groups.filter(|name| !name.starts_with(BUILT_IN)).collect();
        if groups.is_empty() {
            return Ok(());
        }
        write!(f, " (groups {})", groups.join(", "))
    }
}

impl Subject {
    /// Finds out who `caller` is. `owner_uid` is the user who started `up`; that user and root
    /// are administrators. Every entry of `Mesh.subjects` whose conditions all match adds its
    /// groups; the first user name counts. An entry without conditions matches nobody.
    #[must_use]
    pub fn identify(caller: &Caller, owner_uid: u32, mesh: Option<&MeshSpec>) -> Self {
        let mut subject = match caller {
            Caller::Administrator => Self {
                administrator: true,
                ..Self::default()
            },
            Caller::Certificate { common_name } => Self {
                known_as: format!("certificate {common_name}"),
                ..Self::default()
            },
            Caller::Local { uid, .. } => Self {
                administrator: *uid == owner_uid || *uid == 0,
                known_as: format!("uid {uid}"),
                groups: BTreeSet::from([LOCAL_USERS.to_owned()]),
                ..Self::default()
            },
        };
        let entries = mesh.and_then(|mesh| mesh.subjects.as_deref());
        for entry in entries.unwrap_or_default() {
            if is(entry, caller) {
                subject.user = subject.user.or_else(|| entry.user.clone());
                subject
                    .groups
                    .extend(entry.groups.iter().flatten().cloned());
            }
        }
        subject
    }

    /// Somebody named on a command line: `user:NAME` or `group:NAME` (`check --as`).
    #[must_use]
    pub fn named(text: &str) -> Option<Self> {
        let known_as = text.to_owned();
        let (user, groups) = match text.split_once(':')? {
            (_, "") => return None,
            ("user", name) => (Some(name.to_owned()), BTreeSet::new()),
            ("group", name) => (None, BTreeSet::from([name.to_owned()])),
            _ => return None,
        };
        Some(Self {
            administrator: false,
            known_as,
            user,
            groups,
        })
    }

    /// True if one of `to` names this subject.
    fn is_one_of(&self, to: &[GrantSubject]) -> bool {
        to.iter().any(|to| {
            let GrantSubject { user, group } = to;
            let user_matches = user.as_ref().is_none_or(|_| *user == self.user);
            let group_matches = group.as_ref().is_none_or(|name| self.groups.contains(name));
            (user.is_some() || group.is_some()) && user_matches && group_matches
        })
    }
}

fn is(entry: &tacit_api::mesh::Subject, caller: &Caller) -> bool {
    let (uid, gid) = (entry.uid, entry.gid);
    let name = entry
        .certificate
        .as_ref()
        .map(|found| found.common_name.as_str());
    match caller {
        Caller::Administrator => false,
        Caller::Certificate { common_name } => {
            uid.is_none() && gid.is_none() && name == Some(common_name.as_str())
        }
        Caller::Local { uid: is, gids } => {
            let uid_matches = uid.is_none_or(|wanted| wanted == *is);
            let gid_matches = gid.is_none_or(|wanted| gids.contains(&wanted));
            name.is_none() && (uid.is_some() || gid.is_some()) && uid_matches && gid_matches
        }
    }
}

/// A change of one object.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    /// There was none of this key.
    Create(&'a Located<Object>),
    /// It is removed.
    Delete(&'a Located<Object>),
    /// The same key, before and after.
    Update {
        /// Before.
        old: &'a Located<Object>,
        /// After.
        new: &'a Located<Object>,
    },
}

impl<'a> Change<'a> {
    fn verb(self) -> Verb {
        match self {
            Self::Create(_) => Verb::Create,
            Self::Delete(_) => Verb::Delete,
            Self::Update { .. } => Verb::Update,
        }
    }

    fn before(self) -> Option<&'a Located<Object>> {
        match self {
            Self::Create(_) => None,
            Self::Delete(old) | Self::Update { old, .. } => Some(old),
        }
    }

    fn after(self) -> Option<&'a Located<Object>> {
        match self {
            Self::Delete(_) => None,
            Self::Create(new) | Self::Update { new, .. } => Some(new),
        }
    }

    /// The object that findings are about: the new one if there is one.
    fn object(self) -> &'a Located<Object> {
        match self {
            Self::Create(object) | Self::Delete(object) | Self::Update { new: object, .. } => {
                object
            }
        }
    }
}

/// The answer, with the finding to show when it is no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Yes.
    Allowed,
    /// No. The finding names the grant that is missing, or gives the limit's own message.
    Refused(Box<Finding>),
}

impl Verdict {
    /// True for yes.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed)
    }
}

/// What is written now: the objects that decisions look at.
#[derive(Clone, Debug)]
pub struct World<'a> {
    tenants: Tenants<'a>,
    services: BTreeMap<(&'a str, &'a str), &'a Service>,
    policies: Vec<&'a Located<Object>>,
}

impl<'a> World<'a> {
    /// Takes what it needs out of all accepted objects.
    #[must_use]
    pub fn new(objects: impl IntoIterator<Item = &'a Located<Object>>) -> Self {
        let mut mesh = None;
        let mut services = BTreeMap::new();
        let mut policies = Vec::new();
        let mut workspaces = Vec::new();
        for object in objects {
            match &object.value {
                Object::Mesh(found) => mesh = Some(&found.spec),
                Object::Service(service) => {
                    services.insert(place(&service.metadata), service);
                }
                Object::Workspace(_) => workspaces.push(object),
                Object::AccessPolicy(_)
                | Object::FailoverPolicy(_)
                | Object::FaultPolicy(_)
                | Object::RateLimitPolicy(_)
                | Object::RetryTimeoutPolicy(_) => policies.push(object),
                Object::GRPCRoute(_)
                | Object::HTTPRoute(_)
                | Object::TCPRoute(_)
                | Object::Workload(_) => {}
            }
        }
        Self {
            tenants: Tenants::new(workspaces, mesh),
            services,
            policies,
        }
    }

    /// The workspaces.
    #[must_use]
    pub fn tenants(&self) -> &Tenants<'a> {
        &self.tenants
    }

    /// Whether `who` may make this change. `now` is in seconds since 1970.
    #[must_use]
    pub fn may_change(&self, who: &Subject, change: Change<'_>, now: i64) -> Verdict {
        if who.administrator {
            return Verdict::Allowed;
        }
        verdict(self.change(who, change, now))
    }

    /// Whether `who` may start workloads of a service account.
    #[must_use]
    pub fn may_run(
        &self,
        who: &Subject,
        namespace: &str,
        service_account: &str,
        now: i64,
    ) -> Verdict {
        if who.administrator {
            return Verdict::Allowed;
        }
        let what = format!("run workloads as {namespace}/{service_account}");
        verdict(self.verb_only(who, Verb::Run, namespace, &what, now))
    }

    /// Whether `who` may make changes in a namespace as somebody else. Those changes then need
    /// the grants of that somebody.
    #[must_use]
    pub fn may_impersonate(&self, who: &Subject, namespace: &str, now: i64) -> Verdict {
        if who.administrator {
            return Verdict::Allowed;
        }
        let what = format!("act as somebody else in namespace {namespace}");
        verdict(self.verb_only(who, Verb::Impersonate, namespace, &what, now))
    }

    /// Whether a policy that `author` wrote may still be in force: labels move, and the targets
    /// and limits of the grants may have changed since. Verbs and `until` are not looked at
    /// again: an exception that expires ends the right to write, not what was written.
    #[must_use]
    pub fn may_stay(&self, author: &Subject, policy: &Located<Object>) -> Verdict {
        if author.administrator {
            return Verdict::Allowed;
        }
        let namespace = policy
            .value
            .metadata()
            .namespace
            .as_deref()
            .unwrap_or_default();
        let what = policy.value.key().to_string();
        let tenant = match self.tenant_of(namespace, &what, Some(policy)) {
            Ok(tenant) => tenant,
            Err(finding) => return Verdict::Refused(finding),
        };
        let ask = check::Ask {
            who: author,
            change: Change::Create(policy),
            targets: check::TargetsOf::Policy,
            now: None,
        };
        verdict(self.one_grant_covers(tenant, &ask).map(|_| ()))
    }

    fn change(&self, who: &Subject, change: Change<'_>, now: i64) -> Result<(), Box<Finding>> {
        let object = &change.object().value;
        let key = object.key();
        if change.before().is_some_and(|old| old.value.key() != key) {
            let message = "an update cannot change kind, namespace or name".to_owned();
            let fix = "delete the old object and create the new one".to_owned();
            return Err(Box::new(problem(
                change.object(),
                NOT_GRANTED,
                "metadata",
                message,
                fix,
            )));
        }
        let tenant = match (object, change.verb()) {
            (Object::Workspace(_), Verb::Update) => self.tenants.named(&key.name),
            (Object::Mesh(_) | Object::Workspace(_), _) => None,
            _ => {
                let namespace = key.namespace.as_deref().unwrap_or_default();
                Some(self.tenant_of(namespace, &key.to_string(), Some(change.object()))?)
            }
        };
        let Some(tenant) = tenant else {
            return Err(Box::new(administrator_only(change, who)));
        };
        let ask = check::Ask {
            who,
            change,
            targets: check::TargetsOf::Policy,
            now: Some(now),
        };
        let grant = self.one_grant_covers(tenant, &ask)?;
        self.protected_labels(tenant, grant, change)?;
        if let (Object::Workload(workload), Some(_)) = (object, change.after()) {
            let namespace = key.namespace.as_deref().unwrap_or_default();
            let account = &workload.spec.service_account;
            let what = format!("declare workloads that run as {namespace}/{account}");
            self.verb_only(who, Verb::Run, namespace, &what, now)?;
            if workload.spec.command.is_some() {
                let message = format!(
                    "{who} may not declare a command: the node runs it as its own user, so only \
                     the administrator may"
                );
                let fix = "leave `command` out and start the program with `tacit run`, which \
                           keeps its user";
                let field = "spec.command";
                return Err(refusal(
                    change.object(),
                    NOT_GRANTED,
                    field,
                    message,
                    fix.into(),
                ));
            }
        }
        self.attachments(tenant, who, change, now)
    }

    /// The workspace whose grants speak for a namespace.
    fn tenant_of(
        &self,
        namespace: &str,
        what: &str,
        object: Option<&Located<Object>>,
    ) -> Result<&Tenant<'a>, Box<Finding>> {
        let refuse = |message: String| {
            let fix = "ask the administrator of the mesh".to_owned();
            Err(Box::new(finding(object, NOT_GRANTED, "", message, fix)))
        };
        match self.tenants.owner(namespace) {
            Owner::Member(tenant) => Ok(tenant),
            Owner::Unclaimed => refuse(format!(
                "{what}: namespace {namespace} belongs to no Workspace, so only the \
                 administrator may do that"
            )),
            Owner::Contested(_) => refuse(format!(
                "{what}: namespace {namespace} is claimed by more than one Workspace, so only \
                 the administrator may do that"
            )),
        }
    }

    /// For verbs that need no object.
    fn verb_only(
        &self,
        who: &Subject,
        verb: Verb,
        namespace: &str,
        what: &str,
        now: i64,
    ) -> Result<(), Box<Finding>> {
        let tenant = self.tenant_of(namespace, what, None)?;
        let mut expired = None;
        for (index, grant) in tenant.spec.grants.iter().flatten().enumerate() {
            if !grant.verbs.contains(&verb) || !who.is_one_of(&grant.to) {
                continue;
            }
            match &grant.until {
                Some(until) if until.unix_seconds() <= now => expired = Some((index, until)),
                _ => return Ok(()),
            }
        }
        let name = &tenant.name;
        let message = match expired {
            Some((index, until)) => format!(
                "{who} may not {what}: spec.grants[{index}] of Workspace {name} ended at {until}"
            ),
            None => {
                format!("{who} may not {what}: no grant of Workspace {name} has {verb} for them")
            }
        };
        let fix = format!("ask the administrator for a grant with verbs: [{verb}] in {name}");
        Err(Box::new(finding(None, NOT_GRANTED, "", message, fix)))
    }
}

/// No grant covers it.
pub(crate) const NOT_GRANTED: &str = "TCT1601";
/// A grant covers it but for a field.
pub(crate) const FIELD_NOT_GRANTED: &str = "TCT1602";
/// A grant covers it but for a target.
pub(crate) const TARGET_NOT_GRANTED: &str = "TCT1603";
/// A limit is not kept.
pub(crate) const OVER_LIMIT: &str = "TCT1604";
/// A grant cannot be used as it is written.
pub(crate) const BAD_GRANT: &str = "TCT1605";

fn verdict(result: Result<(), Box<Finding>>) -> Verdict {
    match result {
        Ok(()) => Verdict::Allowed,
        Err(finding) => Verdict::Refused(finding),
    }
}

fn administrator_only(change: Change<'_>, who: &Subject) -> Finding {
    let key = change.object().value.key();
    let verb = change.verb().as_str().to_lowercase();
    let message = format!("{who} may not {verb} {key}: only the administrator may");
    let fix = "ask the administrator of the mesh".to_owned();
    problem(change.object(), NOT_GRANTED, "", message, fix)
}

fn place(metadata: &Metadata) -> (&str, &str) {
    (
        metadata.namespace.as_deref().unwrap_or_default(),
        &metadata.name,
    )
}

/// An error of an object, with the position of the field.
pub(crate) fn problem(
    object: &Located<Object>,
    code: &str,
    field: &str,
    message: String,
    fix: String,
) -> Finding {
    finding(Some(object), code, field, message, fix)
}

/// The same, ready to be returned.
fn refusal(
    object: &Located<Object>,
    code: &str,
    field: &str,
    message: String,
    fix: String,
) -> Box<Finding> {
    Box::new(finding(Some(object), code, field, message, fix))
}

fn finding(
    object: Option<&Located<Object>>,
    code: &str,
    field: &str,
    message: String,
    fix: String,
) -> Finding {
    let found = object.map(|object| object.find(field));
    let (position, snippet) = found.unzip();
    Finding {
        code: code.into(),
        severity: Severity::Error,
        object: object.and_then(|object| reference(&object.value.key())),
        field: field.into(),
        position: position.map(|position| Position {
            file: position.file,
            line: position.line,
            column: position.column,
        }),
        message,
        fix,
        snippet: snippet.flatten(),
    }
}

/// The object as the model names it; nothing if its names are invalid, which is a finding of its
/// own.
fn reference(key: &ObjectKey) -> Option<ObjectRef> {
    let namespace = match &key.namespace {
        Some(namespace) => Some(namespace.as_str().try_into().ok()?),
        None => None,
    };
    Some(ObjectRef {
        kind: Arc::from(key.kind.as_str()),
        namespace,
        name: key.name.as_str().try_into().ok()?,
    })
}

#[cfg(test)]
mod tests;

//! Keys and certificates of this node's workloads: made here, signed by control, renewed early,
//! kept on disk.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tacit_decide::renewal::{Renewal, Schedule, Validity};
use tacit_model::{Dice, Now, SpiffeId};
use tacit_transport::IdentityStore;
use tacit_transport::identity::{PrivateKey, read_certificate};
use tacit_wire::proto::control::{SignRequest, SignResponse};

use crate::control::{Client, Control};
use crate::control_link::{CALL, Fault, fault, said};
use crate::error::NodeError;
use crate::join::{Membership, from_text, to_text};
use crate::log;
use crate::state_dir::StateDir;

/// The file of all workload keys.
const FILE: &str = "identities.json";
/// Between two looks at what is due. The shortest sensible lifetime is 4 minutes.
const LOOK: Duration = Duration::from_millis(500);
/// Renewed at once; more would queue at the control plane anyway.
const AT_ONCE: usize = 16;

/// One identity as it is kept.
struct Held {
    pkcs8: Vec<u8>,
    chain: Vec<Vec<u8>>,
    schedule: Schedule,
    not_after_unix: u64,
}

/// The file's form.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Entry {
    identity: SpiffeId,
    key: String,
    chain: Vec<String>,
}

/// All identities of this node.
pub(crate) struct Identities {
    store: IdentityStore,
    held: RefCell<BTreeMap<SpiffeId, Held>>,
    /// Wanted, but not there yet: when to try (again).
    wanted: RefCell<BTreeMap<SpiffeId, Schedule>>,
}

/// Why an identity could not be had.
#[derive(Debug)]
pub(crate) enum NoCertificate {
    /// The key or certificate is unusable: a defect of ours or of the control plane.
    Unusable(String),
    /// The control plane said no.
    Refused(String),
    /// It did not answer.
    Unreachable(String),
}

impl fmt::Display for NoCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unusable(why) => write!(f, "the certificate is unusable: {why}"),
            Self::Refused(why) => write!(f, "the control plane refuses the certificate: {why}"),
            Self::Unreachable(why) => write!(f, "the control plane does not sign now: {why}"),
        }
    }
}

impl Identities {
    /// Reads what is on disk. An unreadable file is said and then made anew: control signs again.
    pub(crate) fn load(
        store: IdentityStore,
        dir: &StateDir,
        membership: &Membership,
    ) -> Result<Self, NodeError> {
        let identities = Self {
            store,
            held: RefCell::default(),
            wanted: RefCell::default(),
        };
        identities.set_roots(membership)?;
        let content = match dir.read(FILE) {
            Ok(Some(content)) => content,
            Ok(None) => return Ok(identities),
            Err(e) => return Err(NodeError::state(dir.path(FILE), e)),
        };
        let entries: Vec<Entry> = match serde_json::from_slice(&content) {
            Ok(entries) => entries,
            Err(e) => {
                let path = dir.path(FILE);
                log::warn(
                    "identities",
                    format!("{} is made anew: {e}", path.display()),
                );
                return Ok(identities);
            }
        };
        for entry in entries {
            let identity = entry.identity.clone();
            if let Err(why) = identities.take_entry(&entry) {
                log::warn(
                    "identities",
                    format!("{identity} is asked for again: {why}"),
                );
            }
        }
        Ok(identities)
    }

    fn take_entry(&self, entry: &Entry) -> Result<(), String> {
        let pkcs8 = from_text(&entry.key).map_err(|e| e.to_string())?;
        let chain: Result<Vec<_>, _> = entry.chain.iter().map(|text| from_text(text)).collect();
        let chain = chain.map_err(|e| e.to_string())?;
        // Spread by the identity itself: a node that starts again keeps its plan.
        let dice = Dice(entry.identity.to_string().bytes().fold(0, |sum, byte| {
            sum.wrapping_mul(31).wrapping_add(u64::from(byte))
        }));
        self.put(entry.identity.clone(), pkcs8, chain, dice)
    }

    fn put(
        &self,
        id: SpiffeId,
        pkcs8: Vec<u8>,
        chain: Vec<Vec<u8>>,
        dice: Dice,
    ) -> Result<(), String> {
        let key = PrivateKey::from_pkcs8(&pkcs8).map_err(|e| e.to_string())?;
        let validity = self
            .store
            .put(id.clone(), &key, &chain)
            .map_err(|e| e.to_string())?;
        let schedule = Schedule::new(in_ns(validity.not_before, validity.not_after), dice);
        let not_after_unix = validity.not_after;
        self.wanted.borrow_mut().remove(&id);
        self.held.borrow_mut().insert(
            id,
            Held {
                pkcs8,
                chain,
                schedule,
                not_after_unix,
            },
        );
        Ok(())
    }

    /// Believes these roots from the next handshake on.
    pub(crate) fn set_roots(&self, membership: &Membership) -> Result<(), NodeError> {
        self.store
            .set_bundle(membership.id.trust_domain.clone(), &membership.roots)
            .map_err(|e| NodeError::Join(format!("the roots are unusable: {e}")))
    }

    /// True if there is a certificate that holds now.
    pub(crate) fn has(&self, id: &SpiffeId, now: Now) -> bool {
        self.held
            .borrow()
            .get(id)
            .is_some_and(|held| !held.schedule.is_expired(now))
    }

    /// Wants exactly these: others are forgotten, missing ones are asked for.
    pub(crate) fn want(&self, ids: &BTreeSet<SpiffeId>, dir: &StateDir) {
        let mut held = self.held.borrow_mut();
        let before = held.len();
        held.retain(|id, _| {
            let keep = ids.contains(id);
            if !keep {
                self.store.remove(id);
            }
            keep
        });
        let forgot = held.len() != before;
        let mut wanted = self.wanted.borrow_mut();
        wanted.retain(|id, _| ids.contains(id));
        for id in ids.iter().filter(|id| !held.contains_key(*id)) {
            let at_once = Schedule::new(in_ns(0, 0), Dice(0));
            wanted.entry(id.clone()).or_insert(at_once);
        }
        drop((held, wanted));
        if forgot {
            self.save(dir);
        }
    }

    /// What control is told: identity and end of its certificate.
    pub(crate) fn held(&self) -> Vec<(SpiffeId, u64)> {
        let held = self.held.borrow();
        held.iter()
            .map(|(id, held)| (id.clone(), held.not_after_unix))
            .collect()
    }

    /// A new key and certificate.
    pub(crate) async fn obtain(
        &self,
        control: &Control,
        client: Client,
        id: &SpiffeId,
    ) -> Result<(), NoCertificate> {
        let unusable = |e: &dyn fmt::Display| NoCertificate::Unusable(e.to_string());
        let key = PrivateKey::generate().map_err(|e| unusable(&e))?;
        let csr = key.request_for_workload(id).map_err(|e| unusable(&e))?;
        let SignResponse { chain, roots: _ } = sign(client, csr, id.to_string()).await?;
        let dice = Dice(control.shared.now().unix_ns);
        self.put(id.clone(), key.to_pkcs8(), chain, dice)
            .map_err(|e| unusable(&e))?;
        self.save(&control.dir);
        Ok(())
    }

    fn save(&self, dir: &StateDir) {
        let held = self.held.borrow();
        let entries: Vec<Entry> = held
            .iter()
            .map(|(id, held)| Entry {
                identity: id.clone(),
                key: to_text(&held.pkcs8),
                chain: held.chain.iter().map(|der| to_text(der)).collect(),
            })
            .collect();
        let written = serde_json::to_vec_pretty(&entries)
            .map_err(std::io::Error::other)
            .and_then(|content| dir.write(FILE, &content));
        if let Err(error) = written {
            log::warn(
                "identities",
                format!("{}: {error}", dir.path(FILE).display()),
            );
        }
    }

    /// What is to be asked for now, at most [`AT_ONCE`].
    fn due(&self, now: Now) -> Vec<SpiffeId> {
        let due = |schedule: &Schedule| !matches!(schedule.next(now), Renewal::Wait(_));
        let (wanted, held) = (self.wanted.borrow(), self.held.borrow());
        let missing = wanted
            .iter()
            .filter(|(_, schedule)| due(schedule))
            .map(|(id, _)| id);
        let old = held
            .iter()
            .filter(|(_, held)| due(&held.schedule))
            .map(|(id, _)| id);
        missing.chain(old).take(AT_ONCE).cloned().collect()
    }

    fn failed(&self, id: &SpiffeId, now: Now, dice: Dice) {
        if let Some(schedule) = self.wanted.borrow_mut().get_mut(id) {
            schedule.failed(now, dice);
        }
        if let Some(held) = self.held.borrow_mut().get_mut(id) {
            held.schedule.failed(now, dice);
        }
    }
}

fn in_ns(from: u64, to: u64) -> Validity {
    const SECOND: u64 = 1_000_000_000;
    Validity {
        not_before_unix_ns: from.saturating_mul(SECOND),
        not_after_unix_ns: to.saturating_mul(SECOND),
    }
}

async fn sign(
    mut client: Client,
    csr: Vec<u8>,
    identity: String,
) -> Result<SignResponse, NoCertificate> {
    let request = SignRequest { csr, identity };
    match tokio::time::timeout(CALL, client.sign(request)).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(match fault(&status) {
            Fault::Invalid | Fault::NotPermitted => NoCertificate::Refused(said(&status)),
            Fault::Control => NoCertificate::Unreachable(said(&status)),
        }),
        Err(_) => Err(NoCertificate::Unreachable("no answer in time".into())),
    }
}

/// Keeps everything renewed, the node's own certificate included; never ends.
pub(crate) async fn renew(control: Rc<Control>) {
    let mut own = own_schedule(&control);
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(client) = control.client.borrow().clone() else {
            continue;
        };
        let now = control.shared.now();
        for id in control.identities.due(now) {
            if let Err(why) = control
                .identities
                .obtain(&control, client.clone(), &id)
                .await
            {
                log::warn("identities", format!("{id}: {why}"));
                control.identities.failed(&id, now, Dice(now.unix_ns));
            }
        }
        if !matches!(own.next(now), Renewal::Wait(_)) {
            match renew_own(&control, client).await {
                Ok(()) => own = own_schedule(&control),
                Err(why) => {
                    log::warn("identities", format!("the node's own: {why}"));
                    own.failed(now, Dice(now.unix_ns));
                }
            }
        }
    }
}

fn own_schedule(control: &Control) -> Schedule {
    let membership = control.membership.borrow();
    let leaf = membership
        .own
        .chain
        .first()
        .map(|der| read_certificate(der));
    let validity = match leaf {
        Some(Ok((_, validity))) => in_ns(validity.not_before, validity.not_after),
        // Unreadable: renew at once.
        Some(Err(_)) | None => in_ns(0, 0),
    };
    Schedule::new(validity, Dice(control.shared.now().unix_ns))
}

async fn renew_own(control: &Control, client: Client) -> Result<(), NoCertificate> {
    let unusable = |e: &dyn fmt::Display| NoCertificate::Unusable(e.to_string());
    let id = control.membership.borrow().id.clone();
    // The key stays: the seal of the state files is derived from it.
    let csr = {
        let membership = control.membership.borrow();
        membership
            .own
            .key
            .request_for_node(&id)
            .map_err(|e| unusable(&e))?
    };
    let SignResponse { chain, roots } = sign(client, csr, id.to_string()).await?;
    let mut membership = control.membership.borrow_mut();
    membership.own.chain = chain;
    if !roots.is_empty() {
        membership.roots = roots;
    }
    control
        .identities
        .set_roots(&membership)
        .map_err(|e| unusable(&e))?;
    membership.save(&control.dir).map_err(|e| unusable(&e))
}

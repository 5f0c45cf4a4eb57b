//! The live model: the version that serves, and what happened since, as one snapshot that a request takes.
//!
//! What is to be kept goes to one writer, which commits as much as is waiting in one transaction, then changes the
//! snapshot, then answers: whoever has an answer is seen by the next request. Others may write to the same store; their
//! changes are followed by number.

mod background;
mod bound;
mod follow;
mod known;
mod swap;
mod writer;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use kindred_models::artifact::{Registry, VersionId};
use kindred_models::{ArtifactError, Model};
use parking_lot::RwLock;
use tokio::sync::{Mutex, Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tracing::Instrument;

use crate::access::Keys;
use crate::observe::Metrics;
use crate::store::{ContactSubject, Entry, From, Outcome, Plan, Store, StoreError, StoredContact, Write, in_time};
pub use bound::unlearned;
use bound::{Beginning, Bound};
pub use known::{ensure_known, is_lost, open_known};
use swap::Purpose;
use writer::Job;

/// Writes that may wait for the writer, and rows of them, about.
const WAITING: usize = 4096;
const WAITING_ROWS: usize = 200_000;
/// Entries that may be owed to the log.
const MOST_OWED: usize = 10_000;
/// Entries of them that are kept at once: writes wait meanwhile.
const PAID_AT_ONCE: usize = 500;
/// Time after a failure of the store in which what it takes does not say that it is well.
const HEALED: Duration = Duration::from_secs(5);
/// Time in which the store's connections are closed in good order, at most.
const CLOSING: Duration = Duration::from_secs(5);
/// Changes that are taken over at once, where many wait: writes wait meanwhile.
const PART: i64 = 20_000;
/// Plans that are read at once: each takes a connection to the store while it is.
const PLANS_AT_ONCE: usize = 2;

/// Why something could not be kept.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WriteError {
    /// Too much is waiting already.
    #[error("more is waiting to be kept than can be taken in")]
    Overloaded,
    /// The store does not answer.
    #[error("{0}")]
    Unavailable(Arc<StoreError>),
    /// The server is ending.
    #[error("the server is ending")]
    Ending,
}

/// Why a version can't serve.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// It can't be read.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// What happened since can't be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no version to go back to.
    #[error("there is no version older than the one that serves")]
    NoOlderVersion,
    /// Loading broke off.
    #[error("loading broke off: {0}")]
    Broken(String),
}

/// The model that serves, with all that is needed to keep it so.
#[derive(Debug)]
pub struct Live {
    registry: Registry,
    store: Store,
    serving: RwLock<Arc<Model>>,
    bound: Arc<Mutex<Bound>>,
    jobs: mpsc::Sender<Job>,
    /// Places for the rows of what waits.
    room: Arc<Semaphore>,
    keys: RwLock<Arc<Keys>>,
    /// One version is loaded at a time.
    loading: Mutex<()>,
    beginning: Beginning,
    /// When the store last failed; `None` once it has answered since.
    store_failed_at: parking_lot::Mutex<Option<Instant>>,
    /// The number of the last change that serves.
    seq: AtomicI64,
    /// The number of the last change when keys were last read.
    keys_seq: AtomicI64,
    /// Whether the store was found to stand before what serves: it was restored.
    has_gone_back: AtomicBool,
    /// Whether a product was described that something named before.
    is_outdated: AtomicBool,
    /// Places for those who read plans.
    plans: Semaphore,
    /// Changes of the store that were not served when it was last looked at.
    lag: AtomicI64,
    /// Whether what was erased may still stand in SQLite's log of changes.
    must_checkpoint: AtomicBool,
    metrics: Arc<Metrics>,
    /// What must be accounted for once the store is back.
    owed: parking_lot::Mutex<Vec<Entry>>,
}

/// The tasks that keep a [`Live`] up to date; they end with [`end`](Self::end).
#[derive(Debug)]
pub struct Tasks {
    live: Arc<Live>,
    writer: JoinHandle<()>,
    others: Vec<JoinHandle<()>>,
    ending: oneshot::Sender<()>,
}

/// A version with what happened since, as it stands now; who complained of a message is left alone for so many days.
///
/// # Errors
/// If either can't be read.
pub async fn load(registry: &Registry, id: &VersionId, store: &Store, rest_days: u32) -> Result<Model, LiveError> {
    let beginning = Beginning { hash_key: store.hash_key().await?, rest_days };
    Ok(swap::load(registry, id, store, beginning, Purpose::Answer).await?.served)
}

impl Live {
    /// Loads the registry's current version and what happened since, and keeps both up to date.
    ///
    /// # Errors
    /// If either can't be read.
    pub(crate) async fn start(
        registry: Registry,
        store: Store,
        reload: Duration,
        retain: Duration,
        rest_days: u32,
        metrics: Arc<Metrics>,
    ) -> Result<(Arc<Self>, Tasks), LiveError> {
        let id = registry.current()?;
        let beginning = Beginning { hash_key: store.hash_key().await?, rest_days };
        let bound = swap::load(&registry, &id, &store, beginning, Purpose::Serve).await?;
        let keys = store.keys().await?;
        let (jobs, waiting) = mpsc::channel(WAITING);
        let live = Arc::new(Self {
            registry,
            store,
            serving: RwLock::new(Arc::new(bound.served.clone())),
            seq: AtomicI64::new(bound.seq),
            keys_seq: AtomicI64::new(i64::MIN),
            has_gone_back: AtomicBool::new(false),
            is_outdated: AtomicBool::new(false),
            plans: Semaphore::new(PLANS_AT_ONCE),
            bound: Arc::new(Mutex::new(bound)),
            jobs,
            room: Arc::new(Semaphore::new(WAITING_ROWS)),
            keys: RwLock::new(Arc::new(Keys::new(keys, &Keys::default()))),
            loading: Mutex::new(()),
            beginning,
            store_failed_at: parking_lot::Mutex::default(),
            lag: AtomicI64::new(0),
            // The server before may have been killed after it erased somebody.
            must_checkpoint: AtomicBool::new(true),
            metrics,
            owed: parking_lot::Mutex::default(),
        });
        let (ending, ended) = oneshot::channel();
        let writer = tokio::spawn(writer::write(live.clone(), waiting, ended));
        let others = vec![
            tokio::spawn(live.clone().follow_store()),
            tokio::spawn(live.clone().follow_registry(reload)),
            tokio::spawn(live.clone().follow_descriptions()),
            tokio::spawn(live.clone().clear(retain)),
        ];
        Ok((live.clone(), Tasks { live, writer, others, ending }))
    }

    /// The model that serves now, with what happened since. A request takes one snapshot and keeps it; a change changes
    /// what the next one takes.
    pub fn snapshot(&self) -> Arc<Model> {
        self.serving.read().clone()
    }

    /// The keys that callers may show.
    pub fn keys(&self) -> Arc<Keys> {
        self.keys.read().clone()
    }

    /// The registry.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Which events a version did not learn from.
    pub(crate) fn unlearned(&self, model: &Model) -> From {
        unlearned(&model.info, &self.beginning.hash_key)
    }

    /// The contacts of a plan, those that are worth most first.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn plan(&self, plan_id: &str) -> Result<Vec<StoredContact>, StoreError> {
        self.read_plan(self.store.plan(plan_id)).await
    }

    /// What those who are held out of a plan would have got.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn held_out(&self, plan_id: &str) -> Result<Vec<StoredContact>, StoreError> {
        self.read_plan(self.store.held_out(plan_id)).await
    }

    async fn read_plan<T>(&self, answer: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        // A few at a time: a plan may be long, and writes need connections, too.
        let _place = self.plans.acquire().await;
        in_time(answer).await
    }

    /// How far a plan is; `None` of one that nobody began, or that is forgotten.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn begun_plan(&self, plan_id: &str) -> Result<Option<Plan>, StoreError> {
        in_time(self.store.begun_plan(plan_id)).await
    }

    /// Whom some contacts are for, and what they are about, by the contact's name.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn subjects_of(&self, contact_ids: &[String]) -> Result<HashMap<String, ContactSubject>, StoreError> {
        in_time(self.store.subjects_of(contact_ids)).await
    }

    /// Whether the store did not answer or took nothing, until it did both for some seconds.
    pub fn is_store_down(&self) -> bool {
        self.store_failed_at.lock().is_some()
    }

    /// Changes in the store that the snapshot does not know, about.
    pub fn lag(&self) -> i64 {
        self.lag.load(Ordering::Relaxed)
    }

    /// Keeps something. When this returns it is durable, and the next snapshot knows it; one soon after, should the store
    /// fail right then, or, of events, should more than 20,000 changes of others wait.
    ///
    /// # Errors
    /// If it could not be kept; then nothing of it is.
    pub async fn keep(&self, write: Write) -> Result<Outcome, WriteError> {
        let (answer, answered) = oneshot::channel();
        let rows = write.rows().clamp(1, WAITING_ROWS) as u32;
        let room = self.room.clone().try_acquire_many_owned(rows).map_err(|_| WriteError::Overloaded)?;
        self.jobs.try_send(Job { write, answer, _room: room }).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => WriteError::Overloaded,
            mpsc::error::TrySendError::Closed(_) => WriteError::Ending,
        })?;
        let kept = answered.instrument(tracing::info_span!("keep")).await;
        kept.unwrap_or(Err(WriteError::Ending))
    }

    /// Notes what can't be kept now, to be kept once the store is back. Not if too much is owed already.
    pub fn owe(&self, entry: Entry) -> bool {
        let mut owed = self.owed.lock();
        let has_room = owed.len() < MOST_OWED;
        if has_room {
            tracing::warn!(actor = entry.actor, action = entry.action, detail = entry.detail, "to be accounted for");
            owed.push(entry);
        }
        has_room
    }

    /// Keeps some of what is owed, now that the store answers, and tells whether it did; what is not kept remains owed.
    async fn pay(&self) -> bool {
        let some: Vec<Entry> = self.owed.lock().iter().take(PAID_AT_ONCE).cloned().collect();
        let count = some.len();
        let is_paid = count > 0 && self.keep(Write::Audit(some)).await.is_ok();
        if is_paid {
            self.owed.lock().drain(..count);
        }
        is_paid
    }

    fn publish(&self, bound: &Bound) {
        self.seq.store(bound.seq, Ordering::Relaxed);
        self.is_outdated.store(bound.is_outdated, Ordering::Relaxed);
        let model = Arc::new(bound.served.clone());
        // The old one may be the last of its kind, and large: dropped after the lock.
        let old = std::mem::replace(&mut *self.serving.write(), model);
        drop(old);
    }

    fn note_store<T>(&self, outcome: Result<T, impl std::fmt::Display>) -> Option<T> {
        let mut failed_at = self.store_failed_at.lock();
        match outcome {
            Ok(value) => {
                // On a full disk, what is small may be kept, and the rest not.
                if failed_at.is_some_and(|at| at.elapsed() >= HEALED) {
                    *failed_at = None;
                    tracing::info!("the state store answers again");
                }
                Some(value)
            }
            Err(error) => {
                if failed_at.replace(Instant::now()).is_none() {
                    tracing::error!(%error, "answering from memory; nothing can be kept");
                }
                None
            }
        }
    }
}

impl Tasks {
    /// Lets what is waiting, and what is owed, be kept, and ends.
    pub async fn end(self) {
        self.others.iter().for_each(JoinHandle::abort);
        // One of them may be at what is paid below.
        for other in self.others {
            let _ = other.await;
        }
        while self.live.pay().await {}
        // The writer may have ended by itself.
        let _ = self.ending.send(());
        let _ = self.writer.await;
        // Whoever still loads a version may be reading from it.
        let _ = tokio::time::timeout(CLOSING, self.live.store.close()).await;
    }
}

/// Computes off the async threads; `None` if it broke off.
async fn blocking<T: Send + 'static>(job: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    match tokio::task::spawn_blocking(job).await {
        Ok(value) => Some(value),
        Err(error) => {
            tracing::error!(%error, "a change of the model broke off");
            None
        }
    }
}

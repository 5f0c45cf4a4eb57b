//! From one version to the next, while requests are answered.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kindred_models::artifact::{Registry, VersionId};
use kindred_models::audience::Costs;
use kindred_models::feed::{FeedRequest, Visitor, feed};
use kindred_models::{ArtifactError, Model};
use tokio::sync::mpsc;

use super::background::{Priority, run};
use super::bound::Beginning;
use super::{Bound, Live, LiveError, PART, blocking};
use crate::store::{Change, From, Store, in_time};

/// Feeds that a version answers before it serves, so that what all of them need is in memory.
const WARM_UP_FEEDS: u32 = 64;
/// Items of each.
const WARM_UP_ITEMS: usize = 20;

/// What a version is loaded for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To answer one question.
    Answer,
    /// To serve.
    Serve,
    /// To take the place of the one that serves, while requests are answered.
    Replace,
}

impl Purpose {
    fn priority(self) -> Priority {
        if self == Self::Replace { Priority::Low } else { Priority::Usual }
    }
}

impl Live {
    /// Loads a version, and makes it the one that serves and the registry's current one. Where it can't be read, the
    /// old one stays both.
    ///
    /// # Errors
    /// If it can't be read, or the registry can't be changed.
    pub async fn activate(self: &Arc<Self>, id: &VersionId) -> Result<(), LiveError> {
        let (live, id) = (self.clone(), id.clone());
        // Who asked may give up before it is loaded: what was begun is done all the same, and once.
        let done = tokio::spawn(async move { live.activate_now(&id).await }).await;
        done.unwrap_or_else(|error| Err(LiveError::Broken(error.to_string())))
    }

    async fn activate_now(&self, id: &VersionId) -> Result<(), LiveError> {
        let _one_at_a_time = self.loading.lock().await;
        if self.is_serving(id) {
            return self.make_current(id).await;
        }
        let fresh = self.loaded(id).await?;
        self.swap(fresh, Some(id)).await
    }

    async fn make_current(&self, id: &VersionId) -> Result<(), LiveError> {
        let (registry, id) = (self.registry.clone(), id.clone());
        let activated = blocking(move || registry.activate(&id)).await;
        activated.ok_or_else(|| LiveError::Broken("the registry".to_owned()))?.map_err(LiveError::from)
    }

    /// The newest version that is older than the one that serves.
    ///
    /// # Errors
    /// If there is none, or the registry can't be read.
    pub async fn older(&self) -> Result<VersionId, LiveError> {
        let serving = self.snapshot().info.version.clone();
        let registry = self.registry.clone();
        let versions = blocking(move || registry.versions()).await;
        let versions = versions.ok_or_else(|| LiveError::Broken("the registry".to_owned()))??;
        let older = versions.into_iter().rfind(|id| id.as_str() < serving.as_str());
        older.ok_or(LiveError::NoOlderVersion)
    }

    /// Swaps in the registry's current version whenever it changes. One that can't be loaded is read again after ten times as
    /// long as it took to find that out.
    pub(super) async fn follow_registry(self: Arc<Self>, every: Duration) {
        if every.is_zero() {
            return;
        }
        let mut refused: Option<(VersionId, Instant)> = None;
        loop {
            tokio::time::sleep(every).await;
            let _one_at_a_time = self.loading.lock().await;
            let (began, current) = (Instant::now(), self.current().await);
            let is_refused = |id: &VersionId| refused.as_ref().is_some_and(|(of, again)| of == id && began < *again);
            if current.as_ref().is_ok_and(|id| !self.is_serving(id) && is_refused(id)) {
                continue;
            }
            let replaced = match &current {
                Ok(id) => self.replace(id).await,
                Err(error) => Err(LiveError::Broken(error.to_string())),
            };
            self.metrics.version_refused(replaced.is_err());
            match &replaced {
                Ok(true) => tracing::info!(version = %self.snapshot().info.version, "serving a new version"),
                Ok(false) => {}
                Err(error) => tracing::error!(%error, "the current version can't be loaded; the old one serves on"),
            }
            refused = current.ok().filter(|_| replaced.is_err()).map(|id| (id, Instant::now() + 10 * began.elapsed()));
        }
    }

    async fn current(&self) -> Result<VersionId, LiveError> {
        let registry = self.registry.clone();
        let current = blocking(move || registry.current()).await;
        Ok(current.ok_or_else(|| LiveError::Broken("the registry".to_owned()))??)
    }

    fn is_serving(&self, id: &VersionId) -> bool {
        id.as_str() == self.snapshot().info.version
    }

    /// Makes a version serve; gives whether another did.
    async fn replace(&self, id: &VersionId) -> Result<bool, LiveError> {
        let is_other = !self.is_serving(id);
        if is_other {
            let fresh = self.loaded(id).await?;
            self.swap(fresh, None).await?;
        }
        Ok(is_other)
    }

    /// Loads the version that serves again, with all that the store holds.
    pub(super) async fn reload(&self) -> Result<(), LiveError> {
        let _one_at_a_time = self.loading.lock().await;
        let id = VersionId::parse(&self.snapshot().info.version)?;
        let fresh = self.loaded(&id).await?;
        self.swap(fresh, None).await
    }

    async fn loaded(&self, id: &VersionId) -> Result<Bound, LiveError> {
        // Before the work: without what happened since, no version serves.
        in_time(self.store.last()).await?;
        load(&self.registry, id, &self.store, self.beginning, Purpose::Replace).await
    }

    /// Makes a version serve, with what was written while it was loaded, and the current one if it is named.
    async fn swap(&self, mut fresh: Bound, make_current: Option<&VersionId>) -> Result<(), LiveError> {
        // Writes wait for the last of it alone.
        while in_time(self.store.last()).await? - fresh.seq > PART {
            fresh = self.followed(fresh).await?;
        }
        let mut bound = self.bound.lock().await;
        let last = in_time(self.store.last()).await?;
        while fresh.seq < last {
            fresh = self.followed(fresh).await?;
        }
        if let Some(id) = make_current {
            self.make_current(id).await?;
        }
        let old = std::mem::replace(&mut *bound, fresh);
        self.publish(&bound);
        drop(bound);
        // Requests may still hold its parts; what they do not is let go here, away from them.
        tokio::task::spawn_blocking(move || drop(old));
        Ok(())
    }

    /// A version with the next of what was written since it was loaded.
    async fn followed(&self, mut fresh: Bound) -> Result<Bound, LiveError> {
        let more = self.next_changes(&fresh).await?;
        let more = more.ok_or_else(|| LiveError::Broken("the state store was restored meanwhile".to_owned()))?;
        let fresh = blocking(move || {
            fresh.apply(&more);
            fresh.rank();
            fresh
        });
        fresh.await.ok_or_else(|| LiveError::Broken("what was written meanwhile".to_owned()))
    }
}

/// A version, checked, with what happened since; warm where it is to serve.
pub(super) async fn load(
    registry: &Registry,
    id: &VersionId,
    store: &Store,
    beginning: Beginning,
    purpose: Purpose,
) -> Result<Bound, LiveError> {
    let (registry, id) = (registry.clone(), id.clone());
    let version = id.clone();
    let loaded = run(purpose.priority(), move || read(&registry, &id, purpose)).await;
    let model = loaded.ok_or_else(|| LiveError::Broken(version.to_string()))??;
    let mut bound = Bound::new(model, beginning);
    if let From::Number(learned) = bound.unlearned {
        in_time(store.number_above(learned)).await?;
    }
    let (to, mut batches) = mpsc::channel::<Vec<Change>>(1);
    let unlearned = bound.unlearned;
    let taken = run(purpose.priority(), move || {
        bound.take_over(std::iter::from_fn(|| batches.blocking_recv()));
        bound
    });
    let (last, bound) = tokio::join!(store.send_changes(0, i64::MAX, unlearned, to), taken);
    let last = last?;
    let mut bound = bound.ok_or_else(|| LiveError::Broken(version.to_string()))?;
    bound.seq = last;
    Ok(bound)
}

/// Reads a version, and measures what the ways to an audience cost here.
fn read(registry: &Registry, id: &VersionId, purpose: Purpose) -> Result<Model, ArtifactError> {
    let mut model = match purpose {
        Purpose::Answer | Purpose::Serve => Model::load(registry, id),
        Purpose::Replace => Model::load_populated(registry, id),
    }?;
    model.audience_costs = Costs::measured(&model);
    let members = model.members.len() as u32;
    let feeds = if purpose == Purpose::Answer { 0 } else { WARM_UP_FEEDS };
    for member in (0..members).step_by((members / WARM_UP_FEEDS).max(1) as usize).take(feeds as usize) {
        std::hint::black_box(feed(&model, &FeedRequest::new(Visitor::Member(member), WARM_UP_ITEMS)));
    }
    let Costs { scanned, picked, walked } = model.audience_costs;
    tracing::info!(version = %id, members, products = model.products.len(), "loaded");
    tracing::info!(scanned, picked, walked, "nanoseconds per member of an audience");
    Ok(model)
}
